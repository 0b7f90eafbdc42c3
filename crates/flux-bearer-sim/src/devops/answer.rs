//! The answers of Azure DevOps that are not what was asked for, and the headers that all of them carry.
//!
//! Wording and headers are a composite of captures from 2020-2026.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::suppresses_sign_in;
use crate::random;
use crate::state::{Organization, RateLimit, SignInAnswer, StateError, is_zero};

/// The identity of those who have none.
pub(super) const ANONYMOUS: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

const SIGN_IN_SERVICE: &str = "https://spsprodneu1.vssps.visualstudio.com/";
const REALM: &str = "https://tfsprodneu2.visualstudio.com/";
const P3P: &str = "CP=\"CAO DSP COR ADMa DEV CONo TELo CUR PSA PSD TAI IVDo OUR SAMi BUS DEM NAV STA UNI COM INT PHY ONL \
    FIN PUR LOC CNT\"";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Units a service principal may use in five minutes: `X-RateLimit-Limit`.
const UNITS: u32 = 200;

/// How one request of an organisation is answered.
pub(super) struct Answers<'a> {
    organization: &'a Organization,
    is_git: bool,
    suppressed: bool,
    is_read: bool,
}

/// The error object of the REST API.
#[derive(Serialize)]
struct ApiError<'a> {
    #[serde(rename = "$id")]
    id: &'static str,
    #[serde(rename = "innerException")]
    inner_exception: Option<()>,
    message: &'a str,
    #[serde(rename = "typeName")]
    type_name: &'a str,
    #[serde(rename = "typeKey")]
    type_key: &'a str,
    #[serde(rename = "errorCode")]
    error_code: u32,
    #[serde(rename = "eventId")]
    event_id: u32,
}

/// Kind of an error: the namespace of its .NET type, and its name.
pub(super) struct ErrorType(pub(super) &'static str, pub(super) &'static str);

const FRAMEWORK: &str = "Microsoft.TeamFoundation.Framework.Server";
const UNAUTHORIZED: ErrorType = ErrorType(FRAMEWORK, "UnauthorizedRequestException");
const SERVICE_ERROR: ErrorType = ErrorType("Microsoft.VisualStudio.Services.Common", "VssServiceException");

impl<'a> Answers<'a> {
    /// Answers to this request.
    pub(super) fn to(request: &Request<Body>, organization: &'a Organization, is_git: bool) -> Self {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::POST);
        Self { organization, is_git, suppressed: suppresses_sign_in(request.headers()), is_read }
    }

    /// An error: an object for REST, a line of text for Git, which prints it as `remote:`.
    pub(super) fn error(&self, status: StatusCode, message: &str, kind: &ErrorType) -> Response<Body> {
        if self.is_git {
            return typed(status, "text/plain; charset=utf-8", message.to_owned());
        }
        api_error(status, message, kind)
    }

    /// To a missing or bad token: Git and suppressed requests get 401, a browser would get a page or a redirect.
    pub(super) fn sign_in(&self) -> Response<Body> {
        if self.is_git || self.suppressed || !self.is_read {
            return self.unauthorized();
        }
        match self.organization.sign_in_answer {
            SignInAnswer::Page => self.challenged(typed(
                StatusCode::NON_AUTHORITATIVE_INFORMATION,
                "text/html; charset=utf-8",
                page("Azure DevOps Services | Sign In"),
            )),
            SignInAnswer::Redirect => self.challenged(self.redirect()),
        }
    }

    /// 401 TF400813 for an identity that is not known.
    pub(super) fn unauthorized(&self) -> Response<Body> {
        let user = if self.is_git || self.suppressed { ANONYMOUS } else { "" };
        self.unauthorized_because(&format!("TF400813: The user '{user}' is not authorized to access this resource."))
    }

    /// 401 with this message.
    pub(super) fn unauthorized_because(&self, message: &str) -> Response<Body> {
        let mut response = if self.is_git {
            let text = message.strip_prefix("TF400813: ").unwrap_or(message).replace('\'', "&#39;");
            typed(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", page(&text))
        } else {
            self.error(StatusCode::UNAUTHORIZED, message, &UNAUTHORIZED)
        };
        let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        set(response.headers_mut(), "x-tfs-soapexception", &encoded(&soap_fault(message)));
        set(response.headers_mut(), "x-tfs-serviceerror", &encoded(message));
        self.challenged(response)
    }

    /// To any Entra token, in an organisation backed by Microsoft accounts.
    pub(super) fn no_entra_here(&self) -> Response<Body> {
        if self.is_git { self.unauthorized() } else { self.challenged(self.redirect()) }
    }

    /// 403 VS403463.
    pub(super) fn blocked_by_policy(&self) -> Response<Body> {
        let message = "VS403463: The conditional access policy defined by your Azure Active Directory administrator has \
            failed.";
        self.error(StatusCode::FORBIDDEN, message, &SERVICE_ERROR)
    }

    /// 429 TF400733.
    pub(super) fn too_many(&self) -> Response<Body> {
        let message = "TF400733: The request has been canceled: Request was blocked due to exceeding usage of resource \
            Concurrency in namespace User.";
        self.error(StatusCode::TOO_MANY_REQUESTS, message, &ErrorType(FRAMEWORK, "RequestBlockedException"))
    }

    /// 404 VS800075, for a project that is missing or may not be seen.
    pub(super) fn no_project(&self, name: &str) -> Response<Body> {
        let message = format!(
            "VS800075: The project with id '{name}' does not exist, or you do not have permission to access it."
        );
        let kind = ErrorType("Microsoft.TeamFoundation.Core.WebApi", "ProjectDoesNotExistException");
        self.error(StatusCode::NOT_FOUND, &message, &kind)
    }

    /// 404 TF401019, for a repository that is missing or may not be read.
    pub(super) fn no_repository(&self, name: &str) -> Response<Body> {
        let message = format!(
            "TF401019: The Git repository with name or identifier {name} does not exist or you do not have permissions \
             for the operation you are attempting."
        );
        let kind = ErrorType("Microsoft.TeamFoundation.Git.Server", "GitRepositoryNotFoundException");
        self.error(StatusCode::NOT_FOUND, &message, &kind)
    }

    /// The headers that every answer has, and those of rate limiting where it is in force.
    pub(super) fn finish(&self, response: &mut Response<Body>, now: Timestamp) {
        let headers = response.headers_mut();
        let activity = random::uuid();
        for name in ["activityid", "x-tfs-session", "x-vss-e2eid"] {
            set(headers, name, &activity);
        }
        set(headers, "x-tfs-processid", &random::uuid());
        set(headers, "x-vss-resourcetenant", &self.organization.tenant_id);
        set(headers, "p3p", P3P);
        set(headers, "strict-transport-security", "max-age=31536000; includeSubDomains");
        set(headers, "x-frame-options", "SAMEORIGIN");
        if let Some(limit) = &self.organization.rate_limit {
            add_rate_limit(headers, limit, now);
        }
    }

    fn redirect(&self) -> Response<Body> {
        let reply_to = format!("https://dev.azure.com/{}", self.organization.name);
        let reply_to = utf8_percent_encode(&reply_to, UNRESERVED);
        let mut response = typed(StatusCode::FOUND, "text/html; charset=utf-8", page("Object moved"));
        let location = format!("{SIGN_IN_SERVICE}_signin?realm=dev.azure.com&reply_to={reply_to}");
        set(response.headers_mut(), "location", &location);
        response
    }

    /// The answer with the challenges that name the tenant.
    fn challenged(&self, mut response: Response<Body>) -> Response<Body> {
        let tenant = &self.organization.tenant_id;
        let bearer = if is_zero(tenant) {
            "Bearer".to_owned()
        } else {
            format!("Bearer authorization_uri=https://login.microsoftonline.com/{tenant}")
        };
        let headers = response.headers_mut();
        for challenge in [bearer, format!("Basic realm=\"{REALM}\""), "TFS-Federated".to_owned()] {
            headers.extend(HeaderValue::from_str(&challenge).ok().map(|value| (header::WWW_AUTHENTICATE, value)));
        }
        let endpoint = format!("https://vssps.dev.azure.com/{}/", self.organization.name);
        set(headers, "x-vss-authorizationendpoint", &endpoint);
        set(headers, "x-tfs-fedauthrealm", REALM);
        set(headers, "x-tfs-fedauthissuer", SIGN_IN_SERVICE);
        response
    }
}

/// 404 for what is no resource of any organisation (what Azure DevOps says there could not be confirmed).
pub(super) fn no_such_page() -> Response<Body> {
    typed(StatusCode::NOT_FOUND, "text/html; charset=utf-8", page("The resource cannot be found."))
}

/// 400 for what no state may hold.
pub(super) fn bad_state(error: &StateError) -> Response<Body> {
    api_error(StatusCode::BAD_REQUEST, &error.to_string(), &SERVICE_ERROR)
}

/// The error object of the REST API.
fn api_error(status: StatusCode, message: &str, ErrorType(namespace, type_key): &ErrorType) -> Response<Body> {
    let type_name = format!("{namespace}.{type_key}, {namespace}");
    let (id, inner_exception, error_code, event_id) = ("1", None, 0, 3000);
    json(status, &ApiError { id, inner_exception, message, type_name: &type_name, type_key, error_code, event_id })
}

/// An answer of this type.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    // Nothing that is answered here has a form that JSON lacks.
    let text = serde_json::to_string(body).unwrap_or_default();
    typed(status, "application/json; charset=utf-8; api-version=7.1", text)
}

fn add_rate_limit(headers: &mut HeaderMap, limit: &RateLimit, now: Timestamp) {
    set(headers, "retry-after", &limit.retry_after_seconds.to_string());
    set(headers, "x-ratelimit-resource", "Concurrency");
    set(headers, "x-ratelimit-delay", &format!("{}.000", limit.retry_after_seconds));
    set(headers, "x-ratelimit-limit", &UNITS.to_string());
    set(headers, "x-ratelimit-remaining", "0");
    let reset = now.as_second().saturating_add(i64::from(limit.retry_after_seconds));
    set(headers, "x-ratelimit-reset", &reset.to_string());
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn page(text: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Azure DevOps</title></head><body><p>{text}</p></body></html>\n"
    )
}

fn soap_fault(message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope xmlns:soap=\"http://www.w3.org/2003/05/soap-envelope\">\
         <soap:Body><soap:Fault><soap:Code><soap:Value>soap:Receiver</soap:Value><soap:Subcode><soap:Value>\
         UnauthorizedRequestException</soap:Value></soap:Subcode></soap:Code><soap:Reason><soap:Text xml:lang=\"en\">\
         {message}</soap:Text></soap:Reason></soap:Fault></soap:Body></soap:Envelope>"
    )
}
