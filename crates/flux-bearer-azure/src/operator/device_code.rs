//! A person in a browser, on whatever machine has one: the device authorization grant.
//!
//! Wire format: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code> and RFC 8628.

use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Class, Failure, Unreachable, operator};
use flux_bearer::token::Grant;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{Resource, SignIn};
use crate::entra::{self, Answer, Authority, Endpoint, Form};
use crate::grant::refresh_token;
use crate::http::Http;

/// Microsoft Azure CLI: a public client that every tenant knows, and that may ask for both resources.
const CLIENT_ID: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

/// The tenant of a sign-in that names none: whichever the person belongs to.
const ANY_TENANT: &str = "organizations";

/// Longest that a person is waited for. Entra ID's codes live a quarter of an hour.
const MAX_PATIENCE: Duration = Duration::from_mins(15);

/// Time between two polls where Entra ID names none, and what `slow_down` adds, by RFC 8628.
const INTERVAL: Duration = Duration::from_secs(5);

/// Longest time between two polls, whatever is asked for: the person waits for it after signing in.
const MAX_INTERVAL: Duration = Duration::from_mins(1);

/// Longest code that is shown, in bytes. Real ones have nine letters.
const MAX_USER_CODE: usize = 32;

/// What a person has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What to enter: letters, digits and dashes.
    pub user_code: String,
    /// Where to enter it: an https URL.
    pub verification_uri: String,
    /// How long the code can be entered.
    pub expires_in: Duration,
}

/// Signs in as the person who enters a code.
///
/// A person is asked once: the refresh token of the first sign-in gets the tokens of further resources and later ones.
pub struct DeviceCode {
    http: Http,
    authority: Authority,
    show: Box<dyn Fn(&Prompt) + Send + Sync>,
    refresh_token: Mutex<Option<SecretString>>,
}

/// What an answer hands out, with the refresh token where there is one.
type SignedIn = (Grant, Option<SecretString>);

/// What a poll found.
enum Poll {
    SignedIn(SignedIn),
    /// Nobody yet; from now on ask so much less often.
    Later(Duration),
    Over(Failure),
}

impl DeviceCode {
    /// Shows each prompt by `show`, which should not block.
    pub fn new(http: Http, authority: Authority, show: impl Fn(&Prompt) + Send + Sync + 'static) -> Self {
        Self { http, authority, show: Box::new(show), refresh_token: Mutex::default() }
    }

    async fn sign_in(&self, resource: Resource, tenant: &str) -> Result<Grant, Failure> {
        // Held for the whole of it, so that nobody is asked twice at once.
        let mut kept = self.refresh_token.lock().await;
        let renewed = match kept.as_ref() {
            Some(token) => self.renew(resource, tenant, token).await?,
            None => None,
        };
        let (grant, further) = match renewed {
            Some(signed_in) => signed_in,
            None => self.ask(resource, tenant).await?,
        };
        if further.is_some() {
            *kept = further;
        }
        Ok(grant)
    }

    /// Tokens without the person, or nothing when Entra ID wants to see them again.
    async fn renew(&self, resource: Resource, tenant: &str, token: &SecretString) -> Result<Option<SignedIn>, Failure> {
        let form = Form::of(&[
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", token.expose_secret()),
            ("scope", &scope(resource)),
        ]);
        let answer = self.send(tenant, Endpoint::Token, form).await?;
        if let Some(signed_in) = signed_in(&answer) {
            return Ok(Some(signed_in));
        }
        let refusal = answer.refusal();
        match refusal.error.as_str() {
            "invalid_grant" | "interaction_required" => Ok(None),
            _ => Err(refusal.of_an_operator()),
        }
    }

    async fn ask(&self, resource: Resource, tenant: &str) -> Result<SignedIn, Failure> {
        let begun = self.begin(resource, tenant).await?;
        (self.show)(&begun.prompt);
        let end = Instant::now() + begun.prompt.expires_in;
        let mut interval = begun.interval;
        loop {
            sleep(interval).await;
            match self.poll(tenant, &begun.device_code).await {
                Poll::SignedIn(signed_in) => return Ok(signed_in),
                Poll::Over(failure) => return Err(failure),
                Poll::Later(_) if Instant::now() >= end => return Err(operator::device_code_expired()),
                Poll::Later(more) => interval = (interval + more).min(MAX_INTERVAL),
            }
        }
    }

    async fn begin(&self, resource: Resource, tenant: &str) -> Result<Begun, Failure> {
        let form = Form::of(&[("client_id", CLIENT_ID), ("scope", &scope(resource))]);
        let answer = self.send(tenant, Endpoint::DeviceCode, form).await?;
        if !answer.http.status().is_success() {
            return Err(answer.refusal().of_an_operator());
        }
        let malformed = || Unreachable::Malformed.failure("EntraUnavailable", "Entra ID");
        begun(&answer.http).ok_or_else(malformed)
    }

    async fn poll(&self, tenant: &str, device_code: &SecretString) -> Poll {
        let form = Form::of(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", CLIENT_ID),
            ("device_code", device_code.expose_secret()),
        ]);
        match self.send(tenant, Endpoint::Token, form).await {
            Ok(answer) => polled(&answer),
            Err(failure) => later_or_over(failure),
        }
    }

    async fn send(&self, tenant: &str, endpoint: Endpoint, form: Form) -> Result<Answer, Failure> {
        entra::send(&self.http, &self.authority, tenant, endpoint, form).await
    }
}

impl SignIn for DeviceCode {
    fn token<'a>(&'a self, resource: Resource, tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        self.sign_in(resource, tenant.unwrap_or(ANY_TENANT)).boxed()
    }

    fn describe(&self) -> String {
        "a person with a device code".to_owned()
    }
}

/// `offline_access` asks for a refresh token.
fn scope(resource: Resource) -> String {
    format!("{} offline_access", resource.scope())
}

fn signed_in(answer: &Answer) -> Option<SignedIn> {
    Some((answer.grant()?, refresh_token(&answer.http)))
}

fn polled(answer: &Answer) -> Poll {
    if let Some(signed_in) = signed_in(answer) {
        return Poll::SignedIn(signed_in);
    }
    let refusal = answer.refusal();
    match refusal.error.as_str() {
        "authorization_pending" => Poll::Later(Duration::ZERO),
        "slow_down" => Poll::Later(INTERVAL),
        error => match operator::device_code(error) {
            Some(failure) => Poll::Over(failure),
            None => later_or_over(refusal.of_an_operator()),
        },
    }
}

/// What passes by itself is sat out: the person may be about to sign in.
fn later_or_over(failure: Failure) -> Poll {
    match failure.class {
        Class::Transient => Poll::Later(failure.retry_after.unwrap_or_default()),
        _ => Poll::Over(failure),
    }
}

/// A sign-in that waits for its person.
struct Begun {
    prompt: Prompt,
    device_code: SecretString,
    interval: Duration,
}

/// A sign-in as Entra ID describes it, if a person can be shown it.
fn begun(answer: &Response<Bytes>) -> Option<Begun> {
    #[derive(Deserialize)]
    struct Described {
        device_code: SecretString,
        user_code: String,
        verification_uri: String,
        expires_in: u64,
        interval: Option<u64>,
    }
    let described: Described = serde_json::from_slice(answer.body()).ok()?;
    let is_code = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
    let shown = (1..=MAX_USER_CODE).contains(&described.user_code.len()) && described.user_code.bytes().all(is_code);
    let verification_uri = Url::parse(&described.verification_uri).ok()?;
    if !shown || verification_uri.scheme() != "https" {
        return None;
    }
    Some(Begun {
        prompt: Prompt {
            user_code: described.user_code,
            verification_uri: verification_uri.into(),
            expires_in: Duration::from_secs(described.expires_in).min(MAX_PATIENCE),
        },
        device_code: described.device_code,
        interval: described.interval.map_or(INTERVAL, Duration::from_secs).clamp(Duration::from_secs(1), MAX_INTERVAL),
    })
}
