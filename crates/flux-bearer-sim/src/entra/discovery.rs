//! What clients read before they ask for a token.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answer::{self, Ids};
use super::person::ANY_TENANT;
use super::refusal::Refusal;
use super::{HOSTS, token};
use crate::journal::Visit;
use crate::world::World;

const AUTHORITY: &str = "https://login.microsoftonline.com";

/// `GET /common/discovery/instance`: which hosts are Entra. MSAL for Go asks it even for login.microsoftonline.com.
pub(super) fn instance(query: &str) -> Response<Body> {
    let endpoint = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "authorization_endpoint");
    let endpoint = endpoint.and_then(|(_, value)| url::Url::parse(&value).ok());
    let Some((host, tenant)) = endpoint.as_ref().and_then(host_and_tenant) else { return unknown_instance() };
    let body = json!({
        "tenant_discovery_endpoint": format!("https://{host}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{
            "preferred_network": "login.microsoftonline.com",
            "preferred_cache": "login.windows.net",
            "aliases": HOSTS,
        }],
    });
    cacheable(&body)
}

fn host_and_tenant(endpoint: &url::Url) -> Option<(&str, &str)> {
    let host = endpoint.host_str().filter(|host| HOSTS.contains(host))?;
    Some((host, endpoint.path_segments()?.next()?))
}

fn unknown_instance() -> Response<Body> {
    let body = json!({
        "error": "invalid_instance",
        "error_description": "AADSTS50049: Unknown or invalid instance.",
        "error_codes": [50049],
    });
    let mut response = cacheable(&body);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`.
pub(super) fn metadata(world: &World, tenant: &str, visit: &Visit) -> Response<Body> {
    let state = world.snapshot();
    if ANY_TENANT.contains(&tenant) {
        // Who signs in is not known yet, and so is the issuer.
        return answer::success(&document(tenant, "{tenantid}"), &Ids::new(None));
    }
    let Some(known) = state.tenant(tenant) else {
        let refusal = Refusal::no_tenant_in_discovery(tenant);
        return token::refuse(world, &refusal, &Ids::new(None), visit);
    };
    answer::success(&document(tenant, &known.id), &Ids::new(None))
}

/// The document, whose endpoints keep the tenant as it was asked for while `issuer` has its GUID.
fn document(tenant: &str, id: &str) -> Value {
    json!({
        "token_endpoint": format!("{AUTHORITY}/{tenant}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": format!("{AUTHORITY}/{tenant}/discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": format!("{AUTHORITY}/{id}/v2.0"),
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
        "authorization_endpoint": format!("{AUTHORITY}/{tenant}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{AUTHORITY}/{tenant}/oauth2/v2.0/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{AUTHORITY}/{tenant}/oauth2/v2.0/logout"),
        "kerberos_endpoint": format!("{AUTHORITY}/{tenant}/kerberos"),
        "tenant_region_scope": "EU",
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
        "rbac_url": "https://pas.windows.net",
    })
}

/// `GET /{tenant}/discovery/v2.0/keys`: the key that signs every token of this world.
pub(super) fn keys(world: &World) -> Response<Body> {
    answer::success(&json!(world.keys()), &Ids::new(None))
}

fn cacheable(body: &Value) -> Response<Body> {
    let mut response = answer::success(body, &Ids::new(None));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400, private"));
    response
}
