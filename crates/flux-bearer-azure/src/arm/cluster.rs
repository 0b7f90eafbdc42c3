//! AKS clusters, as far as federation looks at them.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;
use serde::de::Error;

use super::call::{Target, find, list};
use super::{Arm, group_of};
use crate::field::{maybe, or_default, text};

const VERSION: &str = "2026-08-01";

const KIND: [&str; 2] = ["Microsoft.ContainerService", "managedClusters"];

/// An AKS cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct ManagedCluster {
    /// Its id in ARM.
    pub id: String,
    /// The resource group it is in.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// The version of Kubernetes that was asked for, for example `1.34`.
    pub kubernetes_version: Option<String>,
    /// The issuer of its service account tokens, once it has one that Entra ID can read.
    pub issuer: Option<String>,
    /// Whether it publishes its issuer.
    pub oidc_enabled: bool,
    /// Whether AKS runs the workload identity webhook in it. The controller needs none.
    pub workload_identity_enabled: bool,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(deserialize_with = "text")]
    id: String,
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text")]
    location: String,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(default, deserialize_with = "maybe")]
    kubernetes_version: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    oidc_issuer_profile: Issuer,
    #[serde(default, deserialize_with = "or_default")]
    security_profile: Security,
}

#[derive(Default, Deserialize)]
struct Issuer {
    #[serde(default, deserialize_with = "or_default")]
    enabled: bool,
    // With a capital URL, unlike what Azure CLI shows.
    #[serde(rename = "issuerURL", default, deserialize_with = "maybe")]
    issuer_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    #[serde(default, deserialize_with = "or_default")]
    workload_identity: Switch,
}

#[derive(Default, Deserialize)]
struct Switch {
    #[serde(default, deserialize_with = "or_default")]
    enabled: bool,
}

impl TryFrom<Wire> for ManagedCluster {
    type Error = serde::de::value::Error;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let Wire { id, name, location, properties } = wire;
        let Properties { kubernetes_version, oidc_issuer_profile, security_profile } = properties;
        Ok(Self {
            group: group_of(&id).ok_or_else(|| Self::Error::custom("no resource group"))?,
            id,
            name,
            location,
            kubernetes_version,
            issuer: oidc_issuer_profile.issuer_url.filter(|url| !url.is_empty()),
            oidc_enabled: oidc_issuer_profile.enabled,
            workload_identity_enabled: security_profile.workload_identity.enabled,
        })
    }
}

impl Arm {
    /// The cluster called `name` in `group`.
    pub async fn managed_cluster(&self, group: &str, name: &str) -> Result<Option<ManagedCluster>, Failure> {
        let segments = &self.resource(group, KIND, name);
        find(&self.session, &Target { operation: Operation::ReadCluster, segments, version: VERSION }).await
    }

    /// Every cluster of the subscription that the caller may see.
    pub async fn managed_clusters(&self) -> Result<Vec<ManagedCluster>, Failure> {
        let segments = &self.everywhere(KIND);
        list(&self.session, &Target { operation: Operation::ReadCluster, segments, version: VERSION }).await
    }
}
