//! One Azure, recorded: the clients of flux-bearer, and requests of our own where the raw answer is the point.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use flux_bearer_azure::arm::Arm;
use flux_bearer_azure::devops::DevOps;
use flux_bearer_azure::http::{AGENT, Http};
use flux_bearer_azure::operator::{Resource, Session, SignIn};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::record::{Exchange, Recorder};
use crate::redact::Redactor;
use crate::settings::Settings;

/// How long one exchange may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// One Azure: the real one, or a simulated one.
#[derive(Clone)]
pub struct Azure {
    /// What the person named.
    pub settings: Settings,
    /// What keeps the answers.
    pub recorder: Recorder,
    /// The subscription.
    pub arm: Arm,
    /// The organisation.
    pub devops: DevOps,
    /// Wall time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long to wait between two writes of federated credentials: Azure takes one in four seconds.
    pub pace: Duration,
    http: Http,
    session: Session,
}

/// What a request shows of its sender.
#[derive(Clone, Copy, Debug)]
pub enum As {
    /// Nothing.
    Nobody,
    /// A token that is none.
    Garbage,
    /// The token of whoever is signed in.
    Operator(Resource),
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Nothing.
    Nothing,
    /// A form.
    Form(&'a [(&'a str, &'a str)]),
    /// JSON.
    Json(&'a Value),
}

impl Azure {
    /// An Azure behind `http`, as `sign_in` sees it. How the operator signs in is not recorded.
    pub fn new(
        settings: Settings,
        http: Http,
        sign_in: Arc<dyn SignIn>,
        now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        pace: Duration,
    ) -> Self {
        let recorder = Recorder::default();
        let http = recorder.over(http);
        let clock = Arc::clone(&now);
        let session = Session::new(http.clone(), sign_in, Some(settings.tenant.clone()), move || clock());
        let arm = Arm::new(session.clone(), &settings.subscription);
        let devops = DevOps::new(session.clone(), &settings.organization);
        Self { settings, recorder, arm, devops, now, pace, http, session }
    }

    /// Where requests go, recorded.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Whoever is signed in.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What was recorded, redacted.
    pub fn transcript(&self) -> Vec<Exchange> {
        let mut redactor = Redactor::new(&self.settings);
        self.recorder.exchanges().into_iter().map(|exchange| redactor.exchange(exchange)).collect()
    }

    /// Sends one request and gives its answer, whatever it says.
    ///
    /// # Errors
    /// No answer, or nobody signed in.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        sender: As,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(url).header(USER_AGENT, AGENT);
        request = request.header(ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = self.authorization(sender).await? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = match body {
            Body::Nothing => request.body(Full::default())?,
            Body::Form(fields) => {
                let form = Serializer::new(String::new()).extend_pairs(fields).finish();
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(Full::from(form))?
            }
            Body::Json(value) => {
                request.header(CONTENT_TYPE, "application/json").body(Full::from(value.to_string()))?
            }
        };
        let answer = self.http.opening(request, DEADLINE, MAX_ANSWER).await;
        answer.map_err(|unreachable| unreachable.failure("AzureUnavailable", "Azure").into())
    }

    /// All entries of a list under `value`, page by page, for the operator.
    ///
    /// # Errors
    /// No answer, or one that is no list.
    pub async fn list(&self, resource: Resource, url: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut next) = (Vec::new(), Some(url.to_owned()));
        while let Some(page) = next {
            let answer = self.send(Method::GET, &page, As::Operator(resource), &[], Body::Nothing).await?;
            let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let values = body.get("value").and_then(Value::as_array);
            all.extend(values.with_context(|| format!("no list, but {}: {url}", answer.status()))?.iter().cloned());
            next = following(&answer, &body, url)?;
        }
        Ok(all)
    }

    async fn authorization(&self, sender: As) -> anyhow::Result<Option<String>> {
        Ok(match sender {
            As::Nobody => None,
            As::Garbage => Some("Bearer flux-bearer".to_owned()),
            As::Operator(resource) => {
                let token = self.session.token(resource).await?;
                Some(format!("Bearer {}", token.secret.expose_secret()))
            }
        })
    }
}

/// Where a list goes on: at the link of Azure Resource Manager, or with the token of Azure DevOps. Never at another host.
fn following(answer: &Response<Bytes>, body: &Value, first: &str) -> anyhow::Result<Option<String>> {
    if let Some(link) = body.get("nextLink").and_then(Value::as_str) {
        let same = Url::parse(link)?.origin() == Url::parse(first)?.origin();
        anyhow::ensure!(same, "a list goes on at another host");
        return Ok(Some(link.to_owned()));
    }
    let token = answer.headers().get("x-ms-continuationtoken").and_then(|value| value.to_str().ok());
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    let mut next = Url::parse(first)?;
    next.query_pairs_mut().append_pair("continuationToken", token);
    Ok(Some(next.into()))
}

/// `https://HOST/` with these segments, each percent-encoded, and this query.
///
/// # Errors
/// A name that no URL takes.
pub fn url(host: &str, segments: &[&str], query: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut url = Url::parse(&format!("https://{host}/"))?;
    let mut path = url.path_segments_mut().map_err(|()| anyhow::anyhow!("{host} takes no path"))?;
    path.pop_if_empty().extend(segments);
    drop(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url.into())
}
