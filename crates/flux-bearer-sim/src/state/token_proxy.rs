//! The token proxy of a cluster with AKS identity bindings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The token proxy of a cluster with AKS identity bindings.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenProxy {
    /// The host that it answers under, and the name in its certificate.
    pub host: String,
    /// The issuer of the cluster's service account tokens: one of `issuers`.
    pub issuer: String,
    /// Who may be which identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<IdentityBinding>,
    /// How it words a refusal of its own.
    #[serde(default)]
    pub errors: TokenProxyErrors,
}

/// An identity, and the accounts that have the right `use-managed-identity` on it. It needs the federated credential that
/// AKS makes for it, of issuer `https://ib.oic.prod-aks.azure.com/TENANT/CLIENT`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityBinding {
    /// Client id of an application of kind `ManagedIdentity`.
    pub client_id: String,
    /// `system:serviceaccount:NAMESPACE:NAME`, byte for byte.
    pub subjects: Vec<String>,
}

/// How the token proxy words a refusal of its own: none has been recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TokenProxyErrors {
    /// Plain text.
    #[default]
    Text,
    /// JSON with OAuth's `error` and `error_description`, without a number of Entra's.
    OAuth,
}
