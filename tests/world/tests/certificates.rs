//! Sign-in with a certificate: that it works, that its end is said in time, and that its successor takes over.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use flux_bearer_world::certificates::Pair;
use flux_bearer_world::identities::{APPLICATION, TENANT, client};
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};
use support::{Theatre, minutes, seconds};

const DAY: u64 = 24 * 60;

/// A stage whose BearerToken `fleet` signs in with `pair`, which is registered.
fn signed_in_with(pair: &Pair) -> Theatre {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.credential(&pair.data());
    theatre.stage.register(&[pair]).unwrap();
    let identity = json!({
        "type": "ClientCertificate", "clientId": client(APPLICATION), "tenantId": TENANT,
        "secretRef": {"name": "credential"},
    });
    theatre.stage.bearer_token("fleet", &json!({"identity": identity}));
    theatre
}

/// The Events with this reason, and how often each was seen.
fn told(theatre: &Theatre, reason: &str) -> Vec<(Value, Value)> {
    let events = theatre.stage.kube.list("Event").into_iter().filter(|event| event["reason"] == reason);
    events.map(|event| (event["type"].clone(), event["count"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_signs_in() {
    let theatre = signed_in_with(&Pair::rsa((2026, 1, 1), (2028, 1, 1)).unwrap());
    let _running = theatre.stage.start();
    seconds(5).await;
    assert_eq!(
        theatre.stage.says("fleet", "Ready"),
        "True Succeeded",
        "{:?}",
        theatre.stage.condition("fleet", "Ready")
    );
    assert_eq!(theatre.clone("fleet").await, 200);
    minutes(DAY).await;
    assert_eq!(theatre.expired_seconds("fleet"), 0);
    assert_eq!(theatre.stage.says("fleet", "CredentialExpiring"), "");
    let metric =
        "flux_bearer_credential_expiry_timestamp_seconds{exported_namespace=\"flux-system\",name=\"fleet\"} 1830297600";
    assert!(theatre.said().contains(metric));
}

#[tokio::test(start_paused = true)]
async fn its_end_is_said_thirty_days_before_and_once() {
    // It is the first of December: thirty days before the end is on the third.
    let theatre = signed_in_with(&Pair::rsa((2026, 1, 1), (2027, 1, 2)).unwrap());
    let running = theatre.stage.start();
    minutes(DAY + 15 * 60).await;
    assert_eq!(theatre.stage.says("fleet", "CredentialExpiring"), "", "33 h 1 min are left until then");
    minutes(DAY).await;
    let (status, reason, message) = theatre.stage.condition("fleet", "CredentialExpiring").unwrap();
    assert_eq!((&*status, &*reason), ("True", "CertificateExpires"));
    assert!(message.contains("Secret credential is valid until 2027-01-02T00:00:00Z"), "{message}");
    assert!(message.contains("put it there (tls.crt, tls.key)"), "{message}");
    let (_, reason, message) = theatre.stage.condition("fleet", "Ready").unwrap();
    assert_eq!(reason, "Succeeded");
    assert!(message.ends_with("; the certificate it signs in with is valid until 2027-01-02T00:00:00Z"), "{message}");

    assert!(running.stop().await.is_some());
    let _running = theatre.stage.start();
    minutes(DAY).await;
    assert_eq!(told(&theatre, "CertificateExpires"), [(json!("Warning"), json!(1))], "not again after a restart");

    let next = Pair::rsa((2026, 12, 1), (2028, 1, 1)).unwrap();
    theatre.stage.register(&[&next]).unwrap();
    theatre.stage.credential(&next.data());
    minutes(60).await;
    assert_eq!(theatre.stage.says("fleet", "CredentialExpiring"), "");
    let message = theatre.stage.condition("fleet", "Ready").unwrap().2;
    assert!(!message.contains("certificate"), "{message}");
    assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "");
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn after_its_end_the_token_serves_out_its_life_and_a_successor_is_found() {
    let theatre = signed_in_with(&Pair::rsa((2026, 1, 1), (2026, 12, 2)).unwrap());
    let _running = theatre.stage.start();
    minutes(16 * 60 + 28).await;
    let says = |condition| theatre.stage.says("fleet", condition);
    assert_eq!(
        (says("Ready").as_str(), says("RefreshFailing").as_str()),
        ("True Succeeded", "True CredentialRejected")
    );
    let message = theatre.stage.condition("fleet", "RefreshFailing").unwrap().2;
    assert!(message.contains("CertificateExpired") && message.contains("az ad app credential reset"), "{message}");

    let next = Pair::rsa((2026, 12, 1), (2028, 1, 1)).unwrap();
    theatre.stage.register(&[&next]).unwrap();
    theatre.stage.credential(&next.data());
    minutes(5).await;
    assert_eq!((says("Ready").as_str(), says("RefreshFailing").as_str()), ("True Succeeded", ""));
    assert_eq!(theatre.expired_seconds("fleet"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_registered_is_said_to_be() {
    let theatre = signed_in_with(&Pair::rsa((2026, 1, 1), (2028, 1, 1)).unwrap());
    theatre.stage.register(&[]).unwrap();
    let _running = theatre.stage.start();
    minutes(5).await;
    let (status, reason, message) = theatre.stage.condition("fleet", "Ready").unwrap();
    assert_eq!((&*status, &*reason), ("False", "CredentialRejected"));
    assert!(message.contains("AADSTS700027") && message.contains("az ad app credential list --cert"), "{message}");
    assert_eq!(theatre.stage.kube.get("Secret", NAMESPACE, "fleet"), None);
}
