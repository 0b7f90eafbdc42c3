//! The kinds of Kubernetes object that the set-up touches: their paths, known without asking the API server.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind, as it stands in a manifest and in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind, as it stands in the object.
    pub kind: &'static str,
    /// Plural in lower case, as it stands in the path.
    pub plural: &'static str,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

const fn namespaced(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespaced: true }
}

const fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespaced: false }
}

/// The BearerToken.
pub const BEARER_TOKEN: Kind = namespaced("flux-bearer.dev", "v1alpha1", "BearerToken", "bearertokens");
/// The definition of a kind.
pub const DEFINITION: Kind =
    cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
/// A namespace.
pub const NAMESPACE: Kind = cluster("", "v1", "Namespace", "namespaces");
/// A Secret, of which only metadata is ever read.
pub const SECRET: Kind = namespaced("", "v1", "Secret", "secrets");
/// A `ConfigMap`.
pub const CONFIG_MAP: Kind = namespaced("", "v1", "ConfigMap", "configmaps");
/// A service account.
pub const SERVICE_ACCOUNT: Kind = namespaced("", "v1", "ServiceAccount", "serviceaccounts");
/// A Pod.
pub const POD: Kind = namespaced("", "v1", "Pod", "pods");
/// A Deployment.
pub const DEPLOYMENT: Kind = namespaced("apps", "v1", "Deployment", "deployments");
/// A `CronJob`.
pub const CRON_JOB: Kind = namespaced("batch", "v1", "CronJob", "cronjobs");
/// A Role.
pub const ROLE: Kind = namespaced("rbac.authorization.k8s.io", "v1", "Role", "roles");
/// A Role's binding.
pub const ROLE_BINDING: Kind = namespaced("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
/// A `ClusterRole`.
pub const CLUSTER_ROLE: Kind = cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
/// A `ClusterRole`'s binding.
pub const CLUSTER_ROLE_BINDING: Kind =
    cluster("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings");
/// A Lease, which one of several replicas holds.
pub const LEASE: Kind = namespaced("coordination.k8s.io", "v1", "Lease", "leases");
/// A `PodDisruptionBudget`.
pub const DISRUPTION_BUDGET: Kind = namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
/// A `NetworkPolicy`.
pub const NETWORK_POLICY: Kind = namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
/// A policy of the API server.
pub const ADMISSION_POLICY: Kind =
    cluster("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
/// The binding of such a policy.
pub const ADMISSION_BINDING: Kind = cluster(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
);
/// Flux's source.
pub const GIT_REPOSITORY: Kind = namespaced("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories");
/// Flux's Kustomization.
pub const KUSTOMIZATION: Kind = namespaced("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations");

/// Flux's writer: it pushes to what a GitRepository reads, with the same Secret.
pub const IMAGE_AUTOMATION: Kind =
    namespaced("image.toolkit.fluxcd.io", "v1", "ImageUpdateAutomation", "imageupdateautomations");
/// The same of Flux before 2.7.
pub const IMAGE_AUTOMATION_BETA: Kind = Kind { version: "v1beta2", ..IMAGE_AUTOMATION };
/// Flux's source of Helm charts.
pub const HELM_REPOSITORY: Kind = namespaced("source.toolkit.fluxcd.io", "v1", "HelmRepository", "helmrepositories");
/// flux-operator's list of branches and pull requests, which signs in with user name and password.
pub const INPUT_PROVIDER: Kind =
    namespaced("fluxcd.controlplane.io", "v1", "ResourceSetInputProvider", "resourcesetinputproviders");

/// Every kind that a manifest of ours may have.
pub const ALL: [Kind; 17] = [
    BEARER_TOKEN,
    DEFINITION,
    NAMESPACE,
    SECRET,
    CONFIG_MAP,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    CRON_JOB,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    ADMISSION_POLICY,
    ADMISSION_BINDING,
    GIT_REPOSITORY,
];

/// Whether an object can have this name: a DNS subdomain, as Kubernetes wants it.
pub fn is_name(text: &str) -> bool {
    let outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|byte| outer(byte) || b"-.".contains(byte))
        && [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(outer))
}

impl Kind {
    /// The kind of an object with this `apiVersion` and `kind`.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        ALL.into_iter().find(|one| one.kind == kind && one.api_version() == api_version)
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// How kubectl names it: `gitrepositories.source.toolkit.fluxcd.io`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// As kube's client wants it.
    pub fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}
