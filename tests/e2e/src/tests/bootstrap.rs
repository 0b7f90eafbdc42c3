//! `flux-bearer setup --flux bootstrap`: from a cluster without Flux to one that Flux's own command line has bootstrapped,
//! and whose controllers run as its manifests say. Then again, with another token that pushes.

use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::setup;
use crate::azure::{OPERATOR_OBJECT, PAT};
use crate::world::{READY, Run, Said, World};

pub(super) const NAME: &str = "bootstrap";

/// The folder of this cluster.
const PATH: &str = "clusters/e2e/";

/// Flux without what there are no programs for here.
const COMPONENTS: &str = "--components=source-controller,kustomize-controller";

const REPOSITORY: &str = "--repository=https://dev.azure.com/contoso/platform/_git/fleet";

const SETUP: [&str; 12] = [
    "setup",
    REPOSITORY,
    "--location=westeurope",
    "--issuer=https://127.0.0.1:6443",
    "--timeout=4m",
    "--resource-group=rg-flux",
    "--identity=flux-fleet",
    "--flux=bootstrap",
    "--path=clusters/e2e",
    "--yes",
    "--",
    COMPONENTS,
];

const SOURCE: &str = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/flux-system";
const SYNC: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/flux-system";

/// What must be wrong with this cluster, and nothing else: its issuer is an address of the machine.
const WRONG: [&str; 1] = ["cluster-issuer"];

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::bare(run, NAME).await?;
    done(&world.flux_bearer(&SETUP).await?, "bootstrap Flux from ./clusters/e2e of branch main: done")?;
    world.story.tell("setup is done, and Flux is bootstrapped");
    world.cluster.wait_ready(SOURCE, READY).await?;
    world.cluster.wait_ready(SYNC, READY).await?;
    let head = world.repository.pull().await?;
    check_repository(&world)?;
    check_secrets(&world, &[]).await?;
    world.story.tell("the controller is in the repository, and the operator's token in no Secret");
    done(&world.flux_bearer(&SETUP).await?, "nothing to change")?;
    ensure!(world.repository.pull().await? == head, "the second run has pushed something");
    world.story.tell("again: nothing to change");
    setup::check(&world, &WRONG).await?;
    world.repository.commit_in(PATH, "first").await?;
    world
        .cluster
        .merge(SOURCE, &json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}}))
        .await?;
    world.wait_for_commit("first", Duration::from_secs(20)).await?;
    world.story.tell("a commit is in the cluster");
    by_pat(&world).await?;
    Ok(())
}

/// The Flux step alone, once more, with a PAT: Flux's command line puts that into the Secret each time.
async fn by_pat(world: &World<'_>) -> anyhow::Result<()> {
    world.azure().create_pat().await?;
    world.azure().grant_push().await?;
    let words = ["bootstrap", REPOSITORY, "--path=clusters/e2e", "--pat-stdin", "--timeout=4m", "--", COMPONENTS];
    let said = world.flux_bearer_with(&words, PAT).await?;
    done(&said, "removing what else Secret flux-system/flux-system holds")?;
    done(&said, "the controller's manifests are up to date")?;
    done(&said, "revoke the PAT now")?;
    check_secrets(world, &[PAT]).await?;
    world.cluster.wait_ready(SOURCE, READY).await?;
    world.story.tell("bootstrapped again with a PAT, which is in no Secret either");
    Ok(())
}

/// Fails unless it went well and said so.
fn done(said: &Said, words: &str) -> anyhow::Result<()> {
    ensure!(said.status == Some(0), "it failed: {}\n{}", said.stdout, said.stderr);
    let all = format!("{}{}", said.stdout, said.stderr);
    ensure!(all.contains(words), "it does not say {words:?}: {all}");
    Ok(())
}

/// The controller is where Flux's first apply finds it.
fn check_repository(world: &World<'_>) -> anyhow::Result<()> {
    let folder = world.repository.clone_folder().join(PATH).join("flux-system");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| format!("no {name}"));
    ensure!(read("kustomization.yaml")?.contains("- flux-bearer\n"), "Flux's kustomization does not name it");
    ensure!(read("flux-bearer/controller.yaml")?.contains("kind: Deployment"), "there is no Deployment");
    for name in ["gotk-components.yaml", "gotk-sync.yaml"] {
        ensure!(read(name)?.contains("DO NOT EDIT"), "Flux has not written {name}");
    }
    Ok(())
}

/// Every value of every Secret: a token of the identity, none of the operator, nothing of `others`.
async fn check_secrets(world: &World<'_>, others: &[&str]) -> anyhow::Result<()> {
    let all = world.cluster.get("/api/v1/secrets").await?;
    let secrets = all.pointer("/items").and_then(Value::as_array).context("no list of Secrets")?;
    let data = secrets.iter().filter_map(|secret| secret.get("data")?.as_object()).flatten();
    let mut tokens = 0;
    for (key, value) in data {
        let value = String::from_utf8(STANDARD.decode(value.as_str().unwrap_or_default())?)?;
        ensure!(others.iter().all(|other| !value.contains(other)), "{key} of a Secret holds what it must not");
        if let Some(claims) = value.split('.').nth(1) {
            let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims)?)?;
            ensure!(!claims.contains(OPERATOR_OBJECT), "{key} of a Secret holds the operator's token");
            tokens += 1;
        }
    }
    ensure!(tokens == 1, "there are {tokens} tokens in Secrets");
    Ok(())
}
