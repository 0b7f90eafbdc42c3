//! Flux's own `provider: azure` and a Secret of ours, side by side on one repository: both pull; then Entra ID is away for a
//! token's lifetime and a half, and back again. What each does is told in numbers.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::azure::{CLIENT_ID, TENANT_ID};
use crate::cluster::NAMESPACE;
use crate::controller::{AUDIENCE, BEARER_TOKEN};
use crate::flux::{self, GIT_REPOSITORY, Retries};
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "native";

/// API path of the GitRepository with `provider: azure`.
const NATIVE: &str = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/native";

/// Whose token source-controller signs in with.
const ACCOUNT: &str = "source-controller";

/// Seconds that a token lives.
const LIFETIME: u32 = 40;

/// The outage: a lifetime and a half.
const OUTAGE: Duration = Duration::from_secs(60);

/// Time for both to pull again: source-controller by itself has by then come to long pauses.
const RECOVERY: Duration = Duration::from_secs(120);

/// Time between two looks at both.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    world.set_up_azure(LIFETIME).await?;
    world.azure().federate_with(&format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")).await?;
    let assertion = assertion(&world).await?;
    let variables = [
        ("AZURE_TENANT_ID", TENANT_ID),
        ("AZURE_CLIENT_ID", CLIENT_ID),
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
    // Both renew now and then; the outage begins when each has a token of some age.
    sleep(Duration::from_secs(u64::from(LIFETIME))).await;
    world.azure().begin_outage().await?;
    let began = Instant::now();
    let during = watch(&world, began, OUTAGE).await?;
    world.azure().end_outage().await?;
    let over = Instant::now();
    let ours = until_ready(&world, GIT_REPOSITORY, over).await?;
    let native = until_ready(&world, NATIVE, over).await?;
    during.tell(&world, ours, native);
    ensure!(
        during.ours > during.native,
        "ours failed after {:?}, provider: azure after {:?}",
        during.ours,
        during.native
    );
    ensure!(ours < native, "ours pulled again after {ours:?}, provider: azure after {native:?}");
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    world.check_log()
}

/// A file with the token that a kubelet would give source-controller.
async fn assertion(world: &World<'_>) -> anyhow::Result<String> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE},
    });
    world.cluster.apply(&account.to_string()).await?;
    let words = ["create", "token", ACCOUNT, "--namespace", NAMESPACE, "--audience", AUDIENCE];
    let file = world.folder().join("assertion");
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

async fn until_ready(world: &World<'_>, path: &str, since: Instant) -> anyhow::Result<Duration> {
    while !is_ready(world, path).await? {
        ensure!(since.elapsed() < RECOVERY, "{path} is not Ready after {} s", RECOVERY.as_secs());
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
