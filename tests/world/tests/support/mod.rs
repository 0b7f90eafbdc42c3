//! A stage with an audience: helpers that read like the sentences of a test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses some of it, and a test may fail"
)]

pub(crate) mod lines;
pub(crate) mod pair;
pub(crate) mod rights;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::secret::RECORD;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::holding::{self, Fillings};
use flux_bearer_world::identities::{object, state};
use flux_bearer_world::stage::{NAMESPACE, Stage};
use http::Request;
use jiff::Timestamp;
use serde_json::Value;
use tower::ServiceExt;

/// A stage whose every Secret is watched for the token it holds.
pub(crate) struct Theatre {
    pub(crate) stage: Stage,
    fillings: Fillings,
    leases: Arc<Mutex<Vec<Lease>>>,
}

/// That somebody took, renewed or gave back the lease at a moment.
struct Lease {
    holder: String,
    at: Timestamp,
}

impl Theatre {
    /// A stage with one identity a lifetime.
    pub(crate) fn with(lifetimes: &[u32]) -> Self {
        let stage = Stage::new(state(lifetimes).unwrap()).unwrap();
        let fillings = Fillings::default();
        let leases: Arc<Mutex<Vec<Lease>>> = Arc::default();
        let (seen, renewals, clock) = (fillings.clone(), Arc::clone(&leases), stage.world.clock().clone());
        stage.kube.on_change(move |object| {
            if let Some(holder) = object["spec"]["holderIdentity"].as_str() {
                renewals.lock().unwrap().push(Lease { holder: holder.to_owned(), at: clock.now() });
            }
            seen.note(object, clock.now());
        });
        Self { stage, fillings, leases }
    }

    /// How many seconds, since it was first filled, a Secret held a token that had expired. The expiry is the token's own
    /// claim, so that a wrong annotation can't hide it.
    pub(crate) fn expired_seconds(&self, secret: &str) -> u64 {
        assert_ne!(self.fillings(secret), 0, "{secret} was never filled");
        self.fillings.expired_seconds(secret, self.stage.world.clock().now())
    }

    /// How often a Secret was filled with another token.
    pub(crate) fn fillings(&self, secret: &str) -> usize {
        self.fillings.of(secret).len()
    }

    /// Every token that a Secret has held.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.fillings.all().into_iter().map(|filling| filling.token).collect()
    }

    /// Everything that the controller has said to people: every BearerToken, every Event, every metric.
    pub(crate) fn said(&self) -> String {
        let mut metrics = String::new();
        prometheus_client::encoding::text::encode(&mut metrics, &self.stage.registry).unwrap();
        let objects = ["BearerToken", "Event"].into_iter().flat_map(|kind| self.stage.kube.list(kind));
        objects.map(|object| object.to_string()).chain([metrics]).collect()
    }

    /// The token that a Secret holds.
    pub(crate) fn token(&self, secret: &str) -> String {
        let object = self.stage.kube.get("Secret", NAMESPACE, secret).unwrap();
        holding::text(&object).unwrap()
    }

    /// What a Secret remembers of its token.
    pub(crate) fn record(&self, secret: &str) -> Value {
        let object = self.stage.kube.get("Secret", NAMESPACE, secret).unwrap();
        serde_json::from_str(object["metadata"]["annotations"][RECORD].as_str().unwrap()).unwrap()
    }

    /// When a GitRepository was last asked to look at once.
    pub(crate) fn nudged(&self, repository: &str) -> Value {
        let object = self.stage.kube.get("GitRepository", NAMESPACE, repository).unwrap();
        object["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"].clone()
    }

    /// How many seconds are left until the token of a Secret is to be replaced.
    pub(crate) fn seconds_to_refresh(&self, secret: &str) -> u64 {
        let due: Timestamp = self.record(secret)["refreshAt"].as_str().unwrap().parse().unwrap();
        due.duration_since(self.stage.world.clock().now()).as_secs().unsigned_abs()
    }

    /// The status that Git gets with what the Secret holds.
    pub(crate) async fn clone(&self, secret: &str) -> u16 {
        let request =
            Request::get("https://dev.azure.com/contoso/platform/_git/fleet/info/refs?service=git-upload-pack")
                .header("Authorization", format!("Bearer {}", self.token(secret)))
                .body(axum::body::Body::empty())
                .unwrap();
        self.stage.world.service().oneshot(request).await.unwrap().status().as_u16()
    }

    /// Lets requests to Azure whose path holds `path` meet `effect`.
    pub(crate) fn azure_fault(&self, name: &str, path: &str, effect: Effect) {
        let fault = Fault { name: name.into(), path: Some(path.into()), effect: Some(effect), ..Fault::default() };
        self.stage.world.faults().set(fault);
    }

    /// Lets requests to Kubernetes (whose path holds `path`) meet `effect`.
    pub(crate) fn kube_fault(&self, name: &str, path: Option<&str>, effect: Effect) {
        let fault =
            Fault { name: name.into(), path: path.map(str::to_owned), effect: Some(effect), ..Fault::default() };
        self.stage.kube.faults().set(fault);
    }

    /// Takes the right to read the repository from an identity.
    pub(crate) fn forbid(&self, identity: usize) {
        self.readers(|readers| readers.retain(|reader| *reader != object(identity)));
    }

    /// Gives the right to read the repository to an identity.
    pub(crate) fn permit(&self, identity: usize) {
        self.readers(|readers| readers.push(object(identity)));
    }

    /// Gives the right to read the repository `closed` to an identity.
    pub(crate) fn open_closed(&self, identity: usize) {
        let reader = object(identity);
        self.stage.world.edit(|state| state.organizations[0].projects[0].repositories[1].readers.push(reader)).unwrap();
    }

    fn readers(&self, change: impl FnOnce(&mut Vec<String>)) {
        self.stage.world.edit(|state| change(&mut state.organizations[0].projects[0].repositories[0].readers)).unwrap();
    }

    /// Who holds the lease, empty when it was given back.
    pub(crate) fn leader(&self) -> String {
        self.leases.lock().unwrap().last().map(|lease| lease.holder.clone()).unwrap_or_default()
    }

    /// Who wrote when since the journal was cleared, Lease apart. Every one of them held the lease at that moment, and
    /// had renewed it at most `deadline` seconds before.
    #[track_caller]
    pub(crate) fn writers_under_lease(&self, deadline: u64) -> Vec<(String, Timestamp)> {
        let leases = self.leases.lock().unwrap();
        let entries = self.stage.kube.journal().entries();
        let wrote = |verb: &str| ["create", "patch", "update", "delete"].contains(&verb);
        let requests = entries.iter().map(|entry| &entry.request);
        let writes = requests.filter(|request| request.resource != "leases" && wrote(request.verb.rbac()));
        let found: Vec<_> = writes.map(|request| (request.user.clone(), request.time)).collect();
        for (user, time) in &found {
            let lease = leases.iter().rev().find(|lease| lease.at <= *time);
            let lease = lease.unwrap_or_else(|| panic!("{user} wrote at {time} before anybody led"));
            assert_eq!(*user, lease.holder, "wrote at {time} without the lease");
            let age = time.duration_since(lease.at).as_secs().unsigned_abs();
            assert!(age <= deadline, "{user} wrote at {time}, {age} s after its last renewal");
        }
        found
    }

    /// Writes of the controller since the journal was cleared, Lease apart.
    pub(crate) fn writes(&self) -> usize {
        self.requests(&["create", "patch", "update", "delete"])
    }

    /// Reads of the controller since the journal was cleared, watches, Lease and the hourly look at the installation apart.
    pub(crate) fn reads(&self) -> usize {
        self.requests(&["get", "list"])
    }

    /// Of these, reads of single objects.
    pub(crate) fn gets(&self) -> usize {
        self.requests(&["get"])
    }

    fn requests(&self, verbs: &[&str]) -> usize {
        let apart = ["leases", "customresourcedefinitions"];
        self.stage.kube.journal().count_where(|entry| {
            let request = &entry.request;
            let counts = !apart.contains(&&*request.resource) && !request.resource.starts_with("validatingadmission");
            counts && verbs.contains(&request.verb.rbac())
        })
    }
}

/// An answer with this status and nothing in it.
pub(crate) fn answer(status: u16) -> Effect {
    Effect::Answer { status, retry_after: None, content_type: None, body: String::new() }
}

/// Lets simulated minutes pass.
pub(crate) async fn minutes(count: u64) {
    seconds(60 * count).await;
}

/// Lets simulated seconds pass.
pub(crate) async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}
