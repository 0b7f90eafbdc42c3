//! The watches of Secrets: one a Secret by its name, or one over all that carry our label; and whom neither tells of.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::NAME;
use kube::runtime::watcher::watcher;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::object::SecretMetadata;
use super::{Change, Kind, Scope, config, follow, key, paced};
use crate::act::Loop;
use crate::index::Key;
use crate::lock;

/// Secrets that are watched by name at most: each watch is a connection of its own.
pub const MAX_NAMED: usize = 100;

/// After how long a Secret that may not be watched is tried again. What it takes is a person's change of a Role.
const REFUSED: Duration = Duration::from_secs(300);

/// The same for the first time.
const STARTING: Duration = Duration::from_secs(15);

/// How Secrets are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Secrets {
    /// One watch a Secret, by its name: what a Role with resourceNames allows
    #[default]
    Named,
    /// One watch over all Secrets with our label, which needs the right to list and watch every Secret
    Labelled,
}

/// Which Secrets a watch tells of. The others are read once a minute.
pub enum Sight {
    /// One watch tells of all of ours, unless it is forbidden.
    Labelled {
        /// Whether it is.
        forbidden: AtomicBool,
    },
    /// Watches by name tell of some.
    Named(Named),
}

/// The Secrets that are watched by name.
#[derive(Default)]
pub struct Named {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    watched: HashSet<Key>,
    /// Those that may not be watched.
    refused: HashMap<Key, Refusals>,
}

/// A Secret that may not be watched.
#[derive(Clone, Copy)]
struct Refusals {
    /// Until when nobody asks again.
    until: Instant,
    /// How often it was refused. The first time may be the start of an API server, which has not read its roles yet.
    count: u32,
}

impl Sight {
    /// Nothing is watched yet.
    pub fn new(secrets: Secrets) -> Self {
        match secrets {
            Secrets::Named => Self::Named(Named::default()),
            Secrets::Labelled => Self::Labelled { forbidden: AtomicBool::new(false) },
        }
    }

    /// A Secret could be looked at: where Secrets are watched by name it is from now on, as long as there is room.
    pub fn looked_at(&self, secret: &Key) {
        if let Self::Named(named) = self {
            named.add(secret);
        }
    }

    /// The Secrets that a watch tells of; `None` means all of ours.
    pub fn seen(&self) -> Option<HashSet<Key>> {
        match self {
            Self::Labelled { forbidden } => forbidden.load(Ordering::Relaxed).then(HashSet::new),
            Self::Named(named) => Some(lock(&named.state).watched.clone()),
        }
    }

    /// Ends the watches of Secrets that nobody names any more.
    pub fn retain(&self, is_named: impl Fn(&Key) -> bool) {
        if let Self::Named(named) = self {
            named.retain(is_named);
        }
    }
}

impl Named {
    fn add(&self, secret: &Key) {
        let mut state = lock(&self.state);
        let refused = state.refused.get(secret).is_some_and(|refusals| Instant::now() < refusals.until);
        if !refused && state.watched.len() < MAX_NAMED && state.watched.insert(secret.clone()) {
            self.changed.notify_one();
        }
    }

    /// Ends the watch of a Secret that may not be watched; returns whether that is news.
    fn refuse(&self, secret: &Key) -> bool {
        let mut state = lock(&self.state);
        state.watched.remove(secret);
        self.changed.notify_one();
        let count = state.refused.get(secret).map_or(0, |refusals| refusals.count).saturating_add(1);
        let pause = if count == 1 { STARTING } else { REFUSED };
        state.refused.insert(secret.clone(), Refusals { until: Instant::now() + pause, count });
        count == 2
    }

    /// What may be watched after all is news again once it may not.
    fn permit(&self, secret: &Key) {
        lock(&self.state).refused.remove(secret);
    }

    fn retain(&self, is_named: impl Fn(&Key) -> bool) {
        let mut state = lock(&self.state);
        state.watched.retain(&is_named);
        state.refused.retain(|secret, _| is_named(secret));
        self.changed.notify_one();
    }
}

/// Watches Secrets, for ever. `listed` goes up once nothing more is to be waited for: at once where they are watched by
/// name, for those watches begin only when a Secret has been looked at.
pub(super) async fn all(work: &Arc<Loop>, client: Client, scope: &Scope, listed: watch::Sender<bool>) {
    match &work.sight {
        Sight::Labelled { forbidden } => labelled(work, client, scope, forbidden, listed).await,
        Sight::Named(named) => {
            listed.send_replace(true);
            by_name(work, client, named).await;
        }
    }
}

async fn labelled(
    work: &Arc<Loop>,
    client: Client,
    scope: &Scope,
    forbidden: &AtomicBool,
    listed: watch::Sender<bool>,
) {
    let kind = Kind {
        name: "Secret",
        forbidden: Some(
            "so each is read once a minute: add deploy/components/open to the kustomization of the controller, or start it \
             with --watch-secrets=named",
        ),
    };
    let ours = format!("{}={NAME}", flux_bearer::secret::PART_OF);
    let api: Api<SecretMetadata> = match &scope.namespace {
        Some(namespace) => Api::namespaced(paced(client), namespace),
        None => Api::all(paced(client)),
    };
    follow(watcher(api, config(Some(&ours))), &kind, &listed, |change| {
        let mut index = lock(&work.index);
        let woken = match change {
            Change::Seen(object) => index.secret(&key(&object), Some(&object.metadata)),
            Change::Gone(key) => index.secret(&key, None),
            Change::Listed(all) => {
                forbidden.store(false, Ordering::Relaxed);
                index.secrets_listed(&all)
            }
            Change::Forbidden => {
                forbidden.store(true, Ordering::Relaxed);
                Vec::new()
            }
        };
        drop(index);
        work.wake(woken);
    })
    .await;
}

/// Keeps one watch running for each Secret that is to be watched by name.
async fn by_name(work: &Arc<Loop>, client: Client, named: &Named) {
    let mut tasks = JoinSet::new();
    let mut running: HashMap<Key, AbortHandle> = HashMap::new();
    loop {
        let wanted = lock(&named.state).watched.clone();
        for (_, ended) in running.extract_if(|secret, _| !wanted.contains(secret)) {
            ended.abort();
        }
        while tasks.try_join_next().is_some() {}
        for secret in wanted {
            running.entry(secret).or_insert_with_key(|secret| {
                let (work, client, secret) = (Arc::clone(work), client.clone(), secret.clone());
                tasks.spawn(async move { one(&work, client, &secret).await })
            });
        }
        named.changed.notified().await;
    }
}

/// Watches one Secret by its name.
async fn one(work: &Loop, client: Client, secret: &Key) {
    let Sight::Named(named) = &work.sight else { return };
    let api: Api<SecretMetadata> = Api::namespaced(paced(client), &secret.namespace);
    let only = config(None).fields(&format!("metadata.name={}", secret.name));
    let kind = Kind { name: "Secret", forbidden: None };
    let (listed, _) = watch::channel(false);
    follow(watcher(api, only), &kind, &listed, |change| {
        let woken = match change {
            Change::Seen(object) => lock(&work.index).secret(secret, Some(&object.metadata)),
            Change::Gone(_) => lock(&work.index).secret(secret, None),
            Change::Listed(all) => {
                named.permit(secret);
                // A list may be older than our own write: what it lacks is looked at.
                if all.contains(secret) { Vec::new() } else { lock(&work.index).doubt(secret) }
            }
            Change::Forbidden => {
                if named.refuse(secret) {
                    tracing::error!(
                        namespace = &*secret.namespace,
                        name = &*secret.name,
                        "the Secret may be read but not watched, so it is read once a minute: give the controller's Role \
                         the verbs list and watch for it"
                    );
                }
                Vec::new()
            }
        };
        work.wake(woken);
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: usize) -> Key {
        Key::new("ns", &format!("secret-{number}"))
    }

    fn seen(sight: &Sight) -> HashSet<Key> {
        sight.seen().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_secrets_are_watched_by_name_as_there_is_room_for() {
        let sight = Sight::new(Secrets::Named);
        (0..MAX_NAMED + 5).for_each(|number| sight.looked_at(&secret(number)));
        assert_eq!(seen(&sight).len(), MAX_NAMED);
        assert!(!seen(&sight).contains(&secret(MAX_NAMED)));
        sight.retain(|named| *named != secret(0));
        sight.looked_at(&secret(MAX_NAMED));
        assert!(seen(&sight).contains(&secret(MAX_NAMED)) && !seen(&sight).contains(&secret(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_may_not_be_watched_is_told_once_and_tried_again_after_five_minutes() {
        let sight = Sight::new(Secrets::Named);
        let Sight::Named(named) = &sight else { unreachable!() };
        sight.looked_at(&secret(0));
        for (news, pause) in [(false, STARTING), (true, REFUSED), (false, REFUSED)] {
            assert_eq!(named.refuse(&secret(0)), news);
            sight.looked_at(&secret(0));
            assert!(seen(&sight).is_empty());
            tokio::time::advance(pause).await;
            sight.looked_at(&secret(0));
            assert_eq!(seen(&sight).len(), 1);
        }
        named.permit(&secret(0));
        assert!(!named.refuse(&secret(0)), "an API server may have started anew");
    }

    #[test]
    fn one_watch_tells_of_all_unless_it_is_forbidden() {
        let sight = Sight::new(Secrets::Labelled);
        assert_eq!(sight.seen(), None);
        if let Sight::Labelled { forbidden } = &sight {
            forbidden.store(true, Ordering::Relaxed);
        }
        assert_eq!(sight.seen(), Some(HashSet::new()));
    }
}
