//! AKS clusters, to read.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::answer::{Refused, ok};
use super::identities::missing;
use super::target::{CLUSTERS, Id};
use super::{Exchange, page};
use crate::state::{ManagedCluster, Subscription, derived_id};

pub(super) fn render(subscription: &Subscription, cluster: &ManagedCluster) -> Value {
    let ManagedCluster { resource_group, name, location, issuer_url, workload_identity, kubernetes_version } = cluster;
    let id = format!("/subscriptions/{}/resourcegroups/{resource_group}/providers/{CLUSTERS}/{name}", subscription.id);
    let mut properties = json!({
        "provisioningState": "Succeeded",
        "powerState": {"code": "Running"},
        "kubernetesVersion": kubernetes_version,
        "currentKubernetesVersion": kubernetes_version,
        "nodeResourceGroup": format!("MC_{resource_group}_{name}_{location}"),
        "enableRBAC": true,
    });
    if let Some(properties) = properties.as_object_mut() {
        // A profile that was never set is absent, which means that the feature is off.
        let issuer = issuer_url.as_ref().map(|url| json!({"enabled": true, "issuerURL": url}));
        properties.extend(issuer.map(|profile| ("oidcIssuerProfile".to_owned(), profile)));
        let profile = workload_identity.then(|| json!({"workloadIdentity": {"enabled": true}}));
        properties.extend(profile.map(|profile| ("securityProfile".to_owned(), profile)));
    }
    json!({
        "id": id,
        "name": name,
        "location": location,
        "type": "Microsoft.ContainerService/ManagedClusters",
        "properties": properties,
        "identity": {
            "type": "SystemAssigned",
            "tenantId": subscription.tenant_id,
            "principalId": derived_id(&[&id, "principal"]),
        },
        "sku": {"name": "Base", "tier": "Standard"},
    })
}

impl Exchange<'_> {
    pub(super) fn clusters(&self, subscription: &Subscription, group: Option<&str>) -> Result<Response<Body>, Refused> {
        let within = |one: &&ManagedCluster| group.is_none_or(|group| one.resource_group.eq_ignore_ascii_case(group));
        let chosen = subscription.managed_clusters.iter().filter(within);
        let readable = chosen.filter(|one| self.may_read(subscription, &one.resource_group, CLUSTERS));
        page(self.call, subscription, readable.map(|one| render(subscription, one)).collect())
    }
}

pub(super) fn cluster(subscription: &Subscription, id: &Id) -> Result<Response<Body>, Refused> {
    let is_meant = |one: &&ManagedCluster| {
        one.resource_group.eq_ignore_ascii_case(&id.group) && one.name.eq_ignore_ascii_case(&id.name)
    };
    let found = subscription.managed_clusters.iter().find(is_meant);
    found.map(|one| ok(&render(subscription, one))).ok_or_else(|| missing(CLUSTERS, id))
}
