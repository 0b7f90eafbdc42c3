//! The command line of `flux-bearer-sim`.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::wiring::EXAMPLE;
use super::{namespace, serve};
use crate::state::State;

/// Simulates Azure for tests: Entra ID, IMDS and Azure DevOps under their real host names.
#[derive(Debug, Parser)]
#[command(name = "flux-bearer-sim", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a namespace where Azure's names lead to the simulator (Linux).
    ///
    /// Ends with the command's status; with 125 when the world could not be started.
    Run(RunArguments),
    /// Serve as an HTTPS proxy on a loopback port and print the variables that lead clients to it.
    Serve(ServeArguments),
    /// Print the JSON Schema of the state file.
    Schema,
    /// Print an example of a state file, with comments.
    Example,
    #[command(hide = true)]
    Inside(InsideArguments),
}

/// What `run` takes.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// State file (YAML or JSON); without one, what `example` prints.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// PEM file that clients shall trust too, for example the CA of a local Kubernetes API server.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl RunArguments {
    /// The same arguments as words of a command line.
    pub fn as_words(&self) -> Vec<OsString> {
        let state = self.state.iter().flat_map(|file| ["--state".into(), file.into()]);
        let ca_files = self.ca_file.iter().flat_map(|file| ["--ca-file".into(), file.into()]);
        let command = std::iter::once("--".into()).chain(self.command.iter().cloned());
        state.chain(ca_files).chain(command).collect()
    }
}

/// What `run` starts inside the namespace.
#[derive(Args, Debug)]
pub struct InsideArguments {
    /// The mount namespace outside, which must not be this one.
    #[arg(long)]
    pub outside: OsString,
    /// What `run` was given.
    #[command(flatten)]
    pub run: RunArguments,
}

/// What `serve` takes.
#[derive(Args, Debug)]
pub struct ServeArguments {
    /// State file (YAML or JSON); without one, what `example` prints.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// PEM file that clients shall trust too, for example the CA of a local Kubernetes API server.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
    /// Address of the proxy; port 0 is a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = loopback)]
    pub listen: SocketAddr,
    /// Address of the admin API; port 0 is a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = loopback)]
    pub admin: SocketAddr,
}

/// Only loopback: the simulator hands tokens to whoever asks and lets its admin do anything.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write ADDRESS:PORT, for example 127.0.0.1:0".to_owned())?;
    if address.ip().is_loopback() { Ok(address) } else { Err("only a loopback address is served".to_owned()) }
}

impl Arguments {
    /// Does what the command line says and gives the exit code.
    pub async fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(arguments) => match namespace::run(&arguments).await? {},
            Command::Inside(arguments) => {
                let status = namespace::inside(&arguments).await?;
                return Ok(namespace::exit_code(status).into());
            }
            Command::Serve(arguments) => serve::serve(&arguments).await?,
            Command::Schema => print(&schema()?)?,
            Command::Example => print(EXAMPLE)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn schema() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(State))? + "\n")
}

fn print(text: &str) -> std::io::Result<()> {
    std::io::stdout().write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_hands_every_argument_to_the_inside() {
        let line =
            ["flux-bearer-sim", "run", "--state", "s.yaml", "--ca-file", "a", "--ca-file", "b", "--", "git", "--x"];
        let Command::Run(run) = Arguments::try_parse_from(line).unwrap().command else { panic!("not run") };
        let mut inside: Vec<OsString> = ["flux-bearer-sim", "inside", "--outside", "mnt:[1]"].map(Into::into).into();
        inside.extend(run.as_words());
        let Command::Inside(inside) = Arguments::try_parse_from(inside).unwrap().command else { panic!("not inside") };
        assert_eq!(inside.run.as_words(), run.as_words());
        assert_eq!(inside.run.command, ["git", "--x"]);
    }

    #[test]
    fn only_loopback_is_served() {
        assert!(loopback("127.0.0.1:0").is_ok() && loopback("[::1]:80").is_ok());
        assert!(loopback("0.0.0.0:80").is_err() && loopback("10.0.0.1:80").is_err() && loopback("localhost").is_err());
    }

    #[test]
    fn the_schema_describes_the_state() {
        assert!(schema().unwrap().contains("organizations"));
    }
}
