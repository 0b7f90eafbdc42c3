//! `rescue`: writes a fresh token into the Secret from here, when neither the controller nor Git can.
//!
//! As the identity (the default) it writes what the controller would have written, so the controller goes on from there.
//! As the operator it writes the token alone, under another field manager: the controller, once it is back, puts its own
//! in its place.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer::NAME;
use flux_bearer::identity::Identity;
use flux_bearer::resource::{DeletionPolicy, Format};
use flux_bearer::schedule::{MAX_REFRESH_INTERVAL, refresh_at};
use flux_bearer::secret::{Record, Version, field_manager, keys, manifest};
use flux_bearer::token::Token as Minted;
use flux_bearer_azure::operator::Resource;
use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::args::{Global, Rescue, Whose};
use crate::cluster::{At, Cluster, MANAGER};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::identity_token::{identity, mint};
use crate::kinds::SECRET;
use crate::tokens::{Token, named};
use crate::{sign_in, sources};

/// What is rescued.
struct Patient {
    token: Token,
    identity: Identity,
    secret: String,
    formats: &'static [Format],
    deletion_policy: DeletionPolicy,
}

/// Runs the verb.
pub(super) async fn run(wanted: &Rescue, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let patient = patient(wanted, global, &cluster).await?;
    let at = At { kind: SECRET, namespace: &global.namespace, name: &patient.secret };
    let before = cluster.metadata(at).await?.map(|found| found.metadata);
    let version = before.as_ref().map(Version::of);
    edge.out.action(&format!("writing a fresh token into {at} of {} ({})", cluster.context, cluster.server));
    let (body, manager, expires_at) = match wanted.whose {
        Whose::Identity => as_identity(&patient, global, &cluster, version.as_ref(), edge).await?,
        Whose::Operator => as_operator(wanted, &patient, global, version.as_ref(), edge).await?,
    };
    cluster.apply_secret(at, &manager, &body).await?;
    edge.out.success(&format!("{at} holds a token of {} until {expires_at}", holder(wanted.whose, &patient)));
    nudge(&patient, global, &cluster, edge).await?;
    edge.out.data(&format!("{expires_at}\n"));
    Ok(Exit::Done)
}

fn holder(whose: Whose, patient: &Patient) -> String {
    match whose {
        Whose::Identity => patient.identity.to_string(),
        Whose::Operator => "yours".to_owned(),
    }
}

async fn patient(wanted: &Rescue, global: &Global, cluster: &Cluster) -> Result<Patient, Trouble> {
    let token = Token::of(&named(cluster, &global.namespace, &wanted.name).await?);
    let identity = identity(cluster, &token).await?;
    // The one that is served, which a spec that names another may not be yet.
    let secret = token.status.secret.clone().unwrap_or_else(|| token.secret().to_owned());
    let spec = token.spec.as_ref().map(|spec| &spec.secret);
    let formats = Format::set(spec.map(|secret| secret.formats.as_slice()).unwrap_or_default());
    let deletion_policy = spec.map(|secret| secret.deletion_policy).unwrap_or_default();
    Ok(Patient { token, identity, secret, formats, deletion_policy })
}

type Written = (SecretString, String, Timestamp);

/// A token of the identity, by a token of the controller's service account, as the controller itself would get one.
async fn as_identity(
    patient: &Patient,
    global: &Global,
    cluster: &Cluster,
    version: Option<&Version>,
    edge: &Edge,
) -> Result<Written, Trouble> {
    let token = mint(cluster, &global.namespace, &patient.identity, edge).await?;
    let name = &patient.token.name;
    let record = record(patient, &token, version);
    let body = manifest(&global.namespace, &patient.secret, version, &token, &record);
    let body = body.ok_or_else(|| Trouble::new(Exit::Failed, "the Secret can't be written as JSON", String::new()))?;
    Ok((body, field_manager(name), token.expires_at))
}

fn record(patient: &Patient, token: &Minted, version: Option<&Version>) -> Record {
    let uid = &patient.token.uid;
    Record {
        bearer_token: patient.token.name.as_str().into(),
        generation: patient.token.generation,
        identity: Arc::new(patient.identity.clone()),
        holder: token.holder.clone(),
        formats: patient.formats,
        issued_at: token.issued_at,
        refresh_at: refresh_at(token.issued_at, token.expires_at, token.refresh_hint, MAX_REFRESH_INTERVAL, uid),
        expires_at: token.expires_at,
        credential_expires_at: token.credential_expires_at,
        fingerprint: token.fingerprint.clone(),
        // One that was there is nobody's to delete.
        made: version.is_none(),
        deletion_policy: patient.deletion_policy,
    }
}

/// The operator's own token: the Secret gets it without a record, so that nobody takes it for the identity's.
async fn as_operator(
    wanted: &Rescue,
    patient: &Patient,
    global: &Global,
    version: Option<&Version>,
    edge: &Edge,
) -> Result<Written, Trouble> {
    let session = sign_in::session(&wanted.operator, patient.identity.tenant_id(), edge)?;
    let token = session.token(Resource::AzureDevOps).await?;
    let encoded = Zeroizing::new(STANDARD.encode(token.secret.expose_secret()));
    let value = |key: &str| if key == "username" { STANDARD.encode(NAME) } else { encoded.to_string() };
    let data: Value = keys(patient.formats).into_iter().map(|key| (key, value(key))).collect();
    let mut metadata = json!({"name": patient.secret, "namespace": global.namespace});
    if let (Some(version), Some(metadata)) = (version, metadata.as_object_mut()) {
        metadata.insert("uid".to_owned(), json!(version.uid));
        metadata.insert("resourceVersion".to_owned(), json!(version.resource_version));
    }
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data});
    Ok((SecretString::from(body.to_string()), MANAGER.to_owned(), token.expires_at))
}

/// Asks Flux to look at once.
async fn nudge(patient: &Patient, global: &Global, cluster: &Cluster, edge: &Edge) -> Result<(), Trouble> {
    for source in sources::sources(cluster, &global.namespace, &patient.secret).await? {
        sources::nudge(cluster, &global.namespace, &source.name, edge.now()).await?;
        edge.out.action(&format!("GitRepository {}/{} asked to look now", global.namespace, source.name));
    }
    Ok(())
}
