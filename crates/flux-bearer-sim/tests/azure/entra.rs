//! Entra ID: every refusal, the tokens, discovery, propagation, keys of issuers.

use std::time::Duration;

use flux_bearer_sim::canary;
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::journal::Endpoint;
use flux_bearer_sim::jwt::Jwt;
use flux_bearer_sim::state::{AssertionRefusal, ErrorLines, FederatedCredential, IssuerState, Mismatch, State};
use http::Method;
use jiff::SignedDuration;
use serde_json::json;

use super::support::*;

/// The managed identity of the state.
fn flux(state: &mut State) -> &mut flux_bearer_sim::state::Application {
    &mut state.tenants[0].applications[0]
}

struct Row {
    code: u64,
    status: u16,
    error: &'static str,
    tenant: &'static str,
    fields: Vec<(&'static str, String)>,
    edit: fn(&mut State),
}

fn federated_row(code: u64, status: u16, error: &'static str, assertion: &str) -> Row {
    let fields = federated(assertion, SCOPE).map(|(name, value)| (name, value.to_owned())).to_vec();
    Row { code, status, error, tenant: TENANT, fields, edit: |_| {} }
}

fn secret_row(code: u64, status: u16, error: &'static str, secret: &str) -> Row {
    let fields = by_secret(secret, SCOPE).map(|(name, value)| (name, value.to_owned())).to_vec();
    Row { code, status, error, tenant: TENANT, fields, edit: |_| {} }
}

impl Row {
    fn tenant(self, tenant: &'static str) -> Self {
        Self { tenant, ..self }
    }

    fn edit(self, edit: fn(&mut State)) -> Self {
        Self { edit, ..self }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.retain(|(other, _)| *other != name);
        self.fields.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.fields.retain(|(other, _)| *other != name);
        self
    }
}

fn rows(azure: &Azure) -> Vec<Row> {
    let (request, client) = ("invalid_request", "invalid_client");
    let good = || azure.assertion();
    let hour = Duration::from_hours(1);
    let now = azure.now();
    let stranger = Issuer::new(ISSUER).unwrap();
    let elsewhere = Issuer::new(ISSUER.trim_end_matches('/')).unwrap();
    let ok = |code, status, error| federated_row(code, status, error, &good());
    vec![
        ok(90002, 400, request).tenant("00000000-0000-4000-8000-00000000dead"),
        ok(90002, 400, request).tenant("unknown.example"),
        ok(900_023, 400, request).tenant("nonsense"),
        ok(900_021, 400, request).tenant("00000000-0000-0000-0000-000000000000"),
        ok(900_144, 400, request).without("grant_type"),
        ok(900_144, 400, request).without("client_id"),
        ok(900_144, 400, request).without("scope"),
        ok(900_144, 400, request).without("client_assertion_type"),
        ok(90014, 400, request).with("client_assertion_type", "urn:other"),
        ok(70003, 400, "unsupported_grant_type").with("grant_type", "password"),
        ok(7_000_216, 400, request).without("client_assertion"),
        ok(7_000_218, 401, client).with("client_assertion", ""),
        ok(700_016, 400, "unauthorized_client").with("client_id", "44444444-4444-4444-8444-444444444444"),
        ok(7_000_112, 400, "unauthorized_client").edit(|state| flux(state).disabled = true),
        federated_row(50027, 400, request, "garbage"),
        ok(70025, 401, client).edit(|state| flux(state).federated_credentials.clear()),
        federated_row(700_211, 401, client, &elsewhere.sign(SUBJECT, AUDIENCE, hour, now)),
        federated_row(700_213, 401, client, &azure.assertion_of("system:serviceaccount:default:flux-bearer")),
        federated_row(7_002_138, 401, client, &azure.assertion_of("system:serviceaccount:flux-system:Flux-Bearer")),
        federated_row(700_212, 401, client, &azure.issuer.sign(SUBJECT, "api://AKSIdentityBinding", hour, now)),
        federated_row(70023, 401, client, &azure.issuer.sign(SUBJECT, AUDIENCE, Duration::from_secs(90_001), now)),
        federated_row(70023, 400, request, &azure.issuer.sign(SUBJECT, AUDIENCE, Duration::from_hours(8760), now))
            .edit(|state| state.defaults.assertion_refusal = AssertionRefusal::InvalidRequest),
        federated_row(
            700_024,
            401,
            client,
            &azure.issuer.sign(SUBJECT, AUDIENCE, hour, now - SignedDuration::from_hours(1)),
        ),
        federated_row(
            700_024,
            401,
            client,
            &azure.issuer.sign(SUBJECT, AUDIENCE, hour, now + SignedDuration::from_secs(1)),
        ),
        federated_row(700_027, 401, client, &stranger.sign(SUBJECT, AUDIENCE, hour, now)),
        ok(90061, 400, request).edit(|state| state.issuers.clear()),
        federated_row(70021, 401, client, &azure.assertion_of("system:serviceaccount:default:flux-bearer"))
            .edit(|state| state.defaults.mismatch = Mismatch::Generic),
        secret_row(7_000_215, 401, client, "wrong"),
        secret_row(7_000_222, 401, client, "old"),
        secret_row(7_000_218, 401, client, ""),
        ok(1_002_012, 400, "invalid_scope").with("scope", DEVOPS),
        ok(70011, 400, "invalid_scope").with("scope", &format!("{SCOPE} https://graph.microsoft.com/.default")),
        ok(500_011, 400, "invalid_resource").with("scope", "api://unknown/.default"),
        ok(500_011, 400, "invalid_resource").edit(|state| state.tenants[0].absent_resources = vec![DEVOPS.to_owned()]),
        ok(53003, 400, "interaction_required").edit(|state| flux(state).blocked_by_conditional_access = true),
    ]
}

#[tokio::test(start_paused = true)]
async fn refuses_each_fault_with_its_code() {
    let count = rows(&Azure::new()).len();
    for at in 0..count {
        let azure = Azure::new();
        let row = rows(&azure).remove(at);
        azure.world.edit(row.edit).unwrap();
        let fields: Vec<(&str, &str)> = row.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = azure.token_of(row.tenant, &fields).await;
        let seen = (answer.code(), answer.status.as_u16(), answer.json()["error"].as_str().unwrap().to_owned());
        assert_eq!(seen, (row.code, row.status, row.error.to_owned()), "{}", answer.text);
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(description.starts_with(&format!("AADSTS{}: ", row.code)), "{description}");
        assert_eq!(azure.world.journal().requests(Endpoint::Token)[0].code, u32::try_from(row.code).ok());
        assert_eq!(azure.world.journal().mints(FLUX), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn words_a_refusal_as_entra_does() {
    let azure = Azure::new();
    let mut request = token_request(TENANT, &by_secret("wrong", SCOPE));
    let correlation = "00fcf2da-1cd2-425a-b155-0b10daeb00c5";
    request.headers_mut().insert("client-request-id", correlation.parse().unwrap());
    let answer = azure.send(request).await;
    let body = answer.json();
    let trace = body["trace_id"].as_str().unwrap();
    let stamp = "2026-11-22 10:00:00Z";
    let expected = json!({
        "error": "invalid_client",
        "error_description": format!("AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{APP}'. Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"),
        "error_codes": [7_000_215],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": "https://login.microsoftonline.com/error?code=7000215",
    });
    assert_eq!(body, expected);
    assert_eq!(answer.header("x-ms-request-id"), trace);
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-store, no-cache");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 3);

    azure.world.edit(|state| state.defaults.error_lines = ErrorLines::CrLf).unwrap();
    let answer = azure.token(&by_secret("wrong", SCOPE)).await;
    assert!(answer.json()["error_description"].as_str().unwrap().contains("\r\nTrace ID: "));
}

#[tokio::test(start_paused = true)]
async fn answers_get_as_an_empty_request() {
    let azure = Azure::new();
    let answer = azure.get(&format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"), &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, 900_144));
}

#[tokio::test(start_paused = true)]
async fn mints_for_a_federated_managed_identity() {
    let azure = Azure::new();
    let answer = azure.federate(&azure.assertion()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"], &body["ext_expires_in"], body.get("refresh_in")),
        (&json!("Bearer"), &json!(86_399), &json!(86_399), None)
    );
    let jwt = azure.verified(body["access_token"].as_str().unwrap()).await;
    let now = azure.now().as_second();
    let claims = jwt.claims();
    let expected = json!({
        "aud": DEVOPS,
        "iss": format!("https://sts.windows.net/{TENANT}/"),
        "iat": now - 300,
        "nbf": now - 300,
        "exp": now + 86_400,
        "appid": FLUX,
        "appidacr": "2",
        "idp": format!("https://sts.windows.net/{TENANT}/"),
        "idtyp": "app",
        "oid": FLUX_OID,
        "sub": FLUX_OID,
        "tid": TENANT,
        "ver": "1.0",
        "xms_mirid": "/subscriptions/s/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/flux",
    });
    for (claim, value) in expected.as_object().unwrap() {
        assert_eq!(&claims[claim], value, "{claim}");
    }
    assert_eq!(jwt.header()["x5t"], jwt.header()["kid"]);
    assert!(body["access_token"].as_str().unwrap().starts_with(canary::ACCESS_TOKEN));
    assert_eq!(azure.world.journal().mints(FLUX), 1);
}

#[tokio::test(start_paused = true)]
async fn mints_afresh_for_every_request() {
    let azure = Azure::new();
    let (first, second) = (azure.mint().await, azure.mint().await);
    let uti = |token: &str| Jwt::parse(token).unwrap().text("uti").to_owned();
    assert_ne!(uti(&first), uti(&second));
    assert_eq!(azure.world.journal().mints(FLUX), 2);
}

#[tokio::test(start_paused = true)]
async fn takes_a_secret_from_the_form_or_from_basic_authentication() {
    let azure = Azure::new();
    let jwt = azure.verified(&azure.mint_with_secret(SCOPE).await).await;
    assert_eq!((jwt.text("appid"), jwt.text("appidacr")), (APP, "1"));
    assert_eq!(jwt.seconds("exp").unwrap() - jwt.seconds("iat").unwrap(), 3900);
    assert!(jwt.claims().get("xms_mirid").is_none());

    let mut request = token_request(TENANT, &[("grant_type", "client_credentials"), ("scope", SCOPE)]);
    let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    request.headers_mut().insert("authorization", basic(APP, &encoded).parse().unwrap());
    assert_eq!(azure.send(request).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn takes_what_real_clients_send_along() {
    let azure = Azure::new();
    let assertion = azure.assertion();
    let scope = format!("{SCOPE} openid offline_access profile");
    let mut fields = federated(&assertion, &scope).to_vec();
    fields.extend([
        ("client_info", "1"),
        ("x-client-SKU", "MSAL.Go"),
        ("x-ms-lib-capability", "retry-after, h429"),
        ("claims", r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#),
    ]);
    let answer = azure.token_of("fabrikam.example", &fields).await;
    let jwt = azure.verified(answer.json()["access_token"].as_str().unwrap()).await;
    assert_eq!(jwt.claims()["xms_cc"], json!(["CP1"]));
    for host in ["login.windows.net", "login.microsoft.com", "sts.windows.net"] {
        let mut request = token_request(TENANT, &fields);
        *request.uri_mut() = format!("https://{host}/{TENANT}/oauth2/v2.0/token").parse().unwrap();
        assert_eq!(azure.send(request).await.status, 200, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn obeys_the_lifetimes_of_the_state() {
    let azure = Azure::new();
    azure
        .world
        .edit(|state| {
            flux(state).token_lifetime_seconds = Some(60);
            flux(state).refresh_in_seconds = Some(30);
        })
        .unwrap();
    let body = azure.federate(&azure.assertion()).await.json();
    assert_eq!((&body["expires_in"], &body["refresh_in"]), (&json!(60), &json!(30)));
}

#[tokio::test(start_paused = true)]
async fn fetches_keys_again_for_an_unknown_key_id() {
    let azure = Azure::new();
    azure.mint().await;
    azure.issuer.rotate().unwrap();
    azure.mint().await;
    // What was fetched stays good while the issuer can't be reached.
    let unreachable = Issuer::new("https://other.example").unwrap();
    let world = azure.world.clone().with_issuer_client(unreachable.service());
    let azure = Azure { world, ..azure };
    azure.mint().await;
    azure.issuer.rotate().unwrap();
    assert_eq!(azure.federate(&azure.assertion()).await.code(), 90061);
}

#[tokio::test(start_paused = true)]
async fn uses_keys_of_the_state_without_fetching() {
    let azure = Azure::new();
    let jwks = Some(azure.issuer.jwks());
    azure
        .world
        .edit(|state| state.issuers = vec![IssuerState { issuer: ISSUER.to_owned(), jwks, ca_file: None }])
        .unwrap();
    let world = azure.world.clone().with_issuer_client(Issuer::new("https://other.example").unwrap().service());
    Azure { world, ..azure }.mint().await;
}

#[tokio::test(start_paused = true)]
async fn refuses_a_new_credential_until_it_has_propagated_and_longer_when_asked_early() {
    let azure = Azure::new();
    let subject = "system:serviceaccount:flux-system:new";
    azure
        .world
        .edit(|state| {
            state.defaults.propagation_seconds = 30;
            state.defaults.negative_cache_seconds = 120;
            flux(state).federated_credentials.push(FederatedCredential {
                name: "new".to_owned(),
                issuer: ISSUER.to_owned(),
                subject: subject.to_owned(),
                audience: AUDIENCE.to_owned(),
                created_at: None,
            });
        })
        .unwrap();
    azure.mint().await;
    let ask = async || {
        let answer = azure.federate(&azure.assertion_of(subject)).await;
        if answer.status == 200 { 0 } else { answer.code() }
    };
    assert_eq!(ask().await, 700_213);
    azure.world.clock().sleep(Duration::from_secs(119)).await;
    assert_eq!(ask().await, 700_213, "asking too early is remembered");
    azure.world.clock().sleep(Duration::from_secs(1)).await;
    assert_eq!(ask().await, 0);
}

#[tokio::test(start_paused = true)]
async fn knows_a_new_application_once_it_has_propagated() {
    let azure = Azure::new();
    azure
        .world
        .edit(|state| {
            state.defaults.propagation_seconds = 30;
            flux(state).client_id = "55555555-5555-4555-8555-555555555555".to_owned();
            state.imds.user_assigned.clear();
        })
        .unwrap();
    let assertion = azure.assertion();
    let mut fields = federated(&assertion, SCOPE);
    fields[1].1 = "55555555-5555-4555-8555-555555555555";
    assert_eq!(azure.token(&fields).await.code(), 700_016);
    azure.world.clock().sleep(Duration::from_secs(30)).await;
    assert_eq!(azure.token(&fields).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn discovers_instances_and_tenants() {
    let azure = Azure::new();
    let url = format!(
        "https://login.microsoftonline.com/common/discovery/instance?api-version=1.1&authorization_endpoint=https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize"
    );
    let answer = azure.get(&url, &[]).await;
    let discovery = format!("https://login.microsoftonline.com/{TENANT}/v2.0/.well-known/openid-configuration");
    assert_eq!(answer.json()["tenant_discovery_endpoint"], json!(discovery));
    assert_eq!(answer.json()["metadata"][0]["aliases"].as_array().unwrap().len(), 4);
    assert_eq!(answer.header("cache-control"), "max-age=86400, private");
    let elsewhere = url.replace("https://login.microsoftonline.com/72", "https://login.evil.example/72");
    let unknown = azure.get(&elsewhere, &[]).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]), (400, &json!("invalid_instance")));

    let by_domain = discovery.replace(TENANT, "fabrikam.example");
    let document = azure.get(&by_domain, &[]).await.json();
    assert_eq!(document["issuer"], json!(format!("https://login.microsoftonline.com/{TENANT}/v2.0")));
    assert_eq!(
        document["token_endpoint"],
        json!("https://login.microsoftonline.com/fabrikam.example/oauth2/v2.0/token")
    );
    let missing = azure.get(&discovery.replace(TENANT, "unknown.example"), &[]).await;
    assert_eq!((missing.status.as_u16(), missing.code()), (400, 90002));
    assert_eq!(missing.json()["error"], json!("invalid_tenant"));
}

#[tokio::test(start_paused = true)]
async fn keeps_secrets_out_of_the_journal() {
    let azure = Azure::new();
    let mut request = token_request(TENANT, &by_secret(SECRET, SCOPE));
    let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token?client_secret=hush&service=x");
    *request.uri_mut() = url.parse().unwrap();
    azure.send(request).await;
    let entries = azure.world.journal().entries();
    assert_eq!(entries[0].path, format!("/{TENANT}/oauth2/v2.0/token?client_secret=…&service=x"));
    assert_eq!(entries[0].client_id.as_deref(), Some(APP));
    assert!(!serde_json::to_string(&entries).unwrap().contains(SECRET));
    assert_eq!(Method::POST.as_str(), entries[0].method);
}

#[tokio::test(start_paused = true)]
async fn lets_a_changed_credential_propagate_again() {
    let azure = Azure::new();
    azure.world.edit(|state| state.defaults.propagation_seconds = 30).unwrap();
    for name in ["one", "two"] {
        let subject = format!("system:serviceaccount:flux-system:{name}");
        azure.world.edit(|state| flux(state).federated_credentials[0].subject.clone_from(&subject)).unwrap();
        assert_eq!(azure.federate(&azure.assertion_of(&subject)).await.code(), 700_213);
        azure.world.clock().sleep(Duration::from_secs(30)).await;
        assert_eq!(azure.federate(&azure.assertion_of(&subject)).await.status, 200);
    }
}
