//! Two replicas from the shipped manifests, under Pod Security Standard `restricted`, rolled to a new version and then
//! drained, with commits landing all the while: no fetch fails.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::controller::{self, DEPLOYMENT, PODS};
use crate::flux::{Flux, Retries};
use crate::kubelet::Running;
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "rollout";

/// Seconds that a token lives: a rollout takes about a life.
const LIFETIME: u32 = 20;

/// Time for a commit to reach the cluster: Flux looks every second.
const LANDS: Duration = Duration::from_secs(15);

/// How long it goes on after the last change: long enough for a refresh by the last leader.
const AFTER: Duration = Duration::from_secs(12);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    // Two replicas, as it is shipped.
    world.deployment.roll_out(&world.cluster).await?;
    refused_unless_restricted(&world).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    world.pull().await?;
    world.azure().forget().await?;

    let done = Cell::new(false);
    let change = async {
        let changed = change(&world).await;
        done.set(true);
        changed
    };
    let (commits, changed) = tokio::join!(land_commits(&world, &done), change);
    changed?;
    check_tokens(&world, &flux, commits?).await
}

/// The Pod template of the Deployment is taken as it is, and refused once it asks for more.
async fn refused_unless_restricted(world: &World<'_>) -> anyhow::Result<()> {
    let deployment = world.cluster.get(DEPLOYMENT).await?;
    let part = |path: &str| deployment.pointer(path).cloned().unwrap_or_default();
    let metadata = json!({"name": "template", "labels": part("/spec/template/metadata/labels")});
    let submit = async |spec: &Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let request = Request::post("/api/v1/namespaces/flux-system/pods?dryRun=All");
        let request = request.header("Content-Type", "application/json").body(pod.to_string().into_bytes())?;
        world.cluster.client().request_text(request).await.map_err(|error| anyhow!("{error}"))
    };
    let mut root = part("/spec/template/spec");
    submit(&root).await?;
    *root.pointer_mut("/securityContext/runAsNonRoot").context("the template does not say runAsNonRoot")? =
        json!(false);
    let refused = submit(&root).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("violates PodSecurity"), "a Pod that may run as root was not refused: {refused:?}");
    world
        .story
        .tell("the Pod template is taken under Pod Security Standard restricted, and refused without runAsNonRoot");
    Ok(())
}

/// A rollout, then evictions as a drain makes them.
async fn change(world: &World<'_>) -> anyhow::Result<()> {
    let before = controller::lead(&world.cluster).await?;
    let old: Vec<String> = world.kubelet.pods().iter().map(|pod| pod.name().to_owned()).collect();
    let began = Instant::now();
    world.deployment.clone().tag("0.1.1").apply(&world.cluster).await?;
    let least = watch_rollout(world).await?;
    let seconds = began.elapsed().as_secs_f64();
    let after = wait_for("one of the new Pods to lead", LANDS, async || {
        let lead = controller::lead(&world.cluster).await?;
        ensure!(!lead.pod.is_empty() && !old.contains(&lead.pod), "{lead:?}");
        Ok(lead)
    })
    .await?;
    world.story.tell(&format!(
        "rolled out in {seconds:.1} s with {least} replicas available all the while; the lease changed hands {} times, the \
         last time after {:.1} s",
        after.transitions - before.transitions,
        began.elapsed().as_secs_f64(),
    ));
    ensure!(least == 2, "only {least} replicas were available");
    let left: Vec<Running> =
        world.kubelet.pods().into_iter().filter(|pod| old.iter().any(|name| name == pod.name())).collect();
    ensure!(left.is_empty(), "old Pods run: {left:?}");
    drain(world).await?;
    sleep(AFTER).await;
    Ok(())
}

/// Waits until the rollout is done; returns how many replicas were available at least.
async fn watch_rollout(world: &World<'_>) -> anyhow::Result<u64> {
    let least = Cell::new(u64::MAX);
    let available = async || -> anyhow::Result<u64> {
        let deployment = world.cluster.get(DEPLOYMENT).await?;
        Ok(deployment.pointer("/status/availableReplicas").and_then(Value::as_u64).unwrap_or_default())
    };
    let sample = async {
        loop {
            least.set(least.get().min(available().await?));
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        done = controller::rolled_out(&world.cluster) => done.map(|()| least.get()),
        failed = sample => failed,
    }
}

/// Evicts both Pods: the budget lets one go, and the other when the first has been replaced.
async fn drain(world: &World<'_>) -> anyhow::Result<()> {
    let leader = controller::lead(&world.cluster).await?.pod;
    let pods = world.kubelet.pods();
    let (first, second): (Vec<&Running>, Vec<&Running>) = pods.iter().partition(|pod| pod.name() == leader);
    for pod in &first {
        evict(world, pod).await?;
    }
    let refused =
        async |pod: &Running| evict(world, pod).await.err().map(|error| error.to_string()).unwrap_or_default();
    for pod in &second {
        let said = refused(pod).await;
        ensure!(said.contains("disruption budget"), "the second eviction was not refused: {said:?}");
    }
    controller::rolled_out(&world.cluster).await?;
    for pod in &second {
        wait_for("the budget to let the second Pod go", LANDS, async || evict(world, pod).await).await?;
    }
    controller::rolled_out(&world.cluster).await?;
    world.story.tell("both Pods were evicted, one after the other: the budget refused both at once");
    Ok(())
}

async fn evict(world: &World<'_>, pod: &Running) -> anyhow::Result<()> {
    let name = pod.name();
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let path = PODS.split('?').next().unwrap_or_default();
    let request = Request::post(format!("{path}/{name}/eviction")).header("Content-Type", "application/json");
    let request = request.body(body.to_string().into_bytes())?;
    world.cluster.client().request_text(request).await.map(drop).map_err(|error| anyhow!("{error}"))
}

/// Commits one after the other until `done`; returns how many have landed.
async fn land_commits(world: &World<'_>, done: &Cell<bool>) -> anyhow::Result<usize> {
    let mut commits = 0;
    while !done.get() {
        let value = format!("number {commits}");
        world.repository.commit(&value).await?;
        world.wait_for_commit(&value, LANDS).await?;
        commits += 1;
    }
    Ok(commits)
}

async fn check_tokens(world: &World<'_>, flux: &Flux, commits: usize) -> anyhow::Result<()> {
    let (failures, seen) = (flux.failures()?, world.azure().seen().await?);
    world.story.tell(&format!(
        "{commits} commits landed meanwhile, {} failed fetches of {}; {} mints",
        failures.len(),
        seen.looks(),
        seen.mints()
    ));
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    ensure!(seen.dead_tokens_seen == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    Ok(())
}
