//! What each controller process takes and has done, looked at every ten seconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::audit::{Entry, Tail};
use crate::kubelet::{Kubelet, Running};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// Time for a scrape. A process that is stopped answers none.
const SCRAPE: Duration = Duration::from_secs(2);

/// One process at one time. What is counted counts from the process's start, but for requests and lease writes, which count
/// from the run's and by Pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// Seconds since the run began.
    pub(super) at: f64,
    /// Name of the Pod.
    pub(super) pod: String,
    /// Its process.
    pub(super) process: u32,
    /// Whether it holds the lease.
    pub(super) leads: bool,
    /// Resident memory in KiB.
    pub(super) resident: f64,
    /// The same, with what processes share divided among them.
    pub(super) proportional: f64,
    /// Open file descriptors.
    pub(super) descriptors: f64,
    /// Threads.
    pub(super) threads: f64,
    /// What runs in them, as its metric has it: counted once a minute.
    pub(super) tasks: f64,
    /// Secrets written.
    pub(super) writes: f64,
    /// Tokens minted.
    pub(super) mints: f64,
    /// Requests to the API server.
    pub(super) requests: u64,
    /// Those of them that wrote the lease.
    pub(super) lease_writes: u64,
}

/// What of a sample is looked at.
pub(super) type Value = fn(&Sample) -> f64;

/// A Pod's requests.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    all: u64,
    lease_writes: u64,
}

impl Asked {
    fn add(&mut self, entry: &Entry) {
        self.all += 1;
        self.lease_writes += u64::from(entry.is_about("leases") && entry.is_accepted_write());
    }
}

/// Looks at every controller for ever.
pub(super) async fn sample(
    kubelet: &Kubelet,
    audit_log: &Path,
    samples: &RefCell<Vec<Sample>>,
) -> anyhow::Result<Infallible> {
    let (began, mut tail, mut asked) = (Instant::now(), Tail::begin(audit_log)?, HashMap::<String, Asked>::new());
    let mut beat = interval(EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        for entry in tail.entries()? {
            asked.entry(entry.pod().unwrap_or_default().to_owned()).or_default().add(&entry);
        }
        for pod in kubelet.pods() {
            let (at, asked) = (began.elapsed().as_secs_f64(), asked.get(pod.name()).copied().unwrap_or_default());
            // An error is a process that has just ended, is stopped, or does not serve yet.
            if let Ok(Ok(sample)) = timeout(SCRAPE, look(&pod, at, asked)).await {
                samples.borrow_mut().push(sample);
            }
        }
    }
}

async fn look(pod: &Running, at: f64, asked: Asked) -> anyhow::Result<Sample> {
    let process = pod.process()?;
    let metrics = pod.metrics_named("flux_bearer_").await?;
    let folder = Path::new("/proc").join(process.to_string());
    let memory = std::fs::read_to_string(folder.join("smaps_rollup"))?;
    let status = std::fs::read_to_string(folder.join("status"))?;
    let descriptors = std::fs::read_dir(folder.join("fd"))?.count();
    Ok(Sample {
        at,
        pod: pod.name().to_owned(),
        process,
        leads: sum(&metrics, "flux_bearer_leader", "") > 0.0,
        resident: field(&memory, "Rss:")?,
        proportional: field(&memory, "Pss:")?,
        descriptors: f64::from(u32::try_from(descriptors)?),
        threads: field(&status, "Threads:")?,
        tasks: sum(&metrics, "flux_bearer_tasks", ""),
        writes: sum(&metrics, "flux_bearer_secret_writes_total", "result=\"success\""),
        mints: sum(&metrics, "flux_bearer_mints_total", "result=\"success\""),
        requests: asked.all,
        lease_writes: asked.lease_writes,
    })
}

/// The number behind a name in a file of `/proc`.
fn field(text: &str, name: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {name}"))?;
    Ok(number.parse()?)
}

/// The sum of a metric's series that have this label.
fn sum(metrics: &[String], name: &str, label: &str) -> f64 {
    let of_metric = |line: &&String| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let chosen = metrics.iter().filter(of_metric).filter(|line| line.contains(label));
    // Of nothing, the sum of floats is -0.
    chosen.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
}

/// The samples as CSV.
pub(super) fn csv(samples: &[Sample]) -> Result<String, fmt::Error> {
    let mut text = String::from(
        "at_s,pod,process,leads,rss_kib,pss_kib,fds,threads,tasks,secret_writes,mints,requests,lease_writes\n",
    );
    for sample in samples {
        let Sample { at, pod, process, leads, resident, proportional, descriptors, threads, .. } = sample;
        let Sample { tasks, writes, mints, requests, lease_writes, .. } = sample;
        let leads = u8::from(*leads);
        write!(text, "{at:.0},{pod},{process},{leads},{resident},{proportional},{descriptors},{threads},")?;
        writeln!(text, "{tasks},{writes},{mints},{requests},{lease_writes}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test that can't go on ends; whole numbers are exact")]

    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series_and_of_no_other() {
        let lines = ["m_total{result=\"success\"} 3", "m_total{result=\"failure\"} 2", "m_total_more 9", "l 1"];
        let lines = lines.map(str::to_owned);
        assert_eq!(sum(&lines, "m_total", "result=\"success\""), 3.0);
        assert_eq!(sum(&lines, "m_total", ""), 5.0);
        assert_eq!(sum(&lines, "l", ""), 1.0);
        assert_eq!(sum(&lines, "none", ""), 0.0);
    }

    #[test]
    fn a_number_is_read_by_its_name() {
        let text = "00400000-7ffd ---p [rollup]\nRss:               10560 kB\nPss:                9000 kB\n";
        assert_eq!(field(text, "Pss:").unwrap(), 9000.0);
        assert!(field(text, "Swap:").is_err());
    }
}
