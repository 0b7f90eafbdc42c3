//! The cases that the simulated Kubernetes API passes, against the real one: what it simulates is what there is.

use anyhow::{anyhow, ensure};

use crate::cluster::NAMESPACE;
use crate::world::{Run, World};

#[path = "../../../../crates/flux-bearer-sim/tests/kube_cases/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "the cases are part of a test there")]
mod table;

pub(super) const NAME: &str = "kube_cases";

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    let (client, cases) = (world.cluster.client(), table::cases());
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let outcome = table::run(&client, NAMESPACE, &format!("case-{number}"), case).await;
        wrong.extend(outcome.err());
    }
    world.story.tell(&format!("{} cases, {} wrong", cases.len(), wrong.len()));
    ensure!(!cases.is_empty(), "there are no cases");
    if wrong.is_empty() { Ok(()) } else { Err(anyhow!(wrong.join("\n"))) }
}
