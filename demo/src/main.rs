//! `flux-bearer-demo`: the real controller in a simulated world, told line by line, in less than a minute.
//!
//! Exit status: 0 when every promise was kept, 1 when one was broken or the stage could not be set, 130 after Ctrl-C.

mod git;
mod proxy;
mod sight;
mod stage;
mod story;
mod tally;
mod tell;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use flux_bearer_controller::clock::Clock;
use flux_bearer_controller::logs::{self, Encoding, Verbosity};
use flux_bearer_controller::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};

use crate::sight::{Counts, lock};
use crate::stage::Stage;
use crate::story::{LIFETIME, Missed, Story};
use crate::tally::Tally;
use crate::tell::Tell;

/// The status of a program that Ctrl-C ended, as shells give it.
const INTERRUPTED: u8 = 130;

/// flux-bearer in a simulated world: no cluster, no Azure, no account
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Tell the story on standard error, and print the counts as JSON in the last line of standard output
    #[arg(long)]
    json: bool,

    /// Show the controller's log lines too, on standard error
    #[arg(long)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.verbose {
        logs::init(Encoding::Console, Verbosity::Info, Clock::system(), Metrics::default().log_lines_dropped())?;
    }
    let (tell, counts) = (Tell::new(args.json), Counts::default());
    let played = tokio::select! {
        played = play(&tell, &counts) => played,
        waited = interrupted() => {
            waited.context("can't wait for signals")?;
            tell.plain("\nstopped; nothing is left behind");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let mut tally = lock(&counts).clone();
    match played {
        Ok(()) => summarize(&tell, &tally),
        Err(error) => {
            tell.bad(format_args!("{error:#}"));
            tally.missed.push(format!("{error:#}"));
        }
    }
    if args.json {
        tell::json(&tally)?;
    }
    Ok(if tally.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for Ctrl-C, SIGTERM, or the terminal to be closed.
async fn interrupted() -> std::io::Result<()> {
    let [mut interrupt, mut terminate, mut hangup] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

async fn play(tell: &Tell, counts: &Counts) -> anyhow::Result<()> {
    tell.plain(format_args!(
        "flux-bearer in a simulated world: Azure and the Kubernetes API are simulated,\n\
         the controller and git are real, and tokens live {} s instead of an hour.",
        LIFETIME.as_secs()
    ));
    let clock = Clock::system();
    let stage = Stage::build(search_path(), clock.now(), tell.clone(), Counts::clone(counts)).await?;
    let story = Story::new(&stage, tell, counts);
    let controller = stage.start_controller()?;
    if let Err(Missed(what)) = story.tell().await {
        tell.bad(&what);
        lock(counts).missed.push(what);
    }
    controller.stop().await
}

/// Tells the counts, the broken promises and what to do next.
fn summarize(tell: &Tell, tally: &Tally) {
    let broken = tally.broken();
    tell.headline("Summary");
    tell.plain(tally);
    for promise in &broken {
        tell.bad(format_args!("broken: {promise}"));
    }
    if broken.is_empty() {
        tell.good("every promise was kept");
    }
    tell.plain(NEXT);
}

/// What to do next for real.
const NEXT: &str = "
Next:
  in your cluster                        README.md, section Deploy
  any client in the simulated Azure      cargo run --release --bin flux-bearer-sim -- run -- bash
  real Flux and a real API server in it  tests/e2e/up";

#[expect(clippy::disallowed_methods, reason = "the edge: git is found where this program's user has it")]
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
