//! The issuer of a cluster's service account tokens, as the API server names it and as anybody sees it: Entra ID fetches its
//! keys there.

use flux_bearer_azure::http::{AGENT, DEADLINE, Http, MAX_TOKEN_ANSWER};
use http::Request;
use http::header::USER_AGENT;
use http_body_util::Full;
use serde_json::Value;
use url::{Host, Url};

use crate::object::{items, printable, text};

/// What an issuer publishes for everybody.
#[derive(Debug, PartialEq)]
pub struct Published {
    /// How it calls itself.
    pub issuer: String,
    /// Ids of its keys.
    pub keys: Vec<String>,
}

/// The issuer that the API server names, where anybody could reach it.
pub(crate) fn public(discovery: &Value) -> Option<Url> {
    let url = Url::parse(text(discovery, "/issuer")).ok().filter(|url| url.scheme() == "https")?;
    let public = match url.host()? {
        Host::Domain(name) => {
            name.contains('.') && ![".svc", ".local", ".localhost", ".internal"].iter().any(|end| name.ends_with(end))
        }
        Host::Ipv4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        Host::Ipv6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    };
    public.then_some(url)
}

/// Whether it is that of an AKS cluster in this tenant: `https://REGION.oic.prod-aks.azure.com/TENANT/CLUSTER/`.
pub(crate) fn is_aks(issuer: &str, tenant: &str) -> bool {
    let Ok(url) = Url::parse(issuer) else { return false };
    let host = url.host_str().is_some_and(|host| host.ends_with(".oic.prod-aks.azure.com"));
    let named = url.path_segments().and_then(|mut parts| parts.next());
    host && named.is_some_and(|named| named.eq_ignore_ascii_case(tenant))
}

/// What the issuer publishes. It is asked as anybody would be: no credential goes along.
pub(crate) async fn published(web: &Http, issuer: &Url) -> Result<Published, String> {
    let document =
        fetch(web, &format!("{}/.well-known/openid-configuration", issuer.as_str().trim_end_matches('/'))).await?;
    let keys = text(&document, "/jwks_uri");
    if !keys.starts_with("https://") {
        return Err("its discovery document names no HTTPS URL of its keys".to_owned());
    }
    Ok(Published { issuer: text(&document, "/issuer").to_owned(), keys: key_ids(&fetch(web, keys).await?) })
}

async fn fetch(web: &Http, url: &str) -> Result<Value, String> {
    let shown = printable(url);
    let request = Request::get(url).header(USER_AGENT, AGENT).body(Full::default());
    let request = request.map_err(|_| format!("{shown} is no URL that can be asked"))?;
    let answer = web.exchange(request, DEADLINE, MAX_TOKEN_ANSWER).await;
    let answer = answer.map_err(|unreachable| {
        let failure = unreachable.failure("IssuerUnavailable", &shown);
        failure.cause.into_owned()
    })?;
    if !answer.status().is_success() {
        return Err(format!("{shown} answers {}", answer.status().as_u16()));
    }
    serde_json::from_slice(answer.body()).map_err(|_| format!("{shown} answers something that is no JSON"))
}

/// Ids of the keys in a set of them.
pub(crate) fn key_ids(document: &Value) -> Vec<String> {
    items(document, "/keys").map(|key| text(key, "/kid").to_owned()).collect()
}
