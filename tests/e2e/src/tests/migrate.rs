//! `flux-bearer migrate`: from a PAT to a token, while the real source-controller pulls.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::azure::PAT;
use crate::cluster::NAMESPACE;
use crate::flux::{self, GIT_REPOSITORY, Retries};
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "migrate";

/// Seconds that a token lives: it is replaced after 8 to 9.
const LIFETIME: u32 = 20;

/// Time for a commit to reach the cluster.
const LANDS: Duration = Duration::from_secs(15);

const JOB: &str = "/apis/batch/v1/namespaces/flux-system/cronjobs/refresh";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.azure().create_pat().await?;
    store(&world, "fleet", "Opaque").await?;
    store(&world, "plain", "kubernetes.io/basic-auth").await?;
    world.cluster.apply(&job().to_string()).await?;
    world.pull().await?;
    let plain = pull_with(&world, "plain").await?;
    world.story.tell("Flux pulls with a PAT");

    let said = world.flux_bearer(&["migrate", "--yes", "--timeout=1m"]).await?;
    ensure!(said.status == Some(0), "migrate failed: {}\n{}", said.stdout, said.stderr);
    for words in ["from CronJob refresh to BearerToken fleet", "from a PAT to BearerToken plain"] {
        ensure!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    world.story.tell("migrate is done");
    ensure!(keys(&world, "fleet").await? == ["bearerToken"], "{:?}", keys(&world, "fleet").await?);
    ensure!(keys(&world, "plain").await? == ["password", "username"], "{:?}", keys(&world, "plain").await?);
    ensure!(world.cluster.get(JOB).await?.pointer("/spec/suspend") == Some(&json!(true)), "the CronJob still runs");

    world.repository.commit("migrated").await?;
    world.wait_for_commit("migrated", LANDS).await?;
    // A refresh or two later, too.
    sleep(Duration::from_secs(LIFETIME.into())).await;
    for source in [GIT_REPOSITORY, plain.as_str()] {
        world.cluster.wait_ready(source, READY).await?;
    }
    let said = world.flux_bearer(&["migrate", "--yes"]).await?;
    ensure!(
        said.status == Some(0) && said.stderr.contains("nothing to change"),
        "again: {}{}",
        said.stdout,
        said.stderr
    );
    world.check_pulls(&flux).await?;
    Ok(())
}

/// A Secret with a PAT.
async fn store(world: &World<'_>, name: &str, kind: &str) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {"username": "git", "password": PAT},
    });
    world.cluster.kubectl(&["apply", "-f", "-"], &secret.to_string()).await.map(drop)
}

/// A GitRepository that uses the Secret of the same name; returns its path once it is Ready.
async fn pull_with(world: &World<'_>, name: &str) -> anyhow::Result<String> {
    let text = flux::MANIFEST.split("---").next().unwrap_or_default();
    world.cluster.apply(&text.replace("name: fleet", &format!("name: {name}"))).await?;
    let path = GIT_REPOSITORY.replace("/fleet", &format!("/{name}"));
    world.cluster.wait_ready(&path, READY).await?;
    Ok(path)
}

/// A job as such jobs are written. Nothing runs it here: it is what stands in it that counts.
fn job() -> Value {
    let script = "t=$(az account get-access-token --resource 499b84ac-1321-427f-aa17-267ca6975798 -o tsv); \
                  kubectl -n flux-system create secret generic fleet --from-literal=password=$t";
    let container = json!({"name": "refresh", "image": "azure-cli", "command": ["sh", "-c", script]});
    let pod = json!({"restartPolicy": "Never", "containers": [container]});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "refresh", "namespace": NAMESPACE},
        "spec": {"schedule": "*/30 * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    })
}

async fn keys(world: &World<'_>, secret: &str) -> anyhow::Result<Vec<String>> {
    let stored = world.cluster.get(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{secret}")).await?;
    let data = stored.pointer("/data").and_then(Value::as_object).context("the Secret is empty")?;
    Ok(data.keys().cloned().collect())
}
