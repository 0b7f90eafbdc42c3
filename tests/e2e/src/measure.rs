//! What the controller takes: time to the first Secret, resident memory, processor time a refresh, with one BearerToken,
//! a thousand and ten thousand of them against the real API server; and how much of what that API server can take.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, NAMESPACE};
use crate::kubelet::Running;
use crate::wait::wait_for;
use crate::world::{Run, World};

/// Names of the worlds, and how many BearerTokens each has.
const WORLDS: [(&str, u32); 3] = [("one", 1), ("thousand", 1_000), ("ten_thousand", 10_000)];

/// What any Secret may be filled with: thousands are not named one by one.
const OPEN: &str = include_str!("../../../deploy/components/open/rights.yaml");

/// Seconds that a token lives: longer than a world.
const LIFETIME: u32 = 24 * 3600;

/// When every token is replaced, whatever its life: in the last twentieth of this, so all of them are due almost at once.
/// Ten thousand Secrets are filled the first time in less.
const INTERVAL: Duration = Duration::from_secs(150);

/// Time in which each Secret has been written once more.
const PASS: Duration = Duration::from_secs(400);

/// Time without work after which memory is looked at.
const CALM: Duration = Duration::from_secs(5);

/// BearerTokens that are made at a time, and patched by the bare loop.
const AT_ONCE: usize = 16;

/// With fewer BearerTokens a pass takes as long as they fall due, and not as long as the API server needs.
const ENOUGH: u32 = 10_000;

/// Ticks a second of `/proc/PID/stat`: what Linux reports in, whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Measures all, and prints a table.
pub(crate) async fn measure(run: &Run) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (name, count) in WORLDS {
        rows.push(one(run, name, count).await.with_context(|| format!("with {count}"))?);
    }
    println!(
        "\n| BearerTokens | start to first Secret | resident, calm | peak | processor a refresh | refreshes a second | of a bare loop |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    println!("| bar | <= 300 ms | <= 12 MiB at one, 24 MiB at ten thousand | | <= 0.35 ms | | >= 85 % |");
    std::fs::remove_dir_all(&run.folder).with_context(|| format!("can't remove {}", run.folder.display()))
}

async fn one(run: &Run, name: &'static str, count: u32) -> anyhow::Result<String> {
    let world = World::start(run, name).await?;
    world.set_up_azure(LIFETIME).await?;
    world.cluster.apply(OPEN).await?;
    create(&world.cluster, 0..count, &json!({})).await?;
    world.story.tell(&format!("{count} BearerTokens are made"));
    let interval = format!("--max-refresh-interval={}s", INTERVAL.as_secs());
    let pod = world.start_controller(&["--log-level=info", "--watch-secrets=labelled", &interval]).await?;
    let first = written(&pod, count).await?;
    world.story.tell(&format!("{first} Secrets are written"));
    let start = start_to_first_secret(&pod)?;
    let resident = resident(&pod).await?;
    let (refreshes, processor, took) = pass(&pod, count).await?;
    world.story.tell(&format!("{refreshes} refreshes took {:.1} s", took.as_secs_f64()));
    let (resident, peak) = (resident.max(self::resident(&pod).await?), peak_memory(pod.process()?)?);
    let each = processor.as_secs_f64() * 1000.0 / f64::from(refreshes);
    let rate = f64::from(refreshes) / took.as_secs_f64();
    // One refresh alone is lost in what passes besides.
    let (each, shown) =
        if count == 1 { (String::new(), String::new()) } else { (format!("{each:.2} ms"), format!("{rate:.0}")) };
    let share =
        if count < ENOUGH { String::new() } else { format!("{:.0} %", 100.0 * rate / bare(&world, count).await?) };
    Ok(format!(
        "| {count} | {} ms | {resident:.1} MiB | {peak:.1} MiB | {each} | {shown} | {share} |",
        start.as_millis()
    ))
}

/// Memory in MiB once there is nothing to do, with a scrape behind it as everywhere.
async fn resident(pod: &Running) -> anyhow::Result<f64> {
    pod.metric("flux_bearer_ready").await?;
    sleep(CALM).await;
    pod.resident_memory()
}

/// How many Secrets and statuses a second the API server takes from a loop that does nothing else, with the controller
/// gone: the same applies of the same objects, as large as the controller's.
async fn bare(world: &World<'_>, count: u32) -> anyhow::Result<f64> {
    world.deployment.clone().replicas(0).roll_out(&world.cluster).await?;
    let client = world.cluster.client();
    let (secrets, tokens) = (Api::<Secret>::namespaced(client.clone(), NAMESPACE), bearer_tokens(client));
    let (secret, status) = (secrets.get(&name(0)).await?, tokens.get_status(&name(0)).await?);
    let token = secret.data.unwrap_or_default().remove("bearerToken").context("the Secret holds no token")?;
    let data = json!({"bearerToken": k8s_openapi::ByteString(vec![b'x'; token.0.len()])});
    let metadata = json!({"labels": secret.metadata.labels, "annotations": secret.metadata.annotations});
    let mut status = status.data.get("status").cloned().context("the BearerToken has no status")?;
    if let Some(refresh_at) = status.get_mut("refreshAt") {
        *refresh_at = json!("2000-01-01T00:00:00Z");
    }
    let began = Instant::now();
    let apply = |number: u32| {
        let (secrets, tokens, name) = (&secrets, &tokens, name(number));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
        let token = json!({"apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken", "status": status});
        async move {
            let manager = PatchParams::apply(&format!("flux-bearer/{name}")).force();
            secrets.patch_metadata(&name, &manager, &Patch::Apply(secret)).await?;
            tokens.patch_status(&name, &PatchParams::apply("flux-bearer").force(), &Patch::Apply(token)).await.map(drop)
        }
    };
    stream::iter((0..count).map(apply)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    world.story.tell(&format!("a bare loop writes {rate:.0} a second"));
    Ok(rate)
}

fn bearer_tokens(client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, NAMESPACE, &kind())
}

fn kind() -> ApiResource {
    let kind = GroupVersionKind::gvk("flux-bearer.dev", "v1alpha1", "BearerToken");
    ApiResource::from_gvk_with_plural(&kind, "bearertokens")
}

/// The name of a BearerToken and of its Secret.
pub(crate) fn name(number: u32) -> String {
    format!("fleet-{number:05}")
}

/// Makes the BearerTokens of these numbers, each with a Secret of its own.
pub(crate) async fn create(cluster: &Cluster, numbers: Range<u32>, spec: &Value) -> anyhow::Result<()> {
    let (api, kind) = (bearer_tokens(cluster.client()), kind());
    let make = |number: u32| {
        let (api, kind) = (api.clone(), &kind);
        async move {
            let object = DynamicObject::new(&name(number), kind).data(json!({"spec": spec}));
            api.create(&PostParams::default(), &object).await.map(drop)
        }
    };
    stream::iter(numbers.map(make)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Waits until as many Secrets have been written; returns how many. Counted in the log: a scrape of ten thousand takes of
/// the processor what a hundred refreshes do.
async fn written(pod: &Running, count: u32) -> anyhow::Result<u32> {
    wait_for(&format!("{count} writes"), PASS, async || {
        let writes = u32::try_from(pod.log()?.matches("\"msg\":\"Secret written\"").count())?;
        ensure!(writes >= count, "{writes} so far");
        Ok(writes)
    })
    .await
}

/// Waits until each Secret has been written once more; returns how many were, what it took of the processor, and how long.
async fn pass(pod: &Running, count: u32) -> anyhow::Result<(u32, Duration, Duration)> {
    let before = written(pod, 0).await?;
    written(pod, before + 1).await?;
    let (began, processor) = (Instant::now(), processor(pod.process()?)?);
    let first = written(pod, 0).await?;
    let last = if count == 1 { first } else { written(pod, before + count).await? };
    let took = began.elapsed().max(Duration::from_millis(1));
    Ok(((last - first).max(1), self::processor(pod.process()?)?.saturating_sub(processor), took))
}

/// From the start of the process to the line that says that a Secret was written.
fn start_to_first_secret(pod: &Running) -> anyhow::Result<Duration> {
    let log = pod.log()?;
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let written = lines.find(|line| line.get("msg") == Some(&json!("Secret written")));
    let written = written.context("no Secret was written")?;
    let at = written.get("ts").and_then(Value::as_str).context("a line without time")?;
    let at: k8s_openapi::jiff::Timestamp = at.parse()?;
    let started = at.duration_since(started(pod.process()?)?);
    Ok(started.try_into().unwrap_or_default())
}

/// When a process was started, to a tick.
#[allow(clippy::disallowed_methods, reason = "the kernel tells the age of a process, and a log line the time of day")]
fn started(process: u32) -> anyhow::Result<k8s_openapi::jiff::Timestamp> {
    let now = std::time::SystemTime::now();
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split_whitespace().next().context("no uptime")?.parse()?;
    let age = Duration::from_secs_f64((uptime - stat(process, 22)? / TICKS).max(0.0));
    Ok(k8s_openapi::jiff::Timestamp::try_from(now - age)?)
}

/// What a process has taken of the processor so far.
fn processor(process: u32) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs_f64((stat(process, 14)? + stat(process, 15)?) / TICKS))
}

/// A field of `/proc/PID/stat` by its number in proc(5). The second is a name that may hold blanks.
fn stat(process: u32, field: usize) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after) = text.rsplit_once(')').context("the kernel says something else")?;
    Ok(after.split_whitespace().nth(field - 3).context("it has no such field")?.parse()?)
}

/// The most that a process has ever had in memory, in MiB.
fn peak_memory(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).context("the kernel doesn't say")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}
