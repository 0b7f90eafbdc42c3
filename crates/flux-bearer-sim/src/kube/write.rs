//! Every write: from what a request sends to what is stored.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::managed::{self, Manager, Operation};
use super::object::{self, Object, text};
use super::refusal::{Answer, Cause, Refusal};
use super::resource::ServedResource;
use super::store::Store;
use super::{identifier, secret, ssa};

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
        self.insert(with_managers(&object, managers))
    }

    /// PUT.
    pub(super) fn replace(&mut self, new: Object) -> Answer<Arc<Value>> {
        let old = self.existing()?;
        let new = Value::Object(new);
        self.check_uid_precondition(&old, object::uid(&new))?;
        if object::revision(&new).is_empty() && !self.resource.unconditional_update && self.author.part != Part::Whole {
            let cause = Cause {
                message: "Invalid value: 0x0: must be specified for an update".to_owned(),
                ..Cause::invalid("metadata.resourceVersion", "", "")
            };
            return Err(self.invalid(&[cause]));
        }
        self.update(&old, &new, Operation::Update)
    }

    /// PATCH with a merge patch (RFC 7386).
    pub(super) fn merge_patch(&mut self, patch: &Value) -> Answer<Arc<Value>> {
        let old = self.existing()?;
        let mut new = object::thaw(&old);
        merge(&mut new, patch);
        self.update(&old, &Value::Object(new), Operation::Update)
    }

    /// PATCH with an apply. Creates the object where there is none, but not through a subresource.
    pub(super) fn apply(&mut self, config: Object, force: bool) -> Answer<Arc<Value>> {
        let config = self.claimable(config)?;
        let author = self.manager(Operation::Apply);
        match self.live() {
            Some(old) => {
                let new = Value::Object(ssa::apply(&old, &config, author, force)?);
                self.update(&old, &new, Operation::Apply)
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
        self.insert(with_managers(&object, managers))
    }

    /// DELETE. An object with finalizers stays, marked, until the last of them goes.
    pub(super) fn delete(&mut self, options: &Value) -> Answer<Value> {
        let old = self.existing()?;
        self.check_delete_preconditions(&old, options)?;
        if has_finalizers(&old) {
            return self.mark_deleted(&old).map(|object| (*object).clone());
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

    fn mark_deleted(&mut self, old: &Arc<Value>) -> Answer<Arc<Value>> {
        if !text(old, "/metadata/deletionTimestamp").is_empty() {
            return Ok(old.clone());
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
        Ok(self.commit(Value::Object(object)))
    }

    /// Makes `new` of `old`, unless nothing changes: then the object and its resourceVersion stay as they are.
    fn update(&mut self, old: &Arc<Value>, new: &Value, operation: Operation) -> Answer<Arc<Value>> {
        self.check_place(new)?;
        let asked = object::revision(new);
        if !asked.is_empty() && asked != object::revision(old) {
            return Err(Refusal::modified(self.resource, self.name));
        }
        let uid = object::uid(new);
        if !uid.is_empty() && uid != object::uid(old) {
            return Err(self.invalid(&[Cause::invalid("metadata.uid", uid, "field is immutable")]));
        }
        let mut new = self.confined(old, new, operation);
        self.normalise(&mut new);
        let mut new = Value::Object(new);
        self.validate(old, &new)?;
        if operation == Operation::Update {
            new = with_managers(&new, managed::after_update(old, &new, self.manager(operation)));
        }
        if new == **old {
            return Ok(old.clone());
        }
        let mut changed = object::thaw(&new);
        if self.raises_generation(old, &new) {
            raise_generation(&mut changed);
        }
        Ok(self.finish(Value::Object(changed)))
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
        if self.author.dry_run { Arc::new(object) } else { self.store.put(self.resource, &object) }
    }

    /// What the request may change of `old`, and nothing else.
    fn confined(&self, old: &Value, new: &Value, operation: Operation) -> Object {
        const SERVERS: [&str; 9] = [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ];
        let managed = if operation == Operation::Apply { new } else { old };
        let (base, status) = match self.author.part {
            Part::Status => (old, new),
            Part::Main if self.resource.status => (new, old),
            Part::Main | Part::Whole => (new, new),
        };
        let empty = Value::Null;
        let metadata = |object: &'_ Value| object.get("metadata").unwrap_or(&empty).clone();
        let mut object = object::thaw(base);
        ["apiVersion", "kind"].iter().for_each(|key| object::copy(key, old, &mut object));
        object::copy("status", status, &mut object);
        object::edit(&mut object, "metadata", |fields| {
            SERVERS.iter().for_each(|key| object::copy(key, &metadata(old), fields));
            object::copy("managedFields", &metadata(managed), fields);
        });
        object
    }

    /// The part of an applied object that this request can claim fields of.
    fn claimable(&self, mut config: Object) -> Answer<Value> {
        if config.get("metadata").is_some_and(|metadata| metadata.get("managedFields").is_some()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        match self.author.part {
            Part::Status => {
                config.retain(|key, _| ["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()))
            }
            Part::Main if self.resource.status => drop(config.remove("status")),
            Part::Main | Part::Whole => {}
        }
        if self.author.part == Part::Status {
            let identity = ["name", "namespace", "uid", "resourceVersion"];
            object::edit(&mut config, "metadata", |metadata| {
                metadata.retain(|key, _| identity.contains(&key.as_str()))
            });
        }
        self.normalise_secret(&mut config);
        Ok(Value::Object(config))
    }

    fn normalise(&self, object: &mut Object) {
        object::edit(object, "metadata", |metadata| {
            object::omit_empty(metadata, &["labels", "annotations", "finalizers", "ownerReferences", "managedFields"]);
        });
        self.normalise_secret(object);
        if self.resource.is_secret() {
            secret::set_default_type(object);
        }
        if self.resource.is_namespace() {
            object.entry("spec").or_insert_with(|| json!({"finalizers": ["kubernetes"]}));
            object.entry("status").or_insert_with(|| json!({"phase": "Active"}));
        }
    }

    fn normalise_secret(&self, object: &mut Object) {
        if self.resource.is_secret() {
            secret::normalise(object);
        }
    }

    fn validate(&self, old: &Value, new: &Value) -> Answer<()> {
        let mut causes = identifier::check_name(object::name(new));
        if self.resource.is_secret() {
            causes.extend(secret::validate(old, new)?);
        }
        if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.resource, object::name(new), &causes)) }
    }

    fn invalid(&self, causes: &[Cause]) -> Refusal {
        Refusal::invalid(self.resource, self.name, causes)
    }

    /// New content needs a namespace that is there to stay.
    fn check_namespace(&self, name: &str) -> Answer<()> {
        if !self.resource.namespaced {
            return Ok(());
        }
        let namespaces = ServedResource::builtin("", "v1", "namespaces", "Namespace");
        match self.store.get(&namespaces, "", self.namespace) {
            None => Err(Refusal::not_found(&namespaces, self.namespace)),
            Some(found) if text(&found, "/metadata/deletionTimestamp").is_empty() => Ok(()),
            Some(_) => Err(Refusal::terminating(self.resource, name, self.namespace)),
        }
    }

    /// The object must be of the place that the path names.
    fn check_place(&self, new: &Value) -> Answer<()> {
        let name = object::name(new);
        if !name.is_empty() && name != self.name {
            let why = format!("the name of the object ({name}) does not match the name on the URL ({})", self.name);
            return Err(Refusal::bad_request(why));
        }
        check_namespace_matches(new, self.namespace)
    }

    fn check_uid_precondition(&self, old: &Value, asked: &str) -> Answer<()> {
        let is = object::uid(old);
        if asked.is_empty() || asked == is {
            return Ok(());
        }
        let key = format!("/registry/{}/{}", self.resource.plural, super::store::key(self.namespace, self.name));
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {asked}, UID in object meta: {is}"
        );
        Err(Refusal::conflict(self.resource, self.name, &why))
    }

    fn check_delete_preconditions(&self, old: &Value, options: &Value) -> Answer<()> {
        let (uid, revision) = (text(options, "/preconditions/uid"), text(options, "/preconditions/resourceVersion"));
        let mismatch = |what: &str, asked: &str, is: &str, guess: &str| {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). The object might have been {guess}"
            );
            Err(Refusal::conflict(self.resource, self.name, &why))
        };
        if !uid.is_empty() && uid != object::uid(old) {
            return mismatch("UID", uid, object::uid(old), "deleted and then recreated");
        }
        if !revision.is_empty() && revision != object::revision(old) {
            return mismatch("ResourceVersion", revision, object::revision(old), "modified");
        }
        Ok(())
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

    /// Custom resources count the changes of everything but metadata and a status subresource.
    fn raises_generation(&self, old: &Value, new: &Value) -> bool {
        let counted = |object: &Value| {
            let mut object = object::thaw(object);
            object.remove("metadata");
            if self.resource.status {
                object.remove("status");
            }
            object
        };
        self.resource.custom && counted(old) != counted(new)
    }
}

/// The namespace of an object, where it names one, must be that of the request.
pub(super) fn check_namespace_matches(object: &Value, namespace: &str) -> Answer<()> {
    let named = object::namespace(object);
    if named.is_empty() || named == namespace {
        return Ok(());
    }
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    Err(Refusal::bad_request(why))
}

/// A time as metadata holds it: whole seconds.
pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn has_finalizers(object: &Value) -> bool {
    let any = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    any("/metadata/finalizers") || (text(object, "/kind") == "Namespace" && any("/spec/finalizers"))
}

fn raise_generation(object: &mut Object) {
    object::edit(object, "metadata", |metadata| {
        let generation = metadata.get("generation").and_then(Value::as_u64).unwrap_or_default();
        metadata.insert("generation".to_owned(), (generation + 1).into());
    });
}

fn with_managers(object: &Value, managers: Vec<Manager>) -> Value {
    let mut object = object::thaw(object);
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
