//! What a Secret holds, read off the token itself and not off what is written beside it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;

/// A token in a Secret.
pub struct Holding {
    /// The token.
    pub token: String,
    /// Whose it is, by its claims.
    pub client: String,
    /// When it expires, by its claims.
    pub expires: Timestamp,
}

impl Holding {
    /// The token in `object`, where that is a Secret and holds one.
    pub fn of(object: &Value) -> Option<Self> {
        let token = text(object)?;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let client = claims.get("appid")?.as_str()?.to_owned();
        let expires = Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()?;
        Some(Self { token, client, expires })
    }
}

/// What is in the place of a token in `object`, where that is a Secret, whether it is one or not.
pub fn text(object: &Value) -> Option<String> {
    let data = object.get("data").filter(|_| object.get("kind").is_some_and(|kind| kind == "Secret"))?;
    let encoded = data.get("bearerToken").or_else(|| data.get("password"))?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}
