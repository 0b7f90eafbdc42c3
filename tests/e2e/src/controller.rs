//! Our controller as it is shipped: what `deploy/` holds, installed as a user does it, and its Deployment rolled out.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cluster::{Cluster, NAMESPACE};
use crate::wait::wait_for;

/// The audience that Entra ID asks of an assertion.
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";

/// API path of what `manifests/bearertoken.yaml` has.
pub(crate) const BEARER_TOKEN: &str = "/apis/flux-bearer.dev/v1alpha1/namespaces/flux-system/bearertokens/fleet";

/// A BearerToken for the Secret `fleet`.
pub(crate) const MANIFEST: &str = include_str!("../manifests/bearertoken.yaml");

/// A BearerToken.
pub(crate) fn bearer_token(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "flux-bearer.dev/v1alpha1",
        "kind": "BearerToken",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// API path of its Deployment.
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/flux-system/deployments/flux-bearer-controller";

/// API path of its Pods.
pub(crate) const PODS: &str = "/api/v1/namespaces/flux-system/pods?labelSelector=app%3Dflux-bearer-controller";

/// API path of its Lease.
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/flux-system/leases/flux-bearer-controller-leader-election";

/// Time for a rollout: new Pods, their probes, and the end of the old ones.
const ROLLOUT: Duration = Duration::from_secs(60);

/// The Deployment that is shipped, not applied yet. Tests change it as an overlay would.
#[derive(Clone)]
pub(crate) struct Deployment(DynamicObject);

/// Nothing, which can't be applied.
impl Default for Deployment {
    fn default() -> Self {
        Self(DynamicObject { types: None, metadata: ObjectMeta::default(), data: Value::Null })
    }
}

impl Deployment {
    /// How many replicas.
    pub(crate) fn replicas(mut self, count: u32) -> Self {
        self.set("/spec/replicas", json!(count));
        self
    }

    /// More flags, in place of those of the same name.
    pub(crate) fn flags<T: AsRef<str>>(mut self, flags: &[T]) -> Self {
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let new: Vec<&str> = flags.iter().map(AsRef::as_ref).collect();
        let args = self.0.data.pointer_mut("/spec/template/spec/containers/0/args").and_then(Value::as_array_mut);
        if let Some(args) = args {
            let replaced = |old: &Value| new.iter().any(|flag| name(flag) == name(old.as_str().unwrap_or_default()));
            args.retain(|old| !replaced(old));
            args.extend(new.iter().map(|flag| json!(flag)));
        }
        self
    }

    /// One more environment variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        let variables = self.0.data.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut);
        if let Some(variables) = variables {
            variables.push(json!({"name": name, "value": value}));
        }
        self
    }

    /// Another tag of the image.
    pub(crate) fn tag(mut self, tag: &str) -> Self {
        self.set("/spec/template/spec/containers/0/image", json!(format!("flux-bearer-controller:{tag}")));
        self
    }

    /// Applies it, without waiting.
    pub(crate) async fn apply(&self, cluster: &Cluster) -> anyhow::Result<()> {
        cluster.apply_object(&self.0).await
    }

    /// Applies it, and waits until it is rolled out.
    pub(crate) async fn roll_out(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.apply(cluster).await?;
        rolled_out(cluster).await
    }

    fn set(&mut self, path: &str, value: Value) {
        if let Some(place) = self.0.data.pointer_mut(path) {
            *place = value;
        }
    }
}

/// Installs all that the kustomization in `folder` has but the Deployment, which is returned.
pub(crate) async fn install(kubectl: &Path, folder: &Path, cluster: &Cluster) -> anyhow::Result<Deployment> {
    let mut deployment = None;
    let manifests = kustomize(kubectl, folder).await?;
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(&manifests).context("the manifests can't be read")?;
    for object in objects {
        match object.types.as_ref().map(|types| types.kind.as_str()) {
            Some("Deployment") => deployment = Some(Deployment(object)),
            Some("CustomResourceDefinition") => cluster.apply_crd(&object).await?,
            _ => cluster.apply_object(&object).await?,
        }
    }
    deployment.context("no Deployment is shipped")
}

/// What `kubectl kustomize FOLDER` prints.
pub(crate) async fn kustomize(kubectl: &Path, folder: &Path) -> anyhow::Result<String> {
    let done = Command::new(kubectl).arg("kustomize").arg(folder).output().await.context("can't run kubectl")?;
    ensure!(done.status.success(), "kubectl kustomize failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(String::from_utf8(done.stdout)?)
}

/// Names these Secrets, and no others, in the controller's Role of a namespace.
pub(crate) async fn name_secrets(cluster: &Cluster, namespace: &str, names: &[String]) -> anyhow::Result<()> {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "flux-bearer-controller-secrets", "namespace": namespace});
    let verbs = ["get", "list", "watch", "create", "patch"];
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": verbs}]);
    let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"),
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "flux-bearer-controller-secrets"},
        "subjects": [{"kind": "ServiceAccount", "name": "flux-bearer-controller", "namespace": NAMESPACE}],
    });
    cluster.apply(&role.to_string()).await?;
    cluster.apply(&binding.to_string()).await
}

/// Waits until every replica is of the latest template and available, and no other Pod is left.
pub(crate) async fn rolled_out(cluster: &Cluster) -> anyhow::Result<()> {
    wait_for("the Deployment to be rolled out", ROLLOUT, async || {
        let deployment = cluster.get(DEPLOYMENT).await?;
        let pods = cluster.get(PODS).await?;
        let number = |path: &str| deployment.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        let wanted = number("/spec/replicas");
        let counts = ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas"].map(number);
        let left = pods.pointer("/items").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let seen = deployment.pointer("/status/observedGeneration") == deployment.pointer("/metadata/generation");
        if seen && counts == [wanted; 3] && left == wanted {
            return Ok(());
        }
        // Conditions say why Pods are refused, where they are.
        let conditions = deployment.pointer("/status/conditions").cloned().unwrap_or_default();
        Err(anyhow!("{counts:?} of {wanted}, {left} Pods {}: {conditions}", states(&pods)))
    })
    .await
}

/// What the Pods' containers are doing.
fn states(pods: &Value) -> Value {
    let items = pods.pointer("/items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|pod| pod.pointer("/status/containerStatuses/0/state")).cloned().collect()
}

/// Who holds the Lease, and how often it changed hands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Name of the Pod; empty while nobody does.
    pub(crate) pod: String,
    /// Times that it went to another process.
    pub(crate) transitions: u64,
}

/// Looks at the Lease.
pub(crate) async fn lead(cluster: &Cluster) -> anyhow::Result<Lead> {
    let lease = cluster.get(LEASE).await?;
    let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
    // The holder is the Pod and the process in it.
    let pod = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod).to_owned();
    Ok(Lead { pod, transitions: lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or_default() })
}
