//! The soak: a thousand BearerTokens whose tokens live a minute, for an hour, while every process is killed, stopped or cut
//! off in turn. No Secret may ever hold an expired token, and the leader may not grow.

mod ledger;
mod plot;
mod sampler;
mod schedule;
mod strike;
mod verdict;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use tokio::time::sleep;

use self::ledger::Ledger;
use self::schedule::Schedule;
use self::strike::Victims;
use self::verdict::Facts;
use crate::azure::{SUBJECT, TENANT_ID};
use crate::canary::Canary;
use crate::cluster::NAMESPACE;
use crate::world::{Run, World};
use crate::{controller, measure};

const NAME: &str = "soak";

/// Identities, each of which fills as many Secrets as the others.
const IDENTITIES: u32 = 5;

/// Seconds that a token lives: it is replaced after 24 to 27.
const LIFETIME: u32 = 60;

/// Pause between the BearerTokens of one identity and those of the next, or all of them would be due at once ever after.
const APART: Duration = Duration::from_secs(5);

/// What `soak` takes.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long
    #[arg(default_value_t = 60)]
    minutes: u64,
    /// What the strikes are drawn from; drawn itself unless given
    #[arg(long)]
    seed: Option<u64>,
    /// BearerTokens
    #[arg(long, default_value_t = 1_000)]
    count: u32,
    /// Folder for soak.csv and soak.svg
    #[arg(long, value_name = "FOLDER")]
    results: PathBuf,
}

/// Runs it, writes what was seen, and returns whether every bar was kept. Then the folder of the run is removed.
pub(crate) async fn soak(run: &Run, arguments: &Arguments) -> anyhow::Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut world = prepare(run, arguments.count).await?;
    world.story.tell(&format!("seed {seed}"));
    let facts = live(&mut world, seed, Duration::from_secs(arguments.minutes * 60), arguments.count).await;
    let facts = facts.with_context(|| format!("its files: {}", world.folder().display()))?;
    std::fs::create_dir_all(&arguments.results)?;
    for (name, text) in [("soak.csv", sampler::csv(&facts.samples)?), ("soak.svg", plot::svg(&facts)?)] {
        let file = arguments.results.join(name);
        std::fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    }
    let bars = verdict::bars(&facts);
    println!("\n{}", verdict::table(&facts, &bars)?);
    let folder = world.folder().to_owned();
    drop(world);
    Canary::new()?.check(&folder).with_context(|| format!("its files: {}", folder.display()))?;
    let kept = bars.iter().all(|bar| bar.kept);
    if kept {
        std::fs::remove_dir_all(&run.folder).with_context(|| format!("can't remove {}", run.folder.display()))?;
    } else {
        println!("FAILED: a bar is broken\n        its files: {}", folder.display());
    }
    Ok(kept)
}

/// A world with two replicas as they are shipped, and everything that they are to serve.
async fn prepare(run: &Run, count: u32) -> anyhow::Result<World<'_>> {
    ensure!(count >= IDENTITIES, "--count: {IDENTITIES} at least, one an identity");
    let world = World::start(run, NAME).await?;
    for identity in 0..IDENTITIES {
        world.azure().create_reader(&client_id(identity), LIFETIME, SUBJECT).await?;
    }
    let names: Vec<String> = (0..count).map(measure::name).collect();
    controller::name_secrets(&world.cluster, NAMESPACE, &names).await?;
    world.deployment.clone().replicas(2).flags(&["--log-level=info"]).roll_out(&world.cluster).await?;
    for identity in 0..IDENTITIES {
        let spec = json!({"identity": {"tenantId": TENANT_ID, "clientId": client_id(identity)}});
        let numbers = count * identity / IDENTITIES..count * (identity + 1) / IDENTITIES;
        measure::create(&world.cluster, numbers, &spec).await?;
        sleep(APART).await;
    }
    world.story.tell(&format!("{count} BearerTokens of {IDENTITIES} identities; tokens live {LIFETIME} s"));
    Ok(world)
}

fn client_id(identity: u32) -> String {
    format!("00000000-bbbb-4000-8000-{:012}", identity + 1)
}

/// Strikes and looks on for so long.
async fn live(world: &mut World<'_>, seed: u64, length: Duration, count: u32) -> anyhow::Result<Facts> {
    let (ledger, samples, marks) = (RefCell::new(Ledger::default()), RefCell::default(), RefCell::default());
    let (client, azure, audit_log) = (world.cluster.client(), world.azure().clone(), world.cluster.audit_log());
    let World { cluster, kubelet, story, .. } = world;
    let mut victims = Victims { cluster, kubelet, azure: &azure, ledger: &ledger, story };
    let strikes = async {
        victims.filled(count).await?;
        azure.forget().await?;
        ledger.borrow_mut().begin();
        let before = victims.transitions().await?;
        tokio::select! {
            done = victims.strike_on(Schedule::new(seed, length), length, &marks) => done?,
            failed = sampler::sample(kubelet, &audit_log, &samples) => match failed? {},
        }
        Ok::<u64, anyhow::Error>(victims.transitions().await? - before)
    };
    let transitions = tokio::select! {
        done = strikes => done?,
        never = ledger::watch(client, &ledger) => match never {},
    };
    let mut ledger = ledger.into_inner();
    ledger.end(ledger::now());
    Ok(Facts {
        seed,
        length,
        marks: marks.into_inner(),
        samples: samples.into_inner(),
        replaced: ledger.replaced,
        expired: ledger.expired,
        least: ledger.least.unwrap_or_default(),
        mints: azure.seen().await?.counts.mints.values().sum(),
        transitions,
    })
}
