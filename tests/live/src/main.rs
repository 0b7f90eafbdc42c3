//! `tests/live/run` and `tests/live/clean`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use flux_bearer_cli::args::Operator;
use flux_bearer_cli::edge::Edge;
use flux_bearer_cli::{real, sign_in};
use flux_bearer_live::azure::Azure;
use flux_bearer_live::clean::{Whose, clean};
use flux_bearer_live::hold::{Played, held, played};
use flux_bearer_live::scenario::Run;
use flux_bearer_live::settings::Settings;
use flux_bearer_live::simulated;

/// Holds the simulator against your own Azure. Makes things there, and removes them: see docs/live.md.
#[derive(Debug, Parser)]
#[command(name = "tests/live")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Don't ask before anything is made or removed.
    #[arg(long, global = true)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the scenario to Azure and to the simulator, and prints where the answers differ.
    Run {
        /// Folder for the two transcripts.
        #[arg(default_value = "live-transcripts")]
        out: PathBuf,
    },
    /// Removes what earlier runs have left.
    Clean,
}

/// Azure takes one write of an identity's federated credentials in four seconds.
const PACE: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> ExitCode {
    match execute(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("✗ {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was well.
async fn execute(arguments: &Arguments) -> anyhow::Result<bool> {
    let edge = real::edge()?;
    let settings = Settings::read(&edge.environment)?;
    let azure = azure(&settings, &edge)?;
    match &arguments.command {
        Command::Run { out } => {
            agree(arguments, &edge, "make a resource group, an identity and a member, and remove them").await?;
            run(&azure, &edge, out).await
        }
        Command::Clean => {
            agree(arguments, &edge, "remove every resource group and member that a run has left").await?;
            let gone = clean(&azure, Whose::Any).await?;
            for what in &gone {
                println!("removed {what}");
            }
            println!("{} removed", gone.len());
            Ok(true)
        }
    }
}

async fn agree(arguments: &Arguments, edge: &Edge, what: &str) -> anyhow::Result<()> {
    let yes = arguments.yes || edge.input.confirm(&format!("This will {what}. Go on?")).await == Some(true);
    anyhow::ensure!(yes, "nothing was sent: say yes, or give --yes");
    Ok(())
}

fn azure(settings: &Settings, edge: &Edge) -> anyhow::Result<Azure> {
    let operator = Operator { sign_in: settings.sign_in, tenant: Some(settings.tenant.clone()) };
    let way = sign_in::way(&operator, edge)?;
    Ok(Azure::new(settings.clone(), edge.azure.clone(), way, Arc::clone(&edge.now), PACE))
}

async fn run(azure: &Azure, edge: &Edge, out: &Path) -> anyhow::Result<bool> {
    let run = Run::new(format!("t{}p{}", edge.now().as_millisecond(), std::process::id()));
    println!("run {}: tag flux-bearer-live={}, name {}", run.id, run.id, run.name());
    let at_azure = played(azure, &run, interrupted()).await;
    write(out, "azure.json", &at_azure)?;

    let settings = &azure.settings;
    let world = simulated::world(simulated::state(settings), edge.now()).context("the settings can't be simulated")?;
    let simulator = simulated::azure(settings, world.service(), &world);
    let at_simulator = played(&simulator, &Run::new(run.id), std::future::pending()).await;
    write(out, "simulator.json", &at_simulator)?;

    let differences = held(&at_azure, &at_simulator);
    let (allowed, unexplained): (Vec<_>, Vec<_>) = differences.iter().partition(|one| one.reason().is_some());
    let allowed: BTreeSet<String> = allowed.iter().map(|one| one.in_short()).collect();
    for line in allowed.into_iter().chain(unexplained.iter().map(ToString::to_string)) {
        println!("{line}");
    }
    for (name, played) in [("Azure", &at_azure), ("the simulator", &at_simulator)] {
        played.failures.iter().for_each(|failure| println!("✗ {name}: {failure}"));
    }
    println!("{} differences without a reason; transcripts in {}", unexplained.len(), out.display());
    Ok(unexplained.is_empty() && at_azure.failures.is_empty() && at_simulator.failures.is_empty())
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    eprintln!("interrupted: removing what was made");
}

fn write(folder: &Path, name: &str, played: &Played) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let file = folder.join(name);
    let text = serde_json::to_string_pretty(played)?;
    std::fs::write(&file, text + "\n").with_context(|| format!("can't write {}", file.display()))
}
