//! What the strict Role means in requests: its named Secrets and nothing else.

use anyhow::ensure;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::TENANT;
use super::account::Account;
use crate::cluster::NAMESPACE;
use crate::world::World;

/// The name in the Role.
const OURS: &str = "flux-system";
/// A Secret beside it.
const OTHER: &str = "other";

/// What can be tried on a Secret, and whether it is allowed on ours. Apply comes first: it makes the Secret.
const ATTEMPTS: [(Attempt, bool); 11] = [
    (Attempt::Apply, true),
    (Attempt::Get, true),
    (Attempt::List, true),
    (Attempt::Watch, true),
    (Attempt::Patch, true),
    (Attempt::Post, false),
    (Attempt::Put, false),
    (Attempt::ListAll, false),
    (Attempt::WatchAll, false),
    (Attempt::DeleteAll, false),
    (Attempt::Delete, false),
];

#[derive(Clone, Copy, Debug)]
enum Attempt {
    Apply,
    Get,
    List,
    Watch,
    Patch,
    Post,
    Put,
    ListAll,
    WatchAll,
    DeleteAll,
    Delete,
}

impl Attempt {
    fn request(self, namespace: &str, name: &str) -> http::Result<Request<String>> {
        let all = format!("/api/v1/namespaces/{namespace}/secrets");
        let one = format!("{all}/{name}");
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"bearerToken": "of-the-controller"},
        });
        let (method, path, kind, body) = match self {
            Self::Apply => {
                let path = format!("{one}?fieldManager=flux-bearer%2Frights&force=true");
                (Method::PATCH, path, "application/apply-patch+yaml", object)
            }
            Self::Get => (Method::GET, one, "", Value::Null),
            Self::List => (Method::GET, format!("{all}?fieldSelector=metadata.name%3D{name}"), "", Value::Null),
            Self::Watch => {
                let path = format!("{all}?fieldSelector=metadata.name%3D{name}&watch=true&timeoutSeconds=1");
                (Method::GET, path, "", Value::Null)
            }
            Self::Patch => (Method::PATCH, one, "application/merge-patch+json", json!({})),
            Self::Post => (Method::POST, all, "application/json", object),
            Self::Put => (Method::PUT, one, "application/json", object),
            Self::ListAll => (Method::GET, all, "", Value::Null),
            Self::WatchAll => (Method::GET, format!("{all}?watch=true&timeoutSeconds=1"), "", Value::Null),
            Self::DeleteAll => (Method::DELETE, format!("{all}?fieldSelector=metadata.name%3D{name}"), "", Value::Null),
            Self::Delete => (Method::DELETE, one, "", Value::Null),
        };
        let builder = Request::builder().method(method).uri(path);
        match body {
            Value::Null => builder.body(String::new()),
            body => builder.header(header::CONTENT_TYPE, kind).body(body.to_string()),
        }
    }
}

/// Tries everything on our Secret, on another, and on one of our name in another namespace.
pub(super) async fn check(world: &World<'_>, account: &Account) -> anyhow::Result<()> {
    for (namespace, name) in [(NAMESPACE, OTHER), (TENANT, OURS)] {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"password": "of-somebody-else"},
        });
        world.cluster.apply(&secret.to_string()).await?;
    }
    let mut tried = 0;
    for (namespace, name, ours) in [(NAMESPACE, OURS, true), (NAMESPACE, OTHER, false), (TENANT, OURS, false)] {
        for (attempt, allowed) in ATTEMPTS {
            let (status, body) = account.send(attempt.request(namespace, name)?).await?;
            let expected = if ours && allowed { status.is_success() } else { status == 403 };
            ensure!(expected, "{attempt:?} of Secret {namespace}/{name}: {status} {body}");
            tried += 1;
        }
    }
    // An apply that would make a Secret is no way around it.
    let (status, _) = account.send(Attempt::Apply.request(NAMESPACE, "absent")?).await?;
    ensure!(status == 403, "a Secret that nobody named was made: {status}");
    world.story.tell(&format!("{} requests for Secrets: five verbs on the named one, no other", tried + 1));
    patch_is_read(world, account).await
}

/// Who may patch may read: the answer to an empty patch has the data.
async fn patch_is_read(world: &World<'_>, account: &Account) -> anyhow::Result<()> {
    let (_, body) = account.send(Attempt::Patch.request(NAMESPACE, OURS)?).await?;
    let secret: Value = serde_json::from_str(&body)?;
    ensure!(secret.pointer("/data/bearerToken").is_some(), "an empty patch returned no data");
    world.story.tell("an empty patch returns the data: who may patch may read");
    Ok(())
}
