//! A stage: the world, a simulated Kubernetes API, and the real controller between them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::identity::Pod;
use flux_bearer::preflight::POLICIES;
use flux_bearer_azure::binding::{Binding, TokenProxy, Variables};
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
use flux_bearer_sim::faults::{Faults, Verdict};
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::kube::Kube;
use flux_bearer_sim::service::Service;
use flux_bearer_sim::state::State;
use flux_bearer_sim::world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use kube::Client;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep};
use tower::{BoxError, ServiceExt, service_fn};

use crate::alerts::NotificationController;
use crate::gate::Gate;
use crate::identities::{ISSUER, SUBJECT, TENANT, client};

/// The namespace that everything happens in.
pub const NAMESPACE: &str = "flux-system";

/// Name of the lease that replicas hold.
pub const LEASE: &str = "flux-bearer-controller-leader-election";

/// Audience of the controller's service account token.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// The world, the Kubernetes API, and what the controller signs in with.
#[derive(Clone)]
pub struct Stage {
    /// Azure.
    pub world: World,
    /// Kubernetes. Its faults are its own.
    pub kube: Kube,
    /// Flux's notification-controller.
    pub alerts: NotificationController,
    /// The cluster's issuer of service account tokens.
    pub issuer: Issuer,
    /// The wall clock of the controller's machine, which a test may set.
    pub machine: Clock,
    /// What the controller counts.
    pub registry: Arc<Registry>,
    metrics: Metrics,
    assertion: Option<Arc<dyn Assertion>>,
    tampering: Tampering,
    turnstile: Turnstile,
    token_proxy: Option<&'static str>,
}

/// Requests that one instant has room for. A controller that goes round in a circle asks without end while no time passes, and
/// no test of it would ever end.
const AT_ONCE: u32 = 3_000;

/// Counts the requests of each instant. Clones share the count.
#[derive(Clone, Default)]
struct Turnstile {
    count: Arc<Mutex<Option<(Instant, u32)>>>,
    jammed: Arc<AtomicBool>,
}

impl Turnstile {
    /// Lets a request pass. From the first that is beyond its instant's share none gets an answer, so that time goes on.
    async fn pass(&self) {
        if !self.has_room() {
            self.jammed.store(true, Ordering::Relaxed);
        }
        if self.jammed.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn has_room(&self) -> bool {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = count.filter(|(at, _)| *at == now).map_or(0, |(_, passed)| passed) + 1;
        *count = Some((now, passed));
        passed <= AT_ONCE
    }
}

/// Sees the URL of a request to Azure, and changes its answer.
type Tampering = Arc<dyn Fn(&str, &mut Response<Body>) + Send + Sync>;

/// A machine that a controller runs on, with a clock of its own and a way of its own to the Kubernetes API.
#[derive(Clone)]
pub struct Machine {
    /// Who it is to the API: holder of the lease, and the user of its requests in the API's journal.
    pub name: String,
    /// Its wall clock.
    pub clock: Clock,
    /// What its requests to Kubernetes meet before they reach the API.
    pub way: Faults,
    /// Where all its requests pass.
    pub gate: Gate,
    /// By how many milliseconds the answers to writes of the lease are late on their way back.
    pub late: Arc<AtomicU64>,
}

impl Machine {
    async fn send(&self, life: u64, api: Service, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        request.headers_mut().insert("impersonate-user", HeaderValue::from_str(&self.name)?);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        match self.way.meet("kubernetes", request.method(), &path).await {
            Verdict::Serve => {
                let late = path.contains("/leases") && request.method() != Method::GET;
                let answer = self.gate.kubernetes(life, api, request).await;
                if late {
                    sleep(Duration::from_millis(self.late.load(Ordering::Relaxed))).await;
                }
                answer
            }
            Verdict::Instead(answer) => Ok(answer),
            Verdict::Refuse => Err("refused on the way".into()),
            Verdict::Cut(_) | Verdict::Lose => {
                api.oneshot(request).await?;
                Err("lost on the way back".into())
            }
        }
    }
}

/// A controller that runs on a stage.
pub struct Running {
    stop: watch::Sender<bool>,
    /// Whether everything has been listed.
    pub ready: watch::Receiver<bool>,
    task: JoinHandle<End>,
}

impl Running {
    /// Waits until it ends by itself, or panics.
    pub async fn ended(&mut self) -> Result<End, JoinError> {
        (&mut self.task).await
    }

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
    pub async fn end(mut self) -> Option<End> {
        self.ended().await.ok()
    }
}

impl Stage {
    /// A stage in this state, where it is 2026-12-01 08:00 UTC and all that deploy/ brings along is installed.
    pub fn new(state: State) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let bare = Self::bare(state)?;
        install(&bare.kube)?;
        Ok(bare)
    }

    /// The same with an empty cluster.
    pub fn bare(state: State) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let clock = Clock::starting_at("2026-12-01T08:00:00Z".parse()?);
        let issuer = Issuer::new(ISSUER)?;
        let world = World::new(state, clock.clone())?.with_issuer_client(issuer.service());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let kube = Kube::new(clock.clone(), Faults::default());
        kube.publish("/.well-known/openid-configuration", json!({"issuer": issuer.url()}));
        kube.publish("/openid/v1/jwks", serde_json::to_value(issuer.jwks())?);
        Ok(Self {
            kube,
            alerts: NotificationController::new(clock.clone()),
            machine: clock.fork(),
            assertion: Some(Arc::new(Projected { issuer: issuer.clone(), clock })),
            world,
            issuer,
            registry: Arc::new(registry),
            metrics,
            tampering: Arc::new(|_, _| {}),
            turnstile: Turnstile::default(),
            token_proxy: None,
        })
    }

    /// The same stage with another projected token.
    #[must_use]
    pub fn with_assertion(mut self, assertion: Arc<dyn Assertion>) -> Self {
        self.assertion = Some(assertion);
        self
    }

    /// The same stage with no projected token mounted.
    #[must_use]
    pub fn without_assertion(mut self) -> Self {
        self.assertion = None;
        self
    }

    /// The same stage with a pod whose identity signs in at this token proxy of AKS.
    #[must_use]
    pub fn with_token_proxy(mut self, url: &'static str) -> Self {
        self.token_proxy = Some(url);
        self
    }

    /// Starts a controller that is alone.
    pub fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    /// The same stage with something in between that sees the URL of each request to Azure, and changes its answer.
    #[must_use]
    pub fn with_tampering(mut self, tamper: impl Fn(&str, &mut Response<Body>) + Send + Sync + 'static) -> Self {
        self.tampering = Arc::new(tamper);
        self
    }

    /// A machine of its own for a controller named `name`: its clock, and its way to the Kubernetes API.
    pub fn machine(&self, name: &str) -> Machine {
        let (way, gate, late) = (Faults::default(), Gate::default(), Arc::default());
        Machine { name: name.into(), clock: self.world.clock().fork(), way, gate, late }
    }

    /// Starts a controller that holds a lease as `holder`, on the stage's own machine.
    pub fn start_replica(&self, holder: &str) -> Running {
        let machine = Machine { clock: self.machine.clone(), ..self.machine(holder) };
        self.start_replica_on(&machine)
    }

    /// Starts a controller that holds a lease under its machine's name.
    pub fn start_replica_on(&self, machine: &Machine) -> Running {
        let parts = self.parts(self.client_of(machine), self.azure_of(machine), machine.clock.clone());
        start(parts, |settings| {
            machine.name.clone_into(&mut settings.instance);
            settings.lease = Some(lease::Settings {
                name: LEASE.into(),
                holder: machine.name.clone(),
                duration: Duration::from_secs(35),
                renew_deadline: Duration::from_secs(30),
                retry_period: Duration::from_secs(5),
                release: true,
            });
        })
    }

    /// Starts a controller with other settings than usual.
    pub fn start_with(&self, change: impl FnOnce(&mut Settings)) -> Running {
        start(self.parts(self.client(), self.azure(), self.machine.clone()), change)
    }

    /// The client that the controller talks to Kubernetes with.
    pub fn client(&self) -> Client {
        let service = self.kube.service();
        Client::new(service.map_request(|request: Request<kube::client::Body>| request.map(Body::new)), NAMESPACE)
    }

    /// The client of a machine: past the faults of its way, and known to the API by the machine's name.
    fn client_of(&self, machine: &Machine) -> Client {
        let (inner, machine, life) = (self.kube.service(), machine.clone(), machine.gate.life());
        let turnstile = self.turnstile.clone();
        let send = service_fn(move |request: Request<kube::client::Body>| {
            let (inner, machine, turnstile) = (inner.clone(), machine.clone(), turnstile.clone());
            async move {
                turnstile.pass().await;
                machine.send(life, inner, request.map(Body::new)).await
            }
        });
        Client::new(send, NAMESPACE)
    }

    /// The way to Azure through a machine's gate.
    fn azure_of(&self, machine: &Machine) -> Http {
        let (service, gate, life) = (self.azure_service(), machine.gate.clone(), machine.gate.life());
        Http::new(service_fn(move |request| {
            let (service, gate) = (service.clone(), gate.clone());
            async move { gate.azure(life, service, request).await }
        }))
    }

    /// Whether more was asked in one instant than any work needs: of Azure, or by a machine of Kubernetes.
    pub fn is_jammed(&self) -> bool {
        self.turnstile.jammed.load(Ordering::Relaxed)
    }

    /// The way to Azure, and to the cluster's issuer.
    pub fn azure(&self) -> Http {
        let service = self.azure_service();
        Http::new(service_fn(move |request: Request<Full<Bytes>>| service.clone().oneshot(request.map(Body::new))))
    }

    /// The same as a service.
    pub fn azure_service(&self) -> Service {
        let (world, issuer, tampering) = (self.world.service(), self.issuer.service(), Arc::clone(&self.tampering));
        let turnstile = self.turnstile.clone();
        Service::new(service_fn(move |request: Request<Body>| {
            let (world, issuer, tampering) = (world.clone(), issuer.clone(), Arc::clone(&tampering));
            let turnstile = turnstile.clone();
            async move {
                turnstile.pass().await;
                let url = request.uri().to_string();
                if url.starts_with(ISSUER) {
                    return issuer.oneshot(request).await;
                }
                let mut answer = world.oneshot(request).await?;
                tampering(&url, &mut answer);
                Ok::<_, BoxError>(answer)
            }
        }))
    }

    fn parts(&self, client: Client, azure: Http, machine: Clock) -> Parts {
        Parts {
            client,
            azure: self.bound(Azure::new(azure.clone(), azure.clone(), Authority::default()), &azure),
            azure_devops: azure,
            assertion: self.assertion.clone(),
            receiver: self.alerts.receiver(),
            clock: ControllerClock::new(move || machine.now()),
            metrics: self.metrics.clone(),
        }
    }

    /// The token proxy where the pod is bound to one, which is reached as Azure is.
    fn bound(&self, azure: Azure, way: &Http) -> Azure {
        let variables = Variables { token_proxy: self.token_proxy, ..Variables::default() };
        match Binding::read(variables) {
            Ok(Some(binding)) => azure.with_token_proxy(TokenProxy::new(way.clone(), binding.address)),
            Ok(None) | Err(_) => azure,
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

/// Installs what deploy/ brings along, as far as the controller looks at it.
fn install(kube: &Kube) -> Result<(), serde_json::Error> {
    kube.apply(serde_json::to_value(flux_bearer::resource::definition())?);
    for name in POLICIES {
        for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
            let version = "admissionregistration.k8s.io/v1";
            kube.apply(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {}}));
        }
    }
    Ok(())
}

/// Starts a controller with these parts, and with other settings than usual.
fn start(parts: Parts, change: impl FnOnce(&mut Settings)) -> Running {
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
    let task = tokio::spawn(run(settings, parts, ready, stopped));
    Running { stop, ready: is_ready, task }
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
