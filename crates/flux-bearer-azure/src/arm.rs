//! Azure Resource Manager (ARM): what the set-up makes in a subscription, and what it looks at.
//!
//! A call is one exchange, tried again a few times while Azure is busy, and a typed answer. What takes minutes is the
//! caller's to wait for: a new identity is not known everywhere at once, nor is a new role assignment.
//!
//! Wire format: <https://learn.microsoft.com/rest/api/azure/>; the versions are the ones that Azure's own clients used
//! at the end of 2026. Everything here answers at once, so no long-running operation is followed.

mod call;
mod cluster;
mod federation;
mod identity;
mod permissions;
mod provider;
mod role;

use std::collections::BTreeMap;

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;
use serde_json::json;

pub use cluster::ManagedCluster;
pub use federation::FederatedCredential;
pub use identity::UserAssigned;
pub use permissions::{Permissions, Scope};
pub use provider::{CONTAINER_SERVICE, MANAGED_IDENTITY, ProviderState};
pub use role::RoleAssignment;

use crate::arm::call::{Target, delete, find, list, put};
use crate::field::{guid, or_default, shown, text};
use crate::operator::Session;

const SUBSCRIPTIONS: &str = "2022-12-01";
const GROUPS: &str = "2025-04-01";

/// Tags of a resource, as they are: whoever shows one of somebody else makes it harmless first.
///
/// What flux-bearer makes carries the tag [`TAG`], so that it knows its own.
pub type Tags = BTreeMap<String, String>;

/// The name of the tag on everything that flux-bearer makes; its value says what for.
pub const TAG: &str = flux_bearer::NAME;

/// One subscription, seen by whoever is signed in.
#[derive(Clone, Debug)]
pub struct Arm {
    session: Session,
    subscription: String,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its id, a GUID.
    #[serde(rename = "subscriptionId", deserialize_with = "guid")]
    pub id: String,
    /// Its name, for display.
    #[serde(rename = "displayName", default, deserialize_with = "shown")]
    pub name: String,
    /// The tenant it belongs to: identities in it can be of no other.
    #[serde(deserialize_with = "guid")]
    pub tenant_id: String,
}

/// A resource group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ResourceGroup {
    /// Its name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Its location, for example `westeurope`.
    #[serde(deserialize_with = "text")]
    pub location: String,
    /// Its tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Tags,
}

impl Arm {
    /// The subscription with this id, seen by `session`.
    pub fn new(session: Session, subscription: impl Into<String>) -> Self {
        Self { session, subscription: subscription.into() }
    }

    /// Every subscription in which `session` has a role.
    ///
    /// # Errors
    /// See [`flux_bearer::failure::arm`], here as for every call.
    pub async fn subscriptions(session: &Session) -> Result<Vec<Subscription>, Failure> {
        let target =
            Target { operation: Operation::ReadSubscription, segments: &["subscriptions"], version: SUBSCRIPTIONS };
        list(session, &target).await
    }

    /// The subscription itself.
    pub async fn subscription(&self) -> Result<Subscription, Failure> {
        let segments = &["subscriptions", &self.subscription];
        let target = Target { operation: Operation::ReadSubscription, segments, version: SUBSCRIPTIONS };
        find(&self.session, &target).await?.ok_or_else(|| target.missing())
    }

    /// The resource group called `name`.
    pub async fn resource_group(&self, name: &str) -> Result<Option<ResourceGroup>, Failure> {
        let segments = &self.group(name);
        find(&self.session, &Target { operation: Operation::ReadGroup, segments, version: GROUPS }).await
    }

    /// Makes the resource group, or sets the tags of the one that is there.
    pub async fn put_resource_group(&self, name: &str, location: &str, tags: &Tags) -> Result<ResourceGroup, Failure> {
        let segments = &self.group(name);
        let target = Target { operation: Operation::WriteGroup, segments, version: GROUPS };
        put(&self.session, &target, json!({"location": location, "tags": tags})).await
    }

    /// The ids of everything in a resource group.
    pub async fn resources(&self, group: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Resource {
            #[serde(deserialize_with = "text")]
            id: String,
        }
        let segments = &["subscriptions", &self.subscription, "resourceGroups", group, "resources"];
        let target = Target { operation: Operation::ReadGroup, segments, version: GROUPS };
        let all: Vec<Resource> = list(&self.session, &target).await?;
        Ok(all.into_iter().map(|resource| resource.id).collect())
    }

    /// Begins to delete a resource group with all that is in it; that takes minutes: ask for the group meanwhile.
    pub async fn delete_resource_group(&self, name: &str) -> Result<(), Failure> {
        let segments = &self.group(name);
        delete(&self.session, &Target { operation: Operation::DeleteGroup, segments, version: GROUPS }).await
    }

    fn group<'a>(&'a self, name: &'a str) -> [&'a str; 4] {
        ["subscriptions", &self.subscription, "resourceGroups", name]
    }

    /// A resource in a group: `kind` is its type with its namespace.
    fn resource<'a>(&'a self, group: &'a str, kind: [&'a str; 2], name: &'a str) -> [&'a str; 8] {
        let [namespace, kind] = kind;
        ["subscriptions", &self.subscription, "resourceGroups", group, "providers", namespace, kind, name]
    }

    /// All resources of a kind in the subscription.
    fn everywhere<'a>(&'a self, kind: [&'a str; 2]) -> [&'a str; 5] {
        let [namespace, kind] = kind;
        ["subscriptions", &self.subscription, "providers", namespace, kind]
    }
}

/// The group in a resource's id, whose words come in any case.
fn group_of(id: &str) -> Option<String> {
    let mut segments = id.split('/').skip_while(|segment| !segment.eq_ignore_ascii_case("resourceGroups")).skip(1);
    segments.next().filter(|group| !group.is_empty()).map(str::to_owned)
}
