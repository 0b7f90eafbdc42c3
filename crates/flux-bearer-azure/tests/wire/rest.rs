//! What holds of every REST call: token, retries, waits, caps.

use std::time::Duration;

use flux_bearer_azure::arm::{Arm, MANAGED_IDENTITY, Tags};
use flux_bearer_azure::http::{AGENT, Http};
use serde_json::json;
use tokio::time::Instant;

use crate::server::{
    Log, TENANT, TRACE, always, assert_own_words, broken, json as answer, plain, refusing, server, silent, with,
};
use crate::signed_in::session;

fn arm(http: Http) -> Arm {
    Arm::new(session(http), TENANT)
}

fn gaps(log: &Log) -> Vec<u64> {
    log.lock().unwrap().windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
}

fn group() -> axum::response::Response {
    answer(200, json!({"name": "flux", "location": "westeurope"}))
}

#[tokio::test(start_paused = true)]
async fn the_token_goes_where_it_is_for_and_is_hidden_where_headers_are_printed() {
    let (http, log) = server(|_| group());
    arm(http).resource_group("flux").await.unwrap();
    let (_, sent) = log.lock().unwrap().remove(0);
    assert_eq!(sent.uri().host(), Some("management.azure.com"));
    assert_eq!(sent.headers()["authorization"], "Bearer token-for-Arm");
    assert!(!format!("{sent:?}").contains("token-for-Arm"));
    assert_eq!(
        (&sent.headers()["accept"], &sent.headers()["user-agent"]),
        (&"application/json".parse().unwrap(), &AGENT.parse().unwrap())
    );
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_with_an_id_of_its_own() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (http, log) = server(move |n| if n < 3 { plain(status, "<html>") } else { group() });
        assert!(arm(http).resource_group("flux").await.is_ok(), "{status}");
        assert_eq!(gaps(&log), [1, 2, 4], "{status}");
        let log = log.lock().unwrap();
        let mut ids: Vec<_> = log.iter().map(|(_, sent)| sent.headers()["x-ms-client-request-id"].clone()).collect();
        ids.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
    let (http, log) = always(503, "");
    assert_eq!(arm(http).put_resource_group("g", "l", &Tags::new()).await.unwrap_err().reason, "ArmUnavailable");
    assert_eq!(log.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_can_do_harm_twice_is_tried_again_only_when_nothing_was_done() {
    for (status, attempts) in [(503, 1), (500, 1), (429, 4)] {
        let (http, log) = always(status, "");
        assert!(arm(http).register_provider(MANAGED_IDENTITY).await.is_err());
        assert_eq!(log.lock().unwrap().len(), attempts, "{status}");
    }
    let start = Instant::now();
    assert_eq!(arm(refusing()).register_provider(MANAGED_IDENTITY).await.unwrap_err().code, "ConnectionFailed");
    assert_eq!(start.elapsed().as_secs(), 7);
    for (http, attempts) in [(silent(), 1), (server(|_| plain(200, broken("{"))).0, 0)] {
        let start = Instant::now();
        assert!(arm(http).register_provider(MANAGED_IDENTITY).await.is_err());
        assert_eq!(start.elapsed().as_secs(), 30 * attempts, "an answer that is lost may have done its work");
    }
    let start = Instant::now();
    assert_eq!(arm(silent()).resource_group("g").await.unwrap_err().code, "Timeout");
    assert_eq!(start.elapsed().as_secs(), 4 * 30 + 7, "to look once more does no harm");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_at_once() {
    for status in [400, 401, 403, 405, 409, 418, 302] {
        let (http, log) = always(status, r#"{"error":{"code":"canary","message":"canary"}}"#);
        let failure = arm(http).register_provider(MANAGED_IDENTITY).await.unwrap_err();
        assert_own_words(&failure, "a refusal");
        assert_eq!(log.lock().unwrap().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_while_it_is_short() {
    let (http, log) = server(|n| if n == 0 { with(plain(429, ""), &[("retry-after", "37")]) } else { group() });
    assert!(arm(http).resource_group("flux").await.is_ok());
    assert_eq!(gaps(&log), [37]);

    let (http, log) = server(|_| with(plain(429, ""), &[("retry-after", "120"), ("x-ms-request-id", TRACE)]));
    let failure = arm(http).resource_group("flux").await.unwrap_err();
    assert_eq!((failure.retry_after, failure.trace.as_deref()), (Some(Duration::from_mins(2)), Some(TRACE)));
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_asks_for_less_slows_the_next_request_down() {
    let (http, log) = server(|n| with(group(), &[("retry-after", ["5", "9999", "0"][n % 3])]));
    let arm = arm(http);
    for _ in 0..4 {
        arm.resource_group("flux").await.unwrap();
    }
    assert_eq!(gaps(&log), [5, 60, 0], "for a minute at most");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_up_to_four_mebibytes() {
    let body = r#"{"name":"flux","location":"westeurope"}"#;
    let padded = |bytes: usize| body.to_owned() + &" ".repeat(bytes - body.len());
    assert!(arm(always(200, padded(4 << 20)).0).resource_group("flux").await.is_ok());
    let (http, log) = always(200, padded((4 << 20) + 1));
    assert_eq!(arm(http).resource_group("flux").await.unwrap_err().code, "AnswerTooLarge");
    assert_eq!(log.lock().unwrap().len(), 1);
}
