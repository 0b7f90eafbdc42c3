//! The BearerToken as the API server sees it: its schema, its CEL rules, and the shipped definition.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use flux_bearer::resource::{BearerToken, Format, IdentityKind, IdentitySpec, SecretSpec, definition};
use serde_json::{Value, json};

const GUID: &str = "11111111-1111-1111-1111-111111111111";

fn token(spec: &Value) -> BearerToken {
    let object = json!({"apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken", "metadata": {"name": "a"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn schema() -> Value {
    let definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Runs the CEL rules of spec.identity on `identity`, as the API server does, and returns what it says.
fn said(identity: &Value) -> String {
    // The API server fills in defaults before it checks.
    let spec: IdentitySpec = serde_json::from_value(identity.clone()).unwrap();
    let filled = serde_json::to_value(spec).unwrap();
    match kube::core::cel::validate_cel_schema::<IdentitySpec>(&filled, None) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn an_empty_spec_means_the_pods_identity_and_the_bearer_key() {
    let spec = token(&json!({})).spec;
    assert_eq!(spec.identity.kind, IdentityKind::WorkloadIdentity);
    assert_eq!(spec.secret.formats, [Format::Bearer]);
}

#[test]
fn what_becomes_of_the_secret_is_stored_only_where_somebody_said_it() {
    for said in [json!({"formats": ["Bearer"]}), json!({"formats": ["Bearer"], "deletionPolicy": "Delete"})] {
        let spec: SecretSpec = serde_json::from_value(said.clone()).unwrap();
        assert_eq!(serde_json::to_value(spec).unwrap(), said);
    }
}

#[test]
fn formats_are_taken_sorted_and_once_in_every_combination() {
    let all = [Format::Bearer, Format::Basic, Format::Token];
    for chosen in 1..8 {
        let wanted: Vec<Format> = (0..3).filter(|bit| chosen >> bit & 1 == 1).map(|bit| all[bit]).collect();
        let backwards: Vec<Format> = wanted.iter().rev().chain(&wanted).copied().collect();
        assert_eq!(Format::set(&backwards), wanted);
    }
    assert_eq!(Format::set(&[]), [Format::Bearer]);
}

#[test]
fn cel_refuses_what_does_not_go_together() {
    let cases = [
        (json!({"type": "WorkloadIdentity", "objectId": GUID}), "ManagedIdentity"),
        (json!({"type": "ManagedIdentity", "clientId": GUID, "objectId": GUID}), "one of clientId"),
        (json!({"type": "ManagedIdentity", "tenantId": "t"}), "remove tenantId"),
        (json!({"type": "ClientSecret", "clientId": GUID, "tenantId": "t"}), "secretRef"),
        (json!({"type": "ClientCertificate", "clientId": GUID, "tenantId": "t"}), "secretRef"),
        (json!({"type": "WorkloadIdentity", "secretRef": {"name": "s"}}), "secretRef"),
        (json!({"type": "ManagedIdentity", "serviceAccountName": "a"}), "serviceAccountName"),
        (
            json!({"type": "ClientSecret", "clientId": GUID, "tenantId": "t", "secretRef": {"name": "s"}, "serviceAccountName": "a"}),
            "serviceAccountName",
        ),
    ];
    for (identity, expected) in cases {
        let message = said(&identity);
        assert!(message.contains(expected), "{identity}: {message}");
    }
}

#[test]
fn cel_accepts_every_kind_of_identity() {
    for identity in [
        json!({}),
        json!({"clientId": GUID, "tenantId": "contoso.com"}),
        json!({"serviceAccountName": "app"}),
        json!({"type": "ManagedIdentity"}),
        json!({"type": "ManagedIdentity", "resourceId": "/subscriptions/s/resourcegroups/g"}),
        json!({"type": "ClientSecret", "clientId": GUID, "tenantId": "t", "secretRef": {"name": "s"}}),
        json!({"type": "ClientCertificate", "clientId": GUID, "tenantId": "t", "secretRef": {"name": "s"}}),
    ] {
        assert_eq!(said(&identity), "", "{identity}");
    }
}

#[test]
fn a_bearer_token_nobody_has_looked_at_is_in_progress() {
    assert_eq!(schema()["properties"]["status"]["default"], json!({"observedGeneration": -1}));
}

#[test]
fn no_reference_can_cross_a_namespace() {
    let text = schema()["properties"]["spec"].to_string();
    assert!(!text.contains("\"namespace\""), "{text}");
}

#[test]
fn the_shipped_definition_is_fresh() {
    let shipped = include_str!("../../../deploy/crd/bearertokens.yaml");
    let shipped: Value = serde_saphyr::from_str(shipped).unwrap();
    assert_eq!(
        shipped,
        serde_json::to_value(definition()).unwrap(),
        "run: cargo run -p flux-bearer --example crd > deploy/crd/bearertokens.yaml"
    );
}
