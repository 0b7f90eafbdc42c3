//! The admin API and the checks of the state.

use flux_bearer_sim::admin;
use flux_bearer_sim::state::State;
use http::Method;
use serde_json::json;
use tower::ServiceExt;

use super::support::*;

async fn call(azure: &Azure, method: Method, path: &str, body: &str) -> Answer {
    let router = admin::router(azure.world.clone());
    let (parts, body) = router.oneshot(request(method, path, &[], body)).await.unwrap().into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

#[tokio::test(start_paused = true)]
async fn answers_and_replaces_the_state() {
    let azure = Azure::new();
    let got = call(&azure, Method::GET, "/state", "").await;
    assert_eq!(serde_json::from_str::<State>(&got.text).unwrap(), azure.world.state());
    let put = call(&azure, Method::PUT, "/state", &got.text).await;
    assert_eq!(put.status, 204, "{}", put.text);
    assert_eq!(azure.world.state(), state());
    assert_eq!(call(&azure, Method::PUT, "/state", "tenants: []").await.status, 204);
    assert_eq!(azure.world.state(), State::default());
}

#[tokio::test(start_paused = true)]
async fn merges_a_patch() {
    let azure = Azure::new();
    let patch = json!({"defaults": {"applicationLifetimeSeconds": 60, "negativeCacheSeconds": null}});
    assert_eq!(call(&azure, Method::PATCH, "/state", &patch.to_string()).await.status, 204);
    let state = azure.world.state();
    assert_eq!((state.defaults.application_lifetime_seconds, state.tenants.len()), (60, 1));
}

#[tokio::test(start_paused = true)]
async fn refuses_what_it_cannot_use_and_changes_nothing() {
    let azure = Azure::new();
    let member = json!({"organizations": [{"name": "x", "tenantId": TENANT, "members": [{"objectId": "me"}]}]});
    let table = [
        (Method::PUT, "/state", "tenant: []".to_owned(), "tenant"),
        (
            Method::PUT,
            "/state",
            "defaults: {applicationLifetimeSeconds: soon}".to_owned(),
            "applicationLifetimeSeconds",
        ),
        (Method::PATCH, "/state", json!({"imds": {"cached": true}}).to_string(), "cached"),
        (Method::PATCH, "/state", member.to_string(), "organizations[0].members[0].objectId"),
        (Method::PATCH, "/state", "[]".to_owned(), "merge patch"),
        (Method::PUT, "/faults", json!({"name": "x", "effects": "hang"}).to_string(), "effects"),
        (Method::PUT, "/faults", json!({"name": ""}).to_string(), "name"),
        (Method::POST, "/clock/step", json!({"minutes": 1}).to_string(), "minutes"),
        (Method::POST, "/clock/step", json!({"seconds": i64::MAX}).to_string(), "seconds"),
    ];
    for (method, path, body, field) in table {
        let answer = call(&azure, method, path, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.json()["error"].as_str().unwrap().contains(field), "{body}: {}", answer.text);
    }
    assert_eq!(azure.world.state(), state());
    assert!(azure.world.faults().list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn sets_and_ends_faults() {
    let azure = Azure::new();
    let fault = json!({"name": "down", "host": "dev.azure.com", "effect": {"answer": {"status": 503}}});
    assert_eq!(call(&azure, Method::PUT, "/faults", &fault.to_string()).await.status, 204);
    assert_eq!(azure.get("https://dev.azure.com/fabrikam", &[]).await.status, 503);
    assert_eq!(call(&azure, Method::GET, "/faults", "").await.json()[0]["name"], "down");
    assert_eq!(call(&azure, Method::DELETE, "/faults/down", "").await.status, 204);
    assert_eq!(call(&azure, Method::DELETE, "/faults/down", "").await.status, 404);
    assert_eq!(call(&azure, Method::PUT, "/faults", r#"{"name": "hang", "effect": "hang"}"#).await.status, 204);
    assert_eq!(call(&azure, Method::DELETE, "/faults", "").await.status, 204);
    assert!(azure.world.faults().list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn steps_the_clock_and_shows_the_journal() {
    let azure = Azure::new();
    azure.mint().await;
    azure.mint().await;
    let answer = call(&azure, Method::POST, "/clock/step", r#"{"seconds": -60}"#).await;
    assert_eq!(answer.json()["now"], "2026-11-22T09:59:00Z");
    let journal = call(&azure, Method::GET, "/journal?last=1", "").await.json();
    assert_eq!(journal["counts"]["mints"][FLUX], 2);
    assert_eq!(journal["counts"]["requests"]["token"], 2);
    assert_eq!(journal["entries"].as_array().unwrap().len(), 1);
    assert_eq!(journal["entries"][0]["number"], 1);
    assert_eq!(call(&azure, Method::DELETE, "/journal", "").await.status, 204);
    assert_eq!(azure.world.journal().mints(FLUX), 0);
}

#[test]
fn refuses_a_wrong_state_by_the_name_of_the_field() {
    let tenant = format!("tenants: [{{id: {TENANT}, applications: [APP]}}]");
    let app = |more: &str| tenant.replace("APP", &format!("{{name: a, clientId: {APP}, objectId: {APP_OID}, {more}}}"));
    let credential = |more: &str| app(&format!("federatedCredentials: [{{{more}}}]"));
    let organization = |more: &str| format!("organizations: [{{name: o, tenantId: {TENANT}, {more}}}]");
    let subscription = |more: &str| format!("{}\nsubscriptions: [{{id: {APP}, tenantId: {TENANT}, {more}}}]", app(""));
    let twice = format!("tenants: [{{id: {TENANT}}}, {{id: {}}}]", TENANT.to_uppercase());
    let table = [
        ("issuers: [{issuer: http://x}]".to_owned(), "issuers[0].issuer: "),
        ("tenants: [{id: mine}]".to_owned(), "tenants[0].id: "),
        (twice, "tenants[].id: "),
        (app("secrets: [{value: x}], kind: ManagedIdentity"), "tenants[0].applications[0].secrets: "),
        (credential("name: a b, issuer: i, subject: s"), "tenants[0].applications[0].federatedCredentials[0].name: "),
        (
            credential("name: abc, issuer: '', subject: s"),
            "tenants[0].applications[0].federatedCredentials[0].issuer: ",
        ),
        (
            credential("name: abc, issuer: i, subject: s}, {name: abd, issuer: i, subject: s"),
            "tenants[0].applications[0].federatedCredentials: two credentials",
        ),
        (format!("imds: {{systemAssigned: {APP}}}"), "imds.systemAssigned: "),
        (
            format!("subscriptions: [{{id: {APP}, tenantId: {TENANT}}}]"),
            "subscriptions[0].tenantId: there is no tenant",
        ),
        (subscription("pageSize: 0"), "subscriptions[0].pageSize: "),
        (
            subscription("roleAssignments: [{objectId: me, role: Owner}]"),
            "subscriptions[0].roleAssignments[0].objectId: ",
        ),
        (
            subscription("resourceGroups: [{name: a, location: x}, {name: A, location: x}]"),
            "subscriptions[0].resourceGroups[].name: `A` occurs twice",
        ),
        (subscription("locks: [{level: ReadOnly, resourceGroup: a}]"), "subscriptions[0].locks[].resourceGroup: "),
        (
            subscription(&format!(
                "resourceGroups: [{{name: a, location: x}}],
                identities: [{{resourceGroup: a, name: abc, location: x, clientId: {APP}}}]"
            )),
            "subscriptions[0].identities[0].clientId: ",
        ),
        (
            subscription(&format!(
                "resourceGroups: [{{name: a, location: x}}],
                identities: [{{resourceGroup: a, name: a, location: x, clientId: {APP}}}]"
            )),
            "subscriptions[0].identities[0].name: ",
        ),
        (
            subscription(
                "resourceGroups: [{name: a, location: x}],
                managedClusters: [{resourceGroup: a, name: c, location: x, issuerUrl: 'http://x'}]",
            ),
            "subscriptions[0].managedClusters[0].issuerUrl: ",
        ),
        (organization(""), "organizations[0].tenantId: there is no tenant"),
        (
            format!("{}\n{}", app(""), organization(&format!("administrators: [{APP_OID}]"))),
            "organizations[0].administrators: `22222222",
        ),
        (
            format!("{}\n{}", app(""), organization(&format!("members: [{{objectId: {APP_OID}}}], basicLicences: 0"))),
            "organizations[0].basicLicences: ",
        ),
        (
            format!("{}\n{}", app(""), organization("projects: [{name: p, groups: {readers: [me]}}]")),
            "organizations[0].projects[0].groups.readers[0]: ",
        ),
        (
            format!("{}\n{}", app(""), organization("accessControl: [{namespace: Git, token: repoV2, objectId: me}]")),
            "organizations[0].accessControl[0].objectId: ",
        ),
        (
            format!(
                "{}\n{}",
                app(""),
                organization(&format!("accessControl: [{{namespace: Git, token: '', objectId: {APP}}}]"))
            ),
            "organizations[0].accessControl[0].token: ",
        ),
        (
            format!("tenants: [{{id: {TENANT}, deviceCode: {{user: a@b}}}}]"),
            "tenants[0].deviceCode.user: there is no user",
        ),
        (
            format!("tenants: [{{id: {TENANT}, users: [{{objectId: me, userPrincipalName: a@b}}]}}]"),
            "tenants[0].users[0].objectId: ",
        ),
        (
            format!("{}\n{}", app(""), organization("projects: [{name: p, repositories: [{name: r, head: main}]}]")),
            "organizations[0].projects[0].repositories[0].head: `main` is no commit; write",
        ),
    ];
    for (yaml, message) in table {
        let error = State::from_yaml(&yaml).unwrap_err().to_string();
        assert!(error.starts_with(message), "{yaml}: {error}");
    }
}

#[test]
fn reads_the_example_of_the_documentation() {
    let state = State::from_yaml(include_str!("../../src/state/example.yaml")).unwrap();
    assert_eq!((state.tenants.len(), state.organizations.len()), (1, 1));
}

/// The paths of all properties of a schema that have no description.
fn undocumented(at: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
    for (name, part) in schema.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        let is_property = at.ends_with("/properties");
        if is_property && part.get("description").is_none() {
            found.push(path.clone());
        }
        undocumented(&path, part, found);
    }
}

#[test]
fn documents_every_field_of_the_schema() {
    let schema = serde_json::to_value(schemars::schema_for!(State)).unwrap();
    let mut found = Vec::new();
    undocumented("", &schema, &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(schema["$defs"]["Application"]["properties"]["federatedCredentials"]["description"].is_string());
}
