//! User-assigned managed identities.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;
use serde::de::Error;
use serde_json::json;

use super::call::{Target, delete, find, list, put};
use super::{Arm, Tags, group_of};
use crate::field::{guid, or_default, text};

pub(super) const VERSION: &str = "2024-11-30";

pub(super) const KIND: [&str; 2] = ["Microsoft.ManagedIdentity", "userAssignedIdentities"];

/// A user-assigned managed identity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct UserAssigned {
    /// Its id in ARM.
    pub id: String,
    /// The resource group it is in.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
    /// What signs in: `spec.identity.clientId` of a BearerToken.
    pub client_id: String,
    /// The object id of its service principal, by which Azure DevOps knows it.
    pub principal_id: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(deserialize_with = "text")]
    id: String,
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text")]
    location: String,
    #[serde(default, deserialize_with = "or_default")]
    tags: Tags,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "clientId", deserialize_with = "guid")]
    client: String,
    #[serde(rename = "principalId", deserialize_with = "guid")]
    principal: String,
    #[serde(rename = "tenantId", deserialize_with = "guid")]
    tenant: String,
}

impl TryFrom<Wire> for UserAssigned {
    type Error = serde::de::value::Error;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let Wire { id, name, location, tags, properties } = wire;
        let Properties { client: client_id, principal: principal_id, tenant: tenant_id } = properties;
        let group = group_of(&id).ok_or_else(|| Self::Error::custom("no resource group"))?;
        Ok(Self { id, group, name, location, tags, client_id, principal_id, tenant_id })
    }
}

impl Arm {
    /// The identity called `name` in `group`.
    pub async fn identity(&self, group: &str, name: &str) -> Result<Option<UserAssigned>, Failure> {
        let segments = &self.resource(group, KIND, name);
        find(&self.session, &Target { operation: Operation::ReadIdentity, segments, version: VERSION }).await
    }

    /// Every identity of the subscription that the caller may see.
    pub async fn identities(&self) -> Result<Vec<UserAssigned>, Failure> {
        let segments = &self.everywhere(KIND);
        list(&self.session, &Target { operation: Operation::ReadIdentity, segments, version: VERSION }).await
    }

    /// Makes the identity, or sets the tags of the one that is there. Entra ID and Azure DevOps know a new one after
    /// seconds to minutes.
    pub async fn put_identity(
        &self,
        group: &str,
        name: &str,
        location: &str,
        tags: &Tags,
    ) -> Result<UserAssigned, Failure> {
        let segments = &self.resource(group, KIND, name);
        let target = Target { operation: Operation::WriteIdentity, segments, version: VERSION };
        put(&self.session, &target, json!({"location": location, "tags": tags})).await
    }

    /// Deletes the identity with its federated credentials, if it is there.
    pub async fn delete_identity(&self, group: &str, name: &str) -> Result<(), Failure> {
        let segments = &self.resource(group, KIND, name);
        delete(&self.session, &Target { operation: Operation::DeleteIdentity, segments, version: VERSION }).await
    }
}
