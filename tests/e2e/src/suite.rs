//! Runs tests one after the other, and tells how they ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::time::{Instant, timeout};

use crate::canary::Canary;
use crate::rights::Used;
use crate::tests::{ALL, Test};
use crate::world::Run;

/// Time for one test: the longest waits for five lifetimes of 20 s.
const LIMIT: Duration = Duration::from_secs(300);

/// Lines of each log that are shown after a failure.
const TAIL: usize = 25;

/// Runs every test whose name contains `name`; returns whether all passed. Then the folder of the run is removed.
pub(crate) async fn run(run: &Run, name: &str) -> anyhow::Result<bool> {
    let chosen: Vec<&Test> = ALL.iter().filter(|test| test.name.contains(name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|test| test.name).collect();
        bail!("no test's name contains {name:?}; there are {}", names.join(", "));
    }
    let (mut failed, mut used, mut canary) = (Vec::new(), Used::default(), Canary::new()?);
    for test in &chosen {
        if let Err(error) = one(run, test, &mut canary).await {
            failed.push((test.name, error));
        }
        let log = run.folder.join(test.name).join("audit.log");
        // A test without a cluster has none.
        if log.exists() {
            used.add(&log)?;
        }
    }
    println!("looked for credentials in {}", canary.told());
    let allowed = used.tell();
    if !allowed {
        println!("FAILED: the controller used a right that the design does not give it");
    }
    let passed = failed.is_empty() && allowed;
    if passed {
        std::fs::remove_dir_all(&run.folder).with_context(|| format!("can't remove {}", run.folder.display()))?;
    }
    // Once more, and last: of a long output often the end alone is kept.
    for (name, error) in &failed {
        println!("FAILED: {name}: {error:#}");
    }
    println!("{} passed, {} failed", chosen.len() - failed.len(), failed.len());
    Ok(passed)
}

async fn one(run: &Run, test: &Test, canary: &mut Canary) -> anyhow::Result<()> {
    let began = Instant::now();
    let ended = tokio::select! {
        ended = timeout(LIMIT, (test.run)(run)) => ended,
        never = canary.watch() => match never {},
    };
    let seconds = began.elapsed().as_secs_f64();
    let folder = run.folder.join(test.name);
    let ended = ended.unwrap_or_else(|_| Err(anyhow!("not done after {} s", LIMIT.as_secs())));
    let Err(error) = ended.and(canary.check(&folder)) else {
        println!("{seconds:7.1} s  {}: passed", test.name);
        return Ok(());
    };
    if let Err(unread) = show_logs(&folder.join("logs")) {
        println!("the logs can't be shown: {unread:#}");
    }
    println!("{seconds:7.1} s  {}: FAILED: {error:#}\n           its files: {}", test.name, folder.display());
    Err(error)
}

fn show_logs(logs: &Path) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(logs).with_context(|| format!("can't read {}", logs.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let lines: Vec<&str> = text.lines().collect();
        println!("---- the end of {}", file.display());
        lines.iter().skip(lines.len().saturating_sub(TAIL)).for_each(|line| println!("{line}"));
    }
    println!("----");
    Ok(())
}
