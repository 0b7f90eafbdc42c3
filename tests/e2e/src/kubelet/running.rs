//! A Pod that runs, as tests see it and take hold of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::http_client;

/// A signal to a container's process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGTERM, as the kubelet sends it first.
    Terminate,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

impl Signal {
    /// Sends it to the process with this id.
    pub(crate) async fn send(self, process: u32) -> anyhow::Result<()> {
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", self.name(), &process.to_string()]).status().await.context("can't run kill")?;
        ensure!(sent.success(), "can't send SIG{}", self.name());
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Terminate => "TERM",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// One Pod. Clones are handles of the same.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    name: String,
    port: u16,
    log: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<u32>,
    restarts: u32,
    lost: bool,
}

impl Running {
    /// Nothing runs yet. `port` and the one after it are the Pod's own.
    pub(super) fn new(name: &str, port: u16, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        Self { name: name.to_owned(), port, log, state: Arc::default() }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What its container has logged, through all its restarts.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("can't read {}", self.log.display()))
    }

    /// How often its container was started again.
    pub(crate) fn restarts(&self) -> u32 {
        self.state().restarts
    }

    /// One line of its metrics: the first that begins with `name`.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<String> {
        let lines = self.metrics_named(name).await?;
        lines.into_iter().next().with_context(|| format!("there is no metric {name}"))
    }

    /// The lines of its metrics that begin with `name`.
    pub(crate) async fn metrics_named(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let text = http_client::get(&format!("http://{}/metrics", self.metrics())).await?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect())
    }

    /// The URLs of metrics and health at the IPv6 address of the Pod.
    pub(crate) fn over_ipv6(&self) -> [String; 2] {
        [format!("http://[::1]:{}/metrics", self.port), format!("http://[::1]:{}/readyz", self.port + 1)]
    }

    /// The resident memory of its container's process, in MiB.
    pub(crate) fn resident_memory(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).context("the kernel doesn't say")?;
        Ok(kibibytes.parse::<f64>()? / 1024.0)
    }

    /// Sends a signal to its container's process. What ends is started again, as everywhere.
    pub(crate) async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        signal.send(self.process()?).await.with_context(|| format!("to {}", self.name))
    }

    /// Ends its container's process with SIGKILL, as when its machine fails: nobody starts it again, and nobody tells
    /// the API server.
    pub(crate) async fn lose(&self) -> anyhow::Result<()> {
        self.state().lost = true;
        self.signal(Signal::Kill).await
    }

    /// The folder of its log.
    pub(super) fn logs(&self) -> &Path {
        self.log.parent().unwrap_or(Path::new("."))
    }

    /// Address of its metrics.
    pub(super) fn metrics(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Address of its health.
    pub(super) fn health(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// The flags that give it these ports, at every address of the Pod as those that are shipped do.
    pub(super) fn flags(&self) -> [String; 2] {
        [format!("--metrics-addr=:{}", self.port), format!("--health-addr=:{}", self.port + 1)]
    }

    /// Whether its container runs.
    pub(super) fn runs(&self) -> bool {
        self.state().process.is_some()
    }

    /// Whether its machine has failed.
    pub(super) fn is_lost(&self) -> bool {
        self.state().lost
    }

    /// Its container runs as this process.
    pub(super) fn started(&self, process: u32) {
        self.state().process = Some(process);
    }

    /// Its container has ended, or is about to; returns the process that it ran as.
    pub(super) fn ended(&self) -> Option<u32> {
        self.state().process.take()
    }

    /// Its container is to be started again.
    pub(super) fn restarting(&self) {
        self.state().restarts += 1;
    }

    /// The id of its container's process.
    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        self.state().process.with_context(|| format!("{} does not run", self.name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
