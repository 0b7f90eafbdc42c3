//! Malformed, oversized, truncated, slow and hostile replies of Azure.

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::client;
use serde_json::json;

use crate::support::pair::{CANARY, answers, fault, json_answer, page, token_path, withstands};

/// Longest answer of a token endpoint that is read, in bytes.
const TOKEN_ANSWER: usize = 64 * 1024;

/// What misbehaves how, what is said of it, and what fixes it.
type Case = (&'static str, Fault, &'static str, &'static str);

/// Answers that are none of a token endpoint, as something in between may give them.
fn strange_answers() -> Vec<(&'static str, Fault)> {
    let deep = "[".repeat(60_000);
    vec![
        ("an empty answer", json_answer("")),
        ("no JSON", json_answer(CANARY)),
        ("half a JSON", json_answer(r#"{"access_token":"CANARY-7f3a91"#)),
        ("deep JSON", json_answer(deep)),
        ("a list", json_answer(r#"["CANARY-7f3a91"]"#)),
        ("a token of the wrong type", json_answer(r#"{"access_token":{"CANARY-7f3a91":1},"expires_in":3600}"#)),
        ("bytes in another encoding", json_answer("\u{feff}{\"access_token\":\"t\",\"expires_in\":3600}")),
        ("a page", page(200)),
    ]
}

/// Answers that never arrive whole.
fn broken_answers() -> Vec<Case> {
    let big = format!(r#"{{"access_token":"t","expires_in":3600,"x":"{}"}}"#, "x".repeat(TOKEN_ANSWER));
    vec![
        ("an answer beyond the cap", json_answer(big), "AnswerTooLarge", "longer than 65536 bytes"),
        ("nothing of the answer", fault(None, Some(Effect::Cut { after: 0 })), "ConnectionCut", "Retried by itself"),
        ("a truncated answer", fault(None, Some(Effect::Cut { after: 40 })), "ConnectionCut", "Retried by itself"),
        ("a lost answer", fault(None, Some(Effect::Lose)), "ConnectionCut", "Retried by itself"),
        ("a refused connection", fault(None, Some(Effect::Refuse)), "ConnectionFailed", "Check DNS"),
        ("a slow answer", fault(Some(11_000), None), "Timeout", "check firewall and proxy"),
        ("no answer", fault(None, Some(Effect::Hang)), "Timeout", "check firewall and proxy"),
    ]
}

#[tokio::test(start_paused = true)]
async fn entra_id_answers_strangely() {
    for (what, trouble) in strange_answers() {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, "EntraUnavailable", &["check the proxy"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn entra_id_answers_by_halves_late_or_not_at_all() {
    for (what, trouble, code, fix) in broken_answers() {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, "EntraUnavailable", &[code, fix]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn entra_id_refuses_strangely() {
    let error = |body: &str| answers(400, "application/json", body);
    let cases: Vec<Case> = vec![
        ("a page of a gateway", page(502), "EntraUnavailable", "Retried by itself"),
        ("a page of a proxy", page(407), "EntraUnavailable", "check the proxy"),
        ("a redirect", page(302), "EntraUnavailable", "check the proxy"),
        ("throttling in words", answers(429, "text/plain", CANARY), "Throttled", "Retried by itself"),
        (
            "an error of the wrong types",
            error(r#"{"error":["CANARY-7f3a91"],"error_codes":"CANARY-7f3a91"}"#),
            "EntraUnavailable",
            "check the proxy",
        ),
        (
            "an unknown error",
            error(r#"{"error":"CANARY-7f3a91","error_description":"CANARY-7f3a91\u0000\u001b[31m"}"#),
            "RequestRejected",
            "login.microsoftonline.com/error",
        ),
        (
            "an unknown code",
            error(r#"{"error":"invalid_client","error_codes":[4294967295],"trace_id":"CANARY-7f3a91"}"#),
            "RequestRejected",
            "login.microsoftonline.com/error",
        ),
    ];
    for (what, trouble, reason, fix) in cases {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, reason, &[fix]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn imds_answers_strangely() {
    let spec = json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}});
    let refusals: Vec<Case> = vec![
        ("a redirect", page(307), "ImdsRejected", "169.254.169.254"),
        ("a page that forbids", page(403), "ImdsUnavailable", "use type WorkloadIdentity"),
        ("a gateway", page(502), "ImdsUnavailable", "Retried by itself"),
        (
            "an error of the wrong type",
            answers(400, "application/json", r#"{"error":{"CANARY-7f3a91":1}}"#),
            "ImdsRejected",
            "169.254.169.254",
        ),
    ];
    let strange =
        strange_answers().into_iter().map(|(what, trouble)| (what, trouble, "ImdsUnavailable", "check the proxy"));
    let broken = broken_answers().into_iter().map(|(what, trouble, _, fix)| (what, trouble, "ImdsUnavailable", fix));
    for (what, trouble, reason, fix) in strange.chain(broken).chain(refusals) {
        let trouble = Fault { host: Some("169.254.169.254".into()), ..trouble };
        withstands(&spec, what, &trouble, reason, &[fix]).await;
    }
}
