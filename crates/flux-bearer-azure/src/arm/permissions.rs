//! What the caller may do, asked before anything is done.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;

use super::Arm;
use super::call::{Target, list};
use crate::field::or_default;

const VERSION: &str = "2022-04-01";

const PERMISSIONS: [&str; 3] = ["providers", "Microsoft.Authorization", "permissions"];

/// Where something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Anywhere in the subscription.
    Subscription,
    /// In the resource group of this name, which must be there.
    Group(&'a str),
}

/// What the caller's roles allow in some scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions(Vec<Role>);

/// What one role allows: `actions` without `notActions`. Another role may allow what this one leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(default, deserialize_with = "or_default")]
    actions: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    not_actions: Vec<String>,
}

impl Permissions {
    /// Whether the roles allow an action such as `Microsoft.ManagedIdentity/userAssignedIdentities/write`. A deny
    /// assignment, a lock or a policy may forbid it all the same.
    pub fn allows(&self, action: &str) -> bool {
        let among = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        self.0.iter().any(|role| among(&role.actions) && !among(&role.not_actions))
    }
}

/// Whether `pattern`, in which `*` stands for anything, slashes included, means `action`; case doesn't count.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|start| action.strip_prefix(start)) else { return false };
    let Some(end) = parts.next_back() else { return rest.is_empty() };
    let Some(middle) = rest.strip_suffix(end) else { return false };
    parts.try_fold(middle, |rest, part| rest.split_once(part).map(|(_, rest)| rest)).is_some()
}

impl Arm {
    /// What the caller may do in `scope`.
    pub async fn permissions(&self, scope: Scope<'_>) -> Result<Permissions, Failure> {
        let of = match scope {
            Scope::Subscription => vec!["subscriptions", &self.subscription],
            Scope::Group(name) => self.group(name).to_vec(),
        };
        let segments = &[&of[..], &PERMISSIONS].concat();
        let target = Target { operation: Operation::ReadPermissions, segments, version: VERSION };
        list(&self.session, &target).await.map(Permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/write";

    #[test]
    fn a_star_stands_for_anything() {
        for pattern in [
            "*",
            "**",
            WRITE,
            "microsoft.managedidentity/USERassignedidentities/write",
            "Microsoft.ManagedIdentity/*",
            "*/write",
            "Microsoft.*/userAssignedIdentities/*",
            "*Identity*Identities*",
            "Microsoft.ManagedIdentity/*/write",
        ] {
            assert!(matches(pattern, WRITE), "{pattern}");
        }
        for pattern in [
            "",
            "*/read",
            "Microsoft.ManagedIdentity",
            "Microsoft.ManagedIdentity/*/write/*",
            "write",
            "*Identities*Identity*",
            "Microsoft.ManagedIdentity/userAssignedIdentities/write*e",
        ] {
            assert!(!matches(pattern, WRITE), "{pattern}");
        }
    }

    #[test]
    fn each_role_is_without_its_own_exceptions() {
        let role = |actions: &[&str], not: &[&str]| Role {
            actions: actions.iter().map(ToString::to_string).collect(),
            not_actions: not.iter().map(ToString::to_string).collect(),
        };
        let contributor = role(&["*"], &["Microsoft.Authorization/*/Write"]);
        let assign = "Microsoft.Authorization/roleAssignments/write";
        assert!(Permissions(vec![contributor.clone()]).allows(WRITE));
        assert!(!Permissions(vec![contributor.clone()]).allows(assign));
        assert!(Permissions(vec![contributor, role(&[assign], &[])]).allows(assign));
        assert!(!Permissions(Vec::new()).allows(WRITE));
    }
}
