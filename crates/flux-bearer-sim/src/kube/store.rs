//! What is stored: the objects of each resource, in the order of their keys, and a bounded history of changes.
//!
//! One revision counts all writes, as etcd's does. A write costs the logarithm of the number of objects, and one
//! wake-up a live watch; objects are shared, never copied, between the store, its history and the watches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::object;
use super::refusal::{Answer, Refusal};
use super::resource::ServedResource;

/// How many changes of one resource are remembered: enough for 10 000 objects to change before a watch looks.
const HISTORY: usize = 32_768;

/// Everything the API server knows.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) revision: u64,
    /// How many objects were ever created; seeds uids and generated names.
    pub(super) created: u64,
    collections: HashMap<String, Collection>,
    /// What was written since it was last taken, for whoever asked to be told.
    committed: Option<Vec<Arc<Value>>>,
}

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) resource: Arc<ServedResource>,
    objects: BTreeMap<String, Arc<Value>>,
    history: VecDeque<Change>,
    /// No request may ask for changes since an earlier revision.
    compacted: u64,
    /// The last change that is no longer remembered. A live watch that has read it lacks nothing.
    forgotten: u64,
    /// Wakes live watches, and says whether they have fallen silent.
    signal: watch::Sender<bool>,
    /// That of watches which have.
    silent: Vec<watch::Sender<bool>>,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    key: String,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
}

/// Where an object is kept: `namespace/name`, or `name` for the cluster's objects.
pub(super) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl Store {
    pub(super) fn new() -> Self {
        let mut store = Self { revision: 1, created: 0, collections: HashMap::new(), committed: None };
        for resource in ServedResource::defaults() {
            store.serve(resource);
        }
        store
    }

    /// Serves a resource, with the objects that it had if it was served before.
    pub(super) fn serve(&mut self, resource: ServedResource) {
        let (key, resource) = (resource.qualified(), Arc::new(resource));
        if let Some(collection) = self.collections.get_mut(&key) {
            collection.resource = resource;
        } else {
            self.collections.insert(key, Collection::new(resource));
        }
    }

    /// Forgets a resource with its objects; its watches end.
    pub(super) fn unserve(&mut self, qualified: &str) -> bool {
        self.collections.remove(qualified).is_some()
    }

    /// The objects of a resource by its qualified plural.
    pub(super) fn collection(&self, qualified: &str) -> Option<&Collection> {
        self.collections.get(qualified)
    }

    /// The objects of a resource by its kind, or by `Kind.group`. Of several groups the first by name is meant, so the
    /// core group goes first.
    pub(super) fn collection_of_kind(&self, kind: &str) -> Option<&Collection> {
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
        let named = self.collections.values().filter(|collection| {
            let resource = &collection.resource;
            resource.kind == kind && group.is_none_or(|group| group == resource.group)
        });
        named.min_by_key(|collection| &collection.resource.group)
    }

    /// The resources served.
    pub(super) fn resources(&self) -> impl Iterator<Item = &ServedResource> {
        self.collections.values().map(|collection| &*collection.resource)
    }

    /// One object.
    pub(super) fn get(&self, resource: &ServedResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.collection(&resource.qualified())?.objects.get(&key(namespace, name)).cloned()
    }

    /// Writes an object under the next revision, which it returns with.
    pub(super) fn put(&mut self, resource: &ServedResource, object: Value) -> Arc<Value> {
        self.revision += 1;
        let stored = Arc::new(object::at_revision(object, self.revision));
        let key = key(object::namespace(&stored), object::name(&stored));
        if let Some(collection) = self.collections.get_mut(&resource.qualified()) {
            let before = collection.objects.insert(key.clone(), stored.clone());
            collection.remember(Change { revision: self.revision, key, before, after: Some(stored.clone()) });
        }
        self.committed.iter_mut().for_each(|committed| committed.push(stored.clone()));
        stored
    }

    /// Removes an object under the next revision.
    pub(super) fn remove(&mut self, resource: &ServedResource, namespace: &str, name: &str) {
        let key = key(namespace, name);
        let Some(collection) = self.collections.get_mut(&resource.qualified()) else { return };
        let Some(before) = collection.objects.remove(&key) else { return };
        self.revision += 1;
        collection.remember(Change { revision: self.revision, key, before: Some(before), after: None });
    }

    /// Forgets the history of every resource.
    pub(super) fn compact(&mut self) {
        for collection in self.collections.values_mut() {
            collection.forgotten = collection.history.back().map_or(collection.forgotten, |last| last.revision);
            collection.history.clear();
            collection.compacted = self.revision;
        }
    }

    /// Ends every live watch, as a restart of the server does.
    pub(super) fn close_watches(&mut self) {
        for collection in self.collections.values_mut() {
            collection.signal = watch::Sender::new(false);
            collection.silent.clear();
        }
    }

    /// Lets every live watch fall silent; later ones are not.
    pub(super) fn silence_watches(&mut self) {
        for collection in self.collections.values_mut() {
            let signal = std::mem::replace(&mut collection.signal, watch::Sender::new(false));
            signal.send_replace(true);
            collection.silent.push(signal);
        }
    }

    /// From now on [`Store::take_committed`] tells what was written.
    pub(super) fn keep_committed(&mut self) {
        self.committed.get_or_insert_default();
    }

    /// What was written since the last call.
    pub(super) fn take_committed(&mut self) -> Vec<Arc<Value>> {
        self.committed.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Collection {
    fn new(resource: Arc<ServedResource>) -> Self {
        Self {
            resource,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: 0,
            forgotten: 0,
            signal: watch::Sender::new(false),
            silent: Vec::new(),
        }
    }

    fn remember(&mut self, change: Change) {
        self.signal.send_replace(false);
        self.history.push_back(change);
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
            self.compacted = self.compacted.max(oldest.revision);
        }
    }

    /// Wakes at every write, says whether watches have fallen silent, and fails once they have to end.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.signal.subscribe()
    }

    /// Every object of a namespace, or of all where it is empty, in the order of keys, from after the key `after`.
    pub(super) fn objects(&self, namespace: &str, after: Option<&str>) -> impl Iterator<Item = &Arc<Value>> {
        let (start, end) = range(namespace, after);
        self.objects.range((start, end)).map(|(_, object)| object)
    }

    /// The same as it was at `revision`.
    pub(super) fn objects_at(&self, revision: u64, namespace: &str, after: Option<&str>) -> Answer<Vec<Arc<Value>>> {
        self.check_age(revision)?;
        let mut then: BTreeMap<&str, Option<&Arc<Value>>> = BTreeMap::new();
        let range: (Bound<String>, Bound<String>) = range(namespace, after);
        for (key, object) in self.objects.range(range.clone()) {
            then.insert(key, Some(object));
        }
        let within = |change: &&Change| std::ops::RangeBounds::contains(&range, &change.key);
        for change in self.since(revision)?.rev().filter(within) {
            then.insert(&change.key, change.before.as_ref());
        }
        Ok(then.into_values().flatten().cloned().collect())
    }

    /// Whether a request may still ask for the changes since `revision`.
    pub(super) fn check_age(&self, revision: u64) -> Answer<()> {
        if revision < self.compacted { Err(too_old(revision, self.compacted)) } else { Ok(()) }
    }

    /// The changes after `revision`, oldest first.
    pub(super) fn since(&self, revision: u64) -> Answer<impl DoubleEndedIterator<Item = &Change>> {
        if revision < self.forgotten {
            return Err(too_old(revision, self.forgotten));
        }
        let first = self.history.partition_point(|change| change.revision <= revision);
        Ok(self.history.range(first..))
    }
}

fn too_old(asked: u64, oldest: u64) -> Refusal {
    Refusal::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// The keys of a namespace after one of them. `0` is the character after `/`.
fn range(namespace: &str, after: Option<&str>) -> (Bound<String>, Bound<String>) {
    let (first, end) = if namespace.is_empty() {
        (Bound::Unbounded, Bound::Unbounded)
    } else {
        (Bound::Included(format!("{namespace}/")), Bound::Excluded(format!("{namespace}0")))
    };
    (after.map_or(first, |after| Bound::Excluded(after.to_owned())), end)
}
