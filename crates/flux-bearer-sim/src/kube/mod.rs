//! Enough of the Kubernetes API for a controller, no more, and that much as kube-apiserver 1.33 does it.
//!
//! It serves get, list (pages, selectors), watch (bookmarks, 410, streaming lists), create, replace, delete, merge
//! patch and server-side apply of JSON objects, `status` subresources, metadata-only answers, `TokenRequest` and
//! `SelfSubjectAccessReview`. It knows no schema: nothing is pruned, and no list has keys. The two groups of Events are
//! two sets of objects. There is no discovery beyond the list of a group's resources, no JSON or strategic merge patch,
//! no delete of a collection, no garbage collection and no admission but its own.

mod admin;
mod check;
mod fields;
mod identifier;
mod journal;
mod managed;
mod object;
mod read;
mod refusal;
mod render;
mod request;
mod resource;
mod secret;
mod selector;
mod serve;
mod shape;
mod ssa;
mod store;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};

use crate::clock::Clock;
use crate::faults::Faults;
use crate::service::{Service, guarded};

pub use self::journal::{Entry, Journal};
pub use self::request::{DEFAULT_USER, RequestInfo, Verb};
pub use self::resource::ServedResource;

use self::refusal::{Answer, Refusal};
use self::store::Store;

type Authorizer = Arc<dyn Fn(&RequestInfo) -> bool + Send + Sync>;
type Listener = Arc<dyn Fn(&Value) + Send + Sync>;
type TokenIssuer = Arc<dyn Fn(&TokenRequest) -> String + Send + Sync>;

/// What a `TokenRequest` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub service_account: String,
    /// Whom the token is for.
    pub audiences: Vec<String>,
    /// How long it is to live, in seconds; 3600 where the request names nothing.
    pub expiration_seconds: i64,
}

/// A Kubernetes API server with its storage. Clones share it.
///
/// Requests go through [`Kube::service`] and meet its faults and its authoriser. The other methods are a person with
/// kubectl and every right: no fault touches them, and watches see what they do.
#[derive(Clone)]
pub struct Kube {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    faults: Faults,
    journal: Journal,
    store: Mutex<Store>,
    hooks: RwLock<Hooks>,
}

#[derive(Clone, Default)]
struct Hooks {
    authorizer: Option<Authorizer>,
    listener: Option<Listener>,
    token_issuer: Option<TokenIssuer>,
    documents: BTreeMap<String, Value>,
}

impl fmt::Debug for Kube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kube").field("revision", &self.store().revision).finish_non_exhaustive()
    }
}

impl Kube {
    /// A server with the namespaces `default`, `kube-system` and `flux-system` and nothing in them.
    pub fn new(clock: Clock, faults: Faults) -> Self {
        let kube = Self {
            inner: Arc::new(Inner {
                clock,
                faults,
                journal: Journal::default(),
                store: Mutex::new(Store::new()),
                hooks: RwLock::default(),
            }),
        };
        for name in ["default", "kube-system", "flux-system"] {
            kube.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        kube
    }

    /// The HTTP API. It answers for every host; its journal has each request of a resource, faults included.
    pub fn service(&self) -> Service {
        let kube = self.clone();
        let answering = service_fn(move |request: Request<Body>| {
            let kube = kube.clone();
            async move { Ok::<_, Infallible>(serve::answer(kube, request).await) }
        });
        let guarded = guarded(self.inner.faults.clone(), answering);
        let (journal, clock) = (self.journal(), self.inner.clock.clone());
        Service::new(service_fn(move |request: Request<Body>| {
            let (journal, guarded) = (journal.clone(), guarded.clone());
            let number = RequestInfo::of(&request, clock.now()).map(|info| journal.arrived(info));
            async move {
                let response = guarded.oneshot(request).await?;
                if let Some(number) = number {
                    journal.answered(number, response.status().as_u16());
                }
                Ok(response)
            }
        }))
    }

    /// The faults that requests meet.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The requests so far.
    pub fn journal(&self) -> Journal {
        self.inner.journal.clone()
    }

    /// Serves a resource more, or the same one in another way. Its objects stay.
    pub fn serve_resource(&self, resource: ServedResource) {
        self.store().serve(resource);
    }

    /// Stops serving a resource and forgets its objects, as deleting a CRD does; its watches end and its paths answer
    /// `404 page not found`. `false` when it was not served.
    pub fn remove_resource(&self, group: &str, plural: &str) -> bool {
        self.store().unserve(&resource::qualified(plural, group))
    }

    /// Asks `allows` about every request, and answers 403 where it says no. An apply that creates is asked about twice:
    /// as `patch` and as `create`, like the real server does. `allows` must not call this server.
    pub fn set_authorizer(&self, allows: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static) {
        self.hooks_mut(|hooks| hooks.authorizer = Some(Arc::new(allows)));
    }

    /// Calls `listener` with every object that is written, before the write is answered. Deletions are not told.
    pub fn on_change(&self, listener: impl Fn(&Value) + Send + Sync + 'static) {
        self.store().keep_committed();
        self.hooks_mut(|hooks| hooks.listener = Some(Arc::new(listener)));
    }

    /// Answers `TokenRequest`s with the tokens that `issue` makes. Without it they are refused.
    pub fn issue_tokens(&self, issue: impl Fn(&TokenRequest) -> String + Send + Sync + 'static) {
        self.hooks_mut(|hooks| hooks.token_issuer = Some(Arc::new(issue)));
    }

    /// Serves a document at a path that is no resource's, for example `/.well-known/openid-configuration`.
    pub fn publish(&self, path: &str, document: Value) {
        self.hooks_mut(|hooks| drop(hooks.documents.insert(path.to_owned(), document)));
    }

    /// Forgets the history: whoever asks for changes since an earlier revision is told 410. Watches that are up to date
    /// go on.
    pub fn compact(&self) {
        self.store().compact();
    }

    /// Ends every live watch in good order, as a restart of the server does.
    pub fn close_watches(&self) {
        self.store().close_watches();
    }

    /// Lets every live watch fall silent: it stays open and tells nothing any more, not even its end, as one whose packets are
    /// dropped. Whoever watches anew is told again.
    pub fn silence_watches(&self) {
        self.store().silence_watches();
    }

    /// Runs a write, then tells the listener what it stored.
    fn change<T>(&self, write: impl FnOnce(&mut Store) -> T) -> T {
        let (result, committed) = {
            let mut store = self.store();
            (write(&mut store), store.take_committed())
        };
        if let (Some(listener), false) = (self.hooks().listener, committed.is_empty()) {
            for object in committed {
                listener(&object);
            }
        }
        result
    }

    fn document(&self, path: &str) -> Option<Value> {
        self.hooks().documents.get(path).cloned()
    }

    fn allows(&self, info: &RequestInfo) -> bool {
        self.hooks().authorizer.is_none_or(|allows| allows(info))
    }

    /// The status of a `TokenRequest`.
    fn issue_token(&self, namespace: &str, service_account: &str, spec: &Value) -> Answer<Value> {
        let issue = self.hooks().token_issuer.ok_or_else(|| Refusal::internal("no token issuer is set"))?;
        let audiences = spec.get("audiences").and_then(Value::as_array).into_iter().flatten();
        let expiration_seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
        let token = issue(&TokenRequest {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            audiences: audiences.filter_map(Value::as_str).map(str::to_owned).collect(),
            expiration_seconds,
        });
        let expires = self.inner.clock.now() + jiff::SignedDuration::from_secs(expiration_seconds);
        Ok(json!({"token": token, "expirationTimestamp": write::seconds(expires)}))
    }

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> Hooks {
        self.inner.hooks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hooks_mut(&self, change: impl FnOnce(&mut Hooks)) {
        change(&mut self.inner.hooks.write().unwrap_or_else(PoisonError::into_inner));
    }
}
