//! Reading and editing Kubernetes objects as JSON, without a panic in the hand.

use serde_json::{Map, Value};

/// A JSON object that is being edited.
pub(super) type Object = Map<String, Value>;

/// The value at a path such as `/metadata/labels`. Unlike a JSON pointer it knows no escapes, and costs no memory.
pub(super) fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(object, |value, key| value.get(key))
}

/// The text at a path, empty where there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`, empty for a cluster's object.
pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `metadata.resourceVersion`.
pub(super) fn revision(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

/// A copy to edit.
pub(super) fn thaw(object: &Value) -> Object {
    object.as_object().cloned().unwrap_or_default()
}

/// The object itself, to edit.
pub(super) fn into_map(object: Value) -> Object {
    match object {
        Value::Object(map) => map,
        _ => Object::new(),
    }
}

/// Edits the map under `key`; one that was missing is there afterwards.
pub(super) fn edit(parent: &mut Object, key: &str, change: impl FnOnce(&mut Object)) {
    let mut child = match parent.remove(key) {
        Some(Value::Object(child)) => child,
        _ => Object::new(),
    };
    change(&mut child);
    parent.insert(key.to_owned(), Value::Object(child));
}

/// Makes `key` what it is in `from`, missing included.
pub(super) fn copy(key: &str, from: &Value, to: &mut Object) {
    match from.get(key) {
        Some(value) => to.insert(key.to_owned(), value.clone()),
        None => to.remove(key),
    };
}

/// Drops the keys whose value is null, an empty map or an empty list, as Go's `omitempty` does.
pub(super) fn omit_empty(parent: &mut Object, keys: &[&str]) {
    for key in keys {
        if parent.get(*key).is_some_and(is_empty) {
            parent.remove(*key);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The object under another resourceVersion.
pub(super) fn at_revision(object: Value, revision: u64) -> Value {
    let mut object = into_map(object);
    edit(&mut object, "metadata", |metadata| {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    });
    Value::Object(object)
}
