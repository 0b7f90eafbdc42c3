//! The things that are done to an organisation, at any of its hosts.

use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::failure::devops_rest::{Operation, from_answer, is_absent};
use http::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::DevOps;
use crate::http::headers::{retry_after, text};
use crate::http::is_html;
use crate::resource::Resource;
use crate::rest::{Call, MAX_PAGES, read, too_many_pages, url};

/// Projects, repositories, rights.
pub(super) const CORE: &str = "dev.azure.com";

/// Members and identities.
pub(super) const GRAPH: &str = "vssps.dev.azure.com";

/// Licences.
pub(super) const ENTITLEMENTS: &str = "vsaex.dev.azure.com";

pub(super) const V7_1: &str = "7.1";

/// Interfaces that are a preview to this day refuse a version that doesn't say so.
pub(super) const PREVIEW_1: &str = "7.1-preview.1";

/// What something is done to.
pub(super) struct Target<'a> {
    pub(super) operation: Operation,
    pub(super) host: &'static str,
    pub(super) segments: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) version: &'static str,
}

/// A body and what it is.
pub(super) enum Body {
    Json(Value),
    /// A list of changes: RFC 6902.
    Patch(Value),
}

impl Target<'_> {
    fn url(&self, organization: &str, continued: Option<&str>) -> Result<Url, Failure> {
        let mut query = self.query.to_vec();
        query.extend(continued.map(|token| ("continuationToken", token)));
        query.push(("api-version", self.version));
        url(self.host, &[&[organization], self.segments].concat(), &query)
    }

    /// What an answer that is no success means.
    fn refusal(&self, answer: &Response<Bytes>) -> Failure {
        refusal(answer, self.operation)
    }

    /// The sign-in page is a refusal, too, whatever its status.
    fn judge(&self, answer: &Response<Bytes>) -> Result<(), Failure> {
        let signed_in = answer.status().is_success() && answer.status() != 203 && !is_html(answer);
        if signed_in { Ok(()) } else { Err(self.refusal(answer)) }
    }

    fn judge_or_absent(&self, answer: &Response<Bytes>) -> Result<(), Failure> {
        if absent(answer) { Ok(()) } else { self.judge(answer) }
    }
}

/// What an answer that is no success means.
pub(super) fn refusal(answer: &Response<Bytes>, operation: Operation) -> Failure {
    let (status, asked) = (answer.status().as_u16(), retry_after(answer.headers()));
    let failure = from_answer(status, &type_key(answer), is_html(answer), operation, asked);
    failure.trace(text(answer.headers(), "activityid"))
}

fn call(method: Method, url: Url, body: Option<Body>) -> Call {
    let body = body.map(|body| match body {
        Body::Json(body) => ("application/json", body),
        Body::Patch(body) => ("application/json-patch+json", body),
    });
    Call { resource: Resource::AzureDevOps, method, url, accept: "application/json", body }
}

/// Reads what is there in any case.
pub(super) async fn get<T: DeserializeOwned>(devops: &DevOps, target: &Target<'_>) -> Result<T, Failure> {
    send(devops, target, Method::GET, None).await
}

/// Reads what may not be there, or may not be seen.
pub(super) async fn find<T: DeserializeOwned>(devops: &DevOps, target: &Target<'_>) -> Result<Option<T>, Failure> {
    let call = call(Method::GET, target.url(&devops.organization, None)?, None);
    let answer = devops.session.call(&call, |answer| target.judge_or_absent(answer)).await?;
    if absent(&answer) { Ok(None) } else { read(Resource::AzureDevOps, &answer).map(Some) }
}

/// Sends something and reads the answer.
pub(super) async fn send<T: DeserializeOwned>(
    devops: &DevOps,
    target: &Target<'_>,
    method: Method,
    body: Option<Body>,
) -> Result<T, Failure> {
    let call = call(method, target.url(&devops.organization, None)?, body);
    read(Resource::AzureDevOps, &devops.session.call(&call, |answer| target.judge(answer)).await?)
}

/// Deletes something; what is not there is deleted.
pub(super) async fn delete(devops: &DevOps, target: &Target<'_>) -> Result<(), Failure> {
    let call = call(Method::DELETE, target.url(&devops.organization, None)?, None);
    devops.session.call(&call, |answer| target.judge_or_absent(answer)).await.map(drop)
}

/// A list of Azure DevOps.
#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) value: Vec<T>,
}

/// The first entry of a list that `wanted` takes, read page by page; pages may be empty and still have a next one.
pub(super) async fn search<T: DeserializeOwned>(
    devops: &DevOps,
    target: &Target<'_>,
    wanted: impl Fn(&T) -> bool,
) -> Result<Option<T>, Failure> {
    let mut continued: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = call(Method::GET, target.url(&devops.organization, continued.as_deref())?, None);
        let answer = devops.session.call(&call, |answer| target.judge(answer)).await?;
        let page: List<T> = read(Resource::AzureDevOps, &answer)?;
        let found = page.value.into_iter().find(&wanted);
        continued =
            text(answer.headers(), "x-ms-continuationtoken").filter(|token| !token.is_empty()).map(str::to_owned);
        if found.is_some() || continued.is_none() {
            return Ok(found);
        }
    }
    Err(too_many_pages(Resource::AzureDevOps))
}

fn absent(answer: &Response<Bytes>) -> bool {
    is_absent(answer.status().as_u16(), &type_key(answer))
}

/// Azure DevOps' own name of an error. It is compared with known ones and never shown.
fn type_key(answer: &Response<Bytes>) -> String {
    let body: Value = read(Resource::AzureDevOps, answer).unwrap_or_default();
    body.get("typeKey").and_then(Value::as_str).unwrap_or_default().to_owned()
}
