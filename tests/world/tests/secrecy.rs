//! That no token and no reply's text is ever repeated: not in a log line, a condition, an event or a metric.
//!
//! Alone in its file: tracing remembers a line as unwanted when another test's thread, which has no subscriber, meets it
//! first.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer::failure::Failure;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_controller::logs::Verbosity;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::certificates::Pair;
use flux_bearer_world::identities::{APPLICATION, REPOSITORY, SECRET, SUBJECT, client};
use flux_bearer_world::stage::{AUDIENCE, NAMESPACE, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::json;

use support::pair::{CANARY, answers, fault, json_answer, page};
use support::{Theatre, minutes};

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Projected tokens, all of which are remembered.
#[derive(Clone)]
struct Remembered(Stage, Arc<Mutex<Vec<String>>>);

impl Assertion for Remembered {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let now = self.0.world.clock().now();
        let token = self.0.issuer.sign(SUBJECT, AUDIENCE, Duration::from_secs(600), now);
        self.1.lock().unwrap().push(token.clone());
        async move { Ok(SecretString::from(token)) }.boxed()
    }
}

/// One BearerToken of every kind, two of them in trouble, and a GitRepository.
fn furnish(stage: &Stage, pair: &Pair) {
    stage.kube.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret", "namespace": NAMESPACE},
        "stringData": {"clientSecret": SECRET},
    }));
    stage.credential(&pair.data());
    stage.register(&[pair]).unwrap();
    stage.git_repository("flux-system", "flux-system", REPOSITORY);
    stage.git_repository("theirs", "other", "https://user:CANARY-7f3a91@dev.azure.com/contoso/platform/_git/fleet");
    stage.bearer_token("flux-system", &json!({}));
    stage.bearer_token("imds", &json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}}));
    stage.bearer_token(
        "principal",
        &json!({"identity": {"type": "ClientSecret", "clientId": client(APPLICATION), "tenantId": "contoso.example", "secretRef": {"name": "secret"}}}),
    );
    stage.bearer_token(
        "certified",
        &json!({"identity": {"type": "ClientCertificate", "clientId": client(APPLICATION), "tenantId": "contoso.example", "secretRef": {"name": "credential"}}}),
    );
    stage.bearer_token("other", &json!({}));
    stage.bearer_token("unknown", &json!({"identity": {"clientId": client(7)}}));
}

/// What goes wrong in turn: the path it happens to, and how.
fn troubles(token: &str) -> Vec<(&'static str, Fault)> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": CANARY, "message": CANARY,
        "details": {"causes": [{"field": CANARY, "message": CANARY}]}});
    let error = json!({"error": CANARY, "error_description": CANARY, "error_codes": [CANARY], "trace_id": CANARY, "correlation_id": CANARY});
    let half = format!(r#"{{"access_token":"{token}","expires_in":36"#);
    let object = format!(r#"{{"metadata":{{"name":7}},"data":{{"bearerToken":"{}"}}}}"#, STANDARD.encode(token));
    vec![
        ("oauth2/v2.0/token", answers(400, "application/json", error.to_string())),
        ("oauth2/v2.0/token", json_answer(half.clone())),
        ("oauth2/v2.0/token", fault(None, Some(Effect::Cut { after: 900 }))),
        ("oauth2/v2.0/token", json_answer(json!({"access_token": format!("{token} "), "expires_in": 60}).to_string())),
        ("identity/oauth2/token", answers(400, "application/json", error.to_string())),
        ("identity/oauth2/token", json_answer(half)),
        ("info/refs", page(200)),
        ("info/refs", answers(403, CANARY, CANARY)),
        ("/secrets/", answers(403, "application/json", status.to_string())),
        ("/secrets/", json_answer(object.clone())),
        ("/secrets?", answers(403, "application/json", status.to_string())),
        ("/secrets?", json_answer(object.clone())),
        ("/secrets?", answers(200, "application/json", format!(r#"{{"type":"ERROR","object":{status}}}"#))),
        ("/status", answers(422, "application/json", status.to_string())),
        ("/events", answers(403, "application/json", status.to_string())),
        ("/gitrepositories", page(500)),
        ("/bearertokens?", answers(403, "application/json", status.to_string())),
        ("/bearertokens?", json_answer(object)),
        ("/leases", page(502)),
        ("/leases", answers(403, "application/json", status.to_string())),
        ("/customresourcedefinitions/", json_answer(json!({"metadata": {"name": CANARY}, "spec": CANARY}).to_string())),
        ("/validatingadmission", answers(403, "application/json", status.to_string())),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_token_and_no_reply_is_ever_repeated() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(Verbosity::Trace.filter())
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let mut theatre = Theatre::with(&[600]);
    let assertions = Arc::new(Mutex::new(Vec::new()));
    let remembered = Remembered(theatre.stage.clone(), Arc::clone(&assertions));
    theatre.stage = theatre.stage.with_assertion(Arc::new(remembered));
    let pair = Pair::rsa((2026, 1, 1), (2027, 1, 1)).unwrap();
    furnish(&theatre.stage, &pair);
    let mut running = theatre.stage.start_replica("a");
    minutes(15).await;
    assert_eq!(theatre.stage.says("certified", "Ready"), "True Succeeded");
    for (path, trouble) in troubles(&theatre.token("flux-system")) {
        let trouble = Fault { path: Some(path.into()), ..trouble };
        theatre.stage.world.faults().set(trouble.clone());
        theatre.stage.kube.faults().set(trouble);
        theatre.stage.kube.close_watches();
        minutes(15).await;
        theatre.stage.world.faults().clear_all();
        theatre.stage.kube.faults().clear_all();
        // Without its lease it ends, and is started anew.
        running.kill().await;
        running = theatre.stage.start_replica("a");
        minutes(10).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "after trouble with {path}");
    }
    running.kill().await;

    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for line in ["token minted", "Secret written", "no token", "Secret not written", "the watch was interrupted"] {
        assert!(logged.contains(line), "the run was meant to log {line:?}");
    }
    let said = theatre.said();
    let tokens: Vec<String> = theatre.tokens().into_iter().chain(assertions.lock().unwrap().clone()).collect();
    assert!(tokens.len() > 100, "{}", tokens.len());
    let parts = tokens.iter().flat_map(|token| token.split('.').skip(1)).map(str::to_owned);
    let encoded = tokens.iter().map(|token| STANDARD.encode(token));
    let key = pair.key.lines().filter(|line| line.len() == 64).map(str::to_owned);
    let secret = [SECRET.to_owned(), CANARY.to_owned()];
    for secret in secret.into_iter().chain(parts).chain(encoded).chain(key) {
        for (place, text) in [("a log line", &logged), ("what was said", &said)] {
            let line = text.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "{secret} is in {place}: {line:?}");
        }
    }
}
