//! A Pod's probes: the kubelet's questions whether a container lives and is ready.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Container, Probe as Spec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{Instant, timeout};

use super::running::Running;
use crate::http_client;

/// Pause between two questions while the last answer was no.
const SOON: Duration = Duration::from_millis(500);

/// One probe, and what it has found.
pub(super) struct Probe {
    url: String,
    period: Duration,
    patience: Duration,
    allowed: i32,
    failures: i32,
    next: Instant,
    passing: bool,
}

impl Probe {
    /// The probe of `spec`. It passes from the beginning, or not until it first succeeds.
    pub(super) fn new(spec: &Spec, container: &Container, running: &Running, passing: bool) -> anyhow::Result<Self> {
        let get = spec.http_get.as_ref().context("a probe that is no httpGet is beyond this stand-in")?;
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let address = address(&get.port, container, running)?;
        Ok(Self {
            url: format!("http://{address}{}", get.path.as_deref().unwrap_or("/")),
            period: seconds(spec.period_seconds, 10),
            patience: seconds(spec.timeout_seconds, 1),
            allowed: spec.failure_threshold.unwrap_or(3),
            failures: 0,
            next: Instant::now() + seconds(spec.initial_delay_seconds, 0),
            passing,
        })
    }

    /// Asks if it is time; returns whether it passes.
    pub(super) async fn passes(&mut self) -> bool {
        if Instant::now() < self.next {
            return self.passing;
        }
        if matches!(timeout(self.patience, http_client::get(&self.url)).await, Ok(Ok(_))) {
            (self.failures, self.passing) = (0, true);
        } else {
            self.failures += 1;
            self.passing &= self.failures < self.allowed;
        }
        self.next = Instant::now() + if self.passing { self.period } else { SOON.min(self.period) };
        self.passing
    }
}

/// Where a port of the container is here.
fn address(port: &IntOrString, container: &Container, running: &Running) -> anyhow::Result<String> {
    let declared = container.ports.iter().flatten();
    let found = declared.into_iter().find(|declared| match port {
        IntOrString::Int(number) => declared.container_port == *number,
        IntOrString::String(name) => declared.name.as_ref() == Some(name),
    });
    match found.and_then(|port| port.name.as_deref()) {
        Some("healthz") => Ok(running.health()),
        Some("http-prom") => Ok(running.metrics()),
        // No flag moves it, and there is one Pod that has it.
        Some("http") => Ok(format!("127.0.0.1:{}", found.map_or(0, |port| port.container_port))),
        _ => bail!("the container has no port {port:?} named healthz, http-prom or http"),
    }
}
