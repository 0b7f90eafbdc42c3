//! What a service account may do, as RBAC adds it up: which bindings name it, and what their roles allow.

use serde_json::Value;

use crate::object::{items, name, namespace, text};

/// Roles and bindings of the cluster, each list with both kinds of them.
#[derive(Debug, Default)]
pub struct Rbac {
    /// Roles and `ClusterRole`s.
    pub roles: Vec<Value>,
    /// Their bindings.
    pub bindings: Vec<Value>,
}

/// What is to be done, to what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) namespace: &'a str,
    /// Empty: any.
    pub(crate) name: &'a str,
}

/// A service account: its namespace and its name.
pub(crate) type Account<'a> = (&'a str, &'a str);

impl Rbac {
    /// Whether the account may do this.
    pub(crate) fn allows(&self, account: Account<'_>, deed: Deed<'_>) -> bool {
        let reaches = |binding: &&Value| namespace(binding).is_empty() || namespace(binding) == deed.namespace;
        let bound = |binding: &&Value| items(binding, "/subjects").any(|subject| is(subject, account));
        let bindings = self.bindings.iter().filter(reaches).filter(bound);
        let mut rules = bindings.filter_map(|binding| self.role(binding)).flat_map(|role| items(role, "/rules"));
        rules.any(|rule| permits(rule, deed))
    }

    fn role(&self, binding: &Value) -> Option<&Value> {
        let home = if text(binding, "/roleRef/kind") == "Role" { namespace(binding) } else { "" };
        let wanted = text(binding, "/roleRef/name");
        self.roles.iter().find(|role| name(role) == wanted && namespace(role) == home)
    }
}

fn is(subject: &Value, (home, account): Account<'_>) -> bool {
    match (text(subject, "/kind"), text(subject, "/name")) {
        ("ServiceAccount", name) => name == account && text(subject, "/namespace") == home,
        ("Group", "system:serviceaccounts" | "system:authenticated") => true,
        ("Group", group) => group.strip_prefix("system:serviceaccounts:") == Some(home),
        ("User", user) => user == format!("system:serviceaccount:{home}:{account}"),
        _ => false,
    }
}

fn permits(rule: &Value, deed: Deed<'_>) -> bool {
    let has = |list: &str, wanted: &str| items(rule, list).any(|item| item == wanted || item == "*");
    let mut only = items(rule, "/resourceNames").peekable();
    let meant = only.peek().is_none() || only.any(|name| name == deed.name);
    has("/apiGroups", deed.group) && has("/resources", deed.resource) && has("/verbs", deed.verb) && meant
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deed<'a>(namespace: &'a str, name: &'a str) -> Deed<'a> {
        Deed { verb: "patch", group: "", resource: "secrets", namespace, name }
    }

    #[test]
    fn a_right_comes_through_a_binding_that_names_the_account_or_its_group() {
        let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["patch"]});
        let role = |home: &str| json!({"metadata": {"name": "r", "namespace": home}, "rules": [secrets.clone()]});
        let binding = |home: &str, kind: &str, subject: Value| json!({"metadata": {"name": "b", "namespace": home}, "roleRef": {"kind": kind, "name": "r"}, "subjects": [subject]});
        let account = json!({"kind": "ServiceAccount", "name": "c", "namespace": "n"});
        let rbac = |role: Value, binding: Value| Rbac { roles: vec![role], bindings: vec![binding] };
        let strict = rbac(role("n"), binding("n", "Role", account.clone()));
        assert!(strict.allows(("n", "c"), deed("n", "s")));
        assert!(!strict.allows(("n", "c"), deed("n", "other")) && !strict.allows(("n", "c"), deed("m", "s")));
        assert!(!strict.allows(("m", "c"), deed("n", "s")) && !strict.allows(("n", "d"), deed("n", "s")));
        let open = rbac(role(""), binding("", "ClusterRole", account));
        assert!(open.allows(("n", "c"), deed("m", "s")));
        let group = json!({"kind": "Group", "name": "system:serviceaccounts:n"});
        let group = rbac(role(""), binding("", "ClusterRole", group));
        assert!(group.allows(("n", "any"), deed("m", "s")) && !group.allows(("m", "any"), deed("m", "s")));
    }
}
