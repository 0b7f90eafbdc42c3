//! Objects as the client asked to see them: whole, or their metadata only.

use http::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::request;
use super::resource::ServedResource;

/// How much of an object an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    /// `PartialObjectMetadata`: the data never leaves.
    Metadata,
}

impl View {
    /// What the `Accept` header asks for: the first form in it that is served.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = request::text(headers, "accept");
        let forms = accept.split(',').filter(|form| form.trim().starts_with("application/json"));
        let known = |form: &&str| form.contains("as=PartialObjectMetadata") || !form.contains("as=");
        match forms.into_iter().find(known) {
            Some(form) if form.contains("as=PartialObjectMetadata") => Self::Metadata,
            _ => Self::Whole,
        }
    }

    /// One object.
    pub(super) fn json(self, object: &Value) -> Vec<u8> {
        match self {
            Self::Metadata if object.get("metadata").is_some() && !is_status(object) => bytes(&Partial::of(object)),
            _ => bytes(object),
        }
    }

    /// One object in a list: those compiled into the server leave their type to the list.
    fn item(self, resource: &ServedResource, object: &Value) -> Vec<u8> {
        match self {
            Self::Whole if !resource.custom => bytes(&Untyped(object)),
            _ => self.json(object),
        }
    }

    /// A list of objects.
    pub(super) fn list<'a>(
        self,
        resource: &ServedResource,
        metadata: &Value,
        items: impl Iterator<Item = &'a Value>,
    ) -> Vec<u8> {
        let (kind, api_version) = match self {
            Self::Whole => (format!("{}List", resource.kind), resource.api_version()),
            Self::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let items: Vec<Vec<u8>> = items.map(|object| self.item(resource, object)).collect();
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        let mut list = bytes(&head);
        list.pop();
        [list, b",\"items\":[".to_vec(), items.join(&b','), b"]}".to_vec()].concat()
    }

    /// What tells a watch how far it has come.
    pub(super) fn bookmark(self, resource: &ServedResource, revision: u64, initial_end: bool) -> Value {
        let (kind, api_version) = match self {
            Self::Whole => (resource.kind.clone(), resource.api_version()),
            Self::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if let (Some(metadata), true) = (metadata.as_object_mut(), initial_end) {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    }

    /// One line of a watch.
    pub(super) fn event(self, kind: &str, object: &Value) -> Vec<u8> {
        let head = format!("{{\"type\":\"{kind}\",\"object\":");
        [head.into_bytes(), self.json(object), b"}\n".to_vec()].concat()
    }
}

fn is_status(object: &Value) -> bool {
    object.get("kind").and_then(Value::as_str) == Some("Status")
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partial<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Option<&'a Value>,
}

impl<'a> Partial<'a> {
    fn of(object: &'a Value) -> Self {
        Self { kind: "PartialObjectMetadata", api_version: "meta.k8s.io/v1", metadata: object.get("metadata") }
    }
}

struct Untyped<'a>(&'a Value);

impl Serialize for Untyped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.as_object().into_iter().flatten();
        serializer.collect_map(fields.filter(|(key, _)| *key != "kind" && *key != "apiVersion"))
    }
}
