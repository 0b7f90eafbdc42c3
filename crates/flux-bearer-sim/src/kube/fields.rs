//! Sets of fields, as `managedFields` writes them in its `FieldsV1` form.
//!
//! Maps and leaves only: a list is one leaf, as an atomic list is in the real thing. The keyed lists of the real
//! server (`k:{"type":"Ready"}`) are therefore owned as a whole here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::Object;
use super::shape::SERVERS;

/// A set of paths into an object. A path may be in the set on its own, with paths below it, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    member: bool,
    below: BTreeMap<String, FieldSet>,
}

/// What differs between two objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Difference {
    /// Fields that are new or have another value.
    pub(super) set: FieldSet,
    /// Fields that are gone.
    pub(super) removed: FieldSet,
}

impl FieldSet {
    /// The fields that an apply of `value` claims: its leaves. An empty map is a leaf.
    pub(super) fn claimed(value: &Value) -> Self {
        match value {
            Value::Object(map) if !map.is_empty() => Self {
                member: false,
                below: map.iter().map(|(key, value)| (key.clone(), Self::claimed(value))).collect(),
            },
            _ => Self::leaf(),
        }
    }

    /// Every path of `value`, maps included: what appears when it is added and goes when it is removed.
    fn whole(value: &Value) -> Self {
        let below = value.as_object().into_iter().flatten();
        Self { member: true, below: below.map(|(key, value)| (key.clone(), Self::whole(value))).collect() }
    }

    fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    /// Whether no path is in the set.
    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.values().all(Self::is_empty)
    }

    /// Whether the path itself is in the set.
    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    /// The set below one key.
    pub(super) fn child(&self, key: &str) -> Option<&Self> {
        self.below.get(key)
    }

    /// The sets below each key.
    pub(super) fn children(&self) -> impl Iterator<Item = (&String, &Self)> {
        self.below.iter()
    }

    /// Paths in either.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut below = self.below.clone();
        for (key, theirs) in &other.below {
            let joined = below.get(key).map_or_else(|| theirs.clone(), |ours| ours.union(theirs));
            below.insert(key.clone(), joined);
        }
        Self { member: self.member || other.member, below }
    }

    /// Paths in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let both = |(key, ours): (&String, &Self)| Some((key.clone(), ours.intersection(other.below.get(key)?)));
        Self { member: self.member && other.member, below: self.below.iter().filter_map(both).collect() }.pruned()
    }

    /// Paths of this one that are not in the other.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let left = |(key, ours): (&String, &Self)| match other.below.get(key) {
            None => (key.clone(), ours.clone()),
            Some(theirs) => (key.clone(), ours.difference(theirs)),
        };
        Self { member: self.member && !other.member, below: self.below.iter().map(left).collect() }.pruned()
    }

    fn pruned(mut self) -> Self {
        self.below.retain(|_, set| !set.is_empty());
        self
    }

    /// Without what no manager ever owns: the type, and the metadata that the server keeps.
    pub(super) fn without_system_fields(mut self) -> Self {
        self.member = false;
        self.below.retain(|key, _| key != "apiVersion" && key != "kind");
        if let Some(metadata) = self.below.get_mut("metadata") {
            metadata.member = false;
            metadata.below.retain(|key, _| !SERVERS.contains(&key.as_str()) && key != "managedFields");
        }
        self.pruned()
    }

    /// The paths in the set, each as `.a.b.c`, in order.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.to_owned());
        }
        for (key, set) in &self.below {
            set.collect_paths(&format!("{prefix}.{key}"), paths);
        }
    }

    /// The `FieldsV1` form.
    pub(super) fn to_json(&self) -> Value {
        let mut json = Object::new();
        if self.member && !self.below.is_empty() {
            json.insert(".".to_owned(), Value::Object(Object::new()));
        }
        json.extend(self.below.iter().map(|(key, set)| (format!("f:{key}"), set.to_json())));
        Value::Object(json)
    }

    /// From the `FieldsV1` form of a whole object.
    pub(super) fn from_json(json: &Value) -> Self {
        let keys = json.as_object().into_iter().flatten();
        let child = |(key, value): (&String, &Value)| Some((key.strip_prefix("f:")?.to_owned(), Self::entry(value)));
        Self { member: false, below: keys.filter_map(child).collect() }
    }

    fn entry(json: &Value) -> Self {
        let set = Self::from_json(json);
        Self { member: set.below.is_empty() || json.get(".").is_some(), ..set }
    }
}

impl Difference {
    /// What makes `new` of `old`.
    pub(super) fn between(old: &Value, new: &Value) -> Self {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => Self::of_maps(old, new),
            _ if old == new => Self::default(),
            _ => {
                let set = FieldSet { member: true, ..FieldSet::whole(new) };
                Self { set, removed: FieldSet { member: false, ..FieldSet::whole(old) } }
            }
        }
    }

    fn of_maps(old: &Object, new: &Object) -> Self {
        let mut difference = Self::default();
        for (key, value) in new {
            let below = old.get(key).map_or_else(|| Self::addition(value), |old| Self::between(old, value));
            difference.include(key, below);
        }
        for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
            difference.include(key, Self { removed: FieldSet::whole(value), set: FieldSet::default() });
        }
        difference
    }

    fn addition(value: &Value) -> Self {
        Self { set: FieldSet::whole(value), removed: FieldSet::default() }
    }

    fn include(&mut self, key: &str, below: Self) {
        if !below.set.is_empty() {
            self.set.below.insert(key.to_owned(), below.set);
        }
        if !below.removed.is_empty() {
            self.removed.below.insert(key.to_owned(), below.removed);
        }
    }

    /// The same without what no manager owns.
    pub(super) fn without_system_fields(self) -> Self {
        Self { set: self.set.without_system_fields(), removed: self.removed.without_system_fields() }
    }
}
