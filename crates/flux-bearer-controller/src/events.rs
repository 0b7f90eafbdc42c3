//! Events: on the BearerToken, and on the GitRepositories it serves, where people look first. Each goes to Kubernetes and to
//! notification-controller.

use flux_bearer::failure::kubernetes::is_farewell;
use flux_bearer::report::Event;
use flux_bearer::{GROUP, NAME};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::act::Loop;
use crate::index::Key;
use crate::notifications;

/// Publishes one transition. An event that can't be written is no reason to do anything else late: it is logged.
///
/// notification-controller gets it whether Kubernetes takes it or not: a tenant's quota must not silence an Alert.
pub async fn publish(work: &Loop, key: &Key, uid: &str, sources: &[(Key, Box<str>)], event: &Event) {
    let own = reference(&format!("{GROUP}/v1alpha1"), "BearerToken", key, uid);
    let mut about = vec![own];
    // Good news stays on the BearerToken: source-controller tells its own.
    let concerned = sources.iter().filter(|_| event.warning);
    about.extend(concerned.map(|(source, uid)| reference("source.toolkit.fluxcd.io/v1", "GitRepository", source, uid)));
    let now = work.clock.now();
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    for (number, object) in about.into_iter().enumerate() {
        work.outbox.put(&notifications::body(&object, event, &work.instance, seconds));
        let name = name(key, now, number);
        let body = body(work, key, &name, &object, seconds, event);
        if let Err(failure) = work.kubernetes.create_event(&key.namespace, &body).await
            && !is_farewell(&failure)
        {
            tracing::warn!(namespace = &*key.namespace, name = &*key.name, error = %failure, "event not written");
        }
    }
}

fn reference(api_version: &str, kind: &str, key: &Key, uid: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "namespace": &*key.namespace, "name": &*key.name, "uid": uid})
}

/// As client-go names its events: the object and a time stamp that no other event has.
fn name(key: &Key, now: Timestamp, number: usize) -> String {
    let name: String = key.name.chars().take(200).collect();
    format!("{name}.{:x}{number:x}", now.as_nanosecond())
}

fn body(work: &Loop, key: &Key, name: &str, object: &Value, at: Timestamp, event: &Event) -> Value {
    let seconds = at.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": &*key.namespace,
        },
        "involvedObject": object,
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "source": {"component": NAME},
        "reportingComponent": NAME,
        "reportingInstance": work.instance,
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
    })
}
