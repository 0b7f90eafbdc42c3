//! A controller that is killed and started again by the kubelet: what it knew is in the Secret, so it asks nobody for a
//! token and writes nothing, until the next refresh is due. In the same Pod it has the same name, so the lease is its own.

use std::time::Duration;

use anyhow::ensure;

use crate::audit;
use crate::kubelet::{Running, Signal};
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "restart";

/// Seconds that a token lives: a restart takes a few of them, the refresh comes after 24 to 27.
const LIFETIME: u32 = 60;

/// Time until the refresh has certainly come.
const REFRESH: Duration = Duration::from_secs(30);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, flux, pod) = World::pulling(run, NAME, LIFETIME, &[]).await?;

    let mark = audit::mark(&world.cluster.audit_log())?;
    world.azure().forget().await?;
    pod.signal(Signal::Kill).await?;
    world.story.tell("flux-bearer-controller is killed");
    wait_until_it_has_looked(&pod).await?;
    let (mints, asked) = (world.azure().seen().await?.mints(), audit::since(&world.cluster.audit_log(), mark)?);
    world.story.tell(&format!("the new process has looked: {mints} mints, {asked:?}"));
    ensure!(mints == 0, "{mints} tokens were made for a restart");
    ensure!(asked.writes() == 0, "{} writes for a restart", asked.writes());

    wait_for("the refresh", REFRESH, async || {
        let asked = audit::since(&world.cluster.audit_log(), mark)?;
        ensure!(asked.secret_writes == 1, "{} writes of the Secret", asked.secret_writes);
        Ok(())
    })
    .await?;
    world.story.tell("the refresh came when it was due");
    world.repository.commit("second").await?;
    world.wait_for_commit("second", Duration::from_secs(15)).await?;
    let seen = world.azure().seen().await?;
    ensure!(seen.mints() == 1, "{} tokens were made for one refresh", seen.mints());
    ensure!(seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    let failures = flux.failures()?;
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    Ok(())
}

/// It reports on a BearerToken once there is nothing left to do about it; a process that does not lead yet reports none.
async fn wait_until_it_has_looked(pod: &Running) -> anyhow::Result<()> {
    wait_for("the new process to report", Duration::from_secs(20), async || {
        ensure!(pod.restarts() == 1, "it was started again {} times", pod.restarts());
        let line = pod.metric("flux_bearer_ready{").await?;
        ensure!(line.ends_with(" 1"), "{line}");
        Ok(())
    })
    .await
}
