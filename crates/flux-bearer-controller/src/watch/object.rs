//! Objects as a watch brings them: as much of each as somebody looks at.
//!
//! kube's own types for objects of any kind take their parts from `#[serde(flatten)]`, which copies each object into a tree
//! before it is read. Here what is not looked at is skipped where it stands.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A BearerToken or a GitRepository. Untyped, so that one that can't be read doesn't take the watch down with it.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    /// Its metadata, but for labels, owners and managed fields.
    #[serde(default, deserialize_with = "lean")]
    pub metadata: ObjectMeta,
    /// Its spec, an empty one where it has none.
    #[serde(default = "nothing")]
    pub spec: Value,
    /// Its status, an empty one where it has none.
    #[serde(default = "nothing")]
    pub status: Value,
}

/// The metadata of a Secret. No Secret's data is ever on its way to us.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SecretMetadata {
    #[serde(default)]
    pub(super) metadata: ObjectMeta,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

fn lean<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Lean {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        generation: Option<i64>,
        resource_version: Option<String>,
        creation_timestamp: Option<Timestamp>,
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    let Lean { name, namespace, uid, generation, resource_version, creation_timestamp, annotations } =
        Lean::deserialize(from)?;
    let creation_timestamp = creation_timestamp.map(Time);
    let rest = ObjectMeta::default();
    Ok(ObjectMeta { name, namespace, uid, generation, resource_version, creation_timestamp, annotations, ..rest })
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Resource for SecretMetadata {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
