//! The five things that are done to a resource of ARM.

use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::{About, Operation, from_answer, is_absent};
use flux_bearer::identity::is_guid;
use http::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::http::headers::{retry_after, text};
use crate::operator::Session;
use crate::resource::Resource;
use crate::rest::{Call, MAX_PAGES, malformed, read, too_many_pages, url};

/// The public cloud's ARM. An identity for Azure DevOps can be in no other.
const HOST: &str = "management.azure.com";

/// How many segments of an id name a resource group: `subscriptions/ID/resourceGroups/NAME`.
const GROUP: usize = 4;

/// What something is done to, and as which version of the interface.
pub(super) struct Target<'a> {
    pub(super) operation: Operation,
    pub(super) segments: &'a [&'a str],
    pub(super) version: &'static str,
}

impl Target<'_> {
    fn url(&self) -> Result<Url, Failure> {
        url(HOST, self.segments, &[("api-version", self.version)])
    }

    /// The subscription or resource group that it is in.
    fn scope(&self) -> String {
        let in_group = self.segments.get(2).is_some_and(|segment| *segment == "resourceGroups");
        let scope: Vec<&str> = self.segments.iter().copied().take(if in_group { GROUP } else { 2 }).collect();
        format!("/{}", scope.join("/"))
    }

    /// What an answer that is no success means.
    fn refusal(&self, answer: &Response<Bytes>) -> Failure {
        let about = About { operation: self.operation, scope: &self.scope() };
        let failure = from_answer(answer.status().as_u16(), &code(answer), about, retry_after(answer.headers()));
        let ids = ["x-ms-correlation-request-id", "x-ms-request-id"].map(|name| text(answer.headers(), name));
        failure.trace(ids.into_iter().flatten().find(|id| is_guid(id)))
    }

    /// The failure of something that is not there and has to be.
    pub(super) fn missing(&self) -> Failure {
        let about = About { operation: self.operation, scope: &self.scope() };
        from_answer(404, "ResourceNotFound", about, None)
    }

    fn judge(&self, answer: &Response<Bytes>) -> Result<(), Failure> {
        if answer.status().is_success() { Ok(()) } else { Err(self.refusal(answer)) }
    }

    fn judge_or_absent(&self, answer: &Response<Bytes>) -> Result<(), Failure> {
        if absent(answer) { Ok(()) } else { self.judge(answer) }
    }
}

fn call(method: Method, url: Url, body: Option<Value>) -> Call {
    let body = body.map(|body| ("application/json", body));
    Call { resource: Resource::Arm, method, url, accept: "application/json", body }
}

/// Reads one resource.
pub(super) async fn find<T: DeserializeOwned>(session: &Session, target: &Target<'_>) -> Result<Option<T>, Failure> {
    let call = call(Method::GET, target.url()?, None);
    let answer = session.call(&call, |answer| target.judge_or_absent(answer)).await?;
    if absent(&answer) { Ok(None) } else { read(Resource::Arm, &answer).map(Some) }
}

/// Makes a resource or changes it.
pub(super) async fn put<T: DeserializeOwned>(
    session: &Session,
    target: &Target<'_>,
    body: Value,
) -> Result<T, Failure> {
    let call = call(Method::PUT, target.url()?, Some(body));
    read(Resource::Arm, &session.call(&call, |answer| target.judge(answer)).await?)
}

/// Does something that has neither a body nor an answer.
pub(super) async fn post(session: &Session, target: &Target<'_>) -> Result<(), Failure> {
    let call = call(Method::POST, target.url()?, None);
    session.call(&call, |answer| target.judge(answer)).await.map(drop)
}

/// Deletes a resource; one that is not there is deleted.
pub(super) async fn delete(session: &Session, target: &Target<'_>) -> Result<(), Failure> {
    let call = call(Method::DELETE, target.url()?, None);
    session.call(&call, |answer| target.judge_or_absent(answer)).await.map(drop)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

/// Reads a list, all pages of it. A link that leads to another host is followed by nobody: the token would go there.
pub(super) async fn list<T: DeserializeOwned>(session: &Session, target: &Target<'_>) -> Result<Vec<T>, Failure> {
    pages(session, target, target.url()?).await
}

/// Reads those of a list that a filter of `OData` takes.
pub(super) async fn filtered<T: DeserializeOwned>(
    session: &Session,
    target: &Target<'_>,
    filter: &str,
) -> Result<Vec<T>, Failure> {
    let query = [("$filter", filter), ("api-version", target.version)];
    pages(session, target, url(HOST, target.segments, &query)?).await
}

async fn pages<T: DeserializeOwned>(session: &Session, target: &Target<'_>, first: Url) -> Result<Vec<T>, Failure> {
    let (mut all, mut next) = (Vec::new(), first.clone());
    for _ in 0..MAX_PAGES {
        let call = call(Method::GET, next, None);
        let page: Page<T> = read(Resource::Arm, &session.call(&call, |answer| target.judge(answer)).await?)?;
        all.extend(page.value);
        let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(all) };
        next = same_host(&link, &first).ok_or_else(|| malformed(Resource::Arm))?;
    }
    Err(too_many_pages(Resource::Arm))
}

fn same_host(link: &str, first: &Url) -> Option<Url> {
    let link = Url::parse(link).ok()?;
    let bare = link.username().is_empty() && link.password().is_none();
    (bare && link.origin() == first.origin()).then_some(link)
}

fn absent(answer: &Response<Bytes>) -> bool {
    is_absent(answer.status().as_u16(), &code(answer))
}

/// ARM's own code of an error. It is compared with known ones and never shown.
fn code(answer: &Response<Bytes>) -> String {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_at_the_same_host_only() {
        let first = Url::parse("https://management.azure.com/subscriptions?api-version=1").unwrap();
        let next = "https://management.azure.com:443/subscriptions?api-version=1&$skiptoken=a";
        assert!(same_host(next, &first).is_some());
        for link in [
            "https://evil.example/subscriptions",
            "https://management.azure.com.evil.example/",
            "http://management.azure.com/subscriptions",
            "https://management.azure.com:8443/subscriptions",
            "https://user@management.azure.com/subscriptions",
            "/subscriptions",
            "data:,x",
        ] {
            assert!(same_host(link, &first).is_none(), "{link}");
        }
    }

    #[test]
    fn a_scope_ends_at_its_group() {
        let scope = |segments: &[&str]| Target { operation: Operation::ReadGroup, segments, version: "1" }.scope();
        assert_eq!(scope(&["subscriptions"]), "/subscriptions");
        assert_eq!(scope(&["subscriptions", "1", "providers", "a"]), "/subscriptions/1");
        let group = ["subscriptions", "1", "resourceGroups", "g", "providers", "a"];
        assert_eq!(scope(&group), "/subscriptions/1/resourceGroups/g");
    }
}
