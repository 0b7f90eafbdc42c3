//! Entra ID's token endpoint: one POST a token.
//!
//! Wire format: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Class, Failure, Unreachable, entra, operator, token_proxy};
use flux_bearer::identity::{is_guid, is_tenant};
use flux_bearer::token::Grant;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::grant::grant;
use crate::http::headers::{retry_after, text};
use crate::http::{AGENT, DEADLINE, Http, MAX_TOKEN_ANSWER, request_id, unsendable};
use crate::resource::Resource;

/// The names of the public cloud's one login service, from its own instance discovery.
const HOSTS: [&str; 4] = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];

/// Where tokens come from: the login service of the public cloud, under one of its names.
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

    /// Where forms of a tenant are sent to. The tenant is not looked at.
    pub(crate) fn url(&self, tenant_id: &str, endpoint: Endpoint) -> String {
        let name = match endpoint {
            Endpoint::Token => "token",
            Endpoint::DeviceCode => "devicecode",
        };
        format!("https://{}/{tenant_id}/oauth2/v2.0/{name}", self.host)
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
    /// The client credentials grant for `resource` with the fields that prove the client.
    pub(crate) fn client_credentials(resource: Resource, client_id: &str, proof: &[(&str, &str)]) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials").append_pair("client_id", client_id);
        form.extend_pairs(proof).append_pair("scope", &resource.scope());
        Self(form.finish())
    }

    /// The same, proved by `assertion`, a signed JWT.
    pub(crate) fn asserted(resource: Resource, client_id: &str, assertion: &str) -> Self {
        let proof = [
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        Self::client_credentials(resource, client_id, &proof)
    }

    /// Just these fields.
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        Self(form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
    }
}

/// What a form is sent to.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint {
    /// Hands out tokens.
    Token,
    /// Begins the sign-in of a person in a browser somewhere else.
    DeviceCode,
}

/// The request that sends `form`. `request_id` is a GUID that Entra ID repeats in its logs.
///
/// # Errors
/// A tenant that would change the URL.
pub fn request(
    authority: &Authority,
    tenant_id: &str,
    endpoint: Endpoint,
    form: Form,
    request_id: Option<&str>,
) -> Result<Request<Full<Bytes>>, Failure> {
    // Identities check this when they are made; it is checked again where it counts.
    if !is_tenant(tenant_id) {
        return Err(unsendable());
    }
    let mut request = Request::post(authority.url(tenant_id, endpoint))
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
    let answer = send(http, authority, tenant_id, Endpoint::Token, form).await?;
    answer.grant().ok_or_else(|| answer.refusal().of_an_identity())
}

/// Sends `form` once.
pub(crate) async fn send(
    http: &Http,
    authority: &Authority,
    tenant_id: &str,
    endpoint: Endpoint,
    form: Form,
) -> Result<Answer, Failure> {
    let request_id = request_id();
    let request = request(authority, tenant_id, endpoint, form, request_id.as_deref())?;
    let answer = exchange(http, request, request_id).await;
    answer.map_err(|unreachable| unreachable.failure("EntraUnavailable", "Entra ID"))
}

/// Sends `request` once, which carries `request_id`, to whoever answers as Entra ID does.
pub(crate) async fn exchange(
    http: &Http,
    request: Request<Full<Bytes>>,
    request_id: Option<String>,
) -> Result<Answer, Unreachable> {
    let http = http.exchange(request, DEADLINE, MAX_TOKEN_ANSWER).await?;
    Ok(Answer { http, request_id })
}

/// What Entra ID answered, and the id that our request had.
pub(crate) struct Answer {
    pub(crate) http: Response<Bytes>,
    request_id: Option<String>,
}

impl Answer {
    pub(crate) fn grant(&self) -> Option<Grant> {
        grant(&self.http)
    }

    pub(crate) fn refusal(&self) -> Refusal {
        let body: Value = serde_json::from_slice(self.http.body()).unwrap_or_default();
        let field = |name: &str| body.get(name).and_then(Value::as_str);
        let header = text(self.http.headers(), "x-ms-request-id");
        let ids = [field("trace_id"), header, field("correlation_id"), self.request_id.as_deref()];
        Refusal {
            codes: codes(body.get("error_codes"), field("error_description").unwrap_or_default()),
            error: field("error").unwrap_or_default().to_owned(),
            status: self.http.status().as_u16(),
            retry_after: retry_after(self.http.headers()),
            trace: ids.into_iter().flatten().find(|id| is_guid(id)).map(str::to_owned),
        }
    }
}

/// What an answer without a token says. Only numbers, the HTTP status and a GUID leave it; `error` is only compared.
pub(crate) struct Refusal {
    codes: Vec<u32>,
    pub(crate) error: String,
    status: u16,
    retry_after: Option<Duration>,
    trace: Option<String>,
}

impl Refusal {
    /// What it means to an identity of a BearerToken.
    fn of_an_identity(&self) -> Failure {
        let failure = entra::from_answer(&self.codes, &self.error, self.status, self.retry_after);
        failure.trace(self.trace.as_deref())
    }

    /// What it means to the pod's own identity, which signs in at the token proxy: Entra ID's refusals come through it,
    /// and one without a number of Entra ID's is its own.
    pub(crate) fn of_the_token_proxy(&self) -> Failure {
        if self.codes.is_empty() {
            return token_proxy::from_status(self.status, self.retry_after).trace(self.trace.as_deref());
        }
        self.of_an_identity()
    }

    /// What it means to whoever does the set-up.
    pub(crate) fn of_an_operator(&self) -> Failure {
        let failure = operator::entra(&self.codes, &self.error, self.status, self.retry_after);
        failure.trace(self.trace.as_deref())
    }
}

/// The AADSTS numbers of an error: from the list, or from the words where an older answer has no list.
fn codes(listed: Option<&Value>, description: &str) -> Vec<u32> {
    let listed = listed.and_then(Value::as_array).into_iter().flatten().filter_map(code);
    let listed: Vec<u32> = listed.take(entra::MAX_CODES).collect();
    if listed.is_empty() { entra::codes(description) } else { listed }
}

fn code(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|code| code.try_into().ok()).or_else(|| value.as_str()?.parse().ok())
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
        assert_eq!(codes(None, "AADSTS700213: no"), [700_213]);
        assert_eq!(codes(Some(&Value::Null), "AADSTS700213: no"), [700_213]);
        assert_eq!(codes(Some(&serde_json::json!(vec![1; 1000])), "").len(), entra::MAX_CODES);
    }

    #[test]
    fn a_tenant_that_changes_the_path_is_not_sent() {
        for tenant in ["", "..", "a/b", "a?b", "a#b", "a%2fb"] {
            let request = request(&Authority::default(), tenant, Endpoint::Token, Form::of(&[]), None);
            assert!(request.is_err(), "{tenant}");
        }
    }
}
