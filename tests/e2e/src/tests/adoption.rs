//! Secrets that hold a personal access token (PAT) are taken over: only when the BearerToken says so, only when Flux will
//! be able to use what is in them then, without a fetch that fails, and without a trace of the PAT.

use std::time::Duration;

use anyhow::{Context, ensure};
use flux_bearer::secret::PART_OF;
use flux_bearer_sim::canary::forms;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::azure::PAT;
use crate::cluster::{Condition, NAMESPACE};
use crate::controller;
use crate::flux::{self, GIT_REPOSITORY, Retries};
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "adoption";

/// Seconds that a token lives: it is replaced after 8 to 9.
const LIFETIME: u32 = 20;

/// The Secrets: one that is adopted, one whose GitRepository has a user in its URL, and one of a type of its own.
const NAMES: [&str; 3] = ["fleet", "user", "basic"];

/// How long a refused Secret is watched: Flux looks every second.
const LEFT_ALONE: Duration = Duration::from_secs(4);

/// Time for an adoption: a mint, a probe and two writes.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Time for a commit to reach the cluster.
const LANDS: Duration = Duration::from_secs(15);

/// What kubectl keeps of what it applied: the PAT, in clear.
const LAST_APPLIED: &str = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    controller::name_secrets(&world.cluster, NAMESPACE, &NAMES.map(str::to_owned)).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.azure().create_pat().await?;
    store(&world, "fleet", "Opaque").await?;
    store(&world, "user", "Opaque").await?;
    store(&world, "basic", "kubernetes.io/basic-auth").await?;
    own_as_kustomize_controller(&world, "fleet").await?;
    world.pull().await?;
    world.story.tell("Flux pulls with a PAT");

    let refused = stays(&world, "fleet", &json!({})).await?;
    ensure!(refused.reason == "SecretNotOwned", "{refused:?}");
    adopted(&world, "fleet", "Bearer").await?;
    world.repository.commit("adopted").await?;
    world.wait_for_commit("adopted", LANDS).await?;
    user_in_url(&world).await?;
    basic_auth(&world).await?;
    conflicts(&world).await?;

    world.check_pulls(&flux).await?;
    Ok(())
}

/// A Secret with a PAT, and a key that is nobody's credential, as `kubectl apply` makes it.
async fn store(world: &World<'_>, name: &str, kind: &str) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"username": "git", "password": PAT, "note": "kept"},
    });
    world.cluster.kubectl(&["apply", "-f", "-"], &secret.to_string()).await?;
    let stored = world.cluster.get(&secret_path(name)).await?;
    ensure!(
        stored.pointer(LAST_APPLIED).is_some_and(|text| text.to_string().contains(PAT)),
        "kubectl has kept nothing"
    );
    Ok(())
}

/// What kustomize-controller does when the Secret is in the repository, too.
async fn own_as_kustomize_controller(world: &World<'_>, name: &str) -> anyhow::Result<()> {
    let secret: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"username": "git", "password": PAT},
    }))?;
    let params = PatchParams::apply("kustomize-controller").force();
    let secrets = kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(world.cluster.client(), NAMESPACE);
    secrets.patch(name, &params, &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Asks for the Secret with this `spec.secret`, and sees that nothing of it changes; returns what is said.
async fn stays(world: &World<'_>, name: &str, secret: &Value) -> anyhow::Result<Condition> {
    let before = world.cluster.get(&secret_path(name)).await?;
    let token = controller::bearer_token(NAMESPACE, name, &json!({"secret": secret}));
    world.cluster.apply(&token.to_string()).await?;
    wait_for("the refusal", READY, async || {
        let stored = world.cluster.get(&token_path(name)).await?;
        let ready = Condition::of(&stored, "Ready");
        ensure!(ready.status == "False", "{ready:?}");
        Ok(())
    })
    .await?;
    sleep(LEFT_ALONE).await;
    let ready = Condition::of(&world.cluster.get(&token_path(name)).await?, "Ready");
    world.story.tell(&format!("{name} is left alone: {}: {}", ready.reason, ready.message));
    ensure!(ready.status == "False", "{ready:?}");
    // The whole object, resourceVersion and managedFields with it.
    ensure!(before == world.cluster.get(&secret_path(name)).await?, "the Secret has changed");
    Ok(ready)
}

/// Asks for the Secret to be adopted in this format, and sees that no PAT is left.
async fn adopted(world: &World<'_>, name: &str, format: &str) -> anyhow::Result<()> {
    let spec = json!({"secret": {"adopt": true, "formats": [format]}});
    world.cluster.apply(&controller::bearer_token(NAMESPACE, name, &spec).to_string()).await?;
    world.cluster.wait_ready(&token_path(name), AT_ONCE).await?;
    let stored = wait_for("the PAT to be gone", READY, async || {
        let stored = world.cluster.get(&secret_path(name)).await?;
        let text = stored.to_string();
        ensure!(!forms(PAT).iter().any(|form| text.contains(form)), "the PAT is still there");
        Ok(stored)
    })
    .await?;
    let data = stored.pointer("/data").and_then(Value::as_object).context("the Secret is empty")?;
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    world.story.tell(&format!("{name} is adopted; it holds {keys:?}, and no PAT"));
    let wanted: &[&str] = if format == "Basic" { &["note", "password", "username"] } else { &["bearerToken", "note"] };
    ensure!(keys == wanted, "it holds {keys:?}");
    ensure!(stored.pointer(LAST_APPLIED).is_none(), "kubectl's copy is still there");
    Ok(())
}

/// A GitRepository with a user in its URL can't use a bearer token: Flux refuses both at once.
async fn user_in_url(world: &World<'_>) -> anyhow::Result<()> {
    let url = "https://contoso@dev.azure.com/contoso/platform/_git/fleet";
    let source = pull_with(world, "user", url).await?;
    let refused = stays(world, "user", &json!({"adopt": true})).await?;
    ensure!(refused.message.contains("contoso@") || refused.message.contains("user"), "{refused:?}");
    world.cluster.wait_ready(&source, READY).await
}

/// A Secret of this type can't lose its keys. Whoever then does what the message says is served at once.
async fn basic_auth(world: &World<'_>) -> anyhow::Result<()> {
    let source = pull_with(world, "basic", "https://dev.azure.com/contoso/platform/_git/fleet").await?;
    let refused = stays(world, "basic", &json!({"adopt": true})).await?;
    ensure!(refused.message.contains("Basic"), "{refused:?}");
    adopted(world, "basic", "Basic").await?;
    // A look with the new credential, and one more after the next refresh.
    sleep(Duration::from_secs(LIFETIME.into()) / 2).await;
    world.cluster.wait_ready(&source, READY).await?;
    world.cluster.wait_ready(GIT_REPOSITORY, READY).await
}

/// Keys that the Secret can't have, and a label of ours that somebody takes, stand in the way of no renewal.
async fn conflicts(world: &World<'_>) -> anyhow::Result<()> {
    let spec = json!({"secret": {"adopt": true, "formats": ["Bearer"]}});
    world.cluster.apply(&controller::bearer_token(NAMESPACE, "basic", &spec).to_string()).await?;
    world
        .cluster
        .kubectl(&["-n", NAMESPACE, "label", "--overwrite", "secret", "fleet", &format!("{PART_OF}=theirs")], "")
        .await?;
    wait_for("the refusal of the keys, and the label", AT_ONCE, async || {
        let stalled = Condition::of(&world.cluster.get(&token_path("basic")).await?, "Stalled");
        ensure!(stalled.reason == "SecretNeedsBasic", "{stalled:?}");
        let secret = world.cluster.get(&secret_path("fleet")).await?;
        let label = secret.pointer("/metadata/labels").and_then(|labels| labels.get(PART_OF));
        ensure!(label.is_some_and(|label| label == "flux-bearer"), "{label:?}");
        Ok(())
    })
    .await?;
    sleep(Duration::from_secs(LIFETIME.into())).await;
    for name in ["fleet", "basic"] {
        let ready = Condition::of(&world.cluster.get(&token_path(name)).await?, "Ready");
        ensure!(ready.status == "True", "{name}: {ready:?}");
    }
    world.story.tell("keys that can't be written and a label that was taken were outlived");
    Ok(())
}

/// A GitRepository that uses the Secret of the same name; returns its path once it is Ready.
async fn pull_with(world: &World<'_>, name: &str, url: &str) -> anyhow::Result<String> {
    let text = flux::MANIFEST.split("---").next().unwrap_or_default();
    let text = text.replace("name: fleet", &format!("name: {name}"));
    let text = text.replace("https://dev.azure.com/contoso/platform/_git/fleet", url);
    world.cluster.apply(&text).await?;
    let path = GIT_REPOSITORY.replace("/fleet", &format!("/{name}"));
    world.cluster.wait_ready(&path, READY).await?;
    Ok(path)
}

fn token_path(name: &str) -> String {
    controller::BEARER_TOKEN.replace("/fleet", &format!("/{name}"))
}

fn secret_path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
}
