//! Entra ID is away: for a while that the token in the Secret outlives, which nobody notices, and for so long that it dies,
//! after which Flux works again as soon as Entra ID does.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::controller::BEARER_TOKEN;
use crate::flux::{Flux, GIT_REPOSITORY, Retries};
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "outage";

/// Seconds that a token lives. It is replaced at 40 to 45 %, so that 16 are left when an outage begins at the worst moment.
const LIFETIME: u32 = 30;

/// An outage that is outlived: half the lifetime.
const SHORT: Duration = Duration::from_secs(15);

/// Time in which a dead token is noticed: what is left of its life and a look by Flux.
const DEATH: Duration = Duration::from_secs(45);

/// Time in which source-controller has failed often enough to wait long before it tries again.
const DISCOURAGED: Duration = Duration::from_secs(15);

/// Time from the end of the outage to a fetch: the controller asks every second, source-controller is told at once.
const RECOVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Usual).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    world.pull().await?;
    outlive(&world, &flux).await?;
    recover(&world).await?;
    Ok(())
}

async fn outlive(world: &World<'_>, flux: &Flux) -> anyhow::Result<()> {
    world.azure().forget().await?;
    world.azure().begin_outage().await?;
    sleep(SHORT).await;
    world.repository.commit("second").await?;
    world.wait_for_commit("second", READY).await?;
    world.azure().end_outage().await?;
    wait_for("the refresh that was due meanwhile", RECOVERY, async || {
        let mints = world.azure().seen().await?.mints();
        ensure!(mints == 1, "{mints} tokens were made");
        Ok(())
    })
    .await?;
    let (failures, seen) = (flux.failures()?, world.azure().seen().await?);
    world.story.tell(&format!("an outage of {} s, {} failed fetches", SHORT.as_secs(), failures.len()));
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    ensure!(seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    Ok(())
}

async fn recover(world: &World<'_>) -> anyhow::Result<()> {
    world.azure().begin_outage().await?;
    world.cluster.wait_not_ready(BEARER_TOKEN, DEATH).await?;
    let said = world.cluster.wait_not_ready(GIT_REPOSITORY, DEATH).await?;
    world.story.tell(&format!("the token has died; the GitRepository says {said:.150}"));
    sleep(DISCOURAGED).await;
    let mark = audit::mark(&world.cluster.audit_log())?;
    world.azure().end_outage().await?;
    let over = Instant::now();
    world.cluster.wait_ready(BEARER_TOKEN, RECOVERY).await?;
    let filled = over.elapsed();
    world.cluster.wait_ready(GIT_REPOSITORY, RECOVERY).await?;
    let (filled, fetched) = (filled.as_secs_f64(), over.elapsed().as_secs_f64());
    world.story.tell(&format!("Entra ID is back: a token after {filled:.1} s, a fetch after {fetched:.1} s"));
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    ensure!(asked.nudges == 1, "source-controller was asked {} times to look", asked.nudges);
    Ok(())
}
