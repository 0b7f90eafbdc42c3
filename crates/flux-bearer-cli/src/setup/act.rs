//! Makes one thing, and waits until it is seen: what Azure has answered "done" to may take minutes to be so.

use std::time::Duration;

use flux_bearer::failure::Failure;
use flux_bearer::preflight::AUDIENCE;
use flux_bearer_azure::arm::{FederatedCredential, MANAGED_IDENTITY, ProviderState, TAG, Tags};
use flux_bearer_azure::devops::{Access, EntitlementRefused, Namespace, NotAdded, project_token, repository_token};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::facts::{self, Facts, MemberFacts};
use super::plan::{Change, manifest};
use super::site::Site;
use super::wanted::Wanted;
use crate::bootstrap::{self, Job};
use crate::cluster::At;
use crate::exit::{Exit, Trouble};
use crate::kinds::DEPLOYMENT;
use crate::manifests::{CONTROLLER, PART_OF};
use crate::sources::{SourceFacts, nudge, sources};
use crate::tokens::{Token, named, wait};

/// Time between two looks at something that was made.
const EVERY: Duration = Duration::from_secs(2);

/// Time between two looks at an access control list, as Terraform's provider has it.
const EVERY_ACCESS: Duration = Duration::from_secs(5);

/// Waits before a new identity is added to the organisation again, in seconds: five minutes in all, after which the
/// directory has it or never will.
const ADD_WAITS: [u64; 7] = [5, 10, 20, 40, 60, 80, 85];

/// The value of [`TAG`] on what this made: `uninstall` takes back nothing else.
pub(crate) const SETUP: &str = "setup";

/// Makes one change, and takes what came of it into the facts.
pub(super) async fn act(change: Change, wanted: &Wanted, site: &Site<'_>, facts: &mut Facts) -> Result<(), Trouble> {
    let what = change.what(wanted);
    if change.is_wait() {
        site.edge.out.waiting(&what);
    } else {
        site.edge.out.action(&what);
    }
    match change {
        Change::Register => register(site, facts).await?,
        Change::MakeGroup { location } => {
            facts.azure.group = Some(site.arm.put_resource_group(&wanted.group, &location, &tags()).await?);
        }
        Change::MakeIdentity { location } => {
            let made = site.arm.put_identity(&wanted.group, &wanted.identity, &location, &tags()).await?;
            facts.azure.identity = Some(made);
        }
        Change::Federate { name, issuer, subject, .. } => federate(wanted, site, facts, name, issuer, subject).await?,
        Change::AddMember => add_member(site, facts).await?,
        Change::RaiseLicence => {
            let member = known(facts.organization.member.as_mut())?;
            let updated = site.devops.update_licence(&member.entitlement.id).await;
            member.entitlement = updated.map_err(Failure::from)?;
        }
        Change::GrantProject { bits } => {
            let token = project_token(&facts.organization.project.id);
            let member = known(facts.organization.member.as_mut())?;
            grant(site, Namespace::PROJECT, &token, member, bits, |member| &mut member.project).await?;
        }
        Change::GrantRepository { bits } => {
            let token = repository_token(&facts.organization.project.id, &facts.organization.repository.id);
            let member = known(facts.organization.member.as_mut())?;
            grant(site, Namespace::GIT_REPOSITORIES, &token, member, bits, |member| &mut member.repository).await?;
        }
        Change::MakeNamespace => {
            let (label, value) = PART_OF;
            let labels = json!({"app.kubernetes.io/managed-by": value, label: value});
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": wanted.namespace, "labels": labels},
            });
            site.cluster.apply(&namespace, false).await?;
            facts.cluster.namespace = true;
        }
        Change::Install(manifests) => {
            for manifest in &manifests {
                site.cluster.apply(manifest, false).await?;
            }
            facts.cluster.outdated.clear();
        }
        Change::AwaitController => await_controller(wanted, site, facts).await?,
        Change::ApplyToken { .. } => {
            let manifest = manifest(wanted, known(facts.azure.identity.as_ref())?);
            let applied = site.cluster.apply(&manifest, false).await?;
            facts.cluster.token = Some(Token::of(&applied));
        }
        Change::AwaitToken => facts.cluster.token = Some(await_token(wanted, site).await?),
        Change::Bootstrap => bootstrap(wanted, site, facts).await?,
        Change::AwaitFlux => facts.cluster.sources = await_flux(wanted, site).await?,
    }
    site.edge.out.success(&done(&what));
    Ok(())
}

/// What the plan has made sure of by its order.
fn known<T>(fact: Option<T>) -> Result<T, Trouble> {
    fact.ok_or_else(|| Trouble::new(Exit::Failed, "the identity is gone while it is being set up", "run it again"))
}

fn done(what: &str) -> String {
    what.strip_prefix("wait for ").map_or_else(|| format!("{what}: done"), |what| format!("{what}: there"))
}

/// Asks again and again until there is an answer. How long it may take is the whole run's limit.
async fn until<T>(
    site: &Site<'_>,
    what: &str,
    every: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Trouble>,
) -> Result<T, Trouble> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await? {
            site.edge.out.waited();
            return Ok(found);
        }
        site.edge.out.still_waiting(what, began.elapsed().as_secs());
        sleep(every).await;
    }
}

fn tags() -> Tags {
    Tags::from([(TAG.to_owned(), SETUP.to_owned())])
}

async fn register(site: &Site<'_>, facts: &mut Facts) -> Result<(), Trouble> {
    site.arm.register_provider(MANAGED_IDENTITY).await?;
    until(site, "the resource provider", EVERY_ACCESS, async || {
        let state = site.arm.provider_state(MANAGED_IDENTITY).await?;
        Ok((state == ProviderState::Registered).then_some(()))
    })
    .await?;
    facts.azure.registered = true;
    Ok(())
}

async fn federate(
    wanted: &Wanted,
    site: &Site<'_>,
    facts: &mut Facts,
    name: String,
    issuer: String,
    subject: String,
) -> Result<(), Trouble> {
    let credential = FederatedCredential { name, issuer, subject, audiences: vec![AUDIENCE.to_owned()] };
    // One write at a time for each identity: another run may be at it.
    until(site, "another write of the identity", EVERY_ACCESS, async || {
        match site.arm.put_federated_credential(&wanted.group, &wanted.identity, &credential).await {
            Ok(_) => Ok(Some(())),
            Err(failure) if failure.reason == "ResourceConflict" => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    })
    .await?;
    facts.azure.credentials.retain(|one| one.name != credential.name);
    facts.azure.credentials.push(credential);
    Ok(())
}

async fn add_member(site: &Site<'_>, facts: &mut Facts) -> Result<(), Trouble> {
    let principal = known(facts.azure.identity.as_ref())?.principal_id.clone();
    let mut waits = ADD_WAITS.iter();
    loop {
        match site.devops.add_entitlement(&principal).await {
            Ok(_) => break,
            Err(NotAdded::Refused(EntitlementRefused::NotYet)) if waits.len() > 0 => {
                let seconds = waits.next().copied().unwrap_or_default();
                site.edge
                    .out
                    .waiting(&format!("Azure DevOps does not know the new identity yet; again in {seconds} s"));
                sleep(Duration::from_secs(seconds)).await;
            }
            Err(not_added) => return Err(Failure::from(not_added).into()),
        }
    }
    let organization = &facts.organization;
    let member = until(site, "the membership", EVERY_ACCESS, async || {
        facts::member(site, &principal, &organization.project, &organization.repository).await
    });
    facts.organization.member = Some(member.await?);
    Ok(())
}

/// Gives rights by one entry, and waits until it is read back.
async fn grant(
    site: &Site<'_>,
    namespace: Namespace,
    token: &str,
    member: &mut MemberFacts,
    bits: u32,
    kept: impl Fn(&mut MemberFacts) -> &mut Access,
) -> Result<(), Trouble> {
    let descriptor = member.descriptor.clone();
    site.devops.grant(namespace, token, &descriptor, bits).await?;
    *kept(member) = until(site, "the right to be seen", EVERY_ACCESS, async || {
        let access = site.devops.access(namespace, token, &descriptor).await?;
        Ok((access.allow & bits == bits).then_some(access))
    })
    .await?;
    Ok(())
}

async fn await_controller(wanted: &Wanted, site: &Site<'_>, facts: &mut Facts) -> Result<(), Trouble> {
    let at = At { kind: DEPLOYMENT, namespace: &wanted.namespace, name: CONTROLLER };
    until(site, "the controller", EVERY, async || {
        Ok(facts::running(site.cluster.get(at).await?.as_ref()).then_some(()))
    })
    .await?;
    facts.cluster.running = true;
    Ok(())
}

/// Waits until the Secret holds a token that opens the repository; tells what the controller says meanwhile.
async fn await_token(wanted: &Wanted, site: &Site<'_>) -> Result<Token, Trouble> {
    let known = Token::of(&named(&site.cluster, &wanted.namespace, &wanted.name).await?);
    let ended = wait(site.edge, &site.cluster, &known, "a token", |token| match token.stalled() {
        Some(says) if token.is_observed() => Some(Err(says.to_owned())),
        _ => token.opens().then(|| Ok(token.clone())),
    });
    let fix = || format!("flux-bearer check -n {}, then run this again", wanted.namespace);
    ended.await?.map_err(|says| Trouble::new(Exit::Failed, says, fix()))
}

/// Bootstraps Flux with the operator's own token.
async fn bootstrap(wanted: &Wanted, site: &Site<'_>, facts: &mut Facts) -> Result<(), Trouble> {
    let job = Job {
        repository: &wanted.repository,
        tree: known(wanted.tree.as_ref())?,
        bearer_token: &wanted.name,
        secret: &wanted.secret,
        controller: true,
        more: &wanted.more,
        global: site.global,
    };
    bootstrap::perform_as_operator(&job, &site.session, &site.cluster, site.edge).await?;
    known(facts.bootstrap.as_mut())?.done = true;
    facts.cluster.sources = sources(&site.cluster, &wanted.namespace, &wanted.secret).await?;
    Ok(())
}

/// Asks Flux to look, and waits until every GitRepository of the Secret pulls.
async fn await_flux(wanted: &Wanted, site: &Site<'_>) -> Result<Vec<SourceFacts>, Trouble> {
    let failing = sources(&site.cluster, &wanted.namespace, &wanted.secret).await?;
    for source in failing.iter().filter(|source| source.ready.is_err()) {
        nudge(&site.cluster, &wanted.namespace, &source.name, site.edge.now()).await?;
    }
    let mut told = String::new();
    until(site, "Flux", EVERY, async || {
        let sources = sources(&site.cluster, &wanted.namespace, &wanted.secret).await?;
        let failing = sources.iter().find_map(|source| source.ready.as_ref().err().map(|says| (&source.name, says)));
        let Some((name, says)) = failing else { return Ok(Some(sources)) };
        if *says != told {
            site.edge.out.detail(&format!("GitRepository {name}: {says}"));
            told.clone_from(says);
        }
        Ok(None)
    })
    .await
}
