//! What the real API server makes of our CustomResourceDefinition: specs that it refuses and why, and what people see.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::controller::{self, BEARER_TOKEN};
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "crd";

const GUID: &str = "00000000-0000-4000-8000-000000000001";

/// Specs that are refused, and a part of the message.
fn refused() -> Vec<(Value, &'static str)> {
    let identity = |identity: Value| json!({"identity": identity});
    let managed = |rest: Value| merged(json!({"type": "ManagedIdentity"}), rest);
    let resource = "/subscriptions/s/resourceGroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i";
    vec![
        (identity(json!({"objectId": GUID})), "objectId and resourceId select a managed identity"),
        (identity(json!({"resourceId": resource})), "objectId and resourceId select a managed identity"),
        (identity(managed(json!({"clientId": GUID, "objectId": GUID}))), "by one of clientId, objectId and resourceId"),
        (identity(managed(json!({"tenantId": GUID}))), "always of its machine's own tenant"),
        (
            identity(json!({"type": "ClientSecret"})),
            "types ClientSecret and ClientCertificate need tenantId, clientId and secretRef",
        ),
        (
            identity(json!({"type": "ClientSecret", "tenantId": GUID, "secretRef": {"name": "s"}})),
            "types ClientSecret and ClientCertificate need tenantId, clientId and secretRef",
        ),
        (
            identity(json!({"secretRef": {"name": "s"}})),
            "secretRef belongs to types ClientSecret and ClientCertificate",
        ),
        (identity(json!({"clientId": "me"})), "spec.identity.clientId"),
        (identity(json!({"tenantId": "two words"})), "spec.identity.tenantId"),
        (identity(json!({"type": "Password"})), "spec.identity.type"),
        (json!({"secret": {"name": "Not_A_Name"}}), "spec.secret.name"),
        (json!({"secret": {"formats": []}}), "spec.secret.formats"),
        (
            json!({"secret": {"formats": ["Bearer", "Bearer"]}}),
            "spec.secret.formats: Invalid value: a format is named once",
        ),
        (
            json!({"secret": {"formats": ["Token", "Bearer", "Token"]}}),
            "spec.secret.formats: Invalid value: a format is named once",
        ),
        (json!({"repositories": [""]}), "spec.repositories[0]"),
    ]
}

/// Specs that are taken.
fn taken() -> Vec<Value> {
    vec![
        json!({}),
        json!({"identity": {"type": "ManagedIdentity"}}),
        json!({"identity": {"type": "ManagedIdentity", "objectId": GUID}}),
        json!({"identity": {"tenantId": "contoso.onmicrosoft.com", "clientId": GUID}}),
        json!({"identity": {"type": "ClientSecret", "tenantId": GUID, "clientId": GUID, "secretRef": {"name": "s"}}}),
        json!({"identity": {"type": "ClientCertificate", "tenantId": GUID, "clientId": GUID, "secretRef": {"name": "s"}}}),
        json!({"secret": {"formats": ["Bearer", "Basic"]}, "suspend": true}),
        json!({"secret": {"formats": ["Token", "Basic", "Bearer"]}}),
    ]
}

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    let (refused, taken) = (refused(), taken());
    for (spec, message) in &refused {
        match apply(&world, spec).await {
            Ok(()) => bail!("it was taken: {spec}"),
            Err(error) => ensure!(format!("{error:#}").contains(message), "{spec}: wanted {message:?} in {error:#}"),
        }
    }
    for spec in &taken {
        apply(&world, spec).await.with_context(|| format!("it was refused: {spec}"))?;
    }
    world.story.tell(&format!("{} specs are refused with their reason, {} are taken", refused.len(), taken.len()));
    show_columns(&world).await
}

async fn apply(world: &World<'_>, spec: &Value) -> anyhow::Result<()> {
    let object = controller::bearer_token("flux-system", "case", spec);
    world.cluster.apply(&object.to_string()).await
}

/// `kubectl get` of a BearerToken that serves a token.
async fn show_columns(world: &World<'_>) -> anyhow::Result<()> {
    world.start_controller(&[]).await?;
    world.set_up_azure(3600).await?;
    world.cluster.apply(controller::MANIFEST).await?;
    world.cluster.wait_ready(BEARER_TOKEN, READY).await?;
    let shown = world.cluster.kubectl(&["get", "bt", "fleet"], "").await?;
    println!("{shown}");
    let columns: Vec<&str> = shown.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(columns == ["NAME", "READY", "EXPIRES", "IDENTITY", "MESSAGE", "AGE"], "columns: {columns:?}");
    ensure!(!shown.contains("<invalid>"), "a column can't be shown:\n{shown}");
    Ok(())
}

fn merged(mut object: Value, with: Value) -> Value {
    if let (Some(object), Value::Object(with)) = (object.as_object_mut(), with) {
        object.extend(with);
    }
    object
}
