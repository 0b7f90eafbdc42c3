//! How a person signs in: with a device code, and later with the refresh token that came of it.
//!
//! Nobody types a code in here. The tenant's `deviceCode` says who would have, and after how many polls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{self, Ids};
use super::mint::{PersonalGrant, mint_id_token, mint_personal};
use super::refusal::Refusal;
use super::resource::Delegated;
use super::token::{self, Form};
use crate::journal::Visit;
use crate::random;
use crate::state::{DeviceCode, State, Tenant, User};
use crate::world::World;

/// Where the page would be that the code is typed into.
const PAGE: &str = "https://microsoft.com/devicelogin";

/// Names under which a tenant need not be known: the person's own is meant.
pub(super) const ANY_TENANT: [&str; 2] = ["organizations", "common"];

/// Microsoft's own applications that people sign in with: Azure CLI, Azure PowerShell, Visual Studio, VS Code.
const PUBLIC_CLIENTS: [&str; 4] = [
    "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
    "1950a258-227b-4e31-a9cf-717495945fc2",
    "872cd9fa-d31f-45e0-9eab-6e460a02d1f1",
    "aebc6443-996d-45c2-90f0-388ff96faa56",
];

/// Sign-ins that are under way, and those that can be renewed.
#[derive(Debug, Default)]
pub(crate) struct SignIns {
    /// By device code.
    pending: Mutex<HashMap<String, Pending>>,
    /// By refresh token.
    renewable: Mutex<HashMap<String, Renewable>>,
}

#[derive(Clone, Debug)]
struct Pending {
    tenant_id: String,
    client_id: String,
    scope: String,
    began: Timestamp,
    polls: u32,
    polled: Option<Timestamp>,
}

/// What a client asks for in a person's name.
struct Asked<'a> {
    client_id: &'a str,
    scope: &'a str,
    /// Whether it also wants to be told who the person is: `client_info`.
    wants_info: bool,
}

impl<'a> Asked<'a> {
    fn of(form: &'a Form, client_id: &'a str, scope: &'a str) -> Self {
        Self { client_id, scope, wants_info: form.get("client_info") == Some("1") }
    }

    fn asks_for(&self, wanted: &str) -> bool {
        self.scope.split_whitespace().any(|one| one == wanted)
    }
}

#[derive(Clone, Debug)]
struct Renewable {
    object_id: String,
    client_id: String,
}

/// The tenant of a person's sign-in: of `organizations` and `common`, the one in which somebody signs in.
pub(super) fn tenant_of<'a>(state: &'a State, name: &str) -> Result<&'a Tenant, Refusal> {
    let home = || state.tenants.iter().find(|tenant| tenant.device_code.is_some());
    if ANY_TENANT.contains(&name) {
        return home().ok_or_else(|| Refusal::no_tenant(name));
    }
    token::find_tenant(state, name)
}

/// `POST /{tenant}/oauth2/v2.0/devicecode`.
pub(super) async fn device_code(world: &World, tenant: &str, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let form = Form::read(request).await;
    let ids = Ids::new(form.get("client-request-id"));
    match begin(world, tenant, &form, visit) {
        Ok(body) => answer::success(&body, &ids),
        Err(refusal) => token::refuse(world, &refusal, &ids, visit),
    }
}

fn begin(world: &World, tenant: &str, form: &Form, visit: &Visit) -> Result<Value, Refusal> {
    let state = world.snapshot();
    let tenant = tenant_of(&state, tenant)?;
    let (client_id, scope) = (form.required("client_id")?, form.required("scope")?);
    visit.client(client_id);
    check_client(tenant, client_id)?;
    Delegated::of_scopes(scope, tenant)?;
    let how = tenant.device_code.clone().unwrap_or_default();
    let code = format!("{}{}", random::opaque(), random::opaque());
    let typed = random::uuid().replace('-', "").to_uppercase();
    let typed = typed.get(..9).unwrap_or_default();
    let pending = Pending {
        tenant_id: tenant.id.clone(),
        client_id: client_id.to_owned(),
        scope: scope.to_owned(),
        began: world.clock().now(),
        polls: 0,
        polled: None,
    };
    world.sign_ins().pending.lock().unwrap_or_else(PoisonError::into_inner).insert(code.clone(), pending);
    Ok(json!({
        "user_code": typed,
        "device_code": code,
        "verification_uri": PAGE,
        "expires_in": how.expires_in_seconds,
        "interval": how.interval_seconds,
        "message": format!(
            "To sign in, use a web browser to open the page {PAGE} and enter the code {typed} to authenticate."
        ),
    }))
}

/// Microsoft's own clients are everywhere; others have to be the tenant's.
fn check_client(tenant: &Tenant, client_id: &str) -> Result<(), Refusal> {
    let is_microsofts = PUBLIC_CLIENTS.iter().any(|known| known.eq_ignore_ascii_case(client_id));
    if is_microsofts || tenant.application(client_id).is_some() {
        return Ok(());
    }
    Err(Refusal::no_application(client_id, &tenant.id))
}

/// Grant `urn:ietf:params:oauth:grant-type:device_code`: a poll.
pub(super) fn redeem(world: &World, state: &State, form: &Form, visit: &Visit) -> Result<Value, Refusal> {
    let (client_id, code) = (form.required("client_id")?, form.required("device_code")?);
    visit.client(client_id);
    let pending = poll(world, state, client_id, code)?;
    let tenant = state.tenant(&pending.tenant_id).ok_or_else(Refusal::bad_device_code)?;
    let user = tenant.device_code.as_ref().and_then(|how| tenant.user(&how.user));
    let user = user.ok_or_else(Refusal::authorization_pending)?;
    world.sign_ins().pending.lock().unwrap_or_else(PoisonError::into_inner).remove(code);
    tokens(world, state, tenant, user, &Asked::of(form, client_id, &pending.scope), visit)
}

/// Counts a poll; the sign-in, once somebody has signed in.
fn poll(world: &World, state: &State, client_id: &str, code: &str) -> Result<Pending, Refusal> {
    let now = world.clock().now();
    let mut all = world.sign_ins().pending.lock().unwrap_or_else(PoisonError::into_inner);
    let known = all.get_mut(code).filter(|known| known.client_id.eq_ignore_ascii_case(client_id));
    let pending = known.ok_or_else(Refusal::bad_device_code)?;
    let how = state.tenant(&pending.tenant_id).and_then(|tenant| tenant.device_code.clone());
    let nobody_signs_in = how.is_none();
    let DeviceCode { after_polls, declined, expires_in_seconds, interval_seconds, enforce_interval, .. } =
        how.unwrap_or_default();
    let seconds = |count: u32| SignedDuration::from_secs(i64::from(count));
    if pending.began + seconds(expires_in_seconds) <= now {
        return Err(Refusal::device_code_expired());
    }
    let too_soon = pending.polled.is_some_and(|last| now < last + seconds(interval_seconds));
    pending.polled = Some(now);
    if enforce_interval && too_soon {
        return Err(Refusal::slow_down());
    }
    pending.polls = pending.polls.saturating_add(1);
    if nobody_signs_in || pending.polls <= after_polls {
        return Err(Refusal::authorization_pending());
    }
    if declined {
        return Err(Refusal::authorization_declined());
    }
    Ok(pending.clone())
}

/// Grant `refresh_token`. A refresh token is good for every resource, and stays good when it is used.
pub(super) fn refresh(
    world: &World,
    state: &State,
    tenant: &Tenant,
    form: &Form,
    visit: &Visit,
) -> Result<Value, Refusal> {
    let (client_id, scope) = (form.required("client_id")?, form.required("scope")?);
    visit.client(client_id);
    let presented = form.required("refresh_token")?;
    let renewable = world.sign_ins().renewable.lock().unwrap_or_else(PoisonError::into_inner).get(presented).cloned();
    let renewable = renewable.filter(|known| known.client_id.eq_ignore_ascii_case(client_id));
    let user = renewable.as_ref().and_then(|known| state.user(&known.object_id));
    let user = user.ok_or_else(Refusal::bad_refresh_token)?;
    if tenant.user(&user.user_principal_name).is_none() {
        return Err(Refusal::foreign_user(&user.user_principal_name, &tenant.id));
    }
    tokens(world, state, tenant, user, &Asked::of(form, client_id, scope), visit)
}

fn tokens(
    world: &World,
    state: &State,
    tenant: &Tenant,
    user: &User,
    asked: &Asked<'_>,
    visit: &Visit,
) -> Result<Value, Refusal> {
    let Delegated { name, resource } = Delegated::of_scopes(asked.scope, tenant)?;
    let client_id = asked.client_id;
    let grant = PersonalGrant { tenant, user, client_id, resource, defaults: &state.defaults };
    let minted = mint_personal(world, &grant, visit)?;
    let mut body = json!({
        "token_type": "Bearer",
        "scope": format!("{name}/user_impersonation {name}/.default"),
        "expires_in": minted.expires_in,
        "ext_expires_in": minted.expires_in,
        "access_token": minted.token,
    });
    if let Some(body) = body.as_object_mut() {
        if asked.asks_for("offline_access") {
            body.insert("refresh_token".to_owned(), json!(keep(world, user, client_id)));
        }
        if asked.asks_for("openid") {
            body.insert("id_token".to_owned(), json!(mint_id_token(world, &grant)?));
        }
        if asked.wants_info {
            let info = json!({"uid": user.object_id, "utid": tenant.id}).to_string();
            body.insert("client_info".to_owned(), json!(URL_SAFE_NO_PAD.encode(info)));
        }
    }
    Ok(body)
}

/// A new refresh token.
fn keep(world: &World, user: &User, client_id: &str) -> String {
    let token = format!("0.{}.{}", random::opaque(), random::opaque());
    let renewable = Renewable { object_id: user.object_id.clone(), client_id: client_id.to_owned() };
    world.sign_ins().renewable.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), renewable);
    token
}
