//! The stage: a simulated Azure and Kubernetes API, and the real controller between them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::identity::Pod;
use flux_bearer::schedule::MAX_REFRESH_INTERVAL;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::mint::Azure;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_controller::clock::Clock as ControllerClock;
use flux_bearer_controller::metrics::Metrics;
use flux_bearer_controller::run::{End, Parts, Settings, run};
use flux_bearer_controller::watch::Scope;
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::edge::backend::HttpBackend;
use flux_bearer_sim::edge::folder::Folder;
use flux_bearer_sim::faults::{Effect, Fault, Faults};
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::kube::Kube;
use flux_bearer_sim::state::State;
use flux_bearer_sim::world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::git::{Cloned, Git, URL};
use crate::proxy::Proxy;
use crate::sight::{Counts, Sight, look};
use crate::tell::Tell;

/// The state of the simulated Azure.
const WORLD: &str = include_str!("world.yaml");

/// The tenant, and the identity that may read the repository.
const TENANT: &str = "00000000-aaaa-4000-8000-000000000001";
const CLIENT: &str = "00000000-bbbb-4000-8000-000000000001";

/// Where the BearerToken, its Secret and the controller are, and the name of the first two.
pub(crate) const NAMESPACE: &str = "flux-system";

/// The service account that the controller signs in with.
const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer-controller";

/// Everything that the story plays on. Dropped, nothing of it stays.
pub(crate) struct Stage {
    world: World,
    kube: Kube,
    cluster: Cluster,
    git: Git,
    proxy: Proxy,
    ca: PathBuf,
    /// What can be seen.
    pub(crate) sight: watch::Receiver<Sight>,
    _folder: Folder,
}

impl Stage {
    /// A world with a repository in it and nothing in Kubernetes yet. git is found in `path` (the variable `PATH`).
    pub(crate) async fn build(path: OsString, now: Timestamp, tell: Tell, counts: Counts) -> anyhow::Result<Self> {
        let folder = Folder::create().context("can't make a temporary folder")?;
        let git = Git::find(path, folder.path()).await?;
        let mut state = State::from_yaml(WORLD)?;
        let repository = git.repository().await.context("can't make a repository to clone")?;
        let repositories = state.organizations.iter_mut().flat_map(|one| &mut one.projects);
        repositories.flat_map(|one| &mut one.repositories).for_each(|one| one.path = Some(repository.clone()));
        let clock = Clock::starting_at(now);
        let backend = Arc::new(HttpBackend::new(git.path().to_owned()));
        let cluster = Cluster::new(clock.clone())?;
        let world = World::new(state, clock.clone())?.with_git_backend(backend);
        let world = world.with_issuer_client(cluster.issuer.service());
        let kube = Kube::new(clock, Faults::default());
        let sight = look(&kube, tell, counts);
        let proxy = Proxy::start(world.service()).await?;
        let ca = folder.write("ca.pem", &proxy.ca_pem)?;
        Ok(Self { world, kube, cluster, git, proxy, ca, sight, _folder: folder })
    }

    /// Commits the BearerToken with this client id, as its GitRepository does. Without one it is the right one.
    pub(crate) fn commit(&self, client_id: Option<&str>) {
        let client_id = client_id.unwrap_or(CLIENT);
        self.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
            "metadata": {"namespace": NAMESPACE, "name": NAMESPACE},
            "spec": {"identity": {"tenantId": TENANT, "clientId": client_id}},
        }));
    }

    /// The GitRepository that fetches with the Secret.
    pub(crate) fn add_source(&self) {
        self.kube.apply(json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"namespace": NAMESPACE, "name": NAMESPACE},
            "spec": {"interval": "1m", "url": URL, "secretRef": {"name": NAMESPACE}},
        }));
    }

    /// Starts the controller.
    pub(crate) fn start_controller(&self) -> anyhow::Result<Controller> {
        let (ready, _) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(run(settings(), self.parts()?, ready, stopped));
        Ok(Controller { stop, running })
    }

    fn parts(&self) -> anyhow::Result<Parts> {
        let clock = self.world.clock().clone();
        let kubernetes = self.kube.service().map_request(|request: Request<kube::client::Body>| request.map(Body::new));
        let azure = Http::new(self.world.service().map_request(|request: Request<Full<Bytes>>| request.map(Body::new)));
        let authority = Authority::parse("https://login.microsoftonline.com/")?;
        Ok(Parts {
            client: kube::Client::new(kubernetes, NAMESPACE),
            azure: Azure::new(azure.clone(), azure.clone(), authority),
            azure_devops: azure,
            assertion: Some(Arc::new(self.cluster.clone())),
            receiver: None,
            clock: ControllerClock::new(move || clock.now()),
            metrics: Metrics::default(),
        })
    }

    /// The token in the Secret, read as source-controller reads it: anew for every fetch.
    pub(crate) fn token(&self) -> Option<SecretString> {
        let secret = self.kube.get("Secret", NAMESPACE, NAMESPACE)?;
        let bytes = STANDARD.decode(secret.pointer("/data/bearerToken")?.as_str()?).ok()?;
        Some(SecretString::from(String::from_utf8(bytes).ok()?))
    }

    /// Says in the GitRepository's status how a fetch ended, as source-controller does.
    pub(crate) fn report_fetch(&self, refused: bool) {
        let (status, reason, message) = if refused {
            ("False", "GitOperationFailed", "failed to checkout and determine revision: authentication required")
        } else {
            ("True", "Succeeded", "stored artifact for revision 'main'")
        };
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message});
        self.kube.patch_status("GitRepository", NAMESPACE, NAMESPACE, json!({"conditions": [ready]}));
    }

    /// Clones the repository with this token.
    pub(crate) async fn clone_with(&self, token: &SecretString) -> Cloned {
        self.git.clone_with(token, &self.proxy, &self.ca).await
    }

    /// Takes Entra ID down: from now on it answers every sign-in with 503.
    pub(crate) fn entra_down(&self) {
        self.world.faults().set(Fault {
            name: "entra".into(),
            host: Some("login.microsoftonline.com".into()),
            effect: Some(Effect::Answer { status: 503, retry_after: None, content_type: None, body: String::new() }),
            ..Fault::default()
        });
    }

    /// Brings it back.
    pub(crate) fn entra_up(&self) {
        self.world.faults().clear("entra");
    }

    /// The time in the world.
    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock().now()
    }
}

/// A running controller.
#[derive(Debug)]
pub(crate) struct Controller {
    stop: watch::Sender<bool>,
    running: JoinHandle<End>,
}

impl Controller {
    /// Lets it finish what it has in hand, as SIGTERM does.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.running.await.context("the controller ended badly")?;
        Ok(())
    }
}

fn settings() -> Settings {
    Settings {
        pod: Pod { namespace: NAMESPACE.to_owned(), ..Pod::default() },
        instance: "flux-bearer-demo".to_owned(),
        scope: Scope { namespace: Some(NAMESPACE.to_owned()), ..Scope::default() },
        concurrent: 4,
        longest: MAX_REFRESH_INTERVAL,
        lease: None,
    }
}

/// The cluster as Entra ID knows it: an issuer, and the token that it projects into the controller's pod.
#[derive(Clone)]
struct Cluster {
    issuer: Issuer,
    clock: Clock,
}

impl Cluster {
    fn new(clock: Clock) -> anyhow::Result<Self> {
        Ok(Self { issuer: Issuer::new("https://oidc.example/cluster/")?, clock })
    }
}

impl Assertion for Cluster {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        const LIFETIME: Duration = Duration::from_secs(3600);
        let token = self.issuer.sign(SUBJECT, "api://AzureADTokenExchange", LIFETIME, self.clock.now());
        std::future::ready(Ok(SecretString::from(token))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::LIFETIME;

    #[test]
    fn tokens_live_as_long_as_the_story_says() {
        let state = State::from_yaml(WORLD).unwrap();
        let (tenant, application) = state.application(CLIENT).unwrap();
        assert_eq!(tenant.id, TENANT);
        assert_eq!(application.token_lifetime_seconds.map(u64::from), Some(LIFETIME.as_secs()));
    }
}
