//! Whose a Secret is: adoption, what is left of others, fights, renames, and what becomes of it in the end.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_controller::run::Settings;
use flux_bearer_controller::watch::secrets::Secrets;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::{REPOSITORY, client};
use flux_bearer_world::stage::{NAMESPACE, Running};
use serde_json::{Value, json};
use support::{Theatre, minutes, seconds};

const PAT: &str = "a personal access token";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A GitRepository, and the Secret with a PAT that it has used so far.
fn with_pat(kind: &str, url: &str) -> Theatre {
    with_pat_beside(3600, kind, url)
}

/// The same where tokens live for so many seconds.
fn with_pat_beside(lifetime: u32, kind: &str, url: &str) -> Theatre {
    let theatre = Theatre::with(&[lifetime]);
    theatre.stage.git_repository("fleet", "fleet", url);
    theatre.stage.kube.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {
            "name": "fleet", "namespace": NAMESPACE,
            "annotations": {LAST_APPLIED: format!("{{\"stringData\":{{\"password\":\"{PAT}\"}}}}"), "team": "platform"},
        },
        "data": {"username": STANDARD.encode("git"), "password": STANDARD.encode(PAT), "ca.crt": STANDARD.encode("CA")},
    }));
    theatre
}

/// A Secret that a BearerToken has filled and a GitRepository reads.
async fn filled() -> (Theatre, Running) {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("fleet", "fleet", REPOSITORY);
    theatre.stage.bearer_token("fleet", &json!({}));
    let running = theatre.stage.start();
    minutes(1).await;
    (theatre, running)
}

fn adopt(formats: &[&str]) -> Value {
    json!({"secret": {"adopt": true, "formats": formats}})
}

fn secret(theatre: &Theatre) -> Value {
    theatre.stage.kube.get("Secret", NAMESPACE, "fleet").unwrap()
}

fn keys(secret: &Value) -> Vec<&str> {
    secret["data"].as_object().map(|data| data.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[track_caller]
fn says(theatre: &Theatre, condition: &str, expected: &str, part: &str) {
    let (status, reason, message) = theatre.stage.condition("fleet", condition).unwrap_or_default();
    assert_eq!(format!("{status} {reason}"), expected, "{message}");
    assert!(message.contains(part), "{part:?} is not in {message:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pat_is_replaced_and_nothing_of_it_is_left() {
    let theatre = with_pat("Opaque", REPOSITORY);
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let _running = theatre.stage.start();
    seconds(10).await;
    let adopted = secret(&theatre);
    assert_eq!(keys(&adopted), ["bearerToken", "ca.crt"]);
    assert!(!adopted.to_string().contains(PAT) && !adopted.to_string().contains(&STANDARD.encode(PAT)));
    assert_eq!(adopted["metadata"]["annotations"].get(LAST_APPLIED), None);
    assert_eq!(adopted["metadata"]["annotations"]["team"], "platform");
    assert_eq!(theatre.record("fleet")["made"], false);
    assert_eq!(theatre.clone("fleet").await, 200);
    says(&theatre, "Ready", "True Succeeded", "");
    assert!(theatre.said().contains("SecretAdopted"));
    minutes(180).await;
    assert_eq!(theatre.expired_seconds("fleet"), 0);
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt"]);
}

#[tokio::test(start_paused = true)]
async fn without_adopt_a_token_that_opens_nothing_or_a_user_in_the_url_a_pat_stays_as_it_is() {
    let user = REPOSITORY.replace("https://", "https://contoso@");
    let cases = [
        (json!({}), REPOSITORY, true, "SecretNotOwned", "spec.secret.adopt: true"),
        (adopt(&["Bearer"]), REPOSITORY, false, "RepositoryNotFound", REPOSITORY),
        (adopt(&["Bearer"]), &user, true, "InvalidRepository", "org@"),
    ];
    for (spec, url, permitted, reason, part) in cases {
        let theatre = with_pat("Opaque", url);
        if !permitted {
            theatre.forbid(0);
        }
        let before = secret(&theatre);
        theatre.stage.bearer_token("fleet", &spec);
        let _running = theatre.stage.start();
        minutes(70).await;
        let (status, found, message) = theatre.stage.condition("fleet", "Ready").unwrap();
        assert_eq!(status, "False", "{reason}: {message}");
        assert!(message.contains(part), "{found}: {part:?} is not in {message:?}");
        assert_eq!(secret(&theatre), before, "{reason}: not a byte of it has changed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_adopted_once_the_right_that_was_missing_is_there() {
    let theatre = with_pat("Opaque", REPOSITORY);
    theatre.forbid(0);
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let _running = theatre.stage.start();
    minutes(10).await;
    assert_eq!(keys(&secret(&theatre)), ["ca.crt", "password", "username"]);
    theatre.permit(0);
    minutes(6).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt"]);
}

#[tokio::test(start_paused = true)]
async fn a_basic_auth_secret_keeps_its_keys_and_so_needs_basic() {
    let theatre = with_pat("kubernetes.io/basic-auth", REPOSITORY);
    let before = secret(&theatre);
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let _running = theatre.stage.start();
    minutes(10).await;
    says(&theatre, "Ready", "False SecretNeedsBasic", "formats: [Basic]");
    assert_eq!(secret(&theatre), before);
    theatre.stage.bearer_token("fleet", &adopt(&["Basic"]));
    // At once: whoever has done what the message says waits for it to help.
    seconds(5).await;
    says(&theatre, "Ready", "True Succeeded", "");
    let adopted = secret(&theatre);
    assert_eq!(
        (keys(&adopted), &adopted["type"]),
        (vec!["ca.crt", "password", "username"], &"kubernetes.io/basic-auth".into())
    );
    assert!(!adopted.to_string().contains(&STANDARD.encode(PAT)) && !adopted.to_string().contains(PAT));
}

#[tokio::test(start_paused = true)]
async fn row_34_what_kills_the_controller_between_the_two_writes_of_an_adoption_leaves_no_pat_for_long() {
    let theatre = with_pat("Opaque", REPOSITORY);
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let faults = theatre.stage.kube.faults().clone();
    theatre.stage.kube.on_change(move |object| {
        if keys(object) == ["bearerToken", "ca.crt", "password", "username"] {
            faults.set(Fault { name: "silence".into(), effect: Some(Effect::Hang), ..Fault::default() });
        }
    });
    let running = theatre.stage.start();
    seconds(5).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt", "password", "username"], "half done");
    running.kill().await;
    theatre.stage.kube.faults().clear_all();
    let _running = theatre.stage.start();
    seconds(5).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt"]);
}

/// Lets `who` put a PAT back, as kustomize-controller does with a Secret that is in Git.
async fn force_pat(theatre: &Theatre, who: &str, key: &str) {
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fleet", "namespace": NAMESPACE},
        "data": {key: STANDARD.encode(PAT)},
    });
    server_side_apply(theatre, who, &body).await;
}

async fn server_side_apply(theatre: &Theatre, who: &str, body: &Value) {
    let request =
        http::Request::patch(format!("/api/v1/namespaces/{NAMESPACE}/secrets/fleet?fieldManager={who}&force=true"))
            .header("content-type", "application/apply-patch+yaml")
            .body(kube::client::Body::from(body.to_string().into_bytes()))
            .unwrap();
    let answer = theatre.stage.client().send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn row_27_a_fight_for_the_secret_is_five_corrections_a_minute_and_says_with_whom() {
    let (theatre, _running) = filled().await;
    let ours = theatre.token("fleet");
    force_pat(&theatre, "kustomize-controller", "bearerToken").await;
    seconds(1).await;
    assert_eq!(theatre.token("fleet"), ours, "taken back at once");
    assert!(theatre.said().contains("kustomize-controller had changed Secret fleet"));
    says(&theatre, "Ready", "True Succeeded", "");
    minutes(2).await;
    theatre.stage.kube.journal().clear();
    for _ in 0..300 {
        force_pat(&theatre, "kustomize-controller", "bearerToken").await;
        seconds(1).await;
    }
    let ours = |entry: &flux_bearer_sim::kube::Entry| {
        entry.request.resource == "secrets" && entry.request.field_manager == "flux-bearer/fleet"
    };
    let corrections = theatre.stage.kube.journal().count_where(ours);
    assert!((24..=30).contains(&corrections), "{corrections} in five minutes");
    says(&theatre, "Ready", "False SecretContested", "kustomize-controller keeps changing Secret fleet");
    says(&theatre, "Stalled", "True SecretContested", "ssa: Ignore");
    minutes(3).await;
    says(&theatre, "Ready", "True Succeeded", "");
    assert_eq!(theatre.clone("fleet").await, 200);
}

#[tokio::test(start_paused = true)]
async fn every_reader_finds_the_token_under_its_own_keys_and_a_pat_under_token_is_adopted_with_them() {
    let theatre = with_pat("Opaque", REPOSITORY);
    force_pat(&theatre, "kustomize-controller", "token").await;
    theatre.stage.bearer_token("fleet", &adopt(&["Token", "Basic", "Bearer"]));
    let _running = theatre.stage.start();
    let all_hold_ours = || {
        let found = secret(&theatre);
        let ours = found["data"]["bearerToken"].clone();
        assert_eq!(keys(&found), ["bearerToken", "ca.crt", "password", "token", "username"]);
        assert!(ours.as_str().is_some_and(|ours| ours != STANDARD.encode(PAT)));
        assert_eq!([&found["data"]["password"], &found["data"]["token"]], [&ours, &ours]);
        assert_eq!(found["data"]["username"], STANDARD.encode(client(0)));
    };
    seconds(10).await;
    all_hold_ours();
    force_pat(&theatre, "somebody", "token").await;
    seconds(1).await;
    all_hold_ours();
    assert!(theatre.said().contains("somebody had changed Secret fleet"));
    minutes(180).await;
    all_hold_ours();
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_service_under_token_is_left_alone() {
    let theatre = with_pat("Opaque", REPOSITORY);
    force_pat(&theatre, "kustomize-controller", "token").await;
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let _running = theatre.stage.start();
    minutes(180).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt", "token"]);
    assert_eq!(secret(&theatre)["data"]["token"], STANDARD.encode(PAT));
}

#[tokio::test(start_paused = true)]
async fn no_commit_takes_the_keys_from_a_secret_that_a_git_repository_reads() {
    let (theatre, _running) = filled().await;
    theatre.stage.bearer_token("fleet", &json!({"secret": {"formats": ["Token"]}}));
    minutes(120).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken"]);
    assert_eq!(theatre.expired_seconds("fleet"), 0);
    says(&theatre, "Accessible", "False InvalidRepository", "Add Bearer to spec.secret.formats");
    theatre.stage.kube.delete("GitRepository", NAMESPACE, "fleet");
    minutes(1).await;
    assert_eq!(keys(&secret(&theatre)), ["token"], "nobody pulls with it any more");
}

#[tokio::test(start_paused = true)]
async fn a_pat_that_comes_back_into_an_adopted_secret_is_removed_again() {
    let theatre = with_pat("Opaque", REPOSITORY);
    theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
    let _running = theatre.stage.start();
    seconds(10).await;
    force_pat(&theatre, "kustomize-controller", "password").await;
    seconds(1).await;
    assert_eq!(keys(&secret(&theatre)), ["bearerToken", "ca.crt"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_somebody_makes_in_the_moment_of_ours_is_theirs() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("fleet", &json!({}));
    // The token takes a moment, and in that moment they come.
    theatre.stage.kube.faults().set(Fault {
        name: "slow".into(),
        path: Some("secrets/fleet?fieldManager".into()),
        delay_ms: Some(2000),
        ..Fault::default()
    });
    let _running = theatre.stage.start();
    seconds(1).await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "fleet", "namespace": NAMESPACE},
        "data": {"password": STANDARD.encode(PAT)},
    });
    theatre.stage.kube.apply(theirs);
    minutes(10).await;
    let found = secret(&theatre);
    assert_eq!((keys(&found), found["metadata"].get("annotations")), (vec!["password"], None));
    says(&theatre, "Ready", "False SecretNotOwned", "adopt");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_bearer_token_leaves_its_secret_unless_told_otherwise() {
    for (policy, left) in [("Retain", true), ("Delete", false)] {
        let theatre = Theatre::with(&[3600]);
        theatre.stage.bearer_token("fleet", &json!({"secret": {"deletionPolicy": policy}}));
        let _running = theatre.stage.start();
        minutes(5).await;
        theatre.stage.kube.delete("BearerToken", NAMESPACE, "fleet");
        minutes(2).await;
        assert_eq!(theatre.stage.kube.get("Secret", NAMESPACE, "fleet").is_some(), left, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_delete_an_adopted_secret_loses_our_keys_alone() {
    let theatre = with_pat("Opaque", REPOSITORY);
    let spec = json!({"secret": {"adopt": true, "deletionPolicy": "Delete"}});
    theatre.stage.bearer_token("fleet", &spec);
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.kube.delete("BearerToken", NAMESPACE, "fleet");
    minutes(2).await;
    let left = secret(&theatre);
    assert_eq!(keys(&left), ["ca.crt"]);
    assert_eq!(left["metadata"]["annotations"], json!({"team": "platform"}));
}

#[tokio::test(start_paused = true)]
async fn row_31_what_went_while_no_controller_ran_is_let_go_and_what_another_shard_keeps_is_not() {
    let labelled = |settings: &mut Settings| settings.scope.secrets = Secrets::Labelled;
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("fleet", &named("fleet"));
    let running = theatre.stage.start();
    minutes(5).await;
    running.kill().await;
    let other_shard = theatre.stage.start_with(|settings| {
        labelled(settings);
        settings.scope.selector = Some("sharding.fluxcd.io/key=two".into());
    });
    minutes(5).await;
    assert_eq!(theatre.clone("fleet").await, 200);
    other_shard.kill().await;
    theatre.stage.kube.delete("BearerToken", NAMESPACE, "fleet");
    let _running = theatre.stage.start_with(labelled);
    minutes(2).await;
    assert!(theatre.stage.kube.get("Secret", NAMESPACE, "fleet").is_none());
}

fn named(name: &str) -> Value {
    json!({"secret": {"name": name, "deletionPolicy": "Delete"}})
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_read_is_renewed_whatever_the_spec_names_since() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("fleet", "one", REPOSITORY);
    theatre.stage.bearer_token("fleet", &named("one"));
    let running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.bearer_token("fleet", &named("mistyped"));
    minutes(120).await;
    running.kill().await;
    let _running = theatre.stage.start();
    minutes(120).await;
    assert_eq!(theatre.expired_seconds("one"), 0);
    assert_eq!(theatre.clone("one").await, 200);
    says(&theatre, "Ready", "True Succeeded", "spec.secret.name: mistyped waits");
    assert!(theatre.stage.kube.get("Secret", NAMESPACE, "mistyped").is_none());
    theatre.stage.bearer_token("fleet", &named("one"));
    minutes(1).await;
    let (_, _, message) = theatre.stage.condition("fleet", "Ready").unwrap();
    assert!(!message.contains("waits"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_renamed_secret_is_filled_once_it_is_read_and_the_old_one_let_go() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("fleet", "one", REPOSITORY);
    theatre.stage.bearer_token("fleet", &named("one"));
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.bearer_token("fleet", &named("two"));
    minutes(5).await;
    theatre.stage.git_repository("fleet", "two", REPOSITORY);
    seconds(2).await;
    assert_eq!(theatre.clone("two").await, 200);
    assert!(theatre.stage.kube.get("Secret", NAMESPACE, "one").is_none());
    minutes(120).await;
    assert_eq!(theatre.expired_seconds("two"), 0);
    says(&theatre, "Ready", "True Succeeded", "Secret two holds");
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_nobody_reads_the_old_secret_of_is_done_at_once() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("fleet", &named("one"));
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.bearer_token("fleet", &named("two"));
    seconds(2).await;
    assert_eq!(theatre.clone("two").await, 200);
    assert!(theatre.stage.kube.get("Secret", NAMESPACE, "one").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_renames_the_secret_and_breaks_the_identity_can_be_reverted() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("fleet", "one", REPOSITORY);
    theatre.stage.bearer_token("fleet", &json!({"secret": {"name": "one"}}));
    let _running = theatre.stage.start();
    minutes(5).await;
    let nobody = "00000000-dead-4000-8000-000000000001";
    theatre.stage.bearer_token("fleet", &json!({"identity": {"clientId": nobody}, "secret": {"name": "two"}}));
    theatre.stage.git_repository("fleet", "two", REPOSITORY);
    minutes(240).await;
    assert_eq!(theatre.clone("two").await, 200);
    assert_eq!(theatre.expired_seconds("two"), 0);
    says(&theatre, "RefreshFailing", "True NewIdentityNotWorking", "last working identity");
    theatre.stage.bearer_token("fleet", &json!({"identity": {"clientId": client(0)}, "secret": {"name": "two"}}));
    minutes(10).await;
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "");
}

/// Nobody is told to wait by a conflict that no waiting ends.
#[tokio::test(start_paused = true)]
async fn row_27_a_label_of_ours_that_somebody_has_changed_is_put_right_and_stops_no_renewal() {
    let (theatre, _running) = filled().await;
    let label = || secret(&theatre)["metadata"]["labels"]["app.kubernetes.io/part-of"].clone();
    let body = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "fleet", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "fleet"}},
    });
    server_side_apply(&theatre, "somebody", &body).await;
    assert_eq!(label(), "fleet");
    seconds(1).await;
    assert_eq!(label(), "flux-bearer");
    assert!(theatre.said().contains("somebody had changed Secret fleet"));
    minutes(120).await;
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_asks_for_keys_of_somebody_else_waits_for_them_and_stops_no_renewal() {
    let (theatre, _running) = filled().await;
    force_pat(&theatre, "somebody", "token").await;
    let asks = |adopt: bool| json!({"secret": {"formats": ["Bearer", "Token"], "adopt": adopt}});
    theatre.stage.bearer_token("fleet", &asks(false));
    minutes(120).await;
    assert_eq!(theatre.expired_seconds("fleet"), 0);
    assert_eq!(secret(&theatre)["data"]["token"], STANDARD.encode(PAT), "not ours to take");
    says(&theatre, "Ready", "True Succeeded", "");
    says(&theatre, "Stalled", "True SecretNotOwned", "somebody has written token into Secret fleet");
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "");
    theatre.stage.bearer_token("fleet", &asks(true));
    seconds(1).await;
    let taken = secret(&theatre);
    assert_eq!(taken["data"]["token"], taken["data"]["bearerToken"]);
    assert_eq!(theatre.stage.says("fleet", "Stalled"), "");
    minutes(120).await;
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_no_longer_asked_for_goes_also_when_somebody_has_changed_it_meanwhile() {
    let (theatre, running) = filled().await;
    running.kill().await;
    force_pat(&theatre, "somebody", "bearerToken").await;
    theatre.stage.bearer_token("fleet", &json!({"secret": {"formats": ["Basic"]}}));
    let _running = theatre.stage.start();
    minutes(1).await;
    assert_eq!(keys(&secret(&theatre)), ["password", "username"], "Flux would take bearerToken before them");
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_that_is_renamed_and_asks_for_other_keys_leaves_no_key_behind_that_expires() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.git_repository("fleet", "fleet", REPOSITORY);
    theatre.stage.bearer_token("one", &json!({"secret": {"name": "fleet"}}));
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.kube.delete("BearerToken", NAMESPACE, "one");
    theatre.stage.bearer_token("two", &json!({"secret": {"name": "fleet", "formats": ["Basic"]}}));
    minutes(5).await;
    assert_eq!(theatre.clone("fleet").await, 200);
    minutes(120).await;
    assert_eq!(keys(&secret(&theatre)), ["password", "username"]);
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_asks_for_keys_that_the_secret_can_not_have_stops_no_renewal() {
    for lifetime in [20, 3600] {
        let theatre = with_pat_beside(lifetime, "kubernetes.io/basic-auth", REPOSITORY);
        theatre.stage.bearer_token("fleet", &adopt(&["Basic"]));
        let _running = theatre.stage.start();
        minutes(1).await;
        theatre.stage.bearer_token("fleet", &adopt(&["Bearer"]));
        minutes(120).await;
        assert_eq!(keys(&secret(&theatre)), ["ca.crt", "password", "username"]);
        assert_eq!(theatre.expired_seconds("fleet"), 0, "tokens of {lifetime} s");
        says(&theatre, "Ready", "True Succeeded", "");
        says(&theatre, "Stalled", "True SecretNeedsBasic", "formats: [Basic]");
        assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "");
        theatre.stage.bearer_token("fleet", &adopt(&["Basic"]));
        seconds(1).await;
        assert_eq!(theatre.stage.says("fleet", "Stalled"), "");
    }
}
