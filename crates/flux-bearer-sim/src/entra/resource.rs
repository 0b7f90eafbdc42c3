//! The resources that tokens are made for, and the scopes that ask for them.

use super::refusal::Refusal;
use crate::state::Tenant;

/// The Azure DevOps resource: what its tokens have as `aud`.
const AZURE_DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798";

/// Names by which resources are asked for, and the `aud` of their tokens.
const RESOURCES: [(&str, &str); 5] = [
    (AZURE_DEVOPS, AZURE_DEVOPS),
    ("https://app.vssps.visualstudio.com", AZURE_DEVOPS),
    ("https://management.azure.com", "https://management.azure.com"),
    ("https://management.core.windows.net", "https://management.core.windows.net/"),
    ("https://graph.microsoft.com", "https://graph.microsoft.com"),
];

/// A resource that a token can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    audience: &'static str,
}

impl Resource {
    /// Azure DevOps.
    pub(crate) const AZURE_DEVOPS: Self = Self { audience: AZURE_DEVOPS };

    /// `aud` of the tokens that Azure Resource Manager takes.
    pub(crate) const RESOURCE_MANAGER: [&str; 2] =
        ["https://management.azure.com", "https://management.core.windows.net/"];

    /// `aud` of its tokens.
    pub(crate) fn audience(self) -> &'static str {
        self.audience
    }

    /// The resource of this name, where the tenant has a service principal of it.
    pub(crate) fn named(name: &str, tenant: &Tenant) -> Result<Self, Refusal> {
        let plain = name.trim_end_matches('/');
        let known = RESOURCES.iter().find(|(known, _)| known.eq_ignore_ascii_case(plain));
        match known {
            Some((_, audience)) if !is_absent(tenant, audience) => Ok(Self { audience }),
            _ => Err(Refusal::no_resource(name, &tenant.id)),
        }
    }

    /// The resource that these scopes ask for: that of the one which ends in `/.default`. Others (`openid` and the
    /// like, which MSAL for Go sends along) are ignored.
    pub(super) fn of_scopes(scopes: &str, tenant: &Tenant) -> Result<Self, Refusal> {
        let mut names = scopes.split_whitespace().filter_map(|scope| scope.strip_suffix("/.default"));
        let Some(name) = names.next() else { return Err(Refusal::scope_without_default(scopes)) };
        if names.any(|other| other != name) {
            return Err(Refusal::bad_scope(scopes));
        }
        Self::named(name, tenant)
    }
}

/// Scopes of a person's sign-in that ask for no resource.
const OPEN_ID: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// The scope by which a person's client asks for a resource: its name, and what it asks of it.
pub(super) struct Delegated<'a> {
    pub(super) name: &'a str,
    pub(super) resource: Resource,
}

impl<'a> Delegated<'a> {
    /// The first scope that asks for a resource, for example `https://management.azure.com/user_impersonation`.
    pub(super) fn of_scopes(scopes: &'a str, tenant: &Tenant) -> Result<Self, Refusal> {
        let mut asked = scopes.split_whitespace().filter(|scope| !OPEN_ID.contains(scope));
        let scope = asked.next().ok_or_else(|| Refusal::bad_scope(scopes))?;
        let (name, _) = scope.rsplit_once('/').ok_or_else(|| Refusal::bad_scope(scopes))?;
        Ok(Self { name, resource: Resource::named(name, tenant)? })
    }
}

fn is_absent(tenant: &Tenant, audience: &str) -> bool {
    tenant.absent_resources.iter().any(|absent| absent.trim_end_matches('/').eq_ignore_ascii_case(audience))
}
