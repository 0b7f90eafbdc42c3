//! Every write: from what a request sends to what is stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::managed::{Manager, Operation};
use super::object::{self, Object, text};
use super::refusal::{Answer, Refusal};
use super::resource::ServedResource;
use super::shape::raise_generation;
use super::store::Store;
use super::{identifier, managed, ssa};

/// Which part of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All but `status`, where that is a subresource.
    Main,
    /// `status` alone.
    Status,
    /// Everything: what no request can, but a test may.
    Whole,
}

/// Who writes, when and which part.
#[derive(Clone, Debug)]
pub(super) struct Author {
    pub(super) manager: String,
    pub(super) part: Part,
    pub(super) now: Timestamp,
    /// Answer as always, but store nothing.
    pub(super) dry_run: bool,
}

/// One write to one place.
pub(super) struct Writer<'a> {
    pub(super) store: &'a mut Store,
    pub(super) resource: &'a ServedResource,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) author: Author,
}

impl Writer<'_> {
    /// The object as it is.
    pub(super) fn live(&self) -> Option<Arc<Value>> {
        self.store.get(self.resource, self.namespace, self.name)
    }

    fn existing(&self) -> Answer<Arc<Value>> {
        self.live().ok_or_else(|| Refusal::not_found(self.resource, self.name))
    }

    /// POST. The name is the object's own, or made from its `generateName`.
    pub(super) fn create(&mut self, mut object: Object) -> Answer<Arc<Value>> {
        if !object::revision(&json!({"metadata": object.get("metadata")})).is_empty() {
            return Err(Refusal::internal("resourceVersion should not be set on objects to be created"));
        }
        object.insert("apiVersion".to_owned(), self.resource.api_version().into());
        object.insert("kind".to_owned(), self.resource.kind.clone().into());
        object::edit(&mut object, "metadata", |metadata| drop(metadata.remove("managedFields")));
        let object = self.born(object)?;
        let managers = managed::after_update(&Value::Null, &object, self.manager(Operation::Update));
        self.insert(with_managers(object, managers))
    }

    /// PUT.
    pub(super) fn replace(&mut self, new: Object) -> Answer<Arc<Value>> {
        let old = self.existing()?;
        let new = Value::Object(new);
        self.check_uid_precondition(&old, object::uid(&new))?;
        self.check_conditional(&new)?;
        self.update(&old, new, Operation::Update)
    }

    /// PATCH with a merge patch (RFC 7386).
    pub(super) fn merge_patch(&mut self, patch: &Value) -> Answer<Arc<Value>> {
        let old = self.existing()?;
        let mut new = object::thaw(&old);
        merge(&mut new, patch);
        self.update(&old, Value::Object(new), Operation::Update)
    }

    /// PATCH with an apply. Creates the object where there is none, but not through a subresource.
    pub(super) fn apply(&mut self, config: Object, force: bool) -> Answer<Arc<Value>> {
        let config = self.claimable(config)?;
        let author = self.manager(Operation::Apply);
        match self.live() {
            Some(old) => {
                let new = Value::Object(ssa::apply(&old, &config, author, force)?);
                self.update(&old, new, Operation::Apply)
            }
            None if self.author.part == Part::Status => Err(Refusal::not_found(self.resource, self.name)),
            None => self.create_applied(&config, author),
        }
    }

    /// A uid says that the object must be there. A resourceVersion alone does not: the real server creates then.
    fn create_applied(&mut self, config: &Value, author: Manager) -> Answer<Arc<Value>> {
        let uid = object::uid(config);
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Refusal::conflict(self.resource, self.name, &why));
        }
        let applied = ssa::apply(&Value::Null, config, author, false)?;
        let managers = managed::read(&Value::Object(applied.clone()));
        let object = self.born(applied)?;
        self.insert(with_managers(object, managers))
    }

    /// DELETE. An object with finalizers stays, marked, until the last of them goes.
    pub(super) fn delete(&mut self, options: &Value) -> Answer<Value> {
        let old = self.existing()?;
        self.check_delete_preconditions(&old, options)?;
        if has_finalizers(&old) {
            return Ok((*self.mark_deleted(&old)).clone());
        }
        if !self.author.dry_run {
            self.store.remove(self.resource, self.namespace, self.name);
        }
        let mut details = json!({"name": self.name, "kind": self.resource.plural, "uid": object::uid(&old)});
        if let (Some(details), false) = (details.as_object_mut(), self.resource.group.is_empty()) {
            details.insert("group".to_owned(), self.resource.group.clone().into());
        }
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}))
    }

    fn mark_deleted(&mut self, old: &Arc<Value>) -> Arc<Value> {
        if !text(old, "/metadata/deletionTimestamp").is_empty() {
            return old.clone();
        }
        let mut object = object::thaw(old);
        let now = seconds(self.author.now);
        object::edit(&mut object, "metadata", |metadata| {
            metadata.insert("deletionTimestamp".to_owned(), now.into());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
        });
        if self.resource.is_namespace() {
            object::edit(&mut object, "status", |status| drop(status.insert("phase".to_owned(), "Terminating".into())));
        }
        if self.resource.custom {
            raise_generation(&mut object);
        }
        self.commit(Value::Object(object))
    }

    /// Makes `new` of `old`, unless nothing changes: then the object and its resourceVersion stay as they are.
    fn update(&mut self, old: &Arc<Value>, new: Value, operation: Operation) -> Answer<Arc<Value>> {
        self.check_place(&new)?;
        self.check_identity(old, &new)?;
        let mut new = self.confined(old, new, operation);
        self.normalise(&mut new);
        let mut new = Value::Object(new);
        self.validate(old, &new)?;
        if operation == Operation::Update {
            let managers = managed::after_update(old, &new, self.manager(operation));
            new = with_managers(new, managers);
        }
        if new == **old {
            return Ok(old.clone());
        }
        let raised = self.raises_generation(old, &new);
        let mut new = object::into_map(new);
        if raised {
            raise_generation(&mut new);
        }
        Ok(self.finish(Value::Object(new)))
    }

    /// Stores a change, or removes the object when it was waiting for its last finalizer.
    fn finish(&mut self, new: Value) -> Arc<Value> {
        let done = !text(&new, "/metadata/deletionTimestamp").is_empty() && !has_finalizers(&new);
        if done && !self.author.dry_run {
            self.store.remove(self.resource, self.namespace, self.name);
        }
        if done { Arc::new(new) } else { self.commit(new) }
    }

    /// What the server makes of a new object before its managers are recorded.
    fn born(&mut self, mut object: Object) -> Answer<Value> {
        let generated = self.generated_name(&object);
        let name = if self.name.is_empty() { generated.as_str() } else { self.name };
        self.check_namespace(name)?;
        if self.resource.status && self.author.part == Part::Main {
            object.remove("status");
        }
        self.store.created += 1;
        let (resource, namespace, now) = (self.resource, self.namespace, seconds(self.author.now));
        let uid = identifier::uid(self.store.created);
        object::edit(&mut object, "metadata", |metadata| {
            for key in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
            {
                metadata.remove(key);
            }
            metadata.insert("name".to_owned(), name.into());
            metadata.insert("uid".to_owned(), uid.into());
            metadata.insert("creationTimestamp".to_owned(), now.into());
            if resource.namespaced {
                metadata.insert("namespace".to_owned(), namespace.into());
            }
            if resource.custom {
                metadata.insert("generation".to_owned(), 1.into());
            }
        });
        self.normalise(&mut object);
        let object = Value::Object(object);
        self.validate(&Value::Null, &object)?;
        Ok(object)
    }

    fn generated_name(&self, object: &Object) -> String {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let (name, prefix) = (text(&metadata, "/name"), text(&metadata, "/generateName"));
        let generate = || format!("{prefix}{}", identifier::suffix(self.store.created + 1));
        if name.is_empty() && !prefix.is_empty() { generate() } else { name.to_owned() }
    }

    fn insert(&mut self, object: Value) -> Answer<Arc<Value>> {
        let name = object::name(&object);
        if self.store.get(self.resource, self.namespace, name).is_some() {
            return Err(Refusal::already_exists(self.resource, name));
        }
        Ok(self.commit(object))
    }

    fn commit(&mut self, object: Value) -> Arc<Value> {
        if self.author.dry_run { Arc::new(object) } else { self.store.put(self.resource, object) }
    }

    fn manager(&self, operation: Operation) -> Manager {
        Manager {
            name: self.author.manager.clone(),
            operation,
            subresource: if self.author.part == Part::Status { "status".to_owned() } else { String::new() },
            api_version: self.resource.api_version(),
            time: seconds(self.author.now),
            fields: super::fields::FieldSet::default(),
        }
    }
}

/// A time as metadata holds it: whole seconds.
pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn has_finalizers(object: &Value) -> bool {
    let any =
        |pointer: &str| object::at(object, pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    any("/metadata/finalizers") || (text(object, "/kind") == "Namespace" && any("/spec/finalizers"))
}

fn with_managers(object: Value, managers: Vec<Manager>) -> Value {
    let mut object = object::into_map(object);
    object::edit(&mut object, "metadata", |metadata| {
        metadata.insert("managedFields".to_owned(), managed::to_json(managers));
        object::omit_empty(metadata, &["managedFields"]);
    });
    Value::Object(object)
}

/// RFC 7386: null removes, maps merge, everything else replaces.
fn merge(target: &mut Object, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(target.remove(key)),
            Value::Object(_) => object::edit(target, key, |child| merge(child, value)),
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
}
