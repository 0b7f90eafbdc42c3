//! The instance metadata service (IMDS): a managed identity's token from the machine itself.
//!
//! Wire format, retries and limits:
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Failure, Unreachable, imds};
use flux_bearer::identity::Selector;
use flux_bearer::token::Grant;
use http::header::USER_AGENT;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use url::form_urlencoded;

use crate::grant::grant;
use crate::http::headers::retry_after;
use crate::http::{AGENT, DEADLINE, Http, MAX_TOKEN_ANSWER, unsendable};
use crate::resource::Resource;
use crate::retry::{Setback, retry};

/// Where IMDS is on every machine of Azure.
const ENDPOINT: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// The documented version of the interface.
const API_VERSION: &str = "2018-02-01";

/// Waits between attempts, in seconds. The documentation's 2, 6, 14 and 30 with one before and one after them, because
/// an update of IMDS (410) may take 70 s: these make 73.
pub const WAITS: [u64; 6] = [1, 2, 6, 14, 30, 20];

/// How many requests may be on the way at once: IMDS takes five of the identity category a machine.
pub const MAX_IN_FLIGHT: usize = 5;

/// The time between two requests: IMDS takes 20 a second of the identity category a machine.
pub const SPACING: Duration = Duration::from_millis(50);

/// A client of IMDS. Clones share its limits.
#[derive(Clone)]
pub struct Imds {
    http: Http,
    limits: Arc<Limits>,
}

struct Limits {
    in_flight: Semaphore,
    next: Mutex<Option<Instant>>,
}

impl Imds {
    /// A client that sends through `http`, which must not lead through a proxy: see [`Http::plain`].
    pub fn new(http: Http) -> Self {
        let limits = Limits { in_flight: Semaphore::new(MAX_IN_FLIGHT), next: Mutex::new(None) };
        Self { http, limits: Arc::new(limits) }
    }

    /// A token for `resource` of the machine's identity, within about 75 s, the time of the requests themselves apart.
    ///
    /// # Errors
    /// What IMDS says by [`flux_bearer::failure::imds`], or what kept its answer from arriving. 404, 410, 429, 5xx and
    /// broken connections have been retried then, everything else was final at once.
    pub async fn mint(&self, resource: Resource, selector: &Selector) -> Result<Grant, Failure> {
        retry(&WAITS, || self.attempt(resource, selector)).await
    }

    async fn attempt(&self, resource: Resource, selector: &Selector) -> Result<Grant, Setback> {
        let request = request(resource, selector).map_err(Setback::last)?;
        // The semaphore is never closed, so the permit is always there.
        let _permit = self.limits.in_flight.acquire().await.ok();
        sleep_until(self.limits.turn()).await;
        let answer = self.http.exchange(request, DEADLINE, MAX_TOKEN_ANSWER).await;
        let answer = answer.map_err(lost)?;
        grant(&answer).ok_or_else(|| refusal(&answer))
    }
}

impl Limits {
    /// When the next request may go out; the one after it [`SPACING`] later.
    fn turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + SPACING);
        turn
    }
}

/// The request for a token for `resource` of the identity that `selector` names.
///
/// # Errors
/// None that a selector could cause: its values are percent-encoded.
pub fn request(resource: Resource, selector: &Selector) -> Result<Request<Full<Bytes>>, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("api-version", API_VERSION).append_pair("resource", resource.id());
    match selector {
        Selector::System => &mut query,
        Selector::ClientId(id) => query.append_pair("client_id", id),
        Selector::ObjectId(id) => query.append_pair("object_id", id),
        Selector::ResourceId(id) => query.append_pair("msi_res_id", id),
    };
    Request::get(format!("{ENDPOINT}?{}", query.finish()))
        .header("Metadata", "true")
        .header(USER_AGENT, AGENT)
        .body(Full::default())
        .map_err(|_| unsendable())
}

fn lost(unreachable: Unreachable) -> Setback {
    let passing = matches!(unreachable, Unreachable::Connect | Unreachable::Timeout(_) | Unreachable::Cut);
    Setback { failure: unreachable.failure("ImdsUnavailable", "IMDS"), passing }
}

fn refusal(answer: &Response<Bytes>) -> Setback {
    let status = answer.status().as_u16();
    if answer.status().is_success() {
        return Setback { failure: Unreachable::Malformed.failure("ImdsUnavailable", "IMDS"), passing: false };
    }
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let error = body.get("error").and_then(Value::as_str).unwrap_or_default();
    let failure = imds::from_answer(status, error, retry_after(answer.headers()));
    Setback { failure, passing: matches!(status, 404 | 410 | 429 | 500..) }
}
