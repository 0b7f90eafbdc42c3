//! What a Secret holds, read off the token itself and not off what is written beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// That a Secret was filled, at a moment, with another token than before.
#[derive(Clone)]
pub struct Filling {
    /// The Secret's name.
    pub secret: String,
    /// When.
    pub at: Timestamp,
    /// The token.
    pub token: String,
    /// When that expires, by its claims.
    pub expires: Timestamp,
}

/// Every filling of every Secret, in their order. Clones share them.
#[derive(Clone, Default)]
pub struct Fillings(Arc<Mutex<Vec<Filling>>>);

impl Fillings {
    /// Takes in that `object` was written.
    pub fn note(&self, object: &Value, at: Timestamp) {
        let Some(Holding { token, expires, .. }) = Holding::of(object) else { return };
        let secret = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut fillings = self.lock();
        if fillings.iter().rev().find(|last| last.secret == secret).is_none_or(|last| last.expires != expires) {
            fillings.push(Filling { secret, at, token, expires });
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Filling> {
        self.lock().clone()
    }

    /// Those of one Secret.
    pub fn of(&self, secret: &str) -> Vec<Filling> {
        self.lock().iter().filter(|filling| filling.secret == secret).cloned().collect()
    }

    /// How many seconds until `now`, since it was first filled, a Secret held a token that had expired.
    pub fn expired_seconds(&self, secret: &str, now: Timestamp) -> u64 {
        let mine = self.of(secret);
        let ends = mine.iter().skip(1).map(|next| next.at).chain([now]);
        let expired = mine.iter().zip(ends).map(|(filling, end)| end.duration_since(filling.expires).as_secs().max(0));
        expired.sum::<i64>().unsigned_abs()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Filling>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in the place of a token in `object`, where that is a Secret, whether it is one or not.
pub fn text(object: &Value) -> Option<String> {
    let data = object.get("data").filter(|_| object.get("kind").is_some_and(|kind| kind == "Secret"))?;
    let encoded = data.get("bearerToken").or_else(|| data.get("password"))?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}
