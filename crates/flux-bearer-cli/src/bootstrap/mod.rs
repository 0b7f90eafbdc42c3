//! `bootstrap`: `flux bootstrap git` with a token that does not stay.
//!
//! Flux pushes its own manifests once, and needs a token for that; what it pulls with afterwards is in the Secret, which
//! the controller has filled before. `flux` leaves a Secret as it is that exists, when it is given a bearer token; a PAT it
//! writes into the Secret whatever is there, so that one is taken out again at once. `setup` has the same as its last step.

mod commit;
mod credential;
mod flux;
mod git;
mod secret;
mod tree;

use std::time::Duration;

use flux_bearer::repository::Repository;
use flux_bearer_azure::operator::Session;
use flux_bearer_azure::probe::Proof;
use serde_json::Value;

pub(crate) use self::flux::check_more;
pub use self::tree::Tree;
use crate::args::{Bootstrap, Global, Whose};
use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::identity_token::{identity, mint};
use crate::kinds::{DEPLOYMENT, GIT_REPOSITORY, KUSTOMIZATION};
use crate::manifests::{CONTROLLER, Installation};
use crate::object::text;
use crate::setup::tenant_of;
use crate::sign_in;
use crate::sources::APPLIED_BY;
use crate::tokens::{Token, named};

/// What is bootstrapped, and where.
pub(crate) struct Job<'a> {
    /// The repository that Flux pulls.
    pub(crate) repository: &'a Repository,
    /// The part of it that is this cluster's.
    pub(crate) tree: &'a Tree,
    /// Name of the BearerToken that keeps the Secret.
    pub(crate) bearer_token: &'a str,
    /// Name of the Secret.
    pub(crate) secret: &'a str,
    /// Whether the controller's manifests go into the repository.
    pub(crate) controller: bool,
    /// More arguments for `flux`.
    pub(crate) more: &'a [String],
    /// Flags of every verb.
    pub(crate) global: &'a Global,
}

impl Job<'_> {
    /// How long `flux` may take: half of the run, for there is more to do.
    fn limit(&self) -> Duration {
        limit(self.global)
    }
}

fn limit(global: &Global) -> Duration {
    global.timeout / 2
}

/// Runs the verb.
pub(crate) async fn run(flags: &Bootstrap, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let repository = Repository::parse(&flags.repository)
        .map_err(|failure| Trouble::usage(format!("--repository: {}", failure.cause), failure.fix.into_owned()))?;
    let tree = Tree::of(&flags.tree)?;
    check_more(&flags.more)?;
    let cluster = edge.clusters.connect(&global.which()).await?;
    check_programs(!flags.without_controller, edge).await?;
    let token = Token::of(&named(&cluster, &global.namespace, &flags.name).await?);
    let job = Job {
        repository: &repository,
        tree: &tree,
        bearer_token: &token.name,
        secret: token.secret(),
        controller: !flags.without_controller,
        more: &flags.more,
        global,
    };
    secret::check_filled(&job, &cluster, edge).await?;
    let proof = proof(flags, &token, &job, &cluster, edge).await?;
    credential::check_push(&proof, &repository, edge).await?;
    perform(&job, &proof, &cluster, edge).await?;
    if let Proof::Pat(_) = proof {
        edge.out.warning(&format!("revoke the PAT now, nothing needs it any more: {}", credential::pats(&repository)));
    }
    Ok(Exit::Done)
}

/// The token that pushes: the one that the flags choose.
async fn proof(
    flags: &Bootstrap,
    token: &Token,
    job: &Job<'_>,
    cluster: &Cluster,
    edge: &Edge,
) -> Result<Proof, Trouble> {
    if flags.pat_stdin {
        return credential::piped(job.repository, edge).await;
    }
    match flags.whose {
        Whose::Operator => {
            let tenant = tenant_of(&job.repository.organization(), edge).await?;
            credential::of_operator(&sign_in::session(&flags.operator, Some(&tenant), edge)?, job.limit(), edge).await
        }
        Whose::Identity => {
            let minted = mint(cluster, &token.namespace, &identity(cluster, token).await?, edge).await?;
            credential::check_lasts(minted.expires_at, job.limit(), edge)?;
            Ok(Proof::Bearer(minted.secret))
        }
    }
}

/// What can be known before anything is changed: that the programs are there, and that the operator may push.
pub(crate) async fn check_able(
    repository: &Repository,
    session: &Session,
    global: &Global,
    edge: &Edge,
) -> Result<(), Trouble> {
    check_programs(true, edge).await?;
    let proof = credential::of_operator(session, limit(global), edge).await?;
    credential::check_push(&proof, repository, edge).await
}

/// Bootstraps with the operator's own token.
pub(crate) async fn perform_as_operator(
    job: &Job<'_>,
    session: &Session,
    cluster: &Cluster,
    edge: &Edge,
) -> Result<(), Trouble> {
    let proof = credential::of_operator(session, job.limit(), edge).await?;
    perform(job, &proof, cluster, edge).await
}

async fn perform(job: &Job<'_>, proof: &Proof, cluster: &Cluster, edge: &Edge) -> Result<(), Trouble> {
    if job.controller {
        commit::controller(job, &installation(job, cluster).await?, proof, edge).await?;
    }
    let done = flux::bootstrap(job, proof, cluster, edge).await;
    // Also after a failure: until then the Secret may hold what it should not.
    secret::settle(job, cluster, edge).await?;
    done
}

async fn check_programs(with_git: bool, edge: &Edge) -> Result<(), Trouble> {
    flux::check(edge).await?;
    if with_git { git::check(edge).await } else { Ok(()) }
}

/// What the cluster runs: the repository gets the same.
async fn installation(job: &Job<'_>, cluster: &Cluster) -> Result<Installation, Trouble> {
    let namespace = &job.global.namespace;
    let at = At { kind: DEPLOYMENT, namespace, name: CONTROLLER };
    let found = cluster.get(at).await?;
    let image = found.as_ref().map(|found| text(&found.data, "/spec/template/spec/containers/0/image"));
    let image = image.filter(|image| !image.is_empty()).ok_or_else(|| {
        let fix = "flux-bearer setup installs it; or add --without-controller, if it comes from elsewhere";
        Trouble::new(Exit::NotFound, format!("{at} does not exist"), fix)
    })?;
    Ok(Installation { namespace: namespace.clone(), secret: job.secret.to_owned(), image: Some(image.to_owned()) })
}

/// Whether Flux was bootstrapped from this part of the repository with this Secret, and applies the controller from there.
pub(crate) async fn is_done(
    repository: &Repository,
    tree: &Tree,
    namespace: &str,
    secret: &str,
    cluster: &Cluster,
) -> Result<bool, Trouble> {
    let look = async |kind, name| -> Result<Value, Trouble> {
        let found = cluster.get(At { kind, namespace, name }).await?;
        Ok(found.and_then(|found| serde_json::to_value(found).ok()).unwrap_or_default())
    };
    let source = look(GIT_REPOSITORY, namespace).await?;
    let sync = look(KUSTOMIZATION, namespace).await?;
    let controller = look(DEPLOYMENT, CONTROLLER).await?;
    Ok(text(&source, "/spec/url") == repository.to_string()
        && text(&source, "/spec/ref/branch") == tree.branch
        && text(&source, "/spec/secretRef/name") == secret
        && tree.is(text(&sync, "/spec/path"))
        && !text(&sync, "/status/lastAppliedRevision").is_empty()
        && controller.pointer("/metadata/labels").and_then(|labels| labels.get(APPLIED_BY)?.as_str())
            == Some(namespace))
}
