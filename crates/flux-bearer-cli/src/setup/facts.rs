//! What exists: in the subscription, in the organisation, in the cluster. Looking changes nothing.

use flux_bearer::secret::Held;
use flux_bearer_azure::arm::{
    FederatedCredential, MANAGED_IDENTITY, Permissions, ProviderState, ResourceGroup, Scope, UserAssigned,
};
use flux_bearer_azure::devops::{
    Access, Entitlement, GitRepository, Namespace, Project, bits, project_token, repository_token,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DynamicObject;
use serde_json::Value;

use super::site::Site;
use super::wanted::Wanted;
use crate::bootstrap;
use crate::cluster::{At, Cluster};
use crate::exit::{Exit, Trouble};
use crate::flux::Flux;
use crate::issuer;
use crate::kinds::{DEPLOYMENT, NAMESPACE, SECRET};
use crate::manifests;
use crate::sources::{SourceFacts, sources};
use crate::tokens::{Token, chosen};

/// Looks at the API server that are under way at the same time.
const AT_ONCE: usize = 8;

/// Everything that the plan goes by.
#[derive(Debug)]
pub struct Facts {
    /// The subscription.
    pub azure: AzureFacts,
    /// The organisation.
    pub organization: OrganizationFacts,
    /// The cluster.
    pub cluster: ClusterFacts,
    /// The Flux that is to be bootstrapped, if one is.
    pub bootstrap: Option<BootstrapFacts>,
}

/// What the subscription has.
#[derive(Debug)]
pub struct AzureFacts {
    /// What we may do in the resource group, or in the subscription where there is no such group yet.
    pub rights: Permissions,
    /// Whether the subscription may have managed identities at all.
    pub registered: bool,
    /// The resource group.
    pub group: Option<ResourceGroup>,
    /// The identity.
    pub identity: Option<UserAssigned>,
    /// Whose tokens it signs in with.
    pub credentials: Vec<FederatedCredential>,
}

/// What the organisation has.
#[derive(Debug)]
pub struct OrganizationFacts {
    /// The tenant that it is connected to.
    pub tenant: String,
    /// The project.
    pub project: Project,
    /// The repository.
    pub repository: GitRepository,
    /// Whether we may add members.
    pub may_add: bool,
    /// Whether we may give rights on the project.
    pub may_grant_project: bool,
    /// Whether we may give rights on the repository.
    pub may_grant_repository: bool,
    /// The identity, where it was added.
    pub member: Option<MemberFacts>,
}

/// The identity as a member of the organisation.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// Its licence.
    pub entitlement: Entitlement,
    /// Its name in access control lists.
    pub descriptor: String,
    /// What it may do with the project.
    pub project: Access,
    /// What it may do with the repository.
    pub repository: Access,
}

/// What the cluster has.
#[derive(Debug)]
pub struct ClusterFacts {
    /// Issuer of its service account tokens.
    pub issuer: String,
    /// The Flux that is installed.
    pub flux: Option<Flux>,
    /// Whether the namespace is there.
    pub namespace: bool,
    /// The controller's manifests that an apply would change.
    pub outdated: Vec<Value>,
    /// Whether the controller runs.
    pub running: bool,
    /// The BearerToken.
    pub token: Option<Token>,
    /// Whether there are other BearerTokens beside it.
    pub has_others: bool,
    /// Whose its Secret is.
    pub secret: Held,
    /// The GitRepositories of the namespace that use the Secret.
    pub sources: Vec<SourceFacts>,
}

/// What a bootstrap goes by.
#[derive(Debug)]
pub struct BootstrapFacts {
    /// Whether it was done, and what it has committed is what the cluster is to run.
    pub done: bool,
    /// What keeps us from doing it.
    pub able: Result<(), Trouble>,
}

/// Looks at everything.
pub(super) async fn gather(wanted: &Wanted, site: &Site<'_>) -> Result<Facts, Trouble> {
    let azure = azure(wanted, site).await?;
    let principal = azure.identity.as_ref().map(|identity| identity.principal_id.clone());
    let organization = organization(wanted, site, principal.as_deref()).await?;
    let cluster = cluster(wanted, site).await?;
    let bootstrap = bootstrap(wanted, site, &cluster).await?;
    Ok(Facts { azure, organization, cluster, bootstrap })
}

async fn bootstrap(
    wanted: &Wanted,
    site: &Site<'_>,
    cluster: &ClusterFacts,
) -> Result<Option<BootstrapFacts>, Trouble> {
    let Some(tree) = &wanted.tree else { return Ok(None) };
    let done = bootstrap::is_done(&wanted.repository, tree, &wanted.namespace, &wanted.secret, &site.cluster).await?;
    let done = done && cluster.outdated.is_empty();
    let able = if done {
        Ok(())
    } else {
        bootstrap::check_able(&wanted.repository, &site.session, site.global, site.edge).await
    };
    Ok(Some(BootstrapFacts { done, able }))
}

pub(crate) async fn azure(wanted: &Wanted, site: &Site<'_>) -> Result<AzureFacts, Trouble> {
    let group = site.arm.resource_group(&wanted.group).await?;
    let scope = if group.is_some() { Scope::Group(&wanted.group) } else { Scope::Subscription };
    let rights = site.arm.permissions(scope).await?;
    let registered = site.arm.provider_state(MANAGED_IDENTITY).await? == ProviderState::Registered;
    let identity = match &group {
        Some(_) => site.arm.identity(&wanted.group, &wanted.identity).await?,
        None => None,
    };
    let credentials = match &identity {
        Some(_) => site.arm.federated_credentials(&wanted.group, &wanted.identity).await?,
        None => Vec::new(),
    };
    Ok(AzureFacts { rights, registered, group, identity, credentials })
}

pub(crate) async fn organization(
    wanted: &Wanted,
    site: &Site<'_>,
    principal: Option<&str>,
) -> Result<OrganizationFacts, Trouble> {
    let (project, repository) = (wanted.repository.project(), wanted.repository.repository());
    let found = site.devops.project(&project).await?;
    let project = found.ok_or_else(|| {
        let name = wanted.repository.organization();
        let cause = format!("organisation {name} has no project {project} that you may see");
        Trouble::new(Exit::NotFound, cause, "check --repository, or ask a project administrator for access")
    })?;
    let found = site.devops.repository(&project.id, &repository).await?;
    let repository = found.ok_or_else(|| {
        let cause = format!("project {} has no repository {repository} that you may see", project.name);
        let fix =
            format!("check --repository, or make it: az repos create --name {repository} --project {}", project.name);
        Trouble::new(Exit::NotFound, cause, fix)
    })?;
    if repository.is_disabled {
        let cause = format!("repository {} is disabled", repository.name);
        let fix = "enable it in the project's settings: Repositories, the repository, Settings";
        return Err(Trouble::new(Exit::Policy, cause, fix));
    }
    let member = match principal {
        Some(principal) => member(site, principal, &project, &repository).await?,
        None => None,
    };
    let may = async |namespace, bits, token: &str| site.devops.has_permission(namespace, bits, token).await;
    let (project_token, repository_token) = (project_token(&project.id), repository_token(&project.id, &repository.id));
    Ok(OrganizationFacts {
        tenant: site.organization_tenant.clone(),
        may_add: may(Namespace::COLLECTION, bits::COLLECTION_WRITE, Namespace::COLLECTION_TOKEN).await?,
        may_grant_project: may(Namespace::PROJECT, bits::PROJECT_WRITE, &project_token).await?,
        may_grant_repository: may(Namespace::GIT_REPOSITORIES, bits::GIT_MANAGE_PERMISSIONS, &repository_token).await?,
        project,
        repository,
        member,
    })
}

/// The identity as a member of the organisation, if it is one.
pub(super) async fn member(
    site: &Site<'_>,
    principal: &str,
    project: &Project,
    repository: &GitRepository,
) -> Result<Option<MemberFacts>, Trouble> {
    let Some(member) = site.devops.service_principal(principal).await? else { return Ok(None) };
    let Some(entitlement) = site.devops.entitlement(&member.storage_key).await? else { return Ok(None) };
    // Listed already, and not yet known to the access control lists: the same as not there.
    let Some(descriptor) = site.devops.identity_descriptor(&member.descriptor).await? else { return Ok(None) };
    let project_access = site.devops.access(Namespace::PROJECT, &project_token(&project.id), &descriptor).await?;
    let repository_token = repository_token(&project.id, &repository.id);
    let repository = site.devops.access(Namespace::GIT_REPOSITORIES, &repository_token, &descriptor).await?;
    Ok(Some(MemberFacts { entitlement, descriptor, project: project_access, repository }))
}

async fn cluster(wanted: &Wanted, site: &Site<'_>) -> Result<ClusterFacts, Trouble> {
    let cluster = &site.cluster;
    let namespace = At { kind: NAMESPACE, namespace: "", name: &wanted.namespace };
    let namespace = cluster.get(namespace).await?.is_some();
    let at = |kind, name| At { kind, namespace: &wanted.namespace, name };
    let tokens = chosen(cluster, &wanted.namespace, &[]).await?;
    let secret = cluster.metadata(at(SECRET, &wanted.secret)).await?;
    let lives = |name: &str| tokens.iter().any(|token| token.name == name);
    let secret = Held::read(secret.as_ref().map(|found| &found.metadata), &wanted.name, lives);
    let manifests = manifests::controller(&wanted.installation())?;
    Ok(ClusterFacts {
        issuer: issuer_of(wanted, site).await?,
        flux: Flux::find(cluster, &wanted.namespace).await?,
        namespace,
        outdated: outdated(cluster, manifests, namespace).await?,
        running: running(cluster.get(at(DEPLOYMENT, manifests::CONTROLLER)).await?.as_ref()),
        has_others: tokens.iter().any(|token| token.name != wanted.name),
        token: tokens.into_iter().find(|token| token.name == wanted.name),
        secret,
        sources: sources(cluster, &wanted.namespace, &wanted.secret).await?,
    })
}

/// Who signs the cluster's service account tokens. Entra ID fetches its keys from there, so it has to be reachable.
async fn issuer_of(wanted: &Wanted, site: &Site<'_>) -> Result<String, Trouble> {
    let document = site.cluster.document("/.well-known/openid-configuration").await?;
    let issuer = document.get("issuer").and_then(Value::as_str).unwrap_or_default().to_owned();
    match &wanted.issuer {
        Some(named) if *named == issuer => return Ok(issuer),
        Some(named) => {
            let cause = format!("--issuer: {named} is not the cluster's, whose tokens name {issuer:?}");
            return Err(Trouble::usage(cause, "leave --issuer out, or choose the right cluster with --context"));
        }
        None => {}
    }
    if let Some(url) = issuer::public(&document)
        && issuer::published(&site.edge.azure, &url).await.is_ok_and(|published| published.issuer == issuer)
    {
        return Ok(issuer);
    }
    Err(Trouble::new(
        Exit::NotFound,
        format!(
            "the cluster's issuer {issuer:?} can't be reached from outside, and Entra ID must fetch its keys there"
        ),
        "AKS: az aks update --enable-oidc-issuer; other clusters: publish the issuer (--service-account-issuer), or name a \
         public one with --issuer",
    ))
}

/// The manifests that an apply would change. Where the namespace is missing, all that live in it are.
async fn outdated(cluster: &Cluster, manifests: Vec<Value>, namespace: bool) -> Result<Vec<Value>, Trouble> {
    let looks = manifests.into_iter().map(|manifest| async move {
        let in_namespace = At::of(&manifest).is_some_and(|at| at.kind.namespaced);
        let differs = (in_namespace && !namespace) || differs(cluster, &manifest).await?;
        Ok::<_, Trouble>(differs.then_some(manifest))
    });
    let found: Vec<Option<Value>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether an apply of this manifest would change anything. The API server itself says so, by a dry run.
pub(super) async fn differs(cluster: &Cluster, manifest: &Value) -> Result<bool, Trouble> {
    let Some(at) = At::of(manifest) else { return Ok(true) };
    let Some(before) = cluster.get(at).await? else { return Ok(true) };
    let after = cluster.apply(manifest, true).await?;
    Ok(substance(&before) != substance(&after))
}

/// An object without what every write changes.
fn substance(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(name);
        }
    }
    value
}

/// Whether a Deployment has a Pod that is ready.
pub(super) fn running(deployment: Option<&DynamicObject>) -> bool {
    let available =
        deployment.and_then(|found| found.data.pointer("/status/availableReplicas")).and_then(Value::as_i64);
    available.is_some_and(|available| available > 0)
}
