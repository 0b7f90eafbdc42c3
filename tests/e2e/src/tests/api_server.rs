//! kube-apiserver is killed and started again, once within a token's calm and once across a refresh: nothing is lost, no
//! token is minted but those that are due, and the watches go on.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::cluster::{Condition, NAMESPACE};
use crate::controller::BEARER_TOKEN;
use crate::flux::GIT_REPOSITORY;
use crate::wait::wait_for;
use crate::world::{FLUX_GOES_ON, READY, Run, World};

pub(super) const NAME: &str = "api_server";

/// Seconds that a token lives: it is replaced after 12 to 13.5.
const LIFETIME: u32 = 30;

/// An outage that no refresh falls into.
const SHORT: Duration = Duration::from_secs(4);

/// An outage that one falls into: half a lifetime.
const LONG: Duration = Duration::from_secs(15);

/// A lease that outlives it, so that the process does, too: what it knows is looked at here.
const LEASE: [&str; 2] = ["--leader-election-lease-duration=90s", "--leader-election-renew-deadline=80s"];

/// Time for a watch to be there again: its pauses double while the API server is away.
const RESUMED: Duration = Duration::from_secs(70);

/// Time for what a watch tells to be acted upon. An API server that has just started may refuse twice, which takes 7 s.
const AT_ONCE: Duration = Duration::from_secs(10);

const SECRET: &str = "/api/v1/namespaces/flux-system/secrets/fleet";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (mut world, _flux, pod) = World::pulling(run, NAME, LIFETIME, &LEASE).await?;

    calm(&mut world).await?;
    across_a_refresh(&mut world).await?;
    ensure!(pod.restarts() == 0, "the controller was started again {} times", pod.restarts());
    world.repository.commit("second").await?;
    world.wait_for_commit("second", FLUX_GOES_ON).await?;
    let seen = world.azure().seen().await?;
    ensure!(seen.dead_tokens_seen == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    watches(&world).await?;
    Ok(())
}

/// An outage right after a refresh.
async fn calm(world: &mut World<'_>) -> anyhow::Result<()> {
    world.refreshed().await?;
    let before = world.cluster.get(SECRET).await?;
    let (mark, _) = away(world, SHORT).await?;
    let after = world.cluster.get(SECRET).await?;
    let (mints, asked) = (world.azure().seen().await?.mints(), audit::since(&world.cluster.audit_log(), mark)?);
    world.story.tell(&format!("an API server that was away for {SHORT:?}: {mints} mints, {asked:?}"));
    ensure!(mints == 0, "{mints} tokens were made");
    ensure!(before == after, "the Secret is another one");
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    world.cluster.wait_ready(GIT_REPOSITORY, FLUX_GOES_ON).await
}

/// An outage in which a token is due: it is minted once, waits, and is written when the API server is back.
async fn across_a_refresh(world: &mut World<'_>) -> anyhow::Result<()> {
    world.refreshed().await?;
    let (mark, back) = away(world, LONG).await?;
    wait_for("the token that waited", AT_ONCE, async || {
        let asked = audit::since(&world.cluster.audit_log(), mark)?;
        ensure!(asked.secret_writes > 0, "{asked:?}");
        Ok(())
    })
    .await?;
    let (mints, asked) = (world.azure().seen().await?.mints(), audit::since(&world.cluster.audit_log(), mark)?);
    let seconds = back.elapsed().as_secs_f64();
    world
        .story
        .tell(&format!("away for {LONG:?}: {mints} mints, the token was written {seconds:.1} s later, {asked:?}"));
    ensure!(mints == 1, "{mints} tokens were made for one refresh");
    ensure!(asked.secret_writes == 1, "{} writes of the Secret for one refresh", asked.secret_writes);
    Ok(())
}

/// Takes the API server away for so long; returns where its log was, and when it was back.
async fn away(world: &mut World<'_>, span: Duration) -> anyhow::Result<(audit::Mark, Instant)> {
    let mark = audit::mark(&world.cluster.audit_log())?;
    world.cluster.kill_server().await?;
    sleep(span).await;
    world.cluster.start_server().await?;
    Ok((mark, Instant::now()))
}

/// Each of the three watches tells of a change.
async fn watches(world: &World<'_>) -> anyhow::Result<()> {
    world.azure().forget().await?;
    let began = Instant::now();
    world.refresh(RESUMED).await?;
    let bearer_tokens = began.elapsed().as_secs_f64();

    let began = Instant::now();
    world.cluster.delete(SECRET).await?;
    wait_for("the Secret to be made anew", RESUMED, async || world.cluster.get(SECRET).await).await?;
    let of_secret = began.elapsed().as_secs_f64();

    let other = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "other", "namespace": NAMESPACE},
        "spec": {"interval": "1h", "suspend": true, "secretRef": {"name": "fleet"},
                 "url": "https://dev.azure.com/contoso/platform/_git/other"},
    });
    // An API server that has just started does not know the kind of our policy's parameters yet, and refuses for safety.
    wait_for("the GitRepository to be taken", RESUMED, async || world.cluster.apply(&other.to_string()).await).await?;
    let began = Instant::now();
    wait_for("a repository that can't be opened to show", RESUMED, async || {
        let stored = world.cluster.get(BEARER_TOKEN).await?;
        let accessible = Condition::of(&stored, "Accessible");
        ensure!(accessible.status == "False", "{accessible:?}");
        Ok(())
    })
    .await?;
    let sources = began.elapsed().as_secs_f64();
    world.story.tell(&format!("changes were seen after {bearer_tokens:.1} s (BearerToken), {of_secret:.1} s (Secret), {sources:.1} s (GitRepository)"));
    Ok(())
}
