//! What a request may change of an object, and what the server makes of what it sent.

use serde_json::{Value, json};

use super::managed::Operation;
use super::object::{self, Object};
use super::refusal::{Answer, Refusal};
use super::secret;
use super::write::{Part, Writer};

/// The metadata that the server keeps, whatever a request sends.
pub(super) const SERVERS: [&str; 9] = [
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

impl Writer<'_> {
    /// What the request may change of `old`, and nothing else. An apply brings its `managedFields`; those of an update
    /// are made later.
    pub(super) fn confined(&self, old: &Value, new: Value, operation: Operation) -> Object {
        let managed = object::at(&new, "/metadata/managedFields").filter(|_| operation == Operation::Apply).cloned();
        let mut object = self.merged_parts(old, new);
        for key in ["apiVersion", "kind"] {
            object::copy(key, old, &mut object);
        }
        let nothing = Value::Null;
        let kept = old.get("metadata").unwrap_or(&nothing);
        object::edit(&mut object, "metadata", |metadata| {
            for key in SERVERS {
                object::copy(key, kept, metadata);
            }
            metadata.insert("managedFields".to_owned(), managed.unwrap_or_default());
        });
        object
    }

    /// The new part of the new object and the rest of the old.
    fn merged_parts(&self, old: &Value, new: Value) -> Object {
        match self.author.part {
            Part::Status => {
                let mut object = object::thaw(old);
                object::copy("status", &new, &mut object);
                object
            }
            Part::Main if self.resource.status => {
                let mut object = object::into_map(new);
                object::copy("status", old, &mut object);
                object
            }
            Part::Main | Part::Whole => object::into_map(new),
        }
    }

    /// The part of an applied object that this request can claim fields of.
    pub(super) fn claimable(&self, mut config: Object) -> Answer<Value> {
        if config.get("metadata").is_some_and(|metadata| metadata.get("managedFields").is_some()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        match self.author.part {
            Part::Status => keep_status(&mut config),
            Part::Main if self.resource.status => drop(config.remove("status")),
            Part::Main | Part::Whole => {}
        }
        if self.resource.is_secret() {
            secret::normalise(&mut config);
        }
        Ok(Value::Object(config))
    }

    /// What is stored of an object: defaults in, empty maps out.
    pub(super) fn normalise(&self, object: &mut Object) {
        object::edit(object, "metadata", |metadata| {
            object::omit_empty(metadata, &["labels", "annotations", "finalizers", "ownerReferences", "managedFields"]);
        });
        if self.resource.is_secret() {
            secret::normalise(object);
            secret::set_default_type(object);
        }
        if self.resource.is_namespace() {
            object.entry("spec").or_insert_with(|| json!({"finalizers": ["kubernetes"]}));
            object.entry("status").or_insert_with(|| json!({"phase": "Active"}));
        }
    }

    /// Custom resources count the changes of everything but metadata and a status subresource.
    pub(super) fn raises_generation(&self, old: &Value, new: &Value) -> bool {
        let counts = |key: &str| key != "metadata" && !(key == "status" && self.resource.status);
        self.resource.custom
            && !fields(old).filter(|(key, _)| counts(key)).eq(fields(new).filter(|(key, _)| counts(key)))
    }
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// What can be applied to a status: it, and which object is meant.
fn keep_status(config: &mut Object) {
    config.retain(|key, _| ["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()));
    object::edit(config, "metadata", |metadata| {
        metadata.retain(|key, _| ["name", "namespace", "uid", "resourceVersion"].contains(&key.as_str()));
    });
}

/// Counts a change of what is wanted.
pub(super) fn raise_generation(object: &mut Object) {
    object::edit(object, "metadata", |metadata| {
        let generation = metadata.get("generation").and_then(Value::as_u64).unwrap_or_default();
        metadata.insert("generation".to_owned(), (generation + 1).into());
    });
}
