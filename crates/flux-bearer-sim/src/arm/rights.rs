//! Who may do what: the actions of the built-in roles, as far as set-ups need them.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::answer::{Refused, ok};
use super::{Exchange, page};
use crate::state::{Role, RoleAssignment, Subscription, derived_id};

/// A role as Azure describes it.
struct Definition {
    /// GUID, the same in every tenant.
    id: &'static str,
    name: &'static str,
    actions: &'static [&'static str],
    not_actions: &'static [&'static str],
}

const OWNER: Definition =
    Definition { id: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", name: "Owner", actions: &["*"], not_actions: &[] };
const CONTRIBUTOR: Definition = Definition {
    id: "b24988ac-6180-42a0-ab88-20f7382dd24c",
    name: "Contributor",
    actions: &["*"],
    not_actions: &[
        "Microsoft.Authorization/*/Delete",
        "Microsoft.Authorization/*/Write",
        "Microsoft.Authorization/elevateAccess/Action",
        "Microsoft.Blueprint/blueprintAssignments/write",
        "Microsoft.Blueprint/blueprintAssignments/delete",
        "Microsoft.Compute/galleries/share/action",
    ],
};
const READER: Definition =
    Definition { id: "acdd72a7-3385-48ef-bd42-f606fba81ae7", name: "Reader", actions: &["*/read"], not_actions: &[] };
const MANAGED_IDENTITY_CONTRIBUTOR: Definition = Definition {
    id: "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
    name: "Managed Identity Contributor",
    actions: &[
        "Microsoft.ManagedIdentity/userAssignedIdentities/read",
        "Microsoft.ManagedIdentity/userAssignedIdentities/write",
        "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/read",
        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write",
        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/delete",
        "Microsoft.Authorization/*/read",
        "Microsoft.Insights/alertRules/*",
        "Microsoft.Resources/subscriptions/resourceGroups/read",
        "Microsoft.Resources/deployments/*",
        "Microsoft.Support/*",
    ],
    not_actions: &[],
};
/// Not one of Azure's: the role before as it may be instead.
const WITHOUT_FEDERATION: Definition = Definition {
    id: "e40ec5ca-0000-45a2-b4ff-59039f2c2b59",
    name: "Managed Identity Contributor without federated credentials",
    actions: &[
        "Microsoft.ManagedIdentity/userAssignedIdentities/read",
        "Microsoft.ManagedIdentity/userAssignedIdentities/write",
        "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
        "Microsoft.Authorization/*/read",
        "Microsoft.Resources/subscriptions/resourceGroups/read",
    ],
    not_actions: &[],
};
const USER_ACCESS_ADMINISTRATOR: Definition = Definition {
    id: "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
    name: "User Access Administrator",
    actions: &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
    not_actions: &[],
};

/// Every built-in role that is simulated.
const DEFINITIONS: [&Definition; 6] =
    [&OWNER, &CONTRIBUTOR, &READER, &MANAGED_IDENTITY_CONTRIBUTOR, &WITHOUT_FEDERATION, &USER_ACCESS_ADMINISTRATOR];

impl Definition {
    const fn of(role: Role) -> &'static Self {
        match role {
            Role::Owner => &OWNER,
            Role::Contributor => &CONTRIBUTOR,
            Role::Reader => &READER,
            Role::ManagedIdentityContributor => &MANAGED_IDENTITY_CONTRIBUTOR,
            Role::ManagedIdentityContributorWithoutFederation => &WITHOUT_FEDERATION,
            Role::UserAccessAdministrator => &USER_ACCESS_ADMINISTRATOR,
        }
    }

    fn permission(&self) -> Value {
        let (actions, not_actions) = (self.actions, self.not_actions);
        json!({"actions": actions, "notActions": not_actions, "dataActions": [], "notDataActions": []})
    }

    fn render(&self, subscription: &Subscription) -> Value {
        json!({
            "id": self.resource_id(subscription),
            "type": "Microsoft.Authorization/roleDefinitions",
            "name": self.id,
            "properties": {
                "roleName": self.name,
                "type": "BuiltInRole",
                "description": "",
                "assignableScopes": ["/"],
                "permissions": [self.permission()],
            },
        })
    }

    fn resource_id(&self, subscription: &Subscription) -> String {
        format!("/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}", subscription.id, self.id)
    }

    fn allows(&self, action: &str) -> bool {
        let is_of = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, action));
        is_of(self.actions) && !is_of(self.not_actions)
    }
}

/// Whether an action is one of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_lowercase(), action.to_lowercase());
    match pattern.split_once('*') {
        None => pattern == action,
        Some((before, after)) => action.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some(),
    }
}

/// Whether an assignment holds in this resource group, or in the whole subscription.
fn holds(assignment: &RoleAssignment, group: Option<&str>) -> bool {
    match (&assignment.resource_group, group) {
        (None, _) => true,
        (Some(own), Some(group)) => own.eq_ignore_ascii_case(group),
        (Some(_), None) => false,
    }
}

fn of_principal<'a>(subscription: &'a Subscription, object_id: &'a str) -> impl Iterator<Item = &'a RoleAssignment> {
    subscription.role_assignments.iter().filter(|one| one.object_id.eq_ignore_ascii_case(object_id))
}

/// Whether the principal has any role in the subscription or a part of it.
pub(super) fn knows(subscription: &Subscription, object_id: &str) -> bool {
    of_principal(subscription, object_id).next().is_some()
}

/// Whether the principal may do this in the resource group, or in the whole subscription.
pub(super) fn allows(subscription: &Subscription, object_id: &str, group: Option<&str>, action: &str) -> bool {
    let roles = of_principal(subscription, object_id).filter(|one| holds(one, group)).map(|one| one.role);
    roles.map(Definition::of).any(|role| role.allows(action))
}

impl Exchange<'_> {
    /// `GET {scope}/providers/Microsoft.Authorization/permissions`: what the caller may do there, role by role. That
    /// someone without any role gets an empty list could not be confirmed.
    pub(super) fn permissions(&self, subscription: &Subscription, group: Option<&str>) -> Response<Body> {
        let roles = of_principal(subscription, &self.caller.object_id).filter(|one| holds(one, group));
        let permissions = roles.map(|one| Definition::of(one.role).permission());
        ok(&json!({"value": permissions.collect::<Vec<Value>>()}))
    }

    /// `GET {scope}/providers/Microsoft.Authorization/roleDefinitions`: the built-in roles; `$filter` by `roleName`.
    pub(super) fn role_definitions(&self, subscription: &Subscription) -> Result<Response<Body>, Refused> {
        let filter = self.call.query("$filter").unwrap_or_default();
        let name = filter.split_once('\'').and_then(|(_, rest)| Some(rest.split_once('\'')?.0));
        let chosen = DEFINITIONS.iter().filter(|one| name.is_none_or(|name| one.name.eq_ignore_ascii_case(name)));
        page(self.call, subscription, chosen.map(|one| one.render(subscription)).collect())
    }

    /// `GET {scope}/providers/Microsoft.Authorization/roleAssignments`: those that hold at the scope or below it. Of
    /// `$filter` its `principalId eq '…'`, `assignedTo('…')` and `atScope()` (not below) are understood.
    pub(super) fn role_assignments(
        &self,
        subscription: &Subscription,
        group: Option<&str>,
    ) -> Result<Response<Body>, Refused> {
        let filter = self.call.query("$filter").unwrap_or_default();
        let principal = filter.split_once('\'').and_then(|(_, rest)| Some(rest.split_once('\'')?.0));
        let only_at_scope = filter.replace(' ', "").contains("atScope()");
        let chosen = subscription.role_assignments.iter().filter(|one| {
            let is_below = group.is_none() && !only_at_scope;
            let is_principals = principal.is_none_or(|id| one.object_id.eq_ignore_ascii_case(id));
            is_principals && (holds(one, group) || is_below)
        });
        page(self.call, subscription, chosen.map(|one| role_assignment(subscription, one)).collect())
    }
}

/// One of them, by the name that [`Exchange::role_assignments`] gives it.
pub(super) fn one_role_assignment(
    subscription: &Subscription,
    group: Option<&str>,
    name: &str,
) -> Result<Response<Body>, Refused> {
    let mut all = subscription.role_assignments.iter();
    let found = all.find(|one| holds(one, group) && role_assignment_name(one).eq_ignore_ascii_case(name));
    let missing = || {
        let message = format!("The role assignment '{name}' is not found.");
        Refused::not_found("RoleAssignmentNotFound", message)
    };
    found.map(|one| ok(&role_assignment(subscription, one))).ok_or_else(missing)
}

/// One role, by its GUID.
pub(super) fn role_definition(subscription: &Subscription, id: &str) -> Result<Response<Body>, Refused> {
    let found = DEFINITIONS.iter().find(|one| one.id.eq_ignore_ascii_case(id));
    let missing = || {
        let message = format!("The specified role definition with ID '{id}' does not exist.");
        Refused::not_found("RoleDefinitionDoesNotExist", message)
    };
    found.map(|one| ok(&one.render(subscription))).ok_or_else(missing)
}

/// The GUID that an assignment is named by.
fn role_assignment_name(assignment: &RoleAssignment) -> String {
    let scope = assignment.resource_group.as_deref().unwrap_or_default();
    derived_id(&[&assignment.object_id, Definition::of(assignment.role).id, scope])
}

fn role_assignment(subscription: &Subscription, assignment: &RoleAssignment) -> Value {
    let root = format!("/subscriptions/{}", subscription.id);
    let scope = match &assignment.resource_group {
        None => root.clone(),
        Some(group) => format!("{root}/resourceGroups/{group}"),
    };
    let name = role_assignment_name(assignment);
    let role = Definition::of(assignment.role);
    json!({
        "id": format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"),
        "name": name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "principalId": assignment.object_id,
            "roleDefinitionId": role.resource_id(subscription),
            "scope": scope,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let write = "Microsoft.ManagedIdentity/userAssignedIdentities/write";
        let table = [
            ("*", write, true),
            ("*/read", write, false),
            ("*/read", "microsoft.x/y/READ", true),
            ("Microsoft.Authorization/*/Write", "Microsoft.Authorization/roleAssignments/write", true),
            ("Microsoft.Authorization/*/Write", write, false),
            ("microsoft.managedidentity/userassignedidentities/write", write, true),
        ];
        for (pattern, action, expected) in table {
            assert_eq!(matches(pattern, action), expected, "{pattern} {action}");
        }
    }
}
