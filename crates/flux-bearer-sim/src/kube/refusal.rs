//! Why the API refuses a request: the `Status` object, worded as kube-apiserver words it.

use serde_json::{Value, json};

use super::resource::ServedResource;

/// A `Status` of a failure. Built here only, so that every wording has one place.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    details: Value,
    continue_token: Option<String>,
}

/// What was asked for, or why not.
pub(super) type Answer<T> = Result<T, Refusal>;

/// One `StatusCause`.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) field: String,
}

impl Cause {
    /// A validation error of a field: its value is `value`, which may not be.
    pub(super) fn invalid(field: &str, value: &str, why: &str) -> Self {
        Self::of(field, "FieldValueInvalid", format!("Invalid value: {value:?}: {why}"))
    }

    /// A validation error of a field that may not be set so.
    pub(super) fn forbidden(field: &str, why: &str) -> Self {
        Self::of(field, "FieldValueForbidden", format!("Forbidden: {why}"))
    }

    /// A validation error of a field that is missing.
    pub(super) fn required(field: &str, why: &str) -> Self {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Self::of(field, "FieldValueRequired", format!("Required value{why}"))
    }

    /// A validation error of a field that takes more than `limit` bytes.
    pub(super) fn too_long(field: &str, limit: usize) -> Self {
        Self::of(field, "FieldValueTooLong", format!("Too long: may not be more than {limit} bytes"))
    }

    /// A PUT without a resourceVersion.
    pub(super) fn missing_revision() -> Self {
        let why = "Invalid value: 0x0: must be specified for an update";
        Self::of("metadata.resourceVersion", "FieldValueInvalid", why.to_owned())
    }

    fn of(field: &str, reason: &'static str, message: String) -> Self {
        Self { reason, message, field: field.to_owned() }
    }

    fn value(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}), continue_token: None }
    }

    fn about(mut self, resource: &ServedResource, name: &str) -> Self {
        self.details = json!({"kind": resource.plural});
        self.detail("name", name);
        self.detail("group", &resource.group);
        self
    }

    fn detail(&mut self, key: &str, text: &str) {
        if let (Some(details), false) = (self.details.as_object_mut(), text.is_empty()) {
            details.insert(key.to_owned(), text.into());
        }
    }

    fn because(mut self, causes: &[Cause]) -> Self {
        if let Some(details) = self.details.as_object_mut() {
            details.insert("causes".to_owned(), causes.iter().map(Cause::value).collect());
        }
        self
    }

    /// The same with a token to go on with.
    pub(super) fn continuing(self, token: &str) -> Self {
        Self { continue_token: Some(token.to_owned()), ..self }
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        let metadata = self.continue_token.as_ref().map_or_else(|| json!({}), |token| json!({"continue": token}));
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        })
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn not_found(resource: &ServedResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified())).about(resource, name)
    }

    /// A path below a served resource that leads nowhere.
    pub(super) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    pub(super) fn already_exists(resource: &ServedResource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(super) fn conflict(resource: &ServedResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// The resourceVersion is not the object's.
    pub(super) fn modified(resource: &ServedResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// Fields belong to other managers. This one names no object.
    pub(super) fn apply_conflict(message: String, causes: &[Cause]) -> Self {
        Self::new(409, "Conflict", message).because(causes)
    }

    /// History no longer reaches back that far.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// Validation failed.
    pub(super) fn invalid(resource: &ServedResource, name: &str, causes: &[Cause]) -> Self {
        let mut refusal = Self::invalid_kind(&resource.qualified_kind(), name, causes);
        refusal.detail("group", &resource.group);
        refusal.detail("kind", &resource.kind);
        refusal
    }

    /// The request's options failed validation.
    pub(super) fn invalid_options(causes: &[Cause]) -> Self {
        Self::invalid_kind("PatchOptions.meta.k8s.io", "", causes)
    }

    fn invalid_kind(kind: &str, name: &str, causes: &[Cause]) -> Self {
        let told: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let told = if let [only] = told.as_slice() { only.clone() } else { format!("[{}]", told.join(", ")) };
        let mut refusal = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {told}"));
        refusal.detail("name", name);
        refusal.because(causes)
    }

    /// Authorisation or admission said no.
    pub(super) fn forbidden(resource: &ServedResource, name: &str, why: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!("{}{named} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// Nothing new may be created in a namespace on its way out.
    pub(super) fn terminating(resource: &ServedResource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        };
        Self::forbidden(resource, name, &why).because(&[cause])
    }

    /// The client has seen a later resourceVersion than this server has: its etcd was restored.
    pub(super) fn too_large_revision(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let mut refusal = Self::new(504, "Timeout", message).because(&[cause]);
        if let Some(details) = refusal.details.as_object_mut() {
            details.insert("retryAfterSeconds".to_owned(), 1.into());
        }
        refusal
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }
}
