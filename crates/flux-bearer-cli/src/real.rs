//! The real outside: the network, kubeconfig, processes, the terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use flux_bearer_azure::http::{AGENT, Http, Network};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::USER_AGENT;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, Command};

use crate::cluster::Cluster;
use crate::edge::{Call, Clusters, Edge, Ended, Files, Folder, Input, Programs, Which};
use crate::exit::{Exit, Trouble};
use crate::out::Out;

/// Longest secret that is read from a pipe, in bytes: a token has a few thousand.
const MAX_SECRET: u64 = 64 * 1024;

/// The outside as it is.
///
/// # Errors
/// A proxy or CA file of the environment that can't be used.
#[allow(clippy::disallowed_methods, reason = "this is the edge that the rule speaks of")]
pub fn edge() -> Result<Edge, Trouble> {
    // An error means that one was installed before, which nothing here does.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    // A core dump would hold the operator's tokens. Linux refuses this to nobody, and elsewhere nothing like it is there.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    Ok(Edge {
        azure: azure(&environment)?,
        link_local: Http::plain(),
        clusters: Arc::new(Kubeconfigs),
        programs: Arc::new(Processes),
        out: Out::process(),
        input: Arc::new(Terminal),
        files: Arc::new(Disk),
        environment,
        now: Arc::new(Timestamp::now),
    })
}

fn azure(environment: &BTreeMap<String, String>) -> Result<Http, Trouble> {
    let first = |names: &[&str]| names.iter().find_map(|name| environment.get(*name)).cloned();
    let network = Network {
        https_proxy: first(&["HTTPS_PROXY", "https_proxy"]),
        no_proxy: first(&["NO_PROXY", "no_proxy"]),
        extra_ca_pem: None,
    };
    Http::network(&network).map_err(|error| {
        Trouble::usage(format!("HTTPS can't be set up: {error}"), "check HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE")
    })
}

struct Kubeconfigs;

impl Clusters for Kubeconfigs {
    fn connect<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Cluster, Trouble>> {
        connect(which).boxed()
    }

    fn contexts(&self, which: &Which) -> Vec<String> {
        let contexts = kubeconfig(which).map(|file| file.contexts).unwrap_or_default();
        contexts.into_iter().map(|context| context.name).collect()
    }
}

fn kubeconfig(which: &Which) -> Option<Kubeconfig> {
    match &which.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }
    .ok()
}

async fn connect(which: &Which) -> Result<Cluster, Trouble> {
    let trouble = |cause: String| {
        let fix = "name the cluster with --kubeconfig and --context; kubectl config get-contexts lists them";
        Trouble::new(Exit::NotFound, cause, fix)
    };
    let file = kubeconfig(which).ok_or_else(|| trouble("there is no kubeconfig that can be read".to_owned()))?;
    let context = which.context.clone().or_else(|| file.current_context.clone()).unwrap_or_default();
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|_| trouble(format!("the kubeconfig has no usable context {context:?}")))?;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(60));
    // So that the audit log of an API server tells our requests from kubectl's.
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|_| trouble(format!("context {context:?} can't be used")))?;
    Ok(Cluster { client, context, server })
}

struct Processes;

impl Programs for Processes {
    fn run(&self, call: Call) -> BoxFuture<'_, io::Result<Ended>> {
        run(call).boxed()
    }
}

async fn run(call: Call) -> io::Result<Ended> {
    let mut command = Command::new(call.program);
    command.args(&call.arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.stdin(if call.input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.envs(call.environment.iter().map(|(name, value)| (*name, value.expose_secret())));
    let mut child = command.spawn()?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), &call.input) {
        // A program that ends without reading says why by its status.
        drop(pipe.write_all(input.expose_secret().as_bytes()).await);
    }
    let told = child.stderr.take();
    let (ended, stderr) = tokio::join!(child.wait_with_output(), read(told, call.shown));
    let ended = ended?;
    Ok(Ended {
        status: ended.status.code(),
        stdout: SecretString::from(String::from_utf8_lossy(&ended.stdout).into_owned()),
        stderr: String::from_utf8_lossy(&stderr?).into_owned(),
    })
}

/// All that a program tells; `shown` as it comes.
async fn read(pipe: Option<ChildStderr>, shown: bool) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(all) };
    loop {
        let begin = all.len();
        if pipe.read_buf(&mut all).await? == 0 {
            return Ok(all);
        }
        if shown {
            io::stderr().write_all(all.get(begin..).unwrap_or_default())?;
        }
    }
}

struct Disk;

impl Files for Disk {
    fn secret<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<SecretString>> {
        async move {
            let mut text = String::new();
            tokio::fs::File::open(path).await?.take(MAX_SECRET).read_to_string(&mut text).await?;
            Ok(SecretString::from(text))
        }
        .boxed()
    }

    fn folder(&self) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(Temporary(TempDir::with_prefix("flux-bearer-")?)))
    }
}

struct Temporary(TempDir);

impl Folder for Temporary {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

struct Terminal;

impl Input for Terminal {
    fn confirm(&self, question: &str) -> BoxFuture<'_, Option<bool>> {
        let question = format!("{question} [y/N] ");
        async move {
            if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
                return None;
            }
            let shown = io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush());
            let mut answer = String::new();
            let read = BufReader::new(tokio::io::stdin()).read_line(&mut answer).await;
            let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
            Some(shown.is_ok() && read.is_ok() && yes)
        }
        .boxed()
    }

    fn secret(&self) -> BoxFuture<'_, io::Result<SecretString>> {
        async move {
            let mut text = String::new();
            tokio::io::stdin().take(MAX_SECRET).read_to_string(&mut text).await?;
            Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        .boxed()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    #[test]
    fn the_process_leaves_no_core_dump() {
        drop(super::edge());
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
