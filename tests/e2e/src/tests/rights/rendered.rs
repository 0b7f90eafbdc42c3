//! What `deploy/` grants and forbids as kustomize renders it, against a file that was reviewed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::controller::kustomize;
use crate::world::World;

/// What was reviewed.
const REVIEWED: &str = include_str!("../../../manifests/rights.txt");

/// The components, each over the installation.
const COMPONENTS: [&str; 5] = ["credential-secrets", "token-request", "identity-binding", "open", "one-namespace"];

/// Kinds that grant or forbid something.
const KINDS: [&str; 7] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "NetworkPolicy",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// Fails where a rule or policy is not as it was reviewed.
pub(super) async fn check(world: &World<'_>, kubectl: &Path, install: &Path) -> anyhow::Result<()> {
    let base = render(kubectl, install).await?;
    let mut text = told("the installation", &base, &Rendered::new());
    for name in COMPONENTS {
        let component = render(kubectl, &install.with_file_name("components").join(name)).await?;
        text += &told(&format!("component {name}"), &component, &base);
    }
    let file = world.folder().join("rights.txt");
    std::fs::write(&file, &text)?;
    ensure!(
        text == REVIEWED,
        "what deploy/ grants or forbids has changed: review {} and put it in the place of manifests/rights.txt",
        file.display()
    );
    world.story.tell(&format!("{} rules and policies are as they were reviewed", base.len()));
    Ok(())
}

/// Objects by kind and name, without what grants or forbids nothing.
type Rendered = BTreeMap<String, Value>;

async fn render(kubectl: &Path, folder: &Path) -> anyhow::Result<Rendered> {
    let manifests = kustomize(kubectl, folder).await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifests).context("the manifests can't be read")?;
    Ok(objects.into_iter().filter_map(named).collect())
}

fn named(mut object: Value) -> Option<(String, Value)> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    if !KINDS.contains(&kind) {
        return None;
    }
    let name = format!("{kind} {} {}", text("/metadata/namespace"), text("/metadata/name"));
    let labels = object.pointer_mut("/metadata/labels").map(Value::take);
    let fields = object.as_object_mut()?;
    for known in ["apiVersion", "kind", "metadata"] {
        fields.remove(known);
    }
    // Labels make a role part of another one.
    fields.extend(labels.map(|labels| ("labels".to_owned(), labels)));
    Some((name, object))
}

/// What is otherwise than in `base`, a line for each value.
fn told(title: &str, rendered: &Rendered, base: &Rendered) -> String {
    let mut text = format!("# {title}\n");
    for (name, object) in rendered.iter().filter(|(name, object)| base.get(*name) != Some(object)) {
        lines(&mut text, name, object);
    }
    for name in base.keys().filter(|name| !rendered.contains_key(*name)) {
        lines(&mut text, name, &Value::from("none"));
    }
    text
}

fn lines(text: &mut String, path: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| lines(text, &format!("{path} {key}"), value)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| lines(text, &format!("{path} {at}"), item));
        }
        // Writing to a String does not fail.
        other => drop(writeln!(text, "{path}: {other}")),
    }
}
