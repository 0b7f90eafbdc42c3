//! `flux-bearer-sim run`: a command inside a network and mount namespace where Azure's names lead to the simulator.
//!
//! The program replaces itself by util-linux `unshare`, which starts it again inside (subcommand `inside`). Entering a
//! namespace from within would take system calls that are unsafe beside running threads.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio::process::{Child, Command};

use super::cli::{InsideArguments, RunArguments};
use super::folder::Folder;
use super::hosts;
use super::listen;
use super::serve::{End, bind};
use super::tls::Authority;
use super::trust;
use super::wiring::Simulation;

/// Where Azure's names lead: a loopback address that nothing else uses, so that a command may have 127.0.0.1:443 itself.
const AZURE: SocketAddr = socket([127, 0, 77, 1], 443);
/// The admin API.
const ADMIN: SocketAddr = socket([127, 0, 77, 1], 8099);
/// The instance metadata service, where every Azure machine has it.
const IMDS: SocketAddr = socket([169, 254, 169, 254], 80);

/// What `unshare` is tried with: as root, then as an ordinary user (or a root without rights) in a user namespace.
const UNSHARE: [&str; 2] = ["-mn", "-rmn"];

/// Variables that would lead a command past the simulator.
const PROXIES: [&str; 8] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// Added to every error of a machine that can't do this.
const INSTEAD: &str = "without namespaces `flux-bearer-sim serve` is the way (all but IMDS)";

const fn socket(address: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::from_octets(address)), port)
}

/// Goes on as `flux-bearer-sim inside` in a namespace of its own, under the same process id; returns only on failure.
pub async fn run(arguments: &RunArguments) -> anyhow::Result<std::convert::Infallible> {
    let flags = usable_flags().await?;
    let program = std::env::current_exe().context("can't find this program's own file")?;
    let mut unshare = std::process::Command::new("unshare");
    unshare.arg(flags).arg("--").arg(program).arg("inside").arg("--outside").arg(mount_namespace()?);
    unshare.args(arguments.as_words());
    Err(anyhow!(unshare.exec()).context("can't run unshare"))
}

/// The flags that work on this machine.
async fn usable_flags() -> anyhow::Result<&'static str> {
    let mut said = String::new();
    for flags in UNSHARE {
        let tried = Command::new("unshare").args([flags, "true"]).stdin(Stdio::null()).output().await;
        let tried = tried.map_err(|error| missing("unshare", "util-linux", &error))?;
        if tried.status.success() {
            return Ok(flags);
        }
        said = String::from_utf8_lossy(&tried.stderr).into_owned();
    }
    bail!("this machine lets nobody make a namespace ({}): {INSTEAD}", said.trim())
}

fn missing(program: &str, package: &str, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => anyhow!("the program `{program}` (package {package}) is not in PATH: {INSTEAD}"),
        _ => anyhow!("can't run `{program}`: {error}: {INSTEAD}"),
    }
}

/// The name of this process's mount namespace, for example `mnt:[4026531841]`.
fn mount_namespace() -> anyhow::Result<PathBuf> {
    std::fs::read_link("/proc/self/ns/mnt").context("can't read /proc/self/ns/mnt (run works on Linux only)")
}

/// Runs the command in the namespace that this process has been started in; its status.
pub async fn inside(arguments: &InsideArguments) -> anyhow::Result<ExitStatus> {
    if mount_namespace()?.as_os_str() == arguments.outside {
        bail!("this is the machine's own namespace, whose files stay untouched: use `flux-bearer-sim run`");
    }
    let mut end = End::listen()?;
    let simulation = Simulation::load(arguments.run.state.as_deref())?;
    let folder = Folder::create().context("can't make a temporary folder")?;
    lead_here(&folder, &simulation.hosts).await?;
    let authority = Arc::new(Authority::generate()?);
    let bundle = trust::bundle(&authority.pem(), &arguments.run.ca_file, &simulation.issuer_ca_files)?;
    let bundle = folder.write("ca.pem", &bundle).context("can't write the trust bundle")?;
    open(simulation, &authority).await?;
    let child = command(&arguments.run.command, &bundle)?;
    wait(child, &mut end).await
}

/// Brings up the interface and binds the files that give Azure's names to it.
async fn lead_here(folder: &Folder, names: &[String]) -> anyhow::Result<()> {
    tool("ip", "iproute2", &["link", "set", "lo", "up"]).await?;
    tool("ip", "iproute2", &["addr", "add", &format!("{}/32", IMDS.ip()), "dev", "lo"]).await?;
    let names = hosts::render(AZURE.ip(), names, &machine_name());
    show(folder, "hosts", &names).await?;
    // Where the machine has no such file, its C library does without and reads hosts alone.
    for (name, content) in [("nsswitch.conf", "hosts: files\n"), ("resolv.conf", "")] {
        if etc(name).exists() {
            show(folder, name, content).await?;
        }
    }
    Ok(())
}

fn etc(name: &str) -> PathBuf {
    Path::new("/etc").join(name)
}

/// Shows `content` as the file of this name in /etc.
async fn show(folder: &Folder, name: &str, content: &str) -> anyhow::Result<()> {
    let file = folder.write(name, content).with_context(|| format!("can't write {name}"))?;
    tool("mount", "util-linux", &["--bind", &file.to_string_lossy(), &etc(name).to_string_lossy()]).await
}

async fn tool(program: &str, package: &str, words: &[&str]) -> anyhow::Result<()> {
    let done = Command::new(program).args(words).stdin(Stdio::null()).output().await;
    let done = done.map_err(|error| missing(program, package, &error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    bail!("`{program} {}` failed ({said}): {INSTEAD}", words.join(" "))
}

/// The machine's own name, which must still resolve; empty where the kernel doesn't say.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

async fn open(simulation: Simulation, authority: &Arc<Authority>) -> anyhow::Result<()> {
    let tls = authority.server_config(AZURE.ip())?;
    tokio::spawn(listen::tls(bind(AZURE).await?, tls, simulation.service.clone()));
    tokio::spawn(listen::plain(bind(IMDS).await?, simulation.service));
    tokio::spawn(listen::plain(bind(ADMIN).await?, simulation.admin));
    Ok(())
}

fn command(words: &[OsString], bundle: &Path) -> anyhow::Result<Child> {
    let (program, words) = words.split_first().context("there is no command to run")?;
    let mut command = Command::new(program);
    command.args(words).kill_on_drop(true);
    for name in PROXIES {
        command.env_remove(name);
    }
    command.envs(trust::CA_VARIABLES.map(|name| (name, bundle)));
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env(trust::ADMIN_VARIABLE, format!("http://{ADMIN}"));
    command.spawn().with_context(|| format!("can't run `{}`", program.to_string_lossy()))
}

/// Waits for the command and passes signals on to it.
async fn wait(mut child: Child, end: &mut End) -> anyhow::Result<ExitStatus> {
    // Ctrl-C reaches the command from the terminal by itself; a second one would read as "at once".
    let from_terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            status = child.wait() => return status.context("can't wait for the command"),
            _ = end.terminate.recv() => send(&child, "TERM").await,
            _ = end.interrupt.recv(), if !from_terminal => send(&child, "INT").await,
        }
    }
}

/// Sends a signal with the shell's own `kill`: the standard library can only kill outright.
async fn send(child: &Child, signal: &str) {
    let Some(process) = child.id() else { return };
    let sent = Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, signal, &process.to_string()]).status().await;
    if let Err(error) = sent {
        tracing::warn!(%error, signal, "can't pass the signal on");
    }
}

/// The status to end with: the command's own, or 128 and the number of the signal that ended it, as shells have it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_out() {
        let error = missing("ip", "iproute2", &ErrorKind::NotFound.into()).to_string();
        assert!(error.contains("`ip` (package iproute2)") && error.contains("flux-bearer-sim serve"), "{error}");
    }
}
