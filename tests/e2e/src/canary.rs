//! The canary: every credential of a test is looked for wherever none may be.
//!
//! Tokens are known by how they begin, secrets and PATs as a whole, each as it is and in Base64. They are looked for in all
//! files of a test (what every program has printed, the audit log, clones and caches, and what etcd has ever stored: there
//! Secrets alone are encrypted), in the metrics of our controllers, and in the arguments of every process.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use anyhow::{Context, ensure};
use flux_bearer_sim::canary::{ACCESS_TOKEN, SERVICE_ACCOUNT_TOKEN, forms};
use tokio::time::{sleep, timeout};

use crate::azure::{OPERATOR_SECRET, PAT};
use crate::http_client;

/// Pause between two looks at what runs. A program that signs in, clones or pushes runs for longer.
const LOOK: Duration = Duration::from_millis(100);

/// Looks after which metrics are read again.
const SCRAPE: u32 = 20;

/// Time for an answer with metrics.
const ANSWER: Duration = Duration::from_secs(1);

/// Our controller's name, as a process is called.
const CONTROLLER: &str = "flux-bearer-controller";

/// Folder of a test's files in which projected tokens are, as in a kubelet's.
pub(crate) const VOLUMES: &str = "volumes";

/// Looks for credentials, and counts what it has looked through.
pub(crate) struct Canary {
    credentials: AhoCorasick,
    names: Vec<&'static str>,
    files: usize,
    bytes: usize,
    processes: BTreeSet<Vec<u8>>,
    scrapes: usize,
    found: BTreeSet<String>,
}

impl Canary {
    /// One that has not looked at anything.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let credentials = [
            ("an access token", ACCESS_TOKEN),
            ("a service account's token", SERVICE_ACCOUNT_TOKEN),
            ("the operator's secret", OPERATOR_SECRET),
            ("a PAT", PAT),
        ];
        let (names, patterns): (Vec<_>, Vec<_>) =
            credentials.iter().flat_map(|(name, secret)| forms(secret).map(|form| (*name, form))).unzip();
        Ok(Self {
            credentials: AhoCorasick::new(patterns)?,
            names,
            files: 0,
            bytes: 0,
            processes: BTreeSet::new(),
            scrapes: 0,
            found: BTreeSet::new(),
        })
    }

    /// Looks at what runs, without end.
    pub(crate) async fn watch(&mut self) -> Infallible {
        let mut looks = 0_u32;
        loop {
            let controllers = self.look_at_processes();
            if looks.is_multiple_of(SCRAPE) {
                for metrics in controllers {
                    self.scrape(&metrics).await;
                }
            }
            looks = looks.wrapping_add(1);
            sleep(LOOK).await;
        }
    }

    /// Fails where a credential was seen since the last check, or is in the files of a test that has ended.
    pub(crate) fn check(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.look_through(folder)?;
        let found = std::mem::take(&mut self.found);
        ensure!(found.is_empty(), "{found:#?}");
        Ok(())
    }

    fn look_through(&mut self, folder: &Path) -> anyhow::Result<()> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() && path.file_name() != Some(OsStr::new(VOLUMES)) {
                self.look_through(&path)?;
            } else if kind.is_file() {
                let content = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
                self.files += 1;
                self.bytes += content.len();
                self.search(&content, || path.display().to_string());
            }
        }
        Ok(())
    }

    /// What was looked through, in words.
    pub(crate) fn told(&self) -> String {
        let (files, mebibytes) = (self.files, self.bytes >> 20);
        let (processes, scrapes) = (self.processes.len(), self.scrapes);
        format!("{mebibytes} MiB in {files} files, {processes} command lines and {scrapes} answers with metrics")
    }

    /// Looks at the arguments of every process; returns where our controllers have their metrics.
    fn look_at_processes(&mut self) -> Vec<String> {
        // A process may end while it is looked at.
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let lines: BTreeSet<Vec<u8>> = lines.filter(|line| !line.is_empty()).collect();
        for line in &lines {
            if self.processes.insert(line.clone()) {
                self.bytes += line.len();
                self.search(line, || format!("the arguments of {}", program(line)));
            }
        }
        let controllers = lines.iter().filter(|line| program(line).ends_with(CONTROLLER));
        controllers.filter_map(|line| metrics(line)).collect()
    }

    async fn scrape(&mut self, address: &str) {
        // One that is stopped or about to end does not answer.
        if let Ok(Ok(answer)) = timeout(ANSWER, http_client::get(&format!("http://{address}/metrics"))).await {
            self.scrapes += 1;
            self.bytes += answer.len();
            self.search(&answer, || "the metrics".into());
        }
    }

    fn search(&mut self, content: &[u8], place: impl Fn() -> String) {
        for hit in self.credentials.find_iter(content) {
            let name = self.names.get(hit.pattern().as_usize()).unwrap_or(&"a credential");
            self.found.insert(format!("{name} is in {}", place()));
        }
    }
}

/// The program of a command line.
fn program(line: &[u8]) -> String {
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).into_owned()
}

/// Where a controller with this command line has its metrics. Of a flag given twice, the last counts.
fn metrics(line: &[u8]) -> Option<String> {
    let arguments = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let address = arguments.filter_map(|word| word.strip_prefix("--metrics-addr=")).next_back()?;
    let (host, port) = address.rsplit_once(':')?;
    Some(format!("{}:{port}", if host.is_empty() { "127.0.0.1" } else { host }))
}
