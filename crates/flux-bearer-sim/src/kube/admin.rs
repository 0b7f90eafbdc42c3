//! A person with kubectl and every right, for tests: past the faults and the authoriser, seen by every watch.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Kube;
use super::object;
use super::refusal::{Answer, Refusal};
use super::resource::{ServedResource, qualified};
use super::write::{Author, Part, Writer};

impl Kube {
    /// Creates the object, or replaces the one of its kind, namespace and name, and returns it as stored.
    ///
    /// Its `status`, where it has one, is stored with it; one that is left out stays as it was. A namespace that is
    /// missing is created. What the server refuses (an unknown kind, a change of an immutable Secret) comes back as
    /// its `Status`.
    pub fn apply(&self, object: Value) -> Value {
        self.try_apply(object).unwrap_or_else(|refusal| refusal.status())
    }

    fn try_apply(&self, object: Value) -> Answer<Value> {
        let group = object::text(&object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = qualified(object::text(&object, "/kind"), group);
        let (namespace, name) = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        self.ensure_namespace(&kind, &namespace);
        self.write(&kind, &namespace, &name, "kubectl-client-side-apply", |writer| {
            let mut new = object::into_map(object);
            object::edit(&mut new, "metadata", |metadata| drop(metadata.remove("resourceVersion")));
            let Some(old) = writer.live() else { return writer.create(new) };
            if !new.contains_key("status") {
                object::copy("status", &old, &mut new);
            }
            object::edit(&mut new, "metadata", |metadata| drop(metadata.remove("uid")));
            writer.replace(new)
        })
    }

    fn ensure_namespace(&self, kind: &str, namespace: &str) {
        if kind != "Namespace" && !namespace.is_empty() && self.get("Namespace", "", namespace).is_none() {
            self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
    }

    /// An object by its kind, or by `Kind.group` where two groups have one. The namespace of a cluster's object is
    /// empty.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let store = self.store();
        let resource = store.collection_of_kind(kind)?.resource.clone();
        store.get(&resource, namespace, name).map(|object| (*object).clone())
    }

    /// Every object of a kind, by namespace and name.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let store = self.store();
        let objects = store.collection_of_kind(kind).into_iter().flat_map(|objects| objects.objects("", None));
        objects.map(|object| (**object).clone()).collect()
    }

    /// Deletes an object; `false` when there is none. One with finalizers stays until they are gone.
    ///
    /// A namespace first turns `Terminating`; the second call takes it away with everything in it.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        if kind == "Namespace" && self.get(kind, "", name).is_some_and(|found| is_terminating(&found)) {
            self.finalize_namespace(name);
            return true;
        }
        self.write(kind, namespace, name, "kubectl", |writer| writer.delete(&Value::Null).map(Arc::new)).is_ok()
    }

    fn finalize_namespace(&self, name: &str) {
        let mut store = self.store();
        let namespaces = ServedResource::builtin("", "v1", "namespaces", "Namespace");
        let resources: Vec<ServedResource> = store.resources().filter(|served| served.namespaced).cloned().collect();
        for resource in resources {
            let objects = store.collection(&resource.qualified()).into_iter().flat_map(|all| all.objects(name, None));
            let names: Vec<String> = objects.map(|object| object::name(object).to_owned()).collect();
            for object in names {
                store.remove(&resource, name, &object);
            }
        }
        store.remove(&namespaces, "", name);
    }

    /// Sets an annotation; `None` when there is no such object.
    pub fn annotate(&self, kind: &str, namespace: &str, name: &str, key: &str, value: &str) -> Option<Value> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.write(kind, namespace, name, "kubectl-annotate", |writer| writer.merge_patch(&patch)).ok()
    }

    /// Merges into the status, as the controller that owns it would; `None` when there is no such object.
    pub fn patch_status(&self, kind: &str, namespace: &str, name: &str, status: Value) -> Option<Value> {
        let patch = Value::Object([("status".to_owned(), status)].into_iter().collect());
        self.write(kind, namespace, name, "kubectl-edit", |writer| {
            writer.author.part = Part::Status;
            writer.merge_patch(&patch)
        })
        .ok()
    }

    fn write(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        manager: &str,
        change: impl FnOnce(&mut Writer<'_>) -> Answer<Arc<Value>>,
    ) -> Answer<Value> {
        let now = self.inner.clock.now();
        let author = Author { manager: manager.to_owned(), part: Part::Whole, now, dry_run: false };
        let written = self.change(|store| {
            let objects = store.collection_of_kind(kind).ok_or_else(Refusal::no_such_path)?;
            let resource = objects.resource.clone();
            change(&mut Writer { store, resource: &resource, namespace, name, author })
        })?;
        Ok((*written).clone())
    }
}

fn is_terminating(namespace: &Value) -> bool {
    !object::text(namespace, "/metadata/deletionTimestamp").is_empty()
}
