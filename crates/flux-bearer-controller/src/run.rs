//! Wiring: from parts to a running loop, and to a stop that loses nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::identity::Pod;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::mint::Azure;
use flux_bearer_azure::workload::Assertion;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::act::Loop;
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::index::{Index, Key};
use crate::kubernetes::Kubernetes;
use crate::lease::{self, Elector, Leadership};
use crate::lock;
use crate::metrics::Metrics;
use crate::mints::Mints;
use crate::notifications::{Outbox, Receiver};
use crate::preflight::{Clocks, Preflight};
use crate::queue::Queue;
use crate::repositories::Repositories;
use crate::watch::secrets::Sight;
use crate::watch::{self as watches, Scope};

/// How long a stop waits for the work in hand. The kubelet kills after 30 s, and the lease has to be given back before.
const GRACE: Duration = Duration::from_secs(10);

/// How long a stop waits, after that, for what notification-controller is yet to be told: the status that would say it again
/// is stored already.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the clock is compared and memory is tidied.
const TIDY: Duration = Duration::from_secs(60);

/// What the loop is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The controller's own pod.
    pub pod: Pod,
    /// Name of this process.
    pub instance: String,
    /// Which objects are watched.
    pub scope: Scope,
    /// How many BearerTokens are worked on at the same time.
    pub concurrent: usize,
    /// Longest time between two refreshes.
    pub longest: Duration,
    /// The lease, unless nobody else is there.
    pub lease: Option<lease::Settings>,
}

/// What the loop works with: everything that a test replaces.
#[derive(Clone)]
pub struct Parts {
    /// The Kubernetes API.
    pub client: Client,
    /// Where tokens come from.
    pub azure: Azure,
    /// The way to Azure DevOps.
    pub azure_devops: Http,
    /// The pod's projected token.
    pub assertion: Option<Arc<dyn Assertion>>,
    /// notification-controller, unless nothing is posted.
    pub receiver: Option<Receiver>,
    /// Wall time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, finished the work in hand and gave the lease back.
    Stopped,
    /// Another process may lead now: this one must not go on, and ends to be started anew.
    LeaseLost,
}

/// Runs the loop until `stop` is up or the lease is lost. `ready` goes up once everything has been listed.
pub async fn run(settings: Settings, parts: Parts, ready: watch::Sender<bool>, mut stop: watch::Receiver<bool>) -> End {
    let (leads, leading) = watch::channel(settings.lease.is_none());
    let leadership = if settings.lease.is_some() { Leadership::contested() } else { Leadership::sole() };
    let clocks = Clocks::new(parts.clock.clone(), parts.metrics.clone());
    let (outbox, posting) = Outbox::open(parts.receiver.clone(), parts.metrics.clone());
    let work = assemble(&settings, &parts, outbox, leadership.clone(), clocks.clone());
    let preflight = Preflight {
        kubernetes: work.kubernetes.clone(),
        assertion: parts.assertion.clone(),
        audience: parts.azure.audience(),
        clocks,
    };
    let listed = ready.subscribe();
    let mut elector = settings.lease.clone().map(|lease| {
        let api = Api::namespaced(parts.client.clone(), &settings.pod.namespace);
        Elector::new(api, lease, parts.clock.clone(), leadership)
    });
    let mut background = JoinSet::new();
    background.spawn(watches::all(Arc::clone(&work), parts.client, settings.scope, ready));
    background.spawn(tidy(Arc::clone(&work)));
    background.spawn(preflight.watch());
    let mut posts = JoinSet::new();
    posts.spawn(posting);
    let (halt, halted) = watch::channel(false);
    let mut working = JoinSet::new();
    working.spawn(workers(Arc::clone(&work), settings.concurrent, listed, leading.clone(), halted));

    let elect = async {
        match &mut elector {
            Some(elector) => elector.run(&leads).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        biased;
        () = elect => End::LeaseLost,
        _ = stop.wait_for(|stop| *stop) => End::Stopped,
        () = count_leading(&work.metrics, leading) => End::Stopped,
    };
    halt.send_replace(true);
    if timeout(GRACE, working.join_next()).await.is_err() {
        tracing::warn!("the work in hand did not end in time");
    }
    background.shutdown().await;
    work.stop();
    if let Some(elector) = elector.as_mut().filter(|_| end == End::Stopped) {
        elector.release().await;
    }
    work.metrics.leads(false);
    work.outbox.close();
    // What can't be posted by then is in the cluster's Events.
    drop(timeout(FAREWELL, posts.join_next()).await);
    end
}

/// Counts whether this process leads, for ever.
async fn count_leading(metrics: &Metrics, mut leading: watch::Receiver<bool>) {
    loop {
        metrics.leads(*leading.borrow_and_update());
        if leading.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn assemble(settings: &Settings, parts: &Parts, outbox: Outbox, leadership: Leadership, clocks: Clocks) -> Arc<Loop> {
    let kubernetes = Kubernetes::new(parts.client.clone(), &settings.pod.namespace, leadership.clone());
    let credentials = Credentials { assertion: parts.assertion.clone(), kubernetes: kubernetes.clone() };
    let queue = Arc::new(Queue::default());
    let woken = Arc::clone(&queue);
    let wake = move |keys| {
        for key in &keys {
            woken.wake(key);
        }
    };
    let (clock, metrics) = (parts.clock.clone(), parts.metrics.clone());
    let mints = Mints::new(parts.azure.clone(), credentials, clock, clocks, metrics, wake);
    let index = Arc::new(Mutex::new(Index::new(settings.pod.clone())));
    parts.metrics.tell_of(&index);
    Arc::new(Loop {
        index,
        queue,
        mints: Arc::new(mints),
        kubernetes,
        repositories: Repositories::new(parts.azure_devops.clone(), parts.metrics.clone()),
        probes: Mutex::default(),
        clock: parts.clock.clone(),
        leadership,
        metrics: parts.metrics.clone(),
        longest: settings.longest,
        instance: settings.instance.clone(),
        outbox,
        sight: Sight::new(settings.scope.secrets),
    })
}

async fn tidy(work: Arc<Loop>) {
    loop {
        work.tidy();
        sleep(TIDY).await;
    }
}

/// Works on what is due, once everything is listed and this process leads, on at most `concurrent` at a time.
async fn workers(
    work: Arc<Loop>,
    concurrent: usize,
    mut listed: watch::Receiver<bool>,
    mut leading: watch::Receiver<bool>,
    mut halted: watch::Receiver<bool>,
) {
    let start = async {
        // An error means that the sender is gone: then nothing is due any more either.
        listed.wait_for(|up| *up).await.is_ok() && leading.wait_for(|up| *up).await.is_ok()
    };
    tokio::select! {
        biased;
        _ = halted.wait_for(|up| *up) => return,
        begun = start => if !begun { return },
    }
    // A new leader looks at everything: what it knows may be from before the old one's last write.
    work.wake(lock(&work.index).keys());
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = halted.wait_for(|up| *up) => break,
            Some(_) = running.join_next() => {}
            key = work.queue.next(), if running.len() < concurrent => {
                running.spawn(work_on(Arc::clone(&work), key));
            }
        }
    }
    // What is in hand is finished: a token on its way into a Secret is not lost.
    while running.join_next().await.is_some() {}
}

async fn work_on(work: Arc<Loop>, key: Key) {
    let next = work.work(&key).await;
    work.queue.done(&key, next);
}
