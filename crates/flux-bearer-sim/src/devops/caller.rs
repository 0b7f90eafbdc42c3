//! Whose token came along, and whether Azure DevOps accepts it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::entra::Resource;
use crate::journal::TokenVerdict;
use crate::jwt::Jwt;
use crate::world::World;

/// Who sends a request.
pub(super) enum Caller {
    /// No one that Entra vouches for; the verdict says why.
    Stranger(TokenVerdict),
    /// The identity of a good token.
    Known(Identity),
}

/// What a token says of its identity.
#[expect(clippy::struct_field_names, reason = "they are the ids of Entra, under the names that the state has for them")]
pub(super) struct Identity {
    pub(super) object_id: String,
    pub(super) client_id: String,
    pub(super) tenant_id: String,
}

impl Caller {
    /// Reads `Authorization`: Bearer, or Basic with any user that is not empty and the token for a password.
    pub(super) fn of(world: &World, headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Self::Stranger(TokenVerdict::None) };
        let token = value.to_str().ok().and_then(token);
        let Some(jwt) = token.as_deref().and_then(Jwt::parse) else { return Self::Stranger(TokenVerdict::Malformed) };
        match flaw(world, &jwt) {
            Some(verdict) => Self::Stranger(verdict),
            None => Self::Known(Identity {
                object_id: jwt.text("oid").to_owned(),
                client_id: jwt.text("appid").to_owned(),
                tenant_id: jwt.text("tid").to_owned(),
            }),
        }
    }
}

fn token(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    (!user.is_empty()).then(|| password.to_owned())
}

/// What is wrong with a token; a stranger's signature says more than its other flaws.
fn flaw(world: &World, jwt: &Jwt) -> Option<TokenVerdict> {
    let now = world.clock().now().as_second();
    let starts = jwt.seconds("nbf").unwrap_or(i64::MAX);
    let ends = jwt.seconds("exp").unwrap_or_default();
    if !jwt.is_signed_by(world.signing_key().jwk()) {
        Some(TokenVerdict::UnknownSignature)
    } else if now < starts || ends <= now {
        Some(TokenVerdict::Expired)
    } else if jwt.text("aud") != Resource::AZURE_DEVOPS.audience() {
        Some(TokenVerdict::WrongAudience)
    } else {
        None
    }
}
