//! Alerts: what notification-controller is told, and that nothing waits for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use flux_bearer_controller::notifications::MAX_WAITING;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::alerts::{Event, Reference};
use flux_bearer_world::identities::REPOSITORY;
use flux_bearer_world::stage::NAMESPACE;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::pair::{CANARY, answers, fault, page};
use support::{Theatre, answer, lines, minutes, seconds};
use tokio::time::Instant;

/// What is told of a Secret that is filled.
const FILLED: [&str; 2] = ["BearerToken/fleet info Succeeded", "BearerToken/fleet info RepositoriesOpen"];

/// A BearerToken, a GitRepository that reads its Secret, and one that doesn't.
fn furnished() -> Theatre {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("fleet", &json!({}));
    theatre.stage.git_repository("apps", "fleet", REPOSITORY);
    theatre.stage.git_repository("other", "another", REPOSITORY);
    theatre
}

/// How often a metric of this line was counted.
fn counted(theatre: &Theatre, result: &str) -> u64 {
    let line = format!("flux_bearer_notifications_total{{result=\"{result}\"}} ");
    theatre.said().lines().find_map(|said| said.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

/// Who and what an event is about, in one line.
fn line(event: &Event) -> String {
    let Event { involved_object: Reference { kind, name, .. }, severity, reason, .. } = event;
    format!("{kind}/{name} {severity} {reason}")
}

fn told(theatre: &Theatre) -> Vec<String> {
    theatre.stage.alerts.taken().iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_fails_is_told_of_its_bearer_token_and_of_each_git_repository_that_reads_it() {
    let theatre = furnished();
    let _running = theatre.stage.start();
    minutes(20).await;
    assert_eq!(told(&theatre), FILLED);

    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(28).await;
    let about_to_fail = ["BearerToken/fleet error EntraUnavailable", "GitRepository/apps error EntraUnavailable"];
    assert_eq!(told(&theatre)[2..], about_to_fail);
    minutes(20).await;
    let failed = ["BearerToken/fleet error TokenExpired", "GitRepository/apps error TokenExpired"];
    assert_eq!(told(&theatre)[4..], failed, "each once, however often it is tried");

    theatre.stage.world.faults().clear_all();
    minutes(5).await;
    assert_eq!(told(&theatre)[6..], ["BearerToken/fleet info Succeeded"], "good news is its own");
    assert_eq!((counted(&theatre, "delivered"), counted(&theatre, "failed")), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_told_in_the_fields_of_flux_and_in_the_words_of_the_cluster() {
    let theatre = furnished();
    // An Event is named by its instant, and on this clock nothing else takes any time.
    theatre.stage.kube.faults().set(Fault { path: Some("/events".into()), ..fault(Some(1), None) });
    let running = theatre.stage.start();
    minutes(20).await;
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(10).await;
    assert_eq!(running.stop().await, Some(flux_bearer_controller::run::End::Stopped));

    let event = theatre.stage.alerts.taken().pop().unwrap();
    let source = theatre.stage.kube.get("GitRepository", NAMESPACE, "apps").unwrap();
    let (_, reason, message) = theatre.stage.condition("fleet", "RefreshFailing").unwrap();
    let said: Timestamp = event.timestamp;
    let expected = Event {
        involved_object: Reference {
            api_version: "source.toolkit.fluxcd.io/v1".into(),
            kind: "GitRepository".into(),
            namespace: NAMESPACE.into(),
            name: "apps".into(),
            uid: source["metadata"]["uid"].as_str().unwrap().into(),
        },
        severity: "error".into(),
        timestamp: said,
        message: message.clone(),
        reason: reason.clone(),
        action: "Renew".into(),
        reporting_controller: "flux-bearer".into(),
        reporting_instance: "controller-0".into(),
    };
    assert_eq!(event, expected);
    assert_eq!(said.subsec_nanosecond(), 0, "whole seconds, as metav1.Time has them");

    assert_eq!(posted(&theatre), written(&theatre), "the cluster and notification-controller are told the same");
}

/// Every event that the cluster has: kind and uid of its object, reason, message, time.
fn written(theatre: &Theatre) -> Vec<[String; 5]> {
    let paths = ["/involvedObject/kind", "/involvedObject/uid", "/reason", "/message", "/firstTimestamp"];
    let field = |event: &Value, path: &str| event.pointer(path).and_then(Value::as_str).unwrap().to_owned();
    let events = theatre.stage.kube.list("Event");
    let mut written: Vec<_> = events.iter().map(|event| paths.map(|path| field(event, path))).collect();
    written.sort();
    written
}

/// Every event that notification-controller took, likewise.
fn posted(theatre: &Theatre) -> Vec<[String; 5]> {
    let events = theatre.stage.alerts.taken().into_iter();
    let row = |Event { involved_object, reason, message, timestamp, .. }: Event| {
        [involved_object.kind, involved_object.uid, reason, message, timestamp.to_string()]
    };
    let mut posted: Vec<_> = events.map(row).collect();
    posted.sort();
    posted
}

#[tokio::test(start_paused = true)]
async fn a_post_that_fails_by_itself_is_tried_again_and_one_that_arrived_is_not_told_twice() {
    let hang = Fault { name: "trouble".into(), times: Some(2), effect: Some(Effect::Hang), ..Fault::default() };
    for trouble in [fault(Some(2000), Some(Effect::Refuse)), page(503), fault(None, Some(Effect::Lose)), hang] {
        let theatre = furnished();
        theatre.stage.alerts.faults().set(Fault { times: Some(2), ..trouble.clone() });
        let _running = theatre.stage.start();
        minutes(1).await;
        assert_eq!(told(&theatre), FILLED, "{trouble:?}");
        let duplicates = u64::from(trouble.effect == Some(Effect::Lose));
        let results = ["delivered", "duplicate", "failed"].map(|result| counted(&theatre, result));
        assert_eq!(results, [2 - duplicates, duplicates, 0], "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notification_controller_that_fails_for_good_is_said_once_counted_and_waited_for_by_nobody() {
    lines::keep();
    for trouble in [page(500), answers(400, "text/plain", CANARY), fault(None, Some(Effect::Hang))] {
        lines::take(&[]);
        let theatre = furnished();
        theatre.stage.alerts.faults().set(trouble.clone());
        let running = theatre.stage.start();
        seconds(1).await;
        assert_eq!(theatre.stage.says("fleet", "Accessible"), "True RepositoriesOpen", "{trouble:?}");
        minutes(20).await;
        assert_eq!((counted(&theatre, "failed"), counted(&theatre, "delivered")), (2, 0), "{trouble:?}");
        let since = Instant::now();
        running.stop().await;
        assert!(since.elapsed().as_secs() < 1, "nothing waits to be posted: {trouble:?}");
        let said = lines::take(&[""]);
        let about: Vec<_> = said.iter().filter(|line| line.contains("event not posted")).collect();
        assert!(about.len() == 1 && about[0].contains("notification-controller"), "{trouble:?}: {about:?}");
        assert!(!said.join("").contains(CANARY), "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_dropped_beyond_that() {
    let theatre = Theatre::with(&[3600]);
    // One is on its way, the others wait.
    let (fits, more) = (MAX_WAITING + 1, 10);
    for number in 0..fits + more {
        theatre.stage.bearer_token(&format!("fleet-{number}"), &json!({}));
    }
    theatre.stage.alerts.faults().set(fault(None, Some(Effect::Hang)));
    let _running = theatre.stage.start();
    seconds(4).await;
    assert_eq!(counted(&theatre, "dropped"), more as u64);
    assert_eq!(theatre.stage.says(&format!("fleet-{}", fits + more - 1), "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_stops_says_first_what_it_has_to_say() {
    let theatre = furnished();
    theatre.stage.alerts.faults().set(fault(Some(1500), None));
    let running = theatre.stage.start();
    seconds(1).await;
    assert!(told(&theatre).is_empty());
    running.stop().await;
    assert_eq!(told(&theatre), FILLED);
}

#[tokio::test(start_paused = true)]
async fn no_token_is_posted() {
    let theatre = furnished();
    let _running = theatre.stage.start();
    minutes(60).await;
    theatre.azure_fault(
        "down",
        "oauth2/v2.0/token",
        Effect::Answer {
            status: 400,
            retry_after: None,
            content_type: Some("application/json".into()),
            body: json!({"error": CANARY, "error_description": CANARY, "error_codes": [CANARY]}).to_string(),
        },
    );
    minutes(90).await;
    let bodies = theatre.stage.alerts.bodies().concat();
    assert!(bodies.contains("TokenExpired") && !bodies.contains(CANARY), "{bodies}");
    let parts =
        theatre.tokens().into_iter().flat_map(|token| token.split('.').skip(1).map(str::to_owned).collect::<Vec<_>>());
    for part in parts {
        assert!(!bodies.contains(&part), "{part} was posted");
    }
}
