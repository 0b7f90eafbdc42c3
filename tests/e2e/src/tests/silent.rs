//! Packets are dropped. First those of Azure: a token that is due waits no longer than a call may take, and is told to. Then
//! those of the API server, amid its watches: the token that is due is minted once, and written when the API server is heard
//! again. Then those of the connections that the controller has, which a gateway forgets: the next token is on time.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::cluster::Condition;
use crate::controller::BEARER_TOKEN;
use crate::kubelet::Running;
use crate::packets::{API_SERVER, AZURE, Drops};
use crate::wait::wait_for;
use crate::world::{FLUX_GOES_ON, READY, Run, World};

pub(super) const NAME: &str = "silent";

/// Seconds that a token lives: it is replaced after 24 to 27.
const LIFETIME: u32 = 60;

/// When it is at the latest.
const DUE: Duration = Duration::from_secs(27);

/// Time for a call, and for what follows from its end.
const CALL: Duration = Duration::from_secs(10 + 3);

/// A silence that a refresh falls into and that its first write is given up in, while the token outlives it.
const SILENCE: Duration = Duration::from_secs(40);

/// A lease that outlives it, so that the process does, too.
const LEASE: [&str; 2] = ["--leader-election-lease-duration=90s", "--leader-election-renew-deadline=80s"];

/// Time until a silence that is over is over for everybody: a call under way may be given up before its connection is tried
/// again, and then there is a pause.
const HEARD: Duration = Duration::from_secs(10 + 10 + 2);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, _flux, pod) = World::pulling(run, NAME, LIFETIME, &LEASE).await?;
    azure(&world).await?;
    api_server(&world).await?;
    connections(&world, &pod).await?;
    ensure!(pod.restarts() == 0, "the controller was started again {} times", pod.restarts());
    // The watch of BearerTokens goes on.
    world.refresh(READY).await?;
    world.repository.commit("second").await?;
    world.wait_for_commit("second", FLUX_GOES_ON).await?;
    let seen = world.azure().seen().await?;
    ensure!(seen.dead_tokens_seen == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    Ok(())
}

async fn azure(world: &World<'_>) -> anyhow::Result<()> {
    world.refreshed().await?;
    let drops = Drops::of(AZURE)?;
    let said = wait_for("a call to be given up", DUE + CALL, async || {
        let failing = Condition::of(&world.cluster.get(BEARER_TOKEN).await?, "RefreshFailing");
        ensure!(failing.status == "True", "no call has failed");
        Ok(failing.message)
    })
    .await?;
    drop(drops);
    let seconds = written(world, HEARD).await?;
    world.story.tell(&format!("Azure was silent ({said:.120}): a token {seconds:.1} s later"));
    Ok(())
}

async fn api_server(world: &World<'_>) -> anyhow::Result<()> {
    world.azure().forget().await?;
    let drops = Drops::of(API_SERVER)?;
    sleep(SILENCE).await;
    let mints = world.azure().seen().await?.mints();
    drop(drops);
    let seconds = written(world, HEARD).await?;
    world
        .story
        .tell(&format!("the API server was silent for {SILENCE:?}: {mints} mints, a token {seconds:.1} s later"));
    ensure!(mints == 1, "{mints} tokens were made for one refresh");
    Ok(())
}

async fn connections(world: &World<'_>, pod: &Running) -> anyhow::Result<()> {
    let drops = Drops::of_connections(API_SERVER, pod.process()?)?;
    let seconds = written(world, DUE + CALL).await?;
    let forgotten = drops.rules();
    world.story.tell(&format!("{forgotten} connections were forgotten: a token {seconds:.1} s later"));
    Ok(())
}

/// Waits until a token is written; after how many seconds it was.
async fn written(world: &World<'_>, limit: Duration) -> anyhow::Result<f64> {
    let (mark, began) = (audit::mark(&world.cluster.audit_log())?, Instant::now());
    wait_for("a token to be written", limit, async || {
        let asked = audit::since(&world.cluster.audit_log(), mark)?;
        ensure!(asked.secret_writes > 0, "{asked:?}");
        Ok(())
    })
    .await?;
    Ok(began.elapsed().as_secs_f64())
}
