//! Label and field selectors, in the grammar of the query parameters.

use serde_json::Value;

use super::object;
use super::refusal::{Answer, Refusal};
use super::resource::ServedResource;

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    /// Reads both selectors of a request.
    pub(super) fn parse(resource: &ServedResource, labels: &str, fields: &str) -> Answer<Self> {
        let parsed = Self { labels: requirements(labels)?, fields: requirements(fields)? };
        let served = |key: &str| match key {
            "metadata.name" => true,
            "metadata.namespace" => resource.namespaced,
            "type" => resource.is_secret(),
            _ => false,
        };
        match parsed.fields.iter().find(|requirement| !served(&requirement.key)) {
            None => Ok(parsed),
            Some(unknown) => Err(Refusal::bad_request(format!(
                "Unable to find \"{}, Resource={}\" that match label selector {labels:?}, field selector {fields:?}: \
                 field label not supported: {}",
                resource.api_version(),
                resource.plural,
                unknown.key
            ))),
        }
    }

    /// Whether it lets every object through.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it is about this object.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = object::at(object, "/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let field = |key: &str| match key {
            "metadata.name" => Some(object::name(object)),
            "type" => object.get("type").and_then(Value::as_str),
            _ => Some(object::namespace(object)),
        };
        self.labels.iter().all(|wanted| wanted.holds(label(&wanted.key)))
            && self.fields.iter().all(|wanted| wanted.holds(field(&wanted.key)))
    }
}

/// The one name that a field selector asks for. Authorisation by `resourceNames` goes by it.
pub(super) fn only_name(fields: &str) -> Option<String> {
    let wanted = requirements(fields).ok()?.into_iter().find(|wanted| wanted.key == "metadata.name")?;
    match wanted.test {
        Test::In(names) => names.into_iter().next(),
        _ => None,
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
        match &self.test {
            Test::In(values) => among(values),
            Test::NotIn(values) => !among(values),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
        }
    }

    fn parse(text: &str) -> Answer<Self> {
        let unreadable = || Refusal::bad_request(format!("unable to parse requirement: {text:?}"));
        let (key, wanted) = set_based(text).or_else(|| equality(text)).unwrap_or_else(|| presence(text));
        let strange = |c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c));
        if key.is_empty() || key.contains(strange) {
            Err(unreadable())
        } else {
            Ok(Self { key: key.to_owned(), test: wanted })
        }
    }
}

/// `key in (a,b)` and `key notin (a,b)`.
fn set_based(text: &str) -> Option<(&str, Test)> {
    let (left, right) = text.split_once('(')?;
    let values = right.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
    let (key, operator) = left.trim().split_once(char::is_whitespace)?;
    match operator.trim() {
        "in" => Some((key, Test::In(values))),
        "notin" => Some((key, Test::NotIn(values))),
        _ => None,
    }
}

/// `key=a`, `key==a` and `key!=a`.
fn equality(text: &str) -> Option<(&str, Test)> {
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = text.split_once("!=") {
        return Some((key.trim(), Test::NotIn(one(value))));
    }
    let (key, value) = text.split_once("==").or_else(|| text.split_once('='))?;
    Some((key.trim(), Test::In(one(value))))
}

/// `key` and `!key`.
fn presence(text: &str) -> (&str, Test) {
    text.strip_prefix('!').map_or((text, Test::Exists), |key| (key.trim(), Test::Missing))
}

fn requirements(text: &str) -> Answer<Vec<Requirement>> {
    let mut depth = 0_i32;
    let outside = |c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).map(Requirement::parse).collect()
}
