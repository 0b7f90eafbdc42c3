//! Entra ID: instance discovery, OIDC discovery, its public keys, the token endpoint and device codes.
//!
//! Answers, headers and the order of checks follow what has been recorded of login.microsoftonline.com in 2020-2026;
//! where a wording could not be confirmed, the place says so.

mod answer;
mod assertion;
mod certificate;
mod discovery;
mod issuer_keys;
mod mint;
mod person;
mod propagation;
mod refusal;
mod resource;
mod token;

use axum::body::Body;
use http::{Request, Response};

pub(crate) use self::assertion::check_validity;
pub(crate) use self::certificate::public_key;
pub(crate) use self::issuer_keys::IssuerKeys;
pub(crate) use self::mint::{Grant, Minted, Proof, mint};
pub(crate) use self::person::SignIns;
pub(crate) use self::propagation::Propagation;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::resource::Resource;
pub(crate) use self::token::{Form, serve_vouched};
use crate::journal::Visit;
use crate::world::World;

/// Hosts under which Entra answers. Each is an alias of the first.
pub(crate) const HOSTS: [&str; 4] =
    ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];

/// Answers a request for one of [`HOSTS`].
pub(crate) async fn serve(world: &World, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["common", "discovery", "instance"] => discovery::instance(request.uri().query().unwrap_or_default()),
        [tenant, "v2.0", ".well-known", "openid-configuration"] => discovery::metadata(world, tenant, visit),
        [_, "discovery", "v2.0", "keys"] => discovery::keys(world),
        [tenant, "oauth2", "v2.0", "devicecode"] => person::device_code(world, tenant, request, visit).await,
        [tenant, "oauth2", "v2.0", "token"] => token::serve(world, tenant, request, visit).await,
        _ => answer::not_found(),
    }
}
