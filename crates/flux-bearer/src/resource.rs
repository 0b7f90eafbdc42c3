//! The `BearerToken` as Kubernetes stores it: spec, status and the rules that the API server checks.

#![allow(unreachable_pub, clippy::struct_field_names, reason = "KubeSchema repeats each type inside a function")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceSubresourceStatus, CustomResourceSubresources, JSON, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for an Entra ID token of an identity, always fresh, in the Secret that a Flux `GitRepository` reads.
///
/// Every field is optional: an empty spec serves the Secret of the BearerToken's own name with the pod's identity.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "flux-bearer.dev",
    version = "v1alpha1",
    kind = "BearerToken",
    plural = "bearertokens",
    shortname = "bt",
    category = "flux-bearer",
    namespaced,
    status = "BearerTokenStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","description":"When the token in the Secret expires","jsonPath":".status.expiresAt"}"#,
    printcolumn = r#"{"name":"Identity","type":"string","description":"Client id of the identity whose token the Secret holds","jsonPath":".status.identity.clientId"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BearerTokenSpec {
    /// The identity whose token is wanted.
    #[serde(default)]
    pub identity: IdentitySpec,

    /// Azure DevOps repositories that the token must open, beside those of the GitRepositories of this namespace that use
    /// the Secret. They are probed and restrict nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 2048)))]
    pub repositories: Vec<String>,

    /// The Secret that is kept filled. It is always in the namespace of the BearerToken.
    #[serde(default)]
    pub secret: SecretSpec,

    /// Neither mints nor writes while true. The token in the Secret still expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// How the controller signs in, and as whom.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self.type == 'ManagedIdentity' || (!has(self.objectId) && !has(self.resourceId))").message("objectId and resourceId select a managed identity: set type to ManagedIdentity, or use clientId"),
    validation = kube::core::Rule::new("self.type != 'ManagedIdentity' || [has(self.clientId), has(self.objectId), has(self.resourceId)].filter(x, x).size() <= 1").message("a managed identity is selected by one of clientId, objectId and resourceId, or by none of them (system-assigned)"),
    validation = kube::core::Rule::new("self.type != 'ManagedIdentity' || !has(self.tenantId)").message("a managed identity is always of its machine's own tenant: remove tenantId"),
    validation = kube::core::Rule::new("!(self.type in ['ClientSecret', 'ClientCertificate']) || (has(self.tenantId) && has(self.clientId) && has(self.secretRef))").message("types ClientSecret and ClientCertificate need tenantId, clientId and secretRef"),
    validation = kube::core::Rule::new("self.type in ['ClientSecret', 'ClientCertificate'] || !has(self.secretRef)").message("secretRef belongs to types ClientSecret and ClientCertificate: set the type, or remove secretRef"),
    validation = kube::core::Rule::new("self.type == 'WorkloadIdentity' || !has(self.serviceAccountName)").message("serviceAccountName belongs to type WorkloadIdentity: set the type, or remove serviceAccountName")
)]
pub struct IdentitySpec {
    /// How the controller signs in.
    #[serde(default, rename = "type")]
    pub kind: IdentityKind,

    /// The Entra ID tenant: a GUID or a verified domain. Left out, that of the ServiceAccount if one is named that says it, or
    /// else the pod's (`AZURE_TENANT_ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9.-]*$"))]
    pub tenant_id: Option<String>,

    /// The client (application) id of the identity. Left out, that of the ServiceAccount if one is named, or else the pod's
    /// (`AZURE_CLIENT_ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"))]
    pub client_id: Option<String>,

    /// The object (principal) id of a managed identity, in place of its client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"))]
    pub object_id: Option<String>,

    /// The Azure resource id of a managed identity, in place of its client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^/subscriptions/[A-Za-z0-9._()/-]+$"))]
    pub resource_id: Option<String>,

    /// The ServiceAccount of this namespace that signs in, in place of the controller's own: the identity has a federated
    /// credential for `system:serviceaccount:NAMESPACE:NAME`. What its annotations `azure.workload.identity/client-id` and
    /// `azure.workload.identity/tenant-id` say need not be said here, and must not be contradicted. The controller may have
    /// to be given the right to ask for its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,

    /// The Secret of this namespace that holds the credential of a service principal: its secret (key `clientSecret`), or
    /// its certificate (`tls.crt`) and RSA key (`tls.key`) in PEM, as in a Secret of type `kubernetes.io/tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
}

/// How the controller signs in.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum IdentityKind {
    /// A service account token, exchanged at Entra ID: the one that is projected into the pod, or one of the ServiceAccount
    /// that is named.
    #[default]
    WorkloadIdentity,
    /// A managed identity of the machine, from the instance metadata service (IMDS).
    ManagedIdentity,
    /// A service principal with a client secret.
    ClientSecret,
    /// A service principal with a certificate.
    ClientCertificate,
}

/// A Secret in the namespace of the BearerToken. There is no field for another namespace, on purpose.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The Secret that is kept filled.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Name of the Secret. Left out, the BearerToken's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: Option<String>,

    /// The keys to write, any of: Bearer (`bearerToken`), Basic (`username`, `password`), Token (`token`). A
    /// GitRepository reads the first two, and `bearerToken` where both are there; Basic also serves one whose URL carries
    /// a user (`org@`). Token is what a Provider of type `azuredevops` reads.
    #[serde(default = "bearer", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 3))]
    // Not a set: applied over the stored default, [Basic] would become both.
    #[x_kube(
        merge_strategy = kube::core::ListMerge::Atomic,
        validation = kube::core::Rule::new("self.all(one, self.exists_one(other, other == one))").message("a format is named once")
    )]
    pub formats: Vec<Format>,

    /// Whether a Secret that somebody else made may be taken over, or a key in ours. The Secret is, once the token opens
    /// every repository that is known; then other credentials in it (`username`, `password`, `bearerToken`, `identity`) are
    /// removed, and the annotation in which kubectl keeps a copy of them. All other keys stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,

    /// What becomes of the Secret when the BearerToken is deleted, or names another Secret.
    #[serde(default, skip_serializing_if = "DeletionPolicy::is_retain")]
    pub deletion_policy: DeletionPolicy,
}

impl Default for SecretSpec {
    fn default() -> Self {
        Self { name: None, formats: bearer(), adopt: false, deletion_policy: DeletionPolicy::Retain }
    }
}

/// What becomes of a Secret that no BearerToken keeps any more.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum DeletionPolicy {
    /// It stays, and its token expires: a mistaken deletion can be reverted by a commit that Flux can still pull.
    #[default]
    Retain,
    /// Our keys are removed from it, and the Secret itself if we made it and nothing of anybody else is in it.
    Delete,
}

impl DeletionPolicy {
    /// Whether this is the default, which need not be stored.
    pub fn is_retain(&self) -> bool {
        *self == Self::Retain
    }
}

/// Keys under which the token is written.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Format {
    /// Key `bearerToken`.
    Bearer,
    /// Keys `username` (the client id) and `password` (the token).
    Basic,
    /// Key `token`.
    Token,
}

impl Format {
    /// All of them, sorted.
    pub const ALL: [Self; 3] = [Self::Bearer, Self::Basic, Self::Token];

    /// These formats, sorted and once each; Bearer where none is named.
    pub fn set(named: &[Self]) -> &'static [Self] {
        let [bearer, basic, token] = Self::ALL.map(|format| named.contains(&format));
        match (bearer, basic, token) {
            (true, true, true) => &[Self::Bearer, Self::Basic, Self::Token],
            (true, true, false) => &[Self::Bearer, Self::Basic],
            (true, false, true) => &[Self::Bearer, Self::Token],
            (false, true, true) => &[Self::Basic, Self::Token],
            (false, true, false) => &[Self::Basic],
            (false, false, true) => &[Self::Token],
            (_, false, false) => &[Self::Bearer],
        }
    }
}

fn bearer() -> Vec<Format> {
    vec![Format::Bearer]
}

/// What the controller last saw and did.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BearerTokenStatus {
    /// Ready, and while they hold: Reconciling, Stalled, `RefreshFailing`, `CredentialExpiring`; Accessible once a
    /// repository was probed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,

    /// When the token in the Secret expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// When the token in the Secret is replaced, if nothing goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_at: Option<Time>,

    /// The Secret that was filled last. While a GitRepository reads it, it is renewed, whatever the spec names since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,

    /// The identity whose token the Secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<StatusIdentity>,

    /// The generation of the spec that this status is about; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// Whose token the Secret holds, as far as the token itself says.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusIdentity {
    /// The Entra ID tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The client (application) id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The object (principal) id: what Azure DevOps lists as the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
}

/// The CustomResourceDefinition, as `deploy/crd/bearertokens.yaml` ships it.
///
/// The status starts as `observedGeneration: -1`, so that kstatus calls a BearerToken nobody has looked at in progress.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = BearerToken::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("status"));
        if let Some(status) = status {
            unobserved(status);
        }
        version.subresources = Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
            ..CustomResourceSubresources::default()
        });
    }
    definition
}

fn unobserved(status: &mut JSONSchemaProps) {
    status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    status.nullable = None;
}
