//! What Azure and Azure DevOps say of the identities of BearerTokens, and of what they are to open.
//!
//! Nothing is sent before the operator is signed in. What may not be looked at is an error in its place, so that its
//! check is skipped and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use flux_bearer::failure::Failure;
use flux_bearer_azure::arm::{Arm, FederatedCredential, RoleAssignment, Subscription, UserAssigned};
use flux_bearer_azure::devops::{
    self, Backing, DevOps, Entitlement, GitRepository, Group, Namespace, Project, bits, discover_tenant,
    project_tokens, repository_tokens,
};
use flux_bearer_azure::operator::{Resource, Session};
use futures::future::join_all;
use futures::{StreamExt, stream};

use super::facts::{Facts, Known};
use super::identities::{Account, Use, address, uses};
use crate::args;
use crate::edge::Edge;
use crate::exit::Trouble;
use crate::sign_in;

/// Requests to one service that are under way at the same time.
const AT_ONCE: usize = 4;

/// What Azure and Azure DevOps say.
#[derive(Debug, Default)]
pub struct Cloud {
    /// The managed identity that each account is; nothing where no subscription has one.
    pub identities: BTreeMap<Account, Known<Option<ManagedIdentity>>>,
    /// The organisations, by name in lower case.
    pub organizations: BTreeMap<String, Organization>,
}

/// A managed identity.
#[derive(Debug)]
pub struct ManagedIdentity {
    /// Id of the subscription that it is in.
    pub subscription: String,
    /// The identity.
    pub identity: UserAssigned,
    /// Whose tokens it signs in with.
    pub credentials: Known<Vec<FederatedCredential>>,
    /// What it may do in the subscription.
    pub roles: Known<Vec<RoleAssignment>>,
}

/// An organisation.
#[derive(Debug)]
pub struct Organization {
    /// Its name.
    pub name: String,
    /// The tenant that it is connected to.
    pub backing: Known<Backing>,
    /// Whether who looks sees every project, so that one which isn't seen isn't there.
    pub all_seeing: Known<bool>,
    /// The projects, by name in lower case.
    pub projects: BTreeMap<String, Known<Option<Project>>>,
    /// The repositories, by their canonical URL in lower case.
    pub repositories: BTreeMap<String, Known<Option<GitRepository>>>,
    /// The members, by client id.
    pub members: BTreeMap<String, Known<Option<Member>>>,
}

/// A member of an organisation.
#[derive(Debug)]
pub struct Member {
    /// Its names.
    pub member: devops::Member,
    /// Its licence; nothing where it has none.
    pub entitlement: Known<Option<Entitlement>>,
    /// The groups that it is in.
    pub groups: Known<Vec<Group>>,
    /// The entries of it and of its groups, by the token of the access control list.
    pub entries: BTreeMap<String, Known<Vec<Entry>>>,
}

/// An entry of an access control list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The group it is of; nothing where it is the member's own.
    pub group: Option<String>,
    /// What it allows and denies.
    pub access: devops::Access,
}

/// Who looks: signs in to a tenant once, however often is looked.
pub struct Operator<'a> {
    flags: &'a args::Check,
    edge: &'a Edge,
    sessions: Mutex<BTreeMap<Option<String>, Session>>,
}

impl<'a> Operator<'a> {
    /// Who these flags say; nobody is signed in yet.
    pub fn new(flags: &'a args::Check, edge: &'a Edge) -> Self {
        Self { flags, edge, sessions: Mutex::default() }
    }

    /// A session in a tenant that has proven to be one: a token has been got.
    async fn session(&self, tenant: Option<&str>) -> Known<Session> {
        let session = self.kept(tenant).map_err(|trouble| unsigned(&trouble))?;
        let token = session.token(Resource::AzureDevOps).await;
        token.map_err(|failure| unsigned(&failure.into()))?;
        Ok(session)
    }

    fn kept(&self, tenant: Option<&str>) -> Result<Session, Trouble> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get(&tenant.map(str::to_owned)) {
            return Ok(session.clone());
        }
        let session = sign_in::session(&self.flags.operator, tenant, self.edge)?;
        sessions.insert(tenant.map(str::to_owned), session.clone());
        Ok(session)
    }
}

fn unsigned(trouble: &Trouble) -> String {
    format!("not signed in to Azure ({}); {}", trouble.cause, trouble.fix)
}

#[allow(clippy::needless_pass_by_value, reason = "it is the end of the failure")]
fn why(failure: Failure) -> String {
    format!("{}: {}", failure.code, failure.cause)
}

/// Looks at everything in Azure and Azure DevOps that the BearerTokens of these facts mean.
pub async fn gather(facts: &Facts, operator: &Operator<'_>) -> Known<Cloud> {
    let uses = uses(facts)?;
    let tenants: BTreeSet<Option<&str>> = uses.iter().map(|one| one.account.tenant.as_deref()).collect();
    let mut cloud = Cloud::default();
    for tenant in tenants {
        let of_tenant: Vec<&Use<'_>> = uses.iter().filter(|one| one.account.tenant.as_deref() == tenant).collect();
        let session = operator.session(tenant).await;
        cloud.identities.extend(identities(&of_tenant, &session, operator.flags.subscription.as_deref()).await);
        for (name, plan) in plans(&of_tenant) {
            // Where BearerTokens of several tenants mean one organisation, the first who is signed in looks.
            if cloud.organizations.get(&name).is_none_or(|known| known.backing.is_err()) {
                let found = organization(&plan, &session, operator).await;
                cloud.organizations.insert(name, found);
            }
        }
    }
    Ok(cloud)
}

async fn identities(
    uses: &[&Use<'_>],
    session: &Known<Session>,
    subscription: Option<&str>,
) -> BTreeMap<Account, Known<Option<ManagedIdentity>>> {
    let accounts: BTreeSet<&Account> = uses.iter().filter(|one| one.may_be_managed()).map(|one| &one.account).collect();
    if accounts.is_empty() {
        return BTreeMap::new();
    }
    let all = match session {
        Ok(session) => listed(session, subscription).await,
        Err(why) => Err(why.clone()),
    };
    let looks = accounts.into_iter().map(|account| async {
        let found = match (&all, session) {
            (Ok(all), Ok(session)) => managed_identity(account, all, session).await,
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        (account.clone(), found)
    });
    join_all(looks).await.into_iter().collect()
}

/// A subscription, and the managed identities in it.
type Listed = (Subscription, Known<Vec<UserAssigned>>);

async fn listed(session: &Session, named: Option<&str>) -> Known<Vec<Listed>> {
    let all = Arm::subscriptions(session).await.map_err(why)?;
    let wanted = |one: &Subscription| named.is_none_or(|name| one.id.eq_ignore_ascii_case(name) || one.name == name);
    let chosen: Vec<Subscription> = all.into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(match named {
            Some(name) => format!("you see no subscription {name}"),
            None => "you see no subscription".to_owned(),
        });
    }
    let looks = chosen.into_iter().map(|one| async {
        let found = Arm::new(session.clone(), &one.id).identities().await.map_err(why);
        (one, found)
    });
    Ok(stream::iter(looks).buffered(AT_ONCE).collect().await)
}

async fn managed_identity(account: &Account, all: &[Listed], session: &Session) -> Known<Option<ManagedIdentity>> {
    let pairs = all.iter().flat_map(|(subscription, found)| {
        found.iter().flatten().map(move |identity| (subscription.id.as_str(), identity))
    });
    let found = pairs.into_iter().find(|(_, identity)| identity.client_id == account.client);
    let Some((subscription, identity)) = found else {
        // It may be where nobody could look.
        let unseen = all.iter().find_map(|(_, found)| found.as_ref().err());
        return unseen.map_or(Ok(None), |why| Err(why.clone()));
    };
    let arm = Arm::new(session.clone(), subscription);
    let (credentials, roles) = tokio::join!(
        arm.federated_credentials(&identity.group, &identity.name),
        arm.role_assignments(&identity.principal_id),
    );
    Ok(Some(ManagedIdentity {
        subscription: subscription.to_owned(),
        identity: identity.clone(),
        credentials: credentials.map_err(why),
        roles: roles.map_err(why),
    }))
}

/// What is to be looked at in an organisation.
#[derive(Default)]
struct Plan<'a> {
    name: String,
    /// By name in lower case.
    projects: BTreeMap<String, String>,
    /// Project and name, by canonical URL in lower case.
    repositories: BTreeMap<String, (String, String)>,
    /// Which of the repositories a client is to open.
    clients: BTreeMap<&'a str, BTreeSet<String>>,
}

fn plans<'a>(uses: &[&'a Use<'_>]) -> BTreeMap<String, Plan<'a>> {
    let mut plans: BTreeMap<String, Plan<'a>> = BTreeMap::new();
    for one in uses {
        for repository in &one.repositories {
            let (name, project) = (repository.organization(), repository.project());
            let plan = plans.entry(name.to_lowercase()).or_default();
            plan.name = name;
            plan.repositories.insert(address(repository), (project.to_lowercase(), repository.repository()));
            plan.projects.insert(project.to_lowercase(), project);
            plan.clients.entry(&one.account.client).or_default().insert(address(repository));
        }
    }
    plans
}

async fn organization(plan: &Plan<'_>, session: &Known<Session>, operator: &Operator<'_>) -> Organization {
    let backing = match session {
        Ok(session) => discover_tenant(session.http(), &plan.name).await.map_err(why),
        Err(why) => Err(why.clone()),
    };
    match inside(&backing, plan, session, operator).await {
        Ok(devops) => seen(plan, backing, &devops).await,
        Err(why) => unseen(plan, backing, &why),
    }
}

/// The way into an organisation, which may be connected to another tenant than the identities are of.
async fn inside(
    backing: &Known<Backing>,
    plan: &Plan<'_>,
    session: &Known<Session>,
    operator: &Operator<'_>,
) -> Known<DevOps> {
    let (Backing::Entra(tenant), session) = (backing.clone()?, session.clone()?) else {
        return Err("the organisation is not connected to a tenant".to_owned());
    };
    let session =
        if session.tenant() == Some(tenant.as_str()) { session } else { operator.session(Some(&tenant)).await? };
    let devops = DevOps::new(session, &plan.name);
    devops.who_am_i().await.map_err(why)?;
    Ok(devops)
}

/// An organisation of which nothing can be seen.
fn unseen(plan: &Plan<'_>, backing: Known<Backing>, why: &str) -> Organization {
    fn nothing<T>(names: impl Iterator<Item = String>, why: &str) -> BTreeMap<String, Known<T>> {
        names.map(|name| (name, Err(why.to_owned()))).collect()
    }
    Organization {
        name: plan.name.clone(),
        backing,
        all_seeing: Err(why.to_owned()),
        projects: nothing(plan.projects.keys().cloned(), why),
        repositories: nothing(plan.repositories.keys().cloned(), why),
        members: nothing(plan.clients.keys().map(ToString::to_string), why),
    }
}

async fn seen(plan: &Plan<'_>, backing: Known<Backing>, devops: &DevOps) -> Organization {
    let all_seeing = devops.has_permission(Namespace::COLLECTION, bits::COLLECTION_WRITE, Namespace::COLLECTION_TOKEN);
    let looks =
        plan.projects.iter().map(|(key, name)| async move { (key.clone(), devops.project(name).await.map_err(why)) });
    let projects: BTreeMap<String, Known<Option<Project>>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let looks = plan.repositories.iter().map(|(address, (project, name))| {
        let project = projects.get(project).cloned();
        async move { (address.clone(), repository(devops, project, name).await) }
    });
    let repositories: BTreeMap<String, Known<Option<GitRepository>>> =
        stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut members = BTreeMap::new();
    for (client, addresses) in &plan.clients {
        let opened = repositories.iter().filter(|(address, _)| addresses.contains(*address));
        let opened: Vec<&GitRepository> = opened.filter_map(|(_, found)| found.as_ref().ok()?.as_ref()).collect();
        members.insert((*client).to_owned(), member(devops, client, &opened).await);
    }
    let all_seeing = all_seeing.await.map_err(why);
    Organization { name: plan.name.clone(), backing, all_seeing, projects, repositories, members }
}

async fn repository(
    devops: &DevOps,
    project: Option<Known<Option<Project>>>,
    name: &str,
) -> Known<Option<GitRepository>> {
    match project {
        Some(Ok(Some(project))) => devops.repository(&project.id, name).await.map_err(why),
        Some(Err(why)) => Err(why),
        Some(Ok(None)) | None => Ok(None),
    }
}

async fn member(devops: &DevOps, client: &str, opened: &[&GitRepository]) -> Known<Option<Member>> {
    let Some(member) = devops.service_principal_of_client(client).await.map_err(why)? else { return Ok(None) };
    let (entitlement, groups, descriptor) = tokio::join!(
        devops.entitlement(&member.storage_key),
        devops.groups(&member.descriptor),
        devops.identity_descriptor(&member.descriptor),
    );
    let (entitlement, groups) = (entitlement.map_err(why), groups.map_err(why));
    let descriptor = descriptor.map_err(why);
    let descriptor =
        descriptor.and_then(|found| found.ok_or("Azure DevOps does not know it to the last yet".to_owned()));
    let holders: Known<Vec<String>> = match (&descriptor, &groups) {
        (Ok(own), Ok(groups)) => {
            Ok([own.clone()].into_iter().chain(groups.iter().map(|group| group.identity.clone())).collect())
        }
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
    };
    let (known_holders, known_groups) = (&holders, &groups);
    let looks = lists(opened).into_iter().map(|(token, namespace)| async move {
        let found = match (known_holders, known_groups) {
            (Ok(holders), Ok(groups)) => entries(devops, namespace, &token, holders, groups).await,
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        (token, found)
    });
    let entries = stream::iter(looks).buffered(AT_ONCE).collect().await;
    Ok(Some(Member { member, entitlement, groups, entries }))
}

/// The access control lists that decide about these repositories, each once.
fn lists(opened: &[&GitRepository]) -> BTreeMap<String, Namespace> {
    let of_one = |repository: &&GitRepository| {
        let project = &repository.project.id;
        let projects = project_tokens(project).map(|token| (token, Namespace::PROJECT));
        let repositories = repository_tokens(project, &repository.id).map(|token| (token, Namespace::GIT_REPOSITORIES));
        projects.into_iter().chain(repositories)
    };
    opened.iter().flat_map(of_one).collect()
}

async fn entries(
    devops: &DevOps,
    namespace: Namespace,
    token: &str,
    holders: &[String],
    groups: &[Group],
) -> Known<Vec<Entry>> {
    let found = devops.entries(namespace, token, holders).await.map_err(why)?;
    let entry = |(descriptor, access): (String, devops::Access)| {
        let group = groups.iter().find(|group| group.identity.eq_ignore_ascii_case(&descriptor));
        Entry { group: group.map(|group| group.name.clone()), access }
    };
    Ok(found.into_iter().map(entry).collect())
}
