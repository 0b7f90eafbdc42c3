//! What is checked before a write, in the server's order and words.

use serde_json::Value;

use super::object::{self, text};
use super::refusal::{Answer, Cause, Refusal};
use super::resource::ServedResource;
use super::write::{Part, Writer};
use super::{identifier, secret, store};

impl Writer<'_> {
    /// What makes the object itself unacceptable.
    pub(super) fn validate(&self, old: &Value, new: &Value) -> Answer<()> {
        let mut causes = identifier::check_name(object::name(new));
        if self.resource.is_secret() {
            causes.extend(secret::validate(old, new)?);
        }
        if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.resource, object::name(new), &causes)) }
    }

    /// New content needs a namespace that is there to stay.
    pub(super) fn check_namespace(&self, name: &str) -> Answer<()> {
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
    pub(super) fn check_place(&self, new: &Value) -> Answer<()> {
        let name = object::name(new);
        if !name.is_empty() && name != self.name {
            let why = format!("the name of the object ({name}) does not match the name on the URL ({})", self.name);
            return Err(Refusal::bad_request(why));
        }
        check_namespace_matches(new, self.namespace)
    }

    /// A PUT with a uid is for that object only.
    pub(super) fn check_uid_precondition(&self, old: &Value, asked: &str) -> Answer<()> {
        let is = object::uid(old);
        if asked.is_empty() || asked == is {
            return Ok(());
        }
        let key = format!("/registry/{}/{}", self.resource.plural, store::key(self.namespace, self.name));
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {asked}, UID in object meta: {is}"
        );
        Err(Refusal::conflict(self.resource, self.name, &why))
    }

    /// A DELETE may name the object that it means.
    pub(super) fn check_delete_preconditions(&self, old: &Value, options: &Value) -> Answer<()> {
        let (uid, revision) = (text(options, "/preconditions/uid"), text(options, "/preconditions/resourceVersion"));
        let mismatch = |what: &str, asked: &str, is: &str, guess: &str| {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). \
                 The object might have been {guess}"
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

    /// A resourceVersion or uid in the new object is a precondition, in this order.
    pub(super) fn check_identity(&self, old: &Value, new: &Value) -> Answer<()> {
        let (revision, uid) = (object::revision(new), object::uid(new));
        if !revision.is_empty() && revision != object::revision(old) {
            return Err(Refusal::modified(self.resource, self.name));
        }
        if !uid.is_empty() && uid != object::uid(old) {
            let cause = Cause::invalid("metadata.uid", uid, "field is immutable");
            return Err(Refusal::invalid(self.resource, self.name, &[cause]));
        }
        Ok(())
    }

    /// Most resources take a PUT only from who has read the object.
    pub(super) fn check_conditional(&self, new: &Value) -> Answer<()> {
        if !object::revision(new).is_empty() || self.resource.unconditional_update || self.author.part == Part::Whole {
            return Ok(());
        }
        Err(Refusal::invalid(self.resource, self.name, &[Cause::missing_revision()]))
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
