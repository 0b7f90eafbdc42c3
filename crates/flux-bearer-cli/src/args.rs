//! The command line: kubectl's flags, and one subcommand a verb.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::edge::Which;

/// Gives Flux a credential for Azure Repos that no person owns and nobody rotates.
///
/// Exit status: 0 done; 1 failed; 2 usage; 3 warnings (with --strict); 4 there is something to change (with --dry-run);
/// 5 not signed in; 6 a right or licence is missing; 7 not found; 8 forbidden by a policy; 9 taken by somebody else;
/// 10 no network; 124 not done in time; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "flux-bearer", version, max_term_width = 100)]
pub struct Arguments {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// File with the cluster's address and credential
    #[arg(long, global = true, env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,

    /// Namespace of the BearerToken and its Secret
    #[arg(short, long, global = true, env = "FLUX_SYSTEM_NAMESPACE", default_value = "flux-system")]
    pub namespace: String,

    /// How long the whole run may take
    #[arg(long, global = true, default_value = "10m", value_parser = duration)]
    pub timeout: Duration,

    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
}

impl Global {
    /// Which cluster is meant.
    pub fn which(&self) -> Which {
        Which { kubeconfig: self.kubeconfig.clone(), context: self.context.clone(), timeout: None }
    }
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide screens.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the version of this program and of the controller in the cluster
    Version(Version),
}

/// What `version` takes.
#[derive(Args, Debug)]
pub struct Version {
    /// Don't ask the cluster
    #[arg(long)]
    pub client: bool,
}

/// `300ms`, `30s`, `5m`, `1h`: as Go writes durations, one unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write for example 30s, 5m or 1h");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(bad)
}

/// A word of the command line; the first one, the program's path, by its last part.
pub(crate) fn name_of(word: &OsStr) -> OsString {
    Path::new(word).file_name().filter(|name| is_ours(name)).unwrap_or(word).to_owned()
}

fn is_ours(name: &OsStr) -> bool {
    ["flux-bearer", "kubectl-flux_bearer"].iter().any(|ours| *name == **ours)
}
