//! Official clients, unchanged: small programs over them in `clients/`, run inside the simulated Azure.

use std::process::Stdio;

use anyhow::{Context, anyhow, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::tools::Tools;

/// Variables of a program.
pub(crate) type Variables<'a> = [(&'a str, &'a str)];

/// Runs a Python program of `clients/python` with these words and variables; returns what it prints.
pub(crate) async fn python(tools: &Tools, words: &[&str], variables: &Variables<'_>) -> anyhow::Result<String> {
    let mut command = python_command(tools);
    command.args(words).envs(variables.iter().copied());
    output(command, &words.join(" ")).await
}

fn python_command(tools: &Tools) -> Command {
    let mut command = Command::new("python3");
    // Nothing but the packages that were pinned: no user's, and no cache beside the sources.
    command.args(["-s", "-B"]).current_dir(tools.clients.join("python")).env("PYTHONPATH", &tools.python_clients);
    command
}

/// Who gets a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// Go's azidentity.
    Go,
    /// Python's azure-identity.
    Python,
    /// JavaScript's @azure/identity.
    JavaScript,
    /// Rust's `azure_identity`.
    Rust,
}

impl Client {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Go, Self::Python, Self::JavaScript, Self::Rust];

    /// Signs in by `way`, as the program's head names it, with these variables: a token, or what the client says of its
    /// failure.
    pub(crate) async fn token(
        self,
        tools: &Tools,
        way: &str,
        variables: &Variables<'_>,
    ) -> anyhow::Result<Result<String, String>> {
        let mut command = match self {
            Self::Go => Command::new(&tools.go_clients),
            Self::Python => python_command(tools),
            Self::JavaScript => Command::new("node"),
            Self::Rust => Command::new(&tools.rust_clients),
        };
        match self {
            Self::Python => drop(command.arg("identity.py")),
            Self::JavaScript => drop(command.arg(tools.javascript_clients.join("identity.mjs"))),
            Self::Go | Self::Rust => {}
        }
        command.arg(way).envs(variables.iter().copied());
        let told = format!("{self:?} {way}");
        let said = output(command, &told).await?;
        let Answer { token, error } = serde_json::from_str(&said).with_context(|| told.clone())?;
        match (token, error) {
            (Some(token), None) => Ok(Ok(token)),
            (None, Some(error)) => Ok(Err(error)),
            _ => Err(anyhow!("{told} said neither a token nor an error")),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    error: Option<String>,
}

/// How Flux's own code reads a Secret with this data (JSON, base64) beside a GitRepository's URL.
pub(crate) async fn auth_options(tools: &Tools, url: &str, data: &str) -> anyhow::Result<serde_json::Value> {
    go_with_secret(tools, &["auth-options", url], data).await
}

/// Commits `text` on the branch main of `url` and pushes it, by the code that Flux's image automation has and with what it
/// reads of a Secret with this data (JSON, base64): the commit's id, or what that code says of its failure.
pub(crate) async fn push(tools: &Tools, url: &str, text: &str, data: &str) -> anyhow::Result<Result<String, String>> {
    let said = go_with_secret(tools, &["push", url, text], data).await?;
    let field = |name: &str| said.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    match (field("commit"), field("error")) {
        (Some(commit), None) => Ok(Ok(commit)),
        (None, Some(error)) => Ok(Err(error)),
        _ => Err(anyhow!("push said neither a commit nor an error")),
    }
}

/// Runs the Go program with these words and a Secret's data; what it prints.
async fn go_with_secret(tools: &Tools, words: &[&str], data: &str) -> anyhow::Result<serde_json::Value> {
    let mut command = Command::new(&tools.go_clients);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("can't run go-clients")?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    tokio::io::AsyncWriteExt::write_all(&mut pipe, data.as_bytes()).await?;
    drop(pipe);
    let ended = child.wait_with_output().await?;
    ensure!(ended.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ended.stderr).trim());
    Ok(serde_json::from_slice(&ended.stdout)?)
}

async fn output(mut command: Command, told: &str) -> anyhow::Result<String> {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let ended = ended.with_context(|| format!("can't run {told}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{told}: {}: {}", ended.status, said.trim());
    Ok(String::from_utf8(ended.stdout)?)
}
