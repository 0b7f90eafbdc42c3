//! What Azure Resource Manager (ARM) says when it doesn't do what the set-up asks for.

use std::time::Duration;

use super::Class::{Permanent, Transient};
use super::{Class, Failure};

/// What was asked for, and of which part of Azure: our own words, never the answer's.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What was asked for.
    pub operation: Operation,
    /// The part of Azure, as an id: `/subscriptions/ID` or `/subscriptions/ID/resourceGroups/NAME`.
    pub scope: &'a str,
}

/// Everything that the set-up asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Which subscriptions there are.
    ReadSubscription,
    /// Whether there is a resource group.
    ReadGroup,
    /// Make a resource group.
    WriteGroup,
    /// Delete a resource group.
    DeleteGroup,
    /// Read managed identities.
    ReadIdentity,
    /// Make a managed identity.
    WriteIdentity,
    /// Delete a managed identity.
    DeleteIdentity,
    /// Read the federated credentials of a managed identity.
    ReadFederation,
    /// Write a federated credential.
    WriteFederation,
    /// Delete a federated credential.
    DeleteFederation,
    /// Read AKS clusters.
    ReadCluster,
    /// What the caller may do.
    ReadPermissions,
    /// Which roles a principal has.
    ReadRoles,
    /// Whether a subscription may use a resource provider, by its namespace.
    ReadProvider(&'static str),
    /// Let a subscription use a resource provider, by its namespace.
    RegisterProvider(&'static str),
}

const READER: &str = "Reader";
const CONTRIBUTOR: &str = "Contributor";
const IDENTITIES: &str = "Managed Identity Contributor";

impl Operation {
    /// What it does in words, the right that it takes without the provider's namespace, and a role that has the right.
    ///
    /// The rights are those of <https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations>.
    /// For federated credentials Contributor is named, because it is not certain that the lesser role has that right.
    fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ReadSubscription => ("read the subscription", "subscriptions/read", READER),
            Self::ReadGroup => ("read the resource group", "subscriptions/resourceGroups/read", READER),
            Self::WriteGroup => ("make the resource group", "subscriptions/resourceGroups/write", CONTRIBUTOR),
            Self::DeleteGroup => ("delete the resource group", "subscriptions/resourceGroups/delete", CONTRIBUTOR),
            Self::ReadIdentity => ("read managed identities", "userAssignedIdentities/read", IDENTITIES),
            Self::WriteIdentity => ("make a managed identity", "userAssignedIdentities/write", IDENTITIES),
            Self::DeleteIdentity => ("delete a managed identity", "userAssignedIdentities/delete", IDENTITIES),
            Self::ReadFederation => {
                ("read federated credentials", "userAssignedIdentities/federatedIdentityCredentials/read", CONTRIBUTOR)
            }
            Self::WriteFederation => (
                "write a federated credential",
                "userAssignedIdentities/federatedIdentityCredentials/write",
                CONTRIBUTOR,
            ),
            Self::DeleteFederation => (
                "delete a federated credential",
                "userAssignedIdentities/federatedIdentityCredentials/delete",
                CONTRIBUTOR,
            ),
            Self::ReadCluster => ("read AKS clusters", "managedClusters/read", READER),
            Self::ReadPermissions => ("read its own rights", "permissions/read", READER),
            Self::ReadRoles => ("read who has which role", "roleAssignments/read", READER),
            Self::ReadProvider(_) => ("read resource providers", "subscriptions/providers/read", READER),
            Self::RegisterProvider(_) => ("register a resource provider", "register/action", CONTRIBUTOR),
        }
    }

    /// The namespace of the resource provider that does it.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::ReadSubscription | Self::ReadGroup | Self::WriteGroup | Self::DeleteGroup | Self::ReadProvider(_) => {
                "Microsoft.Resources"
            }
            Self::ReadIdentity
            | Self::WriteIdentity
            | Self::DeleteIdentity
            | Self::ReadFederation
            | Self::WriteFederation
            | Self::DeleteFederation => "Microsoft.ManagedIdentity",
            Self::ReadCluster => "Microsoft.ContainerService",
            Self::ReadPermissions | Self::ReadRoles => "Microsoft.Authorization",
            Self::RegisterProvider(namespace) => namespace,
        }
    }

    /// The right that it takes, for example `Microsoft.ManagedIdentity/userAssignedIdentities/write`.
    pub fn action(self) -> String {
        format!("{}/{}", self.namespace(), self.row().1)
    }
}

/// One row: code, class, reason, cause, fix.
struct Row(&'static str, Class, &'static str, &'static str, &'static str);

const TOKEN: &str = "TokenRejected";
const MISSING: &str = "ResourceNotFound";
const BLOCKED: &str = "BlockedByPolicy";
const UNAVAILABLE: &str = "ArmUnavailable";
const CONFLICT: &str = "ResourceConflict";
const LOCATION: &str = "LocationRejected";

const WAIT: &str = "Retried by itself; if it lasts, try again in some minutes";
const SIGN_IN: &str = "Sign in again: az login --scope https://management.azure.com/.default";
const LOOK: &str = "Compare its name: az resource list --resource-group GROUP --output table";

/// The codes that mean the same whatever was asked for.
///
/// From ARM's list of common errors and from Azure's own client libraries:
/// <https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors>.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row("AuthenticationFailed", Permanent, TOKEN, "Azure doesn't take the token of who signs in", SIGN_IN),
    Row("AuthenticationFailedMissingToken", Permanent, TOKEN, "something on the way removed the token", "Check the proxy: it must leave the Authorization header alone"),
    Row("InvalidAuthenticationToken", Permanent, TOKEN, "Azure doesn't take the token of who signs in", SIGN_IN),
    Row("ExpiredAuthenticationToken", Permanent, TOKEN, "the token of who signs in has expired", SIGN_IN),
    Row("InvalidAuthenticationTokenTenant", Permanent, "TenantRejected", "the subscription belongs to another tenant than who signs in", "Sign in to the subscription's tenant: az account show --subscription ID --query tenantId, then az login --tenant TENANT"),
    Row("RequestDisallowedByPolicy", Permanent, BLOCKED, "an Azure Policy forbids it", "See which: az policy assignment list --disable-scope-strict-match; often a tag or a location is asked for"),
    Row("RequestDisallowedByAzure", Permanent, BLOCKED, "Azure forbids it for this subscription and location", "Choose another location: az account list-locations --output table"),
    Row("ScopeLocked", Permanent, BLOCKED, "a lock forbids it", "az lock list --output table; who owns the lock can delete it"),
    Row("ReadOnlyDisabledSubscription", Permanent, BLOCKED, "the subscription is disabled", "az account show --subscription ID --query state; enable it in the portal"),
    Row("SubscriptionNotFound", Permanent, MISSING, "there is no such subscription, or who signs in has no role in it", "az account list --output table; the tenant may be another one"),
    Row("InvalidSubscriptionId", Permanent, MISSING, "the subscription's id is malformed", "It is a GUID: az account list --output table"),
    Row("ResourceGroupNotFound", Permanent, MISSING, "there is no such resource group", "az group list --output table"),
    Row("ResourceNotFound", Permanent, MISSING, "there is no such resource", LOOK),
    Row("ParentResourceNotFound", Permanent, MISSING, "there is no such managed identity", "az identity list --output table"),
    Row("ResourceGroupBeingDeleted", Permanent, CONFLICT, "the resource group is being deleted", "Wait until it is gone (az group wait --deleted --name GROUP), or choose another one"),
    Row("InvalidResourceGroupLocation", Permanent, LOCATION, "the resource group exists in another location", "Choose its location, or another group: az group show --name GROUP --query location"),
    Row("InvalidResourceLocation", Permanent, LOCATION, "it exists in another location", "Choose its location, or another name: az resource list --name NAME --output table"),
    Row("LocationNotAvailableForResourceType", Permanent, LOCATION, "the location has no managed identities", "az account list-locations --output table"),
    Row("LocationNotAvailableForResourceGroup", Permanent, LOCATION, "there is no such location", "az account list-locations --output table"),
    Row("InvalidApiVersionParameter", Permanent, "RequestRejected", "Azure doesn't know this version of its interface any more", "This is a fault of flux-bearer: report it with the code"),
    Row("ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", Transient, CONFLICT, "somebody else writes a federated credential of this identity at the same time", WAIT),
    Row("AnotherOperationInProgress", Transient, CONFLICT, "somebody else changes it at the same time", WAIT),
    Row("SubscriptionRequestsThrottled", Transient, "Throttled", "Azure asks for fewer requests", WAIT),
    Row("ResourceRequestsThrottled", Transient, "Throttled", "Azure asks for fewer requests", WAIT),
    Row("TooManyRequests", Transient, "Throttled", "Azure asks for fewer requests", WAIT),
];

/// The codes that say that what was asked for is not there, and nothing else: an answer rather than a failure to who
/// only looks.
const ABSENT: [&str; 3] = ["ResourceGroupNotFound", "ResourceNotFound", "ParentResourceNotFound"];

/// Whether an answer says that what was asked for is not there.
pub fn is_absent(status: u16, code: &str) -> bool {
    status == 404 && ABSENT.contains(&code)
}

/// The failure for an error answer: HTTP status, ARM's error code, and what was asked for.
pub fn from_answer(status: u16, code: &str, about: About<'_>, retry_after: Option<Duration>) -> Failure {
    let failure = match code {
        "AuthorizationFailed" | "LinkedAuthorizationFailed" => forbidden("AuthorizationFailed", about),
        "MissingSubscriptionRegistration" => unregistered(about),
        code => match TABLE.iter().find(|row| row.0 == code) {
            Some(Row(code, class, reason, cause, fix)) => Failure::new(reason, *class, *code, *cause, *fix),
            None => from_status(status, about),
        },
    };
    failure.retry_after(retry_after)
}

fn from_status(status: u16, about: About<'_>) -> Failure {
    let code = format!("HTTP {status}");
    let (words, ..) = about.operation.row();
    match status {
        401 => Failure::new(TOKEN, Permanent, code, "Azure doesn't take the token of who signs in", SIGN_IN),
        403 => forbidden("HTTP 403", about),
        // Neither of these has a code of its own, only words.
        400 if about.operation == Operation::WriteFederation => Failure::new(
            "FederationRejected",
            Permanent,
            code,
            "Azure refuses the federated credential: another one has its issuer and subject, or the identity has 20",
            "az identity federated-credential list --identity-name NAME --resource-group GROUP --output table",
        ),
        405 if about.operation == Operation::WriteFederation => Failure::new(
            LOCATION,
            Permanent,
            code,
            "managed identities of this location take no federated credentials",
            "Make the identity in another location: az account list-locations --output table",
        ),
        429 => Failure::new("Throttled", Transient, code, "Azure asks for fewer requests", WAIT),
        408 | 500.. => Failure::new(UNAVAILABLE, Transient, code, "Azure is not available", WAIT),
        400..=499 => Failure::new(
            "RequestRejected",
            Permanent,
            code,
            format!("Azure refuses to {words}"),
            "See why in the activity log: az monitor activity-log list --max-events 5 --output table",
        ),
        _ => Failure::new(
            UNAVAILABLE,
            Transient,
            code,
            "the answer is not one of Azure's",
            "Something in between may answer in its place: check the proxy",
        ),
    }
}

fn forbidden(code: &'static str, about: About<'_>) -> Failure {
    let (words, _, role) = about.operation.row();
    let cause = format!("who signs in may not {words}: {} is missing", about.operation.action());
    let fix = format!(
        "Ask an owner: az role assignment create --assignee OBJECT_ID --role \"{role}\" --scope \"{}\"; \
         a new assignment takes some minutes to count",
        about.scope
    );
    Failure::new("Forbidden", Permanent, code, cause, fix)
}

fn unregistered(about: About<'_>) -> Failure {
    let namespace = about.operation.namespace();
    let cause = format!("the subscription may not use {namespace} yet");
    let fix = format!("az provider register --wait --namespace {namespace}");
    Failure::new("ProviderNotRegistered", Permanent, "MissingSubscriptionRegistration", cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'_> =
        About { operation: Operation::WriteFederation, scope: "/subscriptions/1/resourceGroups/flux" };

    #[test]
    fn every_code_of_the_table_is_told_as_it_is() {
        for Row(code, class, reason, ..) in TABLE {
            let failure = from_answer(409, code, ABOUT, None);
            assert_eq!((&*failure.code, failure.class, failure.reason), (*code, *class, *reason));
            assert!(!failure.cause.is_empty() && !failure.fix.is_empty(), "{failure}");
        }
    }

    #[test]
    fn a_missing_right_is_named_with_the_command_that_gives_it() {
        let failure = from_answer(403, "AuthorizationFailed", ABOUT, None);
        assert_eq!(
            failure.to_string(),
            "AuthorizationFailed: who signs in may not write a federated credential: Microsoft.ManagedIdentity/\
             userAssignedIdentities/federatedIdentityCredentials/write is missing. Ask an owner: az role assignment create \
             --assignee OBJECT_ID --role \"Contributor\" --scope \"/subscriptions/1/resourceGroups/flux\"; a new assignment \
             takes some minutes to count"
        );
        assert_eq!(failure.class, Permanent);
    }

    #[test]
    fn a_provider_is_named_by_what_was_asked_for() {
        let failure = from_answer(409, "MissingSubscriptionRegistration", ABOUT, None);
        assert_eq!(failure.fix, "az provider register --wait --namespace Microsoft.ManagedIdentity");
        let action = Operation::RegisterProvider("Microsoft.ContainerService").action();
        assert_eq!(action, "Microsoft.ContainerService/register/action");
    }

    #[test]
    fn an_answer_without_a_known_code_is_judged_by_its_status() {
        let other = About { operation: Operation::WriteIdentity, ..ABOUT };
        for (status, about, reason, class) in [
            (400, ABOUT, "FederationRejected", Permanent),
            (400, other, "RequestRejected", Permanent),
            (401, ABOUT, "TokenRejected", Permanent),
            (403, ABOUT, "Forbidden", Permanent),
            (404, ABOUT, "RequestRejected", Permanent),
            (405, ABOUT, "LocationRejected", Permanent),
            (405, other, "RequestRejected", Permanent),
            (408, ABOUT, "ArmUnavailable", Transient),
            (409, ABOUT, "RequestRejected", Permanent),
            (429, ABOUT, "Throttled", Transient),
            (503, ABOUT, "ArmUnavailable", Transient),
            (302, ABOUT, "ArmUnavailable", Transient),
        ] {
            let failure = from_answer(status, "canary", about, Some(Duration::from_secs(7)));
            assert_eq!((failure.reason, failure.class), (reason, class), "{status}");
            assert_eq!(
                (&*failure.code, failure.retry_after),
                (&*format!("HTTP {status}"), Some(Duration::from_secs(7)))
            );
            assert!(!failure.to_string().contains("canary"));
        }
    }

    #[test]
    fn only_what_is_looked_for_can_be_absent() {
        assert!(is_absent(404, "ResourceNotFound") && is_absent(404, "ResourceGroupNotFound"));
        for (status, code) in [(404, "SubscriptionNotFound"), (404, ""), (403, "ResourceNotFound"), (400, "")] {
            assert!(!is_absent(status, code), "{status} {code}");
        }
    }
}
