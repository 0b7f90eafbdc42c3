//! What is missing, and in which order it is made: a pure function of what is wanted and what exists.

use flux_bearer::preflight::AUDIENCE;
use flux_bearer::resource::BearerTokenSpec;
use flux_bearer::secret::Held;
use flux_bearer::token::fingerprint;
use flux_bearer_azure::arm::{FederatedCredential, UserAssigned};
use flux_bearer_azure::devops::{Access, bits};
use serde_json::{Value, json};

use super::facts::{AzureFacts, ClusterFacts, Facts};
use super::wanted::{Level, Wanted};
use crate::args::FluxMode;
use crate::bootstrap::Tree;
use crate::exit::{Exit, Trouble};
use crate::flux::Identities;
use crate::issuer;
use crate::manifests::PART_OF;
use crate::tokens::Token;

/// How many federated credentials an identity may have: Entra ID's limit.
pub(crate) const MAX_CREDENTIALS: usize = 20;

/// One thing to make or change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Lets the subscription have managed identities.
    Register,
    /// Makes the resource group.
    MakeGroup {
        /// Where.
        location: String,
    },
    /// Makes the identity.
    MakeIdentity {
        /// Where.
        location: String,
    },
    /// Lets the identity sign in with the controller's service account token.
    Federate {
        /// Name of the federated credential.
        name: String,
        /// Issuer of the cluster.
        issuer: String,
        /// Subject: the controller's service account.
        subject: String,
        /// Whether one of this name is there and says something else.
        replaces: bool,
    },
    /// Adds the identity to the organisation, with a Basic licence.
    AddMember,
    /// Gives it a Basic licence in place of a lesser one.
    RaiseLicence,
    /// Gives it rights on the project.
    GrantProject {
        /// The bits that are missing.
        bits: u32,
    },
    /// Gives it rights on the repository.
    GrantRepository {
        /// The bits that are missing.
        bits: u32,
    },
    /// Makes the namespace.
    MakeNamespace,
    /// Applies the controller's manifests that are missing or differ.
    Install(Vec<Value>),
    /// Waits until the controller runs.
    AwaitController,
    /// Applies the BearerToken.
    ApplyToken {
        /// Its manifest.
        manifest: Value,
        /// Whether there is one already.
        replaces: bool,
    },
    /// Waits until the Secret holds a token that opens the repository.
    AwaitToken,
    /// Bootstraps Flux.
    Bootstrap,
    /// Waits until the GitRepositories that use the Secret pull.
    AwaitFlux,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What is made or changed, in order.
    pub changes: Vec<Change>,
    /// What is as it should be, in words.
    pub kept: Vec<String>,
    /// What a person should know before it is done.
    pub notes: Vec<String>,
}

impl Change {
    /// Whether it is a wait, which needs no right and changes nothing.
    pub fn is_wait(&self) -> bool {
        matches!(self, Self::AwaitController | Self::AwaitToken | Self::AwaitFlux)
    }

    /// What it does, in words.
    pub fn what(&self, wanted: &Wanted) -> String {
        let Wanted { group, identity, namespace, name, secret, .. } = wanted;
        match self {
            Self::Register => "register resource provider Microsoft.ManagedIdentity".to_owned(),
            Self::MakeGroup { location } => format!("create resource group {group} in {location}"),
            Self::MakeIdentity { location } => format!("create managed identity {identity} in {location}"),
            Self::Federate { name, issuer, subject, replaces } => {
                let verb = if *replaces { "change" } else { "create" };
                format!("{verb} federated credential {name} for {subject} of {issuer}")
            }
            Self::AddMember => format!("add {identity} to organisation {} with a Basic licence", organization(wanted)),
            Self::RaiseLicence => format!("give {identity} a Basic licence"),
            Self::GrantProject { .. } => format!("let {identity} see project {}", wanted.repository.project()),
            Self::GrantRepository { bits } => {
                let verb = if bits & bits::GIT_CONTRIBUTE == 0 { "read" } else { "push to" };
                format!("let {identity} {verb} repository {}", wanted.repository.repository())
            }
            Self::MakeNamespace => format!("create namespace {namespace}"),
            Self::Install(manifests) => format!("apply {} manifests of the controller", manifests.len()),
            Self::AwaitController => "wait for the controller".to_owned(),
            Self::ApplyToken { replaces, .. } => {
                let verb = if *replaces { "change" } else { "create" };
                format!("{verb} BearerToken {namespace}/{name}")
            }
            Self::AwaitToken => format!("wait for a token in Secret {namespace}/{secret}"),
            Self::Bootstrap => format!("bootstrap Flux from {}", wanted.tree.as_ref().map_or_else(String::new, place)),
            Self::AwaitFlux => "wait for Flux to pull".to_owned(),
        }
    }

    /// The right that it needs.
    pub fn right(&self) -> &'static str {
        match self {
            Self::Register | Self::MakeGroup { .. } => "Contributor of the subscription",
            Self::MakeIdentity { .. } => "Managed Identity Contributor of the resource group",
            Self::Federate { .. } => "Contributor of the resource group",
            Self::AddMember | Self::RaiseLicence => "Project Collection Administrator",
            Self::GrantProject { .. } | Self::GrantRepository { .. } => "Project Administrator",
            Self::MakeNamespace | Self::Install(_) => "cluster-admin",
            Self::ApplyToken { .. } => "edit in the namespace",
            Self::Bootstrap => "Contribute on the repository, and cluster-admin",
            Self::AwaitController | Self::AwaitToken | Self::AwaitFlux => "",
        }
    }

    /// What Azure Resource Manager must allow for it.
    fn action(&self) -> Option<&'static str> {
        match self {
            Self::Register => Some("Microsoft.ManagedIdentity/register/action"),
            Self::MakeGroup { .. } => Some("Microsoft.Resources/subscriptions/resourceGroups/write"),
            Self::MakeIdentity { .. } => Some("Microsoft.ManagedIdentity/userAssignedIdentities/write"),
            Self::Federate { .. } => {
                Some("Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write")
            }
            _ => None,
        }
    }
}

/// Decides what is to be done.
///
/// # Errors
/// What stands in the way: a right that is missing, a name that is taken, a limit. Then nothing is done at all.
pub fn plan(wanted: &Wanted, facts: &Facts) -> Result<Plan, Trouble> {
    let mut plan = Plan::default();
    plan_azure(wanted, &facts.azure, &facts.cluster.issuer, &mut plan)?;
    check_denials(wanted, facts)?;
    plan_organization(wanted, facts, &mut plan);
    plan_cluster(wanted, facts, &mut plan)?;
    check_rights(wanted, facts, &plan)?;
    plan.notes.extend(native_fits(facts));
    Ok(plan)
}

fn plan_azure(wanted: &Wanted, azure: &AzureFacts, issuer: &str, plan: &mut Plan) -> Result<(), Trouble> {
    let Wanted { group, identity, .. } = wanted;
    if !azure.registered {
        plan.changes.push(Change::Register);
    }
    match &azure.group {
        Some(_) => plan.kept.push(format!("resource group {group}")),
        None => plan.changes.push(Change::MakeGroup { location: location(wanted, azure)? }),
    }
    match &azure.identity {
        Some(_) => plan.kept.push(format!("managed identity {identity}")),
        None => plan.changes.push(Change::MakeIdentity { location: location(wanted, azure)? }),
    }
    match federate(wanted, azure, issuer)? {
        Some(change) => plan.changes.push(change),
        None => plan.kept.push(format!("federated credential for {}", wanted.subject())),
    }
    Ok(())
}

fn location(wanted: &Wanted, azure: &AzureFacts) -> Result<String, Trouble> {
    let known = wanted.location.clone().or_else(|| azure.group.as_ref().map(|group| group.location.clone()));
    known.ok_or_else(|| {
        let cause =
            format!("resource group {} does not exist, and --location does not say where to make it", wanted.group);
        Trouble::usage(cause, "add --location, for example --location westeurope")
    })
}

/// The federated credential that is missing. One that says the same under another name is as good; Entra ID takes no two.
fn federate(wanted: &Wanted, azure: &AzureFacts, issuer: &str) -> Result<Option<Change>, Trouble> {
    let subject = wanted.subject();
    let says_so =
        |one: &FederatedCredential| one.issuer == issuer && one.subject == subject && one.audiences == [AUDIENCE];
    if azure.credentials.iter().any(says_so) {
        return Ok(None);
    }
    let name = credential_name(issuer, &subject);
    let replaces = azure.credentials.iter().any(|one| one.name == name);
    if !replaces && azure.credentials.len() >= MAX_CREDENTIALS {
        let Wanted { group, identity, .. } = wanted;
        return Err(Trouble::new(
            Exit::Taken,
            format!(
                "managed identity {identity} has {MAX_CREDENTIALS} federated credentials, and Entra ID allows no more"
            ),
            format!(
                "use one more identity (--identity {identity}-2), or remove a credential of a cluster that is gone: \
                 az identity federated-credential list -g {group} --identity-name {identity}"
            ),
        ));
    }
    Ok(Some(Change::Federate { name, issuer: issuer.to_owned(), subject, replaces }))
}

/// One name for each issuer and subject, the same in every run.
pub(crate) fn credential_name(issuer: &str, subject: &str) -> String {
    format!("flux-bearer-{}", fingerprint(&format!("{issuer}\n{subject}")))
}

fn plan_organization(wanted: &Wanted, facts: &Facts, plan: &mut Plan) {
    let Some(member) = &facts.organization.member else {
        plan.changes.push(Change::AddMember);
        plan.changes.push(Change::GrantProject { bits: bits::PROJECT_READ });
        plan.changes.push(Change::GrantRepository { bits: repository_bits(wanted.level) });
        return;
    };
    if member.entitlement.licence.opens_repositories() {
        plan.kept.push(format!("membership of organisation {}", organization(wanted)));
    } else {
        plan.changes.push(Change::RaiseLicence);
    }
    match missing(&member.project, bits::PROJECT_READ) {
        0 => plan.kept.push(format!("right to see project {}", wanted.repository.project())),
        bits => plan.changes.push(Change::GrantProject { bits }),
    }
    match missing(&member.repository, repository_bits(wanted.level)) {
        0 => plan.kept.push(format!("rights on repository {}", wanted.repository.repository())),
        bits => plan.changes.push(Change::GrantRepository { bits }),
    }
}

/// A denial wins over whatever is allowed, and somebody has decided on it: it is not taken away here.
fn check_denials(wanted: &Wanted, facts: &Facts) -> Result<(), Trouble> {
    let Some(member) = &facts.organization.member else { return Ok(()) };
    let (project, repository) = (wanted.repository.project(), wanted.repository.repository());
    for (access, needed, what) in [
        (&member.project, bits::PROJECT_READ, format!("project {project}")),
        (&member.repository, repository_bits(wanted.level), format!("repository {repository}")),
    ] {
        if access.deny & needed != 0 {
            let cause = format!("{} is denied {what} by an entry of its own", wanted.identity);
            let fix = format!("take the denial back in the security settings of {what}, or choose another --identity");
            return Err(Trouble::new(Exit::Policy, cause, fix));
        }
    }
    Ok(())
}

fn organization(wanted: &Wanted) -> String {
    wanted.repository.organization()
}

/// What a level is in bits of the Git namespace.
pub(super) fn repository_bits(level: Level) -> u32 {
    match level {
        Level::Read => bits::GIT_READ,
        Level::Contribute => bits::GIT_READ | bits::GIT_CONTRIBUTE | bits::GIT_CREATE_BRANCH,
    }
}

/// The bits that are neither given there nor inherited.
fn missing(access: &Access, wanted: u32) -> u32 {
    wanted & !(access.allow | access.effective_allow)
}

fn plan_cluster(wanted: &Wanted, facts: &Facts, plan: &mut Plan) -> Result<(), Trouble> {
    let cluster = &facts.cluster;
    check_secret(wanted, cluster)?;
    if cluster.namespace {
        plan.kept.push(format!("namespace {}", wanted.namespace));
    } else {
        plan.changes.push(Change::MakeNamespace);
    }
    if cluster.outdated.is_empty() {
        plan.kept.push("the controller's manifests".to_owned());
    } else {
        plan.changes.push(Change::Install(cluster.outdated.clone()));
    }
    if !cluster.running || !cluster.outdated.is_empty() {
        plan.changes.push(Change::AwaitController);
    }
    plan_token(wanted, facts, plan);
    plan_flux(wanted, facts, plan)?;
    if cluster.sources.iter().any(|source| source.ready.is_err()) {
        plan.changes.push(Change::AwaitFlux);
    }
    Ok(())
}

/// Flux comes last: it pulls with what the Secret holds by then.
fn plan_flux(wanted: &Wanted, facts: &Facts, plan: &mut Plan) -> Result<(), Trouble> {
    let Wanted { namespace, secret, .. } = wanted;
    let flux = facts.cluster.flux.as_ref();
    match (&wanted.tree, &facts.bootstrap, flux) {
        (Some(tree), Some(bootstrap), _) if bootstrap.done => {
            plan.kept.push(format!("Flux, bootstrapped from {}", place(tree)));
            Ok(())
        }
        (Some(_), Some(_), Some(flux)) if flux.is_others() => Err(Trouble::new(
            Exit::Taken,
            format!("--flux bootstrap: the cluster has {flux}, and two can't keep one set of controllers"),
            "leave --flux out: that Flux can pull with the Secret",
        )),
        (Some(_), Some(bootstrap), _) => {
            plan.changes.push(Change::Bootstrap);
            bootstrap.able.clone()
        }
        (_, _, Some(flux)) => {
            plan.kept.push(format!("{flux}: nothing of it is changed but Secret {namespace}/{secret}"));
            Ok(())
        }
        _ if wanted.flux == Some(FluxMode::Existing) => Err(Trouble::new(
            Exit::NotFound,
            "--flux existing: there is no Flux in this cluster, for it has no Deployment source-controller",
            "make one with --flux bootstrap, or leave --flux out and install Flux afterwards; or choose the right cluster \
             with --context",
        )),
        _ => Ok(()),
    }
}

/// A part of the repository, in words.
fn place(tree: &Tree) -> String {
    format!("{} of branch {}", tree.path(), tree.branch)
}

/// Where Flux's own way is the better one, what speaks for it. It is said and nothing is made of it, for only a person knows
/// what is to come.
fn native_fits(facts: &Facts) -> Option<String> {
    let Facts { azure, organization, cluster, .. } = facts;
    let flux = cluster.flux.as_ref().filter(|flux| flux.is_native())?;
    let patched_by = flux.patched_by()?;
    let alone = !cluster.has_others && azure.credentials.iter().all(|one| one.issuer == cluster.issuer);
    if !alone || !issuer::is_aks(&cluster.issuer, &organization.tenant) {
        return None;
    }
    let how = match flux.identities {
        Identities::Each => "a service account with the identity's ids, in the GitRepository's spec.serviceAccountName",
        _ => patched_by,
    };
    Some(format!(
        "on one AKS cluster of one tenant with one identity, Flux's own provider: azure fits better: it takes no Secret and \
         no further controller, but {how}"
    ))
}

/// A Secret of somebody else is not taken without being told to, and one of another BearerToken not at all.
fn check_secret(wanted: &Wanted, cluster: &ClusterFacts) -> Result<(), Trouble> {
    let Held::Foreign { owner, version } = &cluster.secret else { return Ok(()) };
    if wanted.adopt && version.is_some() {
        return Ok(());
    }
    let fix = match version {
        Some(_) => "add --adopt to take it over once the token opens the repository, or name another one with --secret",
        None => "name another one with --secret, or that BearerToken with --name",
    };
    Err(Trouble::new(Exit::Taken, format!("Secret {}/{} is that of {owner}", wanted.namespace, wanted.secret), fix))
}

fn plan_token(wanted: &Wanted, facts: &Facts, plan: &mut Plan) {
    let cluster = &facts.cluster;
    let Some(identity) = &facts.azure.identity else {
        // The identity is yet to be made, and with it its ids.
        plan.changes.push(Change::ApplyToken { manifest: Value::Null, replaces: cluster.token.is_some() });
        plan.changes.push(Change::AwaitToken);
        return;
    };
    let manifest = manifest(wanted, identity);
    let spec = manifest.get("spec").cloned().unwrap_or_default();
    let current = serde_json::from_value::<BearerTokenSpec>(spec).ok();
    let same = cluster.token.as_ref().is_some_and(|token| covers(token.spec.as_ref(), current.as_ref()));
    if same {
        plan.kept.push(format!("BearerToken {}/{}", wanted.namespace, wanted.name));
    } else {
        plan.changes.push(Change::ApplyToken { manifest, replaces: cluster.token.is_some() });
    }
    let ready = cluster.token.as_ref().is_some_and(Token::opens);
    if !same || !ready {
        plan.changes.push(Change::AwaitToken);
    }
}

/// Whether a BearerToken already asks for all that is wanted; `suspend` and formats are left as they are.
fn covers(found: Option<&BearerTokenSpec>, wanted: Option<&BearerTokenSpec>) -> bool {
    let (Some(found), Some(wanted)) = (found, wanted) else { return false };
    found.identity == wanted.identity
        && found.secret.name == wanted.secret.name
        && found.secret.adopt == wanted.secret.adopt
        && wanted.repositories.iter().all(|url| found.repositories.contains(url))
}

/// The BearerToken of this identity.
pub(super) fn manifest(wanted: &Wanted, identity: &UserAssigned) -> Value {
    let (label, value) = PART_OF;
    let mut secret = serde_json::Map::new();
    if wanted.secret != wanted.name {
        secret.insert("name".to_owned(), json!(wanted.secret));
    }
    if wanted.adopt {
        secret.insert("adopt".to_owned(), json!(true));
    }
    let mut spec = json!({
        "identity": {"tenantId": identity.tenant_id, "clientId": identity.client_id},
        "repositories": [wanted.repository.to_string()],
    });
    if let (false, Some(spec)) = (secret.is_empty(), spec.as_object_mut()) {
        spec.insert("secret".to_owned(), Value::Object(secret));
    }
    json!({
        "apiVersion": "flux-bearer.dev/v1alpha1",
        "kind": "BearerToken",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": {label: value}},
        "spec": spec,
    })
}

/// Says which right is missing before anything is changed.
fn check_rights(wanted: &Wanted, facts: &Facts, plan: &Plan) -> Result<(), Trouble> {
    for change in &plan.changes {
        if let Some(action) = change.action().filter(|action| !facts.azure.rights.allows(action)) {
            return Err(missing_right(change, wanted, &format!("{action} is not allowed")));
        }
        let granted = match change {
            Change::AddMember | Change::RaiseLicence => facts.organization.may_add,
            Change::GrantProject { .. } => facts.organization.may_grant_project,
            Change::GrantRepository { .. } => facts.organization.may_grant_repository,
            _ => true,
        };
        if !granted {
            return Err(missing_right(change, wanted, "you may not change rights there"));
        }
    }
    Ok(())
}

fn missing_right(change: &Change, wanted: &Wanted, why: &str) -> Trouble {
    Trouble::new(
        Exit::Right,
        format!("can't {}: {why}", change.what(wanted)),
        format!("ask to be made {}, or have somebody who is run this", change.right()),
    )
}
