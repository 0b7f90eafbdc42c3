//! Which roles a principal has been given.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;

use super::Arm;
use super::call::{Target, filtered};
use crate::field::text;

const VERSION: &str = "2022-04-01";

/// A role that a principal has somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub struct RoleAssignment {
    /// Its id in ARM, by which it is taken back.
    pub id: String,
    /// Where the role holds: a subscription, a resource group, a resource, or something above the subscription.
    pub scope: String,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(deserialize_with = "text")]
    id: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(deserialize_with = "text")]
    scope: String,
}

impl From<Wire> for RoleAssignment {
    fn from(Wire { id, properties: Properties { scope } }: Wire) -> Self {
        Self { id, scope }
    }
}

impl Arm {
    /// The roles that the principal with this object id has in the subscription, above it and below it; not those of
    /// groups that it is in.
    pub async fn role_assignments(&self, principal_id: &str) -> Result<Vec<RoleAssignment>, Failure> {
        let segments =
            &["subscriptions", &self.subscription, "providers", "Microsoft.Authorization", "roleAssignments"];
        let target = Target { operation: Operation::ReadRoles, segments, version: VERSION };
        filtered(&self.session, &target, &format!("principalId eq '{principal_id}'")).await
    }
}
