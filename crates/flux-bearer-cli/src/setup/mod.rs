//! `setup`: from nothing to a Flux that pulls with a token of a managed identity.
//!
//! `facts` are gathered once, [`plan()`] decides what is missing (purely), `show` prints it, `act` makes one thing
//! after another and waits until each is seen. Whatever was made is a fact of the next run, so a run can be stopped
//! anywhere and begun again, and nothing is written down between two of them.

mod act;
pub(crate) mod facts;
mod plan;
mod show;
mod site;
mod wanted;

pub(crate) use act::SETUP;
pub use facts::{AzureFacts, BootstrapFacts, ClusterFacts, Facts, MemberFacts, OrganizationFacts};
pub use plan::{Change, Plan, plan};
pub(crate) use plan::{MAX_CREDENTIALS, credential_name};
pub use site::Site;
pub(crate) use site::tenant_of;
pub use wanted::{Level, Wanted};

use crate::args::{Global, Setup};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::manifests;

/// Runs the verb.
pub(crate) async fn run(flags: &Setup, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let wanted = Wanted::of(flags, global)?;
    let site = Site::connect(&wanted, &flags.place, global, edge).await?;
    if flags.export {
        return export(&wanted, &site).await;
    }
    let mut facts = facts::gather(&wanted, &site).await?;
    let planned = plan(&wanted, &facts)?;
    show::plan(&planned, &wanted, &site, global, edge);
    if planned.changes.is_empty() {
        edge.out.success("nothing to change");
        return Ok(Exit::Done);
    }
    if flags.dry_run {
        return Ok(Exit::Changes);
    }
    confirm(flags.yes, edge).await?;
    while let Some(change) = plan(&wanted, &facts)?.changes.into_iter().next() {
        act::act(change, &wanted, &site, &mut facts).await?;
    }
    show::done(&wanted, &facts, edge);
    Ok(Exit::Done)
}

/// One yes for the whole plan.
pub(crate) async fn confirm(given: bool, edge: &Edge) -> Result<(), Trouble> {
    let yes = if given { Some(true) } else { edge.input.confirm("Make these changes?").await };
    match yes {
        Some(true) => Ok(()),
        Some(false) => Err(Trouble::new(Exit::Failed, "nothing was changed", String::new())),
        None => Err(Trouble::usage("nobody is there to confirm the plan", "look at it with --dry-run, then add --yes")),
    }
}

/// Prints what belongs into Git: the controller and the BearerToken. The identity has to be there, for its ids are in it.
async fn export(wanted: &Wanted, site: &Site<'_>) -> Result<Exit, Trouble> {
    let identity = site.arm.identity(&wanted.group, &wanted.identity).await?.ok_or_else(|| {
        let cause = format!("managed identity {} is not in resource group {} yet", wanted.identity, wanted.group);
        Trouble::new(
            Exit::NotFound,
            cause,
            "run this without --export first, or name the right one with --identity and -g",
        )
    })?;
    let mut manifests = manifests::controller(&wanted.installation())?;
    manifests.push(plan::manifest(wanted, &identity));
    site.edge.out.data(&manifests::yaml(&manifests)?);
    Ok(Exit::Done)
}
