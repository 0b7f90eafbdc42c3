//! A stand-in for scheduler, kubelet and container runtime: it runs the Pods of our Deployment, and of Flux's, as the API
//! server stores them, out of their images' root filesystems.
//!
//! What it does otherwise than they do: all Pods share one network, so two flags are appended to each one's arguments that
//! give it ports of its own; there are no Services, so source-controller is told to name itself by its address; and a Pod
//! that is not ready is probed every half second.

mod container;
mod image;
mod plan;
mod pod;
mod probe;
mod running;
mod status;
mod volumes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub(crate) use self::image::{Image, Images};
pub(crate) use self::running::{Running, Signal};
use crate::cluster::NAMESPACE;

/// Label of the Pods that are run.
const PODS: &str = "app in (flux-bearer-controller,source-controller,kustomize-controller)";

/// Name of the node that they run on. There is no such object, and nobody misses it.
const NODE: &str = "e2e";

/// Pause between two looks at the Pods. A list instead of a watch: it lives through an API server that restarts.
const LOOK: Duration = Duration::from_millis(250);

/// The first of the ports that are given to Pods, two each.
const FIRST_PORT: u16 = 20_000;

/// The stand-in. Dropped, its Pods are killed.
pub(crate) struct Kubelet {
    machine: Arc<Machine>,
    task: JoinHandle<()>,
}

/// What all Pods share.
struct Machine {
    client: Client,
    folder: PathBuf,
    images: Images,
    pods: Mutex<Vec<Running>>,
}

impl Kubelet {
    /// Runs Pods from now on, with its files and their logs in `folder`.
    pub(crate) fn start(client: Client, images: Images, folder: &Path) -> Self {
        let machine = Arc::new(Machine { client, folder: folder.to_owned(), images, pods: Mutex::default() });
        let task = tokio::spawn(follow(Arc::clone(&machine)));
        Self { machine, task }
    }

    /// The Pods that run, oldest first.
    pub(crate) fn pods(&self) -> Vec<Running> {
        self.machine.pods().iter().filter(|pod| pod.runs()).cloned().collect()
    }

    /// The Pod that runs, where only one does.
    pub(crate) fn pod(&self) -> anyhow::Result<Running> {
        match self.pods().as_slice() {
            [pod] => Ok(pod.clone()),
            pods => bail!("{} Pods run", pods.len()),
        }
    }

    /// The Pod of this name.
    pub(crate) fn named(&self, name: &str) -> anyhow::Result<Running> {
        let found = self.pods().into_iter().find(|pod| pod.name() == name);
        found.with_context(|| format!("no Pod {name} runs"))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Machine {
    fn pods(&self) -> MutexGuard<'_, Vec<Running>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more Pod.
    fn admit(&self, name: &str) -> anyhow::Result<Running> {
        let mut pods = self.pods();
        let port = FIRST_PORT + 2 * u16::try_from(pods.len())?;
        let running = Running::new(name, port, &self.folder.join("logs"));
        pods.push(running.clone());
        Ok(running)
    }
}

/// Looks at the Pods for ever, and lets each of them live in a task of its own.
async fn follow(machine: Arc<Machine>) {
    let api: Api<Pod> = Api::namespaced(machine.client.clone(), NAMESPACE);
    let params = ListParams::default().labels(PODS);
    let mut tasks = JoinSet::new();
    let mut known: HashMap<String, watch::Sender<Pod>> = HashMap::new();
    loop {
        // An error is the API server's absence, which containers outlive.
        if let Ok(list) = api.list(&params).await {
            known.retain(|uid, _| list.items.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
            for pod in list.items {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                if let Some(sender) = known.get(&uid) {
                    sender.send_replace(pod);
                    continue;
                }
                match machine.admit(&pod.name_any()) {
                    Ok(running) => {
                        let (sender, receiver) = watch::channel(pod);
                        tasks.spawn(pod::live(Arc::clone(&machine), running, receiver));
                        known.insert(uid, sender);
                    }
                    Err(error) => eprintln!("no more Pods can run: {error}"),
                }
            }
        }
        sleep(LOOK).await;
    }
}
