//! A container: its process, in namespaces and a root filesystem of its own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::image::Image;
use super::plan::Plan;
use super::running::{Running, Signal};
use crate::process::Process;

/// What becomes the container's first process.
const ENTER: &str = include_str!("enter.sh");

/// Time in which a process shows up.
const APPEARS: Duration = Duration::from_secs(5);

/// Pause between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(10);

/// A running container. Dropped, it is killed.
pub(super) struct Container {
    unshare: Process,
    running: Running,
}

impl Container {
    /// Starts what `plan` says, with its files in `folder`.
    pub(super) async fn start(plan: &Plan, image: &Image, running: &Running, folder: &Path) -> anyhow::Result<Self> {
        let (enter, mounts) = (folder.join("enter.sh"), folder.join("mounts"));
        std::fs::write(&enter, ENTER)?;
        std::fs::write(&mounts, prepared(plan, image)?)?;
        let mut command = Command::new("unshare");
        // A process namespace, because a container's process has the id 1, by which it calls itself in the lease.
        command.args(["--mount", "--pid", "--fork", "sh"]).arg(enter).arg(image.root());
        command.args([if plan.read_only { "ro" } else { "rw" }, plan.user.as_deref().unwrap_or_default()]);
        command.arg(mounts).args(&plan.command).env_clear().envs(plan.environment.iter().cloned());
        let logs = running.logs();
        let unshare = Process::start(running.name(), &mut command, logs)?;
        let outer = unshare.id().context("it ended at once")?;
        let inner = appears(outer).await?;
        running.started(inner);
        Ok(Self { unshare, running: running.clone() })
    }

    /// How it ended, once it has.
    pub(super) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.unshare.ended().await?;
        self.running.ended();
        Ok(status)
    }

    /// Asks it to end, and kills it when it has not after `grace`.
    pub(super) async fn stop(mut self, grace: Duration) -> anyhow::Result<()> {
        self.running.signal(Signal::Terminate).await?;
        if timeout(grace, self.ended()).await.is_err() {
            self.running.signal(Signal::Kill).await?;
            self.ended().await?;
        }
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its first process has to be killed: `unshare` around it can't pass a signal on to another user's process.
        let Some(process) = self.running.ended() else { return };
        let killed = std::process::Command::new("kill").args(["-s", "KILL", &process.to_string()]).status();
        if !killed.is_ok_and(|status| status.success()) {
            eprintln!("{} is left running as process {process}", self.running.name());
        }
    }
}

/// The mounts as lines, once there is a place for each.
fn prepared(plan: &Plan, image: &Image) -> anyhow::Result<String> {
    let mut lines = String::new();
    for mount in image.mounts().iter().chain(&plan.mounts) {
        image.prepare(mount)?;
        let how = if mount.read_only { "ro" } else { "rw" };
        writeln!(lines, "{} {} {how}", mount.source.display(), mount.target)?;
    }
    Ok(lines)
}

/// The one child of the process `parent`, once it is there.
async fn appears(parent: u32) -> anyhow::Result<u32> {
    let deadline = Instant::now() + APPEARS;
    loop {
        match child(parent) {
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            found => return found.context("the container has no process"),
        }
    }
}

/// The one child of the process `parent`.
fn child(parent: u32) -> anyhow::Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    Ok(children.split_whitespace().next().context("it has no child")?.parse()?)
}
