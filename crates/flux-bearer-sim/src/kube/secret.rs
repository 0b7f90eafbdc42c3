//! What the API server does with Secrets alone: `stringData`, the default type, immutability, sizes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::object::{self, Object, text};
use super::refusal::{Answer, Cause, Refusal};

/// The most that the values of one Secret may take together, in bytes (`core.MaxSecretSize`).
const MAX_BYTES: usize = 1024 * 1024;

/// Turns `stringData` into `data`, which it overrides, and drops what is empty.
pub(super) fn normalise(secret: &mut Object) {
    if let Some(Value::Object(texts)) = secret.remove("stringData") {
        object::edit(secret, "data", |data| {
            for (key, value) in texts {
                data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
            }
        });
    }
    object::omit_empty(secret, &["data"]);
}

/// Gives a Secret the type it has when it names none.
pub(super) fn set_default_type(secret: &mut Object) {
    let named = secret.get("type").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty());
    if !named {
        secret.insert("type".to_owned(), "Opaque".into());
    }
}

/// Checks a Secret that is to replace `old` (null for a new one).
pub(super) fn validate(old: &Value, new: &Value) -> Answer<Vec<Cause>> {
    let mut causes = Vec::new();
    if old.is_object() {
        causes.extend(changes_of_immutables(old, new));
    }
    if bytes(new)? > MAX_BYTES {
        causes.push(Cause::too_long("data", MAX_BYTES));
    }
    causes.extend(strange_keys(new));
    causes.extend(missing_keys(new));
    Ok(causes)
}

fn changes_of_immutables(old: &Value, new: &Value) -> Vec<Cause> {
    const WHY: &str = "field is immutable when `immutable` is set";
    let mut causes = Vec::new();
    if old.get("type") != new.get("type") {
        causes.push(Cause::invalid("type", text(new, "/type"), "field is immutable"));
    }
    let immutable = |secret: &Value| secret.get("immutable").and_then(Value::as_bool) == Some(true);
    if immutable(old) && !immutable(new) {
        causes.push(Cause::forbidden("immutable", WHY));
    }
    if immutable(old) && old.get("data") != new.get("data") {
        causes.push(Cause::forbidden("data", WHY));
    }
    causes
}

fn bytes(secret: &Value) -> Answer<usize> {
    let values = secret.get("data").and_then(Value::as_object).into_iter().flatten();
    values.map(|(_, value)| decoded_length(value)).sum()
}

fn decoded_length(value: &Value) -> Answer<usize> {
    let text = value.as_str().unwrap_or_default();
    STANDARD.decode(text).map(|bytes| bytes.len()).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        let why = format!("illegal base64 data at input byte {at}");
        Refusal::bad_request(format!("Secret in version \"v1\" cannot be handled as a Secret: {why}"))
    })
}

fn strange_keys(secret: &Value) -> Vec<Cause> {
    const WHY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
                       or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let good = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let keys = secret.get("data").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key);
    keys.filter(|key| !good(key)).map(|key| Cause::invalid(&format!("data[{key}]"), key, WHY)).collect()
}

/// A basic-auth Secret needs a user name or a password, even if empty.
fn missing_keys(secret: &Value) -> Vec<Cause> {
    let has = |key: &str| secret.get("data").is_some_and(|data| data.get(key).is_some());
    if text(secret, "/type") != "kubernetes.io/basic-auth" || has("username") || has("password") {
        return Vec::new();
    }
    ["data[username]", "data[password]"].iter().map(|field| Cause::required(field, "")).collect()
}
