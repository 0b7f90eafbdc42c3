//! One Pod's life: bound to the node, its volumes made, its container started, probed, started again when it ends, and
//! stopped when the Pod is deleted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::container::Container;
use super::plan::{Plan, container};
use super::probe::Probe;
use super::running::{Running, Signal};
use super::status::{Phase, Reporter};
use super::volumes::Volumes;
use super::{Machine, NODE};
use crate::canary::VOLUMES;
use crate::cluster::NAMESPACE;

/// Pause between two looks at the container.
const BEAT: Duration = Duration::from_millis(250);

/// Pause before a container that has ended is started again. A kubelet begins with none, and goes up to five minutes.
const BACKOFF: Duration = Duration::from_secs(1);

/// Pause before a step that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Seconds that a container gets to end by itself, unless the Pod says otherwise.
const GRACE: u64 = 30;

/// Why a container no longer runs.
enum End {
    /// It ended, or did not live: to be started again.
    Ended(String),
    /// The Pod is to go.
    Deleted,
    /// Nobody is there to care.
    Lost,
}

/// A Pod, and what it takes to run it.
struct Life {
    machine: Arc<Machine>,
    running: Running,
    pod: watch::Receiver<Pod>,
    reporter: Reporter,
}

/// Runs the Pod until it is gone.
pub(super) async fn live(machine: Arc<Machine>, running: Running, pod: watch::Receiver<Pod>) {
    let reporter = Reporter::new(machine.client.clone());
    let mut life = Life { machine, running, pod, reporter };
    let mut bound = false;
    loop {
        let end = if life.is_deleted() { Ok(End::Deleted) } else { life.once(&mut bound).await };
        match end {
            Ok(End::Ended(how)) => {
                life.running.restarting();
                life.tell(Phase::Waiting("CrashLoopBackOff", how)).await;
                sleep(BACKOFF).await;
            }
            Ok(End::Deleted) if life.delete().await.is_ok() => return,
            Ok(End::Lost) => return,
            Ok(End::Deleted) => sleep(AGAIN).await,
            Err(error) => {
                life.tell(Phase::Waiting("CreateContainerConfigError", format!("{error:#}"))).await;
                sleep(AGAIN).await;
            }
        }
    }
}

impl Life {
    /// From a bound Pod to the end of its container.
    async fn once(&mut self, bound: &mut bool) -> anyhow::Result<End> {
        let pod = self.current();
        if !*bound {
            self.bind(&pod).await?;
            *bound = true;
        }
        let folder = self.machine.folder.join("pods").join(self.running.name());
        let mut volumes = Volumes::make(&self.machine.client, &pod, folder.join(VOLUMES)).await?;
        let image = self.machine.images.named(container(&pod)?.image.as_deref().unwrap_or_default())?;
        let plan = Plan::read(&self.machine.client, &pod, image, &self.running, &volumes).await?;
        let mut process = Container::start(&plan, image, &self.running, &folder).await?;
        let end = self.watch(&pod, &mut process, &mut volumes).await?;
        if matches!(end, End::Deleted) {
            let grace = self.current().metadata.deletion_grace_period_seconds;
            let grace = grace.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(GRACE);
            process.stop(Duration::from_secs(grace)).await?;
        }
        Ok(end)
    }

    /// The scheduler's part.
    async fn bind(&self, pod: &Pod) -> anyhow::Result<()> {
        let name = pod.name_any();
        let body = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding");
        let request =
            http::Request::post(path).header("Content-Type", "application/json").body(body.to_string().into())?;
        self.machine.client.request_text(request).await?;
        Ok(())
    }

    /// Probes the container, renews its tokens and tells of it, until it ends or has to.
    async fn watch(&mut self, pod: &Pod, process: &mut Container, volumes: &mut Volumes) -> anyhow::Result<End> {
        let spec = container(pod)?;
        let probe = |probe: &Option<_>, passing| {
            let probe = probe.as_ref().map(|probe| Probe::new(probe, spec, &self.running, passing));
            probe.transpose()
        };
        let (mut lives, mut ready) = (probe(&spec.liveness_probe, true)?, probe(&spec.readiness_probe, false)?);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = process.ended() => {
                    let ended = format!("the container ended: {}", ended?);
                    return Ok(if self.running.is_lost() { End::Lost } else { End::Ended(ended) });
                }
                _ = beat.tick() => {}
            }
            if self.is_deleted() {
                return Ok(End::Deleted);
            }
            if !passes(&mut lives).await {
                // An error means that it has ended by itself.
                drop(self.running.signal(Signal::Kill).await);
                continue;
            }
            // An error is the API server's absence, which an old token outlives.
            drop(volumes.renew(&self.machine.client, pod).await);
            let ready = passes(&mut ready).await;
            self.tell(Phase::Running { ready }).await;
        }
    }

    /// Takes the Pod away, now that its container has ended.
    async fn delete(&self) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.machine.client.clone(), NAMESPACE);
        let preconditions = Preconditions { uid: self.current().uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
        match pods.delete(self.running.name(), &params).await {
            Ok(_) => Ok(()),
            // Somebody was faster, or a namesake is there already.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell(&mut self, phase: Phase) {
        let pod = self.current();
        self.reporter.tell(&pod, phase, self.running.restarts()).await;
    }

    fn current(&self) -> Pod {
        self.pod.borrow().clone()
    }

    /// Whether the Pod is to go, or is gone already.
    fn is_deleted(&self) -> bool {
        self.pod.has_changed().is_err() || self.pod.borrow().metadata.deletion_timestamp.is_some()
    }
}

async fn passes(probe: &mut Option<Probe>) -> bool {
    match probe {
        Some(probe) => probe.passes().await,
        None => true,
    }
}
