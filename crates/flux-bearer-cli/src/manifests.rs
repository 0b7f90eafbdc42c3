//! What the cluster gets: the release's own manifests, embedded, as `kubectl kustomize deploy/base` renders them.

use serde_json::{Value, json};

use crate::cluster::At;
use crate::exit::{Exit, Trouble};

/// The namespace that the manifests are written for.
const NAMESPACE: &str = "flux-system";

/// The Secret that the manifests' Role names.
const SECRET: &str = "flux-system";

/// Name of the controller's Deployment, service account and `ConfigMap`.
pub const CONTROLLER: &str = "flux-bearer-controller";

/// The label of all that belongs to flux-bearer, and its value.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "flux-bearer");

/// The files of `deploy/`, in the order in which they are applied: a kind before its objects, an account before its Pods.
const FILES: [&str; 10] = [
    include_str!("../../../deploy/crd/bearertokens.yaml"),
    include_str!("../../../deploy/policies/gitrepository-metadata.yaml"),
    include_str!("../../../deploy/policies/gitrepository-host.yaml"),
    include_str!("../../../deploy/policies/tokenrequest-audience.yaml"),
    include_str!("../../../deploy/base/service-account.yaml"),
    include_str!("../../../deploy/base/rights.yaml"),
    include_str!("../../../deploy/base/rights-of-users.yaml"),
    include_str!("../../../deploy/base/pod-disruption-budget.yaml"),
    include_str!("../../../deploy/base/network-policy.yaml"),
    include_str!("../../../deploy/base/deployment.yaml"),
];

/// Where the controller runs, and what it may fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Its namespace.
    pub namespace: String,
    /// The Secret that it is to keep filled.
    pub secret: String,
    /// Its image; nothing means the release's own.
    pub image: Option<String>,
}

/// The controller's manifests, in the order in which they are applied.
///
/// # Errors
/// A file of the release that can't be read, which a test rules out.
pub fn controller(wanted: &Installation) -> Result<Vec<Value>, Trouble> {
    let mut all = Vec::new();
    for file in FILES {
        all.extend(documents(file)?);
    }
    if (wanted.namespace.as_str(), wanted.secret.as_str()) != (NAMESPACE, SECRET) {
        all.extend(secret_rights(&wanted.namespace, &wanted.secret, &wanted.namespace));
    }
    for manifest in &mut all {
        place(manifest, &wanted.namespace);
        label(manifest);
    }
    if let Some(image) = &wanted.image {
        let pods = all.iter_mut().filter_map(|one| one.pointer_mut("/spec/template/spec/containers/0/image"));
        pods.for_each(|found| *found = json!(image));
    }
    Ok(all)
}

/// The documents of one YAML file.
fn documents(text: &str) -> Result<Vec<Value>, Trouble> {
    let read: Result<Vec<Value>, _> = serde_saphyr::from_multiple(text);
    read.map_err(|_| {
        Trouble::new(Exit::Failed, "a manifest of this release can't be read", "install the release again")
    })
}

/// What the controller in the namespace `home` needs to fill one more Secret: a Role of its own, so that two set-ups don't
/// overwrite each other's.
pub(crate) fn secret_rights(namespace: &str, secret: &str, home: &str) -> [Value; 2] {
    let name = format!("flux-bearer-secret-{secret}");
    let group = "rbac.authorization.k8s.io";
    let (label, value) = PART_OF;
    let metadata = json!({"name": name, "namespace": namespace, "labels": {label: value}});
    let verbs = ["get", "list", "watch", "create", "patch"];
    [
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": verbs}],
        }),
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": home}],
        }),
    ]
}

/// Moves a manifest into this namespace, and the accounts that it names.
fn place(manifest: &mut Value, namespace: &str) {
    let of_namespace = At::of(manifest).is_some_and(|at| at.kind.namespaced);
    if let (true, Some(found)) = (of_namespace, manifest.pointer_mut("/metadata/namespace")) {
        *found = json!(namespace);
    }
    let subjects = manifest.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten();
    subjects.filter_map(|subject| subject.get_mut("namespace")).for_each(|found| *found = json!(namespace));
}

/// Labels a manifest, and the Pods that come of it.
fn label(manifest: &mut Value) {
    let (name, value) = PART_OF;
    for path in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = manifest.pointer_mut(path).and_then(Value::as_object_mut) {
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.insert(name.to_owned(), json!(value));
            }
        }
    }
}

/// Manifests as one YAML text.
///
/// # Errors
/// A value that YAML can't hold, which no manifest has.
pub fn yaml(manifests: &[Value]) -> Result<String, Trouble> {
    let mut text = String::new();
    for manifest in manifests {
        let one = serde_saphyr::to_string(manifest);
        let one = one.map_err(|_| Trouble::new(Exit::Failed, "a manifest can't be written as YAML", "use -o json"))?;
        text.push_str("---\n");
        text.push_str(&one);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use super::*;

    fn installation(namespace: &str, secret: &str) -> Installation {
        Installation { namespace: namespace.into(), secret: secret.into(), image: Some("registry.example/c:1".into()) }
    }

    #[test]
    fn every_manifest_has_a_kind_that_is_known_its_namespace_and_the_label() {
        let all = controller(&installation("gitops", "fleet")).unwrap();
        assert_eq!(all.len(), 23);
        for one in &all {
            let at = At::of(one).unwrap_or_else(|| panic!("{one:#}"));
            assert_eq!(at.namespace, if at.kind.namespaced { "gitops" } else { "" }, "{at}");
            assert_eq!(one.pointer("/metadata/labels/app.kubernetes.io~1part-of"), Some(&json!("flux-bearer")), "{at}");
            assert!(!one.to_string().contains(r#""namespace":"flux-system""#), "{at}");
        }
    }

    #[test]
    fn the_role_of_the_release_serves_the_secret_of_the_release() {
        let roles = |all: Vec<Value>| all.iter().filter(|one| one["kind"] == "Role").count();
        assert_eq!(roles(controller(&installation("flux-system", "flux-system")).unwrap()), 2);
        assert_eq!(roles(controller(&installation("flux-system", "fleet")).unwrap()), 3);
    }

    #[test]
    fn a_right_in_another_namespace_is_that_of_the_controller_at_home() {
        let [role, binding] = secret_rights("team", "fleet", "flux-system");
        assert_eq!(
            (&role["metadata"]["namespace"], &binding["metadata"]["namespace"]),
            (&json!("team"), &json!("team"))
        );
        assert_eq!(role["rules"][0]["resourceNames"], json!(["fleet"]));
        assert_eq!(binding["subjects"][0]["namespace"], "flux-system");
    }

    #[test]
    fn the_image_is_the_one_that_was_named() {
        let all = controller(&installation("flux-system", "flux-system")).unwrap();
        let deployment = all.iter().find(|one| one["kind"] == "Deployment").unwrap();
        assert_eq!(deployment.pointer("/spec/template/spec/containers/0/image"), Some(&json!("registry.example/c:1")));
    }

    #[test]
    fn what_is_written_as_yaml_is_what_is_read_from_it() {
        let all = controller(&installation("flux-system", "fleet")).unwrap();
        assert_eq!(documents(&yaml(&all).unwrap()).unwrap(), all);
    }
}
