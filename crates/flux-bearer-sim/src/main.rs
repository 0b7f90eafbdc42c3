//! `flux-bearer-sim`: the simulated Azure as a program. See [`flux_bearer_sim::edge`].

use std::process::ExitCode;

use clap::Parser;
use flux_bearer_sim::edge::Arguments;
use tracing_subscriber::EnvFilter;

/// The status of a failure of our own, so that `run` keeps the others for the command (as `env` and `timeout` do).
const FAILED: u8 = 125;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Arguments::parse().execute().await.unwrap_or_else(|error| {
        eprintln!("flux-bearer-sim: {error:#}");
        FAILED.into()
    })
}
