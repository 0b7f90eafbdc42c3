//! The token proxy of AKS identity bindings: it knows the cluster's service accounts, and vouches for them at Entra.
//!
//! Documented are the address, the audience, the right that an account needs, and that the request is Entra's own. What
//! the proxy answers by itself is not: its statuses are those of an API server, and [`TokenProxyErrors`] chooses the body.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;

use crate::entra::{Form, check_validity, serve_vouched};
use crate::journal::Visit;
use crate::jwt::Jwt;
use crate::state::{TokenProxy, TokenProxyErrors};
use crate::world::World;

/// The audience that a service account token has to have.
const AUDIENCE: &str = "api://AKSIdentityBinding";

/// A refusal of the proxy itself: status, OAuth `error`, words.
struct Refused(StatusCode, &'static str, String);

/// Answers a request for the host of the token proxy.
pub(crate) async fn serve(world: &World, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let state = world.snapshot();
    let Some(proxy) = &state.token_proxy else {
        // A change of the state has just taken it away.
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).unwrap_or_default();
    };
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (&Method::POST, [tenant, "oauth2", "v2.0", "token"]) = (request.method(), segments.as_slice()) else {
        let refused = Refused(StatusCode::NOT_FOUND, "invalid_request", "the proxy has tokens and nothing else".into());
        return answer(proxy, &refused);
    };
    let headers = request.headers().clone();
    let form = Form::read(request).await;
    match vouch(world, proxy, &form).await {
        Ok(()) => serve_vouched(world, tenant, &form, &headers, visit).await,
        Err(refused) => answer(proxy, &refused),
    }
}

/// Whether the account that signed in may be the identity that it wants to be, as an API server would be asked.
async fn vouch(world: &World, proxy: &TokenProxy, form: &Form) -> Result<(), Refused> {
    let unknown =
        |why: &str| Refused(StatusCode::UNAUTHORIZED, "invalid_client", format!("the service account token {why}"));
    let assertion = form.get("client_assertion").and_then(Jwt::parse).ok_or_else(|| unknown("can't be read"))?;
    if assertion.text("iss") != proxy.issuer {
        return Err(unknown("is of another cluster"));
    }
    if !assertion.audiences().contains(&AUDIENCE) {
        return Err(unknown("is for another audience"));
    }
    check_validity(&assertion, world.clock().now()).map_err(|_| unknown("is not within its valid time"))?;
    let verified = world.issuer_keys().verify(&world.snapshot(), &proxy.issuer, &assertion).await;
    verified.map_err(|_| unknown("is not signed by the cluster"))?;
    let (client, subject) = (form.get("client_id").unwrap_or_default(), assertion.text("sub"));
    let mut bindings = proxy.bindings.iter().filter(|one| one.client_id.eq_ignore_ascii_case(client));
    if bindings.any(|one| one.subjects.iter().any(|known| known == subject)) {
        return Ok(());
    }
    let words =
        format!("{subject} cannot use-managed-identity resource \"{client}\" in API group \"cid.wi.aks.azure.com\"");
    Err(Refused(StatusCode::FORBIDDEN, "unauthorized_client", words))
}

fn answer(proxy: &TokenProxy, Refused(status, error, words): &Refused) -> Response<Body> {
    let (media, body) = match proxy.errors {
        TokenProxyErrors::Text => ("text/plain; charset=utf-8", format!("{words}\n")),
        TokenProxyErrors::OAuth => {
            ("application/json", json!({"error": error, "error_description": words}).to_string())
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = *status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    response
}
