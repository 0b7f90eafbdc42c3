//! The acts: what is done to the world, and what must be seen after it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::git::{Cloned, URL};
use crate::sight::{Counts, Sight, lock, short};
use crate::stage::Stage;
use crate::tally::{Attempt, ROTATIONS};
use crate::tell::Tell;

/// How long a token lives, as `world.yaml` has it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12);

/// What is to be seen at once is given this long: far more than it takes, and an end to the waiting.
const AT_ONCE: Duration = Duration::from_secs(5);

/// From one clone to the next: Flux takes minutes.
const PACE: Duration = Duration::from_millis(300);

/// How much sooner than at half of a token's life the shorter outage ends.
const LESS: Duration = Duration::from_millis(200);

/// A client id that no identity has.
const WRONG: &str = "00000000-0bad-4000-8000-000000000001";

/// Something that was promised did not come in time.
#[derive(Debug)]
pub(crate) struct Missed(pub(crate) String);

/// Everything that the acts need.
pub(crate) struct Story<'a> {
    stage: &'a Stage,
    tell: &'a Tell,
    counts: &'a Counts,
    started: Instant,
    /// Whether Entra ID has been away for longer than a token lives.
    may_lapse: AtomicBool,
}

impl<'a> Story<'a> {
    /// The story of a controller that starts now.
    pub(crate) fn new(stage: &'a Stage, tell: &'a Tell, counts: &'a Counts) -> Self {
        Self { stage, tell, counts, started: Instant::now(), may_lapse: AtomicBool::new(false) }
    }

    /// Tells it to its end, or to the first promise that did not come in time.
    pub(crate) async fn tell(&self) -> Result<(), Missed> {
        let first = self.filled().await?;
        self.cloned(&first).await?;
        tokio::select! {
            told = self.with_clones(&first) => told,
            never = self.clone_on() => match never {},
        }
    }

    /// What is told while clones go on.
    async fn with_clones(&self, first: &SecretString) -> Result<(), Missed> {
        self.rotated().await?;
        self.short_outage().await?;
        self.long_outage().await?;
        self.wrong_identity().await?;
        self.leaked(first).await
    }

    async fn filled(&self) -> Result<SecretString, Missed> {
        self.tell.headline("1  The Secret is filled");
        self.stage.add_source();
        self.stage.commit(None);
        self.tell.act("BearerToken flux-system/flux-system applied, and the controller started");
        let sight = self.see("the Secret filled", AT_ONCE, |sight| sight.held.is_some()).await?;
        if let Some((record, at)) = &sight.held {
            let (took, fingerprint) = (at.duration_since(self.started).as_millis(), short(&record.fingerprint));
            let lives = record.expires_at.duration_since(record.issued_at).as_secs_f64();
            self.tell.good(format_args!(
                "Secret filled {took} ms after the controller's start: token {fingerprint}, expires in {lives:.0} s"
            ));
        }
        self.heard("RepositoriesOpen", 0, AT_ONCE).await?;
        self.stage.token().ok_or_else(|| Missed("the Secret has no key bearerToken".to_owned()))
    }

    async fn cloned(&self, token: &SecretString) -> Result<(), Missed> {
        self.tell.headline("2  git clone with that token");
        let started = Instant::now();
        self.tell.act(format_args!("git clone {URL}"));
        match self.stage.clone_with(token).await {
            Cloned::Yes => {
                lock(self.counts).clones += 1;
                self.tell.good(format_args!("cloned in {} ms", started.elapsed().as_millis()));
                Ok(())
            }
            Cloned::Refused(words) | Cloned::Failed(words) => Err(Missed(format!("the clone failed: {words}"))),
        }
    }

    async fn rotated(&self) -> Result<(), Missed> {
        self.tell.headline("3  The token is replaced before it dies, and clones never notice");
        self.tell.act(format_args!(
            "git clone in a loop, with whatever token the Secret holds; a token lives {} s",
            LIFETIME.as_secs()
        ));
        for _ in 0..ROTATIONS {
            self.next_token(LIFETIME).await?;
        }
        Ok(())
    }

    async fn short_outage(&self) -> Result<(), Missed> {
        self.tell.headline("4  Entra ID is down, and comes back");
        let (down, heard, clones) = (Instant::now(), self.events(), self.clones());
        self.stage.entra_down();
        self.tell.act("Entra ID down (every sign-in is answered 503), for a little less than half of a token's life");
        self.heard("EntraUnavailable", heard, LIFETIME / 2).await?;
        sleep_until(down + LIFETIME / 2 - LESS).await;
        let before = self.fingerprint();
        self.stage.entra_up();
        self.tell.act(format_args!("Entra ID back after {:.1} s", down.elapsed().as_secs_f64()));
        self.replaced(&before, AT_ONCE).await?;
        self.heard("RefreshRecovered", heard, AT_ONCE).await?;
        self.tell_clones(clones);
        Ok(())
    }

    async fn long_outage(&self) -> Result<(), Missed> {
        let (down, heard) = (Instant::now(), self.events());
        self.stage.entra_down();
        self.tell.act("Entra ID down again, for longer than a token lives: then a clone must be refused");
        self.heard("EntraUnavailable", heard, LIFETIME / 2).await?;
        self.may_lapse.store(true, Ordering::Relaxed);
        let sight = self.see("Ready to fall", LIFETIME, |sight| !sight.is_ready()).await?;
        self.tell_fall(&sight);
        self.first_refusal().await?;
        let (before, heard) = (self.fingerprint(), self.events());
        self.stage.entra_up();
        let (back, outage) = (Instant::now(), seconds(down));
        lock(self.counts).outage_seconds = Some(outage);
        self.tell.act(format_args!("Entra ID back after {outage:.1} s"));
        self.replaced(&before, AT_ONCE).await?;
        self.may_lapse.store(false, Ordering::Relaxed);
        let recovery = seconds(back);
        lock(self.counts).recovery_seconds = Some(recovery);
        self.tell.good(format_args!("recovered {recovery:.1} s after Entra ID was back"));
        self.see("a request to source-controller", AT_ONCE, |sight| sight.requested_at.is_some()).await?;
        self.heard("Succeeded", heard, AT_ONCE).await
    }

    fn tell_fall(&self, sight: &Sight) {
        let Some((record, _)) = &sight.held else { return };
        let late = self.stage.now().duration_since(record.expires_at).as_millis();
        self.tell.good(format_args!("Ready fell {late} ms after the token had expired: the status does not lie"));
    }

    async fn first_refusal(&self) -> Result<(), Missed> {
        let refused = async {
            while lock(self.counts).refused_clones == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(AT_ONCE, refused).await.map_err(|_| missed("a clone with the dead token refused", AT_ONCE))
    }

    async fn wrong_identity(&self) -> Result<(), Missed> {
        self.tell.headline("5  A wrong identity is committed, and Flux is not locked out");
        let (heard, clones) = (self.events(), self.clones());
        self.stage.commit(Some(WRONG));
        self.tell.act(format_args!("commit: spec.identity.clientId: {WRONG}"));
        self.heard("NewIdentityNotWorking", heard, AT_ONCE).await?;
        self.next_token(LIFETIME).await?;
        self.tell_clones(clones);
        self.stage.commit(None);
        self.tell.act("commit: the fix, which Flux could fetch because the last working identity went on");
        self.heard("RefreshRecovered", heard, AT_ONCE).await
    }

    async fn leaked(&self, first: &SecretString) -> Result<(), Missed> {
        self.tell.headline("6  A token that leaks dies by itself");
        self.tell.act("git clone with the token of act 1");
        match self.stage.clone_with(first).await {
            Cloned::Refused(_) => {
                self.tell.good("refused: it has expired");
                Ok(())
            }
            Cloned::Yes => Err(Missed("the first token has expired, and still opens the repository".to_owned())),
            Cloned::Failed(words) => Err(Missed(format!("the first token was not even refused: {words}"))),
        }
    }

    /// Clones for ever, with the token that the Secret holds at that moment.
    async fn clone_on(&self) -> Infallible {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.clone_once().await;
        }
    }

    async fn clone_once(&self) {
        let expires_at = self.stage.sight.borrow().held.as_ref().map(|(record, _)| record.expires_at);
        let (Some(token), Some(expires_at)) = (self.stage.token(), expires_at) else { return };
        let may_lapse = self.may_lapse.load(Ordering::Relaxed);
        let cloned = self.stage.clone_with(&token).await;
        let attempt = Attempt { cloned, expires_at, ended: self.stage.now(), may_lapse };
        self.stage.report_fetch(attempt.cloned != Cloned::Yes);
        let first_refusal = {
            let mut counts = lock(self.counts);
            counts.count(&attempt);
            counts.refused_clones == 1
        };
        match &attempt.cloned {
            Cloned::Yes => {}
            Cloned::Refused(_) if attempt.is_due_refusal() && !first_refusal => {}
            Cloned::Refused(_) if attempt.is_due_refusal() => {
                self.tell.warning("clone refused, as it must be: the token has expired (the loop goes on)");
            }
            Cloned::Refused(words) | Cloned::Failed(words) => self.tell.bad(format_args!("clone failed: {words}")),
        }
    }

    /// How many clones have worked, and how many failed.
    fn clones(&self) -> (u32, u32) {
        let counts = lock(self.counts);
        (counts.clones, counts.failed_clones)
    }

    fn tell_clones(&self, before: (u32, u32)) {
        let (clones, failed) = self.clones();
        let (clones, failed) = (clones - before.0, failed - before.1);
        self.tell.good(format_args!("{clones} clones meanwhile, {failed} failed"));
    }

    /// How many events there have been.
    fn events(&self) -> usize {
        self.stage.sight.borrow().events.len()
    }

    /// Waits for an event after the first `skipped`.
    async fn heard(&self, reason: &str, skipped: usize, within: Duration) -> Result<(), Missed> {
        let seen = |sight: &Sight| sight.events.iter().skip(skipped).any(|event| event == reason);
        self.see(&format!("event {reason}"), within, seen).await.map(drop)
    }

    fn fingerprint(&self) -> String {
        self.stage.sight.borrow().fingerprint().to_owned()
    }

    async fn next_token(&self, within: Duration) -> Result<(), Missed> {
        let before = self.fingerprint();
        self.replaced(&before, within).await
    }

    async fn replaced(&self, before: &str, within: Duration) -> Result<(), Missed> {
        self.see("another token in the Secret", within, |sight| sight.fingerprint() != before).await.map(drop)
    }

    /// Waits for something to be seen.
    async fn see(&self, what: &str, within: Duration, seen: impl FnMut(&Sight) -> bool) -> Result<Sight, Missed> {
        let mut sight: watch::Receiver<Sight> = self.stage.sight.clone();
        let found = timeout(within, sight.wait_for(seen)).await;
        let found = found.map_err(|_| missed(what, within))?;
        found.map(|sight| sight.clone()).map_err(|_| missed(what, within))
    }
}

/// Seconds since then, to the millisecond.
fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

fn missed(what: &str, within: Duration) -> Missed {
    Missed(format!("not seen within {} s: {what}", within.as_secs()))
}
