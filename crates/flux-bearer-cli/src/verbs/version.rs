//! `version`: this program's, and the controller's in the cluster.

use serde_json::json;

use crate::args::{Format, Global, Version};
use crate::cluster::At;
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::DEPLOYMENT;
use crate::manifests::CONTROLLER;

pub(super) async fn run(wanted: &Version, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let client = env!("CARGO_PKG_VERSION");
    let controller = if wanted.client { None } else { controller(global, edge).await? };
    if matches!(global.output, Format::Json | Format::Yaml) {
        edge.out.document(global.output, &json!({"client": client, "controller": controller}));
        return Ok(Exit::Done);
    }
    edge.out.data(&format!("flux-bearer: v{client}\n"));
    if let Some(image) = controller {
        edge.out.data(&format!("{CONTROLLER}: {image}\n"));
    }
    Ok(Exit::Done)
}

/// The image of the controller in the cluster.
async fn controller(global: &Global, edge: &Edge) -> Result<Option<String>, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let at = At { kind: DEPLOYMENT, namespace: &global.namespace, name: CONTROLLER };
    let Some(found) = cluster.get(at).await? else { return Ok(None) };
    let image = found.data.pointer("/spec/template/spec/containers/0/image").and_then(serde_json::Value::as_str);
    Ok(image.map(str::to_owned))
}
