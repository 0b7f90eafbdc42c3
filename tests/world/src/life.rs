//! What a cluster does by itself: it runs the Deployment that it is given, and Flux looks at what its GitRepositories read.

use std::time::Duration;

use flux_bearer_cli::kinds::ALL;
use flux_bearer_cli::manifests::CONTROLLER;
use flux_bearer_sim::kube::Verb;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::shell::OPERATOR_NAME;
use crate::stage::{NAMESPACE, Running, Stage};

/// A cluster that lives.
pub struct Life {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Life {
    /// Ends it, and the controller with it.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // How it ended is known.
        drop(self.task.await);
    }
}

/// Lets the cluster of a stage live.
pub fn live(stage: &Stage) -> Life {
    let (stop, mut stopped) = watch::channel(false);
    let stage = stage.clone();
    let task = tokio::spawn(async move {
        let mut controller: Option<Running> = None;
        while !*stopped.borrow_and_update() {
            controller = run(&stage, controller).await;
            pull(&stage);
            drop(timeout(TICK, stopped.changed()).await);
        }
        if let Some(running) = controller {
            running.kill().await;
        }
    });
    Life { stop, task }
}

/// How often the cluster looks at what there is.
const TICK: Duration = Duration::from_secs(1);

/// Runs the controller while there is a Deployment of it.
async fn run(stage: &Stage, controller: Option<Running>) -> Option<Running> {
    let deployed = stage.kube.get("Deployment", NAMESPACE, CONTROLLER).is_some();
    match (deployed, controller) {
        (true, None) => {
            let running = stage.start();
            stage.kube.patch_status(
                "Deployment",
                NAMESPACE,
                CONTROLLER,
                json!({"availableReplicas": 2, "replicas": 2}),
            );
            Some(running)
        }
        (false, Some(running)) => {
            running.kill().await;
            None
        }
        (_, controller) => controller,
    }
}

/// What source-controller says of each GitRepository: whether its Secret holds a bearer token.
fn pull(stage: &Stage) {
    for repository in stage.kube.list("GitRepository") {
        let text = |path: &str| repository.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let secret = stage.kube.get("Secret", NAMESPACE, text("/spec/secretRef/name"));
        let filled = secret.is_some_and(|secret| secret.pointer("/data/bearerToken").is_some());
        let (status, reason) = if filled { ("True", "Succeeded") } else { ("False", "AuthenticationFailed") };
        if text("/status/conditions/0/status") != status {
            let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": reason});
            let status = json!({"conditions": [condition]});
            stage.kube.patch_status("GitRepository", NAMESPACE, text("/metadata/name"), status);
        }
    }
}

/// Every object of the cluster that a set-up may make, as kind, namespace and name.
pub fn objects(stage: &Stage) -> Vec<String> {
    let of_kind = |kind: &str| {
        let name = move |object: Value| {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
        };
        stage.kube.list(kind).into_iter().map(name).collect::<Vec<_>>()
    };
    ALL.iter().flat_map(|kind| of_kind(kind.kind)).collect()
}

/// How many requests of the command line have changed something.
pub fn writes(stage: &Stage) -> usize {
    let entries = stage.kube.journal().entries();
    let writes = entries.iter().map(|entry| &entry.request).filter(|request| {
        let looks = matches!(request.verb, Verb::Get | Verb::List | Verb::Watch);
        request.user == OPERATOR_NAME && !looks && !request.dry_run && request.resource != "selfsubjectaccessreviews"
    });
    writes.count()
}
