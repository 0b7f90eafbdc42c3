//! Faults of Entra ID, and tokens that are odd.

use std::sync::atomic::{AtomicUsize, Ordering};

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::journal::Endpoint;
use flux_bearer_sim::state::FederatedCredential;
use flux_bearer_world::identities::{ISSUER, REPOSITORY, SUBJECT, TENANT, client};
use flux_bearer_world::stage::AUDIENCE;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use crate::support::pair::{answers, fault, forged, json_answer, token_path};
use crate::support::{Theatre, answer, minutes, seconds};

/// When the token endpoint was asked, since the journal was cleared.
fn asked(theatre: &Theatre) -> Vec<Timestamp> {
    theatre.stage.world.journal().requests(Endpoint::Token).iter().map(|entry| entry.at).collect()
}

/// The pauses between them, in seconds.
fn pauses(theatre: &Theatre) -> Vec<i64> {
    asked(theatre).windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect()
}

/// Lets every sign-in meet `trouble`.
fn at_the_token_endpoint(theatre: &Theatre, trouble: Fault) {
    theatre.stage.world.faults().set(Fault { path: Some(token_path()), ..trouble });
}

/// A refusal of Entra ID with this code.
fn refusal(code: u32) -> Fault {
    let body =
        json!({"error": "invalid_client", "error_codes": [code], "error_description": format!("AADSTS{code}: no")});
    answers(400, "application/json", body.to_string())
}

#[tokio::test(start_paused = true)]
async fn row_02_ready_falls_within_a_second_of_the_expiry_and_an_hour_later_recovery_takes_a_minute() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    at_the_token_endpoint(&theatre, fault(None, Some(answer(503))));
    let expires: Timestamp = theatre.record("flux-system")["expiresAt"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(theatre.stage.machine.now()).as_secs().unsigned_abs();
    seconds(left - 1).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    seconds(2).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "False TokenExpired");
    minutes(60).await;
    theatre.stage.world.faults().clear_all();
    minutes(1).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn row_04_twenty_identities_whose_sign_in_hangs_keep_twenty_others_waiting_for_no_second() {
    for trouble in [fault(None, Some(Effect::Hang)), fault(Some(30_000), None)] {
        let theatre = Theatre::with(&[600; 40]);
        for number in 0..20 {
            let stuck = json!({"identity": {"clientId": client(number), "tenantId": TENANT}});
            theatre.stage.bearer_token(&format!("stuck-{number}"), &stuck);
            let free = json!({"identity": {"clientId": client(20 + number), "tenantId": "contoso.example"}});
            theatre.stage.bearer_token(&format!("free-{number}"), &free);
        }
        at_the_token_endpoint(&theatre, trouble);
        let _running = theatre.stage.start();
        minutes(60).await;
        let said = theatre.said();
        let late = |bound: &str| {
            let line = format!("flux_bearer_refresh_delay_seconds_bucket{{le=\"{bound}\"}} ");
            said.lines().find_map(|line_said| line_said.strip_prefix(&line)?.parse::<u64>().ok()).unwrap()
        };
        assert!(late("+Inf") > 20 * 12, "{} refreshes", late("+Inf"));
        assert_eq!(late("1.0"), late("+Inf"), "each within a second of its time");
        assert!((0..20).all(|number| theatre.expired_seconds(&format!("free-{number}")) == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn row_05_nothing_is_asked_before_a_retry_after_is_over() {
    for wait in [1, 30, 300, 600] {
        let theatre = Theatre::with(&[3600]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let busy = Effect::Answer { status: 429, retry_after: Some(wait), content_type: None, body: String::new() };
        at_the_token_endpoint(&theatre, fault(None, Some(busy)));
        let _running = theatre.stage.start();
        minutes(40).await;
        let pauses = pauses(&theatre);
        // Five minutes are the longest that anybody is waited for.
        let least = i64::try_from(wait.min(300)).unwrap();
        assert!(pauses.len() > 2 && pauses.iter().all(|pause| *pause >= least), "{wait}: {pauses:?}");
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "False Throttled");
        theatre.stage.world.faults().clear_all();
        seconds(wait.clamp(61, 301)).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "{wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_07_a_service_that_fails_every_other_time_is_asked_twice_a_token() {
    let mut theatre = Theatre::with(&[3600]);
    let count = AtomicUsize::new(0);
    theatre.stage = theatre.stage.with_tampering(move |url, answer| {
        if url.contains("oauth2/v2.0/token") && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
    });
    for number in 0..20 {
        theatre.stage.bearer_token(&format!("token-{number}"), &json!({}));
    }
    let _running = theatre.stage.start();
    minutes(10 * 60).await;
    let (requests, tokens) = (asked(&theatre).len(), theatre.fillings("token-0"));
    assert!(requests <= 2 * tokens + 2, "{requests} requests for {tokens} tokens of twenty objects");
    assert!((0..20).all(|number| theatre.expired_seconds(&format!("token-{number}")) == 0));
}

#[tokio::test(start_paused = true)]
async fn row_08_a_refusal_that_waiting_does_not_help_is_stalled_with_its_fix_and_asked_every_five_minutes() {
    let cases = [
        (7_002_138, "the exact case", 12),
        (7_000_229, "az ad sp create", 12),
        (700_213, "system:serviceaccount:NAMESPACE:NAME", 60),
        (700_016, "az identity show", 60),
    ];
    for (code, fix, an_hour) in cases {
        let theatre = Theatre::with(&[3600]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        at_the_token_endpoint(&theatre, refusal(code));
        let _running = theatre.stage.start();
        minutes(20).await;
        let (status, _, message) = theatre.stage.condition("flux-system", "Stalled").unwrap();
        assert_eq!(status, "True");
        assert!(message.contains(&format!("AADSTS{code}")) && message.contains(fix), "{message}");
        theatre.stage.world.journal().clear();
        minutes(60).await;
        assert!((an_hour - 1..=an_hour).contains(&asked(&theatre).len()), "{code}: {}", asked(&theatre).len());
    }
}

#[tokio::test(start_paused = true)]
async fn row_09_a_federated_credential_of_this_minute_works_within_fifteen_seconds_of_being_known() {
    for negative_cache in [0, 30] {
        let theatre = Theatre::with(&[3600]);
        let edit = |credentials: Vec<FederatedCredential>| {
            let change = |state: &mut flux_bearer_sim::state::State| {
                state.defaults.propagation_seconds = 120;
                state.defaults.negative_cache_seconds = negative_cache;
                state.tenants[0].applications[0].federated_credentials = credentials;
            };
            theatre.stage.world.edit(change).unwrap();
        };
        edit(Vec::new());
        theatre.stage.bearer_token("flux-system", &json!({}));
        let _running = theatre.stage.start();
        minutes(1).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "False FederatedCredentialMismatch");
        edit(vec![FederatedCredential {
            name: "cluster".to_owned(),
            issuer: ISSUER.to_owned(),
            subject: SUBJECT.to_owned(),
            audience: AUDIENCE.to_owned(),
            created_at: None,
        }]);
        seconds(119).await;
        assert_eq!(theatre.stage.says("flux-system", "Stalled"), "", "what was just made may be on its way");
        seconds(1 + 15 + u64::from(negative_cache)).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    }
}

#[tokio::test(start_paused = true)]
async fn row_10_a_token_that_has_expired_on_arrival_is_asked_for_anew_once_a_minute() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    let filled = theatre.token("flux-system");
    let expired = json!({"access_token": forged(&json!({})), "expires_in": 0});
    at_the_token_endpoint(&theatre, json_answer(expired.to_string()));
    minutes(35).await;
    theatre.stage.world.journal().clear();
    minutes(60).await;
    assert!(asked(&theatre).len() <= 60, "{} requests in an hour", asked(&theatre).len());
    assert_eq!(theatre.token("flux-system"), filled);
}

#[tokio::test(start_paused = true)]
async fn row_11_a_token_that_the_machine_keeps_for_a_day_is_written_once() {
    let theatre = Theatre::with(&[86_400]);
    theatre.stage.world.edit(|state| state.imds.cache = true).unwrap();
    theatre.stage.bearer_token("flux-system", &json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}}));
    let _running = theatre.stage.start();
    minutes(10 * 60).await;
    assert_eq!(theatre.fillings("flux-system"), 1);
    let written = |entry: &flux_bearer_sim::kube::Entry| {
        entry.request.resource == "secrets" && entry.request.verb.rbac() == "patch"
    };
    assert_eq!(theatre.stage.kube.journal().count_where(written), 1);
    let asked = theatre.stage.world.journal().requests(Endpoint::Imds).len();
    assert!((9..=12).contains(&asked), "once an hour, and not {asked} times in ten");
}

#[tokio::test(start_paused = true)]
async fn row_12_tokens_of_seconds_are_replaced_in_time_and_asked_for_at_most_once_a_second() {
    for lifetime in [2, 5, 10, 20, 30, 60, 120] {
        let theatre = Theatre::with(&[lifetime]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let _running = theatre.stage.start();
        minutes(20).await;
        if lifetime >= 10 {
            assert_eq!(theatre.expired_seconds("flux-system"), 0, "tokens that live {lifetime} s");
        }
        let (mints, most) =
            (theatre.stage.world.journal().mints(&client(0)), 1200 / (u64::from(lifetime) * 2 / 5).max(1));
        assert!(mints <= most + most / 8 + 1, "{mints} mints of tokens that live {lifetime} s, not {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_40_a_key_that_was_rotated_is_nobodys_trouble_and_another_issuer_is_told_and_tried_again() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.issuer.rotate().unwrap();
    minutes(60).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "");
    assert_eq!(theatre.fillings("flux-system"), 3);
    for (code, fix) in [(700_211, "kubectl get --raw /.well-known"), (700_212, AUDIENCE)] {
        at_the_token_endpoint(&theatre, refusal(code));
        minutes(35).await;
        let (_, reason, message) = theatre.stage.condition("flux-system", "RefreshFailing").unwrap();
        assert_eq!(reason, "FederatedCredentialMismatch");
        assert!(message.contains(&format!("AADSTS{code}")) && message.contains(fix), "{message}");
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
        theatre.stage.world.faults().clear_all();
        seconds(61).await;
        assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "", "{code}");
    }
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_45_an_identity_that_is_asked_to_wait_waits_for_all_its_bearer_tokens() {
    let theatre = Theatre::with(&[3600]);
    let effect = Effect::Answer { status: 503, retry_after: Some(240), content_type: None, body: String::new() };
    theatre.stage.world.faults().set(Fault { path: Some("info/refs".into()), ..fault(None, Some(effect)) });
    let _running = theatre.stage.start();
    let asked = || theatre.stage.world.journal().requests(Endpoint::GitRefs).len();
    for name in ["first", "second", "third"] {
        theatre.stage.bearer_token(name, &json!({"repositories": [REPOSITORY]}));
        seconds(10).await;
        assert_eq!(theatre.stage.says(name, "Accessible"), "False AzureDevOpsUnavailable");
        assert_eq!(asked(), 1, "{name} asks although the repository wants to be left alone");
    }
    theatre.stage.world.faults().clear_all();
    minutes(3).await;
    assert_eq!(asked(), 1);
    minutes(2).await;
    for name in ["first", "second", "third"] {
        assert_eq!(theatre.stage.says(name, "Accessible"), "True RepositoriesOpen");
    }
}
