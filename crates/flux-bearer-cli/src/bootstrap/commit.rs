//! Commits the controller's manifests into Flux's own folder, so that they are in its first apply: a Flux whose token has
//! expired could not pull them later.

use flux_bearer_azure::probe::Proof;
use serde_json::{Value, json};

use super::Job;
use super::git::{Branch, File};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::manifests::{self, Installation};
use crate::object::items;

/// Our folder beside Flux's manifests, and its name in their kustomization.
const FOLDER: &str = "flux-bearer";

/// Files that Flux writes itself, and keeps its own manifests in. A kustomization that names them needs them to be there.
const OF_FLUX: [&str; 2] = ["gotk-components.yaml", "gotk-sync.yaml"];

/// Adds the controller to Flux's folder, and pushes; nothing where it is there already.
pub(super) async fn controller(
    job: &Job<'_>,
    installation: &Installation,
    proof: &Proof,
    edge: &Edge,
) -> Result<(), Trouble> {
    let branch = Branch::fetch(job, proof, edge).await?;
    let mut changed = Vec::new();
    for (path, content) in files(job, installation, &branch).await? {
        if branch.read(&path).await?.as_ref() != Some(&content) {
            changed.push((path, content));
        }
    }
    if changed.is_empty() {
        edge.out.success("the controller's manifests are up to date");
        return Ok(());
    }
    edge.out.action(&format!("pushing the controller's manifests to {}", job.repository));
    branch.push("Add the flux-bearer controller", &changed).await?;
    edge.out.success(&format!("committed the controller's manifests to {:?}", job.tree.branch));
    Ok(())
}

/// What Flux's folder has to hold. The BearerToken is not among it: it is in the cluster, and `setup --export` prints it.
async fn files(job: &Job<'_>, installation: &Installation, branch: &Branch<'_>) -> Result<Vec<File>, Trouble> {
    let file = |name: &str| job.tree.file(&format!("{}/{name}", job.global.namespace));
    let kustomization = file("kustomization.yaml");
    let listed = match branch.read(&kustomization).await? {
        Some(text) => enlisted(&text, &kustomization)?,
        None => kustomization_of(&[&OF_FLUX[..], &[FOLDER]].concat())?,
    };
    let mut files = vec![
        (file(&format!("{FOLDER}/controller.yaml")), manifests::yaml(&manifests::controller(installation)?)?),
        (file(&format!("{FOLDER}/kustomization.yaml")), kustomization_of(&["controller.yaml"])?),
        (kustomization, listed),
    ];
    for name in OF_FLUX {
        let path = file(name);
        if branch.read(&path).await?.is_none() {
            files.push((path, String::new()));
        }
    }
    Ok(files)
}

fn kustomization_of(resources: &[&str]) -> Result<String, Trouble> {
    manifests::yaml(&[json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources,
    })])
}

/// Flux's kustomization with our folder in its list: one line more, and the rest as somebody has written it.
fn enlisted(text: &str, path: &str) -> Result<String, Trouble> {
    let before = resources(text).ok_or_else(|| unreadable(path))?;
    if before.iter().any(|one| one.trim_start_matches("./").trim_end_matches('/') == FOLDER) {
        return Ok(text.to_owned());
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let list = lines.iter().position(|line| line.trim_end() == "resources:").ok_or_else(|| unreadable(path))?;
    let (above, below) = lines.split_at(list + 1);
    let indent: String =
        below.first().into_iter().flat_map(|line| line.chars().take_while(|one| *one == ' ')).collect();
    let end = if above.last().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let after = format!("{}{indent}- {FOLDER}{end}{}", above.concat(), below.concat());
    let wanted: Vec<String> = std::iter::once(FOLDER.to_owned()).chain(before).collect();
    if resources(&after).is_some_and(|resources| resources == wanted) { Ok(after) } else { Err(unreadable(path)) }
}

/// The resources of a kustomization; `None` where it can't be read.
fn resources(text: &str) -> Option<Vec<String>> {
    let read: Value = serde_saphyr::from_str(text).ok()?;
    Some(items(&read, "/resources").filter_map(Value::as_str).map(str::to_owned).collect())
}

fn unreadable(path: &str) -> Trouble {
    let cause = format!("{path} of the repository has no list of resources that one can be added to");
    Trouble::new(Exit::Taken, cause, format!("add {FOLDER} to its resources by hand, then run this again"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use super::*;

    #[test]
    fn our_folder_is_one_line_more_and_the_rest_stays() {
        let text = "# ours\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- a.yaml # one\n- b.yaml\npatches: []\n";
        let after = enlisted(text, "").unwrap();
        assert_eq!(after, text.replace("resources:\n", "resources:\n- flux-bearer\n"));
        assert_eq!(enlisted(&after, "").unwrap(), after, "and once");
        let indented = enlisted("kind: Kustomization\nresources:\n  - a.yaml\n", "").unwrap();
        assert_eq!(indented, "kind: Kustomization\nresources:\n  - flux-bearer\n  - a.yaml\n");
        let windows = enlisted("resources:\r\n- a.yaml\r\n", "").unwrap();
        assert_eq!(windows, "resources:\r\n- flux-bearer\r\n- a.yaml\r\n");
    }

    #[test]
    fn one_that_names_it_otherwise_is_left_alone() {
        for name in ["./flux-bearer", "flux-bearer/", "\"flux-bearer\""] {
            let text = format!("resources: [a.yaml, {name}]\n");
            assert_eq!(enlisted(&text, "").unwrap(), text);
        }
    }

    #[test]
    fn one_that_can_not_be_added_to_by_a_line_is_for_a_person() {
        let cases = ["", "resources: [a.yaml]\n", "kind: Kustomization\n", "{", "x: |\n  resources:\nresources: [a]\n"];
        for text in cases {
            assert_eq!(enlisted(text, "x").unwrap_err().exit, Exit::Taken, "{text:?}");
        }
    }

    #[test]
    fn a_new_one_is_what_kustomize_reads() {
        assert_eq!(resources(&kustomization_of(&["a", "b"]).unwrap()).unwrap(), ["a", "b"]);
    }
}
