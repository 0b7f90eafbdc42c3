//! What the controller may do: the Roles that are shipped, as the simulated API asks about them.

use flux_bearer_sim::kube::RequestInfo;

/// What the strict Role and the ClusterRoles allow, with these Secrets named in the Role.
pub(crate) fn strict(named: &'static [&str]) -> impl Fn(&RequestInfo) -> bool + Send + Sync + 'static {
    move |info| {
        let verbs: &[&str] = match (&*info.resource, &*info.subresource) {
            ("secrets", "") if named.contains(&&*info.name) => &["get", "list", "watch", "create", "patch"],
            _ => cluster_role(info),
        };
        verbs.contains(&info.verb.rbac())
    }
}

/// What the ClusterRoles allow, and the Role for the Lease.
pub(crate) fn cluster_role(info: &RequestInfo) -> &'static [&'static str] {
    match (&*info.resource, &*info.subresource) {
        ("bearertokens", "") => &["get", "list", "watch"],
        ("bearertokens", "status") => &["patch"],
        ("gitrepositories", "") => &["list", "watch", "patch"],
        ("events", "") => &["create"],
        ("leases", "") => &["get", "create", "update"],
        ("customresourcedefinitions" | "validatingadmissionpolicies" | "validatingadmissionpolicybindings", "") => {
            &["get"]
        }
        _ => &[],
    }
}
