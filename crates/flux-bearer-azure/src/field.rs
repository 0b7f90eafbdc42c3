//! Fields of answers that go on: into further requests, into manifests, onto a terminal.

use flux_bearer::identity::is_guid;
use flux_bearer::token::access::is_harmless;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Longest text that is taken, in bytes. The longest that Azure allows of those that are read has 600.
const MAX_TEXT: usize = 2048;

/// Longest name that is shown, in characters.
const MAX_SHOWN: usize = 256;

/// A GUID, in lower case.
pub(crate) fn guid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_guid(&text) { Ok(text.to_ascii_lowercase()) } else { Err(D::Error::custom("no GUID")) }
}

/// A text that is used as it is: refused when it is longer than any, or would do something to a terminal.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_plain(&text) { Ok(text) } else { Err(D::Error::custom("no plain text")) }
}

/// Texts that are used as they are.
pub(crate) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.iter().all(|text| is_plain(text)) { Ok(texts) } else { Err(D::Error::custom("no plain texts")) }
}

/// A text that is used as it is, if there is one.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    if text.as_deref().is_none_or(is_plain) { Ok(text) } else { Err(D::Error::custom("no plain text")) }
}

/// A name that is only shown: without what a terminal would obey, and not longer than a line.
pub(crate) fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    Ok(text.chars().filter(|letter| is_harmless(*letter)).take(MAX_SHOWN).collect())
}

/// What a field holds, or the default of its type for one that is null: Azure leaves fields out in either way.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && text.chars().all(is_harmless)
}
