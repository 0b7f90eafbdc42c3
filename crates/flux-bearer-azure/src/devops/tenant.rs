//! Which tenant an organisation is connected to: asked before anybody signs in, because it decides where.

use bytes::Bytes;
use flux_bearer::failure::devops_rest::Operation;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::is_guid;
use http::header::{USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;

use super::NO_TENANT;
use super::call::{CORE, refusal};
use crate::http::{AGENT, DEADLINE, Http, MAX_TOKEN_ANSWER, unsendable};
use crate::resource::Resource;
use crate::rest::{lost, malformed, url};
use crate::retry::{Setback, WAITS, retry};

/// Where an organisation's members come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The tenant of Entra ID with this id: only its identities can become members.
    Entra(String),
    /// Microsoft accounts alone: no identity of Entra ID can become a member.
    MicrosoftAccounts,
    /// There is no such organisation.
    NoSuchOrganization,
}

/// Asks Azure DevOps without a token what it would want one of, as Git Credential Manager does.
///
/// # Errors
/// What kept the answer from arriving, or an answer that doesn't say.
pub async fn discover_tenant(http: &Http, organization: &str) -> Result<Backing, Failure> {
    retry(&WAITS, || attempt(http, organization)).await
}

async fn attempt(http: &Http, organization: &str) -> Result<Backing, Setback> {
    let url = url(CORE, &[organization], &[]).map_err(Setback::last)?;
    let request = Request::head(url.as_str())
        .header(USER_AGENT, AGENT)
        .header("X-TFS-FedAuthRedirect", "Suppress")
        .body(Full::default())
        .map_err(|_| Setback::last(unsendable()))?;
    let answer = http.exchange(request, DEADLINE, MAX_TOKEN_ANSWER).await;
    let answer = answer.map_err(|unreachable| lost(Resource::AzureDevOps, true, unreachable))?;
    backing(&answer).map_err(|failure| Setback { passing: failure.class == Class::Transient, failure })
}

/// What the challenge says counts before the header that every answer has. The status of an organisation that is there
/// is anything but 404.
fn backing(answer: &Response<Bytes>) -> Result<Backing, Failure> {
    let status = answer.status();
    let ids: Vec<String> = challenged(answer.headers()).chain(named(answer.headers())).collect();
    if let Some(tenant) = ids.iter().find(|id| *id != NO_TENANT) {
        return Ok(Backing::Entra(tenant.clone()));
    }
    match status.as_u16() {
        404 => Ok(Backing::NoSuchOrganization),
        _ if !ids.is_empty() => Ok(Backing::MicrosoftAccounts),
        // Azure DevOps always says, so this is something in its place.
        200..=399 | 401 => Err(malformed(Resource::AzureDevOps)),
        _ => Err(refusal(answer, Operation::DiscoverTenant)),
    }
}

/// The tenant in `WWW-Authenticate: Bearer authorization_uri=https://login.microsoftonline.com/TENANT`.
fn challenged(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    challenges.filter_map(|challenge| challenge.split_once("authorization_uri").map(|(_, uri)| uri)).flat_map(guids)
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = String> {
    headers.get_all("x-vss-resourcetenant").iter().filter_map(|value| value.to_str().ok()).flat_map(guids)
}

fn guids(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit() && letter != '-');
    words.filter(|word| is_guid(word)).map(str::to_ascii_lowercase)
}
