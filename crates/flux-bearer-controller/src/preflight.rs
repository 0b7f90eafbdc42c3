//! Looks at the installation around the controller, at the start and every hour, and says what is wrong with it: the
//! definition, the policies, the projected token, the clock. Nothing waits for it and nothing is stopped by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::failure::Failure;
use flux_bearer::preflight::{self, DEFINITION, MAX_OFFSET, POLICIES};
use flux_bearer::resource::definition;
use flux_bearer_azure::workload::Assertion;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::kubernetes::{Found, Kubernetes};
use crate::lock;
use crate::metrics::Metrics;

/// How often the installation is looked at.
const AGAIN: Duration = Duration::from_secs(3600);

/// When it is looked at again after the API server could not tell.
const AGAIN_SOON: Duration = Duration::from_secs(60);

/// Where the definition is.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Where policies and their bindings are.
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// What it takes to look.
pub struct Preflight {
    /// The API that knows the definition and the policies.
    pub kubernetes: Kubernetes,
    /// The pod's projected token.
    pub assertion: Option<Arc<dyn Assertion>>,
    /// The audience that it has to have.
    pub audience: &'static str,
    /// Compares the API server's clock with ours.
    pub clocks: Clocks,
}

impl Preflight {
    /// Looks at the start and every hour, for ever; says each finding once, until it changes.
    pub async fn watch(self) {
        let mut told: Vec<Failure> = Vec::new();
        loop {
            let mut findings: Vec<Failure> = self.projected_token().await.into_iter().collect();
            let looked = self.installation(&mut findings).await;
            for finding in &findings {
                if !told.contains(finding) {
                    tracing::warn!(reason = finding.reason, "{}. {}", finding.cause, finding.fix);
                    told.push(finding.clone());
                }
            }
            // Half a look takes nothing back.
            if looked.is_ok() {
                told = findings;
            }
            sleep(if looked.is_ok() { AGAIN } else { AGAIN_SOON }).await;
        }
    }

    async fn projected_token(&self) -> Option<Failure> {
        let read = match &self.assertion {
            Some(assertion) => assertion.read().await.ok(),
            None => None,
        };
        preflight::projected_token(read.as_ref().map(ExposeSecret::expose_secret), self.audience)
    }

    /// Looks at what the API server knows; an error means that it could not tell all of it.
    async fn installation(&self, findings: &mut Vec<Failure>) -> Result<(), Failure> {
        let found = self.get::<CustomResourceDefinition>(&format!("{DEFINITIONS}/{DEFINITION}")).await?;
        let mut forbidden = matches!(found, Found::Forbidden);
        match found {
            Found::Object(theirs) => findings.extend(preflight::definition(Some(&theirs), &definition())),
            Found::Missing => findings.extend(preflight::definition(None, &definition())),
            Found::Forbidden => {}
        }
        for name in POLICIES {
            let installed = self.is_there(&format!("{ADMISSION}/validatingadmissionpolicies/{name}")).await?;
            let bound = self.is_there(&format!("{ADMISSION}/validatingadmissionpolicybindings/{name}")).await?;
            match (installed, bound) {
                (Some(installed), Some(bound)) => findings.extend(preflight::policy(name, installed, bound)),
                _ => forbidden = true,
            }
        }
        findings.extend(forbidden.then(preflight::forbidden));
        Ok(())
    }

    /// Whether there is an object at `path`; nothing when that may not be looked at.
    async fn is_there(&self, path: &str) -> Result<Option<bool>, Failure> {
        Ok(match self.get::<PartialObjectMeta>(path).await? {
            Found::Object(_) => Some(true),
            Found::Missing => Some(false),
            Found::Forbidden => None,
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Found<T>, Failure> {
        let (found, date) = self.kubernetes.find(path).await?;
        self.clocks.compare(Peer::Kubernetes, date);
        Ok(found)
    }
}

/// Whose clock is compared with ours.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Peer {
    /// The API server.
    Kubernetes,
    /// Whoever hands out tokens.
    Issuer,
}

impl Peer {
    /// As a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Issuer => "issuer",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Kubernetes => "the API server",
            Self::Issuer => "the issuer of the tokens",
        }
    }
}

/// Compares the clocks of others with ours; says that they differ by much once, until that changes. Clones share what was
/// said.
#[derive(Clone)]
pub struct Clocks {
    clock: Clock,
    metrics: Metrics,
    told: Arc<Mutex<HashMap<Peer, SignedDuration>>>,
}

impl Clocks {
    /// Compares with `clock`.
    pub fn new(clock: Clock, metrics: Metrics) -> Self {
        Self { clock, metrics, told: Arc::default() }
    }

    /// Compares with what `peer` said the time is at this moment; nothing where it said nothing.
    pub fn compare(&self, peer: Peer, theirs: Option<Timestamp>) {
        let Some(theirs) = theirs else { return };
        // A `Date` has whole seconds.
        let offset = SignedDuration::from_secs(self.clock.now().as_second() - theirs.as_second());
        self.metrics.clock_offset(peer.label(), offset);
        let mut told = lock(&self.told);
        match preflight::clock(offset, peer.in_words()) {
            Some(finding) => {
                let before = told.get(&peer).copied();
                if before.is_none_or(|before| (offset - before).abs() > MAX_OFFSET) {
                    told.insert(peer, offset);
                    tracing::warn!(
                        reason = finding.reason,
                        seconds = offset.as_secs(),
                        "{}. {}",
                        finding.cause,
                        finding.fix
                    );
                }
            }
            None => {
                if told.remove(&peer).is_some() {
                    tracing::info!("the clock of the controller's node agrees with that of {} again", peer.in_words());
                }
            }
        }
    }
}
