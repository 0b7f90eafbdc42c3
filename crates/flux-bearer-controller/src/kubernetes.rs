//! The calls to the Kubernetes API: metadata in, applies out, each with a deadline and a byte cap.
//!
//! Replies are read and parsed here and not by kube's client, which logs a body it can't parse, and a body may be a Secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::kubernetes::{self, ADMISSION, About, Place};
use flux_bearer::failure::{Failure, Unreachable};
use flux_bearer::identity::Claims;
use flux_bearer::preflight::AUDIENCE;
use flux_bearer::resource::BearerTokenStatus;
use flux_bearer::secret::{Version, farewell, field_manager};
use flux_bearer::token_request;
use flux_bearer_azure::http::headers::server_time;
use http::{Method, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::client::Body;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::index::Key;
use crate::lease::Leadership;

/// How long a call may take. kube's client has no limit of its own, and a black hole must not stop the loop.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest reply that is read: the API server itself stores no object of more than 1.5 MiB.
const MAX_REPLY: usize = 2 * 1024 * 1024;

/// Only metadata comes back: the token that we wrote, and whatever else the Secret holds, stays out of our memory.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// The Kubernetes API, as far as the loop calls it.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    /// Namespace of the controller, for the commands that give it a right.
    namespace: Arc<str>,
    leadership: Leadership,
}

/// What a look at an object has found.
pub enum Found<T> {
    /// The object.
    Object(T),
    /// There is none, or no such kind.
    Missing,
    /// It may not be looked at.
    Forbidden,
}

/// What a Secret holds.
#[derive(Deserialize)]
pub struct Data {
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

impl Data {
    /// The text under `key`, without blanks around it.
    pub fn text(&self, key: &str) -> Option<SecretString> {
        let text = std::str::from_utf8(&self.data.get(key)?.0).ok()?;
        Some(SecretString::from(text.trim()))
    }
}

/// An answer: its status, the server's clock, how long to wait, and its body.
struct Answer {
    status: u16,
    date: Option<Timestamp>,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// As much of a Status object as is looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    /// Never repeated: only who speaks is looked at.
    message: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    causes: Vec<Cause>,
    retry_after_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    field: String,
}

impl Status {
    /// Whether a webhook or a policy speaks: a right that is missing has other words before its name.
    fn is_by_admission(&self) -> bool {
        self.message.starts_with("admission webhook ") || self.message.contains("ValidatingAdmissionPolicy '")
    }
}

impl Kubernetes {
    /// Calls through `client` for a controller in `namespace`, and writes only while `leadership` allows it.
    pub fn new(client: Client, namespace: &str, leadership: Leadership) -> Self {
        Self { client, namespace: namespace.into(), leadership }
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The metadata of a Secret; `None` when it doesn't exist.
    pub async fn secret_metadata(&self, secret: &Key) -> Result<Option<ObjectMeta>, Failure> {
        let request = request(Method::GET, &path(secret, "secrets"), METADATA_ONLY, "", Vec::new());
        let answer = self.send(request).await?;
        match answer.status {
            404 => Ok(None),
            200 => metadata(&answer).map(Some),
            _ => Err(answer.failure(About::Secret(self.place(secret)))),
        }
    }

    /// Applies a Secret; returns its new metadata, and whether this has made it.
    pub async fn apply_secret(
        &self,
        secret: &Key,
        manager: &str,
        force: bool,
        manifest: &SecretString,
    ) -> Result<(ObjectMeta, bool), Failure> {
        let path = format!("{}?fieldManager={}&force={force}", path(secret, "secrets"), manager.replace('/', "%2F"));
        let body = manifest.expose_secret().as_bytes().to_vec();
        let answer = self.send(request(Method::PATCH, &path, METADATA_ONLY, APPLY, body)).await?;
        match answer.status {
            status @ (200 | 201) => Ok((metadata(&answer)?, status == 201)),
            _ => Err(answer.failure(About::Secret(self.place(secret)))),
        }
    }

    /// Asks whether a Secret could be changed by this merge patch, and changes nothing.
    pub async fn try_secret(&self, secret: &Key, change: &Value) -> Result<(), Failure> {
        let path = format!("{}?dryRun=All", path(secret, "secrets"));
        self.merge(secret, &path, change).await.map(drop)
    }

    /// Changes a Secret by a merge patch; returns its new metadata.
    pub async fn patch_secret(&self, secret: &Key, manager: &str, change: &Value) -> Result<ObjectMeta, Failure> {
        let path = format!("{}?fieldManager={}", path(secret, "secrets"), manager.replace('/', "%2F"));
        self.merge(secret, &path, change).await
    }

    async fn merge(&self, secret: &Key, path: &str, change: &Value) -> Result<ObjectMeta, Failure> {
        let body = change.to_string().into_bytes();
        let answer = self.send(request(Method::PATCH, path, METADATA_ONLY, MERGE, body)).await?;
        match answer.status {
            200 => metadata(&answer),
            _ => Err(answer.failure(About::Secret(self.place(secret)))),
        }
    }

    /// Gives up all that only the BearerToken `owner` owns of a Secret.
    pub async fn give_up_secret(&self, secret: &Key, owner: &str, version: &Version) -> Result<(), Failure> {
        let body = SecretString::from(farewell(&secret.namespace, &secret.name, version));
        self.apply_secret(secret, &field_manager(owner), false, &body).await.map(drop)
    }

    /// Deletes a Secret, if it still is what was looked at.
    pub async fn delete_secret(&self, secret: &Key, version: &Version) -> Result<(), Failure> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": version.uid, "resourceVersion": version.resource_version},
        });
        let body = body.to_string().into_bytes();
        let request = request(Method::DELETE, &path(secret, "secrets"), METADATA_ONLY, "application/json", body);
        let answer = self.send(request).await?;
        match answer.status {
            200 | 202 | 404 => Ok(()),
            _ => Err(answer.failure(About::Secret(self.place(secret)))),
        }
    }

    /// The name of the Secret that a BearerToken keeps; `None` when there is no such BearerToken.
    pub async fn secret_named_by(&self, key: &Key) -> Result<Option<String>, Failure> {
        let path = format!("/apis/flux-bearer.dev/v1alpha1/namespaces/{}/bearertokens/{}", key.namespace, key.name);
        match self.find::<Value>(&path).await?.0 {
            Found::Missing => Ok(None),
            Found::Forbidden => Err(kubernetes::from_answer(403, &[], About::Other("BearerTokens"), None)),
            Found::Object(object) => {
                let named = object.pointer("/spec/secret/name").and_then(Value::as_str);
                Ok(Some(named.unwrap_or(&key.name).to_owned()))
            }
        }
    }

    /// Applies the whole status of a BearerToken.
    pub async fn apply_status(&self, key: &Key, uid: &str, status: &BearerTokenStatus) -> Result<(), Failure> {
        let path = format!(
            "/apis/flux-bearer.dev/v1alpha1/namespaces/{}/bearertokens/{}/status?fieldManager=flux-bearer&force=true",
            key.namespace, key.name
        );
        let metadata = ApplyMeta { name: &key.name, namespace: &key.namespace, uid };
        let body = Apply { api_version: "flux-bearer.dev/v1alpha1", kind: "BearerToken", metadata, status };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        self.write("the status of BearerTokens", request(Method::PATCH, &path, METADATA_ONLY, APPLY, body)).await
    }

    /// Asks source-controller to look at a GitRepository now. A merge patch: an apply would make a deleted one anew.
    pub async fn nudge(&self, key: &Key, at: &str) -> Result<(), Failure> {
        let path = format!(
            "/apis/source.toolkit.fluxcd.io/v1/namespaces/{}/gitrepositories/{}?fieldManager=flux-bearer",
            key.namespace, key.name
        );
        let body = json!({"metadata": {"annotations": {flux_bearer::flux::REQUESTED_AT: at}}});
        let body = body.to_string().into_bytes();
        self.write("GitRepositories", request(Method::PATCH, &path, METADATA_ONLY, MERGE, body)).await
    }

    /// Creates an Event.
    pub async fn create_event(&self, namespace: &str, event: &Value) -> Result<(), Failure> {
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let body = event.to_string().into_bytes();
        self.write("Events", request(Method::POST, &path, "application/json", "application/json", body)).await
    }

    /// What is at `path`, and the API server's clock.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<(Found<T>, Option<Timestamp>), Failure> {
        let answer = self.send(request(Method::GET, path, "application/json", "", Vec::new())).await?;
        let found = match answer.status {
            200 => Found::Object(parse(&answer)?),
            403 => Found::Forbidden,
            404 => Found::Missing,
            _ => return Err(answer.failure(About::Other("what is installed"))),
        };
        Ok((found, answer.date))
    }

    /// What a Secret holds that an identity signs in with.
    pub async fn credential(&self, credential: &Key) -> Result<Option<Data>, Failure> {
        let request = request(Method::GET, &path(credential, "secrets"), "application/json", "", Vec::new());
        let answer = self.send(request).await?;
        match answer.status {
            404 => Ok(None),
            200 => parse(&answer).map(Some),
            _ => Err(answer.failure(About::Credential(self.place(credential)))),
        }
    }

    /// What the annotations of a ServiceAccount say of its identity.
    pub async fn account(&self, account: &Key) -> Result<Claims, Failure> {
        let request = request(Method::GET, &path(account, "serviceaccounts"), METADATA_ONLY, "", Vec::new());
        let answer = self.send(request).await?;
        match answer.status {
            200 => Ok(Claims::of(&metadata(&answer)?.annotations.unwrap_or_default())),
            _ => Err(answer.failure(About::Account(self.place(account)))),
        }
    }

    /// A token of a ServiceAccount for Entra ID, as a pod of it would be given one.
    pub async fn account_token(&self, account: &Key) -> Result<SecretString, Failure> {
        let path = format!("{}/token", path(account, "serviceaccounts"));
        let body = token_request::body(AUDIENCE);
        let answer = self.send(request(Method::POST, &path, "application/json", "application/json", body)).await?;
        match answer.status {
            200..=299 => token_request::token(&answer.body).ok_or_else(|| unreachable(Unreachable::Malformed)),
            _ => Err(answer.failure(About::Account(self.place(account)))),
        }
    }

    fn place<'a>(&'a self, secret: &'a Key) -> Place<'a> {
        Place { namespace: &secret.namespace, name: &secret.name, controller: &self.namespace }
    }

    async fn write(&self, what: &'static str, request: Request<Body>) -> Result<(), Failure> {
        let answer = self.send(request).await?;
        match answer.status {
            // Whatever answers with something else than the object is not the API server, and has written nothing.
            200..=299 => is_object(&answer),
            _ => Err(answer.failure(About::Other(what))),
        }
    }

    /// The one way out. Whether a write may start is asked here, with nothing to wait for between the answer and the
    /// request: a process that was stopped for a while goes on wherever it was.
    async fn send(&self, request: Request<Body>) -> Result<Answer, Failure> {
        if request.method() != Method::GET && !self.leadership.may_write() {
            return Err(kubernetes::not_leading());
        }
        match timeout(DEADLINE, self.exchange(request)).await {
            Err(_) => Err(unreachable(Unreachable::Timeout(DEADLINE))),
            Ok(Err(fault)) => Err(unreachable(fault)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Answer, Unreachable> {
        let response = self.client.send(request).await.map_err(|_| Unreachable::Connect)?;
        let status = response.status().as_u16();
        let date = server_time(response.headers());
        let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), MAX_REPLY).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Unreachable::TooLarge(MAX_REPLY),
            None => Unreachable::Cut,
        })?;
        let retry_after = asked.map(Duration::from_secs);
        Ok(Answer { status, date, retry_after, body: body.to_bytes() })
    }
}

/// The apply of a status.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: ApplyMeta<'a>,
    status: &'a BearerTokenStatus,
}

#[derive(Serialize)]
struct ApplyMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    /// An object of the same name that was made anew starts from nothing.
    uid: &'a str,
}

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

impl Answer {
    /// The failure that this answer is, from codes alone.
    fn failure(&self, about: About<'_>) -> Failure {
        let status: Status = serde_json::from_slice(&self.body).unwrap_or_default();
        let by_admission = status.is_by_admission().then_some(kubernetes::Cause { reason: ADMISSION, field: "" });
        let details = status.details.unwrap_or_default();
        let causes = details.causes.iter().map(|Cause { reason, field }| kubernetes::Cause { reason, field });
        let causes: Vec<_> = causes.chain(by_admission).collect();
        let asked = self.retry_after.or(details.retry_after_seconds.map(Duration::from_secs));
        kubernetes::from_answer(self.status, &causes, about, asked)
    }
}

fn path(key: &Key, resource: &str) -> String {
    format!("/api/v1/namespaces/{}/{resource}/{}", key.namespace, key.name)
}

/// A request with these headers. Its parts are names that Kubernetes has validated, so it can always be built; were it
/// not so, a bare request for `/` is harmless and its answer is no Secret.
fn request(method: Method, path: &str, accept: &str, content_type: &str, body: Vec<u8>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
    if !content_type.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder.body(Body::from(body)).unwrap_or_else(|_| Request::new(Body::empty()))
}

fn metadata(answer: &Answer) -> Result<ObjectMeta, Failure> {
    #[derive(Deserialize)]
    struct Partial {
        metadata: ObjectMeta,
    }
    Ok(parse::<Partial>(answer)?.metadata)
}

/// Metadata is not read whole where nobody looks at it: managed fields make it long.
fn is_object(answer: &Answer) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    parse::<Object>(answer).map(|object| drop(object.metadata.name))
}

fn parse<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body).map_err(|_| unreachable(Unreachable::Malformed))
}

fn unreachable(fault: Unreachable) -> Failure {
    fault.failure("KubernetesUnavailable", "the Kubernetes API")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn row_36_no_write_leaves_a_process_that_does_not_lead() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let send = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) }
        });
        let kubernetes = Kubernetes::new(Client::new(send, "ns"), "ns", Leadership::contested());
        let (key, secret) = (Key::new("ns", "name"), SecretString::from("{}"));
        let refused = [
            kubernetes.apply_secret(&key, "m", false, &secret).await.map(drop),
            kubernetes.apply_status(&key, "uid", &BearerTokenStatus::default()).await,
            kubernetes.nudge(&key, "now").await,
            kubernetes.create_event("ns", &json!({})).await,
            kubernetes.account_token(&key).await.map(drop),
        ];
        for refusal in refused {
            assert_eq!(refusal.unwrap_err().reason, "NotLeading");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        assert!(kubernetes.secret_metadata(&key).await.is_err(), "a look leaves, and this answer is none");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
