//! Identities of `ServiceAccount`s: each namespace signs in with its own, and the controller with none of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::kube::Entry;
use flux_bearer_world::accounts::subject;
use flux_bearer_world::identities::{REPOSITORY, TENANT, client};
use flux_bearer_world::shell::Shell;
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};
use support::{Theatre, lines, minutes, seconds};

/// What the controller asks the Kubernetes API for about accounts: the looks at them, and the tokens of them.
fn asked(theatre: &Theatre) -> (usize, usize) {
    let of = |subresource: &'static str| {
        theatre.stage.kube.journal().count_where(|Entry { request, .. }| {
            request.resource == "serviceaccounts" && request.subresource == subresource
        })
    };
    (of(""), of("token"))
}

/// A stage whose ServiceAccount `app` says that it is identity 0, which trusts it and nobody else.
fn with_account(lifetimes: &[u32]) -> Theatre {
    let theatre = Theatre::with(lifetimes);
    theatre.stage.issue_tokens();
    theatre.stage.federate(0, &subject(NAMESPACE, "app")).unwrap();
    theatre.stage.service_account(NAMESPACE, "app", &annotated(0));
    theatre
}

fn annotated(number: usize) -> Value {
    json!({"azure.workload.identity/client-id": client(number), "azure.workload.identity/tenant-id": TENANT})
}

fn by_account() -> Value {
    json!({"identity": {"serviceAccountName": "app"}, "repositories": [REPOSITORY]})
}

#[tokio::test(start_paused = true)]
async fn an_account_signs_in_for_a_day_with_one_look_and_one_token_a_mint() {
    lines::keep();
    let mut theatre = with_account(&[3600]);
    theatre.stage = theatre.stage.without_assertion();
    theatre.stage.bearer_token("fleet", &by_account());
    let running = theatre.stage.start();
    minutes(24 * 60).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
    assert_eq!(theatre.stage.says("fleet", "Accessible"), "True RepositoriesOpen");
    assert_eq!(theatre.expired_seconds("fleet"), 0);
    let fillings = theatre.fillings("fleet");
    assert!(fillings > 50, "{fillings}");
    assert_eq!(asked(&theatre), (fillings, fillings), "one look and one token a mint");
    let status = theatre.stage.kube.get("BearerToken", NAMESPACE, "fleet").unwrap();
    assert_eq!(status["status"]["identity"]["clientId"], client(0));
    assert!(!theatre.said().contains("eyJ"), "a token is told nowhere");
    assert!(lines::take(&["eyJ"]).is_empty(), "nor logged");
    running.stop().await;
    theatre.stage.kube.journal().clear();
    let _running = theatre.stage.start();
    seconds(30).await;
    assert_eq!((asked(&theatre), theatre.fillings("fleet")), ((1, 0), fillings), "a restart looks, and mints nothing");
}

#[tokio::test(start_paused = true)]
async fn another_namespace_needs_no_grant_for_an_account_of_its_own_and_gets_none_of_the_pod() {
    let theatre = Theatre::with(&[3600, 3600]);
    theatre.stage.issue_tokens();
    theatre.stage.federate(1, &subject("team-a", "app")).unwrap();
    let tenant = |namespace: &str, name: &str, identity: Value| {
        theatre.stage.service_account(namespace, "app", &json!({}));
        theatre.stage.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken", "spec": {"identity": identity},
            "metadata": {"name": name, "namespace": namespace},
        }));
    };
    let own = json!({"serviceAccountName": "app", "clientId": client(1)});
    tenant("team-a", "own", own.clone());
    tenant("team-b", "crossing", own);
    tenant("team-b", "of-the-pod", json!({"clientId": client(1)}));
    tenant("team-b", "of-the-pod-by-account", json!({"serviceAccountName": "app", "clientId": client(0)}));
    let _running = theatre.stage.start();
    minutes(70).await;
    let ready = |namespace: &str, name: &str| {
        let object = theatre.stage.kube.get("BearerToken", namespace, name).unwrap();
        let conditions = object["status"]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap()
    };
    assert_eq!(ready("team-a", "own")["reason"], "Succeeded", "{}", ready("team-a", "own"));
    assert!(theatre.stage.kube.get("Secret", "team-a", "own").is_some());
    for (name, said) in
        [("crossing", "AADSTS700213"), ("of-the-pod", "IdentityNotAllowed"), ("of-the-pod-by-account", "AADSTS700213")]
    {
        let found = ready("team-b", name);
        assert!(found["status"] == "False" && found["message"].as_str().unwrap().contains(said), "{name}: {found}");
        assert_eq!(theatre.stage.kube.get("Secret", "team-b", name), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_is_spoiled_locks_nobody_out_and_one_that_is_changed_changes_the_identity() {
    let theatre = with_account(&[3600, 3600]);
    theatre.stage.federate(1, &subject(NAMESPACE, "app")).unwrap();
    theatre.stage.bearer_token("fleet", &by_account());
    let _running = theatre.stage.start();
    minutes(20).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
    for (what, spoiled, said) in [
        ("nobody's", annotated(7), "AADSTS700016"),
        ("malformed", json!({"azure.workload.identity/client-id": "fleet"}), "malformed"),
        ("none", json!({}), "no client id is known for ServiceAccount app"),
    ] {
        theatre.stage.service_account(NAMESPACE, "app", &spoiled);
        minutes(130).await;
        assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded", "{what}");
        let (_, reason, message) = theatre.stage.condition("fleet", "RefreshFailing").unwrap();
        assert!(reason == "NewIdentityNotWorking" && message.contains(said), "{what}: {reason}: {message}");
        assert_eq!(theatre.record("fleet")["identity"]["clientId"], client(0), "{what}");
    }
    theatre.stage.service_account(NAMESPACE, "app", &annotated(1));
    minutes(6).await;
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "");
    assert_eq!(theatre.record("fleet")["identity"]["clientId"], client(1));
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_taken_away_is_told_while_the_token_works_and_after() {
    let theatre = with_account(&[3600]);
    theatre.stage.bearer_token("fleet", &by_account());
    let running = theatre.stage.start();
    minutes(20).await;
    theatre.stage.kube.delete("ServiceAccount", NAMESPACE, "app");
    minutes(25).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "True ServiceAccountMissing");
    running.stop().await;
    let _running = theatre.stage.start();
    minutes(1).await;
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "True ServiceAccountMissing", "after a restart as well");
    minutes(60).await;
    let (status, _, message) = theatre.stage.condition("fleet", "Ready").unwrap();
    assert!(status == "False" && message.contains("create serviceaccount app"), "{status}: {message}");
    theatre.stage.service_account(NAMESPACE, "app", &annotated(0));
    minutes(6).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn rescue_signs_in_by_the_same_account() {
    let theatre = with_account(&[3600]);
    theatre.stage.bearer_token("fleet", &by_account());
    let shell = Shell::new(&theatre.stage).signed_in();
    let ended = shell.run("flux-bearer rescue fleet").await;
    assert_eq!(ended.exit, Exit::Done, "{}", ended.stderr);
    assert_eq!(asked(&theatre), (1, 1));
    assert_eq!(theatre.clone("fleet").await, 200);
    assert_eq!(theatre.record("fleet")["identity"]["account"], "app");
    let _running = theatre.stage.start();
    seconds(5).await;
    assert_eq!((theatre.stage.says("fleet", "Ready"), theatre.fillings("fleet")), ("True Succeeded".into(), 1));
    theatre.stage.kube.delete("ServiceAccount", NAMESPACE, "app");
    let ended = shell.run("flux-bearer rescue fleet").await;
    assert_eq!(ended.exit, Exit::NotFound, "{}", ended.stderr);
    assert!(ended.stderr.contains("there is no ServiceAccount flux-system/app"), "{}", ended.stderr);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_comes_a_moment_after_its_bearer_token_is_found_within_seconds() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.issue_tokens();
    theatre.stage.federate(0, &subject(NAMESPACE, "app")).unwrap();
    let _running = theatre.stage.start();
    theatre.stage.bearer_token("fleet", &by_account());
    seconds(1).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "False ServiceAccountMissing");
    theatre.stage.service_account(NAMESPACE, "app", &annotated(0));
    seconds(9).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
}
