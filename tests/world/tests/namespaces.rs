//! Namespaces that are deleted while tokens are being written: quiet, and nothing is left of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::Entry;
use flux_bearer_world::identities::{TENANT, client};
use flux_bearer_world::stage::{NAMESPACE, Running};
use serde_json::json;
use support::pair::fault;
use support::{Theatre, lines, minutes, seconds};

/// How many BearerTokens the tenant has.
const OBJECTS: usize = 30;

/// A tenant with BearerTokens in a namespace of its own, and one BearerToken beside it.
fn with_tenant() -> (Theatre, Running) {
    lines::keep();
    let theatre = Theatre::with(&[600]);
    theatre.stage.bearer_token("good", &json!({}));
    let spec = json!({"identity": {"tenantId": TENANT, "clientId": client(0)}});
    for number in 0..OBJECTS {
        theatre.stage.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken", "spec": spec,
            "metadata": {"name": name(number), "namespace": "tenant"},
        }));
    }
    let allowed = format!("tenant={TENANT}/{}", client(0)).parse().unwrap();
    let running = theatre.stage.start_with(|settings| settings.pod.allowed.push(allowed));
    (theatre, running)
}

fn name(number: usize) -> String {
    format!("token-{number}")
}

/// Whether a request was a write in the tenant's namespace.
fn is_write(entry: &Entry) -> bool {
    let request = &entry.request;
    request.namespace == "tenant" && ["create", "patch", "delete"].contains(&request.verb.rbac())
}

/// Writes that were tried in the tenant's namespace since the journal was cleared.
fn writes(theatre: &Theatre) -> usize {
    theatre.stage.kube.journal().count_where(is_write)
}

/// Takes the namespace away as its controller does: Secrets first, the rest, then itself.
async fn delete_namespace(theatre: &Theatre, pause: u64) {
    let kube = &theatre.stage.kube;
    assert!(kube.delete("Namespace", "", "tenant"));
    seconds(pause).await;
    for number in 0..OBJECTS {
        kube.delete("Secret", "tenant", &name(number));
    }
    seconds(pause).await;
    for number in 0..OBJECTS {
        kube.delete("BearerToken", "tenant", &name(number));
    }
    seconds(pause).await;
    assert!(kube.delete("Namespace", "", "tenant"));
}

#[tokio::test(start_paused = true)]
async fn row_32_a_namespace_that_goes_while_tokens_are_written_makes_no_noise() {
    for pause in [0, 1, 30, 400] {
        let (theatre, running) = with_tenant();
        // Their refresh falls into the deletion.
        minutes(4).await;
        assert_eq!(theatre.stage.kube.list("Secret").len(), OBJECTS + 1);
        lines::take(&[]);
        theatre.stage.kube.journal().clear();
        delete_namespace(&theatre, pause).await;
        minutes(20).await;
        let told = lines::take(&[]);
        let noise: Vec<&String> = told.iter().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
        assert_eq!(noise, Vec::<&String>::new(), "pauses of {pause} s");
        let informed = told.iter().filter(|line| line.contains("Secret not written")).count();
        assert!(informed <= OBJECTS * 3, "one line an attempt: {informed}");
        assert_eq!(theatre.stage.kube.list("Secret").len(), 1);
        theatre.stage.kube.journal().clear();
        minutes(20).await;
        assert_eq!(writes(&theatre), 0, "nothing is left of it");
        assert_eq!(theatre.stage.says("good", "Ready"), "True Succeeded");
        assert_eq!(theatre.expired_seconds("good"), 0);
        running.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_32_a_namespace_that_hangs_in_its_deletion_is_tried_every_five_minutes() {
    let (theatre, _running) = with_tenant();
    minutes(2).await;
    lines::take(&[]);
    assert!(theatre.stage.kube.delete("Namespace", "", "tenant"));
    for number in 0..OBJECTS {
        theatre.stage.kube.delete("Secret", "tenant", &name(number));
    }
    seconds(5).await;
    theatre.stage.kube.journal().clear();
    minutes(60).await;
    let secrets = |entry: &Entry| is_write(entry) && entry.request.resource == "secrets";
    let tried = theatre.stage.kube.journal().count_where(secrets);
    assert!((1..=OBJECTS * 13).contains(&tried), "{tried}");
    let told = lines::take(&["Secret not written", "NamespaceTerminating"]);
    assert!(told.iter().all(|line| line.contains("INFO")) && told.len() <= OBJECTS * 14, "{}", told.len());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_may_not_be_written_is_told_with_the_cluster_role_every_five_minutes() {
    lines::keep();
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("good", &json!({}));
    theatre.stage.kube.set_authorizer(|info| info.subresource != "status" && info.resource != "events");
    let _running = theatre.stage.start();
    minutes(1).await;
    let parts = ["status not written", "the status of BearerTokens", "ClusterRole flux-bearer-controller"];
    assert!((1..=8).contains(&lines::take(&parts).len()), "whatever happens is to be reported");
    minutes(20).await;
    let told = lines::take(&parts);
    assert!((3..=5).contains(&told.len()), "{told:?}");
    theatre.stage.kube.set_authorizer(|_| true);
    minutes(6).await;
    assert_eq!(theatre.stage.says("good", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn events_and_nudges_that_may_not_be_written_are_told_with_the_cluster_role() {
    lines::keep();
    let theatre = Theatre::with(&[3600]);
    let url = flux_bearer_world::identities::REPOSITORY;
    theatre.stage.git_repository("fleet", "good", url);
    let failing =
        json!({"conditions": [{"type": "Ready", "status": "False", "reason": "AuthenticationFailed", "message": ""}]});
    theatre.stage.kube.patch_status("GitRepository", NAMESPACE, "fleet", failing);
    theatre.stage.bearer_token("good", &json!({}));
    theatre.stage.kube.set_authorizer(|info| {
        info.resource != "events" && (info.resource != "gitrepositories" || info.verb.rbac() != "patch")
    });
    let _running = theatre.stage.start();
    minutes(5).await;
    assert_eq!(theatre.stage.says("good", "Ready"), "True Succeeded");
    let told = lines::take(&["may not write", "ClusterRole flux-bearer-controller"]);
    for what in ["Events", "GitRepositories"] {
        assert!(told.iter().any(|line| line.contains(what)), "{what}: {told:?}");
    }
    assert!(told.len() <= 4, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_that_goes_while_its_status_is_written_makes_no_noise() {
    lines::keep();
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("good", &json!({}));
    let slow = Fault { path: Some("/status".into()), ..fault(Some(2_000), None::<Effect>) };
    theatre.stage.kube.faults().set(slow);
    let _running = theatre.stage.start();
    seconds(1).await;
    theatre.stage.kube.delete("BearerToken", NAMESPACE, "good");
    minutes(10).await;
    assert_eq!(lines::take(&["not written"]), Vec::<String>::new());
}
