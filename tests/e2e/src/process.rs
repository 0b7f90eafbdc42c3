//! A program that runs beside the tests, with its log in a file, killed when it is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Time that a program gets to become ready. The API server needs 3 s on an idle machine.
const READY: Duration = Duration::from_secs(60);

/// Pause between two looks whether it is.
const PAUSE: Duration = Duration::from_millis(50);

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `NAME.log` in `logs`.
    pub(crate) fn start(name: &str, command: &mut Command, logs: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("can't start {name}: {:?}", command.as_std()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `look` succeeds; fails at once when the program ends instead.
    pub(crate) async fn ready(&mut self, mut look: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        while let Err(error) = look().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it was ready", self.name);
            }
            if Instant::now() >= deadline {
                return Err(error.context(format!("{} was not ready after {} s", self.name, READY.as_secs())));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("can't wait for {}", self.name))
    }

    /// Ends it with SIGKILL, as a machine that fails does.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("can't kill {}", self.name))
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}
