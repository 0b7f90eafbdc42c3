//! What comes from outside and is read here, each as one function that takes any bytes: for the fuzz targets in `fuzz/`, and
//! for `tests/fuzz.rs`, which runs them a little without nightly.
//!
//! Guarantees: a function returns, whatever it is given, and panics only where something does not hold that must. The
//! bytes may hold [`CANARY`]; whatever is said about them may not.
#![allow(clippy::missing_panics_doc, reason = "to panic is how a target tells what it has found")]

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flux_bearer::decide::Action;
use flux_bearer::failure::operator::{Asked, azure_cli};
use flux_bearer::failure::{Class, Failure, MAX_RETRY_AFTER};
use flux_bearer::identity::{Identity, Pod, Selector};
use flux_bearer::repository::{Repository, is_azure_devops};
use flux_bearer::resource::Format;
use flux_bearer::schedule::{Failing, MAX_REFRESH_INTERVAL, refresh_at};
use flux_bearer::token::{Grant, Token};
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::headers::{retry_after, server_time};
use flux_bearer_azure::http::{BoxError, Http};
use flux_bearer_azure::mint::{Azure, Credential};
use flux_bearer_azure::probe::probe;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_controller::index::{Index, Key, Source};
use flux_bearer_controller::mints::States;
use flux_bearer_controller::observe::decide_about;
use flux_bearer_controller::watch::{Object, seen};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use kube::core::ObjectMeta;
use secrecy::SecretString;
use serde_json::Value;
use tower::service_fn;
use url::Url;

use crate::identities::{REPOSITORY, TENANT, client};

/// What stands for a secret in the bytes.
pub const CANARY: &str = "canary~7f3a9c~canary";

/// The time at which everything is read.
const NOW: Timestamp = Timestamp::constant(1_796_112_000, 0);

/// Longest life of a token that is believed.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 9] = [
    ("token_response", token_response),
    ("token_claims", token_claims),
    ("imds_response", imds_response),
    ("entra_error", entra_error),
    ("devops_answer", devops_answer),
    ("git_url", git_url),
    ("bearer_token", bearer_token),
    ("headers", headers),
    ("azure_cli_error", azure_cli_error),
];

/// An answer of Entra ID: a status, headers, an empty line and a body.
pub fn token_response(data: &[u8]) {
    let identity = federated();
    minted(answer(data), &identity, Credential::Assertion(Arc::new(Projected)));
}

/// An answer of the metadata service, written the same way.
pub fn imds_response(data: &[u8]) {
    minted(answer(data), &Identity::ManagedIdentity { selector: Selector::System }, Credential::None);
}

/// The body of a refusal of Entra ID.
pub fn entra_error(data: &[u8]) {
    let mut refusal = Response::new(Bytes::copy_from_slice(data));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    let failed = minted(refusal, &federated(), Credential::Assertion(Arc::new(Projected)));
    assert!(failed, "a refusal brought a token");
}

/// The claims of a token, and the token itself.
pub fn token_claims(data: &[u8]) {
    let claims = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    for token in [claims, String::from_utf8_lossy(data).into_owned()] {
        for identity in [federated(), Identity::ManagedIdentity { selector: Selector::ClientId(client(1)) }] {
            let grant = Grant {
                secret: SecretString::from(token.clone()),
                expires_in: Some(Duration::from_secs(3600)),
                expires_on: None,
                refresh_in: None,
                server_time: Some(NOW),
            };
            accepted(grant, &identity);
        }
    }
}

/// An answer of Azure DevOps to Git's first request.
pub fn devops_answer(data: &[u8]) {
    let Ok(repository) = Repository::parse(REPOSITORY) else { return };
    let token = SecretString::from(CANARY);
    if let Err(failure) = settled(probe(&answers(answer(data)), &repository, &token)) {
        told(&failure);
    }
}

/// The URL of a repository.
pub fn git_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let with_password = text.replacen("https://", &format!("https://user:{CANARY}@"), 1);
    match Repository::parse(&with_password) {
        Ok(repository) if !text.contains(CANARY) => {
            assert!(!format!("{repository} {repository:?}").contains(CANARY), "a password is shown");
        }
        Ok(_) => {}
        Err(failure) => told(&failure),
    }
    let Ok(repository) = Repository::parse(&text) else { return };
    let to = Url::parse(&repository.info_refs("git-upload-pack"));
    let to = to.ok().and_then(|url| Some((url.scheme() == "https", is_azure_devops(url.host_str()?))));
    assert_eq!(to, Some((true, true)), "a token would leave for somewhere else");
    let again = Repository::parse(&repository.canonical());
    let parts = |repository: &Repository| {
        (repository.organization(), repository.project(), repository.repository(), repository.canonical())
    };
    assert_eq!(
        again.ok().as_ref().map(parts),
        Some(parts(&repository)),
        "written another way it is another repository"
    );
    for failure in [repository.check_formats(&[Format::Bearer]), repository.check_source(&[Format::Token])] {
        failure.err().iter().for_each(told);
    }
}

/// A BearerToken, a GitRepository that uses its Secret, and that Secret's metadata, as what is done next.
pub fn bearer_token(data: &[u8]) {
    let Ok(Value::Object(mut parts)) = serde_json::from_slice::<Value>(data) else { return };
    let mut part = |name: &str| parts.remove(name).unwrap_or_default();
    let Ok(object) = serde_json::from_value::<Object>(part("bearerToken")) else { return };
    let mut index = Index::new(Pod {
        namespace: "flux-system".into(),
        tenant_id: Some(TENANT.into()),
        client_id: Some(client(0)),
        allowed: Vec::new(),
    });
    let key = Key::new("flux-system", "fleet");
    index.bearer_token(&key, seen(object), NOW);
    if let Ok(source) = serde_json::from_value::<Object>(part("gitRepository")) {
        index.source(&key, Source::read(&source));
    }
    let mints = States::default();
    let decide = |index: &Index| decide_about(index, &mints, &key, MAX_REFRESH_INTERVAL, NOW);
    let first = decide(&index);
    assert!(first.is_some(), "a BearerToken is not decided about");
    let metadata: Option<ObjectMeta> = serde_json::from_value(part("secret")).ok();
    let secret = index.get(&key).map(|entry| Arc::clone(&entry.secret)).unwrap_or_default();
    index.secret(&key.beside(&secret), metadata.as_ref());
    let Some((decision, entry)) = decide(&index).zip(index.get(&key)) else { return };
    assert!(!matches!(decision.action, Action::Write(_)), "there is nothing to write yet");
    let status = decision.report.status(&entry.status, entry.generation, NOW);
    assert!(!status.conditions.is_empty() || !matches!(decision.action, Action::Rest), "it rests and says nothing");
}

/// Headers that tell a time.
pub fn headers(data: &[u8]) {
    let headers = head(&String::from_utf8_lossy(data)).1;
    let (asked, clock) = (retry_after(&headers), server_time(&headers));
    let failure = Failure::new("Fuzzed", Class::Transient, "Fuzzed", "cause", "fix").retry_after(asked);
    let failing = Failing::after(None, failure, None, clock.unwrap_or(NOW));
    let pause = failing.retry_at.duration_since(failing.at);
    assert!(pause.unsigned_abs() <= MAX_RETRY_AFTER, "asked to wait for {pause:?}");
}

/// What Azure CLI says when it fails.
pub fn azure_cli_error(data: &[u8]) {
    let (status, text) = data.split_first().unwrap_or((&0, &[]));
    let asked = Asked { tenant: Some(TENANT), scope: "499b84ac-1321-427f-aa17-267ca6975798/.default" };
    told(&azure_cli(Some(i32::from(*status)), &String::from_utf8_lossy(text), asked));
}

fn federated() -> Identity {
    Identity::WorkloadIdentity { tenant_id: TENANT.into(), client_id: client(0) }
}

/// Signs in where this is the answer, whatever is asked; returns whether that failed.
fn minted(answer: Response<Bytes>, identity: &Identity, credential: Credential) -> bool {
    let http = answers(answer);
    let azure = Azure::new(http.clone(), http, Authority::default());
    match settled(azure.mint(identity, credential)) {
        Ok(grant) => accepted(grant, identity),
        Err(failure) => {
            told(&failure);
            return true;
        }
    }
    false
}

/// A token that is accepted lives, for as long as is believed, and is replaced before its end.
fn accepted(grant: Grant, identity: &Identity) {
    match Token::accept(grant, identity, NOW) {
        Ok(token) => {
            let lives = token.expires_at.duration_since(NOW);
            assert!(lives.is_positive() && lives.unsigned_abs() <= WEEK, "a token that lives for {lives:?}");
            let replaced = refresh_at(NOW, token.expires_at, token.refresh_hint, MAX_REFRESH_INTERVAL, "uid");
            assert!(replaced > NOW, "a token is replaced at once");
            assert!(!format!("{token:?}").contains(CANARY), "a token is shown");
        }
        Err(failure) => told(&failure),
    }
}

/// What is said of a failure holds no secret.
fn told(failure: &Failure) {
    assert!(!format!("{failure} {failure:?}").contains(CANARY), "a secret is told: {failure:?}");
}

/// Every request gets this answer.
fn answers(answer: Response<Bytes>) -> Http {
    Http::new(service_fn(move |_| ready(Ok::<_, BoxError>(answer.clone().map(Full::new)))))
}

/// An answer as it is written down: its status, its headers, an empty line, and its body.
fn answer(data: &[u8]) -> Response<Bytes> {
    let text = String::from_utf8_lossy(data);
    let (before, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (status, headers) = head(before);
    let mut answer = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    *answer.headers_mut() = headers;
    answer
}

/// A status, where the first line is one, and as many headers as can be read.
fn head(text: &str) -> (u16, HeaderMap) {
    let status = text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(200);
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).take(100).collect();
    let header = |(name, value): (&str, &str)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    };
    (status, lines.into_iter().filter_map(header).collect())
}

/// Waits for `work` on a clock of its own, on which no wait takes long.
fn settled<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: std::io::Result<tokio::runtime::Runtime> =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    }
    RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => unreachable!("no runtime on this thread: {error}"),
    })
}

struct Projected;

impl Assertion for Projected {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        ready(Ok(SecretString::from(format!("e30.e30.{CANARY}")))).boxed()
    }
}
