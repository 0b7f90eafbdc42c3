//! The end-to-end suite: the real binaries against the real kube-apiserver, Flux and git, inside the simulated Azure.
//!
//! It runs in the namespace that `flux-bearer-sim run` makes; `tests/e2e/run` and `tests/e2e/up` start it there.

mod audit;
mod azure;
mod canary;
mod clients;
mod cluster;
mod controller;
mod flux;
mod git;
mod http_client;
mod kubelet;
mod measure;
mod packets;
mod pki;
mod process;
mod rights;
mod soak;
mod story;
mod suite;
mod tests;
mod tools;
mod up;
mod wait;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::azure::Azure;
use crate::kubelet::{Image, Images};
use crate::pki::Pki;
use crate::tools::Tools;
use crate::world::Run;

/// Runs the end-to-end tests, or keeps their world running.
#[derive(Debug, Parser)]
#[command(name = "flux-bearer-e2e")]
struct Arguments {
    #[command(flatten)]
    tools: Tools,
    /// The simulator's admin API
    #[arg(long, env = "FLUX_BEARER_SIM_ADMIN")]
    admin: String,
    /// What clients trust inside
    #[arg(long, env = "SSL_CERT_FILE", hide = true)]
    trust: PathBuf,
    /// Folder of the run, in which the simulator was started; with the root filesystem of the controller's image
    #[arg(long)]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the tests whose name contains NAME
    Run {
        /// Part of a name; without it, all tests run
        #[arg(default_value = "")]
        name: String,
    },
    /// Measure what the controller takes, with one BearerToken, a thousand and ten thousand
    Measure,
    /// Hurt every process in turn for an hour, and look for tokens that expire and for what leaks
    Soak(soak::Arguments),
    /// Run COMMAND beside a world like that of the tests
    Up(up::Arguments),
}

// One thread: every test waits for other programs, and does nothing itself.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("another crypto library was installed first");
    }
    let arguments = Arguments::parse();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Whatever ends first, what was started is dropped with the future, and so killed.
    tokio::select! {
        done = execute(arguments) => done,
        _ = term.recv() => Ok(ended_by("SIGTERM", 15)),
        _ = int.recv() => Ok(ended_by("SIGINT", 2)),
    }
}

/// The status of a program that this signal has ended, as shells have it.
fn ended_by(signal: &str, number: u8) -> ExitCode {
    eprintln!("ended by {signal}");
    ExitCode::from(128 + number)
}

async fn execute(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tools, admin, trust, folder, command } = arguments;
    let pki = Pki::create(&folder.join("pki"))?;
    let images = images(&tools, &folder, &trust)?;
    let run = Run { tools, folder, azure: Azure::at(&admin), pki, images };
    match command {
        Command::Run { name } => suite::run(&run, &name).await.map(status),
        Command::Measure => measure::measure(&run).await.map(|()| ExitCode::SUCCESS),
        Command::Soak(arguments) => soak::soak(&run, &arguments).await.map(status),
        Command::Up(arguments) => up::up(&run, &arguments, &trust).await,
    }
}

/// The status of a run that passed, or did not.
fn status(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Our image, and those of Flux that `flux bootstrap` asks for.
fn images(tools: &Tools, folder: &Path, trust: &Path) -> anyhow::Result<Images> {
    let flux = |program: &Path, flags: &[&str]| Image::flux(program, &folder.join("images"), trust.to_owned(), flags);
    Ok(Images::of(vec![
        Image::ours(folder.join("image"), trust.to_owned())?,
        flux(&tools.source_controller, &["--storage-adv-addr=127.0.0.1:9090"])?,
        flux(&tools.kustomize_controller, &[])?,
    ]))
}
