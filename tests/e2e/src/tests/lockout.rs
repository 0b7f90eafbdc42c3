//! The BearerToken lives in the repository that its token opens. Twice a commit breaks it, and twice Flux pulls the commit
//! that mends it: once it was pruned, once its identity was wrong for three lifetimes.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::Condition;
use crate::controller::{self, BEARER_TOKEN};
use crate::flux::Retries;
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "lockout";

/// Seconds that a token lives.
const LIFETIME: u32 = 20;

/// How long the wrong identity stays: three lifetimes.
const WRONG: Duration = Duration::from_secs(3 * LIFETIME as u64);

/// Time in which a commit takes effect: Flux looks every second. Less than a token has left after a prune.
const LANDS: Duration = Duration::from_secs(8);

/// The BearerToken's file in the repository.
const FILE: &str = "bearertoken.yaml";

const SECRET: &str = "/api/v1/namespaces/flux-system/secrets/fleet";

/// A tenant that exists and a client that doesn't.
const WRONG_SPEC: &str = "spec:\n  identity:\n    tenantId: 00000000-aaaa-4000-8000-000000000001\n    \
                          clientId: 00000000-dead-4000-8000-000000000001\n";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.write(FILE, controller::MANIFEST)?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    world.pull().await?;
    wait_until_kustomized(&world).await?;
    world.azure().forget().await?;
    pruned(&world).await?;
    wrong_identity(&world).await?;
    world.check_pulls(&flux).await?;
    Ok(())
}

/// Waits until the BearerToken is kustomize-controller's.
async fn wait_until_kustomized(world: &World<'_>) -> anyhow::Result<()> {
    wait_for("kustomize-controller to own the BearerToken", LANDS, async || {
        let stored = world.cluster.get(BEARER_TOKEN).await?;
        let label = stored.pointer("/metadata/labels/kustomize.toolkit.fluxcd.io~1name").and_then(Value::as_str);
        ensure!(label == Some("fleet"), "its label is {label:?}");
        Ok(())
    })
    .await
}

/// A commit takes the BearerToken out of the repository, the next one brings it back.
async fn pruned(world: &World<'_>) -> anyhow::Result<()> {
    world.repository.remove(FILE)?;
    world.repository.commit("pruned").await?;
    wait_for("the BearerToken to be pruned", LANDS, async || match world.cluster.get(BEARER_TOKEN).await {
        Ok(_) => Err(anyhow!("it is there")),
        Err(error) if error.to_string().contains("NotFound") => Ok(()),
        Err(error) => Err(error),
    })
    .await?;
    let secret = world.cluster.get(SECRET).await?;
    ensure!(secret.pointer("/data/bearerToken").is_some(), "the Secret has lost its token");
    world.story.tell("the BearerToken was pruned, the Secret is there");

    let began = Instant::now();
    world.repository.write(FILE, controller::MANIFEST)?;
    world.repository.commit("reverted").await?;
    world.wait_for_commit("reverted", LANDS).await?;
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    world.story.tell(&format!("Flux has pulled the revert after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// A commit names a client that doesn't exist; three lifetimes later the next one mends it.
async fn wrong_identity(world: &World<'_>) -> anyhow::Result<()> {
    let wrong = controller::MANIFEST.replace("spec: {}\n", WRONG_SPEC);
    world.repository.write(FILE, &wrong)?;
    world.repository.commit("wrong").await?;
    let failing = wait_for("the new identity to fail", READY, async || {
        let failing = Condition::of(&world.cluster.get(BEARER_TOKEN).await?, "RefreshFailing");
        ensure!(failing.status == "True", "{failing:?}");
        Ok(failing)
    })
    .await?;
    world.story.tell(&format!("a wrong clientId was committed: {}: {:.150}", failing.reason, failing.message));
    ensure!(failing.reason == "NewIdentityNotWorking", "{failing:?}");
    let mints = world.azure().seen().await?.mints();
    let began = Instant::now();
    while began.elapsed() < WRONG {
        sleep(Duration::from_secs(1)).await;
        let ready = Condition::of(&world.cluster.get(BEARER_TOKEN).await?, "Ready");
        ensure!(ready.status == "True", "{ready:?}");
    }
    let mints = world.azure().seen().await?.mints() - mints;
    world.story.tell(&format!("three lifetimes have passed, Ready all the while: {mints} mints by the old identity"));

    let began = Instant::now();
    world.repository.write(FILE, controller::MANIFEST)?;
    world.repository.commit("mended").await?;
    world.wait_for_commit("mended", LANDS).await?;
    wait_for("the failure to be over", READY, async || {
        let failing = Condition::of(&world.cluster.get(BEARER_TOKEN).await?, "RefreshFailing");
        ensure!(failing.status != "True", "{failing:?}");
        Ok(())
    })
    .await?;
    world.story.tell(&format!("Flux has pulled the fix after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}
