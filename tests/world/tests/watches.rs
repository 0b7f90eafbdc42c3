//! How Secrets are watched: by name with the strict Role, by label with the open one, and read where neither may be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::collections::HashSet;

use flux_bearer_controller::watch::secrets::{MAX_NAMED, Secrets};
use flux_bearer_sim::kube::{RequestInfo, Verb};
use flux_bearer_world::stage::{NAMESPACE, Running};
use serde_json::json;
use support::rights::{cluster_role, strict};
use support::{Theatre, lines, minutes, seconds};

/// A theatre with this many BearerTokens, whose Secrets are named like them.
fn many(count: usize) -> (Theatre, Vec<String>) {
    let theatre = Theatre::with(&[3600]);
    let names: Vec<String> = (0..count).map(|number| format!("token-{number:03}")).collect();
    for name in &names {
        theatre.stage.bearer_token(name, &json!({}));
    }
    (theatre, names)
}

fn labelled(theatre: &Theatre) -> Running {
    theatre.stage.start_with(|settings| settings.scope.secrets = Secrets::Labelled)
}

fn edit(theatre: &Theatre, secret: &str) {
    let mut edited = theatre.stage.kube.get("Secret", NAMESPACE, secret).unwrap();
    edited["data"]["bearerToken"] = "b29wcw==".into();
    theatre.stage.kube.apply(edited);
}

/// How many requests for Secrets there were that `wanted` is true of, since the journal was cleared.
fn asked(theatre: &Theatre, wanted: impl Fn(&RequestInfo) -> bool) -> usize {
    theatre.stage.kube.journal().count_where(|entry| entry.request.resource == "secrets" && wanted(&entry.request))
}

#[tokio::test(start_paused = true)]
async fn row_26_27_with_the_strict_role_nothing_is_refused_and_a_change_shows_at_once() {
    let (theatre, _) = many(0);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.kube.set_authorizer(strict(&["flux-system"]));
    let running = theatre.stage.start();
    seconds(1).await;
    assert!(*running.ready.borrow(), "nothing waits for a watch by name");
    minutes(180).await;
    theatre.stage.kube.delete("Secret", NAMESPACE, "flux-system");
    seconds(1).await;
    assert_eq!(theatre.clone("flux-system").await, 200, "a deleted Secret is made anew at once");
    minutes(1).await;
    edit(&theatre, "flux-system");
    seconds(1).await;
    assert_eq!(theatre.clone("flux-system").await, 200, "an edited Secret is put right at once");
    let refused = theatre.stage.kube.journal().entries().into_iter().find(|entry| entry.status == Some(403));
    assert_eq!(refused, None);
    assert_eq!(asked(&theatre, |info| info.name.is_empty()), 0, "nothing asks about all Secrets");
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_somebody_else_is_filled_once_it_is_gone() {
    let (theatre, _) = many(1);
    let theirs =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token-000", "namespace": NAMESPACE}});
    theatre.stage.kube.apply(theirs);
    let _running = theatre.stage.start();
    minutes(7).await;
    assert_eq!(theatre.stage.says("token-000", "Ready"), "False SecretNotOwned");
    theatre.stage.kube.delete("Secret", NAMESPACE, "token-000");
    seconds(1).await;
    assert_eq!(theatre.stage.says("token-000", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_secrets_are_watched_and_the_others_are_read_once_a_minute() {
    let (theatre, names) = many(MAX_NAMED + 5);
    let _running = theatre.stage.start();
    minutes(2).await;
    let entries = theatre.stage.kube.journal().entries();
    let started =
        entries.iter().filter(|entry| entry.request.verb == Verb::Watch && entry.request.resource == "secrets");
    let watched: HashSet<String> = started.map(|entry| entry.request.name.clone()).collect();
    assert_eq!(watched.len(), MAX_NAMED);
    theatre.stage.kube.journal().clear();
    minutes(10).await;
    assert_eq!(theatre.gets(), 5 * 10, "five are read once a minute");
    let others: Vec<&String> = names.iter().filter(|name| !watched.contains(*name)).collect();
    theatre.stage.kube.delete("Secret", NAMESPACE, others[0]);
    seconds(61).await;
    assert_eq!(theatre.clone(others[0]).await, 200);

    theatre.stage.kube.delete("BearerToken", NAMESPACE, watched.iter().next().unwrap());
    minutes(3).await;
    theatre.stage.kube.journal().clear();
    minutes(10).await;
    assert_eq!(theatre.gets(), 4 * 10, "whose watch ended has left its place to another");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_the_bearer_token() {
    let (theatre, _) = many(2);
    let _running = theatre.stage.start();
    minutes(5).await;
    theatre.stage.kube.delete("BearerToken", NAMESPACE, "token-000");
    minutes(1).await;
    theatre.stage.kube.journal().clear();
    theatre.stage.kube.close_watches();
    minutes(10).await;
    assert_eq!(asked(&theatre, |info| info.name == "token-000"), 0);
    assert!(asked(&theatre, |info| info.name == "token-001") > 0, "the other watch begins anew");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_forbidden_secrets_make_no_storm_and_are_filled_once_they_are_named() {
    let (theatre, names) = many(200);
    theatre.stage.bearer_token("good", &json!({}));
    theatre.stage.kube.set_authorizer(strict(&["good"]));
    let _running = theatre.stage.start();
    minutes(10).await;
    theatre.stage.kube.journal().clear();
    minutes(60).await;
    let refused = theatre.stage.kube.journal().count_where(|entry| entry.status == Some(403));
    assert!(refused <= 200 * 13, "each is looked at every five minutes: {refused}");
    assert!(names.iter().all(|name| theatre.stage.says(name, "Ready") == "False Forbidden"));
    assert_eq!(theatre.expired_seconds("good"), 0);
    theatre.stage.kube.set_authorizer(|_| true);
    minutes(6).await;
    assert!(names.iter().all(|name| theatre.stage.says(name, "Ready") == "True Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn row_26_secrets_that_may_be_read_and_not_watched_are_read_once_a_minute_and_told_once() {
    lines::keep();
    let (theatre, names) = many(20);
    theatre.stage.kube.set_authorizer(|info| {
        info.resource != "secrets" || matches!(info.verb, Verb::Get | Verb::Create | Verb::Apply)
    });
    let _running = theatre.stage.start();
    minutes(60).await;
    let refused = theatre.stage.kube.journal().count_where(|entry| entry.status == Some(403));
    assert!((20..=20 * 13).contains(&refused), "each is tried every five minutes: {refused}");
    assert_eq!(lines::take(&["read but not watched", "the verbs list and watch"]).len(), 20);
    for name in &names {
        theatre.stage.kube.delete("Secret", NAMESPACE, name);
    }
    seconds(61).await;
    for name in &names {
        assert_eq!(theatre.clone(name).await, 200);
    }
    theatre.stage.kube.set_authorizer(|_| true);
    minutes(6).await;
    edit(&theatre, "token-000");
    seconds(1).await;
    assert_eq!(theatre.clone("token-000").await, 200, "watched again once it may be");
}

#[tokio::test(start_paused = true)]
async fn a_label_watch_that_is_forbidden_is_told_once_and_the_secrets_are_read() {
    lines::keep();
    let (theatre, _) = many(3);
    let named = |info: &RequestInfo| info.resource == "secrets" && !info.name.is_empty();
    theatre.stage.kube.set_authorizer(move |info| named(info) || cluster_role(info).contains(&info.verb.rbac()));
    let _running = labelled(&theatre);
    minutes(60).await;
    let told =
        lines::take(&["ERROR", "may not be listed and watched", "deploy/components/open", "--watch-secrets=named"]);
    assert_eq!(told.len(), 1, "{told:?}");
    theatre.stage.kube.delete("Secret", NAMESPACE, "token-001");
    seconds(61).await;
    assert_eq!(theatre.clone("token-001").await, 200);
    assert_eq!(asked(&theatre, |info| info.verb == Verb::Watch && !info.name.is_empty()), 0);
}

#[tokio::test(start_paused = true)]
async fn bearer_tokens_that_may_not_be_watched_are_told_with_the_cluster_role() {
    lines::keep();
    let (theatre, _) = many(1);
    theatre.stage.kube.set_authorizer(|info| info.resource != "bearertokens");
    let running = theatre.stage.start();
    minutes(10).await;
    assert!(*running.ready.borrow());
    let told = lines::take(&["ERROR", "BearerToken", "may not be", "kubectl apply -k deploy/base", "ClusterRole"]);
    assert_eq!(told.len(), 1, "{told:?}");
    let asked = theatre.stage.kube.journal().count_where(|entry| entry.request.resource == "bearertokens");
    assert!(asked <= 60, "asked {asked} times in ten minutes, and no more often than every ten seconds in the end");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_looks_at_what_it_has_not_watched() {
    let (theatre, _) = many(1);
    let machines = ["a", "b"].map(|name| theatre.stage.machine(name));
    let a = theatre.stage.start_replica_on(&machines[0]);
    seconds(1).await;
    let _b = theatre.stage.start_replica_on(&machines[1]);
    minutes(5).await;
    a.kill().await;
    edit(&theatre, "token-000");
    minutes(1).await;
    assert_eq!(theatre.leader(), "b");
    assert_eq!(theatre.clone("token-000").await, 200);
    edit(&theatre, "token-000");
    seconds(1).await;
    assert_eq!(theatre.clone("token-000").await, 200, "and watches it from then on");
}
