//! The verbs, one file each.

use crate::args::{Arguments, Verb};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

mod version;

/// Runs the verb that was asked for.
pub(crate) async fn run(arguments: &Arguments, edge: &Edge) -> Result<Exit, Trouble> {
    match &arguments.verb {
        Verb::Version(wanted) => version::run(wanted, &arguments.global, edge).await,
    }
}
