//! What the world has seen: one bounded list of requests, and counts that outlive it.
//!
//! A test asks it what a client did (how often it minted, whether it kept a `Retry-After`, whether a dead token ever
//! reached Git). No secret is in it: of a query only harmless parameters keep their value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Requests that are kept; older ones are forgotten, the counts are not.
const KEPT: usize = 10_000;

/// Query parameters whose value is no secret.
const HARMLESS: [&str; 8] =
    ["api-version", "resource", "client_id", "object_id", "msi_res_id", "service", "client-request-id", "stateFilter"];

/// Kind of endpoint that a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// Entra: `/common/discovery/instance`.
    InstanceDiscovery,
    /// Entra: `/{tenant}/v2.0/.well-known/openid-configuration`.
    OpenIdConfiguration,
    /// Entra: `/{tenant}/discovery/v2.0/keys`.
    Keys,
    /// Entra: `/{tenant}/oauth2/v2.0/token`.
    Token,
    /// Entra: `/{tenant}/oauth2/v2.0/devicecode`.
    DeviceCode,
    /// Instance metadata service.
    Imds,
    /// Azure Resource Manager.
    Arm,
    /// Azure DevOps REST.
    DevOps,
    /// Git `info/refs`.
    GitRefs,
    /// Git `git-upload-pack`: a fetch.
    GitUploadPack,
    /// Git `git-receive-pack`: a push.
    GitReceivePack,
    /// Any other path of a known host.
    Other,
}

impl Endpoint {
    /// The kind of endpoint that a path of the host is.
    pub(crate) fn of(host: &str, path: &str) -> Self {
        let azure_devops = host.ends_with("dev.azure.com") || host.ends_with(".visualstudio.com");
        match path {
            _ if host == "169.254.169.254" => Self::Imds,
            _ if host == "management.azure.com" => Self::Arm,
            _ if azure_devops => Self::of_devops(path),
            _ if path.ends_with("/discovery/instance") => Self::InstanceDiscovery,
            _ if path.ends_with("/.well-known/openid-configuration") => Self::OpenIdConfiguration,
            _ if path.ends_with("/keys") => Self::Keys,
            _ if path.ends_with("/token") => Self::Token,
            _ if path.ends_with("/devicecode") => Self::DeviceCode,
            _ => Self::Other,
        }
    }

    fn of_devops(path: &str) -> Self {
        match path {
            _ if path.contains("/_git/") && path.ends_with("/info/refs") => Self::GitRefs,
            _ if path.contains("/_git/") && path.ends_with("/git-upload-pack") => Self::GitUploadPack,
            _ if path.contains("/_git/") && path.ends_with("/git-receive-pack") => Self::GitReceivePack,
            _ if path.contains("/_apis") => Self::DevOps,
            _ => Self::Other,
        }
    }
}

/// What Azure DevOps or Azure Resource Manager made of the token that came with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenVerdict {
    /// There was none.
    None,
    /// It opened what was asked for.
    Valid,
    /// It is outside its validity window.
    Expired,
    /// It is no access token.
    Malformed,
    /// No key of this world signed it.
    UnknownSignature,
    /// It is for another resource.
    WrongAudience,
    /// It is good, but the organisation does not know its identity, or the organisation or subscription belongs to
    /// another tenant.
    NotMember,
    /// It is good and its identity known, but without the right (or the licence) that the request needs.
    NoRight,
}

impl TokenVerdict {
    /// Whether no one anywhere would accept the token: expired, malformed, unknown signature or wrong audience.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Expired | Self::Malformed | Self::UnknownSignature | Self::WrongAudience)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Number of the request, counted from 0.
    pub number: u64,
    /// Wall time of the world when it arrived.
    pub at: Timestamp,
    /// Milliseconds of monotonic time since the journal began: steps of the wall clock don't move it.
    pub elapsed_ms: u64,
    /// Kind of endpoint.
    pub endpoint: Endpoint,
    /// Host it was for.
    pub host: String,
    /// Method.
    pub method: String,
    /// Path, with the harmless part of the query.
    pub path: String,
    /// Status of the answer; none while there is none, and for a connection that ended without one.
    pub status: Option<u16>,
    /// Client id that asked for a token or whose token came along.
    pub client_id: Option<String>,
    /// Object id of the identity whose token came along.
    pub object_id: Option<String>,
    /// What became of the token, for Azure DevOps, Git and Azure Resource Manager.
    pub verdict: Option<TokenVerdict>,
    /// The AADSTS code of a refusal by Entra.
    pub code: Option<u32>,
}

/// Counts over everything seen since the last [`Journal::clear`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests that arrived, by kind of endpoint.
    pub requests: BTreeMap<Endpoint, u64>,
    /// Access tokens made, by client id. An answer of IMDS from its cache is none.
    pub mints: BTreeMap<String, u64>,
    /// Requests to Azure DevOps, Git or Azure Resource Manager, by what became of their token.
    pub verdicts: BTreeMap<TokenVerdict, u64>,
    /// Requests to IMDS beyond 20 a second or 5 at a time.
    pub imds_violations: u64,
}

/// The journal of a world. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<Mutex<Pages>>,
}

#[derive(Debug)]
struct Pages {
    began: Instant,
    next: u64,
    entries: VecDeque<Entry>,
    counts: Counts,
}

impl Default for Journal {
    fn default() -> Self {
        let pages = Pages { began: Instant::now(), next: 0, entries: VecDeque::new(), counts: Counts::default() };
        Self { inner: Arc::new(Mutex::new(pages)) }
    }
}

impl Journal {
    /// The requests that are kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// The kept requests for this kind of endpoint, oldest first.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Entry> {
        self.lock().entries.iter().filter(|entry| entry.endpoint == endpoint).cloned().collect()
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Access tokens that were made for this client id.
    pub fn mints(&self, client_id: &str) -> u64 {
        self.lock().counts.mints.get(&client_id.to_ascii_lowercase()).copied().unwrap_or_default()
    }

    /// Requests to Azure DevOps, Git or Azure Resource Manager that carried a token no one accepts ([`TokenVerdict::is_dead`]).
    pub fn dead_tokens_seen(&self) -> u64 {
        let pages = self.lock();
        pages.counts.verdicts.iter().filter(|(verdict, _)| verdict.is_dead()).map(|(_, count)| count).sum()
    }

    /// Forgets every request and every count. Numbers go on.
    pub fn clear(&self) {
        let mut pages = self.lock();
        pages.entries.clear();
        pages.counts = Counts::default();
    }

    /// Notes an arrival, before anything else happens to the request.
    pub(crate) fn arrive(&self, at: Timestamp, host: &str, method: &Method, uri: &Uri) -> Visit {
        let mut pages = self.lock();
        let number = pages.next;
        let endpoint = Endpoint::of(host, uri.path());
        let elapsed_ms = u64::try_from(pages.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (host, method, path) = (host.to_owned(), method.to_string(), without_secrets(uri));
        pages.next += 1;
        *pages.counts.requests.entry(endpoint).or_default() += 1;
        pages.entries.push_back(Entry {
            number,
            at,
            elapsed_ms,
            endpoint,
            host,
            method,
            path,
            status: None,
            client_id: None,
            object_id: None,
            verdict: None,
            code: None,
        });
        if pages.entries.len() > KEPT {
            pages.entries.pop_front();
        }
        drop(pages);
        Visit { journal: self.clone(), number }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has arrived: whoever serves it notes here what it saw.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    journal: Journal,
    number: u64,
}

impl Visit {
    /// An answer went out (or was made and then lost).
    pub(crate) fn answered(&self, status: StatusCode) {
        self.note(|entry| entry.status = Some(status.as_u16()));
    }

    /// The request names this client.
    pub(crate) fn client(&self, client_id: &str) {
        self.note(|entry| entry.client_id = Some(client_id.to_owned()));
    }

    /// An access token was made for this client.
    pub(crate) fn minted(&self, client_id: &str) {
        self.count(|counts| *counts.mints.entry(client_id.to_ascii_lowercase()).or_default() += 1);
    }

    /// Entra refused with this code.
    pub(crate) fn refused(&self, code: u32) {
        self.note(|entry| entry.code = Some(code));
    }

    /// The token that came along is this identity's.
    pub(crate) fn identity(&self, client_id: Option<&str>, object_id: &str) {
        self.note(|entry| {
            entry.client_id = client_id.map(ToOwned::to_owned);
            entry.object_id = Some(object_id.to_owned());
        });
    }

    /// What becomes of the token. Said once a request.
    pub(crate) fn judged(&self, verdict: TokenVerdict) {
        self.note(|entry| entry.verdict = Some(verdict));
        self.count(|counts| *counts.verdicts.entry(verdict).or_default() += 1);
    }

    /// The request is one more than IMDS allows.
    pub(crate) fn over_limit(&self) {
        self.count(|counts| counts.imds_violations += 1);
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.journal.lock().counts);
    }

    /// Changes the entry of this request, unless it has been forgotten.
    fn note(&self, change: impl FnOnce(&mut Entry)) {
        let mut pages = self.journal.lock();
        if let Some(entry) = pages.entries.iter_mut().rev().find(|entry| entry.number == self.number) {
            change(entry);
        }
    }
}

/// The path and query, with the values of all but harmless parameters left out.
fn without_secrets(uri: &Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let parameters = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if !HARMLESS.contains(&name) => format!("{name}=…"),
        _ => pair.to_owned(),
    });
    format!("{}?{}", uri.path(), parameters.collect::<Vec<_>>().join("&"))
}
