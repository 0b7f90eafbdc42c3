//! Malformed, oversized, truncated, slow and hostile replies of Azure.

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::{TENANT, client};
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::support::pair::{CANARY, Pair, answers, fault, json_answer, page, token_path, withstands};
use crate::support::{Theatre, minutes, seconds};

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
async fn row_15_entra_id_answers_strangely() {
    for (what, trouble) in strange_answers() {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, "EntraUnavailable", &["check the proxy"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_03_04_15_entra_id_answers_by_halves_late_or_not_at_all() {
    for (what, trouble, code, fix) in broken_answers() {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, "EntraUnavailable", &[code, fix]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_15_entra_id_refuses_strangely() {
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
async fn row_15_imds_answers_strangely() {
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

/// The repository that only `bad` uses.
const CLOSED: &str = "https://dev.azure.com/contoso/platform/_git/closed";

#[tokio::test(start_paused = true)]
async fn row_44_45_azure_devops_answers_strangely() {
    let git = |body: &str| answers(200, "application/x-git-upload-pack-advertisement", body);
    let unavailable = "AzureDevOpsUnavailable";
    let cases: Vec<Case> = vec![
        ("an empty answer", json_answer(""), "AnswerMalformed", "check the proxy"),
        ("deep JSON", json_answer("[".repeat(100_000)), "AnswerMalformed", "check the proxy"),
        ("a text", answers(200, "text/plain", CANARY), "AnswerMalformed", "check the proxy"),
        ("another service of Git", git("001f# service=git-receive-pack\n0000"), "AnswerMalformed", "check the proxy"),
        ("a length that lies", git("ffff# service=git-upload-pack\n"), "AnswerMalformed", "check the proxy"),
        ("a page", page(200), "TokenRejected", "Add it to the organisation"),
        ("a page under another name", answers(200, "text/plain", "\n <html>"), "TokenRejected", "Add it"),
        ("a redirect", page(302), "TokenRejected", "Add it to the organisation"),
        ("a page that forbids", page(403), "AccessBlocked", "Conditional Access"),
        ("an odd status", answers(418, "text/plain", CANARY), "ProbeRejected", "in a browser"),
        ("a page of a gateway", page(502), unavailable, "Retried by itself"),
        ("throttling", answers(429, "text/plain", CANARY), unavailable, "Retried by itself"),
        ("a truncated answer", fault(None, Some(Effect::Cut { after: 10 })), unavailable, "Retried by itself"),
        ("a refused connection", fault(None, Some(Effect::Refuse)), unavailable, "Check DNS"),
        ("a slow answer", fault(Some(31_000), None), unavailable, "check firewall and proxy"),
        ("no answer", fault(None, Some(Effect::Hang)), unavailable, "check firewall and proxy"),
    ];
    for (what, trouble, reason, fix) in cases {
        let pair = Pair::new(&json!({"repositories": [CLOSED]}));
        pair.theatre.open_closed(0);
        let trouble = Fault { path: Some("_git/closed".into()), ..trouble };
        pair.theatre.stage.world.faults().set(trouble);
        let _running = pair.start();
        minutes(130).await;
        pair.says(what, "Accessible", &format!("False {reason}"), &[CLOSED, fix]);
        pair.says(what, "Ready", "True Succeeded", &[]);
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{what}: a token is renewed all the same");
        pair.theatre.stage.world.faults().clear_all();
        minutes(6).await;
        pair.says(what, "Accessible", "True RepositoriesOpen", &[]);
        pair.good_is_unaffected(what);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_advertisement_is_read_to_its_first_line() {
    let first = "001e# service=git-upload-pack\n0000";
    let body = first.to_owned() + &"003f8843d7f92416211de9ebb963ff4ce28125932878 refs/heads/x\n".repeat(200_000);
    let pair = Pair::new(&json!({"repositories": [CLOSED]}));
    let trouble = answers(200, "application/x-git-upload-pack-advertisement", body);
    pair.theatre.stage.world.faults().set(Fault { path: Some("_git/closed".into()), ..trouble });
    let _running = pair.start();
    seconds(5).await;
    pair.says("an endless answer", "Accessible", "True RepositoriesOpen", &[]);
}

#[tokio::test(start_paused = true)]
async fn row_05_a_huge_retry_after_costs_five_minutes_at_most() {
    for seconds in [3_600, u64::MAX] {
        let pair = Pair::new(&json!({}));
        let effect =
            Effect::Answer { status: 429, retry_after: Some(seconds), content_type: None, body: String::new() };
        let trouble = Fault { path: Some(token_path()), ..fault(None, Some(effect)) };
        pair.theatre.stage.world.faults().set(trouble);
        let _running = pair.start();
        minutes(60).await;
        pair.says("throttling", "Ready", "False Throttled", &["Retried by itself"]);
        pair.theatre.stage.world.faults().clear_all();
        minutes(5).await;
        pair.says("throttling", "Ready", "True Succeeded", &[]);
        pair.good_is_unaffected("throttling");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_lie_change_nothing() {
    let long = "x".repeat(8_000);
    let noise: [(&str, &str); 9] = [
        ("retry-after", "99999999999999999999999"),
        ("retry-after-ms", "-1"),
        ("date", "yesterday"),
        ("content-length", "7"),
        ("content-encoding", "gzip"),
        ("content-type", "text/html"),
        ("location", "https://evil.example/"),
        ("x-ms-request-id", "CANARY-7f3a91"),
        ("www-authenticate", &long),
    ];
    for (name, value) in noise {
        let (header, text) = (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        let mut theatre = Theatre::with(&[3600, 3600]);
        theatre.stage = theatre.stage.with_tampering(move |url, answer| {
            if url.contains(TENANT) {
                answer.headers_mut().insert(&header, text.clone());
                for _ in 0..50 {
                    answer.headers_mut().append(&header, text.clone());
                }
            }
        });
        let good = json!({"identity": {"clientId": client(1), "tenantId": "contoso.example"}});
        let pair = Pair::on(theatre, &json!({}), &good);
        let _running = pair.start();
        minutes(130).await;
        pair.says(name, "Ready", "True Succeeded", &[]);
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{name}");
        pair.good_is_unaffected(name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let mut theatre = Theatre::with(&[3600, 3600]);
        theatre.stage = theatre.stage.with_tampering(move |url, answer| {
            if url.contains(TENANT) {
                *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                let elsewhere = HeaderValue::from_static("https://login.windows.net/common/oauth2/v2.0/token");
                answer.headers_mut().insert(LOCATION, elsewhere);
            }
        });
        let good = json!({"identity": {"clientId": client(1), "tenantId": "contoso.example"}});
        let pair = Pair::on(theatre, &json!({}), &good);
        let _running = pair.start();
        minutes(70).await;
        pair.says("a redirect", "Ready", "False EntraUnavailable", &["check the proxy"]);
        assert_eq!(pair.secret(), None);
        let asked = pair.theatre.stage.world.journal().entries();
        assert!(asked.iter().all(|entry| entry.host == "login.microsoftonline.com"), "{status}");
        pair.good_is_unaffected("a redirect");
    }
}
