//! The state of the simulated Azure: one YAML document, whose schema is the types of this module.
//!
#![doc = concat!("```yaml\n", include_str!("state/example.yaml"), "```")]
//!
//! Names and ids compare without regard to case, as Azure's do; the parts of a federated credential compare byte for
//! byte, as Entra's do.

mod check;
mod organization;
mod subscription;
mod tenant;
mod token_proxy;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::check::StateError;
pub(crate) use self::check::{is_guid, is_zero};
pub use self::organization::{
    AccessControlEntry, Licence, Member, Namespace, NotMemberAnswer, Organization, PersonalAccessToken, Project,
    ProjectGroups, RateLimit, Repository, SignInAnswer,
};
pub(crate) use self::organization::{derived_id, derived_uuid, holds};
pub use self::subscription::{
    Lock, LockLevel, ManagedCluster, Provider, ResourceGroup, Role, RoleAssignment, Subscription, UserAssignedIdentity,
};
pub use self::tenant::{Application, Certificate, DeviceCode, FederatedCredential, Kind, Secret, Tenant, User};
pub use self::token_proxy::{IdentityBinding, TokenProxy, TokenProxyErrors};
use crate::faults::Fault;
use crate::jwt::Jwks;

/// Everything that the simulated Azure knows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct State {
    /// OIDC issuers whose keys Entra may fetch. Any other issuer can't be reached: AADSTS90061.
    pub issuers: Vec<IssuerState>,
    /// Entra tenants.
    pub tenants: Vec<Tenant>,
    /// The machine that asks 169.254.169.254.
    pub imds: Imds,
    /// The token proxy of a cluster with AKS identity bindings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_proxy: Option<TokenProxy>,
    /// Azure subscriptions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscription>,
    /// Azure DevOps organisations.
    pub organizations: Vec<Organization>,
    /// What holds where nothing more specific is said.
    pub defaults: Defaults,
    /// Faults in force when the world starts. Later ones are set at run time and are not part of the state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// An OIDC issuer, for example a Kubernetes cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerState {
    /// Its URL, byte for byte as the claim `iss` has it: a trailing slash is part of it.
    pub issuer: String,
    /// Its keys. Without them Entra fetches `{issuer}/.well-known/openid-configuration` and the `jwks_uri` named there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// PEM file of the CA that signed the issuer's TLS certificate, where it is not one that everybody trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// The instance metadata service of "this machine".
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Imds {
    /// Client id of the machine's system-assigned identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_assigned: Option<String>,
    /// Client ids of the user-assigned identities that the machine has.
    pub user_assigned: Vec<String>,
    /// Whether the same token is handed out until it nears its end, as Azure does for about 24 hours. Default true.
    pub cache: bool,
    /// Seconds before its end at which a cached token is replaced. Default 300.
    pub renew_before_seconds: u32,
    /// Whether more than 20 requests a second or 5 at a time are answered 429, as Azure does. Default true.
    /// The journal counts them either way.
    pub enforce_limits: bool,
}

impl Default for Imds {
    fn default() -> Self {
        Self {
            system_assigned: None,
            user_assigned: Vec::new(),
            cache: true,
            renew_before_seconds: 300,
            enforce_limits: true,
        }
    }
}

/// What holds where nothing more specific is said, and how Entra words its answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// `expires_in` of an application's token, in seconds. Default 3599, as Entra answers for most.
    pub application_lifetime_seconds: u32,
    /// `expires_in` of a managed identity's token, in seconds. Default 86399: 24 hours.
    pub managed_identity_lifetime_seconds: u32,
    /// Seconds from the creation of an application or federated credential until Entra knows it. Default 0.
    pub propagation_seconds: u32,
    /// Seconds for which a sign-in that came too early keeps failing, even once the credential is known. Default 0.
    pub negative_cache_seconds: u32,
    /// Status and `error` of the answers for which both pairs have been seen (AADSTS70021, 700212, 70023).
    pub assertion_refusal: AssertionRefusal,
    /// Which code a federated credential that does not match is refused with.
    pub mismatch: Mismatch,
    /// What joins Trace ID, Correlation ID and Timestamp in an error description.
    pub error_lines: ErrorLines,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            application_lifetime_seconds: 3599,
            managed_identity_lifetime_seconds: 86_399,
            propagation_seconds: 0,
            negative_cache_seconds: 0,
            assertion_refusal: AssertionRefusal::default(),
            mismatch: Mismatch::default(),
            error_lines: ErrorLines::default(),
        }
    }
}

/// Status and `error` of a refused assertion, where Entra has been seen to answer both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AssertionRefusal {
    /// 401 `invalid_client`, as since 2023.
    #[default]
    InvalidClient,
    /// 400 `invalid_request`, as before.
    InvalidRequest,
}

/// Which code a federated credential that does not match is refused with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mismatch {
    /// AADSTS700211, 700212, 700213 or 7002138: what does not match.
    #[default]
    Precise,
    /// AADSTS70021, as before those existed.
    Generic,
}

/// What joins Trace ID, Correlation ID and Timestamp in an error description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ErrorLines {
    /// Single spaces, as since about 2023.
    #[default]
    Space,
    /// Carriage return and line feed, as before.
    CrLf,
}

impl State {
    /// Reads and checks a state. JSON is YAML, so it reads that too.
    pub fn from_yaml(text: &str) -> Result<Self, StateError> {
        let state: Self = serde_saphyr::from_str(text).map_err(|error| StateError::Unreadable(error.to_string()))?;
        state.check()?;
        Ok(state)
    }

    /// The tenant of this id or domain.
    pub fn tenant(&self, id_or_domain: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.is_named(id_or_domain))
    }

    /// The application of this client id, in whichever tenant.
    pub fn application(&self, client_id: &str) -> Option<(&Tenant, &Application)> {
        self.tenants.iter().find_map(|tenant| Some((tenant, tenant.application(client_id)?)))
    }

    /// The application of this object id, in whichever tenant.
    pub fn principal(&self, object_id: &str) -> Option<&Application> {
        let mut applications = self.tenants.iter().flat_map(|tenant| &tenant.applications);
        applications.find(|application| application.object_id.eq_ignore_ascii_case(object_id))
    }

    /// The user of this object id, in whichever tenant.
    pub fn user(&self, object_id: &str) -> Option<&User> {
        let mut users = self.tenants.iter().flat_map(|tenant| &tenant.users);
        users.find(|user| user.object_id.eq_ignore_ascii_case(object_id))
    }

    /// The subscription of this GUID.
    pub fn subscription(&self, id: &str) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.id.eq_ignore_ascii_case(id))
    }

    /// The organisation of this name.
    pub fn organization(&self, name: &str) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.name.eq_ignore_ascii_case(name))
    }

    /// Dates what `before` did not have: applications and members that are new, federated credentials and access control
    /// entries that are new or changed.
    pub(crate) fn date_new_parts(&mut self, before: &Self, now: Timestamp) {
        for tenant in &mut self.tenants {
            for application in &mut tenant.applications {
                let known = before.application(&application.client_id).map(|(_, application)| application);
                application.date_new_parts(known, now);
            }
        }
        for organization in &mut self.organizations {
            organization.date_new_parts(before.organization(&organization.name), now);
        }
    }
}
