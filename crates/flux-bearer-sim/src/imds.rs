//! The instance metadata service at 169.254.169.254: tokens of the identities that "this machine" has.
//!
//! As on Azure, every number in an answer is text, and the same token comes again until it nears its end: a new one
//! can't be forced.

mod limit;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde_json::json;
use url::form_urlencoded;

pub(crate) use self::limit::Limit;
use crate::entra::{Grant, Minted, Proof, Refusal, Resource, mint};
use crate::journal::Visit;
use crate::state::{Application, State, Tenant};
use crate::world::World;

/// The address, which is also the host name of every request.
pub(crate) const HOST: &str = "169.254.169.254";

/// First api-version of the token endpoint; later ones are accepted as well (Rust's SDK sends 2019-08-01).
const FIRST_VERSION: &str = "2018-02-01";

/// Tokens handed out, by client id and audience.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    tokens: Mutex<HashMap<(String, &'static str), Minted>>,
}

/// A refusal: status, `error`, `error_description`.
struct Refused(StatusCode, &'static str, String);

impl Refused {
    fn bad(error: &'static str, description: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, error, description.into())
    }

    fn invalid_request(description: impl Into<String>) -> Self {
        Self::bad("invalid_request", description)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let description = format!("AADSTS{}: {}", refusal.code, refusal.message);
        Self(refusal.status, refusal.error, description)
    }
}

/// Answers a request for [`HOST`].
pub(crate) fn serve(world: &World, request: &Request<Body>, visit: &Visit) -> Response<Body> {
    match answer(world, request, visit) {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(Refused(status, error, description)) => {
            json_answer(status, &json!({"error": error, "error_description": description}))
        }
    }
}

/// 429, which IMDS answers beyond its limits.
pub(crate) fn too_many() -> Response<Body> {
    let description = "Too many requests. Identity category: 20 requests a second, 5 at a time.";
    json_answer(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "too_many_requests", "error_description": description}))
}

fn answer(world: &World, request: &Request<Body>, visit: &Visit) -> Result<serde_json::Value, Refused> {
    check_path(request.method(), request.uri())?;
    check_headers(request.headers())?;
    let query = request.uri().query().unwrap_or_default();
    let query: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    check_version(query.get("api-version"))?;
    let missing = || Refused::invalid_request("Required query variable 'resource' is missing");
    let name = query.get("resource").filter(|name| !name.is_empty()).ok_or_else(missing)?;
    let state = world.snapshot();
    let (tenant, application) = select(&state, &query)?;
    visit.client(&application.client_id);
    let unknown = |_| {
        let text =
            format!("AADSTS50001: The application named {name} was not found in the tenant named {}.", tenant.id);
        Refused::bad("invalid_resource", text)
    };
    let resource = Resource::named(name, tenant).map_err(unknown)?;
    let minted = token(world, &state, tenant, application, resource, visit)?;
    Ok(token_body(&minted, application, name, world.clock().now().as_second()))
}

fn check_path(method: &Method, uri: &Uri) -> Result<(), Refused> {
    if method != Method::GET {
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "The method must be GET".to_owned()));
    }
    if uri.path().eq_ignore_ascii_case("/metadata/identity/oauth2/token") {
        return Ok(());
    }
    Err(Refused(StatusCode::UNAUTHORIZED, "unknown_source", format!("Unknown Source {}", uri.path())))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key("x-forwarded-for") {
        // That it is refused is documented, the wording is not.
        return Err(Refused::invalid_request("Requests with an X-Forwarded-For header are refused"));
    }
    if headers.get("metadata").is_some_and(|value| value == "true") {
        return Ok(());
    }
    Err(Refused::bad("bad_request_102", "Required metadata header not specified"))
}

fn check_version(version: Option<&String>) -> Result<(), Refused> {
    match version.map(String::as_str) {
        None => Err(Refused::invalid_request("Required query variable 'api-version' is missing")),
        Some(version) if version.len() == FIRST_VERSION.len() && version >= FIRST_VERSION => Ok(()),
        Some(version) => Err(Refused::invalid_request(format!("The api-version '{version}' is not supported"))),
    }
}

/// The identity that the query selects, or the one that is meant without a selector.
fn select<'a>(state: &'a State, query: &HashMap<String, String>) -> Result<(&'a Tenant, &'a Application), Refused> {
    let not_found = || Refused::invalid_request("Identity not found");
    let selectors = ["client_id", "object_id", "msi_res_id"].map(|name| Some((name, query.get(name)?)));
    let mut selectors = selectors.into_iter().flatten();
    let Some((name, value)) = selectors.next() else { return unselected(state) };
    if selectors.next().is_some() {
        return Err(Refused::invalid_request("At most one of client_id, object_id and msi_res_id may be specified"));
    }
    let is_meant = |application: &Application| match name {
        "client_id" => application.client_id.eq_ignore_ascii_case(value),
        "object_id" => application.object_id.eq_ignore_ascii_case(value),
        _ => application.resource_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(value)),
    };
    let assigned = state.imds.system_assigned.iter().chain(&state.imds.user_assigned);
    let mut assigned = assigned.filter_map(|id| state.application(id));
    assigned.find(|(_, application)| is_meant(application)).ok_or_else(not_found)
}

fn unselected(state: &State) -> Result<(&Tenant, &Application), Refused> {
    let not_found = || Refused::invalid_request("Identity not found");
    let id = match (&state.imds.system_assigned, state.imds.user_assigned.as_slice()) {
        (Some(system), _) => system,
        (None, [only]) => only,
        (None, []) => return Err(not_found()),
        (None, _) => {
            let text = "Multiple user assigned identities exist, please specify the clientId / resourceId of the \
                identity in the token request";
            return Err(Refused::invalid_request(text));
        }
    };
    state.application(id).ok_or_else(not_found)
}

/// The cached token while it is far from its end, else a new one.
fn token(
    world: &World,
    state: &State,
    tenant: &Tenant,
    application: &Application,
    resource: Resource,
    visit: &Visit,
) -> Result<Minted, Refused> {
    let key = (application.client_id.to_ascii_lowercase(), resource.audience());
    let now = world.clock().now().as_second();
    let mut tokens = world.imds_cache().tokens.lock().unwrap_or_else(PoisonError::into_inner);
    let renew_at = now.saturating_add(i64::from(state.imds.renew_before_seconds));
    if let Some(kept) = tokens.get(&key).filter(|kept| state.imds.cache && renew_at < kept.expires_on) {
        return Ok(kept.clone());
    }
    if application.disabled {
        return Err(Refusal::disabled(&application.client_id, &application.name).into());
    }
    let (proof, defaults) = (Proof::Assertion, &state.defaults);
    let grant = Grant { tenant, application, resource, proof, handles_challenges: false, defaults };
    let minted = mint(world, &grant, visit)?;
    tokens.insert(key, minted.clone());
    Ok(minted)
}

fn token_body(minted: &Minted, application: &Application, resource: &str, now: i64) -> serde_json::Value {
    // One second less than is left, as with a fresh token: what has begun is not counted.
    let left = minted.expires_on.saturating_sub(now).saturating_sub(1).max(0).to_string();
    json!({
        "access_token": minted.token,
        "client_id": application.client_id,
        "refresh_token": "",
        "expires_in": left,
        "expires_on": minted.expires_on.to_string(),
        "ext_expires_in": left,
        "not_before": minted.not_before.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    })
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::SERVER, HeaderValue::from_static("IMDS/150.870.65.1854"));
    response
}
