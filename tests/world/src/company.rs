//! A company before its set-up: a subscription without anything in it, an organisation with a repository, and somebody
//! who may do what a set-up does.

use flux_bearer_sim::state::{State, StateError};

use crate::identities::{ISSUER, TENANT};

/// The subscription.
pub const SUBSCRIPTION: &str = "00000000-5555-4000-8000-000000000001";

/// The repository.
pub const REPOSITORY: &str = "https://dev.azure.com/contoso/platform/_git/fleet";

/// Client id of the operator, a service principal.
pub const OPERATOR: &str = "00000000-eeee-4000-8000-000000000001";

/// Object id of the operator.
pub const OPERATOR_OBJECT: &str = "00000000-eeee-4000-8000-000000000002";

/// Client secret of the operator.
pub const OPERATOR_SECRET: &str = "0perator~secret";

/// The company; the operator is Owner of the subscription and administrator of the organisation.
pub fn state() -> Result<State, StateError> {
    State::from_yaml(&format!(
        r#"
issuers: [{{issuer: "{ISSUER}"}}]
tenants:
  - id: {TENANT}
    domains: [contoso.example]
    applications:
      - {{name: operator, clientId: {OPERATOR}, objectId: {OPERATOR_OBJECT}, secrets: [{{value: {OPERATOR_SECRET}}}]}}
subscriptions:
  - id: {SUBSCRIPTION}
    tenantId: {TENANT}
    displayName: platform
    roleAssignments: [{{objectId: {OPERATOR_OBJECT}, role: Owner}}]
organizations:
  - name: contoso
    tenantId: {TENANT}
    administrators: [{OPERATOR_OBJECT}]
    members: [{{objectId: {OPERATOR_OBJECT}}}]
    projects:
      - name: platform
        readers: [{OPERATOR_OBJECT}]
        repositories:
          - {{name: fleet, readers: [{OPERATOR_OBJECT}], head: 8843d7f92416211de9ebb963ff4ce28125932878}}
"#
    ))
}
