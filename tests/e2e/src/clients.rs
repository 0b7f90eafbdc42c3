//! Official clients, unchanged: small programs over them in `clients/`, run inside the simulated Azure.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::tools::Tools;

/// Runs a Python program of `clients/python` with these words and variables; returns what it prints.
pub(crate) async fn python(tools: &Tools, words: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut command = Command::new("python3");
    // Nothing but the packages that were pinned: no user's, and no cache beside the sources.
    command.args(["-s", "-B"]).args(words).current_dir(tools.clients.join("python"));
    command.env("PYTHONPATH", &tools.python_clients).envs(environment.iter().copied());
    output(command, words).await
}

async fn output(mut command: Command, words: &[&str]) -> anyhow::Result<String> {
    let told = words.join(" ");
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let ended = ended.with_context(|| format!("can't run {told}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{told}: {}: {}", ended.status, said.trim());
    ensure!(!said.contains("eyJ"), "{told} printed a token");
    Ok(String::from_utf8(ended.stdout)?)
}
