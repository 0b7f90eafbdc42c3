//! Microsoft's own Python clients set up what flux-bearer sets up: they get on with the simulated Azure, and what they made
//! serves the controller and contents `check`.

use std::time::Duration;

use anyhow::{Context, ensure};
use flux_bearer_sim::edge::wiring::EXAMPLE;
use serde_json::{Value, json};

use crate::azure::{ISSUER, OPERATOR, TENANT_ID};
use crate::clients::python;
use crate::controller::{BEARER_TOKEN, bearer_token};
use crate::flux::Retries;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "official";

/// The identity that they make.
const IDENTITY: &str = "by-hand";

/// The program over the clients.
const SET_UP: &str = "set_up.py";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    run.azure.reset(EXAMPLE).await?;
    python(&run.tools, &[SET_UP, "round-trip"], &[]).await?;
    let world = World::start(run, NAME).await?;
    world.story.tell("azure-mgmt-* and azure-devops made all, met the refusals, and undid it");
    let before = world.azure().state().await?;
    world.repository.commit("first").await?;
    let client_id = set_up(run).await?;
    world.story.tell("they made all for this cluster");
    world.start_controller(&[]).await?;
    let identity = json!({"identity": {"tenantId": TENANT_ID, "clientId": client_id}});
    world.cluster.apply(&bearer_token("flux-system", "fleet", &identity).to_string()).await?;
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    let flux = world.start_flux(Retries::Quick).await?;
    world.pull().await?;
    world.wait_for_commit("first", Duration::from_secs(20)).await?;
    super::setup::check(&world, &super::setup::WRONG).await?;
    let failures = flux.failures()?;
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    undo(run).await?;
    ensure!(world.azure().state().await? == before, "they have left something in Azure");
    Ok(())
}

/// Whose set-up it is.
fn environment(identity: &'static str) -> Vec<(&'static str, &'static str)> {
    let place = [
        ("AZURE_SUBSCRIPTION_ID", "00000000-5555-4000-8000-000000000001"),
        ("AZURE_RESOURCE_GROUP", "rg-flux"),
        ("AZURE_CLUSTER", ""),
        ("LOCATION", "westeurope"),
        ("ISSUER", ISSUER),
        ("IDENTITY", identity),
    ];
    place.into_iter().chain(OPERATOR).collect()
}

async fn set_up(run: &Run) -> anyhow::Result<String> {
    let made = python(&run.tools, &[SET_UP, "make"], &environment(IDENTITY)).await?;
    let made: Value = serde_json::from_str(&made)?;
    made.get("clientId").and_then(Value::as_str).map(str::to_owned).context("no client id")
}

async fn undo(run: &Run) -> anyhow::Result<()> {
    python(&run.tools, &[SET_UP, "unmake"], &environment(IDENTITY)).await.map(drop)
}

/// What the clients see of an identity and its rights, whoever made it.
pub(super) async fn read(run: &Run, identity: &'static str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&python(&run.tools, &[SET_UP, "read"], &environment(identity)).await?)?)
}
