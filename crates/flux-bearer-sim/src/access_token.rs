//! Access tokens as a resource reads them.

use crate::journal::TokenVerdict;
use crate::jwt::Jwt;
use crate::world::World;

/// The claims of a token that is signed by this world's Entra, is valid now, and is for one of these audiences.
///
/// Errors: what is wrong with it; a stranger's signature says more than its other flaws.
pub(crate) fn read(world: &World, text: &str, audiences: &[&str]) -> Result<Jwt, TokenVerdict> {
    let jwt = Jwt::parse(text).ok_or(TokenVerdict::Malformed)?;
    let now = world.clock().now().as_second();
    let starts = jwt.seconds("nbf").unwrap_or(i64::MAX);
    let ends = jwt.seconds("exp").unwrap_or_default();
    if !jwt.is_signed_by(world.signing_key().jwk()) {
        Err(TokenVerdict::UnknownSignature)
    } else if now < starts || ends <= now {
        Err(TokenVerdict::Expired)
    } else if !audiences.contains(&jwt.text("aud")) {
        Err(TokenVerdict::WrongAudience)
    } else {
        Ok(jwt)
    }
}
