//! The leader fails, once for good and once for a while: the follower takes over long before a token dies, and nothing that
//! the old leader writes after the new one's first write is accepted.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use tokio::time::Instant;

use crate::audit::{self, Entry, Mark};
use crate::cluster::NAMESPACE;
use crate::controller::{self, Lead};
use crate::flux::Retries;
use crate::kubelet::Signal;
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "leader";

/// Seconds that a token lives: it is replaced after 12 to 13.5.
const LIFETIME: u32 = 30;

/// A lease of a few seconds.
const LEASE: [&str; 3] =
    ["--leader-election-lease-duration=6s", "--leader-election-renew-deadline=4s", "--leader-election-retry-period=1s"];

/// Time for a follower to take over: the lease and its own next look, with room for a busy machine. Less than what is left
/// of any token.
const TAKEOVER: Duration = Duration::from_secs(12);

/// Time until the next refresh has certainly come.
const REFRESH: Duration = Duration::from_secs(20);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    world.repository.commit("first").await?;
    let flux = world.start_flux(Retries::Quick).await?;
    world.deployment.clone().replicas(2).flags(&LEASE).roll_out(&world.cluster).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    world.pull().await?;
    world.azure().forget().await?;
    killed(&world).await?;
    stopped(&world).await?;
    world.check_pulls(&flux).await?;
    Ok(())
}

/// The leader's machine fails.
async fn killed(world: &World<'_>) -> anyhow::Result<()> {
    let mark = audit::mark(&world.cluster.audit_log())?;
    let old = controller::lead(&world.cluster).await?;
    world.kubelet.named(&old.pod)?.lose().await?;
    let new = taken_over(world, &old, "killed").await?;
    wait_for_write(world, mark, &new).await?;
    // What a cluster does with the Pods of a machine that is gone.
    let pods: Api<Pod> = Api::namespaced(world.cluster.client(), NAMESPACE);
    pods.delete(&old.pod, &DeleteParams::default().grace_period(0)).await?;
    controller::rolled_out(&world.cluster).await
}

/// The leader stands still for longer than its lease, and goes on.
async fn stopped(world: &World<'_>) -> anyhow::Result<()> {
    let mark = audit::mark(&world.cluster.audit_log())?;
    let old = controller::lead(&world.cluster).await?;
    let process = world.kubelet.named(&old.pod)?;
    process.signal(Signal::Stop).await?;
    let new = taken_over(world, &old, "stopped").await?;
    wait_for_write(world, mark, &new).await?;
    process.signal(Signal::Continue).await?;
    wait_for("the old leader to end itself", TAKEOVER, async || {
        ensure!(process.restarts() == 1, "it was started again {} times", process.restarts());
        Ok(())
    })
    .await?;
    // Long enough for the new leader's next refresh, at which an old one would still try to write.
    let later = audit::mark(&world.cluster.audit_log())?;
    wait_for_write(world, later, &new).await?;
    check_writes(world, mark, &old, &new)
}

/// Waits until another Pod leads; returns which.
async fn taken_over(world: &World<'_>, old: &Lead, how: &str) -> anyhow::Result<Lead> {
    let began = Instant::now();
    let new = wait_for("the follower to take over", TAKEOVER, async || {
        let lead = controller::lead(&world.cluster).await?;
        ensure!(lead.pod != old.pod, "{} still leads", old.pod);
        Ok(lead)
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    world.story.tell(&format!("the leader was {how}; the follower led after {seconds:.1} s: {new:?}"));
    ensure!(new.transitions == old.transitions + 1, "{} transitions after {}", new.transitions, old.transitions);
    Ok(new)
}

/// Waits until this Pod has written the Secret.
async fn wait_for_write(world: &World<'_>, mark: Mark, lead: &Lead) -> anyhow::Result<()> {
    wait_for("the new leader to refresh", REFRESH, async || {
        let entries = audit::entries(&world.cluster.audit_log(), mark)?;
        let written = entries
            .iter()
            .any(|entry| entry.is_about("secrets") && entry.is_accepted_write() && entry.pod() == Some(&lead.pod));
        ensure!(written, "{} has written no Secret", lead.pod);
        Ok(())
    })
    .await
}

/// No write of the old leader is accepted after the first of the new one.
fn check_writes(world: &World<'_>, mark: Mark, old: &Lead, new: &Lead) -> anyhow::Result<()> {
    let entries = audit::entries(&world.cluster.audit_log(), mark)?;
    let accepted = |pod: &str| -> Vec<&Entry> {
        entries.iter().filter(|entry| entry.pod() == Some(pod) && entry.is_accepted_write()).collect()
    };
    let (before, after) = (accepted(&old.pod), accepted(&new.pod));
    let first = after.iter().map(|entry| &entry.received).min().context("the new leader has written nothing")?;
    let stale: Vec<&&Entry> = before.iter().filter(|entry| entry.received >= *first).collect();
    world.story.tell(&format!("{} writes of the new leader were accepted, {} stale ones", after.len(), stale.len()));
    ensure!(stale.is_empty(), "stale writes were accepted: {stale:#?}");
    Ok(())
}
