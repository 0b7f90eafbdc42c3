//! A stage: the world, a simulated Kubernetes API, and the real controller between them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::identity::Pod;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::mint::Azure;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_controller::clock::Clock as ControllerClock;
use flux_bearer_controller::lease;
use flux_bearer_controller::metrics::Metrics;
use flux_bearer_controller::run::{End, Parts, Settings, run};
use flux_bearer_controller::watch::Scope;
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::kube::Kube;
use flux_bearer_sim::state::State;
use flux_bearer_sim::world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use kube::Client;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::identities::{ISSUER, SUBJECT, TENANT, client};

/// The namespace that everything happens in.
pub const NAMESPACE: &str = "flux-system";

/// Audience of the controller's service account token.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The world, the Kubernetes API, and what the controller signs in with.
#[derive(Clone)]
pub struct Stage {
    /// Azure.
    pub world: World,
    /// Kubernetes. Its faults are its own.
    pub kube: Kube,
    /// The cluster's issuer of service account tokens.
    pub issuer: Issuer,
    /// The wall clock of the controller's machine, which a test may set.
    pub machine: Clock,
    /// What the controller counts.
    pub registry: Arc<Registry>,
    metrics: Metrics,
    assertion: Arc<dyn Assertion>,
}

/// A controller that runs on a stage.
pub struct Running {
    stop: watch::Sender<bool>,
    /// Whether everything has been listed.
    pub ready: watch::Receiver<bool>,
    task: JoinHandle<End>,
}

impl Running {
    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) -> Option<End> {
        self.stop.send_replace(true);
        self.task.await.ok()
    }

    /// Ends it where it stands, as SIGKILL does.
    pub async fn kill(self) {
        self.task.abort();
        // Its end is waited for, so that nothing of it goes on; how it ended is known.
        drop(self.task.await);
    }

    /// Waits until it ends by itself.
    pub async fn end(self) -> Option<End> {
        self.task.await.ok()
    }
}

impl Stage {
    /// A stage in this state, where it is 2026-12-01 08:00 UTC.
    pub fn new(state: State) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let clock = Clock::starting_at("2026-12-01T08:00:00Z".parse()?);
        let issuer = Issuer::new(ISSUER)?;
        let world = World::new(state, clock.clone())?.with_issuer_client(issuer.service());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        Ok(Self {
            kube: Kube::new(clock.clone(), flux_bearer_sim::faults::Faults::default()),
            machine: clock.fork(),
            assertion: Arc::new(Projected { issuer: issuer.clone(), clock }),
            world,
            issuer,
            registry: Arc::new(registry),
            metrics,
        })
    }

    /// The same stage with another projected token.
    #[must_use]
    pub fn with_assertion(mut self, assertion: Arc<dyn Assertion>) -> Self {
        self.assertion = assertion;
        self
    }

    /// Starts a controller that is alone.
    pub fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    /// Starts a controller that holds a lease as `holder`.
    pub fn start_replica(&self, holder: &str) -> Running {
        self.start_with(|settings| {
            holder.clone_into(&mut settings.instance);
            settings.lease = Some(lease::Settings {
                name: "flux-bearer-controller-leader-election".into(),
                holder: holder.into(),
                duration: Duration::from_secs(35),
                renew_deadline: Duration::from_secs(30),
                retry_period: Duration::from_secs(5),
                release: true,
            });
        })
    }

    /// Starts a controller with other settings than usual.
    pub fn start_with(&self, change: impl FnOnce(&mut Settings)) -> Running {
        let mut settings = Settings {
            pod: Pod {
                namespace: NAMESPACE.into(),
                tenant_id: Some(TENANT.into()),
                client_id: Some(client(0)),
                allowed: Vec::new(),
            },
            instance: "controller-0".into(),
            scope: Scope::default(),
            concurrent: 8,
            longest: flux_bearer::schedule::MAX_REFRESH_INTERVAL,
            lease: None,
        };
        change(&mut settings);
        let (ready, is_ready) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(settings, self.parts(), ready, stopped));
        Running { stop, ready: is_ready, task }
    }

    /// The client that the controller talks to Kubernetes with.
    pub fn client(&self) -> Client {
        let service = self.kube.service();
        Client::new(service.map_request(|request: Request<kube::client::Body>| request.map(Body::new)), NAMESPACE)
    }

    /// The way to Azure.
    pub fn azure(&self) -> Http {
        Http::new(self.world.service().map_request(|request: Request<Full<Bytes>>| request.map(Body::new)))
    }

    fn parts(&self) -> Parts {
        let machine = self.machine.clone();
        Parts {
            client: self.client(),
            azure: Azure::new(self.azure(), self.azure(), Authority::default()),
            azure_devops: self.azure(),
            assertion: Some(Arc::clone(&self.assertion)),
            clock: ControllerClock::new(move || machine.now()),
            metrics: self.metrics.clone(),
        }
    }

    /// Stores a BearerToken as a person would with kubectl.
    pub fn bearer_token(&self, name: &str, spec: &Value) -> Value {
        self.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1",
            "kind": "BearerToken",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }))
    }

    /// Stores a GitRepository that reads Secret `secret`.
    pub fn git_repository(&self, name: &str, secret: &str, url: &str) -> Value {
        self.kube.apply(json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"url": url, "interval": "1m", "secretRef": {"name": secret}},
        }))
    }

    /// A condition of a BearerToken, as (status, reason, message).
    pub fn condition(&self, name: &str, kind: &str) -> Option<(String, String, String)> {
        let object = self.kube.get("BearerToken", NAMESPACE, name)?;
        let conditions = object.pointer("/status/conditions")?.as_array()?;
        let text = |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).map(str::to_owned);
        let found = conditions.iter().find(|condition| text(condition, "type").as_deref() == Some(kind))?;
        Some((text(found, "status")?, text(found, "reason")?, text(found, "message")?))
    }

    /// The status and reason of a condition, in one text; empty when there is none.
    pub fn says(&self, name: &str, kind: &str) -> String {
        self.condition(name, kind).map(|(status, reason, _)| format!("{status} {reason}")).unwrap_or_default()
    }
}

/// The controller's projected service account token, signed anew at every read.
struct Projected {
    issuer: Issuer,
    clock: Clock,
}

impl Assertion for Projected {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let token = self.issuer.sign(SUBJECT, AUDIENCE, Duration::from_secs(3600), self.clock.now());
        async move { Ok(SecretString::from(token)) }.boxed()
    }
}
