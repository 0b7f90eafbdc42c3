//! Dropped packets: a server that is there and is never heard, as behind a firewall. Programs see connections that are never
//! made, and open ones on which nothing comes any more.
//!
//! Made of routing rules, because these come with the `ip` that the namespace is made with: a packet filter might be missing.

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The API server, as every Pod is told.
pub(crate) const API_SERVER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 6443);

/// Azure, Entra ID and Azure DevOps alike.
pub(crate) const AZURE: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(127, 0, 77, 1), 443);

// Places in the order of rules. What delivers to addresses of this machine comes first by default: nothing could be before it.
const FIRST: &str = "0";
const OURS: &str = "50";
const AFTER_OURS: &str = "100";

/// Packets that are dropped until this is.
#[must_use = "dropped, packets pass again"]
pub(crate) struct Drops {
    rules: usize,
}

impl Drops {
    /// Drops all that this server sends.
    pub(crate) fn of(server: SocketAddrV4) -> anyhow::Result<Self> {
        Self::with(server, &[None])
    }

    /// Drops what this server sends on the connections that a process has to it now, and on no later one: so does a gateway
    /// that has forgotten them.
    pub(crate) fn of_connections(server: SocketAddrV4, process: u32) -> anyhow::Result<Self> {
        let ports = ports(server, process)?;
        ensure!(!ports.is_empty(), "process {process} has no connection to {server}");
        Self::with(server, &ports.into_iter().map(Some).collect::<Vec<_>>())
    }

    /// How many rules there are, one a connection where not all of the server's are meant.
    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    fn with(server: SocketAddrV4, clients: &[Option<u16>]) -> anyhow::Result<Self> {
        let mut drops = Self { rules: 0 };
        rule("add", &deliver(AFTER_OURS))?;
        for client in clients {
            let (address, port) = (server.ip().to_string(), server.port().to_string());
            let to = client.map(|port| port.to_string());
            let mut words = vec!["pref", OURS, "from", &address, "ipproto", "tcp", "sport", &port];
            words.extend(to.iter().flat_map(|to| ["dport", to]));
            // A packet that finds no way is dropped; whoever sends on a connection sends it again, as after any loss.
            words.push("blackhole");
            rule("add", &words)?;
            drops.rules += 1;
        }
        rule("del", &deliver(FIRST))?;
        Ok(drops)
    }

    fn end(&self) -> anyhow::Result<()> {
        rule("add", &deliver(FIRST))?;
        for _ in 0..self.rules {
            rule("del", &["pref", OURS])?;
        }
        rule("del", &deliver(AFTER_OURS))
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("packets go on being dropped: {error:#}");
        }
    }
}

/// The process's own ports of its connections to a server.
fn ports(server: SocketAddrV4, process: u32) -> anyhow::Result<Vec<u16>> {
    let folder = Path::new("/proc").join(process.to_string());
    let sockets: HashSet<String> = std::fs::read_dir(folder.join("fd"))?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(folder.join("net/tcp")).context("can't read its connections")?;
    let there = format!(":{:04X}", server.port());
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, socket) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
        let port = local.split_once(':').map(|(_, port)| u16::from_str_radix(port, 16))?.ok()?;
        (remote.ends_with(&there) && sockets.contains(*socket)).then_some(port)
    };
    Ok(table.lines().skip(1).filter_map(port).collect())
}

/// The rule that delivers to addresses of this machine, at this place in the order.
fn deliver(place: &str) -> [&str; 4] {
    ["pref", place, "lookup", "local"]
}

fn rule(verb: &str, words: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("ip").args(["rule", verb]).args(words).stdin(Stdio::null()).output();
    let done = done.context("can't run ip (package iproute2)")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "`ip rule {verb} {}` failed: {}", words.join(" "), said.trim());
    Ok(())
}
