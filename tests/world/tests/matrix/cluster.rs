//! Faults of the Kubernetes API, and of what others do in it.

use axum::body::Body;
use flux_bearer::secret::{RECORD, field_manager};
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::Entry;
use flux_bearer_world::identities::client;
use flux_bearer_world::stage::NAMESPACE;
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::pair::{CANARY, Pair, answers, fault};
use crate::support::{Theatre, minutes, seconds};

/// A theatre with BearerToken `flux-system`, whose tokens live so many seconds.
fn one(lifetime: u32) -> Theatre {
    let theatre = Theatre::with(&[lifetime]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre
}

/// Lets each write of Secret `name` meet `trouble`.
fn at_the_write_of(theatre: &Theatre, name: &str, trouble: Fault) {
    let (method, path) = (Some("PATCH".into()), Some(format!("/secrets/{name}")));
    theatre.stage.kube.faults().set(Fault { method, path, ..trouble });
}

/// When Secrets were written, or tried to be, since the journal was cleared.
fn writes(theatre: &Theatre) -> Vec<Timestamp> {
    let is_write = |entry: &&Entry| entry.request.resource == "secrets" && entry.request.verb.rbac() == "patch";
    theatre.stage.kube.journal().entries().iter().filter(is_write).map(|entry| entry.request.time).collect()
}

#[tokio::test(start_paused = true)]
async fn row_20_watches_that_fall_silent_are_begun_anew_within_five_minutes() {
    let theatre = one(3600);
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.kube.silence_watches();
    theatre.stage.bearer_token("late", &json!({}));
    let mut secret = theatre.stage.kube.get("Secret", NAMESPACE, "flux-system").unwrap();
    secret["data"]["bearerToken"] = "b29wcw==".into();
    theatre.stage.kube.apply(secret);
    minutes(3).await;
    assert_eq!(theatre.stage.says("late", "Ready"), "", "nothing is told on a silent watch");
    minutes(2).await;
    assert_eq!(theatre.stage.says("late", "Ready"), "True Succeeded");
    assert_eq!(theatre.clone("flux-system").await, 200, "what was changed meanwhile is put right");
    minutes(300).await;
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_21_a_history_that_is_gone_costs_one_list_and_no_token() {
    let theatre = Theatre::with(&[3600]);
    for number in 0..500 {
        theatre.stage.bearer_token(&format!("token-{number}"), &json!({}));
    }
    let _running = theatre.stage.start();
    minutes(5).await;
    let mints = theatre.stage.world.journal().mints(&client(0));
    theatre.stage.kube.journal().clear();
    for _ in 0..5 {
        // What the watches were at is forgotten while none of them is there to be told.
        theatre.stage.bearer_token("token-0", &json!({"repositories": []}));
        theatre.stage.kube.compact();
        theatre.stage.kube.close_watches();
        minutes(1).await;
    }
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), mints);
    assert_eq!(writes(&theatre), Vec::<Timestamp>::new());
    theatre.stage.bearer_token("late", &json!({}));
    seconds(2).await;
    assert_eq!(theatre.stage.says("late", "Ready"), "True Succeeded", "the watches are there again");
}

#[tokio::test(start_paused = true)]
async fn row_22_whoever_writes_the_secret_each_second_delays_no_token_by_more_than_seconds() {
    let theatre = one(3600);
    let _running = theatre.stage.start();
    minutes(1).await;
    // A write arrives after the version that it is pinned to may be gone.
    at_the_write_of(&theatre, "flux-system", fault(Some(300), None));
    theatre.stage.kube.journal().clear();
    let fillings = theatre.fillings("flux-system");
    for second in 0..4 * 3600 {
        theatre.stage.kube.annotate("Secret", NAMESPACE, "flux-system", "example.com/seen", &second.to_string());
        seconds(1).await;
    }
    let refreshes = theatre.fillings("flux-system") - fillings;
    assert!((8..=10).contains(&refreshes), "{refreshes}");
    assert!(writes(&theatre).len() <= 2 * refreshes, "{} writes for {refreshes} tokens", writes(&theatre).len());
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "");
}

#[tokio::test(start_paused = true)]
async fn row_23_a_secret_waits_as_long_as_the_api_server_asks() {
    let theatre = one(3600);
    let busy = Effect::Answer { status: 429, retry_after: Some(45), content_type: None, body: String::new() };
    at_the_write_of(&theatre, "flux-system", fault(None, Some(busy)));
    let _running = theatre.stage.start();
    minutes(10).await;
    let times = writes(&theatre);
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert!(pauses.len() > 10 && pauses.iter().all(|pause| *pause >= 45), "{pauses:?}");
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1, "the token waits in memory");
    theatre.stage.kube.faults().clear_all();
    seconds(46).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn row_24_a_write_that_stalls_for_five_seconds_is_one_write() {
    let theatre = one(3600);
    at_the_write_of(&theatre, "flux-system", fault(Some(5_000), None));
    let _running = theatre.stage.start();
    minutes(10 * 60).await;
    assert_eq!(writes(&theatre).len(), theatre.fillings("flux-system"));
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "");
}

#[tokio::test(start_paused = true)]
async fn row_25_a_webhook_that_refuses_the_write_is_told_without_its_words_and_asked_every_five_minutes() {
    let webhook = format!("admission webhook \"{CANARY}\" denied the request");
    let policy = format!("secrets \"bad\" is forbidden: ValidatingAdmissionPolicy '{CANARY}' denied request");
    for (status, words) in [(400, &webhook), (403, &webhook), (403, &policy), (422, &policy)] {
        let pair = Pair::new(&json!({}));
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": words, "code": status});
        at_the_write_of(&pair.theatre, "bad", answers(status, "application/json", body.to_string()));
        let _running = pair.start();
        minutes(10).await;
        pair.says("a webhook", "Ready", "False WriteRejected", &["admission policy or webhook"]);
        pair.theatre.stage.kube.journal().clear();
        minutes(60).await;
        let tried = pair.theatre.stage.kube.journal().count_where(|entry| {
            entry.request.name == "bad" && entry.request.resource == "secrets" && entry.request.verb.rbac() == "patch"
        });
        assert!((11..=12).contains(&tried), "{tried}");
        pair.good_is_unaffected("a webhook");
        pair.theatre.stage.kube.faults().clear_all();
        minutes(5).await;
        pair.says("a webhook", "Ready", "True Succeeded", &[]);
    }
}

/// Writes this record onto a Secret as the controller's other version has: in our apply.
async fn remember(theatre: &Theatre, name: &str, record: &Value) {
    let stored = theatre.stage.kube.get("Secret", NAMESPACE, name).unwrap();
    let mut annotations = stored["metadata"]["annotations"].clone();
    annotations[RECORD] = record.to_string().into();
    let metadata = json!({"name": name, "labels": stored["metadata"]["labels"], "annotations": annotations});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": stored["type"], "metadata": metadata, "data": stored["data"]});
    let manager = field_manager(name).replace('/', "%2F");
    let path = format!("https://kubernetes/api/v1/namespaces/{NAMESPACE}/secrets/{name}?fieldManager={manager}");
    let request = Request::patch(path).header(CONTENT_TYPE, "application/apply-patch+yaml");
    let request = request.body(Body::from(secret.to_string())).unwrap();
    assert_eq!(theatre.stage.kube.service().oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn row_53_a_record_of_an_older_or_newer_version_costs_no_token_and_no_gap() {
    let older: fn(&mut Value) = |record| {
        for field in ["made", "deletionPolicy", "credentialExpiresAt"] {
            record.as_object_mut().unwrap().remove(field);
        }
    };
    let newer: fn(&mut Value) = |record| record["future"] = json!({"field": [1, 2, 3]});
    for (what, change) in [("newer", newer), ("older", older)] {
        let theatre = Theatre::with(&[3600]);
        let names: Vec<String> = (0..100).map(|number| format!("token-{number}")).collect();
        for name in &names {
            theatre.stage.bearer_token(name, &json!({}));
        }
        let running = theatre.stage.start();
        minutes(5).await;
        running.kill().await;
        for name in &names {
            let mut record = theatre.record(name);
            change(&mut record);
            remember(&theatre, name, &record).await;
        }
        let running = theatre.stage.start();
        minutes(5).await;
        assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1, "{what}");
        running.kill().await;
        let _running = theatre.stage.start();
        minutes(120).await;
        for name in &names {
            assert_eq!(theatre.stage.says(name, "Ready"), "True Succeeded", "{what}");
            assert_eq!(theatre.expired_seconds(name), 0, "{what}");
        }
    }
}
