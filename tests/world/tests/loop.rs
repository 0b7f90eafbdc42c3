//! What the loop promises, one promise a test.

mod support;

use flux_bearer::decide::REMINTS;
use flux_bearer::flux::REQUESTED_AT;
use flux_bearer_controller::watch::secrets::Secrets;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::{APPLICATION, REPOSITORY, SECRET, client};
use flux_bearer_world::stage::NAMESPACE;
use serde_json::json;
use support::{Theatre, answer, minutes, seconds};

#[tokio::test(start_paused = true)]
async fn an_empty_spec_fills_the_secret_of_its_own_name() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    let _running = theatre.stage.start();
    seconds(1).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "True RepositoriesOpen");
    assert_eq!(theatre.clone("flux-system").await, 200);
    let object = theatre.stage.kube.get("BearerToken", "flux-system", "flux-system").unwrap();
    assert_eq!(object["status"]["identity"]["clientId"], client(0));
    assert_eq!(object["status"]["observedGeneration"], 1);
}

#[tokio::test(start_paused = true)]
async fn row_01_02_an_outage_of_half_the_life_leaves_no_expired_second_and_a_longer_one_recovers_within_a_minute() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(20).await;
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(28).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "True EntraUnavailable");
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    theatre.stage.world.faults().clear_all();
    minutes(1).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "");
    assert_eq!(theatre.expired_seconds("flux-system"), 0);

    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(120).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "False TokenExpired");
    theatre.stage.world.faults().clear_all();
    minutes(1).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

/// The promise of the README, at its worst moment: the outage begins just before a refresh.
async fn outage_of_half_the_life_less_two_minutes(lifetime: u32, begin: impl Fn(&Theatre), end: impl Fn(&Theatre)) {
    let theatre = Theatre::with(&[lifetime]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    for _ in 0..3 {
        seconds(5).await;
        seconds(theatre.seconds_to_refresh("flux-system") - 1).await;
        begin(&theatre);
        seconds(u64::from(lifetime / 2 - 120)).await;
        end(&theatre);
        seconds(60).await;
        assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "", "recovered within a minute");
    }
    assert_eq!(theatre.expired_seconds("flux-system"), 0, "tokens that live {lifetime} s");
}

#[tokio::test(start_paused = true)]
async fn row_01_the_promise_holds_for_entra_id_and_every_lifetime() {
    for lifetime in [600, 3600, 4500, 5400, 86_400] {
        let begin = |theatre: &Theatre| theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
        let end = |theatre: &Theatre| theatre.stage.world.faults().clear_all();
        outage_of_half_the_life_less_two_minutes(lifetime, begin, end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_19_the_promise_holds_for_the_api_server_and_every_lifetime() {
    for lifetime in [600, 3600, 4500, 5400, 86_400] {
        let begin = |theatre: &Theatre| theatre.kube_fault("down", None, answer(503));
        let end = |theatre: &Theatre| theatre.stage.kube.faults().clear_all();
        outage_of_half_the_life_less_two_minutes(lifetime, begin, end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_refresh_is_two_writes_no_read_and_no_event() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.kube.journal().clear();
    minutes(10 * 60).await;
    let refreshes = theatre
        .stage
        .kube
        .journal()
        .count_where(|entry| entry.request.resource == "secrets" && entry.request.verb.rbac() == "patch");
    let writes = theatre.writes();
    assert!((22..=26).contains(&refreshes), "{refreshes}");
    assert_eq!(writes, refreshes * 2);
    assert_eq!(theatre.reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn row_34_a_restart_mints_nothing_writes_nothing_and_reads_each_secret_once_if_it_is_not_listed() {
    for (secrets, reads) in [(Secrets::Named, 1), (Secrets::Labelled, 0)] {
        let theatre = Theatre::with(&[3600]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let start = || theatre.stage.start_with(|settings| settings.scope.secrets = secrets);
        let running = start();
        minutes(5).await;
        running.kill().await;
        theatre.stage.kube.journal().clear();
        let _running = start();
        minutes(5).await;
        assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1);
        assert_eq!((theatre.writes(), theatre.gets()), (0, reads), "{secrets:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_requested_refresh_mints_and_is_answered() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(5).await;
    let before = theatre.token("flux-system");
    theatre.stage.kube.annotate("BearerToken", "flux-system", "flux-system", "reconcile.fluxcd.io/requestedAt", "now");
    seconds(2).await;
    assert_ne!(theatre.token("flux-system"), before);
    let object = theatre.stage.kube.get("BearerToken", "flux-system", "flux-system").unwrap();
    assert_eq!(object["status"]["lastHandledReconcileAt"], "now");
    minutes(5).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 2, "a request is answered once");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_identity_does_not_lock_flux_out() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    theatre.stage.bearer_token("flux-system", &json!({"identity": {"clientId": client(0)}}));
    let running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.bearer_token("flux-system", &json!({"identity": {"clientId": client(7)}}));
    minutes(100).await;
    running.kill().await;
    let _running = theatre.stage.start();
    minutes(200).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "True NewIdentityNotWorking");
    assert_eq!(theatre.stage.says("flux-system", "Stalled"), "True IdentityNotFound");
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
    assert_eq!(theatre.clone("flux-system").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_without_the_right_waits_until_it_has_it() {
    let theatre = Theatre::with(&[3600, 3600]);
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    theatre.stage.bearer_token("flux-system", &json!({"identity": {"clientId": client(0)}}));
    theatre.forbid(1);
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.bearer_token("flux-system", &json!({"identity": {"clientId": client(1)}}));
    minutes(30).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "True NewIdentityNotWorking");
    assert_eq!(theatre.clone("flux-system").await, 200);
    theatre.permit(1);
    minutes(6).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "");
    let object = theatre.stage.kube.get("BearerToken", "flux-system", "flux-system").unwrap();
    assert_eq!(object["status"]["identity"]["clientId"], client(1));
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_26_27_a_secret_that_was_deleted_or_edited_is_put_right_at_once() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.kube.delete("Secret", "flux-system", "flux-system");
    seconds(2).await;
    assert_eq!(theatre.clone("flux-system").await, 200);
    minutes(1).await;
    let mut edited = theatre.stage.kube.get("Secret", "flux-system", "flux-system").unwrap();
    edited["data"]["bearerToken"] = "b29wcw==".into();
    theatre.stage.kube.apply(edited);
    seconds(2).await;
    assert_eq!(theatre.clone("flux-system").await, 200);
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1, "the token was still in memory");
}

#[tokio::test(start_paused = true)]
async fn a_failing_git_repository_is_nudged_once_and_a_healthy_rotation_nudges_nobody() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    let failing = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "AuthenticationFailed", "message": "failed to get secret"}]});
    theatre.stage.kube.patch_status("GitRepository", "flux-system", "flux-system", failing);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    let first = theatre.nudged("flux-system");
    assert!(first.is_string());
    let ready = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": ""}]});
    theatre.stage.kube.patch_status("GitRepository", "flux-system", "flux-system", ready);
    minutes(120).await;
    assert_eq!(theatre.nudged("flux-system"), first);
}

#[tokio::test(start_paused = true)]
async fn row_44_a_git_repository_is_nudged_when_its_repository_becomes_accessible() {
    let theatre = Theatre::with(&[3600]);
    theatre.forbid(0);
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    let failing = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "GitOperationFailed", "message": "repository not found: TF401019"}]});
    theatre.stage.kube.patch_status("GitRepository", "flux-system", "flux-system", failing);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(2).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "False RepositoryNotFound");
    let first = theatre.nudged("flux-system");
    theatre.permit(0);
    minutes(5).await;
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "True RepositoriesOpen");
    assert_ne!(theatre.nudged("flux-system"), first);
}

#[tokio::test(start_paused = true)]
async fn row_45_repositories_that_do_not_answer_delay_no_refresh() {
    let theatre = Theatre::with(&[600]);
    theatre.azure_fault("hang", "info/refs", flux_bearer_sim::faults::Effect::Hang);
    let many: Vec<String> = (0..60).map(|number| format!("{REPOSITORY}{number}")).collect();
    for number in 0..20 {
        theatre.stage.bearer_token(&format!("token-{number}"), &json!({"repositories": many}));
    }
    let _running = theatre.stage.start();
    minutes(60).await;
    let expired: u64 = (0..20).map(|number| theatre.expired_seconds(&format!("token-{number}"))).sum();
    assert_eq!(expired, 0);
}

#[tokio::test(start_paused = true)]
async fn suspended_neither_mints_nor_writes() {
    let theatre = Theatre::with(&[600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.bearer_token("flux-system", &json!({"suspend": true}));
    minutes(20).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1);
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "False TokenExpired");
    theatre.stage.bearer_token("flux-system", &json!({}));
    seconds(2).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn row_46_many_bearer_tokens_of_one_identity_mint_once() {
    let theatre = Theatre::with(&[3600]);
    for number in 0..40 {
        theatre.stage.bearer_token(&format!("token-{number}"), &json!({}));
    }
    let _running = theatre.stage.start();
    seconds(5).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1);
    assert!((0..40).all(|number| theatre.stage.says(&format!("token-{number}"), "Ready") == "True Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn row_07_the_first_success_wakes_everyone_who_waits() {
    let theatre = Theatre::with(&[3600]);
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    for number in 0..40 {
        theatre.stage.bearer_token(&format!("token-{number}"), &json!({}));
    }
    let _running = theatre.stage.start();
    minutes(60).await;
    theatre.stage.world.faults().clear_all();
    seconds(61).await;
    assert!((0..40).all(|number| theatre.stage.says(&format!("token-{number}"), "Ready") == "True Succeeded"));
    assert!(theatre.stage.world.journal().mints(&client(0)) < 80, "one attempt an identity, not one an object");
}

#[tokio::test(start_paused = true)]
async fn row_17_a_clock_that_is_set_does_no_harm() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    for hours in [1, -3, 26, -1] {
        minutes(10).await;
        theatre.stage.machine.step(jiff::SignedDuration::from_hours(hours));
        minutes(70).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "after a step of {hours} h");
    }
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_17_a_clock_that_is_set_back_in_an_outage_makes_no_pause_longer() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(30).await;
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(5).await;
    theatre.stage.machine.step(jiff::SignedDuration::from_hours(-3));
    minutes(5).await;
    theatre.stage.world.faults().clear_all();
    minutes(1).await;
    assert_eq!(theatre.stage.says("flux-system", "RefreshFailing"), "", "the pause was not three hours");
}

#[tokio::test(start_paused = true)]
async fn row_17_a_clock_that_is_set_back_makes_no_request_endless_that_is_not_yet_told_to_be_done() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(10).await;
    theatre.kube_fault("no status", Some("/status"), answer(503));
    let now = theatre.stage.machine.now().to_string();
    theatre.stage.kube.annotate("BearerToken", NAMESPACE, "flux-system", REQUESTED_AT, &now);
    minutes(2).await;
    let mints = theatre.stage.world.journal().mints(&client(0));
    theatre.stage.machine.step(jiff::SignedDuration::from_hours(-3));
    minutes(10).await;
    let more = theatre.stage.world.journal().mints(&client(0)) - mints;
    assert!(more <= 1, "{more} tokens for one request: the old one is dated in the future, and no new one is");
}

#[tokio::test(start_paused = true)]
async fn row_23_a_status_waits_as_long_as_the_api_server_asks() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    let busy = Effect::Answer { status: 429, retry_after: Some(60), content_type: None, body: String::new() };
    theatre.kube_fault("busy", Some("/status"), busy);
    let _running = theatre.stage.start();
    let asked = || theatre.stage.kube.journal().count_where(|entry| entry.request.subresource == "status");
    seconds(30).await;
    theatre.stage.bearer_token("flux-system", &json!({"secret": {"formats": ["Basic"]}}));
    seconds(25).await;
    assert_eq!(asked(), 1, "neither the probe's answer nor a new spec is a reason to ask sooner");
    seconds(10).await;
    assert_eq!(asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn row_19_an_api_server_that_was_away_gets_the_token_at_once() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(10).await;
    theatre.kube_fault("down", None, answer(503));
    minutes(30).await;
    theatre.stage.kube.faults().clear_all();
    seconds(5).await;
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
    let record = theatre.record("flux-system");
    assert!(record["issuedAt"].as_str().unwrap() > "2026-12-01T08:20", "{record}");
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 2);
}

#[tokio::test(start_paused = true)]
async fn how_late_a_token_is_replaced_is_measured_and_an_early_one_is_not_late() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    let late = |bound: &str| {
        let line = format!("flux_bearer_refresh_delay_seconds_bucket{{le=\"{bound}\"}} ");
        theatre.said().lines().find_map(|said| said.strip_prefix(&line)?.parse::<u64>().ok()).unwrap()
    };
    minutes(5).await;
    assert_eq!(late("+Inf"), 0, "the first has no time");
    theatre.stage.bearer_token("flux-system", &json!({"secret": {"formats": ["Basic"]}}));
    minutes(5).await;
    assert_eq!(theatre.record("flux-system")["formats"], json!(["Basic"]));
    assert_eq!(late("+Inf"), 0, "it was written before its time");
    minutes(60).await;
    assert_eq!((late("1.0"), late("+Inf")), (2, 2));
    seconds(theatre.seconds_to_refresh("flux-system") - 1).await;
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(15).await;
    theatre.stage.world.faults().clear_all();
    minutes(2).await;
    assert_eq!([late("1.0"), late("600.0"), late("1200.0"), late("+Inf")], [2, 2, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn basic_writes_user_and_password_and_takes_back_the_other_keys() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.bearer_token("flux-system", &json!({"secret": {"formats": ["Basic"]}}));
    minutes(1).await;
    let secret = theatre.stage.kube.get("Secret", "flux-system", "flux-system").unwrap();
    let keys: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["password", "username"]);
}

#[tokio::test(start_paused = true)]
async fn managed_identity_and_client_secret_sign_in_too() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.kube.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credential", "namespace": "flux-system"}, "stringData": {"clientSecret": SECRET}}));
    theatre.stage.bearer_token("imds", &json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}}));
    theatre.stage.bearer_token("principal", &json!({"identity": {"type": "ClientSecret", "clientId": client(APPLICATION), "tenantId": "contoso.example", "secretRef": {"name": "credential"}}}));
    let _running = theatre.stage.start();
    seconds(5).await;
    for name in ["imds", "principal"] {
        assert_eq!(theatre.stage.says(name, "Ready"), "True Succeeded", "{:?}", theatre.stage.condition(name, "Ready"));
        assert_eq!(theatre.clone(name).await, 200);
    }
    minutes(24 * 60).await;
    assert_eq!(theatre.expired_seconds("imds") + theatre.expired_seconds("principal"), 0);
}

/// Lets this many probes meet a challenge of continuous access evaluation, or all of them.
fn challenge(theatre: &Theatre, times: Option<u32>) {
    let effect = Some(Effect::ClaimsChallenge);
    let path = Some("info/refs".into());
    theatre.stage.world.faults().set(Fault { name: "cae".into(), path, times, effect, ..Fault::default() });
}

#[tokio::test(start_paused = true)]
async fn a_claims_challenge_is_met_with_a_fresh_token_at_once() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    challenge(&theatre, Some(1));
    // A mint takes a second, so that the two tokens differ in their expiry.
    let slow =
        Fault { name: "slow".into(), path: Some("oauth2/v2.0/token".into()), delay_ms: Some(1000), ..Fault::default() };
    theatre.stage.world.faults().set(slow);
    let _running = theatre.stage.start();
    seconds(3).await;
    assert_eq!((theatre.stage.world.journal().mints(&client(0)), theatre.fillings("flux-system")), (2, 2));
    assert_eq!(theatre.token("flux-system"), theatre.tokens()[1]);
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "True RepositoriesOpen");
    assert_eq!(theatre.clone("flux-system").await, 200);
    minutes(15).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 2, "and then as ever");
}

#[tokio::test(start_paused = true)]
async fn claims_challenges_without_end_cost_two_mints_a_refresh_and_are_told() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    challenge(&theatre, None);
    let _running = theatre.stage.start();
    let each = u64::from(1 + REMINTS);
    minutes(20).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), each);
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "False TokenOutdated");
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    minutes(20).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 2 * each, "the next refresh may mend it");
    theatre.stage.world.faults().clear_all();
    minutes(6).await;
    assert_eq!(theatre.stage.says("flux-system", "Accessible"), "True RepositoriesOpen");
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn bearer_tokens_of_one_identity_share_the_mints_that_a_claims_challenge_costs() {
    let theatre = Theatre::with(&[3600]);
    for name in ["a", "b", "c", "d"] {
        theatre.stage.bearer_token(name, &json!({}));
        theatre.stage.git_repository(name, name, REPOSITORY);
    }
    challenge(&theatre, None);
    let _running = theatre.stage.start();
    minutes(15).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), u64::from(1 + REMINTS));
}
