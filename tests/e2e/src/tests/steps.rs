//! The controller is killed at each step of a refresh: amid the sign-in, after the token was made, after the Secret was
//! written, after the status was. The next process goes on from there, and no fetch fails.

use std::time::Duration;

use anyhow::ensure;
use flux_bearer_sim::faults::Fault;
use flux_bearer_sim::journal::Endpoint;

use crate::audit::{self, Mark};
use crate::kubelet::{Running, Signal};
use crate::wait::wait_for;
use crate::world::{Run, World};

pub(super) const NAME: &str = "steps";

/// Seconds that a token lives: it is replaced after 16 to 18, and 22 are left then for a new process to come.
const LIFETIME: u32 = 40;

/// How long a sign-in takes here, so that a process can be killed amid it.
const SIGN_IN: u64 = 2_000;

/// Time until a refresh has certainly begun, and until a new process has certainly done what the old one had left.
const REFRESH: Duration = Duration::from_secs(30);

/// How far a refresh has come when the process is killed.
#[derive(Clone, Copy, Debug)]
enum Step {
    SigningIn,
    Minted,
    Written,
    Told,
}

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, flux, pod) = World::pulling(run, NAME, LIFETIME, &[]).await?;
    let path = Some("/oauth2/v2.0/token".to_owned());
    let slow = Fault { name: "slow".to_owned(), path, delay_ms: Some(SIGN_IN), ..Fault::default() };
    world.azure().set_fault(&slow).await?;
    for step in [Step::SigningIn, Step::Minted, Step::Written, Step::Told] {
        kill(&world, &pod, step).await?;
    }
    world.repository.commit("second").await?;
    world.wait_for_commit("second", REFRESH).await?;
    world.check_pulls(&flux).await?;
    Ok(())
}

async fn kill(world: &World<'_>, pod: &Running, step: Step) -> anyhow::Result<()> {
    world.azure().forget().await?;
    let (mark, restarts) = (audit::mark(&world.cluster.audit_log())?, pod.restarts());
    wait_for(&format!("a refresh to have come to {step:?}"), REFRESH, async || {
        ensure!(has_come_to(world, mark, step).await?, "it has not begun, or not come so far");
        Ok(())
    })
    .await?;
    pod.signal(Signal::Kill).await?;
    wait_for("the new process to end what the old one began", REFRESH, async || {
        ensure!(pod.restarts() == restarts + 1, "it was started again {} times", pod.restarts() - restarts);
        let line = pod.metric("flux_bearer_ready{").await?;
        ensure!(line.ends_with(" 1"), "{line}");
        let asked = audit::since(&world.cluster.audit_log(), mark)?;
        ensure!(asked.secret_writes > 0 && asked.status_writes > 0, "{asked:?}");
        Ok(())
    })
    .await?;
    let seen = world.azure().seen().await?;
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    world.story.tell(&format!(
        "killed at {step:?}: {} mints, {} writes of the Secret",
        seen.mints(),
        asked.secret_writes
    ));
    ensure!(seen.mints() <= 2, "{} tokens were made for one refresh", seen.mints());
    ensure!(seen.dead_tokens_seen == 0, "a token that had died was shown");
    Ok(())
}

async fn has_come_to(world: &World<'_>, mark: Mark, step: Step) -> anyhow::Result<bool> {
    let seen = world.azure().seen().await?;
    let asked = audit::since(&world.cluster.audit_log(), mark)?;
    Ok(match step {
        Step::SigningIn => seen.counts.requests.contains_key(&Endpoint::Token),
        Step::Minted => seen.mints() > 0,
        Step::Written => asked.secret_writes > 0,
        Step::Told => asked.status_writes > 0,
    })
}
