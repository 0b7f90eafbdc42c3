//! The Azure Resource Manager part of the state.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Namespaces that a subscription has registered unless it says otherwise.
const REGISTERED: [&str; 2] = ["Microsoft.ManagedIdentity", "Microsoft.ContainerService"];

/// An Azure subscription.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its GUID.
    pub id: String,
    /// The tenant that it trusts, and whose principals may have rights in it.
    pub tenant_id: String,
    /// Display name.
    #[serde(default)]
    pub display_name: String,
    /// Its resource groups.
    #[serde(default)]
    pub resource_groups: Vec<ResourceGroup>,
    /// User-assigned managed identities.
    #[serde(default)]
    pub identities: Vec<UserAssignedIdentity>,
    /// AKS clusters. They can be read, not made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_clusters: Vec<ManagedCluster>,
    /// Who may do what.
    #[serde(default)]
    pub role_assignments: Vec<RoleAssignment>,
    /// Registered resource providers; unless given `Microsoft.ManagedIdentity` and `Microsoft.ContainerService`. What
    /// belongs to any other is refused (409 `MissingSubscriptionRegistration`) until it is registered.
    #[serde(default = "registered")]
    pub providers: Vec<Provider>,
    /// Seconds that a registration takes. Default 0.
    #[serde(default)]
    pub registration_seconds: u32,
    /// Resource types that Azure Policy denies to be written (403 `RequestDisallowedByPolicy`), for example
    /// `Microsoft.ManagedIdentity/userAssignedIdentities`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_by_policy: Vec<String>,
    /// Locks against change: 409 `ScopeLocked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<Lock>,
    /// Locations whose identities can't have federated credentials (405).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations_without_federation: Vec<String>,
    /// Whether the published rates of federated credentials are enforced (429), for example one write in 4 seconds an
    /// identity. Default false.
    #[serde(default)]
    pub enforce_credential_rates: bool,
    /// Entries on a page of a list, at most; the rest follows under `nextLink`. Default 100.
    #[serde(default = "hundred")]
    pub page_size: u32,
}

fn registered() -> Vec<Provider> {
    REGISTERED.map(|namespace| Provider { namespace: namespace.to_owned(), since: None }).into()
}

fn hundred() -> u32 {
    100
}

impl Default for Subscription {
    fn default() -> Self {
        Self {
            id: String::new(),
            tenant_id: String::new(),
            display_name: String::new(),
            resource_groups: Vec::new(),
            identities: Vec::new(),
            managed_clusters: Vec::new(),
            role_assignments: Vec::new(),
            providers: registered(),
            registration_seconds: 0,
            denied_by_policy: Vec::new(),
            locks: Vec::new(),
            locations_without_federation: Vec::new(),
            enforce_credential_rates: false,
            page_size: hundred(),
        }
    }
}

/// A resource group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceGroup {
    /// Its name.
    pub name: String,
    /// Its location, for example `westeurope`.
    pub location: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// A user-assigned managed identity: the Azure resource of an application of kind `ManagedIdentity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserAssignedIdentity {
    /// The resource group it is in.
    pub resource_group: String,
    /// Its name: 3 to 128 letters, digits, `-`, `_`, the first a letter or digit.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Client id of the application, which the tenant has under `applications` and which holds the federated
    /// credentials. A request that makes or deletes an identity does so with both.
    pub client_id: String,
}

/// An AKS cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedCluster {
    /// The resource group it is in.
    pub resource_group: String,
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// URL of its issuer of service account tokens; none means that the feature is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_url: Option<String>,
    /// Whether AKS runs the webhook of workload identity in it.
    #[serde(default)]
    pub workload_identity: bool,
    /// Its version. Default 1.34.
    #[serde(default = "kubernetes_version")]
    pub kubernetes_version: String,
}

fn kubernetes_version() -> String {
    "1.34".to_owned()
}

/// A role of a principal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleAssignment {
    /// Object id of the user or service principal.
    pub object_id: String,
    /// The role.
    pub role: Role,
    /// The resource group that it holds for; none means the whole subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
}

/// A built-in role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Role {
    /// Everything.
    Owner,
    /// Everything but rights.
    Contributor,
    /// Reading everything.
    #[default]
    Reader,
    /// Making and deleting user-assigned identities and (which could not be confirmed of the built-in role) their
    /// federated credentials.
    ManagedIdentityContributor,
    /// The same role as it would be if federated credentials were no part of it.
    ManagedIdentityContributorWithoutFederation,
    /// Reading everything, and changing rights.
    UserAccessAdministrator,
}

/// A registered resource provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provider {
    /// Its namespace, for example `Microsoft.ManagedIdentity`.
    pub namespace: String,
    /// When its registration began; none means long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// What it forbids.
    pub level: LockLevel,
    /// The resource group that it holds for; none means the whole subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
}

/// What a lock forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LockLevel {
    /// Deleting.
    #[default]
    CanNotDelete,
    /// Deleting and changing.
    ReadOnly,
}

impl Subscription {
    /// The resource group of this name.
    pub fn resource_group(&self, name: &str) -> Option<&ResourceGroup> {
        self.resource_groups.iter().find(|group| group.name.eq_ignore_ascii_case(name))
    }

    /// The identity of this name in this resource group.
    pub fn identity(&self, group: &str, name: &str) -> Option<&UserAssignedIdentity> {
        self.identities.iter().find(|identity| identity.is(group, name))
    }

    /// The Azure resource id of an identity, in the case that Azure answers.
    pub fn identity_id(&self, group: &str, name: &str) -> String {
        let provider = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
        format!("/subscriptions/{}/resourcegroups/{group}/{provider}/{name}", self.id)
    }
}

impl UserAssignedIdentity {
    /// Whether this is its resource group and name.
    pub fn is(&self, group: &str, name: &str) -> bool {
        self.resource_group.eq_ignore_ascii_case(group) && self.name.eq_ignore_ascii_case(name)
    }
}
