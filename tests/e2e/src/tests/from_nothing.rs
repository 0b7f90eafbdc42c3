//! From an empty cluster and an Azure that knows nobody, to a commit in the cluster.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::ensure;

use crate::audit::{self, Mark};
use crate::world::{Run, World};

pub(super) const NAME: &str = "from_nothing";

/// What a user-assigned identity's token for Azure DevOps lives at least, in seconds.
const LIFETIME: u32 = 3600;

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, flux, pod) = World::pulling(run, NAME, LIFETIME, &[]).await?;
    world.wait_for_commit("first", Duration::from_secs(20)).await?;
    world.story.tell("the commit is in the cluster");
    // What can't be dumped is root's, whoever it runs as.
    let owner = std::fs::metadata(format!("/proc/{}/fd", pod.process()?))?.uid();
    ensure!(owner == 0, "a core dump of the controller, which is user {owner}'s, would hold its token");
    let seen = world.azure().seen().await?;
    ensure!(seen.mints() == 1, "wanted one token, {} were made", seen.mints());
    ensure!(seen.dead_tokens_seen == 0, "{} requests carried a dead token", seen.dead_tokens_seen);
    let asked = audit::since(&world.cluster.audit_log(), Mark::default())?;
    world.story.tell(&format!("the controller asked the API server {asked:?}"));
    ensure!(asked.forbidden == 0, "RBAC refused {} requests of the controller", asked.forbidden);
    let failures = flux.failures()?;
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    Ok(())
}
