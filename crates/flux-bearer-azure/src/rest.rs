//! One call of a REST interface, made by a session: token, headers, waits and the reading of JSON.

use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Class, Failure, Unreachable};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep_until;
use url::Url;

use crate::http::headers::retry_after;
use crate::http::{AGENT, bearer, request_id, unsendable};
use crate::operator::{AccessToken, Session};
use crate::resource::Resource;
use crate::retry::{Setback, WAITS, retry};

/// How long one exchange may take. To make a principal known, Azure DevOps asks Entra ID first, and takes many seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Longest answer that is read, in bytes. A page of principals or clusters has hundreds of kilobytes.
pub(crate) const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How many pages of one list are read: with the smallest that either service makes, thousands of entries.
pub(crate) const MAX_PAGES: usize = 100;

/// What is asked for.
pub(crate) struct Call {
    pub(crate) resource: Resource,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    pub(crate) body: Option<(&'static str, Value)>,
}

impl Session {
    /// Makes `call`, a few times if it must, and gives the first answer that `judge` takes.
    ///
    /// A failure that passes by itself is followed by another attempt where that does no harm: where the answer says
    /// that nothing was done (409, 429), where no connection came about, and for methods that may be repeated.
    pub(crate) async fn call(
        &self,
        call: &Call,
        judge: impl Fn(&Response<Bytes>) -> Result<(), Failure>,
    ) -> Result<Response<Bytes>, Failure> {
        let (call, judge) = (&call, &judge);
        retry(&WAITS, || self.attempt(call, judge)).await
    }

    async fn attempt(
        &self,
        call: &Call,
        judge: &impl Fn(&Response<Bytes>) -> Result<(), Failure>,
    ) -> Result<Response<Bytes>, Setback> {
        let token = self.token(call.resource).await.map_err(Setback::last)?;
        let request = call.request(&token).map_err(Setback::last)?;
        sleep_until(self.turn(call.resource)).await;
        let repeated = call.method.is_idempotent();
        let answer = self.http().exchange(request, DEADLINE, MAX_ANSWER).await;
        let answer = answer.map_err(|unreachable| lost(call.resource, repeated, unreachable))?;
        if let Some(asked) = retry_after(answer.headers()) {
            self.slow_down(call.resource, asked);
        }
        let undone = matches!(answer.status().as_u16(), 409 | 429);
        judge(&answer).map_err(|failure| Setback {
            passing: failure.class == Class::Transient && (undone || repeated),
            failure,
        })?;
        Ok(answer)
    }
}

impl Call {
    fn request(&self, token: &AccessToken) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.url.as_str())
            .header(AUTHORIZATION, bearer(&token.secret)?)
            .header(ACCEPT, self.accept)
            .header(USER_AGENT, AGENT);
        match self.resource {
            // A 401 instead of the sign-in page.
            Resource::AzureDevOps => request = request.header("X-TFS-FedAuthRedirect", "Suppress"),
            // A new one each time: ARM answers a known one as it did before.
            Resource::Arm => {
                if let Some(id) = request_id() {
                    request = request.header("x-ms-client-request-id", id);
                }
            }
        }
        let Some((media_type, body)) = &self.body else {
            return request.body(Full::default()).map_err(|_| unsendable());
        };
        request.header(CONTENT_TYPE, *media_type).body(Full::from(body.to_string())).map_err(|_| unsendable())
    }
}

/// The setback of an answer that never came, after a request that may be `repeated`.
pub(crate) fn lost(resource: Resource, repeated: bool, unreachable: Unreachable) -> Setback {
    let passing = match unreachable {
        Unreachable::Connect | Unreachable::Proxy => true,
        Unreachable::Timeout(_) | Unreachable::Cut => repeated,
        Unreachable::Tls | Unreachable::TooLarge(_) | Unreachable::Malformed => false,
    };
    Setback { failure: unreachable.failure(resource.unavailable(), resource.name()), passing }
}

/// `https://HOST/` with these segments, each percent-encoded, and this query.
///
/// # Errors
/// A segment that would be left out or lead elsewhere.
pub(crate) fn url(host: &str, segments: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
    if segments.iter().any(|segment| ["", ".", ".."].contains(segment)) {
        return Err(unsendable());
    }
    let mut url = Url::parse(&format!("https://{host}/")).map_err(|_| unsendable())?;
    url.path_segments_mut().map_err(|()| unsendable())?.pop_if_empty().extend(segments);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// What `answer` says in JSON. Azure DevOps may begin it with a byte order mark.
///
/// # Errors
/// [`Unreachable::Malformed`] for anything else.
pub(crate) fn read<T: DeserializeOwned>(resource: Resource, answer: &Response<Bytes>) -> Result<T, Failure> {
    let body = answer.body().strip_prefix(b"\xef\xbb\xbf").unwrap_or(answer.body());
    serde_json::from_slice(body).map_err(|_| malformed(resource))
}

pub(crate) fn malformed(resource: Resource) -> Failure {
    Unreachable::Malformed.failure(resource.unavailable(), resource.name())
}

/// The failure of a list that has no end.
pub(crate) fn too_many_pages(resource: Resource) -> Failure {
    let cause = format!("a list of {} has more than {MAX_PAGES} pages", resource.name());
    let fix = "Something in between may answer in its place: check the proxy; otherwise report it";
    Failure::new(resource.unavailable(), Class::Permanent, "TooManyPages", cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_stays_one() {
        let url = url("dev.azure.com", &["My Org", "a/b?c#d%20", "Grün ✓"], &[("q", "a&b c;d\\e")]).unwrap();
        let expected = "https://dev.azure.com/My%20Org/a%2Fb%3Fc%23d%2520/Gr%C3%BCn%20%E2%9C%93?q=a%26b+c%3Bd%5Ce";
        assert_eq!(url.as_str(), expected);
    }

    #[test]
    fn no_segment_leads_elsewhere() {
        for segment in ["", ".", ".."] {
            assert!(url("dev.azure.com", &["a", segment, "b"], &[]).is_err(), "{segment:?}");
        }
        assert_eq!(url("h", &["%2e%2e"], &[("a", "b")]).unwrap().as_str(), "https://h/%252e%252e?a=b");
    }
}
