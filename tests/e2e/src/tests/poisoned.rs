//! A few BearerTokens that the controller can't read, and two hundred whose Secrets it may not write, among two hundred
//! good ones: the good ones are served, the others say what is wrong and how to put it right, and nobody is stormed.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::audit;
use crate::cluster::{Condition, NAMESPACE};
use crate::controller::{self, bearer_token};
use crate::kubelet::{Running, Signal};
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "poisoned";

/// BearerTokens of each sort.
const COUNT: usize = 200;

/// What a user-assigned identity's token for Azure DevOps lives at least, in seconds: none is replaced meanwhile.
const LIFETIME: u32 = 3600;

/// How long requests are counted, once all is said.
const CALM: Duration = Duration::from_secs(60);

/// A hundred Secrets are watched by name; the others are read once a minute. The rest is room for what is tried again.
const CALM_REQUESTS: usize = 4 * COUNT;

const TOKENS: &str = "/apis/flux-bearer.dev/v1alpha1/namespaces/flux-system/bearertokens";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bearertokens.flux-bearer.dev";

/// How many of those below no status can be written to.
const MUTE: usize = 2;

/// Specs that no version of the definition has allowed.
fn poison() -> [(&'static str, Value); 4] {
    [
        ("identity", json!({"identity": {"type": "Password"}})),
        ("formats", json!({"secret": {"formats": ["Telepathy"]}})),
        ("list", json!({"secret": ["fleet"]})),
        ("text", json!("flux-system")),
    ]
}

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    let names = |sort: &str| -> Vec<String> { (0..COUNT).map(|number| format!("{sort}-{number}")).collect() };
    let (good, unnamed) = (names("good"), names("unnamed"));
    let poisoned: Vec<String> = poison().iter().map(|(name, _)| format!("poisoned-{name}")).collect();
    controller::name_secrets(&world.cluster, NAMESPACE, &[good.clone(), poisoned].concat()).await?;
    store_poison(&world).await?;
    let pod = world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;

    let began = Instant::now();
    store(&world, &good).await?;
    wait_for_all(&world, "good", |ready| ready.status == "True").await?;
    world.story.tell(&format!("{COUNT} good ones are Ready after {:.1} s", began.elapsed().as_secs_f64()));
    store(&world, &unnamed).await?;
    wait_for_all(&world, "unnamed", says_what_to_do).await?;
    say_what_is_poisoned(&world).await?;
    start_again(&world, &pod).await?;
    stay_calm(&world, &pod).await?;
    let mints = world.azure().seen().await?.mints();
    // One, and one for the new process, whose first BearerToken may have no Secret yet that remembers.
    ensure!(mints <= 2, "{mints} tokens were made for one identity");
    Ok(())
}

/// Stores BearerTokens under a definition that takes anything, and puts the real one back.
async fn store_poison(world: &World<'_>) -> anyhow::Result<()> {
    let stored = world.cluster.get(DEFINITION).await?;
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let path = "/spec/versions/0/schema/openAPIV3Schema";
    let schema = stored.pointer(path).cloned().context("the definition has no schema")?;
    let with = |schema: &Value| -> anyhow::Result<DynamicObject> {
        let mut definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "bearertokens.flux-bearer.dev"}, "spec": stored.pointer("/spec"),
        });
        *definition.pointer_mut(path).context("the definition has no schema")? = schema.clone();
        Ok(serde_json::from_value(definition)?)
    };
    world.cluster.apply_crd(&with(&anything)?).await?;
    for (name, spec) in poison() {
        // The new schema is in force a moment later.
        let poisoned = bearer_token(NAMESPACE, &format!("poisoned-{name}"), &spec).to_string();
        wait_for("the poison to be taken", READY, async || world.cluster.apply(&poisoned).await).await?;
    }
    world.cluster.apply_crd(&with(&schema)?).await?;
    wait_for("the real schema to be in force", READY, async || {
        let again = bearer_token(NAMESPACE, "refused", &json!({"identity": {"type": "Password"}}));
        if world.cluster.apply(&again.to_string()).await.is_err() {
            return Ok(());
        }
        // One that is stored could be applied again whatever its spec: what doesn't change is not looked at.
        world.cluster.delete(&format!("{TOKENS}/refused")).await?;
        bail!("a poisoned spec is still taken")
    })
    .await?;
    world.story.tell(&format!("{} poisoned BearerTokens are stored", poison().len()));
    Ok(())
}

async fn store(world: &World<'_>, names: &[String]) -> anyhow::Result<()> {
    for names in names.chunks(20) {
        let objects: Vec<String> =
            names.iter().map(|name| bearer_token(NAMESPACE, name, &json!({})).to_string()).collect();
        try_join_all(objects.iter().map(|object| world.cluster.apply(object))).await?;
    }
    Ok(())
}

/// Waits until the Ready condition of every BearerToken of this sort is as wanted.
async fn wait_for_all(world: &World<'_>, sort: &str, wanted: fn(&Condition) -> bool) -> anyhow::Result<()> {
    wait_for(&format!("all {sort} ones"), READY, async || {
        let conditions = conditions(world, sort).await?;
        let other: Vec<&Condition> = conditions.iter().filter(|ready| !wanted(ready)).collect();
        ensure!(conditions.len() == COUNT && other.is_empty(), "{} others: {:?}", other.len(), other.first());
        Ok(())
    })
    .await
}

async fn conditions(world: &World<'_>, sort: &str) -> anyhow::Result<Vec<Condition>> {
    let list = world.cluster.get(TOKENS).await?;
    let items = list.pointer("/items").and_then(Value::as_array).context("there is no list")?;
    let name = |item: &Value| item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(items.iter().filter(|item| name(item).starts_with(sort)).map(|item| Condition::of(item, "Ready")).collect())
}

/// Whether it names the Role to change, as a command.
fn says_what_to_do(ready: &Condition) -> bool {
    ready.status == "False" && ready.reason == "Forbidden" && ready.message.contains("kubectl")
}

async fn say_what_is_poisoned(world: &World<'_>) -> anyhow::Result<()> {
    let conditions = wait_for("the poisoned ones to say so", READY, async || {
        let conditions = conditions(world, "poisoned").await?;
        // A spec that is no object makes the API server itself refuse each apply of the status.
        let mute = conditions.iter().filter(|ready| ready.status.is_empty()).count();
        let (said, told) =
            (conditions.iter().filter(|ready| ready.reason == "InvalidSpec").count(), conditions.len() - mute);
        ensure!(said == told && mute <= MUTE, "{conditions:?}");
        Ok(conditions)
    })
    .await?;
    let unnamed = self::conditions(world, "unnamed").await?;
    let (Some(poisoned), Some(unnamed)) = (conditions.first(), unnamed.first()) else { bail!("nobody says anything") };
    world.story.tell(&format!("poisoned ones say {}: {}", poisoned.reason, poisoned.message));
    world.story.tell(&format!("the {COUNT} unnamed ones say {}: {}", unnamed.reason, unnamed.message));
    Ok(())
}

/// A process that finds all of it at its start.
async fn start_again(world: &World<'_>, pod: &Running) -> anyhow::Result<()> {
    let mark = audit::mark(&world.cluster.audit_log())?;
    pod.signal(Signal::Kill).await?;
    wait_for("the new process to report on all", READY, async || {
        ensure!(pod.restarts() == 1, "it was started again {} times", pod.restarts());
        let ready = pod.metrics_named("flux_bearer_ready{").await?;
        ensure!(ready.iter().filter(|line| line.ends_with(" 1")).count() == COUNT, "{} lines", ready.len());
        Ok(())
    })
    .await?;
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    world.story.tell(&format!("a new process has found all of it: {asked:?}"));
    ensure!(asked.secret_writes <= COUNT, "{} writes of Secrets for a restart", asked.secret_writes);
    Ok(())
}

async fn stay_calm(world: &World<'_>, pod: &Running) -> anyhow::Result<()> {
    let (mark, lines) = (audit::mark(&world.cluster.audit_log())?, pod.log()?.lines().count());
    sleep(CALM).await;
    let entries = audit::entries(&world.cluster.audit_log(), mark)?;
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    let lines = pod.log()?.lines().count() - lines;
    world.story.tell(&format!(
        "in the next {} s: {} requests, {lines} lines in the log, {:.1} MiB: {asked:?}",
        CALM.as_secs(),
        entries.len(),
        pod.resident_memory()?
    ));
    ensure!(entries.len() <= CALM_REQUESTS, "{} requests in a minute", entries.len());
    Ok(())
}
