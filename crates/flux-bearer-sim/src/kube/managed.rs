//! Who owns which field: the `managedFields` of an object.

use serde_json::{Value, json};

use super::fields::{Difference, FieldSet};
use super::object::{self, text};

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// `status`, or empty for the object itself.
    pub(super) subresource: String,
    pub(super) api_version: String,
    pub(super) time: String,
    pub(super) fields: FieldSet,
}

impl Manager {
    /// Whether both are entries of the same manager.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.operation == other.operation && self.subresource == other.subresource
    }

    /// How a conflict names it.
    pub(super) fn told(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            subresource => format!(" with subresource {subresource:?}"),
        };
        let version = match self.operation {
            Operation::Apply => String::new(),
            Operation::Update => format!(" using {}", self.api_version),
        };
        format!("{:?}{subresource}{version}", self.name)
    }

    fn parse(entry: &Value) -> Self {
        let operation = if text(entry, "/operation") == "Apply" { Operation::Apply } else { Operation::Update };
        Self {
            name: text(entry, "/manager").to_owned(),
            operation,
            subresource: text(entry, "/subresource").to_owned(),
            api_version: text(entry, "/apiVersion").to_owned(),
            time: text(entry, "/time").to_owned(),
            fields: entry.get("fieldsV1").map(FieldSet::from_json).unwrap_or_default(),
        }
    }

    fn to_json(&self) -> Value {
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let mut entry = json!({
            "manager": self.name, "operation": operation, "apiVersion": self.api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        if let (Some(entry), false) = (entry.as_object_mut(), self.subresource.is_empty()) {
            entry.insert("subresource".to_owned(), self.subresource.clone().into());
        }
        entry
    }
}

/// The managers of an object.
pub(super) fn read(object: &Value) -> Vec<Manager> {
    let entries = object::at(object, "/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().map(Manager::parse).collect()
}

/// The `managedFields` of these managers, in the server's order; those who own nothing are left out.
pub(super) fn to_json(mut managers: Vec<Manager>) -> Value {
    managers.retain(|manager| !manager.fields.is_empty());
    managers.sort_by(|a, b| {
        let key = |manager: &Manager| (manager.operation, manager.time.clone(), manager.name.clone());
        key(a).cmp(&key(b)).then_with(|| a.subresource.cmp(&b.subresource))
    });
    managers.iter().map(Manager::to_json).collect()
}

/// The managers after `author` made `new` of `old` by create, PUT or merge patch: it owns what it changed, alone.
///
/// The author's own `fields` are not read; it takes part only when it changed something.
pub(super) fn after_update(old: &Value, new: &Value, author: Manager) -> Vec<Manager> {
    let difference = Difference::between(old, new).without_system_fields();
    let lost = difference.set.union(&difference.removed);
    let mut managers = read(old);
    for manager in managers.iter_mut().filter(|manager| !manager.is_same(&author)) {
        manager.fields = manager.fields.difference(&lost);
    }
    let mine = managers.iter().position(|manager| manager.is_same(&author));
    let mut mine = mine.map_or_else(|| Manager { time: String::new(), ..author.clone() }, |at| managers.remove(at));
    mine.fields = mine.fields.difference(&difference.removed).union(&difference.set);
    if !difference.set.is_empty() {
        mine.time = author.time;
        mine.api_version = author.api_version;
    }
    managers.push(mine);
    managers
}
