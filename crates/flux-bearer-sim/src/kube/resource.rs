//! Which resources are served, and what the API server knows about each.

/// One served resource, as discovery would name it.
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own, as in a CRD")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, for example `v1`.
    pub version: String,
    /// Plural in lower case, as it stands in the path.
    pub plural: String,
    /// Kind, as it stands in the object.
    pub kind: String,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Whether a `CustomResourceDefinition` serves it: only those count generations here, and their list items carry
    /// apiVersion and kind.
    pub custom: bool,
    /// Whether a PUT without a resourceVersion is taken.
    pub unconditional_update: bool,
}

impl ServedResource {
    /// A namespaced resource compiled into the API server.
    pub fn builtin(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self { custom: false, unconditional_update: true, ..Self::custom(group, version, plural, kind) }
    }

    /// A namespaced resource of a `CustomResourceDefinition`.
    pub fn custom(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            namespaced: true,
            status: false,
            custom: true,
            unconditional_update: false,
        }
    }

    /// The same with a `status` subresource.
    #[must_use]
    pub fn with_status(self) -> Self {
        Self { status: true, ..self }
    }

    /// The same, but of the cluster instead of a namespace.
    #[must_use]
    pub fn cluster_wide(self) -> Self {
        Self { namespaced: false, ..self }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// How errors name it: `secrets`, `bearertokens.flux-bearer.dev`.
    pub fn qualified(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// How validation errors name its kind: `Secret`, `BearerToken.flux-bearer.dev`.
    pub(super) fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    pub(super) fn is_secret(&self) -> bool {
        self.group.is_empty() && self.plural == "secrets"
    }

    pub(super) fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.plural == "namespaces"
    }

    /// What is served from the start.
    pub(super) fn defaults() -> Vec<Self> {
        let core = |plural, kind| Self::builtin("", "v1", plural, kind);
        let rights = |plural, kind| Self::builtin("rbac.authorization.k8s.io", "v1", plural, kind);
        let admission = |plural, kind| Self::builtin("admissionregistration.k8s.io", "v1", plural, kind).cluster_wide();
        vec![
            core("secrets", "Secret"),
            core("configmaps", "ConfigMap"),
            core("serviceaccounts", "ServiceAccount"),
            core("events", "Event"),
            Self::builtin("events.k8s.io", "v1", "events", "Event"),
            core("pods", "Pod").with_status(),
            core("namespaces", "Namespace").cluster_wide().with_status(),
            Self::builtin("apps", "v1", "deployments", "Deployment").with_status(),
            Self::builtin("batch", "v1", "cronjobs", "CronJob").with_status(),
            Self::builtin("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget").with_status(),
            Self::builtin("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
            rights("roles", "Role"),
            rights("rolebindings", "RoleBinding"),
            rights("clusterroles", "ClusterRole").cluster_wide(),
            rights("clusterrolebindings", "ClusterRoleBinding").cluster_wide(),
            Self::builtin("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")
                .cluster_wide(),
            Self { unconditional_update: false, ..Self::builtin("coordination.k8s.io", "v1", "leases", "Lease") },
            Self::builtin("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
                .cluster_wide(),
            admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
            admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
            Self::custom("flux-bearer.dev", "v1alpha1", "bearertokens", "BearerToken").with_status(),
            Self::custom("source.toolkit.fluxcd.io", "v1", "gitrepositories", "GitRepository").with_status(),
            Self::custom("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization").with_status(),
            Self::custom("image.toolkit.fluxcd.io", "v1", "imageupdateautomations", "ImageUpdateAutomation")
                .with_status(),
        ]
    }
}

/// `name.group`, or the name alone in the core group.
pub(super) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
