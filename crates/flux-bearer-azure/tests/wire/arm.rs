//! Azure Resource Manager: what is asked, and what is read of each answer.

use axum::body::Body;
use flux_bearer::failure::arm::Operation;
use flux_bearer::failure::{Class, Failure};
use flux_bearer_azure::arm::{
    Arm, CONTAINER_SERVICE, FederatedCredential, MANAGED_IDENTITY, ManagedCluster, ProviderState, RoleAssignment,
    Scope, TAG, Tags, UserAssigned,
};
use flux_bearer_azure::http::Http;
use http::Response;
use serde_json::{Value, json};

use crate::server::{
    CANARY, CLIENT, Log, TENANT, always, assert_own_words, hostile, json as answer, plain, server, with,
};
use crate::signed_in::session;

const SUBSCRIPTION: &str = "44444444-4444-4444-4444-444444444444";
const PRINCIPAL: &str = "55555555-5555-5555-5555-555555555555";
const ISSUER: &str = "https://westeurope.oic.prod-aks.azure.com/tenant/guid/";
const IDENTITIES: &str = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer-controller";

fn arm(http: Http) -> Arm {
    Arm::new(session(http), SUBSCRIPTION)
}

fn tags() -> Tags {
    Tags::from([(TAG.to_owned(), "production".to_owned())])
}

/// An identity as ARM writes it: `resourcegroups` in its id is in lower case.
fn identity_json() -> Value {
    json!({
        "id": format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/fleet/{IDENTITIES}/flux"),
        "name": "flux", "type": "Microsoft.ManagedIdentity/userAssignedIdentities", "location": "westeurope",
        "tags": {"flux-bearer": "production"},
        "properties": {"tenantId": TENANT, "principalId": PRINCIPAL, "clientId": CLIENT.to_uppercase()},
    })
}

fn identity() -> UserAssigned {
    UserAssigned {
        id: identity_json()["id"].as_str().unwrap().into(),
        group: "fleet".into(),
        name: "flux".into(),
        location: "westeurope".into(),
        tags: tags(),
        client_id: CLIENT.into(),
        principal_id: PRINCIPAL.into(),
        tenant_id: TENANT.into(),
    }
}

fn credential_json() -> Value {
    json!({
        "id": "/subscriptions/x", "name": "c", "type": "x",
        "properties": {"issuer": ISSUER, "subject": SUBJECT, "audiences": ["api://AzureADTokenExchange"]},
    })
}

fn credential() -> FederatedCredential {
    FederatedCredential {
        name: "c".into(),
        issuer: ISSUER.into(),
        subject: SUBJECT.into(),
        audiences: vec!["api://AzureADTokenExchange".into()],
    }
}

fn cluster_json() -> Value {
    json!({
        "id": format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/aks/providers/x/managedClusters/c"),
        "name": "c", "location": "westeurope", "type": "Microsoft.ContainerService/ManagedClusters",
        "properties": {
            "provisioningState": "Succeeded", "kubernetesVersion": "1.34",
            "oidcIssuerProfile": {"enabled": true, "issuerURL": ISSUER},
            "securityProfile": {"workloadIdentity": {"enabled": true}}, "nodeResourceGroup": "MC_x",
        },
        "identity": {"type": "SystemAssigned", "tenantId": TENANT, "principalId": PRINCIPAL},
    })
}

fn error(status: u16, code: &str) -> Response<Body> {
    answer(
        status,
        json!({"error": {"code": code, "message": CANARY, "details": [{"code": CANARY, "message": CANARY}]}}),
    )
}

/// Method, path with query, and body of the requests of a log.
fn sent(log: &Log) -> Vec<(String, String, Value)> {
    let log = log.lock().unwrap();
    let one = |sent: &http::Request<bytes::Bytes>| {
        let path = sent.uri().path_and_query().unwrap().to_string();
        let body = serde_json::from_slice(sent.body()).unwrap_or_default();
        assert_eq!(sent.headers().contains_key("content-type"), !sent.body().is_empty());
        (sent.method().to_string(), path, body)
    };
    log.iter().map(|(_, request)| one(request)).collect()
}

/// A server that answers everything with `body`.
fn says(body: &Value) -> (Arm, Log) {
    let body = body.clone();
    let (http, log) = server(move |_| answer(200, body.clone()));
    (arm(http), log)
}

#[tokio::test(start_paused = true)]
async fn identities_are_made_read_listed_and_deleted() {
    let (one, log) = says(&identity_json());
    assert_eq!(one.identity("fleet", "flux").await.unwrap(), Some(identity()));
    assert_eq!(one.put_identity("fleet", "flux", "westeurope", &tags()).await.unwrap(), identity());
    one.delete_identity("fleet", "flux").await.unwrap();
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/fleet");
    let path = format!("{group}/{IDENTITIES}/flux?api-version=2024-11-30");
    let body = json!({"location": "westeurope", "tags": {"flux-bearer": "production"}});
    assert_eq!(
        sent(&log),
        [
            ("GET".into(), path.clone(), Value::Null),
            ("PUT".into(), path.clone(), body),
            ("DELETE".into(), path, Value::Null),
        ]
    );

    let (all, log) = says(&json!({"value": [identity_json()], "nextLink": null}));
    assert_eq!(all.identities().await.unwrap(), [identity()]);
    let path = format!("/subscriptions/{SUBSCRIPTION}/{IDENTITIES}?api-version=2024-11-30");
    assert_eq!(sent(&log), [("GET".into(), path, Value::Null)]);
}

#[tokio::test(start_paused = true)]
async fn federated_credentials_are_listed_written_and_deleted() {
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/fleet");
    let base = format!("{group}/{IDENTITIES}/flux/federatedIdentityCredentials");
    let (list, log) = says(&json!({"value": [credential_json()]}));
    assert_eq!(list.federated_credentials("fleet", "flux").await.unwrap(), [credential()]);
    assert_eq!(sent(&log), [("GET".into(), format!("{base}?api-version=2024-11-30"), Value::Null)]);

    let (one, log) = says(&credential_json());
    assert_eq!(one.put_federated_credential("fleet", "flux", &credential()).await.unwrap(), credential());
    one.delete_federated_credential("fleet", "flux", "c").await.unwrap();
    let body =
        json!({"properties": {"issuer": ISSUER, "subject": SUBJECT, "audiences": ["api://AzureADTokenExchange"]}});
    let path = format!("{base}/c?api-version=2024-11-30");
    assert_eq!(sent(&log), [("PUT".into(), path.clone(), body), ("DELETE".into(), path, Value::Null)]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_meets_another_one_is_tried_again() {
    let busy = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity";
    let (http, log) = server(move |n| if n < 2 { error(409, busy) } else { answer(201, credential_json()) });
    arm(http).put_federated_credential("fleet", "flux", &credential()).await.unwrap();
    assert_eq!(log.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn clusters_are_read_with_their_issuer() {
    let whole = ManagedCluster {
        id: cluster_json()["id"].as_str().unwrap().into(),
        group: "aks".into(),
        name: "c".into(),
        location: "westeurope".into(),
        kubernetes_version: Some("1.34".into()),
        issuer: Some(ISSUER.into()),
        oidc_enabled: true,
        workload_identity_enabled: true,
    };
    let (one, log) = says(&cluster_json());
    assert_eq!(one.managed_cluster("aks", "c").await.unwrap(), Some(whole.clone()));
    let kind = "providers/Microsoft.ContainerService/managedClusters";
    let path = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/aks/{kind}/c?api-version=2026-08-01");
    assert_eq!(sent(&log), [("GET".into(), path, Value::Null)]);

    let bare = |properties: Value| {
        let mut cluster = cluster_json();
        cluster["properties"] = properties;
        cluster
    };
    let disabled = json!({"oidcIssuerProfile": null, "securityProfile": {"workloadIdentity": null}});
    let (all, log) = says(&json!({"value": [cluster_json(), bare(json!({})), bare(disabled)]}));
    let without = ManagedCluster {
        kubernetes_version: None,
        issuer: None,
        oidc_enabled: false,
        workload_identity_enabled: false,
        ..whole.clone()
    };
    assert_eq!(all.managed_clusters().await.unwrap(), [whole, without.clone(), without]);
    let path = format!("/subscriptions/{SUBSCRIPTION}/{kind}?api-version=2026-08-01");
    assert_eq!(sent(&log), [("GET".into(), path, Value::Null)]);
}

#[tokio::test(start_paused = true)]
async fn groups_and_subscriptions_are_read_and_groups_made() {
    let (one, log) = says(&json!({"id": "x", "name": "My Group (1)", "location": "westeurope", "tags": null}));
    let group = one.resource_group("My Group (1)").await.unwrap().unwrap();
    assert_eq!((&*group.name, &*group.location, group.tags.len()), ("My Group (1)", "westeurope", 0));
    one.put_resource_group("My Group (1)", "westeurope", &tags()).await.unwrap();
    let path = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/My%20Group%20(1)?api-version=2025-04-01");
    let body = json!({"location": "westeurope", "tags": {"flux-bearer": "production"}});
    assert_eq!(sent(&log), [("GET".into(), path.clone(), Value::Null), ("PUT".into(), path, body)]);

    let subscription =
        json!({"subscriptionId": SUBSCRIPTION, "displayName": "Pay\u{1b}[31m", "tenantId": TENANT, "state": "Enabled"});
    let (one, log) = says(&subscription);
    let read = one.subscription().await.unwrap();
    assert_eq!((&*read.id, &*read.tenant_id, &*read.name), (SUBSCRIPTION, TENANT, "Pay[31m"));
    let http = {
        let body = json!({"value": [subscription]});
        server(move |_| answer(200, body.clone())).0
    };
    assert_eq!(Arm::subscriptions(&session(http)).await.unwrap(), [read]);
    assert_eq!(sent(&log)[0].1, format!("/subscriptions/{SUBSCRIPTION}?api-version=2022-12-01"));
}

#[tokio::test(start_paused = true)]
async fn rights_are_asked_for_where_something_is_to_be_done() {
    let (one, log) = says(
        &json!({"value": [{"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"], "dataActions": []}]}),
    );
    let permissions = one.permissions(Scope::Group("fleet")).await.unwrap();
    assert!(permissions.allows(&Operation::WriteIdentity.action()));
    assert!(!permissions.allows("Microsoft.Authorization/roleAssignments/write"));
    one.permissions(Scope::Subscription).await.unwrap();
    let of = |scope: &str| {
        format!(
            "/subscriptions/{SUBSCRIPTION}{scope}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
        )
    };
    assert_eq!(
        sent(&log).into_iter().map(|(_, path, _)| path).collect::<Vec<_>>(),
        [of("/resourceGroups/fleet"), of("")]
    );
}

#[tokio::test(start_paused = true)]
async fn the_roles_of_a_principal_are_asked_for_by_its_object_id() {
    let id = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments/{TENANT}");
    let scope = format!("/subscriptions/{SUBSCRIPTION}");
    let (one, log) = says(&json!({"value": [{"id": id, "properties": {"principalId": PRINCIPAL, "scope": scope}}]}));
    assert_eq!(one.role_assignments(PRINCIPAL).await.unwrap(), [RoleAssignment { id, scope }]);
    assert_eq!(
        sent(&log)[0].1,
        format!(
            "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments\
             ?%24filter=principalId+eq+%27{PRINCIPAL}%27&api-version=2022-04-01"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_registered_and_asked_after() {
    for (state, expected) in [
        ("Registered", ProviderState::Registered),
        ("registering", ProviderState::Registering),
        ("NotRegistered", ProviderState::NotRegistered),
        ("Unregistered", ProviderState::NotRegistered),
    ] {
        let (one, log) = says(&json!({"namespace": MANAGED_IDENTITY, "registrationState": state}));
        assert_eq!(one.provider_state(MANAGED_IDENTITY).await.unwrap(), expected);
        one.register_provider(CONTAINER_SERVICE).await.unwrap();
        let path = |rest: &str| format!("/subscriptions/{SUBSCRIPTION}/providers/{rest}?api-version=2016-02-01");
        assert_eq!(
            sent(&log),
            [
                ("GET".into(), path("Microsoft.ManagedIdentity"), Value::Null),
                ("POST".into(), path("Microsoft.ContainerService/register"), Value::Null),
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_an_answer_and_no_failure() {
    for code in ["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"] {
        let arm = arm(server(move |_| error(404, code)).0);
        assert_eq!(arm.identity("g", "n").await.unwrap(), None);
        assert_eq!(arm.managed_cluster("g", "n").await.unwrap(), None);
        assert_eq!(arm.resource_group("g").await.unwrap(), None);
        arm.delete_identity("g", "n").await.unwrap();
        arm.delete_federated_credential("g", "n", "c").await.unwrap();
        let failure = arm.federated_credentials("g", "n").await.unwrap_err();
        assert_eq!((failure.reason, &*failure.code), ("ResourceNotFound", code));
    }
    for gone in [plain(204, ""), plain(200, "")] {
        let status = gone.status();
        arm(always(status.as_u16(), "").0).delete_identity("g", "n").await.unwrap();
    }
    let arm = arm(server(|_| error(404, "SubscriptionNotFound")).0);
    assert_eq!(arm.identity("g", "n").await.unwrap_err().code, "SubscriptionNotFound");
    assert!(arm.delete_identity("g", "n").await.is_err());
    let arm = self::arm(always(404, "<html>").0);
    assert!(arm.identity("g", "n").await.is_err(), "a 404 of something else says nothing of the identity");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_the_right_that_is_missing_and_where() {
    let arm = arm(server(|_| error(403, "AuthorizationFailed")).0);
    let failure = arm.put_identity("fleet", "flux", "westeurope", &tags()).await.unwrap_err();
    assert_eq!((failure.reason, failure.class), ("Forbidden", Class::Permanent));
    assert!(failure.cause.contains("Microsoft.ManagedIdentity/userAssignedIdentities/write"), "{failure}");
    assert!(
        failure.fix.contains(&format!("--scope \"/subscriptions/{SUBSCRIPTION}/resourceGroups/fleet\"")),
        "{failure}"
    );
    assert_own_words(&failure, "a refusal");
    let failure = arm.identities().await.unwrap_err();
    assert!(failure.fix.contains(&format!("--scope \"/subscriptions/{SUBSCRIPTION}\"")), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_read_to_its_end() {
    let page = |n: usize, next: Option<&str>| {
        let next = next.map(|query| format!("https://management.azure.com/next?{query}"));
        json!({"value": if n == 1 { vec![] } else { vec![credential_json()] }, "nextLink": next})
    };
    let (http, log) = server(move |n| answer(200, page(n, ["$skiptoken=1", "$skiptoken=2"].get(n).copied())));
    assert_eq!(arm(http).federated_credentials("g", "n").await.unwrap().len(), 2);
    let paths: Vec<String> = sent(&log).into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths[1..], ["/next?$skiptoken=1", "/next?$skiptoken=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_an_end_or_with_another_host_is_given_up() {
    let (http, log) = server(|_| answer(200, json!({"value": [], "nextLink": "https://management.azure.com/again"})));
    assert_eq!(arm(http).identities().await.unwrap_err().code, "TooManyPages");
    assert_eq!(log.lock().unwrap().len(), 100);

    let (http, log) = server(|_| answer(200, json!({"value": [], "nextLink": "https://evil.example/"})));
    let failure = arm(http).identities().await.unwrap_err();
    assert_own_words(&failure, "another host");
    assert_eq!(log.lock().unwrap().len(), 1, "the token goes nowhere else");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_would_lead_elsewhere_is_not_sent() {
    let (http, log) = server(|_| answer(200, identity_json()));
    let arm = arm(http);
    for name in ["", ".", ".."] {
        assert!(arm.identity(name, "flux").await.is_err() && arm.identity("fleet", name).await.is_err());
    }
    assert!(log.lock().unwrap().is_empty());
    arm.identity("a/../b", "c?d").await.unwrap();
    assert!(sent(&log)[0].1.contains("/resourceGroups/a%2F..%2Fb/") && sent(&log)[0].1.contains("/c%3Fd?"));
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_none_is_not_read() {
    for (pointer, value) in [
        ("/properties/clientId", json!(CANARY)),
        ("/properties/principalId", Value::Null),
        ("/properties/tenantId", json!("")),
        ("/name", json!("a\u{1b}[2J")),
        ("/id", json!("/subscriptions/x")),
        ("/location", json!("x".repeat(3000))),
    ] {
        let mut body = identity_json();
        *body.pointer_mut(pointer).unwrap() = value;
        let failure = says(&body).0.identity("fleet", "flux").await.unwrap_err();
        assert_eq!(failure.code, "AnswerMalformed", "{pointer}");
        assert_own_words(&failure, pointer);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    async fn all(arm: &Arm) -> Vec<Result<(), Failure>> {
        vec![
            arm.identity("g", "n").await.map(drop),
            arm.put_identity("g", "n", "l", &Tags::new()).await.map(drop),
            arm.permissions(Scope::Subscription).await.map(drop),
        ]
    }
    for (what, hostile) in hostile() {
        let arm = arm(server(move |_| with(hostile(), &[("x-ms-request-id", CANARY)])).0);
        for failure in all(&arm).await {
            assert_own_words(&failure.unwrap_err(), what);
        }
    }
}
