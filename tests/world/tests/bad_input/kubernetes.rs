//! Malformed, oversized, truncated, slow and hostile replies of the Kubernetes API, and what it doesn't have or allow.

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::{Entry, Verb};
use flux_bearer_world::identities::REPOSITORY;
use flux_bearer_world::stage::NAMESPACE;
use serde_json::json;

use crate::support::pair::{CANARY, Pair, answers, fault, json_answer, page};
use crate::support::{answer, minutes, seconds};

/// Longest reply that is read, in bytes.
const REPLY: usize = 2 * 1024 * 1024;

/// Replies that are no answer, with what is said of them.
fn strange_replies() -> Vec<(&'static str, Fault, &'static str)> {
    let big = format!(r#"{{"metadata":{{"name":"bad","annotations":{{"x":"{}"}}}}}}"#, "x".repeat(REPLY));
    vec![
        ("an empty reply", json_answer(""), "check the proxy"),
        ("a page", page(200), "check the proxy"),
        ("deep JSON", json_answer("[".repeat(100_000)), "check the proxy"),
        ("metadata of the wrong type", json_answer(r#"{"metadata":"CANARY-7f3a91"}"#), "check the proxy"),
        ("a reply beyond the cap", json_answer(big), "longer than 2097152 bytes"),
        ("a page of a gateway", page(502), "Retried by itself"),
        ("a conflict in words", answers(409, "text/plain", CANARY), "Retried by itself"),
        ("a refused connection", fault(None, Some(Effect::Refuse)), "Check DNS"),
        ("a slow reply", fault(Some(11_000), None), "check firewall and proxy"),
        ("no reply", fault(None, Some(Effect::Hang)), "check firewall and proxy"),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_secrets_metadata_is_not_to_be_had() {
    for (what, trouble, fix) in strange_replies() {
        for theirs in [false, true] {
            let pair = Pair::new(&json!({}));
            let theirs = theirs.then(|| {
                pair.theatre.stage.kube.apply(json!({
                    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad", "namespace": NAMESPACE},
                    "stringData": {"username": "git", "password": "a personal access token"},
                }))
            });
            let path = Some("/secrets/bad".into());
            pair.theatre.stage.kube.faults().set(Fault { method: Some("GET".into()), path, ..trouble.clone() });
            let _running = pair.start();
            minutes(70).await;
            pair.says(what, "Ready", "False KubernetesUnavailable", &[fix]);
            assert_eq!(pair.secret(), theirs, "{what}: what can't be seen is not written");
            pair.theatre.stage.kube.faults().clear_all();
            minutes(1).await;
            let after = if theirs.is_some() { "False SecretNotOwned" } else { "True Succeeded" };
            pair.says(what, "Ready", after, &[]);
            pair.good_is_unaffected(what);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_not_taken() {
    for (what, trouble, fix) in strange_replies() {
        let pair = Pair::new(&json!({}));
        let (method, path) = (Some("PATCH".into()), Some("/secrets/bad".into()));
        let trouble = Fault { method, path, ..trouble };
        pair.theatre.stage.kube.faults().set(trouble.clone());
        let _running = pair.start();
        minutes(10).await;
        pair.says(what, "Ready", "False KubernetesUnavailable", &[fix]);
        pair.theatre.stage.kube.faults().clear_all();
        minutes(1).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.theatre.stage.kube.faults().set(trouble);
        let filled = pair.secret();
        minutes(40).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.says(what, "RefreshFailing", "True KubernetesUnavailable", &[fix]);
        minutes(30).await;
        pair.says(what, "Ready", "False TokenExpired", &[fix]);
        assert_eq!(pair.secret(), filled, "{what}");
        pair.good_is_unaffected(what);
    }
}

#[tokio::test(start_paused = true)]
async fn a_usable_token_stays_ready_while_the_controller_has_no_right_to_its_secret() {
    let pair = Pair::new(&json!({}));
    let _running = pair.start();
    minutes(5).await;
    let filled = pair.secret();
    pair.theatre.stage.kube.set_authorizer(|info| info.resource != "secrets" || info.name != "bad");
    minutes(45).await;
    pair.says("a lost right", "Ready", "True Succeeded", &[]);
    pair.says(
        "a lost right",
        "RefreshFailing",
        "True Forbidden",
        &["kubectl -n flux-system create role flux-bearer-bad ", "--resource-name=bad && kubectl"],
    );
    assert_eq!(pair.secret(), filled);
    pair.theatre.stage.kube.set_authorizer(|_| true);
    minutes(6).await;
    assert_eq!(pair.theatre.stage.says("bad", "RefreshFailing"), "");
    assert_eq!(pair.theatre.expired_seconds("bad"), 0);
    pair.good_is_unaffected("a lost right");
}

#[tokio::test(start_paused = true)]
async fn row_24_a_write_whose_reply_is_lost_is_found_out_and_not_repeated() {
    for effect in [Effect::Lose, Effect::Cut { after: 0 }, Effect::Cut { after: 60 }] {
        let what = format!("{effect:?}");
        let pair = Pair::new(&json!({}));
        let (method, path) = (Some("PATCH".into()), Some("/secrets/bad".into()));
        pair.theatre.stage.kube.faults().set(Fault { method, path, ..fault(None, Some(effect)) });
        let _running = pair.start();
        minutes(120).await;
        pair.says(&what, "Ready", "True Succeeded", &[]);
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{what}");
        assert!(pair.theatre.fillings("bad") <= 7, "{what}: {}", pair.theatre.fillings("bad"));
        pair.good_is_unaffected(&what);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_taken_delays_no_token_and_is_told_later() {
    for (what, trouble, _) in strange_replies() {
        let pair = Pair::new(&json!({}));
        pair.theatre.stage.kube.faults().set(Fault { path: Some("/bearertokens/bad/status".into()), ..trouble });
        let _running = pair.start();
        minutes(130).await;
        assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{what}");
        assert!(pair.theatre.fillings("bad") >= 5, "{what}");
        let tries = |entry: &Entry| entry.request.name == "bad" && entry.request.subresource == "status";
        let tries = pair.theatre.stage.kube.journal().count_where(tries);
        assert!(tries <= 160, "{what}: told {tries} times in 130 minutes");
        pair.theatre.stage.kube.faults().clear_all();
        minutes(1).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.good_is_unaffected(what);
    }
}

#[tokio::test(start_paused = true)]
async fn row_20_21_lists_and_watches_that_make_no_sense_keep_no_token_waiting() {
    for resource in ["/secrets?", "/gitrepositories?", "/bearertokens?"] {
        for (what, trouble, _) in strange_replies() {
            let what = format!("{what} to {resource}");
            let pair = Pair::new(&json!({}));
            let running = pair.start();
            minutes(5).await;
            pair.theatre.stage.kube.faults().set(Fault { path: Some(resource.into()), ..trouble });
            pair.theatre.stage.kube.close_watches();
            minutes(130).await;
            assert_eq!(pair.theatre.expired_seconds("bad"), 0, "{what}");
            pair.theatre.stage.kube.faults().clear_all();
            minutes(2).await;
            pair.theatre.stage.bearer_token("late", &json!({}));
            seconds(5).await;
            assert_eq!(pair.theatre.stage.says("late", "Ready"), "True Succeeded", "{what}");
            pair.good_is_unaffected(&what);
            running.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_flux_there_are_no_git_repositories_and_all_else_works() {
    let pair = Pair::new(&json!({"repositories": [REPOSITORY]}));
    pair.theatre.stage.kube.remove_resource("source.toolkit.fluxcd.io", "gitrepositories");
    let _running = pair.start();
    seconds(5).await;
    pair.says("no GitRepositories", "Ready", "True Succeeded", &[]);
    pair.says("no GitRepositories", "Accessible", "True RepositoriesOpen", &[]);
    minutes(120).await;
    assert_eq!(pair.theatre.expired_seconds("bad"), 0);
    pair.good_is_unaffected("no GitRepositories");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_watch_secrets_they_are_read() {
    let pair = Pair::new(&json!({}));
    let named = |verb| matches!(verb, Verb::Get | Verb::Create | Verb::Apply);
    pair.theatre.stage.kube.set_authorizer(move |info| info.resource != "secrets" || named(info.verb));
    let _running = pair.start();
    seconds(5).await;
    pair.says("no watch", "Ready", "True Succeeded", &[]);
    minutes(120).await;
    assert_eq!(pair.theatre.expired_seconds("bad"), 0);
    pair.theatre.stage.kube.delete("Secret", NAMESPACE, "bad");
    minutes(6).await;
    assert_eq!(pair.theatre.clone("bad").await, 200, "a deleted Secret is found out by reading");
    let mut edited = pair.secret().unwrap();
    edited["data"]["bearerToken"] = "b29wcw==".into();
    pair.theatre.stage.kube.apply(edited);
    minutes(6).await;
    assert_eq!(pair.theatre.clone("bad").await, 200, "an edited Secret is found out by reading");
    pair.good_is_unaffected("no watch");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_everything_while_it_starts_delays_a_token_by_seconds() {
    let pair = Pair::new(&json!({}));
    let _running = pair.start();
    minutes(1).await;
    seconds(pair.theatre.seconds_to_refresh("bad") - 1).await;
    let fillings = pair.theatre.fillings("bad");
    pair.theatre.kube_fault("starting", Some("/secrets/bad"), answer(403));
    seconds(5).await;
    assert_eq!(pair.theatre.fillings("bad"), fillings);
    pair.theatre.stage.kube.faults().clear_all();
    seconds(6).await;
    assert_eq!(pair.theatre.fillings("bad"), fillings + 1);
    assert_eq!(pair.theatre.stage.says("bad", "RefreshFailing"), "");
}
