//! The tests' world for a person: it runs while a command does, usually a shell.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use flux_bearer_sim::edge::namespace::exit_code;
use flux_bearer_sim::edge::trust::CA_VARIABLES;
use tokio::process::Command;

use crate::flux::Retries;
use crate::world::{Run, World};

/// Seconds that a token lives: short enough to watch it being replaced.
const LIFETIME: u32 = 300;

/// What `up` takes.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Starts the world, tells how to use it, and runs the command in it; then all of it ends.
pub(crate) async fn up(run: &Run, arguments: &Arguments, trust: &Path) -> anyhow::Result<ExitCode> {
    let world = World::start(run, "up").await?;
    world.repository.commit("first").await?;
    let _flux = world.start_flux(Retries::Quick).await?;
    world.start_controller(&[]).await?;
    world.set_up_azure(LIFETIME).await?;
    world.fill_secret().await?;
    world.pull().await?;
    print(run, &world, trust);
    let status = command(&arguments.command, &world.cluster.kubeconfig()).await?;
    std::fs::remove_dir_all(&run.folder).with_context(|| format!("can't remove {}", run.folder.display()))?;
    Ok(status)
}

async fn command(words: &[OsString], kubeconfig: &Path) -> anyhow::Result<ExitCode> {
    let (program, words) = words.split_first().context("there is no command to run")?;
    let mut command = Command::new(program);
    command.args(words).env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("can't run {}", program.display()))?;
    Ok(exit_code(status).into())
}

/// What a second shell needs.
fn print(run: &Run, world: &World<'_>, trust: &Path) {
    let bin = run.tools.kubectl.parent().unwrap_or(Path::new("."));
    println!("\n# In another terminal, enter the same world:");
    println!("nsenter --target {} --mount --net --preserve-credentials bash", std::process::id());
    println!("# (as an ordinary user add --user). There:");
    println!("export KUBECONFIG={}", world.cluster.kubeconfig().display());
    println!("export FLUX_BEARER_SIM_ADMIN={}", run.azure.admin());
    for name in CA_VARIABLES {
        println!("export {name}={}", trust.display());
    }
    println!("export PATH={}:$PATH\n", bin.display());
    println!("# Commit and push: {}", world.repository.clone_folder().display());
    println!("# Logs:            {}", run.folder.join("up/logs").display());
    println!("# Try:             kubectl get bearertokens,gitrepositories,kustomizations --watch\n");
}
