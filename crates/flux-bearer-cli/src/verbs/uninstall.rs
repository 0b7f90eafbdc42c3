//! `uninstall`: takes back what `setup` made, and nothing else.
//!
//! What is ours is read off the things themselves: the tag of a resource group and of an identity, the name of a federated
//! credential, the field manager of an object, the annotation of the Secret. An identity that was there before, or that
//! other clusters use too, keeps its membership and its rights.

use flux_bearer::secret::record;
use flux_bearer_azure::arm::{TAG, Tags};
use flux_bearer_azure::devops::{Namespace, project_token, repository_token};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{Format, Global, Uninstall};
use crate::cluster::{At, Cluster, is_ours};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::{BEARER_TOKEN, DEPLOYMENT, GIT_REPOSITORY, NAMESPACE, SECRET};
use crate::manifests::{self, CONTROLLER};
use crate::setup::{SETUP, Site, Wanted, credential_name, facts};
use crate::sources::{APPLIED_BY, sources};

/// One thing to take back.
#[derive(Clone, Debug, PartialEq)]
enum Removal {
    /// The BearerToken.
    Token,
    /// The Secret that the controller made.
    Secret,
    /// The controller's objects, last made first.
    Objects(Vec<Value>),
    /// The namespace.
    Namespace,
    /// The identity's rights on the repository and on the project.
    Rights {
        /// Its name in access control lists.
        descriptor: String,
        /// Token of the repository.
        repository: String,
        /// Token of the project.
        project: String,
    },
    /// The identity's membership, by its id, and with it its licence.
    Member(String),
    /// The federated credential of this cluster.
    Credential(String),
    /// The identity.
    Identity,
    /// The resource group.
    Group,
}

/// What there is to take back, and what stays.
#[derive(Debug, Default)]
struct Inventory {
    removals: Vec<Removal>,
    stays: Vec<String>,
    last_token: Option<Timestamp>,
}

impl Removal {
    fn what(&self, wanted: &Wanted) -> String {
        let Wanted { namespace, name, secret, identity, group, .. } = wanted;
        match self {
            Self::Token => format!("delete BearerToken {namespace}/{name}"),
            Self::Secret => format!("delete Secret {namespace}/{secret}"),
            Self::Objects(objects) => format!("delete {} objects of the controller", objects.len()),
            Self::Namespace => format!("delete namespace {namespace}"),
            Self::Rights { .. } => format!("take back the rights of {identity} on {}", wanted.repository),
            Self::Member(_) => format!("remove {identity} from organisation {}", wanted.repository.organization()),
            Self::Credential(name) => format!("delete federated credential {name} of {identity}"),
            Self::Identity => format!("delete managed identity {identity}"),
            Self::Group => format!("delete resource group {group}"),
        }
    }
}

/// Runs the verb.
pub(super) async fn run(flags: &Uninstall, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let wanted = wanted(flags, global, edge).await?;
    let site = Site::connect(&wanted, &flags.place, global, edge).await?;
    let inventory = inventory(&wanted, &site).await?;
    show(&inventory, &wanted, global, edge);
    if inventory.removals.is_empty() {
        edge.out.success("nothing to take back");
        return Ok(Exit::Done);
    }
    if flags.dry_run {
        return Ok(Exit::Changes);
    }
    crate::setup::confirm(flags.yes, edge).await?;
    for removal in &inventory.removals {
        let what = removal.what(&wanted);
        edge.out.action(&what);
        remove(removal, &wanted, &site).await?;
        edge.out.success(&format!("{what}: done"));
    }
    if let Some(until) = inventory.last_token.filter(|until| *until > edge.now()) {
        edge.out.warning(&format!("the last token can't be revoked: it opens the repository until {until}"));
    }
    Ok(Exit::Done)
}

/// What `setup` was asked for, as far as the flags and the BearerToken tell.
async fn wanted(flags: &Uninstall, global: &Global, edge: &Edge) -> Result<Wanted, Trouble> {
    let cluster = edge.clusters.connect(&global.which()).await?;
    let at = At { kind: BEARER_TOKEN, namespace: &global.namespace, name: &flags.name };
    let found = cluster.get(at).await?;
    let text = |path: &str| found.as_ref().and_then(|found| found.data.pointer(path)).and_then(Value::as_str);
    let repository = flags.repository.as_deref().or_else(|| text("/spec/repositories/0")).ok_or_else(|| {
        Trouble::usage(format!("{at} does not exist, so it can't tell the repository"), "name it with --repository")
    })?;
    Wanted::named(repository, &flags.name, text("/spec/secret/name"), &flags.place, global)
}

/// Looks at everything that a set-up may have made.
async fn inventory(wanted: &Wanted, site: &Site<'_>) -> Result<Inventory, Trouble> {
    let mut inventory = Inventory::default();
    in_cluster(wanted, site, &mut inventory).await?;
    let azure = facts::azure(wanted, site).await?;
    let ours = azure.identity.as_ref().is_some_and(|identity| is_tagged(&identity.tags));
    let issuer = site.cluster.document("/.well-known/openid-configuration").await?;
    let issuer = issuer.get("issuer").and_then(Value::as_str).unwrap_or_default();
    let credential = credential_name(issuer, &wanted.subject());
    let (here, elsewhere): (Vec<_>, Vec<_>) = azure.credentials.iter().partition(|one| one.name == credential);
    if ours && elsewhere.is_empty() {
        let principal = azure.identity.as_ref().map(|identity| identity.principal_id.as_str());
        let organization = facts::organization(wanted, site, principal).await?;
        if let Some(member) = organization.member {
            let (project, repository) = (&organization.project.id, &organization.repository.id);
            inventory.removals.push(Removal::Rights {
                descriptor: member.descriptor,
                repository: repository_token(project, repository),
                project: project_token(project),
            });
            inventory.removals.push(Removal::Member(member.entitlement.id));
        }
        inventory.removals.push(Removal::Identity);
    } else if azure.identity.is_some() {
        let why = if ours { "other clusters use it too" } else { "it was there before" };
        inventory.stays.push(format!("managed identity {} with its rights: {why}", wanted.identity));
        inventory.removals.extend(here.into_iter().map(|one| Removal::Credential(one.name.clone())));
    }
    if azure.group.as_ref().is_some_and(|group| is_tagged(&group.tags)) {
        let besides = site.arm.resources(&wanted.group).await?;
        let only_ours =
            |id: &String| azure.identity.as_ref().is_some_and(|identity| identity.id.eq_ignore_ascii_case(id));
        if besides.iter().all(|id| ours && elsewhere.is_empty() && only_ours(id)) {
            inventory.removals.push(Removal::Group);
        } else {
            inventory.stays.push(format!("resource group {}: something else is in it", wanted.group));
        }
    }
    Ok(inventory)
}

fn is_tagged(tags: &Tags) -> bool {
    tags.get(TAG).is_some_and(|found| found == SETUP)
}

async fn in_cluster(wanted: &Wanted, site: &Site<'_>, inventory: &mut Inventory) -> Result<(), Trouble> {
    let cluster = &site.cluster;
    let at = |kind, name| At { kind, namespace: &wanted.namespace, name };
    if cluster.get(at(BEARER_TOKEN, &wanted.name)).await?.is_some() {
        inventory.removals.push(Removal::Token);
    }
    in_secret(wanted, cluster, inventory).await?;
    let others = cluster.list(BEARER_TOKEN, None).await?;
    let others = others.iter().filter(|one| {
        (one.metadata.namespace.as_deref(), one.metadata.name.as_deref())
            != (Some(&wanted.namespace), Some(&wanted.name))
    });
    if others.count() > 0 {
        inventory.stays.push("the controller: other BearerTokens need it".to_owned());
        return Ok(());
    }
    check_origin(cluster, at(DEPLOYMENT, CONTROLLER)).await?;
    let mut objects = Vec::new();
    for manifest in manifests::controller(&wanted.installation())? {
        let Some(at) = At::of(&manifest) else { continue };
        if cluster.metadata(at).await?.is_some_and(|found| is_ours(&found.metadata)) {
            objects.push(manifest);
        }
    }
    objects.reverse();
    if !objects.is_empty() {
        inventory.removals.push(Removal::Objects(objects));
    }
    in_namespace(wanted, cluster, inventory).await
}

/// What Flux applies from Git it would put back, under an identity that is gone.
async fn check_origin(cluster: &Cluster, controller: At<'_>) -> Result<(), Trouble> {
    let found = cluster.metadata(controller).await?;
    let labels = found.as_ref().and_then(|found| found.metadata.labels.as_ref());
    if labels.is_none_or(|labels| !labels.contains_key(APPLIED_BY)) {
        return Ok(());
    }
    Err(Trouble::new(
        Exit::Taken,
        "Flux applies the controller from the repository, and would put it back",
        "take flux-bearer out of the kustomization.yaml beside Flux's gotk-sync.yaml and push; once it is gone, run this again",
    ))
}

/// The Secret goes only if the controller made it and nothing reads it; its token works until it expires either way.
async fn in_secret(wanted: &Wanted, cluster: &Cluster, inventory: &mut Inventory) -> Result<(), Trouble> {
    let at = At { kind: SECRET, namespace: &wanted.namespace, name: &wanted.secret };
    let found = cluster.metadata(at).await?;
    let Some(record) = found.as_ref().and_then(|found| record(&found.metadata)) else { return Ok(()) };
    inventory.last_token = Some(record.expires_at);
    let readers = sources(cluster, &wanted.namespace, &wanted.secret).await?;
    match readers.first() {
        Some(reader) => inventory.stays.push(format!("{at}: GitRepository {} reads it", reader.name)),
        None if record.made => inventory.removals.push(Removal::Secret),
        None => inventory.stays.push(format!("{at}: it was there before")),
    }
    Ok(())
}

/// The namespace goes only if we made it and Flux is not in it.
async fn in_namespace(wanted: &Wanted, cluster: &Cluster, inventory: &mut Inventory) -> Result<(), Trouble> {
    let at = At { kind: NAMESPACE, namespace: "", name: &wanted.namespace };
    let found = cluster.metadata(at).await?;
    if !found.is_some_and(|found| is_ours(&found.metadata)) {
        return Ok(());
    }
    let deployments = cluster.list(DEPLOYMENT, Some(&wanted.namespace)).await?;
    let others = deployments.iter().any(|one| one.metadata.name.as_deref() != Some(manifests::CONTROLLER));
    let sources = cluster.list(GIT_REPOSITORY, Some(&wanted.namespace)).await?;
    if others || !sources.is_empty() {
        inventory.stays.push(format!("namespace {}: something else is in it", wanted.namespace));
    } else {
        inventory.removals.push(Removal::Namespace);
    }
    Ok(())
}

async fn remove(removal: &Removal, wanted: &Wanted, site: &Site<'_>) -> Result<(), Trouble> {
    let cluster = &site.cluster;
    let at = |kind, name| At { kind, namespace: &wanted.namespace, name };
    match removal {
        Removal::Token => drop(cluster.delete(at(BEARER_TOKEN, &wanted.name)).await?),
        Removal::Secret => drop(cluster.delete(at(SECRET, &wanted.secret)).await?),
        Removal::Objects(objects) => {
            for at in objects.iter().filter_map(At::of) {
                cluster.delete(at).await?;
            }
        }
        Removal::Namespace => {
            cluster.delete(At { kind: NAMESPACE, namespace: "", name: &wanted.namespace }).await?;
        }
        Removal::Rights { descriptor, repository, project } => {
            site.devops.revoke(Namespace::GIT_REPOSITORIES, repository, descriptor).await?;
            site.devops.revoke(Namespace::PROJECT, project, descriptor).await?;
        }
        Removal::Member(id) => site.devops.delete_entitlement(id).await?,
        Removal::Credential(name) => {
            site.arm.delete_federated_credential(&wanted.group, &wanted.identity, name).await?;
        }
        Removal::Identity => site.arm.delete_identity(&wanted.group, &wanted.identity).await?,
        Removal::Group => site.arm.delete_resource_group(&wanted.group).await?,
    }
    Ok(())
}

fn show(inventory: &Inventory, wanted: &Wanted, global: &Global, edge: &Edge) {
    let whats: Vec<String> = inventory.removals.iter().map(|removal| removal.what(wanted)).collect();
    if global.output == Format::Json {
        return edge.out.data(&format!("{:#}\n", json!({"removals": whats, "stays": inventory.stays})));
    }
    let stays = inventory.stays.iter().map(|what| format!("  = {what}\n"));
    let removals = whats.iter().map(|what| format!("  - {what}\n"));
    edge.out.data(&stays.chain(removals).collect::<String>());
}
