//! What is wrong with an installation is said at the start, once, with its fix, and stops nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use flux_bearer::failure::Failure;
use flux_bearer::preflight::{DEFINITION, POLICIES};
use flux_bearer_azure::workload::Assertion;
use flux_bearer_sim::faults::Effect;
use flux_bearer_world::identities::{SUBJECT, client};
use flux_bearer_world::stage::{NAMESPACE, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::rights::strict;
use support::{Theatre, lines, minutes, seconds};

/// A theatre with BearerToken `flux-system` and the strict Role.
fn theatre() -> Theatre {
    lines::keep();
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.kube.set_authorizer(strict(&["flux-system"]));
    theatre
}

/// What is said in a minute after the start, warnings and worse; the Secret is filled within a second all the same.
async fn told_at_the_start(theatre: &Theatre) -> Vec<String> {
    let _running = theatre.stage.start();
    seconds(1).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
    minutes(1).await;
    warnings()
}

fn warnings() -> Vec<String> {
    lines::take(&[]).into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect()
}

/// That there is one line, and that it has these parts.
#[track_caller]
fn one_line(told: &[String], parts: &[&str]) {
    assert!(told.len() == 1 && parts.iter().all(|part| told[0].contains(part)), "{parts:?} in {told:#?}");
}

fn edit_definition(theatre: &Theatre, edit: impl FnOnce(&mut Value)) {
    let mut definition = theatre.stage.kube.get("CustomResourceDefinition", "", DEFINITION).unwrap();
    edit(&mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
    theatre.stage.kube.apply(definition);
}

#[tokio::test(start_paused = true)]
async fn a_whole_installation_is_not_worth_a_word() {
    let theatre = theatre();
    let _running = theatre.stage.start();
    minutes(300).await;
    assert_eq!(warnings(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn row_53_a_definition_of_another_version_is_told_with_its_fields_and_its_fix() {
    let theatre = theatre();
    edit_definition(&theatre, |spec| drop(spec.as_object_mut().unwrap().remove("suspend")));
    let told = told_at_the_start(&theatre).await;
    one_line(&told, &["DefinitionOlder", "drops spec.suspend", "kubectl apply --server-side -k deploy/crd"]);

    edit_definition(&theatre, |spec| {
        spec["suspend"] = json!({"type": "boolean"});
        spec["future"] = json!({"type": "object", "properties": {"field": {"type": "string"}}});
    });
    let told = told_at_the_start(&theatre).await;
    one_line(&told, &["DefinitionNewer", "nothing about spec.future.", "Roll out the controller"]);

    theatre.stage.kube.delete("CustomResourceDefinition", "", DEFINITION);
    let told = told_at_the_start(&theatre).await;
    one_line(&told, &["DefinitionMissing", DEFINITION, "kubectl apply --server-side -k deploy/crd"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_missing_is_told_once_and_one_that_goes_later_within_the_hour() {
    let theatre = theatre();
    theatre.stage.kube.delete("ValidatingAdmissionPolicy", "", POLICIES[0]);
    theatre.stage.kube.delete("ValidatingAdmissionPolicyBinding", "", POLICIES[1]);
    let _running = theatre.stage.start();
    minutes(300).await;
    let told = warnings();
    assert_eq!(told.len(), 2, "{told:#?}");
    one_line(
        &told[..1],
        &["PolicyMissing", POLICIES[0], "is not installed", "safeguard", "kubectl apply -k deploy/policies"],
    );
    one_line(&told[1..], &["PolicyMissing", POLICIES[1], "its binding is not"]);
    theatre.stage.kube.delete("ValidatingAdmissionPolicy", "", POLICIES[2]);
    minutes(61).await;
    one_line(&warnings(), &[POLICIES[2]]);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_look_the_cluster_role_is_named() {
    let theatre = theatre();
    let rest = strict(&["flux-system"]);
    let looked = |resource: &str| resource.starts_with("validatingadmission") || resource.starts_with("customresource");
    theatre.stage.kube.set_authorizer(move |info| !looked(&info.resource) && rest(info));
    let told = told_at_the_start(&theatre).await;
    one_line(
        &told,
        &["PreflightForbidden", "ClusterRole flux-bearer-controller-preflight", "kubectl apply -k deploy/base"],
    );
}

/// A projected token as somebody mounted it.
#[derive(Clone)]
struct Mounted {
    stage: Stage,
    audience: Option<&'static str>,
}

impl Assertion for Mounted {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let now = self.stage.world.clock().now();
        let sign = |audience| self.stage.issuer.sign(SUBJECT, audience, Duration::from_secs(3600), now);
        let token = self.audience.map_or(String::new(), sign);
        async move { Ok(SecretString::from(token)) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_projected_token_that_is_missing_or_for_somebody_else_is_told_and_a_managed_identity_needs_none() {
    let cases = [
        (None, "no projected service account token"),
        (Some(None), "is empty"),
        (Some(Some("https://kubernetes.default.svc")), "the audience https://kubernetes.default.svc"),
    ];
    for (mounted, part) in cases {
        let mut theatre = theatre();
        let spec = json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}});
        theatre.stage.bearer_token("flux-system", &spec);
        let stage = theatre.stage.clone();
        theatre.stage = match mounted {
            None => stage.without_assertion(),
            Some(audience) => {
                let mounted = Mounted { stage: stage.clone(), audience };
                stage.with_assertion(Arc::new(mounted))
            }
        };
        let told = told_at_the_start(&theatre).await;
        let fix = ["ProjectedTokenMissing", "api://AzureADTokenExchange", "AZURE_FEDERATED_TOKEN_FILE", "deploy/base"];
        one_line(&told, &[&[part][..], &fix].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_tell_holds_nothing_up_and_is_asked_again() {
    let theatre = theatre();
    theatre.stage.kube.delete("ValidatingAdmissionPolicy", "", POLICIES[0]);
    for effect in [Effect::Hang, Effect::Refuse, support::answer(503)] {
        theatre.kube_fault("definition", Some("/customresourcedefinitions/"), effect.clone());
        let running = theatre.stage.start();
        seconds(1).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
        minutes(3).await;
        assert_eq!(warnings(), Vec::<String>::new(), "{effect:?}");
        theatre.stage.kube.faults().clear_all();
        seconds(71).await;
        one_line(&warnings(), &[POLICIES[0]]);
        running.kill().await;
    }
}

/// Mints of a controller whose machine's clock is off by this much, in a day with two restarts.
async fn mints(hours: i64) -> u64 {
    let theatre = theatre();
    theatre.stage.machine.step(SignedDuration::from_hours(hours));
    for _ in 0..3 {
        let running = theatre.stage.start();
        for _ in 0..8 * 60 {
            minutes(1).await;
            assert_eq!(theatre.clone("flux-system").await, 200, "{hours} h");
        }
        running.kill().await;
    }
    assert_eq!(theatre.expired_seconds("flux-system"), 0, "{hours} h");
    assert!(!theatre.said().contains("TokenExpired"), "{hours} h");
    theatre.stage.world.journal().mints(&client(0))
}

#[tokio::test(start_paused = true)]
async fn row_18_a_machine_whose_clock_is_an_hour_off_serves_no_expired_token_and_throws_no_good_one_away() {
    let right = mints(0).await;
    for hours in [1, -1] {
        assert_eq!(mints(hours).await, right, "{hours} h");
    }
}

#[tokio::test(start_paused = true)]
async fn row_18_a_clock_that_is_off_is_told_once_with_whose_and_how_much_until_it_changes() {
    for (hours, direction) in [(1, "ahead of"), (-1, "behind")] {
        let theatre = theatre();
        theatre.stage.machine.step(SignedDuration::from_hours(hours));
        let _running = theatre.stage.start();
        minutes(300).await;
        let told = warnings();
        assert_eq!(told.len(), 2, "{told:#?}");
        for whose in ["the API server", "the issuer of the tokens"] {
            let words = format!("60 min {direction} that of {whose}. timedatectl set-ntp true");
            assert!(told.iter().any(|line| line.contains("ClockOff") && line.contains(&words)), "{told:#?}");
        }
        for peer in ["kubernetes", "issuer"] {
            let gauge = format!("flux_bearer_clock_offset_seconds{{peer=\"{peer}\"}} {}", hours * 3600);
            assert!(theatre.said().contains(&gauge), "{gauge}");
        }
        theatre.stage.machine.step(SignedDuration::from_hours(-hours));
        minutes(120).await;
        let agrees = lines::take(&["INFO", "agrees with that of"]);
        assert_eq!(agrees.len(), 2, "{agrees:#?}");
        assert!(theatre.said().contains("flux_bearer_clock_offset_seconds{peer=\"issuer\"} 0"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_knows_no_policies_says_so() {
    let theatre = theatre();
    for kind in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        theatre.stage.kube.remove_resource("admissionregistration.k8s.io", kind);
    }
    let told = told_at_the_start(&theatre).await;
    assert_eq!(told.len(), POLICIES.len(), "{told:#?}");
    assert!(told.iter().all(|line| line.contains("Kubernetes 1.30")), "{told:#?}");
    assert!(theatre.stage.kube.get("Secret", NAMESPACE, "flux-system").is_some());
}
