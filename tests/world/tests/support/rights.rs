//! What the controller may do with the Roles that are shipped, as the simulated API asks about it.

use flux_bearer_sim::kube::RequestInfo;

/// What the strict installation allows, with these Secrets named in the Role.
pub(crate) fn strict(named: &'static [&str]) -> impl Fn(&RequestInfo) -> bool + Send + Sync + 'static {
    move |info| {
        let verbs: &[&str] = match (&*info.resource, &*info.subresource) {
            ("secrets", "") if named.contains(&&*info.name) => &["get", "list", "watch", "create", "patch"],
            _ => cluster_role(info),
        };
        verbs.contains(&info.verb.rbac())
    }
}

/// What it allows for everything but Secrets.
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
