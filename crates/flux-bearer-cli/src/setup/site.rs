//! Where the set-up works: a subscription, an organisation and a cluster, each with who we are there.

use flux_bearer_azure::arm::{Arm, Subscription};
use flux_bearer_azure::devops::{Backing, DevOps, discover_tenant};
use flux_bearer_azure::operator::Session;

use super::wanted::Wanted;
use crate::args::{Global, Place};
use crate::cluster::Cluster;
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::sign_in;

/// Where the set-up works.
pub struct Site<'a> {
    /// The subscription.
    pub subscription: Subscription,
    /// The way to it.
    pub arm: Arm,
    /// The organisation.
    pub devops: DevOps,
    /// The tenant of both.
    pub organization_tenant: String,
    /// Who we are in Azure and Azure DevOps.
    pub session: Session,
    /// The cluster.
    pub cluster: Cluster,
    /// Flags of every verb.
    pub global: &'a Global,
    /// Everything else outside.
    pub edge: &'a Edge,
}

impl<'a> Site<'a> {
    /// Signs in everywhere, and checks that the parts belong together.
    ///
    /// # Errors
    /// Where we can't sign in, or which part belongs to another tenant.
    pub async fn connect(wanted: &Wanted, place: &Place, global: &'a Global, edge: &'a Edge) -> Result<Self, Trouble> {
        let cluster = edge.clusters.connect(&global.which()).await?;
        let organization = wanted.repository.organization();
        let tenant = tenant_of(&organization, edge).await?;
        let session = sign_in::session(&place.operator, Some(&tenant), edge)?;
        let subscription = subscription(place.subscription.as_deref(), &session).await?;
        let devops = DevOps::new(session.clone(), organization);
        devops.who_am_i().await?;
        let arm = Arm::new(session.clone(), &subscription.id);
        Ok(Self { subscription, arm, devops, organization_tenant: tenant, session, cluster, global, edge })
    }
}

/// The tenant that an organisation is connected to: anybody may ask.
pub(crate) async fn tenant_of(organization: &str, edge: &Edge) -> Result<String, Trouble> {
    match discover_tenant(&edge.azure, organization).await? {
        Backing::Entra(tenant) => Ok(tenant),
        Backing::MicrosoftAccounts => Err(Trouble::new(
            Exit::NotFound,
            format!("organisation {organization} is not connected to Entra ID, so no managed identity can be added"),
            format!("connect it: https://dev.azure.com/{organization}/_settings/organizationAad"),
        )),
        Backing::NoSuchOrganization => Err(Trouble::new(
            Exit::NotFound,
            format!("there is no organisation {organization} in Azure DevOps"),
            "check --repository: https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY",
        )),
    }
}

/// The subscription that was named, or the only one there is.
async fn subscription(named: Option<&str>, session: &Session) -> Result<Subscription, Trouble> {
    let all = Arm::subscriptions(session).await?;
    let tenant = session.tenant().unwrap_or_default();
    let of_tenant = all.iter().filter(|one| one.tenant_id.eq_ignore_ascii_case(tenant));
    let list = || all.iter().map(|one| format!("{} ({})", one.id, one.name)).collect::<Vec<_>>().join(", ");
    let Some(named) = named else {
        let candidates: Vec<&Subscription> = of_tenant.collect();
        return match candidates.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Trouble::new(
                Exit::NotFound,
                format!("you see no subscription of tenant {tenant}, to which the organisation is connected"),
                "name one with --subscription, or sign in there: az login --tenant TENANT",
            )),
            _ => Err(Trouble::usage(
                format!("there are several subscriptions: {}", list()),
                "choose one with --subscription",
            )),
        };
    };
    let found = all.iter().find(|one| one.id.eq_ignore_ascii_case(named) || one.name == named);
    match found {
        Some(found) if found.tenant_id.eq_ignore_ascii_case(tenant) => Ok(found.clone()),
        Some(found) => Err(Trouble::new(
            Exit::NotFound,
            format!(
                "subscription {named} is of tenant {}, and the organisation is connected to tenant {tenant}: an identity \
                 of the one can't be added to the other",
                found.tenant_id
            ),
            "choose a subscription of the organisation's tenant with --subscription",
        )),
        None => Err(Trouble::new(
            Exit::NotFound,
            format!("subscription {named} does not exist, or you may not see it"),
            format!("choose one of: {}", list()),
        )),
    }
}
