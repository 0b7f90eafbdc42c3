//! What the API server is told of a Pod.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::plan::container;
use crate::cluster::NAMESPACE;

/// What its container is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// It can't be started, or has ended and is about to be started again: reason and message.
    Waiting(&'static str, String),
    /// It runs.
    Running {
        /// Whether it is ready.
        ready: bool,
    },
}

/// Tells the API server what has changed.
pub(super) struct Reporter {
    client: Client,
    told: Option<(Phase, u32)>,
    ready_since: Time,
    started: Time,
}

impl Reporter {
    /// Nothing has been told yet.
    pub(super) fn new(client: Client) -> Self {
        Self { client, told: None, ready_since: now(), started: now() }
    }

    /// Tells of `phase`, unless that has been told. What the API server doesn't take is told again the next time.
    pub(super) async fn tell(&mut self, pod: &Pod, phase: Phase, restarts: u32) {
        let news = (phase, restarts);
        if self.told.as_ref() == Some(&news) {
            return;
        }
        let is_ready = |told: &Phase| matches!(told, Phase::Running { ready: true });
        if self.told.as_ref().is_none_or(|(told, _)| is_ready(told) != is_ready(&news.0)) {
            self.ready_since = now();
        }
        if self.told.as_ref().is_none_or(|(_, told)| *told != restarts) {
            self.started = now();
        }
        let body = self.status(pod, &news.0, restarts);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patched = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(body)).await;
        if patched.is_ok() {
            self.told = Some(news);
        }
    }

    fn status(&self, pod: &Pod, phase: &Phase, restarts: u32) -> Value {
        let (name, image) = container(pod).map_or(("", None), |found| (&*found.name, found.image.as_deref()));
        let (ready, state) = match phase {
            Phase::Waiting(reason, message) => (false, json!({"waiting": {"reason": reason, "message": message}})),
            Phase::Running { ready } => (*ready, json!({"running": {"startedAt": self.started}})),
        };
        let condition = |name: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            json!({"type": name, "status": status, "lastTransitionTime": self.ready_since})
        };
        let running = matches!(phase, Phase::Running { .. });
        json!({"status": {
            "phase": if running || restarts > 0 { "Running" } else { "Pending" },
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready)],
            "containerStatuses": [{
                "name": name, "image": image, "imageID": "", "ready": ready, "started": running,
                "restartCount": restarts, "state": state,
            }],
        }})
    }
}

#[allow(clippy::disallowed_methods, reason = "a kubelet tells the time; nothing is decided by it")]
fn now() -> Time {
    Time(Timestamp::now())
}
