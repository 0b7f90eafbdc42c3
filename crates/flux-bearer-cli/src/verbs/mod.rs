//! The verbs, one file each; `setup` and `bootstrap` are folders of their own beside this one.

use crate::args::{Arguments, Create, Verb};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

mod check;
mod complete;
mod completion;
mod create;
mod explain;
mod get;
mod refresh;
mod rescue;
mod suspend;
mod uninstall;
pub(crate) mod version;

/// Runs the verb that was asked for.
pub(crate) async fn run(arguments: &Arguments, edge: &Edge) -> Result<Exit, Trouble> {
    let global = &arguments.global;
    arguments.verb.check_format(global.output)?;
    match &arguments.verb {
        Verb::Get(wanted) => get::run(wanted, global, edge).await,
        Verb::Refresh(wanted) => refresh::run(wanted, global, edge).await,
        Verb::Suspend(wanted) => suspend::suspend(wanted, global, edge).await,
        Verb::Resume(wanted) => suspend::resume(wanted, global, edge).await,
        Verb::Create(Create::BearerToken(wanted)) => create::run(wanted, global, edge).await,
        Verb::Check(wanted) => check::run(wanted, global, edge).await,
        Verb::Explain(wanted) => explain::run(wanted, global, edge),
        Verb::Completion(wanted) => Ok(completion::run(wanted, global, edge)),
        Verb::Complete(wanted) => complete::run(wanted, global, edge).await,
        Verb::Setup(wanted) => crate::setup::run(wanted, global, edge).await,
        Verb::Migrate(wanted) => crate::migrate::run(wanted, global, edge).await,
        Verb::Bootstrap(wanted) => crate::bootstrap::run(wanted, global, edge).await,
        Verb::Rescue(wanted) => rescue::run(wanted, global, edge).await,
        Verb::Uninstall(wanted) => uninstall::run(wanted, global, edge).await,
        Verb::Version(wanted) => version::run(wanted, global, edge).await,
    }
}
