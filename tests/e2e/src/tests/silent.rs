//! kube-apiserver falls silent (SIGSTOP) amid its watches, with every connection open, as one does whose packets are dropped:
//! the token that is due is minted once, written when the API server speaks again, and the watches go on.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::kubelet::Signal;
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "silent";

/// Seconds that a token lives: it is replaced after 20 to 22.5.
const LIFETIME: u32 = 50;

/// A silence that a refresh falls into and that its first write is given up in, while the token outlives it.
const SILENCE: Duration = Duration::from_secs(34);

/// A lease that outlives it, so that the process does, too.
const LEASE: [&str; 2] = ["--leader-election-lease-duration=90s", "--leader-election-renew-deadline=80s"];

/// Time for the token that waited to be written: what was sent into the silence is given up after 10 s.
const WRITTEN: Duration = Duration::from_secs(15);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, _flux, pod) = World::pulling(run, NAME, LIFETIME, &LEASE).await?;

    world.refreshed().await?;
    let mark = audit::mark(&world.cluster.audit_log())?;
    world.cluster.signal_server(Signal::Stop).await?;
    sleep(SILENCE).await;
    let mints = world.azure().seen().await?.mints();
    world.cluster.signal_server(Signal::Continue).await?;
    let speaks = Instant::now();
    wait_for("the token that waited", WRITTEN, async || {
        let asked = audit::since(&world.cluster.audit_log(), mark)?;
        ensure!(asked.secret_writes > 0, "{asked:?}");
        Ok(())
    })
    .await?;
    let seconds = speaks.elapsed().as_secs_f64();
    world.story.tell(&format!("silent for {SILENCE:?}: {mints} mints, the token was written {seconds:.1} s later"));
    ensure!(mints == 1, "{mints} tokens were made for one refresh");
    ensure!(pod.restarts() == 0, "the controller was started again {} times", pod.restarts());
    // The watch of BearerTokens goes on.
    world.refresh(READY).await?;
    world.repository.commit("second").await?;
    world.wait_for_commit("second", READY).await?;
    let seen = world.azure().seen().await?;
    ensure!(seen.dead_tokens_seen == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    Ok(())
}
