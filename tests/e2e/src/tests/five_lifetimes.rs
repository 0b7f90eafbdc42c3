//! Five lifetimes of a token, with commits landing all the while: each reaches the cluster, and nobody ever meets a dead
//! token. What that cost the API server is counted.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, interval};

use crate::audit::{self, Requests};
use crate::azure::Seen;
use crate::flux::Flux;
use crate::world::{Run, World};

pub(super) const NAME: &str = "five_lifetimes";

/// Seconds that a token lives.
const LIFETIME: u32 = 20;

/// How long commits land.
const SPAN: Duration = Duration::from_secs(5 * LIFETIME as u64);

/// Pause between two of them.
const PAUSE: Duration = Duration::from_secs(4);

/// Time for a commit to reach the cluster: Flux looks every second.
const LANDS: Duration = Duration::from_secs(15);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let (world, flux, controller) = World::pulling(run, NAME, LIFETIME, &[]).await?;

    world.azure().forget().await?;
    let mark = audit::mark(&world.cluster.audit_log())?;
    let commits = land_commits(&world).await?;
    let requests = audit::since(&world.cluster.audit_log(), mark)?;
    let seen = world.azure().seen().await?;
    world.story.tell(&format!("{commits} commits landed; Git was asked {} times", seen.looks()));
    world.story.tell(&format!("the controller's resident memory is {:.1} MiB", controller.resident_memory()?));
    check_tokens(&world, &flux, &seen)?;
    check_cost(&world, &requests, &seen)?;
    Ok(())
}

async fn land_commits(world: &World<'_>) -> anyhow::Result<usize> {
    let (began, mut beat, mut commits) = (Instant::now(), interval(PAUSE), 0);
    let mut slowest = Duration::ZERO;
    while began.elapsed() < SPAN {
        beat.tick().await;
        let (value, pushed) = (format!("number {commits}"), Instant::now());
        world.repository.commit(&value).await?;
        world.wait_for_commit(&value, LANDS).await?;
        slowest = slowest.max(pushed.elapsed());
        commits += 1;
    }
    world.story.tell(&format!("five lifetimes have passed; the slowest commit took {:.1} s", slowest.as_secs_f64()));
    Ok(commits)
}

/// The promise: no dead token anywhere, no fetch that failed.
fn check_tokens(world: &World<'_>, flux: &Flux, seen: &Seen) -> anyhow::Result<()> {
    let failures = flux.failures()?;
    let dead = seen.dead_tokens_seen;
    world.story.tell(&format!("{} errors of source-controller, {dead} dead tokens seen by Azure", failures.len()));
    ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
    ensure!(dead == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
    Ok(())
}

/// The bar: at most two writes a refresh, no reads of Secrets, no events.
fn check_cost(world: &World<'_>, requests: &Requests, seen: &Seen) -> anyhow::Result<()> {
    let refreshes = requests.secret_writes;
    let writes = f64::from(u32::try_from(requests.writes())?) / f64::from(u32::try_from(refreshes.max(1))?);
    world
        .story
        .tell(&format!("{} mints for {refreshes} refreshes; {writes:.2} writes a refresh: {requests:?}", seen.mints()));
    // A token is replaced at 40 to 45 % of its life: eleven or twelve times in five lives.
    ensure!((10..=13).contains(&refreshes), "{refreshes} refreshes in five lifetimes");
    // One may be under way at either end.
    ensure!(seen.mints().abs_diff(refreshes as u64) <= 1, "{} mints for {refreshes} refreshes", seen.mints());
    ensure!(requests.writes() <= 2 * refreshes + 1, "{} writes for {refreshes} refreshes", requests.writes());
    ensure!(requests.secret_reads == 0, "{} reads of Secrets", requests.secret_reads);
    ensure!(requests.events == 0, "{} events", requests.events);
    ensure!(requests.others == 0, "{} other requests", requests.others);
    Ok(())
}
