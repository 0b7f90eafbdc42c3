//! `flux-bearer setup`: from an empty subscription to a Flux that pulls, again without a change, and back.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::official;
use crate::audit::{self, Mark};
use crate::azure::ISSUER;
use crate::controller::{AUDIENCE, BEARER_TOKEN};
use crate::flux::Retries;
use crate::world::{Run, World};

pub(super) const NAME: &str = "setup";

/// The set-up of Secret `fleet`. The API server of the test is no public issuer, so it is named.
const SETUP: [&str; 9] = [
    "setup",
    "--repository=https://dev.azure.com/contoso/platform/_git/fleet",
    "--location=westeurope",
    "--name=fleet",
    "--issuer=https://127.0.0.1:6443",
    "--timeout=2m",
    "--resource-group=rg-flux",
    "--identity=flux-fleet",
    "--yes",
];

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::bare(run, NAME).await?;
    let before = world.azure().state().await?;
    world.repository.commit("first").await?;
    let status = world.interrupt(&SETUP, "managed identity").await?;
    ensure!(status == Some(130), "Ctrl-C ended it with {status:?}");
    ensure!(world.azure().state().await? != before, "it was not interrupted amid its work");
    world.story.tell("setup was interrupted after its first change");
    let said = world.flux_bearer(&SETUP).await?;
    ensure!(said.status == Some(0), "setup failed: {}\n{}", said.stdout, said.stderr);
    world.story.tell("setup is done, and its BearerToken is Ready");
    let flux = world.start_flux(Retries::Quick).await?;
    world.pull().await?;
    world.wait_for_commit("first", Duration::from_secs(20)).await?;
    world.story.tell("the commit is in the cluster");
    check(&world, &WRONG).await?;
    read_back(run, &world).await?;
    again(&world).await?;
    let failures = flux.failures()?;
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    world.cluster.delete(crate::flux::KUSTOMIZATION).await?;
    world.cluster.delete(crate::flux::GIT_REPOSITORY).await?;
    let words = ["uninstall", "--name=fleet", "--resource-group=rg-flux", "--identity=flux-fleet", "--yes"];
    let said = world.flux_bearer(&words).await?;
    ensure!(said.status == Some(0), "uninstall failed: {}\n{}", said.stdout, said.stderr);
    ensure!(world.azure().state().await? == before, "uninstall has left something in Azure");
    world.story.tell("uninstall is done: Azure is as it was before");
    Ok(())
}

/// A second run writes nothing, nowhere.
async fn again(world: &World<'_>) -> anyhow::Result<()> {
    let (state, log) = (world.azure().state().await?, world.cluster.audit_log());
    ensure!(!audit::changes(&log, Mark::default())?.is_empty(), "the audit log does not have the first run");
    let mark = audit::mark(&log)?;
    let said = world.flux_bearer(&SETUP).await?;
    ensure!(said.status == Some(0) && said.stderr.contains("nothing to change"), "again: {}", said.stderr);
    ensure!(world.azure().state().await? == state, "the second run has changed something in Azure");
    let changes = audit::changes(&log, mark)?;
    ensure!(changes.is_empty(), "the second run has changed something in the cluster: {changes:#?}");
    world.story.tell("again: nothing to change, and no write in the audit log");
    Ok(())
}

/// Microsoft's own clients see what was to be made.
async fn read_back(run: &Run, world: &World<'_>) -> anyhow::Result<()> {
    let seen = official::read(run, "flux-fleet").await?;
    let token = world.cluster.get(BEARER_TOKEN).await?;
    let subject = "system:serviceaccount:flux-system:flux-bearer-controller";
    let wanted = json!({
        "clientId": token.pointer("/spec/identity/clientId"),
        "location": "westeurope",
        "credentials": [{"issuer": ISSUER, "subject": subject, "audiences": [AUDIENCE]}],
        "licence": "express",
        "project": [[1, 0, 1]],
        "repository": [[2, 0, 2]],
    });
    ensure!(seen == wanted, "Azure's own clients see {seen} and not {wanted}");
    world.story.tell("azure-mgmt-* and azure-devops read back what it made");
    Ok(())
}

/// What must be wrong with this cluster, and nothing else: its issuer is an address of the machine, and Flux runs without a
/// Deployment.
pub(super) const WRONG: [&str; 2] = ["cluster-issuer", "flux-source-controller"];

/// Everything is as it should be, but for what a test's cluster can't be: these ones.
pub(super) async fn check(world: &World<'_>, foreseen: &[&str]) -> anyhow::Result<()> {
    let said = world.flux_bearer(&["check", "-o", "json"]).await?;
    let report: Value = serde_json::from_str(&said.stdout).with_context(|| said.stderr.clone())?;
    let checks = report.pointer("/checks").and_then(Value::as_array).context("no checks")?;
    let wrong = checks.iter().filter(|one| one.get("wrong") != Some(&json!([])));
    let unforeseen: Vec<String> = wrong.filter(|one| !is_one_of(one, foreseen)).map(|one| format!("{one}")).collect();
    ensure!(unforeseen.is_empty(), "of {} checks failed {unforeseen:#?}", checks.len());
    world.story.tell(&format!("{} checks find what a test's cluster can't be, and nothing else", checks.len()));
    Ok(())
}

fn is_one_of(check: &Value, ids: &[&str]) -> bool {
    check.get("id").and_then(Value::as_str).is_some_and(|id| ids.contains(&id))
}
