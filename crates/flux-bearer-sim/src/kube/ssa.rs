//! Server-side apply: merge what a manager wants, drop what it no longer wants, refuse what is another's.

use serde_json::Value;

use super::fields::{Difference, FieldSet};
use super::managed::{self, Manager};
use super::object::{self, Object};
use super::refusal::{Answer, Cause, Refusal};

/// The object that results when `author` applies `config` to `live` (null where there is none yet).
///
/// `managedFields` are those after the apply. The author's entry gets its new time only when the apply changes
/// something, so that a second identical apply is no write.
pub(super) fn apply(live: &Value, config: &Value, author: Manager, force: bool) -> Answer<Object> {
    let before = managed::read(live);
    let (mine, mut others): (Vec<_>, Vec<_>) = before.iter().cloned().partition(|other| other.is_same(&author));
    let last = mine.first().map(|manager| manager.fields.clone()).unwrap_or_default();
    let claimed = FieldSet::claimed(config).without_system_fields();

    let kept = others.iter().fold(claimed.clone(), |kept, other| kept.union(&other.fields));
    let mut merged = object::thaw(live);
    merge(&mut merged, config);
    prune(&mut merged, &last.difference(&kept), &kept);
    let merged = Value::Object(merged);

    let difference = Difference::between(live, &merged).without_system_fields();
    settle(&mut others, &difference, force)?;

    let unchanged = difference.set.is_empty() && difference.removed.is_empty() && last == claimed;
    let time = mine.first().filter(|_| unchanged).map_or(author.time.clone(), |manager| manager.time.clone());
    others.push(Manager { time, fields: claimed, ..author });
    let mut merged = object::into_map(merged);
    object::edit(&mut merged, "metadata", |metadata| {
        metadata.insert("managedFields".to_owned(), managed::to_json(others));
    });
    Ok(merged)
}

/// Takes from the others what the author changed, or refuses when that is not forced.
fn settle(others: &mut [Manager], difference: &Difference, force: bool) -> Answer<()> {
    let conflicts: Vec<(String, FieldSet)> = others
        .iter()
        .map(|other| (other.told(), other.fields.intersection(&difference.set)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(refusal(&conflicts));
    }
    for other in others {
        other.fields = other.fields.difference(&difference.set).difference(&difference.removed);
    }
    Ok(())
}

fn refusal(conflicts: &[(String, FieldSet)]) -> Refusal {
    let pairs = || conflicts.iter().flat_map(|(told, fields)| fields.paths().into_iter().map(move |path| (told, path)));
    let causes: Vec<Cause> = pairs()
        .map(|(told, field)| Cause { reason: "FieldManagerConflict", message: format!("conflict with {told}"), field })
        .collect();
    Refusal::apply_conflict(message(conflicts, &pairs().collect::<Vec<_>>()), &causes)
}

fn message(conflicts: &[(String, FieldSet)], pairs: &[(&String, String)]) -> String {
    if let [(told, path)] = pairs {
        return format!("Apply failed with 1 conflict: conflict with {told}: {path}");
    }
    let mut told: Vec<String> = conflicts
        .iter()
        .map(|(told, fields)| {
            let paths: Vec<String> = fields.paths().iter().map(|path| format!("\n- {path}")).collect();
            format!("conflicts with {told}:{}", paths.concat())
        })
        .collect();
    told.sort();
    format!("Apply failed with {} conflicts: {}", pairs.len(), told.join("\n"))
}

/// Lays `config` over `live`: maps are merged, everything else is replaced.
fn merge(live: &mut Object, config: &Value) {
    for (key, value) in config.as_object().into_iter().flatten() {
        if value.as_object().is_some_and(|map| !map.is_empty()) {
            object::edit(live, key, |child| merge(child, value));
        } else if !(value.is_object() && live.get(key).is_some_and(Value::is_object)) {
            live.insert(key.clone(), value.clone());
        }
    }
}

/// Removes the fields `lost`. A map that this empties goes too, unless someone in `kept` owns the map itself.
fn prune(live: &mut Object, lost: &FieldSet, kept: &FieldSet) {
    for (key, lost) in lost.children() {
        let kept = kept.child(key);
        if kept.is_none() && lost.is_member() {
            live.remove(key);
        } else if live.get(key).is_some_and(Value::is_object) {
            let kept = kept.cloned().unwrap_or_default();
            object::edit(live, key, |child| prune(child, lost, &kept));
            if !kept.is_member() {
                object::omit_empty(live, &[key]);
            }
        }
    }
}
