//! The world as the edge serves it: the state file, the machine's clock, the issuers' network and Git on disk.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use tower::{BoxError, ServiceExt};

use super::backend::HttpBackend;
use super::issuer_client;
use crate::admin;
use crate::clock::Clock;
use crate::service::Service;
use crate::state::State;
use crate::world::World;

/// A state file with comments, served where none is given.
pub const EXAMPLE: &str = include_str!("../../example.yaml");

/// A world that is ready to be put on sockets.
#[derive(Debug)]
pub struct Simulation {
    /// All of Azure, by the host of a request.
    pub service: Service,
    /// The admin API.
    pub admin: Service,
    /// The names that must lead to `service`. Organisations that are added later have none on visualstudio.com.
    pub hosts: Vec<String>,
    /// Files of the CAs of issuers, whether they exist yet or not.
    pub issuer_ca_files: Vec<PathBuf>,
}

impl Simulation {
    /// The world of this state file, or of the example, on the machine's clock.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let state = read(file)?;
        let (hosts, issuer_ca_files) = (hosts(&state), ca_files(&state));
        let world = World::new(state, machine_clock()).context("can't make the world")?;
        let known = world.clone();
        let world = world
            .with_issuer_client(issuer_client::client(move || ca_files(&known.state())))
            .with_git_backend(Arc::new(HttpBackend::new(search_path())));
        let admin = ServiceExt::<Request<Body>>::map_err(admin::router(world.clone()), BoxError::from);
        Ok(Self { service: world.service(), admin: Service::new(admin), hosts, issuer_ca_files })
    }
}

fn ca_files(state: &State) -> Vec<PathBuf> {
    state.issuers.iter().filter_map(|issuer| issuer.ca_file.as_ref()).map(PathBuf::from).collect()
}

fn read(file: Option<&Path>) -> anyhow::Result<State> {
    let Some(file) = file else { return Ok(State::from_yaml(EXAMPLE)?) };
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    State::from_yaml(&text).with_context(|| format!("{} is no state", file.display()))
}

/// The world's names, the older name of each organisation, and that of the token proxy. Addresses need no name to lead anywhere.
fn hosts(state: &State) -> Vec<String> {
    let names = World::hosts().iter().filter(|host| host.parse::<IpAddr>().is_err());
    let organizations = state.organizations.iter();
    let older = organizations.map(|one| format!("{}.visualstudio.com", one.name.to_ascii_lowercase()));
    let proxy = state.token_proxy.iter().map(|proxy| proxy.host.clone());
    names.map(|&name| name.to_owned()).chain(older).chain(proxy).collect()
}

#[expect(clippy::disallowed_methods, reason = "the edge: a world on real sockets starts at the machine's time")]
fn machine_clock() -> Clock {
    Clock::starting_at(Timestamp::now())
}

#[expect(clippy::disallowed_methods, reason = "the edge: Git is found where this program's user has it")]
fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_state() {
        let state = State::from_yaml(EXAMPLE).unwrap();
        let organization = state.organization("contoso").unwrap();
        let project = organization.project("platform").unwrap();
        assert!(organization.repository(project, "fleet").is_some());
        assert!(!state.tenants[0].applications[0].federated_credentials.is_empty());
    }

    #[test]
    fn the_names_are_azures_and_the_organisations() {
        let hosts = hosts(&State::from_yaml(EXAMPLE).unwrap());
        for name in ["login.microsoftonline.com", "dev.azure.com", "contoso.visualstudio.com"] {
            assert!(hosts.iter().any(|host| host == name), "{name} is missing from {hosts:?}");
        }
        assert!(hosts.iter().all(|host| host.parse::<IpAddr>().is_err()));
    }

    #[test]
    fn the_token_proxy_has_the_name_that_the_state_gives_it() {
        let mut state = State::from_yaml(EXAMPLE).unwrap();
        let issuer = state.issuers[0].issuer.clone();
        let proxy = serde_json::json!({"host": "token-proxy.example", "issuer": issuer});
        state.token_proxy = Some(serde_json::from_value(proxy).unwrap());
        assert!(hosts(&state).contains(&"token-proxy.example".to_owned()));
    }
}
