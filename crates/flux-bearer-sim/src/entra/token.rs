//! `POST /{tenant}/oauth2/v2.0/token`: grant `client_credentials` here, those of people in [`super::person`].
//!
//! Checks in this order, which follows from the families of messages: tenant, completeness, application, credential,
//! resource, Conditional Access. Every POST mints: the endpoint has no cache.

use std::collections::HashMap;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Request, Response, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::json;
use url::form_urlencoded;

use super::answer::{self, Ids};
use super::mint::{Grant, Minted, Proof, mint};
use super::propagation::has_propagated;
use super::refusal::Refusal;
use super::resource::Resource;
use super::{assertion, certificate, person};
use crate::journal::Visit;
use crate::jwt::Jwt;
use crate::state::{Application, State, Tenant, is_guid, is_zero};
use crate::world::World;

/// `client_assertion_type` of a JWT.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Bytes that a request may have.
const LARGEST: usize = 1 << 20;

/// The parameters of a token request. Unknown ones mean nothing.
#[derive(Default)]
pub(crate) struct Form {
    fields: HashMap<String, String>,
}

impl Form {
    /// Reads the body, and client id and secret from HTTP Basic authentication where they come that way.
    pub(crate) async fn read(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let body = if parts.method == Method::POST {
            axum::body::to_bytes(body, LARGEST).await.unwrap_or_default()
        } else {
            bytes::Bytes::new()
        };
        let basic = basic_credentials(&parts.headers);
        let fields = basic.into_iter().flat_map(|(id, secret)| [("client_id", id), ("client_secret", secret)]);
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let query = query.into_owned().filter(|(name, _)| name == "client-request-id");
        Self { fields: fields.chain(query).chain(form_urlencoded::parse(&body).into_owned()).collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A parameter that must be there and not be empty.
    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing_parameter(name))
    }

    /// Whether the client says that it handles claims challenges.
    fn handles_challenges(&self) -> bool {
        self.get("claims").is_some_and(|claims| claims.contains("CP1") || claims.contains("cp1"))
    }
}

/// `Authorization: Basic base64(urlencode(id):urlencode(secret))`.
fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decode(id), decode(secret)))
}

/// Answers a token request.
pub(super) async fn serve(world: &World, tenant: &str, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let headers = request.headers().clone();
    let form = Form::read(request).await;
    let ids = ids(&headers, &form);
    match exchange(world, tenant, &form, visit).await {
        Ok(body) => answer::success(&body, &ids),
        Err(refusal) => refuse(world, &refusal, &ids, visit),
    }
}

/// Answers a token request for whose account the token proxy of AKS vouches, with an assertion of its own.
pub(crate) async fn serve_vouched(
    world: &World,
    tenant: &str,
    form: &Form,
    headers: &HeaderMap,
    visit: &Visit,
) -> Response<Body> {
    let ids = ids(headers, form);
    let answered = match Credential::of(form) {
        Ok(_) => grant(world, tenant, form, &Credential::Vouched, visit).await,
        Err(refusal) => Err(refusal),
    };
    match answered {
        Ok(body) => answer::success(&body, &ids),
        Err(refusal) => refuse(world, &refusal, &ids, visit),
    }
}

fn ids(headers: &HeaderMap, form: &Form) -> Ids {
    let named = headers.get("client-request-id").and_then(|id| id.to_str().ok());
    Ids::new(named.or_else(|| form.get("client-request-id")))
}

/// The answer to a refused request, which the journal notes.
pub(super) fn refuse(world: &World, refusal: &Refusal, ids: &Ids, visit: &Visit) -> Response<Body> {
    visit.refused(refusal.code);
    answer::refused(refusal, ids, world.clock().now(), world.snapshot().defaults.error_lines)
}

async fn exchange(world: &World, tenant: &str, form: &Form, visit: &Visit) -> Result<serde_json::Value, Refusal> {
    let state = world.snapshot();
    match form.get("grant_type") {
        Some("urn:ietf:params:oauth:grant-type:device_code" | "device_code") => {
            person::tenant_of(&state, tenant)?;
            return person::redeem(world, &state, form, visit);
        }
        Some("refresh_token") => {
            return person::refresh(world, &state, person::tenant_of(&state, tenant)?, form, visit);
        }
        _ => {}
    }
    find_tenant(&state, tenant)?;
    grant(world, tenant, form, &Credential::of(form)?, visit).await
}

/// The token of the application of a request that signs in with `credential`.
async fn grant(
    world: &World,
    tenant: &str,
    form: &Form,
    credential: &Credential<'_>,
    visit: &Visit,
) -> Result<serde_json::Value, Refusal> {
    let state = world.snapshot();
    let tenant = find_tenant(&state, tenant)?;
    let client_id = form.required("client_id")?;
    visit.client(client_id);
    let scope = form.required("scope")?;
    let application = find_application(world, &state, tenant, client_id)?;
    let proof = credential.check(world, &state, tenant, application).await?;
    let resource = Resource::of_scopes(scope, tenant)?;
    if application.blocked_by_conditional_access {
        return Err(Refusal::blocked_by_policy());
    }
    let handles_challenges = form.handles_challenges();
    let grant = Grant { tenant, application, resource, proof, handles_challenges, defaults: &state.defaults };
    let minted = mint(world, &grant, visit)?;
    Ok(body(&minted, application))
}

pub(super) fn find_tenant<'a>(state: &'a State, tenant: &str) -> Result<&'a Tenant, Refusal> {
    if let Some(found) = state.tenant(tenant) {
        return Ok(found);
    }
    let is_domain = tenant.contains('.') && tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    Err(match tenant {
        _ if is_zero(tenant) => Refusal::zero_tenant(tenant),
        _ if is_guid(tenant) || is_domain => Refusal::no_tenant(tenant),
        _ => Refusal::malformed_tenant(tenant),
    })
}

fn find_application<'a>(
    world: &World,
    state: &State,
    tenant: &'a Tenant,
    client_id: &str,
) -> Result<&'a Application, Refusal> {
    let now = world.clock().now();
    let application = tenant
        .application(client_id)
        .filter(|application| has_propagated(application.created_at, &state.defaults, now))
        .ok_or_else(|| Refusal::no_application(client_id, &tenant.id))?;
    if application.disabled {
        return Err(Refusal::disabled(&application.client_id, &application.name));
    }
    Ok(application)
}

/// What a client signs in with.
enum Credential<'a> {
    Assertion(&'a str),
    Secret(&'a str),
    /// The token proxy of AKS has checked the account, and federates with an issuer of its own.
    Vouched,
}

impl<'a> Credential<'a> {
    /// The credential of a complete request.
    fn of(form: &'a Form) -> Result<Self, Refusal> {
        let grant = form.required("grant_type")?;
        if grant != "client_credentials" {
            return Err(Refusal::unsupported_grant(grant));
        }
        form.required("client_id")?;
        form.required("scope")?;
        match (form.get("client_assertion"), form.get("client_secret")) {
            (None, None) => Err(Refusal::no_credential()),
            (Some("") | None, Some("")) | (Some(""), None) => Err(Refusal::empty_credential()),
            (Some("") | None, Some(secret)) => Ok(Self::Secret(secret)),
            (Some(assertion), _) => match form.required("client_assertion_type")? {
                JWT_BEARER => Ok(Self::Assertion(assertion)),
                _ => Err(Refusal::missing_field("client_assertion_type")),
            },
        }
    }

    async fn check(
        &self,
        world: &World,
        state: &State,
        tenant: &Tenant,
        application: &Application,
    ) -> Result<Proof, Refusal> {
        let now = world.clock().now();
        match self {
            Self::Secret(value) => check_secret(application, value, now).map(|()| Proof::Secret),
            Self::Assertion(text) => {
                let assertion = Jwt::parse(text).ok_or_else(Refusal::malformed_assertion)?;
                if certificate::is_own(application, &assertion) {
                    certificate::check(tenant, application, &assertion, now)?;
                } else {
                    assertion::check(world, state, application, &assertion, now).await?;
                }
                Ok(Proof::Assertion)
            }
            Self::Vouched => check_binding(tenant, application).map(|()| Proof::Assertion),
        }
    }
}

/// Checks that the application has the federated credential that AKS makes with an identity binding. Its subject and
/// audience are AKS's own affair.
fn check_binding(tenant: &Tenant, application: &Application) -> Result<(), Refusal> {
    let issuer = format!("https://ib.oic.prod-aks.azure.com/{}/{}", tenant.id, application.client_id);
    let mut issuers = application.federated_credentials.iter().map(|one| &one.issuer);
    if issuers.any(|known| *known == issuer) { Ok(()) } else { Err(Refusal::wrong_issuer(&issuer)) }
}

fn check_secret(application: &Application, value: &str, now: Timestamp) -> Result<(), Refusal> {
    let known = application.secrets.iter().find(|known| known.value == value);
    let known = known.ok_or_else(|| Refusal::wrong_secret(&application.client_id))?;
    if known.expires_at.is_some_and(|end| end <= now) {
        return Err(Refusal::expired_secret(&application.client_id));
    }
    Ok(())
}

fn body(minted: &Minted, application: &Application) -> serde_json::Value {
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": minted.expires_in,
        "ext_expires_in": minted.expires_in,
    });
    if let Some(body) = body.as_object_mut() {
        body.extend(application.refresh_in_seconds.map(|seconds| ("refresh_in".to_owned(), json!(seconds))));
        body.insert("access_token".to_owned(), json!(minted.token));
    }
    body
}
