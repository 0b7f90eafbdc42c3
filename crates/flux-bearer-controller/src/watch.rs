//! The watches: BearerTokens, the metadata of our Secrets, and GitRepositories, each into the index.

mod object;
pub mod secrets;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::resource::{BearerToken, BearerTokenStatus};
use futures::future::ready;
use futures::{Stream, StreamExt, TryStreamExt};
use http::Request;
use kube::api::Api;
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tower::service_fn;

use crate::act::Loop;
use crate::index::{Key, Seen, Source, unread};
use crate::lock;
pub use crate::watch::object::Object;
use crate::watch::secrets::Secrets;

/// Least time between two starts of one watch. kube's watcher starts one that has ended in good order anew without a
/// pause, so a server that ends each at once would be asked as fast as it answers.
const PACE: Duration = Duration::from_secs(1);

/// How long a list or the start of a watch may be silent. The API server itself gives up a list after a minute; kube's
/// client never does, and a reply that never comes must not be the end of a watch.
const SILENCE: Duration = Duration::from_secs(60);

/// Objects a page: bounds what a list of ten thousand takes in memory at once.
const PAGE: u32 = 100;

/// Which objects are watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only BearerTokens with these labels.
    pub selector: Option<String>,
    /// How Secrets are watched.
    pub secrets: Secrets,
}

impl Scope {
    fn api(&self, client: Client, kind: &ApiResource) -> Api<Object> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, kind),
            None => Api::all_with(client, kind),
        }
    }
}

/// Watches everything, for ever. The Secrets wait for the BearerTokens, which tell what their metadata is looked at for;
/// `ready` becomes true once all three have been listed once, or can't be.
pub async fn all(work: Arc<Loop>, client: Client, scope: Scope, ready: watch::Sender<bool>) {
    let (listed, tokens_listed) = watch::channel(false);
    let sources_listed = watch::channel(false);
    let secrets_listed = watch::channel(false);
    let tokens = bearer_tokens(&work, client.clone(), &scope, listed);
    let sources = sources(&work, client.clone(), &scope, sources_listed.0);
    let secrets = async {
        let mut tokens_listed = tokens_listed;
        until(&mut tokens_listed).await;
        secrets::all(&work, client, &scope, secrets_listed.0).await;
    };
    let all_listed = async {
        let (mut sources, mut secrets) = (sources_listed.1, secrets_listed.1);
        until(&mut sources).await;
        until(&mut secrets).await;
        ready.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::join!(tokens, sources, secrets, all_listed);
}

/// `client` for one watch, with a pause of at least [`PACE`] between two starts, and no longer than [`SILENCE`] without a
/// reply.
fn paced(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let next = Arc::new(Mutex::new(Instant::now()));
    let send = service_fn(move |request: Request<Body>| {
        let (client, next) = (client.clone(), Arc::clone(&next));
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let turn = turn(&next);
                sleep_until(turn).await;
            }
            match timeout(SILENCE, client.send(request)).await {
                Ok(reply) => reply,
                Err(silence) => Err(kube::Error::Service(silence.into())),
            }
        }
    });
    Client::new(send, namespace)
}

/// When the next one may start; the one after it [`PACE`] later.
fn turn(next: &Mutex<Instant>) -> Instant {
    let mut next = lock(next);
    let turn = (*next).max(Instant::now());
    *next = turn + PACE;
    turn
}

/// Waits until the flag is up.
async fn until(flag: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever would be waited for.
    if flag.wait_for(|up| *up).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn config(selector: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default().page_size(PAGE);
    match selector {
        Some(selector) => config.labels(selector),
        None => config,
    }
}

async fn bearer_tokens(work: &Arc<Loop>, client: Client, scope: &Scope, listed: watch::Sender<bool>) {
    let kind = ApiResource::erase::<BearerToken>(&());
    let stream = watcher(scope.api(paced(client), &kind), config(scope.selector.as_deref()));
    let kind = Kind { name: "BearerToken", forbidden: Some(CLUSTER_ROLE) };
    follow(stream, &kind, &listed, |event| {
        let now = work.clock.now();
        let mut index = lock(&work.index);
        let woken = match event {
            Change::Seen(object) => {
                let key = key(&object);
                index.bearer_token(&key, seen(object), now)
            }
            Change::Gone(key) => {
                work.queue.forget(&key);
                index.bearer_token_gone(&key)
            }
            Change::Listed(all) => {
                let gone: Vec<Key> = index.keys().into_iter().filter(|key| !all.contains(key)).collect();
                for key in &gone {
                    work.queue.forget(key);
                }
                gone.iter().flat_map(|key| index.bearer_token_gone(key)).collect()
            }
            Change::Forbidden => Vec::new(),
        };
        drop(index);
        work.wake(woken);
    })
    .await;
}

async fn sources(work: &Arc<Loop>, client: Client, scope: &Scope, listed: watch::Sender<bool>) {
    let kind = GroupVersionKind::gvk("source.toolkit.fluxcd.io", "v1", "GitRepository");
    let kind = ApiResource::from_gvk_with_plural(&kind, "gitrepositories");
    let stream = watcher(scope.api(paced(client), &kind), config(None));
    let mut known: HashSet<Key> = HashSet::new();
    let kind = Kind { name: "GitRepository", forbidden: Some(CLUSTER_ROLE) };
    follow(stream, &kind, &listed, |event| {
        let mut index = lock(&work.index);
        let woken = match event {
            Change::Seen(object) => {
                let key = key(&object);
                known.insert(key.clone());
                index.source(&key, Source::read(&object))
            }
            Change::Gone(key) => {
                known.remove(&key);
                index.source(&key, None)
            }
            Change::Listed(all) => {
                let gone: Vec<Key> = known.extract_if(|key| !all.contains(key)).collect();
                gone.iter().flat_map(|key| index.source(key, None)).collect()
            }
            Change::Forbidden => Vec::new(),
        };
        drop(index);
        work.wake(woken);
    })
    .await;
}

/// What to do where BearerTokens or GitRepositories may not be watched.
const CLUSTER_ROLE: &str =
    "kubectl apply -k deploy/base, which brings ClusterRole flux-bearer-controller and its binding";

/// What is watched.
struct Kind {
    /// Its name.
    name: &'static str,
    /// What to say where the right is missing, unless whoever watches says it.
    forbidden: Option<&'static str>,
}

/// One change that a watch brings.
enum Change<K> {
    /// An object is there, new or changed.
    Seen(K),
    /// An object is gone.
    Gone(Key),
    /// A complete list: whatever is not in it is gone.
    Listed(HashSet<Key>),
    /// There is no right to watch: nothing will be told until there is.
    Forbidden,
}

/// Follows a watch for ever. `listed` goes up after the first list, or at the first error: what can't be listed (no
/// right, no such kind) is found out object by object.
async fn follow<K, S>(stream: S, kind: &Kind, listed: &watch::Sender<bool>, mut take: impl FnMut(Change<K>))
where
    K: ResourceExt,
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    // An attempt to list begins with Init, whatever comes of it: that is no success, and must not end a backoff.
    let stream = stream.try_filter(|event| ready(!matches!(event, Event::Init)));
    let mut stream = pin!(stream.default_backoff());
    let mut list = HashSet::new();
    let mut failing = false;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                failing = false;
                match event {
                    Event::Init => {}
                    Event::InitApply(object) => {
                        list.insert(key(&object));
                        take(Change::Seen(object));
                    }
                    Event::Apply(object) => take(Change::Seen(object)),
                    Event::Delete(object) => take(Change::Gone(key(&object))),
                    Event::InitDone => {
                        take(Change::Listed(std::mem::take(&mut list)));
                        listed.send_replace(true);
                    }
                }
            }
            Err(error) => {
                // The next list begins anew.
                list.clear();
                // Said once a run of errors: the watch tries again by itself, with backoff.
                let news = !std::mem::replace(&mut failing, true);
                match (code(&error), kind.forbidden) {
                    (Some(403), fix) => {
                        if let Some(fix) = fix.filter(|_| news) {
                            tracing::error!(kind = kind.name, "may not be listed and watched, {fix}");
                        }
                        take(Change::Forbidden);
                    }
                    (code, _) if news => {
                        let code = code.map_or_else(|| "ConnectionFailed".to_owned(), |code| format!("HTTP {code}"));
                        tracing::warn!(kind = kind.name, code, "the watch was interrupted");
                    }
                    _ => {}
                }
                listed.send_replace(true);
            }
        }
    }
}

/// The status that interrupted a watch, where there was one; never the text of an error, which may hold a reply.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn key(object: &impl ResourceExt) -> Key {
    Key::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// A BearerToken as read from what the API server stores.
pub fn seen(object: Object) -> Seen {
    let Object { metadata, spec, status } = object;
    let spec = Some(spec).filter(has_objects).and_then(|spec| serde_json::from_value(spec).ok());
    let status: BearerTokenStatus = serde_json::from_value(status).unwrap_or_default();
    let content = spec.map(|spec| (spec, status)).ok_or_else(unread);
    Seen { metadata, content }
}

/// Whether the spec has objects where they belong: serde would read a list as one, field by field.
fn has_objects(spec: &serde_json::Value) -> bool {
    let object = |path: &&str| spec.pointer(path).is_none_or(serde_json::Value::is_object);
    ["", "/identity", "/identity/secretRef", "/secret"].iter().all(object)
}
