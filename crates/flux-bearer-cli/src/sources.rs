//! What Flux's GitRepositories say of themselves.

use flux_bearer::flux::REQUESTED_AT;
use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::cluster::{At, Cluster};
use crate::exit::Trouble;
use crate::kinds::GIT_REPOSITORY;

/// The label of what Flux applies from Git: name of the Kustomization.
pub const APPLIED_BY: &str = "kustomize.toolkit.fluxcd.io/name";

/// A GitRepository that uses the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Whether it pulls; with what it says where it doesn't.
    pub ready: Result<(), String>,
}

/// The GitRepositories of a namespace that use this Secret.
pub async fn sources(cluster: &Cluster, namespace: &str, secret: &str) -> Result<Vec<SourceFacts>, Trouble> {
    let all = cluster.list(GIT_REPOSITORY, Some(namespace)).await?;
    Ok(all.iter().filter_map(|found| source(found, secret)).collect())
}

fn source(object: &DynamicObject, secret: &str) -> Option<SourceFacts> {
    let text = |path: &str| object.data.pointer(path).and_then(Value::as_str);
    let uses = text("/spec/secretRef/name") == Some(secret);
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition.get("type").and_then(Value::as_str) == Some("Ready"));
    let said = |name: &str| ready.and_then(|ready| ready.get(name)).and_then(Value::as_str).unwrap_or_default();
    let ready = if said("status") == "True" { Ok(()) } else { Err(said("message").to_owned()) };
    uses.then(|| SourceFacts {
        name: object.metadata.name.clone().unwrap_or_default(),
        url: text("/spec/url").unwrap_or_default().to_owned(),
        ready,
    })
}

/// Asks Flux to look at a GitRepository now.
pub async fn nudge(cluster: &Cluster, namespace: &str, name: &str, now: Timestamp) -> Result<(), Trouble> {
    let at = At { kind: GIT_REPOSITORY, namespace, name };
    cluster.annotate(at, REQUESTED_AT, Some(&now.to_string())).await.map(drop)
}
