//! What becomes of a Secret without its BearerToken, as `deletionPolicy` says: it stays, it goes, or it is emptied where the
//! Role has no right to delete; and a rename that waits while the old Secret is read.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use serde_json::{Value, json};

use crate::cluster::NAMESPACE;
use crate::controller;
use crate::flux::{GIT_REPOSITORY, MANIFEST, Retries};
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "release";

/// Time in which a Secret is let go.
const LET_GO: Duration = Duration::from_secs(10);

/// The Secrets of the test.
const NAMES: [&str; 4] = ["retained", "emptied", "deleted", "renamed"];

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    controller::name_secrets(&world.cluster, NAMESPACE, &NAMES.map(str::to_owned)).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(3600).await?;

    fill(&world, "retained", "Retain").await?;
    world.cluster.delete(&bearer_token("retained")).await?;
    fill(&world, "emptied", "Delete").await?;
    world.cluster.delete(&bearer_token("emptied")).await?;
    wait_for("the Secret to be emptied", LET_GO, async || {
        let secret = world.cluster.get(&secret("emptied")).await?;
        ensure!(
            secret.get("data").is_none() && secret.pointer("/metadata/labels").is_none(),
            "it holds {:?}",
            keys(&secret)
        );
        Ok(())
    })
    .await?;
    allow_deletion(&world).await?;
    fill(&world, "deleted", "Delete").await?;
    world.cluster.delete(&bearer_token("deleted")).await?;
    wait_until_gone(&world, "deleted").await?;
    let retained = world.cluster.get(&secret("retained")).await?;
    ensure!(keys(&retained) == ["bearerToken"], "retained holds {:?}", keys(&retained));
    world.story.tell("one Secret stays with its token, one is emptied without the right to delete, one is gone");

    rename(&world).await?;
    let failures = flux.failures()?;
    ensure!(failures.iter().all(|line| line.contains("renamed")), "source-controller logged errors: {failures:#?}");
    Ok(())
}

/// A commit renames the Secret that Flux reads: it is renewed, until Flux reads the new one.
async fn rename(world: &World<'_>) -> anyhow::Result<()> {
    world.fill_secret().await?;
    world.pull().await?;
    let renamed = json!({"spec": {"secret": {"name": "renamed", "deletionPolicy": "Delete"}}});
    world.cluster.merge(&bearer_token("fleet"), &renamed).await?;
    let waits = wait_for("the rename to wait", READY, async || {
        let token = world.cluster.get(&bearer_token("fleet")).await?;
        let message = crate::cluster::Condition::of(&token, "Ready").message;
        ensure!(message.contains("waits until none does"), "{message}");
        Ok(message)
    })
    .await?;
    world.story.tell(&waits);
    ensure!(world.cluster.get(&secret("renamed")).await.is_err(), "the new Secret is there already");
    world.cluster.apply(&MANIFEST.replace("secretRef:\n    name: fleet", "secretRef:\n    name: renamed")).await?;
    wait_until_gone(world, "fleet").await?;
    world.cluster.wait_ready(GIT_REPOSITORY, READY).await?;
    world.story.tell("Flux reads the new Secret, and the old one is gone");
    Ok(())
}

/// Makes a BearerToken with this policy, and waits until its Secret is filled.
async fn fill(world: &World<'_>, name: &str, policy: &str) -> anyhow::Result<()> {
    let token = controller::bearer_token(NAMESPACE, name, &json!({"secret": {"deletionPolicy": policy}}));
    world.cluster.apply(&token.to_string()).await?;
    world.cluster.wait_ready(&bearer_token(name), READY).await
}

/// What a user adds who wants Secrets to go.
async fn allow_deletion(world: &World<'_>) -> anyhow::Result<()> {
    let role = "/apis/rbac.authorization.k8s.io/v1/namespaces/flux-system/roles/flux-bearer-controller-secrets";
    let stored = world.cluster.get(role).await?;
    let mut rules = stored.pointer("/rules").cloned().unwrap_or_default();
    let verbs = rules.pointer_mut("/0/verbs").and_then(Value::as_array_mut);
    verbs.ok_or_else(|| anyhow!("the Role has no verbs"))?.push("delete".into());
    if let Some(names) = rules.pointer_mut("/0/resourceNames").and_then(Value::as_array_mut) {
        names.push("fleet".into());
    }
    world.cluster.merge(role, &json!({"rules": rules})).await.map(drop)
}

async fn wait_until_gone(world: &World<'_>, name: &str) -> anyhow::Result<()> {
    wait_for(&format!("Secret {name} to go"), LET_GO, async || match world.cluster.get(&secret(name)).await {
        Ok(secret) => Err(anyhow!("it holds {:?}", keys(&secret))),
        Err(error) if error.to_string().contains("NotFound") => Ok(()),
        Err(error) => Err(error),
    })
    .await
}

fn keys(secret: &Value) -> Vec<&String> {
    secret.pointer("/data").and_then(Value::as_object).into_iter().flat_map(|data| data.keys()).collect()
}

fn bearer_token(name: &str) -> String {
    format!("/apis/flux-bearer.dev/v1alpha1/namespaces/{NAMESPACE}/bearertokens/{name}")
}

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
}
