//! Lists, whole or in pages.
//!
//! Every page shows the state at the first page's revision, worked out from the history, so the server keeps nothing
//! for a client. Once the history is gone the answer is 410, with a token that continues from the present.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::object;
use super::refusal::{Answer, Refusal};
use super::render::View;
use super::request::{Query, RequestInfo};
use super::selector::Selector;
use super::store::{self, Collection, Store};

/// Where the next page starts.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Continue {
    /// The revision that the list shows; none continues with the present.
    #[serde(rename = "rv")]
    revision: Option<u64>,
    /// The key after which it starts.
    #[serde(rename = "start")]
    after: String,
}

impl Continue {
    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn parse(token: &str) -> Answer<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let parsed = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        parsed.ok_or_else(|| Refusal::bad_request("continue key is not valid"))
    }
}

/// Answers a list.
pub(super) fn list(
    store: &Store,
    objects: &Collection,
    info: &RequestInfo,
    query: &Query,
    view: View,
) -> Answer<Vec<u8>> {
    let selector = Selector::parse(&objects.resource, &query.label_selector, &query.field_selector)?;
    let from = start(store, query)?;
    let revision = from.revision.unwrap_or(store.revision);
    let after = Some(from.after.as_str()).filter(|after| !after.is_empty());
    let found: Vec<Arc<Value>> = if revision == store.revision {
        objects.objects(&info.namespace, after).filter(|object| selector.matches(object)).cloned().collect()
    } else {
        let then =
            objects.objects_at(revision, &info.namespace, after).map_err(|refusal| gone(query, &from, refusal))?;
        then.into_iter().filter(|object| selector.matches(object)).collect()
    };
    let limit = if query.limit == 0 { found.len() } else { query.limit };
    let metadata = list_metadata(revision, &found, limit, selector.is_empty());
    let page = found.iter().take(limit).map(|object| &**object);
    Ok(view.list(&objects.resource, &metadata, page))
}

fn start(store: &Store, query: &Query) -> Answer<Continue> {
    if !query.continue_token.is_empty() {
        return Continue::parse(&query.continue_token);
    }
    let asked = revision(&query.resource_version)?;
    if asked > store.revision {
        return Err(Refusal::too_large_revision(asked, store.revision));
    }
    let exact = query.version_match == "Exact";
    Ok(Continue { revision: exact.then_some(asked), ..Continue::default() })
}

/// A resourceVersion, 0 where there is none.
pub(super) fn revision(text: &str) -> Answer<u64> {
    let why = || Refusal::bad_request(format!("Invalid resource version {text:?}: strconv.ParseUint: invalid syntax"));
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| why()) }
}

fn list_metadata(revision: u64, found: &[Arc<Value>], limit: usize, count: bool) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    let more = found.len().saturating_sub(limit);
    if let (Some(last), true) = (found.get(limit.wrapping_sub(1)), more > 0) {
        let after = store::key(object::namespace(last), object::name(last));
        metadata.insert("continue".to_owned(), Continue { revision: Some(revision), after }.token().into());
        if count {
            metadata.insert("remainingItemCount".to_owned(), json!(more));
        }
    }
    Value::Object(metadata)
}

fn gone(query: &Query, from: &Continue, refusal: Refusal) -> Refusal {
    const WHY: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter, or use the continue token in this response to \
                       retrieve the remainder of the results. Continuing with the provided token results in an \
                       inconsistent list - objects that were created, modified, or deleted between the time the \
                       first chunk was returned and now may show up in the list.";
    if query.continue_token.is_empty() {
        return refusal;
    }
    let rest = Continue { revision: None, after: from.after.clone() };
    Refusal::expired(WHY).continuing(&rest.token())
}
