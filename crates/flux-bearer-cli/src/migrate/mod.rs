//! `migrate`: a token takes the place of what Flux pulls with now, without one failed pull in between.
//!
//! `facts` are gathered once, `plan` decides (purely), `show` prints, `act` makes one move after another. Whatever was
//! made is a fact of the next run, so a run can be stopped anywhere and begun again.

mod act;
mod facts;
mod plan;
mod show;
mod token;

use std::collections::BTreeSet;

use tokio::time::{Instant, timeout_at};

use self::act::Acting;
use self::plan::Plan;
use crate::args::{Global, Migrate};
use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

/// Runs the verb.
pub(crate) async fn run(flags: &Migrate, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let deadline = Instant::now() + global.timeout;
    let cluster = edge.clusters.connect(&global.which()).await?;
    let looked = timeout_at(deadline, look(flags, &cluster, global)).await;
    let (facts, planned) = looked.unwrap_or_else(|_| Err(crate::timed_out(global.timeout)))?;
    show::plan(&planned, &cluster, global, edge);
    if planned.moves.iter().all(|one| one.steps.is_empty()) {
        planned.moves.iter().for_each(|one| show::commits(one, global, edge));
        return Ok(ended(&planned, "nothing to change", edge));
    }
    if flags.dry_run {
        return Ok(Exit::Changes);
    }
    crate::setup::confirm(flags.yes, edge).await?;
    let acting = Acting { cluster: &cluster, global, edge, deadline };
    for one in &planned.moves {
        acting.make(one).await?;
        show::done(one, &facts, edge);
        show::commits(one, global, edge);
    }
    Ok(ended(&planned, "done", edge))
}

/// Looks, plans, and checks that we may do what is planned.
async fn look(flags: &Migrate, cluster: &Cluster, global: &Global) -> Result<(facts::Facts, Plan), Trouble> {
    let facts = facts::gather(cluster, &global.namespace).await?;
    let planned = plan::plan(flags, &facts)?;
    check_rights(&planned, cluster, &global.namespace).await?;
    Ok((facts, planned))
}

/// Says which right is missing before anything is changed.
async fn check_rights(plan: &Plan, cluster: &Cluster, namespace: &str) -> Result<(), Trouble> {
    let steps = plan.moves.iter().flat_map(|one| one.steps.iter());
    let needed = steps.flat_map(|step| step.needs());
    let mut asked = BTreeSet::new();
    for (verb, kind, name) in needed.filter(|(verb, kind, name)| asked.insert((*verb, kind.plural, *name))) {
        let at = At { kind, namespace, name };
        if !cluster.may(verb, at).await? {
            let (kind, of) = (kind.qualified(), if name.is_empty() { String::new() } else { format!(" {name}") });
            let cause = format!("not allowed to {verb} {kind}{of} in namespace {namespace}; nothing was changed");
            let fix =
                format!("kubectl -n {namespace} auth can-i {verb} {kind} must say yes: ask a cluster administrator");
            return Err(Trouble::new(Exit::Right, cause, fix));
        }
    }
    Ok(())
}

/// Tells what could not be done; the first of it says how the program ends.
fn ended(plan: &Plan, words: &str, edge: &Edge) -> Exit {
    let exits: Vec<Exit> = plan.left.iter().map(|trouble| edge.out.trouble(trouble)).collect();
    exits.first().copied().unwrap_or_else(|| {
        edge.out.success(words);
        Exit::Done
    })
}
