//! What source-controller does with its GitRepositories. A look is one request of Git, with the credential that it
//! would take; so a state of the cluster in which Flux can't pull is seen, however short it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_sim::kube::Kube;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::identities::{APPLICATION, SECRET, TENANT, client};
use crate::stage::{NAMESPACE, Stage};

/// How often each GitRepository is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// A source-controller that pulls until it is dropped.
pub struct Flux {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

/// How a look ended.
#[derive(Clone, Debug)]
pub struct Look {
    /// The GitRepository.
    pub repository: String,
    /// What it used, by name.
    pub with: &'static str,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What a look goes by.
#[derive(Clone, Debug, PartialEq)]
struct Pull {
    name: String,
    url: String,
    native: bool,
    data: Value,
}

impl Drop for Flux {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flux {
    /// Starts it on a stage. Its own identity, for `provider: azure`, is the application of [`crate::identities`].
    pub fn start(stage: &Stage) -> Self {
        let looks: Arc<Mutex<Vec<Look>>> = Arc::default();
        let (send, changes) = unbounded_channel();
        listen(&stage.kube, send);
        let task = tokio::spawn(run(stage.clone(), Arc::clone(&looks), changes));
        Self { looks, task }
    }

    /// Every look so far.
    pub fn looks(&self) -> Vec<Look> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The looks that failed.
    pub fn failures(&self) -> Vec<Look> {
        self.looks().into_iter().filter(|look| look.failure.is_some()).collect()
    }
}

/// Sends each state of what Flux reads, once.
fn listen(kube: &Kube, send: UnboundedSender<Vec<Pull>>) {
    let (reader, last) = (kube.clone(), Mutex::new(Vec::new()));
    kube.on_change(move |object| {
        let kind = object.get("kind").and_then(Value::as_str);
        if !matches!(kind, Some("Secret" | "GitRepository")) {
            return;
        }
        let now = pulls(&reader);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != now {
            last.clone_from(&now);
            // Nobody listens once the test is over.
            drop(send.send(now));
        }
    });
}

async fn run(stage: Stage, looks: Arc<Mutex<Vec<Look>>>, mut changes: UnboundedReceiver<Vec<Pull>>) {
    loop {
        let news = tokio::time::timeout(INTERVAL, changes.recv()).await;
        let pulls = if let Ok(Some(pulls)) = news { pulls } else { pulls(&stage.kube) };
        for pull in pulls {
            let asked = asked(&stage.kube, &pull.name);
            let look = look(&stage, &pull).await;
            tell(&stage.kube, &look, &asked);
            looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        }
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// What each GitRepository reads at this moment, unless it is suspended.
fn pulls(kube: &Kube) -> Vec<Pull> {
    let pull = |repository: &Value| Pull {
        name: text(repository, "/metadata/name").to_owned(),
        url: text(repository, "/spec/url").to_owned(),
        native: text(repository, "/spec/provider") == "azure",
        data: kube
            .get("Secret", NAMESPACE, text(repository, "/spec/secretRef/name"))
            .and_then(|secret| secret.get("data").cloned())
            .unwrap_or_default(),
    };
    let sleeps = |repository: &&Value| repository.pointer("/spec/suspend") == Some(&Value::Bool(true));
    kube.list("GitRepository").iter().filter(|repository| !sleeps(repository)).map(pull).collect()
}

/// The request to look that has been written onto a GitRepository.
fn asked(kube: &Kube, name: &str) -> String {
    let found = kube.get("GitRepository", NAMESPACE, name).unwrap_or_default();
    text(&found, "/metadata/annotations/reconcile.fluxcd.io~1requestedAt").to_owned()
}

/// Writes into the status what the look has come to, where that is news.
fn tell(kube: &Kube, look: &Look, asked: &str) {
    let found = kube.get("GitRepository", NAMESPACE, &look.repository).unwrap_or_default();
    let (status, reason) = match look.failure {
        None => ("True", "Succeeded"),
        Some(_) => ("False", "GitOperationFailed"),
    };
    if text(&found, "/status/conditions/0/status") != status || text(&found, "/status/lastHandledReconcileAt") != asked
    {
        let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": reason});
        let status = json!({"conditions": [condition], "lastHandledReconcileAt": asked});
        kube.patch_status("GitRepository", NAMESPACE, &look.repository, status);
    }
}

async fn look(stage: &Stage, pull: &Pull) -> Look {
    let (with, outcome) = match credential(stage, pull).await {
        Ok((with, credential)) => (with, ask(stage, &pull.url, credential).await),
        Err(refused) => ("nothing", Err(refused)),
    };
    Look { repository: pull.name.clone(), with, failure: outcome.err() }
}

/// What Flux signs in with, in its own order of precedence: a native provider, `bearerToken`, `username` and
/// `password`.
async fn credential(stage: &Stage, pull: &Pull) -> Result<(&'static str, Option<String>), String> {
    let key = |name: &str| {
        let decoded = STANDARD.decode(text(&pull.data, &format!("/{name}"))).ok()?;
        String::from_utf8(decoded).ok().filter(|value| !value.is_empty())
    };
    if pull.native {
        return Ok(("provider azure", Some(format!("Bearer {}", own_token(stage).await?))));
    }
    match (key("bearerToken"), key("username"), key("password")) {
        (Some(_), ..) if pull.url.contains('@') => {
            Err("basic auth and bearer token cannot be set at the same time".to_owned())
        }
        (Some(token), ..) => Ok(("bearerToken", Some(format!("Bearer {token}")))),
        (None, Some(user), Some(password)) => {
            Ok(("password", Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))))
        }
        _ => Ok(("nothing", None)),
    }
}

async fn ask(stage: &Stage, url: &str, credential: Option<String>) -> Result<(), String> {
    let bare = url.split_once('@').map_or_else(|| url.to_owned(), |(_, rest)| format!("https://{rest}"));
    let mut request = Request::get(format!("{bare}/info/refs?service=git-upload-pack"));
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, credential);
    }
    let request = request.body(Body::empty()).map_err(|error| error.to_string())?;
    let answer = stage.azure_service().oneshot(request).await.map_err(|error| error.to_string())?;
    if answer.status().as_u16() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
}

/// A token of source-controller's own identity.
async fn own_token(stage: &Stage) -> Result<String, String> {
    let scope = "499b84ac-1321-427f-aa17-267ca6975798%2F.default";
    let secret = SECRET.replace('/', "%2F").replace('+', "%2B");
    let form =
        format!("grant_type=client_credentials&client_id={}&client_secret={secret}&scope={scope}", client(APPLICATION));
    let request = Request::post(format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form))
        .map_err(|error| error.to_string())?;
    let answer = stage.azure_service().oneshot(request).await.map_err(|error| error.to_string())?;
    let bytes = to_bytes(answer.into_body(), 65536).await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let token = text(&answer, "/access_token");
    if token.is_empty() { Err(answer.to_string()) } else { Ok(token.to_owned()) }
}
