//! Cases of writing Secrets, as a table that runs against any Kubernetes API: the simulated one here, a real
//! kube-apiserver in the end-to-end tests.
//!
//! Each case has a Secret of its own and steps on it: `do` is `apply`, `merge`, `create`, `delete` or `get`; `pin` puts
//! the uid or resourceVersion of the last reply into the body; `dryRun` lets a patch change nothing; `keep` leaves that
//! reply as it was. Of the answer, `code` is compared (200 stands for any success), `reason` exactly, `message` as a part,
//! `causes` exactly, `object` as a part of the reply (null: must be missing), `managers` as the paths that `manager
//! operation` owns (null: no such manager), and `revision` with that before the step.

use std::collections::BTreeMap;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Step {
    r#do: String,
    #[serde(default)]
    manager: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    pin: Vec<String>,
    uid: Option<String>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    keep: bool,
    code: u16,
    reason: Option<String>,
    message: Option<String>,
    causes: Option<Vec<(String, String, String)>>,
    object: Option<Value>,
    managers: Option<BTreeMap<String, Option<Vec<String>>>>,
    revision: Option<String>,
}

/// The table.
pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("cases.json")).unwrap()
}

/// Runs a case on the Secret `secret` of `namespace`; says what is wrong with it.
pub(crate) async fn run(client: &Client, namespace: &str, secret: &str, case: &Case) -> Result<(), String> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let mut last = Value::Null;
    for (number, step) in case.steps.iter().enumerate() {
        let outcome = step.take(&api, secret, &last).await;
        let told = |why: String| format!("{}, step {}: {why}", case.name, number + 1);
        let reply = step.check(outcome, &last).map_err(told)?;
        if let (Some(reply), false) = (reply, step.keep) {
            last = reply;
        }
    }
    Ok(())
}

impl Step {
    async fn take(&self, api: &Api<DynamicObject>, secret: &str, last: &Value) -> Result<Value, Error> {
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            force: self.force,
            dry_run: self.dry_run,
            ..PatchParams::default()
        };
        let object = self.object(secret, last);
        match self.r#do.as_str() {
            "apply" => api.patch(secret, &params, &Patch::Apply(&object)).await.map(value),
            "merge" => api.patch(secret, &params, &Patch::Merge(&self.body)).await.map(value),
            "create" => {
                let params = PostParams { field_manager: Some(self.manager.clone()), ..PostParams::default() };
                api.create(&params, &serde_json::from_value(object).unwrap()).await.map(value)
            }
            "delete" => {
                let preconditions =
                    self.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                api.delete(secret, &params).await.map(|answer| answer.either(value, |_| Value::Null))
            }
            "get" => api.get(secret).await.map(value),
            other => panic!("no such step: {other}"),
        }
    }

    fn object(&self, secret: &str, last: &Value) -> Value {
        let mut object = if self.body.is_object() { self.body.clone() } else { json!({}) };
        object["apiVersion"] = "v1".into();
        object["kind"] = "Secret".into();
        object["metadata"]["name"] = secret.into();
        for key in &self.pin {
            object["metadata"][key] = last["metadata"][key].clone();
        }
        object
    }

    /// The reply, when it is a success as it should be.
    fn check(&self, outcome: Result<Value, Error>, last: &Value) -> Result<Option<Value>, String> {
        match outcome {
            Ok(reply) if self.code == 200 => self.check_reply(&reply, last).map(|()| Some(reply)),
            Ok(_) => Err(format!("wanted {}, but it succeeded", self.code)),
            Err(Error::Api(status)) => self.check_refusal(&serde_json::to_value(&status).unwrap()).map(|()| None),
            Err(other) => Err(format!("wanted {}, got {other}", self.code)),
        }
    }

    fn check_refusal(&self, status: &Value) -> Result<(), String> {
        let message = status["message"].as_str().unwrap_or_default();
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        let told = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        let causes: Vec<_> =
            causes.map(|cause| (told(cause, "reason"), told(cause, "message"), told(cause, "field"))).collect();
        let good = status["code"] == self.code
            && self.reason.as_ref().is_none_or(|reason| status["reason"] == **reason)
            && self.message.as_ref().is_none_or(|part| message.contains(part))
            && self.causes.as_ref().is_none_or(|wanted| *wanted == causes);
        if good { Ok(()) } else { Err(format!("wanted {} {:?}, got {status}", self.code, self.message)) }
    }

    fn check_reply(&self, reply: &Value, last: &Value) -> Result<(), String> {
        if let Some(wanted) = self.object.as_ref().filter(|wanted| !includes(reply, wanted)) {
            return Err(format!("wanted {wanted} in {reply}"));
        }
        let same = reply["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"];
        if self.revision.as_ref().is_some_and(|wanted| (wanted == "same") != same) {
            return Err(format!("resourceVersion of {reply} after that of {last}"));
        }
        let owned = managers(reply);
        for (manager, wanted) in self.managers.iter().flatten() {
            if owned.get(manager) != wanted.as_ref() {
                return Err(format!("{manager} should own {wanted:?}, owns {:?}", owned.get(manager)));
            }
        }
        Ok(())
    }
}

fn value(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}

fn includes(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(wanted) => wanted.iter().all(|(key, wanted)| includes(&value[key], wanted)),
        _ => value == wanted,
    }
}

fn managers(object: &Value) -> BTreeMap<String, Vec<String>> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let named = |entry: &Value| format!("{} {}", text(entry, "manager"), text(entry, "operation"));
    entries.map(|entry| (named(entry), paths("", entry["fieldsV1"].as_object().unwrap_or(&Map::new())))).collect()
}

fn paths(prefix: &str, fields: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, below) in fields {
        let below = below.as_object().cloned().unwrap_or_default();
        let path = key.strip_prefix("f:").map_or_else(|| prefix.to_owned(), |key| format!("{prefix}.{key}"));
        if below.is_empty() {
            found.push(path);
        } else {
            found.extend(paths(&path, &below));
        }
    }
    found.sort();
    found
}
