//! Entra ID's token endpoint: one POST a token.
//!
//! Wire format: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use aws_lc_rs::rand;
use bytes::Bytes;
use flux_bearer::failure::{Class, Failure, entra};
use flux_bearer::identity::{is_guid, is_tenant};
use flux_bearer::token::{AZURE_DEVOPS, Grant};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::grant::grant;
use crate::http::headers::{retry_after, text};
use crate::http::{AGENT, DEADLINE, Http, MAX_TOKEN_ANSWER, unsendable};

/// The names of the public cloud's one login service, from its own instance discovery.
const HOSTS: [&str; 4] = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];

/// How many codes of one error answer are looked at. Real ones have one or two.
const MAX_CODES: usize = 8;

/// Where tokens for Azure DevOps come from: the login service of the public cloud, under one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    host: &'static str,
}

impl Default for Authority {
    fn default() -> Self {
        Self { host: "login.microsoftonline.com" }
    }
}

impl Authority {
    /// The authority of `AZURE_AUTHORITY_HOST`, as the workload identity webhook injects it.
    ///
    /// # Errors
    /// Anything but the public cloud over https: Azure DevOps Services exists there alone, so another cloud's token
    /// opens nothing, and any other host would get the pod's credential.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let url = Url::parse(text.trim()).map_err(|_| foreign())?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.port().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.path() == "/";
        let host = HOSTS.into_iter().find(|host| url.host_str() == Some(host));
        host.filter(|_| bare && url.scheme() == "https").map(|host| Self { host }).ok_or_else(foreign)
    }
}

fn foreign() -> Failure {
    Failure::new(
        "AuthorityRefused",
        Class::Permanent,
        "AuthorityRefused",
        "AZURE_AUTHORITY_HOST is not the login service of the public cloud",
        "Azure DevOps Services exists in the public cloud alone: unset it, or set it to https://login.microsoftonline.com",
    )
}

/// A form for the token endpoint, percent-encoded. It holds a credential, so it has no `Debug`.
pub struct Form(String);

impl Form {
    /// The client credentials grant for Azure DevOps with the fields that prove the client.
    pub(crate) fn new(client_id: &str, proof: &[(&str, &str)]) -> Self {
        let scope = format!("{AZURE_DEVOPS}/.default");
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials").append_pair("client_id", client_id);
        form.extend_pairs(proof).append_pair("scope", &scope);
        Self(form.finish())
    }
}

/// The request for a token. `request_id` is a GUID that Entra ID repeats in its logs.
///
/// # Errors
/// A tenant that would change the URL.
pub fn request(
    authority: &Authority,
    tenant_id: &str,
    form: Form,
    request_id: Option<&str>,
) -> Result<Request<Full<Bytes>>, Failure> {
    // Identities check this when they are made; it is checked again where it counts.
    if !is_tenant(tenant_id) {
        return Err(unsendable());
    }
    let mut request = Request::post(format!("https://{}/{tenant_id}/oauth2/v2.0/token", authority.host))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, AGENT);
    if let Some(id) = request_id {
        request = request.header("client-request-id", id);
    }
    request.body(Full::from(form.0)).map_err(|_| unsendable())
}

/// Sends `form` once and reads what comes back.
///
/// # Errors
/// What Entra ID's answer means by [`flux_bearer::failure::entra`], or what kept it from arriving.
pub async fn mint(http: &Http, authority: &Authority, tenant_id: &str, form: Form) -> Result<Grant, Failure> {
    let id = request_id();
    let request = request(authority, tenant_id, form, id.as_deref())?;
    let answer = http.exchange(request, DEADLINE, MAX_TOKEN_ANSWER).await;
    let answer = answer.map_err(|unreachable| unreachable.failure("EntraUnavailable", "Entra ID"))?;
    grant(&answer).ok_or_else(|| refusal(&answer, id.as_deref()))
}

/// What an answer without a token says. Only numbers, the HTTP status and GUIDs leave it.
fn refusal(answer: &Response<Bytes>, request_id: Option<&str>) -> Failure {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let field = |name: &str| body.get(name).and_then(Value::as_str);
    let codes = codes(body.get("error_codes"), field("error_description").unwrap_or_default());
    let (status, asked) = (answer.status().as_u16(), retry_after(answer.headers()));
    let ids = [field("trace_id"), text(answer.headers(), "x-ms-request-id"), field("correlation_id"), request_id];
    let trace = ids.into_iter().flatten().find(|id| is_guid(id));
    entra::from_answer(&codes, field("error").unwrap_or_default(), status, asked).trace(trace)
}

/// The AADSTS numbers of an error: from the list, or from the words where an older answer has no list.
fn codes(listed: Option<&Value>, description: &str) -> Vec<u32> {
    let listed: Vec<u32> = listed.and_then(Value::as_array).into_iter().flatten().filter_map(code).collect();
    let told = description.split("AADSTS").skip(1).filter_map(leading_number);
    if listed.is_empty() { told.take(MAX_CODES).collect() } else { listed.into_iter().take(MAX_CODES).collect() }
}

fn code(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|code| code.try_into().ok()).or_else(|| value.as_str()?.parse().ok())
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// A random GUID (version 4) for a support case, or none when the machine has no randomness: it only helps to search.
fn request_id() -> Option<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    let random = u128::from_be_bytes(bytes) & !(0xf << 76 | 0b11 << 62);
    let hex = format!("{:032x}", random | 4 << 76 | 0b10 << 62);
    let parts = [hex.get(..8)?, hex.get(8..12)?, hex.get(12..16)?, hex.get(16..20)?, hex.get(20..)?];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_public_cloud_is_an_authority() {
        for host in HOSTS {
            for text in [format!("https://{host}"), format!(" https://{host}/\n"), format!("HTTPS://{host}:443/")] {
                assert_eq!(Authority::parse(&text).unwrap(), Authority { host }, "{text}");
            }
        }
        assert_eq!(Authority::parse("https://login.microsoftonline.com/").unwrap(), Authority::default());
    }

    #[test]
    fn no_other_host_gets_the_credential() {
        for text in [
            "https://login.microsoftonline.us/",
            "https://login.partner.microsoftonline.cn",
            "https://login.sovcloud-identity.fr",
            "http://login.microsoftonline.com/",
            "login.microsoftonline.com",
            "https://login.microsoftonline.com.evil.example/",
            "https://login.microsoftonline.com./",
            "https://login.microsoftonline.com@evil.example/",
            "https://user@login.microsoftonline.com/",
            "https://login.microsoftonline.com:8443/",
            "https://login.microsoftonline.com/tenant",
            "https://login.microsoftonline.com/?x=1",
            "https://127.0.0.1/",
            "",
        ] {
            let failure = Authority::parse(text).unwrap_err();
            assert_eq!((failure.reason, failure.class), ("AuthorityRefused", Class::Permanent), "{text}");
            assert!(failure.fix.contains("public cloud alone"), "{failure}");
        }
    }

    #[test]
    fn codes_are_listed_or_told() {
        let listed = serde_json::json!([7_000_215, "70021", -1, null, 99_999_999_999_u64]);
        assert_eq!(codes(Some(&listed), "AADSTS50000: x"), [7_000_215, 70021]);
        assert_eq!(codes(None, "AADSTS700213: no\r\nTrace ID: 1 (AADSTS50000)"), [700_213, 50000]);
        assert_eq!(codes(Some(&Value::Null), "AADSTS: AADSTSx AADSTS99999999999: "), [0_u32; 0]);
        assert_eq!(codes(None, &"AADSTS1 ".repeat(1000)).len(), MAX_CODES);
    }

    #[test]
    fn request_ids_are_random_guids() {
        let (one, other) = (request_id().unwrap(), request_id().unwrap());
        assert!(is_guid(&one) && one != other, "{one} {other}");
        assert_eq!(&one[14..15], "4");
    }

    #[test]
    fn a_tenant_that_changes_the_path_is_not_sent() {
        for tenant in ["", "..", "a/b", "a?b", "a#b", "a%2fb"] {
            assert!(request(&Authority::default(), tenant, Form::new("c", &[]), None).is_err(), "{tenant}");
        }
    }
}
