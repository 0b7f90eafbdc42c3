//! Where the answers of two Azures differ: statuses, header fields, and the fields of JSON with their types. Values are
//! nobody's fault: ids, times and names differ anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::record::Exchange;

/// Parameters of a query that say which page is meant.
const PAGES: [&str; 3] = ["continuationToken", "$skiptoken", "%24skiptoken"];

/// Header fields in which the simulator need not be like Azure, by their beginning, and why.
const ALLOWED: [(&str, &str); 26] = [
    ("alt-svc", "offers another protocol, which the simulator doesn't speak"),
    ("connection", "of the connection, and not of the answer"),
    ("content-length", "framing: either this or the next, as the server likes"),
    ("transfer-encoding", "framing"),
    ("keep-alive", "of the connection, and not of the answer"),
    ("content-security-policy", "speaks to browsers"),
    ("cross-origin-", "speaks to browsers"),
    ("nel", "speaks to browsers"),
    ("p3p", "speaks to browsers"),
    ("permissions-policy", "speaks to browsers"),
    ("referrer-policy", "speaks to browsers"),
    ("report-to", "speaks to browsers"),
    ("reporting-endpoints", "speaks to browsers"),
    ("strict-transport-security", "speaks to browsers"),
    ("x-content-type-options", "speaks to browsers"),
    ("x-frame-options", "speaks to browsers"),
    ("x-ua-compatible", "speaks to browsers"),
    ("x-xss-protection", "speaks to browsers"),
    ("set-cookie", "no client of ours keeps a cookie"),
    ("access-control-", "speaks to browsers"),
    ("server", "names the machine that answered"),
    ("x-azure-ref", "names the machine that answered"),
    ("x-cache", "names the machine that answered"),
    ("x-msedge-ref", "names the machine that answered"),
    ("x-ms-ests-server", "names the machine that answered"),
    ("x-ms-srs", "names the machine that answered"),
];

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What is held against: Azure.
    Azure,
    /// What is held.
    Simulator,
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Azure { "Azure" } else { "the simulator" })
    }
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The request was made to one alone.
    Request(Side),
    /// The status: Azure's, the simulator's.
    Status(u16, u16),
    /// A header field that only one sends.
    Header(String, Side),
    /// The media type: Azure's, the simulator's.
    MediaType(String, String),
    /// A field of JSON that only one sends, and its type.
    Field(String, Side, &'static str),
    /// The type of a field: Azure's, the simulator's.
    Type(String, &'static str, &'static str),
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(side) => write!(out, "was asked of {side} alone"),
            Self::Status(azure, simulator) => write!(out, "status: Azure {azure}, the simulator {simulator}"),
            Self::Header(name, side) => write!(out, "header {name}: of {side} alone"),
            Self::MediaType(azure, simulator) => write!(out, "content-type: Azure {azure}, the simulator {simulator}"),
            Self::Field(path, side, kind) => write!(out, "field {path} ({kind}): of {side} alone"),
            Self::Type(path, azure, simulator) => {
                write!(out, "type of {path}: Azure {azure}, the simulator {simulator}")
            }
        }
    }
}

/// A difference and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The step of the scenario.
    pub step: String,
    /// Method, host and path, without ids.
    pub request: String,
    /// What differs.
    pub what: What,
}

impl Difference {
    /// Why it may be so.
    pub fn reason(&self) -> Option<&'static str> {
        let What::Header(name, _) = &self.what else { return None };
        ALLOWED.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, reason)| *reason)
    }
}

impl Difference {
    /// What differs and why it may, without where: one line for what may differ everywhere.
    pub fn in_short(&self) -> String {
        let reason = self.reason().map(|reason| format!(" (allowed: {reason})"));
        format!("{}{}", self.what, reason.unwrap_or_default())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.step, self.request, self.in_short())
    }
}

/// A request of a step, whatever ids it names.
type Key = (String, String);

/// Where two transcripts of one scenario differ, in steps that Azure got to. Of one request that was made several times
/// in a step the last answer counts: the others were waited for.
pub fn differences(azure: &[Exchange], simulator: &[Exchange]) -> Vec<Difference> {
    let (azure, simulator) = (last_of_each(azure), last_of_each(simulator));
    let steps: BTreeSet<&String> = azure.keys().map(|(step, _)| step).collect();
    let keys: BTreeSet<&Key> = azure.keys().chain(simulator.keys()).filter(|(step, _)| steps.contains(step)).collect();
    let compare = |key: &Key| {
        let found = match (azure.get(key), simulator.get(key)) {
            (Some(azure), Some(simulator)) => between(azure, simulator),
            (Some(_), None) => vec![What::Request(Side::Azure)],
            (None, _) => vec![What::Request(Side::Simulator)],
        };
        let (step, request) = key.clone();
        found.into_iter().map(move |what| Difference { step: step.clone(), request: request.clone(), what })
    };
    keys.into_iter().flat_map(compare).collect()
}

fn last_of_each(exchanges: &[Exchange]) -> BTreeMap<Key, &Exchange> {
    let key = |one: &Exchange| {
        let request = format!("{} {}{}", one.method, one.host, general(&without_page(&one.path)));
        (one.step.clone(), request)
    };
    exchanges.iter().map(|exchange| (key(exchange), exchange)).collect()
}

fn without_page(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let names_a_page = |pair: &&str| PAGES.iter().any(|name| pair.starts_with(name));
    let rest: Vec<&str> = query.split('&').filter(|pair| !names_a_page(pair)).collect();
    format!("{path}?{}", rest.join("&"))
}

/// Numbered ids without their numbers: `<guid-7>` is `<guid>`.
fn general(text: &str) -> String {
    let mut parts = text.split('<');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (id, rest) = part.split_once('>').unwrap_or((part, ""));
        let numbered = id.rsplit_once('-').filter(|(_, number)| number.chars().all(|digit| digit.is_ascii_digit()));
        out.extend(["<", numbered.map_or(id, |(kind, _)| kind), ">", rest]);
    }
    out
}

fn between(azure: &Exchange, simulator: &Exchange) -> Vec<What> {
    let mut found = Vec::new();
    if azure.status != simulator.status {
        found.push(What::Status(azure.status, simulator.status));
    }
    found.extend(headers(azure, simulator));
    found.extend(fields(&azure.body, &simulator.body));
    found
}

fn headers(azure: &Exchange, simulator: &Exchange) -> Vec<What> {
    let only = |here: &Exchange, there: &Exchange, side| {
        let names = here.headers.keys().filter(|name| !there.headers.contains_key(*name));
        names.map(|name| What::Header(name.clone(), side)).collect::<Vec<_>>()
    };
    let mut found = only(azure, simulator, Side::Azure);
    found.extend(only(simulator, azure, Side::Simulator));
    if let (Some(azure), Some(simulator)) = (media_type(azure), media_type(simulator))
        && azure != simulator
    {
        found.push(What::MediaType(azure, simulator));
    }
    found
}

fn media_type(exchange: &Exchange) -> Option<String> {
    let value = exchange.headers.get("content-type")?.first()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The types of every field, by its path. The items of a list are one: what any of them has.
type Shape = BTreeMap<String, BTreeSet<&'static str>>;

fn shape(value: &Value, path: &str, into: &mut Shape) {
    into.entry(path.to_owned()).or_default().insert(kind(value));
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, &format!("{path}.{}", general(name)), into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), into)),
        _ => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// What differs between two bodies. Of a field that only one has, and of a list that is empty in one, what is in it is
/// not told.
fn fields(azure: &Value, simulator: &Value) -> Vec<What> {
    let (mut left, mut right) = (Shape::new(), Shape::new());
    shape(azure, "body", &mut left);
    shape(simulator, "body", &mut right);
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differ = |path: &String| match (left.get(path), right.get(path)) {
        (Some(azure), Some(simulator)) if azure.is_disjoint(simulator) => {
            Some(What::Type(path.clone(), first(azure), first(simulator)))
        }
        (Some(kinds), None) if is_told(path, &right) => Some(What::Field(path.clone(), Side::Azure, first(kinds))),
        (None, Some(kinds)) if is_told(path, &left) => Some(What::Field(path.clone(), Side::Simulator, first(kinds))),
        _ => None,
    };
    paths.into_iter().filter_map(differ).collect()
}

fn first(kinds: &BTreeSet<&'static str>) -> &'static str {
    kinds.first().copied().unwrap_or("nothing")
}

/// Whether a field that `other` lacks is worth telling: what it would be in is there, and is an object.
fn is_told(path: &str, other: &Shape) -> bool {
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    !path.ends_with("[]") && other.get(parent).is_some_and(|kinds| kinds.contains("object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(azure: &Value, simulator: &Value) -> Vec<String> {
        fields(azure, simulator).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_and_types_are_compared_and_values_are_not() {
        assert!(told(&json!({"a": 1, "b": [{"c": "x"}]}), &json!({"a": 2, "b": [{"c": "y"}, {"c": "z"}]})).is_empty());
        assert!(told(&json!({"b": []}), &json!({"b": [{"c": "y"}]})).is_empty(), "an empty list says nothing");
        let table = [
            (json!({"a": {"b": 1}}), json!({}), "field body.a (object): of Azure alone"),
            (json!({}), json!({"a": [1]}), "field body.a (list): of the simulator alone"),
            (json!({"a": 1}), json!({"a": "1"}), "type of body.a: Azure number, the simulator text"),
            (json!({"a": null}), json!({"a": {"b": 1}}), "type of body.a: Azure null, the simulator object"),
            (json!([{"a": 1}]), json!([{"a": 1, "b": true}]), "field body[].b (boolean): of the simulator alone"),
            (json!("(a page)"), json!({"a": 1}), "type of body: Azure text, the simulator object"),
        ];
        for (azure, simulator, expected) in table {
            assert_eq!(told(&azure, &simulator), [expected]);
        }
    }

    #[test]
    fn a_request_is_the_same_whatever_ids_it_names() {
        assert_eq!(general("/<organization>/x/<guid-7>/<subject-12>"), "/<organization>/x/<guid>/<subject>");
        assert_eq!(without_page("/a?b=c&continuationToken=7&d=e"), "/a?b=c&d=e");
    }

    #[test]
    fn every_allowed_difference_has_a_reason() {
        assert!(ALLOWED.iter().all(|(header, reason)| !header.is_empty() && reason.len() > 6));
    }
}
