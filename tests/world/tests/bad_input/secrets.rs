//! Secrets of somebody else, Secrets that can't be written, and two that want one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};

use crate::support::pair::Pair;
use crate::support::{minutes, seconds};

/// The Secret `bad` as a person makes it.
fn somebodys(kind: &str, immutable: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "immutable": immutable,
        "metadata": {"name": "bad", "namespace": NAMESPACE},
        "data": {"username": STANDARD.encode("git"), "password": STANDARD.encode("a personal access token")},
    })
}

#[tokio::test(start_paused = true)]
async fn row_29_30_a_secret_of_somebody_else_is_not_touched_and_is_made_anew_once_it_is_gone() {
    for (kind, immutable) in [("Opaque", false), ("Opaque", true), ("kubernetes.io/basic-auth", false)] {
        let what = format!("{kind}, immutable: {immutable}");
        let pair = Pair::new(&json!({}));
        let theirs = pair.theatre.stage.kube.apply(somebodys(kind, immutable));
        let _running = pair.start();
        minutes(70).await;
        pair.says(&what, "Ready", "False SecretNotOwned", &["kubectl", "delete secret bad"]);
        pair.says(&what, "Stalled", "True SecretNotOwned", &["another spec.secret.name"]);
        assert_eq!(pair.secret(), Some(theirs), "{what}");
        pair.theatre.stage.kube.delete("Secret", NAMESPACE, "bad");
        minutes(6).await;
        pair.says(&what, "Ready", "True Succeeded", &[]);
        pair.good_is_unaffected(&what);
    }
}

#[tokio::test(start_paused = true)]
async fn row_30_our_secret_that_was_made_immutable_is_made_anew_at_once_when_it_is_deleted() {
    let pair = Pair::new(&json!({}));
    let _running = pair.start();
    minutes(5).await;
    let mut frozen = pair.secret().unwrap();
    frozen["immutable"] = true.into();
    let frozen = pair.theatre.stage.kube.apply(frozen);
    minutes(40).await;
    pair.says("at the next refresh", "RefreshFailing", "True SecretImmutable", &["kubectl delete secret bad"]);
    pair.says("at the next refresh", "Ready", "True Succeeded", &[]);
    assert_eq!(pair.secret(), Some(frozen));
    pair.theatre.stage.kube.delete("Secret", NAMESPACE, "bad");
    seconds(5).await;
    pair.says("deletion", "Ready", "True Succeeded", &[]);
    assert_eq!(pair.theatre.clone("bad").await, 200);
    assert_eq!(pair.theatre.stage.says("bad", "RefreshFailing"), "");
    minutes(20).await;
    pair.good_is_unaffected("an immutable Secret");
}

#[tokio::test(start_paused = true)]
async fn our_secret_that_was_made_anew_with_another_type_is_left_to_whoever_made_it() {
    let pair = Pair::new(&json!({}));
    let _running = pair.start();
    minutes(5).await;
    pair.theatre.stage.kube.delete("Secret", NAMESPACE, "bad");
    let theirs = pair.theatre.stage.kube.apply(somebodys("kubernetes.io/basic-auth", false));
    minutes(1).await;
    assert_eq!(pair.secret(), Some(theirs));
    pair.says("another type", "Ready", "False SecretNotOwned", &["kubectl delete secret bad"]);
}

#[tokio::test(start_paused = true)]
async fn row_28_of_two_that_want_one_secret_the_older_has_it_until_it_is_gone() {
    let pair = Pair::new(&json!({}));
    seconds(1).await;
    pair.theatre.stage.bearer_token("younger", &json!({"secret": {"name": "bad"}}));
    let running = pair.start();
    minutes(70).await;
    let younger = pair.theatre.stage.condition("younger", "Ready").unwrap();
    assert_eq!((&*younger.0, &*younger.1), ("False", "SecretConflict"));
    assert!(younger.2.contains("BearerToken bad") && younger.2.contains("another spec.secret.name"), "{younger:?}");
    pair.says("two of them", "Ready", "True Succeeded", &[]);
    assert_eq!(pair.theatre.record("bad")["bearerToken"], "bad");
    running.kill().await;
    let _running = pair.start();
    minutes(30).await;
    assert_eq!(pair.theatre.record("bad")["bearerToken"], "bad", "after a restart as well");
    pair.theatre.stage.kube.delete("BearerToken", NAMESPACE, "bad");
    minutes(70).await;
    let younger = pair.theatre.stage.condition("younger", "Ready").unwrap();
    assert_eq!(younger.0, "True", "{younger:?}");
    assert_eq!(pair.theatre.record("bad")["bearerToken"], "younger");
    assert_eq!(pair.theatre.expired_seconds("bad"), 0);
    pair.good_is_unaffected("two for one Secret");
}

#[tokio::test(start_paused = true)]
async fn row_28_of_two_of_one_second_the_lower_uid_has_the_secret() {
    let pair = Pair::new(&json!({}));
    let other = pair.theatre.stage.bearer_token("another", &json!({"secret": {"name": "bad"}}));
    let bad = pair.theatre.stage.kube.get("BearerToken", NAMESPACE, "bad").unwrap();
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(bad["metadata"]["creationTimestamp"], other["metadata"]["creationTimestamp"]);
    let winner = if uid(&bad) < uid(&other) { "bad" } else { "another" };
    let _running = pair.start();
    minutes(60).await;
    assert_eq!(pair.theatre.record("bad")["bearerToken"], winner);
    let ready = ["bad", "another"].map(|name| pair.theatre.stage.says(name, "Ready"));
    assert_eq!(ready.iter().filter(|says| *says == "True Succeeded").count(), 1, "{ready:?}");
    assert_eq!(ready.iter().filter(|says| *says == "False SecretConflict").count(), 1, "{ready:?}");
    pair.good_is_unaffected("two of one age");
}
