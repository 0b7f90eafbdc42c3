//! Leader election on a Lease, by client-go's rule.
//!
//! A lease is free when *this* process has watched it unchanged for its duration on its own monotonic clock. Nobody's wall
//! clock is compared with anybody else's, so clocks that are off or set do no harm.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::NAME;
use flux_bearer::secret::PART_OF;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::lock;

/// How the lease is held. Names and defaults are Flux's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the Lease.
    pub name: String,
    /// Name of this process in it.
    pub holder: String,
    /// How long others wait after the last renewal that they saw.
    pub duration: Duration,
    /// How long after the start of its last successful renewal this process still writes. Less than `duration`.
    pub renew_deadline: Duration,
    /// Pause between two attempts to get or renew the lease.
    pub retry_period: Duration,
    /// Whether to give the lease back when stopping.
    pub release: bool,
}

/// Until when this process may write. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    always: bool,
}

impl Leadership {
    /// Nobody else is there: this process may always write.
    pub fn sole() -> Self {
        Self { until: Arc::default(), always: true }
    }

    /// May not write until it leads.
    pub fn contested() -> Self {
        Self { until: Arc::default(), always: false }
    }

    /// Whether a write may start now.
    pub fn may_write(&self) -> bool {
        self.always || lock(&self.until).is_some_and(|until| Instant::now() < until)
    }

    fn extend(&self, until: Option<Instant>) {
        *lock(&self.until) = until;
    }
}

/// Longest time that a holder is believed to want others to wait, and that may be asked of them: a lease that was edited
/// to last for years must not outlive the tokens that its dead holder left.
pub const LONGEST: Duration = Duration::from_secs(600);

/// What was last seen of the lease: since when it is so, and how long it has to stay so before it is free.
#[derive(Debug)]
struct Watched {
    spec: Option<LeaseSpec>,
    since: Instant,
    wait: Duration,
}

/// How long the lease has to stay as it is before `me` may take it. `before` is what it was until now: a lease that lost its
/// holder without being given back (it was deleted, or edited) may still have one that knows nothing of it.
fn wait(spec: Option<&LeaseSpec>, before: Duration, me: &str, own: Duration) -> Duration {
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
    // Its holder says how long to wait; a senseless value is replaced by our own.
    let stated = || {
        let seconds =
            spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok()).filter(|seconds| *seconds > 0);
        seconds.map_or(own, Duration::from_secs).min(LONGEST)
    };
    match holder {
        None => before,
        Some(holder) if holder.is_empty() || holder == me => Duration::ZERO,
        Some(_) => stated(),
    }
}

/// A holder whose lease does not carry our label.
#[derive(Debug)]
struct Stranger {
    holder: String,
    since: Instant,
    told: bool,
}

/// What became of an attempt to get or renew the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// It is ours.
    Ours,
    /// Somebody else holds it.
    Theirs,
    /// Somebody else wrote it at the same time: it has to be looked at again.
    Crossed,
}

/// Holds the lease as long as it can.
pub struct Elector {
    api: Api<Lease>,
    settings: Settings,
    clock: Clock,
    leadership: Leadership,
    watched: Watched,
    stranger: Option<Stranger>,
    failed: u32,
}

impl Elector {
    /// Will hold the lease of `settings` through `api`, and extend `leadership` with every renewal.
    pub fn new(api: Api<Lease>, settings: Settings, clock: Clock, leadership: Leadership) -> Self {
        let watched = Watched { spec: None, since: Instant::now(), wait: Duration::ZERO };
        Self { api, settings, clock, leadership, watched, stranger: None, failed: 0 }
    }

    /// Gets the lease, says so on `leads`, and renews it; returns when it is lost.
    pub async fn run(&mut self, leads: &watch::Sender<bool>) {
        while !self.attempt().await {
            sleep(self.settings.retry_period).await;
        }
        leads.send_replace(true);
        // Renewed at half of its deadline: a failed renewal has time for several more.
        let calm = (self.settings.renew_deadline / 2).max(self.settings.retry_period);
        let mut pause = calm;
        loop {
            sleep(pause).await;
            pause = if self.attempt().await { calm } else { self.settings.retry_period };
            if !self.leadership.may_write() {
                leads.send_replace(false);
                return;
            }
        }
    }

    /// Gives the lease back, so that another process need not wait.
    pub async fn release(&mut self) {
        if !self.settings.release || !self.leadership.may_write() {
            return;
        }
        self.leadership.extend(None);
        let freed = async {
            let mut lease = self.api.get(&self.settings.name).await?;
            if let Some(spec) =
                lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.settings.holder))
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(&self.settings.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        if !matches!(timeout(self.settings.retry_period, freed).await, Ok(Ok(()))) {
            tracing::warn!("the lease was not given back; another process gets it once it has run out");
        }
    }

    /// Tries once to get or renew the lease; returns whether it is ours.
    async fn attempt(&mut self) -> bool {
        let started = Instant::now();
        let limit = self.settings.retry_period;
        let attempt = match timeout(limit, self.take()).await {
            Ok(Ok(attempt)) => Ok(attempt),
            Ok(Err(kube::Error::Api(status))) => Err(Some(status.code)),
            Ok(Err(_)) | Err(_) => Err(None),
        };
        match attempt {
            // Counted from before the request: its answer may have taken a while.
            Ok(Attempt::Ours) => self.leadership.extend(Some(started + self.settings.renew_deadline)),
            // Whoever was cut off, or slept, may find that it has been replaced: no write starts from here on.
            Ok(Attempt::Theirs) => self.leadership.extend(None),
            Ok(Attempt::Crossed) | Err(_) => {}
        }
        match attempt {
            Ok(_) => self.failed = 0,
            Err(code) => self.tell_failure(code),
        }
        attempt == Ok(Attempt::Ours)
    }

    /// Says what keeps the lease from being read or written, once a run of errors: its status, where there was an answer. Of
    /// a refusal only the second counts, for an API server that has just started refuses everybody for a moment.
    fn tell_failure(&mut self, code: Option<u16>) {
        self.failed = self.failed.saturating_add(1);
        let lease = &self.settings.name;
        if self.failed == 2 && code == Some(403) {
            tracing::error!(
                lease,
                "the controller may not get, create or update its lease: kubectl apply -k deploy/base, which brings Role \
                 flux-bearer-controller-leader-election and its binding"
            );
        } else if self.failed == 1 {
            tracing::warn!(lease, code, "the lease can't be read or renewed at the moment; retried by itself");
        }
    }

    async fn take(&mut self) -> Result<Attempt, kube::Error> {
        let found = self.api.get_opt(&self.settings.name).await?;
        let spec = found.as_ref().and_then(|lease| lease.spec.clone());
        if self.watched.spec != spec {
            let wait = wait(spec.as_ref(), self.watched.wait, &self.settings.holder, self.settings.duration);
            self.watched = Watched { spec, since: Instant::now(), wait };
        }
        self.tell_stranger(found.as_ref());
        if self.watched.since.elapsed() < self.watched.wait {
            return Ok(Attempt::Theirs);
        }
        let lease = self.ours(found);
        let created = lease.metadata.resource_version.is_none();
        let params = PostParams::default();
        let written = if created {
            self.api.create(&params, &lease).await
        } else {
            // With its resourceVersion: of two that try, one is refused.
            self.api.replace(&self.settings.name, &params, &lease).await
        };
        match written {
            Ok(lease) => {
                self.watched = Watched { spec: lease.spec, since: Instant::now(), wait: Duration::ZERO };
                Ok(Attempt::Ours)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Crossed),
            Err(error) => Err(error),
        }
    }

    /// Says, once a holder, that the lease is held and renewed by a program that is not ours.
    fn tell_stranger(&mut self, lease: Option<&Lease>) {
        let is_ours = |lease: &Lease| lease.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PART_OF));
        let strange = lease.filter(|lease| !is_ours(lease));
        let holder = strange.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
        let Some(holder) = holder.filter(|_| !self.watched.wait.is_zero()) else {
            self.stranger = None;
            return;
        };
        let known = self.stranger.take().filter(|stranger| stranger.holder == holder);
        let mut stranger = known.unwrap_or(Stranger { holder, since: Instant::now(), told: false });
        if !stranger.told && stranger.since.elapsed() >= self.settings.duration {
            stranger.told = true;
            let (name, namespace) = (&self.settings.name, self.api.namespace().unwrap_or_default());
            let holder: String = stranger.holder.chars().filter(char::is_ascii_graphic).take(64).collect();
            tracing::error!(
                holder,
                "another program holds the lease, so nothing is written here. Look who: kubectl -n {namespace} get lease {name} \
                 -o yaml; then give that program another lease, or run one replica with --enable-leader-election=false"
            );
        }
        self.stranger = Some(stranger);
    }

    /// The lease as it is once we hold it.
    fn ours(&self, found: Option<Lease>) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        // Tells our lease from another program's of the same name.
        lease.metadata.labels.get_or_insert_default().insert(PART_OF.to_owned(), NAME.to_owned());
        let now = MicroTime(micros(self.clock.now()));
        let before = lease.spec.take().unwrap_or_default();
        let same = before.holder_identity.as_ref() == Some(&self.settings.holder);
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.settings.holder.clone()),
            lease_duration_seconds: i32::try_from(self.settings.duration.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| same).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        });
        lease
    }
}

/// A `MicroTime` has microseconds; the API server refuses anything finer.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_free_when_given_back_or_ours_or_unchanged_for_as_long_as_its_holder_says() {
        let seconds = Duration::from_secs;
        let cases = [
            (None, 0, 0),
            (Some(held_by("", 35)), 35, 0),
            (Some(held_by("me", 35)), 35, 0),
            (Some(held_by("other", 35)), 0, 35),
            (Some(held_by("other", 5)), 0, 5),
            (Some(held_by("other", 0)), 0, 40),
            (Some(held_by("other", -1)), 0, 40),
            (Some(held_by("other", i32::MAX)), 0, 600),
            // Nobody gave it back: whoever held it may not know yet.
            (None, 35, 35),
            (Some(LeaseSpec::default()), 35, 35),
        ];
        for (lease, before, expected) in cases {
            let wait = wait(lease.as_ref(), seconds(before), "me", seconds(40));
            assert_eq!(wait, seconds(expected), "{lease:?} {before}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn row_36_nothing_is_written_after_the_deadline() {
        let leadership = Leadership::contested();
        assert!(!leadership.may_write());
        leadership.extend(Some(Instant::now() + Duration::from_secs(30)));
        assert!(leadership.may_write());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(!leadership.may_write());
    }
}
