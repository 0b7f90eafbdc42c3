//! What a path of Azure Resource Manager names. Its words compare without regard to case; names keep theirs.

use percent_encoding::percent_decode_str;

use crate::state::Subscription;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The tenants that the caller has to do with.
    Tenants,
    /// The subscriptions that the caller has to do with.
    Subscriptions,
    /// Something of a subscription.
    Of {
        /// Its GUID.
        subscription: String,
        /// What of it.
        what: What,
    },
}

/// What of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Subscription,
    Groups,
    Group(String),
    /// Everything in a group.
    Resources(String),
    /// What a deletion that goes on is polled by.
    Operation,
    Provider(String),
    Registration(String),
    /// Identities of one resource group, or of all.
    Identities(Option<String>),
    Identity(Id),
    Credentials(Id),
    Credential(Id, String),
    /// Clusters of one resource group, or of all.
    Clusters(Option<String>),
    Cluster(Id),
    /// The caller's rights in a resource group (or in something in it), or in the subscription.
    Permissions(Option<String>),
    RoleAssignments(Option<String>),
    RoleAssignment(Option<String>, String),
    RoleDefinitions,
    RoleDefinition(String),
}

/// Resource group and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) group: String,
    pub(super) name: String,
}

/// Resource types, as errors and rights write them.
pub(super) const GROUPS: &str = "Microsoft.Resources/subscriptions/resourcegroups";
pub(super) const IDENTITIES: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
pub(super) const CREDENTIALS: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
pub(super) const CLUSTERS: &str = "Microsoft.ContainerService/managedClusters";
pub(super) const ROLE_ASSIGNMENTS: &str = "Microsoft.Authorization/roleAssignments";

impl Target {
    /// What this path names; `None` when it names nothing that is simulated.
    pub(super) fn of(path: &str) -> Option<Self> {
        let decoded = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        let lower: Vec<String> = segments.iter().map(|segment| segment.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        match (lower.as_slice(), segments.as_slice()) {
            (["tenants"], _) => Some(Self::Tenants),
            (["subscriptions"], _) => Some(Self::Subscriptions),
            (["subscriptions", _, lower @ ..], [_, subscription, names @ ..]) => {
                Some(Self::Of { subscription: subscription.clone(), what: What::of(lower, names)? })
            }
            _ => None,
        }
    }

    /// The identity whose federated credential the path names.
    pub(super) fn identity_of_credential(path: &str) -> Option<String> {
        let Self::Of { subscription, what: What::Credential(Id { group, name }, _) } = Self::of(path)? else {
            return None;
        };
        let subscription = Subscription { id: subscription, ..Subscription::default() };
        Some(subscription.identity_id(&group, &name).to_lowercase())
    }
}

impl What {
    /// `lower` are the words of the path after the subscription in lower case, `names` the same as they were sent.
    fn of(lower: &[&str], names: &[String]) -> Option<Self> {
        match (lower, names) {
            ([], _) => Some(Self::Subscription),
            (["resourcegroups"], _) => Some(Self::Groups),
            (["resourcegroups", _], [_, group]) => Some(Self::Group(group.clone())),
            (["resourcegroups", _, "resources"], [_, group, _]) => Some(Self::Resources(group.clone())),
            (["resourcegroups", _, lower @ ..], [_, group, names @ ..]) => Self::within(Some(group), lower, names),
            (["operationresults", _], _) => Some(Self::Operation),
            (["providers", _], [_, namespace]) => Some(Self::Provider(namespace.clone())),
            (["providers", _, "register"], [_, namespace, _]) => Some(Self::Registration(namespace.clone())),
            _ => Self::within(None, lower, names),
        }
    }

    fn within(group: Option<&String>, lower: &[&str], names: &[String]) -> Option<Self> {
        let resource = |at: usize| Some(Id { group: group?.clone(), name: names.get(at)?.clone() });
        match lower {
            [.., "providers", "microsoft.authorization", "permissions"] => Some(Self::Permissions(group.cloned())),
            [.., "providers", "microsoft.authorization", "roleassignments"] => {
                Some(Self::RoleAssignments(group.cloned()))
            }
            [.., "providers", "microsoft.authorization", "roleassignments", _] => {
                Some(Self::RoleAssignment(group.cloned(), names.last()?.clone()))
            }
            [.., "providers", "microsoft.authorization", "roledefinitions"] => Some(Self::RoleDefinitions),
            [.., "providers", "microsoft.authorization", "roledefinitions", _] => {
                Some(Self::RoleDefinition(names.last()?.clone()))
            }
            ["providers", "microsoft.managedidentity", "userassignedidentities", rest @ ..] => match rest {
                [] => Some(Self::Identities(group.cloned())),
                [_] => Some(Self::Identity(resource(3)?)),
                [_, "federatedidentitycredentials"] => Some(Self::Credentials(resource(3)?)),
                [_, "federatedidentitycredentials", _] => Some(Self::Credential(resource(3)?, names.get(5)?.clone())),
                _ => None,
            },
            ["providers", "microsoft.containerservice", "managedclusters"] => Some(Self::Clusters(group.cloned())),
            ["providers", "microsoft.containerservice", "managedclusters", _] => Some(Self::Cluster(resource(3)?)),
            _ => None,
        }
    }

    /// The type of the resource, as rights and policies name it; none for what needs no right beyond being known.
    pub(super) fn resource_type(&self) -> Option<&'static str> {
        match self {
            Self::Subscription
            | Self::Operation
            | Self::Provider(_)
            | Self::Permissions(_)
            | Self::RoleDefinitions
            | Self::RoleDefinition(_)
            | Self::Registration(_) => None,
            Self::Groups | Self::Group(_) | Self::Resources(_) => Some(GROUPS),
            Self::Identities(_) | Self::Identity(_) => Some(IDENTITIES),
            Self::Credentials(_) | Self::Credential(..) => Some(CREDENTIALS),
            Self::Clusters(_) | Self::Cluster(_) => Some(CLUSTERS),
            Self::RoleAssignments(_) | Self::RoleAssignment(..) => Some(ROLE_ASSIGNMENTS),
        }
    }

    /// The resource group it is, or is in.
    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Self::Group(group) | Self::Resources(group) => Some(group),
            Self::Identity(id) | Self::Credentials(id) | Self::Credential(id, _) | Self::Cluster(id) => Some(&id.group),
            Self::Identities(group)
            | Self::Clusters(group)
            | Self::Permissions(group)
            | Self::RoleAssignments(group)
            | Self::RoleAssignment(group, _) => group.as_deref(),
            Self::Subscription
            | Self::Groups
            | Self::Operation
            | Self::Provider(_)
            | Self::Registration(_)
            | Self::RoleDefinitions
            | Self::RoleDefinition(_) => None,
        }
    }

    /// Whether it lists all of a subscription, of which each caller is shown what it may read.
    pub(super) fn spans_groups(&self) -> bool {
        matches!(self, Self::Groups | Self::Identities(None) | Self::Clusters(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: &str = "00000000-0000-4000-8000-00000000000a";

    #[test]
    fn reads_every_path_whatever_its_case() {
        let id = |name: &str| Id { group: "Rg".to_owned(), name: name.to_owned() };
        let group = || Some("Rg".to_owned());
        let msi = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
        let table = [
            (String::new(), What::Subscription),
            ("/resourceGroups".to_owned(), What::Groups),
            ("/RESOURCEGROUPS/Rg".to_owned(), What::Group("Rg".to_owned())),
            ("/providers/Microsoft.ManagedIdentity".to_owned(), What::Provider("Microsoft.ManagedIdentity".to_owned())),
            ("/providers/Microsoft.X/register".to_owned(), What::Registration("Microsoft.X".to_owned())),
            (format!("/{msi}"), What::Identities(None)),
            (format!("/resourcegroups/Rg/{msi}"), What::Identities(group())),
            (format!("/resourceGroups/Rg/{msi}/flux"), What::Identity(id("flux"))),
            (format!("/resourceGroups/Rg/{msi}/flux/federatedIdentityCredentials"), What::Credentials(id("flux"))),
            (
                format!("/resourceGroups/Rg/{msi}/flux/federatedIdentityCredentials/a%2Db"),
                What::Credential(id("flux"), "a-b".to_owned()),
            ),
            (
                "/resourceGroups/Rg/providers/Microsoft.ContainerService/managedClusters/aks".to_owned(),
                What::Cluster(id("aks")),
            ),
            ("/providers/Microsoft.Authorization/permissions".to_owned(), What::Permissions(None)),
            (
                format!("/resourceGroups/Rg/{msi}/flux/providers/Microsoft.Authorization/permissions"),
                What::Permissions(group()),
            ),
            (
                "/resourceGroups/Rg/providers/Microsoft.Authorization/roleAssignments/x".to_owned(),
                What::RoleAssignment(group(), "x".to_owned()),
            ),
        ];
        for (path, what) in table {
            let target = Target::of(&format!("/subscriptions/{SUB}{path}"));
            assert_eq!(target, Some(Target::Of { subscription: SUB.to_owned(), what }), "{path}");
        }
        assert_eq!(Target::of("/subscriptions"), Some(Target::Subscriptions));
        assert_eq!(Target::of(&format!("/subscriptions/{SUB}/{msi}/flux")), None, "an identity is in a group");
        assert_eq!(Target::of("/providers"), None);
    }
}
