//! Flux's own `provider: azure` and a Secret of ours, side by side on one repository: both pull; then Entra ID goes away for a
//! token's lifetime and a half, shortly before Flux would renew its token, and comes back. What each does is told in numbers.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::azure::TENANT_ID;
use crate::canary::VOLUMES;
use crate::cluster::NAMESPACE;
use crate::controller::{AUDIENCE, BEARER_TOKEN};
use crate::flux::{self, GIT_REPOSITORY, Retries};
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "native";

/// API path of the GitRepository with `provider: azure`.
const NATIVE: &str = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/native";

/// Whose token source-controller signs in with.
const ACCOUNT: &str = "source-controller";

/// Client id of the identity that it signs in as: one of its own, so that its tokens can be counted.
const IDENTITY: &str = "00000000-bbbb-4000-8000-000000000021";

/// Seconds that a token lives.
const LIFETIME: u32 = 50;

/// Age of Flux's token at the beginning of the outage: at four fifths of its life it would be renewed.
const AGE: Duration = Duration::from_secs(35);

/// The outage: a lifetime and a half.
const OUTAGE: Duration = Duration::from_secs(75);

/// How long ours lasts at least: more than half of its life, for it is replaced at 45 % of it at the latest.
const LASTS: Duration = Duration::from_secs(26);

/// Time for ours to pull again.
const RECOVERY: Duration = Duration::from_secs(10);

/// Time for Flux to do so by itself: by then its pauses are long.
const BY_ITSELF: Duration = Duration::from_secs(90);

/// Time between two looks at both.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    world.set_up_azure(LIFETIME).await?;
    let subject = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    world.azure().create_reader(IDENTITY, LIFETIME, &subject).await?;
    let assertion = assertion(&world).await?;
    let variables = [
        ("AZURE_TENANT_ID", TENANT_ID),
        ("AZURE_CLIENT_ID", IDENTITY),
        ("AZURE_FEDERATED_TOKEN_FILE", &assertion),
        // As AKS's webhook sets it; without it Flux goes by the machine's identity.
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ];
    let _flux = world.start_flux_with(Retries::Usual, &variables).await?;
    world.start_controller(&[]).await?;
    world.fill_secret().await?;
    world.pull().await?;
    world.cluster.apply(&native().to_string()).await?;
    world.cluster.wait_ready(NATIVE, READY).await?;
    world.story.tell("both are Ready: source-controller with provider: azure, and with our Secret");
    renewed(&world).await?;
    sleep(AGE).await;
    world.azure().begin_outage().await?;
    let began = Instant::now();
    let during = watch(&world, began, OUTAGE).await?;
    world.azure().end_outage().await?;
    let over = Instant::now();
    let ours = until_ready(&world, GIT_REPOSITORY, over, RECOVERY).await?;
    let native = until_ready(&world, NATIVE, over, BY_ITSELF).await?;
    during.tell(&world, ours, native);
    ensure!(during.ours > LASTS, "ours failed after {:?}", during.ours);
    ensure!(during.native < during.ours, "provider: azure failed after {:?} only", during.native);
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    Ok(())
}

/// Waits until Flux has renewed its token.
async fn renewed(world: &World<'_>) -> anyhow::Result<()> {
    let mints = async || world.azure().seen().await.map(|seen| seen.mints_of(IDENTITY));
    let before = mints().await?;
    wait_for("Flux to renew its token", Duration::from_secs(u64::from(LIFETIME)), async || {
        ensure!(mints().await? > before, "it has not");
        Ok(())
    })
    .await
}

/// A file with the token that a kubelet would give source-controller.
async fn assertion(world: &World<'_>) -> anyhow::Result<String> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE},
    });
    world.cluster.apply(&account.to_string()).await?;
    let words = ["create", "token", ACCOUNT, "--namespace", NAMESPACE, "--audience", AUDIENCE];
    let volumes = world.folder().join(VOLUMES);
    std::fs::create_dir_all(&volumes)?;
    let file = volumes.join("assertion");
    std::fs::write(&file, world.cluster.kubectl(&words, "").await?.trim())?;
    Ok(file.to_string_lossy().into_owned())
}

/// The GitRepository of `manifests/flux.yaml`, with Flux's own way to sign in.
fn native() -> Value {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "native", "namespace": NAMESPACE},
        "spec": {
            "interval": "1s",
            "timeout": "10s",
            "url": flux::URL,
            "ref": {"branch": "main"},
            "provider": "azure",
        },
    })
}

/// When each failed first in the outage; its length where it never did.
struct During {
    ours: Duration,
    native: Duration,
}

impl During {
    fn tell(&self, world: &World<'_>, ours: Duration, native: Duration) {
        let line = |failed: Duration, back: Duration| {
            let failed = if failed == OUTAGE { "never".to_owned() } else { format!("{:.0} s", failed.as_secs_f64()) };
            format!("failed after {failed} of the outage, pulled again {:.1} s after its end", back.as_secs_f64())
        };
        world.story.tell(&format!("tokens of {LIFETIME} s, Entra ID away for {} s", OUTAGE.as_secs()));
        world.story.tell(&format!("provider: azure {}", line(self.native, native)));
        world.story.tell(&format!("our Secret      {}", line(self.ours, ours)));
    }
}

async fn watch(world: &World<'_>, began: Instant, span: Duration) -> anyhow::Result<During> {
    let mut during = During { ours: span, native: span };
    while began.elapsed() < span {
        let now = began.elapsed();
        for (path, failed) in [(GIT_REPOSITORY, &mut during.ours), (NATIVE, &mut during.native)] {
            if *failed == span && !is_ready(world, path).await? {
                *failed = now;
            }
        }
        sleep(PAUSE).await;
    }
    Ok(during)
}

async fn until_ready(world: &World<'_>, path: &str, since: Instant, limit: Duration) -> anyhow::Result<Duration> {
    while !is_ready(world, path).await? {
        ensure!(since.elapsed() < limit, "{path} is not Ready after {} s", limit.as_secs());
        sleep(PAUSE).await;
    }
    Ok(since.elapsed())
}

async fn is_ready(world: &World<'_>, path: &str) -> anyhow::Result<bool> {
    let found = world.cluster.get(path).await?;
    let conditions = found.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut ready = conditions.filter(|one| one.get("type") == Some(&json!("Ready")));
    Ok(ready.any(|one| one.get("status") == Some(&json!("True"))))
}
