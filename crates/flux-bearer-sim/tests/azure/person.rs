//! Entra ID: how a person signs in, and what the person's tokens open.

use std::time::Duration;

use flux_bearer_sim::journal::Endpoint;
use flux_bearer_sim::state::{DeviceCode, Member, Role, RoleAssignment, Subscription, Tenant, User};
use http::Method;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::support::*;

const ADA: &str = "88888888-8888-4888-8888-00000000000f";
const UPN: &str = "ada@fabrikam.example";
const CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const SUB: &str = "44444444-4444-4444-8444-444444444444";
const MANAGEMENT: &str = "https://management.core.windows.net//.default openid profile offline_access";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A world in which Ada types in every code, after this many polls.
fn world(code: &DeviceCode) -> Azure {
    let azure = Azure::new();
    azure
        .world
        .edit(|state| {
            let (object_id, user_principal_name) = (ADA.to_owned(), UPN.to_owned());
            let display_name = Some("Ada Lovelace".to_owned());
            state.tenants[0].users = vec![User { object_id, user_principal_name, display_name }];
            state.tenants[0].device_code = Some(DeviceCode { user: UPN.to_owned(), ..code.clone() });
            let fabrikam = &mut state.organizations[0];
            fabrikam.members.push(Member { object_id: ADA.to_owned(), ..Member::default() });
            fabrikam.administrators.push(ADA.to_owned());
            let owner = RoleAssignment { object_id: ADA.to_owned(), role: Role::Owner, resource_group: None };
            let (id, tenant_id) = (SUB.to_owned(), TENANT.to_owned());
            state.subscriptions =
                vec![Subscription { id, tenant_id, role_assignments: vec![owner], ..Subscription::default() }];
        })
        .unwrap();
    azure
}

async fn ask_for_code(azure: &Azure, tenant: &str, client_id: &str, scope: &str) -> Answer {
    let fields = [("client_id", client_id), ("scope", scope)];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode");
    azure.send(request(Method::POST, &url, &[("content-type", "application/x-www-form-urlencoded")], &body)).await
}

async fn code(azure: &Azure, tenant: &str) -> String {
    let begun = ask_for_code(azure, tenant, CLI, MANAGEMENT).await;
    begun.json()["device_code"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned()
}

async fn poll(azure: &Azure, tenant: &str, code: &str) -> Answer {
    let fields = [("grant_type", GRANT), ("client_id", CLI), ("device_code", code), ("client_info", "1")];
    azure.token_of(tenant, &fields).await
}

async fn refresh(azure: &Azure, tenant: &str, token: &str, scope: &str) -> Answer {
    let fields = [("grant_type", "refresh_token"), ("client_id", CLI), ("refresh_token", token), ("scope", scope)];
    azure.token_of(tenant, &fields).await
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"].as_str().unwrap().to_owned())
}

fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("{name} is missing from {body}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_person_signs_in_with_a_code_and_goes_on_with_what_came_of_it() {
    let azure = world(&DeviceCode { after_polls: 2, ..DeviceCode::default() });
    let begun = ask_for_code(&azure, "organizations", CLI, MANAGEMENT).await.json();
    assert_eq!((&begun["expires_in"], &begun["interval"]), (&json!(900), &json!(5)));
    assert!(text(&begun, "message").contains(&text(&begun, "user_code")));
    let code = text(&begun, "device_code");
    for _ in 0..2 {
        assert_eq!(error(&poll(&azure, "organizations", &code).await), (400, "authorization_pending".to_owned()));
    }
    let tokens = poll(&azure, "organizations", &code).await.json();
    let jwt = azure.verified(&text(&tokens, "access_token")).await;
    assert_eq!((jwt.text("oid"), jwt.text("tid"), jwt.text("upn")), (ADA, TENANT, UPN));
    assert_eq!((jwt.text("scp"), jwt.text("name"), jwt.text("appid")), ("user_impersonation", "Ada Lovelace", CLI));
    assert!(jwt.claims().get("idtyp").is_none());
    let id_token = azure.verified(&text(&tokens, "id_token")).await;
    assert_eq!((id_token.text("aud"), id_token.text("preferred_username")), (CLI, UPN));
    assert!(!text(&tokens, "client_info").is_empty());
    assert_eq!(error(&poll(&azure, TENANT, &code).await), (400, "bad_verification_code".to_owned()), "used up");
    assert_eq!(azure.world.journal().requests(Endpoint::DeviceCode).len(), 1);
    assert_eq!(azure.world.journal().mints(CLI), 1);

    let url = format!("https://management.azure.com/subscriptions/{SUB}?api-version=2022-12-01");
    let mine = azure.get(&url, &[("Authorization", &bearer(&text(&tokens, "access_token")))]).await;
    assert_eq!((mine.status.as_u16(), mine.json()["tenantId"].as_str()), (200, Some(TENANT)));

    let scope = format!("{DEVOPS}/user_impersonation openid offline_access");
    let renewed = refresh(&azure, TENANT, &text(&tokens, "refresh_token"), &scope).await.json();
    let devops = text(&renewed, "access_token");
    assert!(text(&renewed, "scope").contains(&format!("{DEVOPS}/.default")));
    let url = "https://dev.azure.com/fabrikam/_apis/connectionData?api-version=7.1-preview.1";
    let user = azure.get(url, &[("Authorization", &bearer(&devops))]).await.json()["authenticatedUser"].clone();
    assert_eq!(user["providerDisplayName"], "Ada Lovelace");
    assert_eq!(user["descriptor"], format!("Microsoft.IdentityModel.Claims.ClaimsIdentity;{TENANT}\\{UPN}"));
    let url = "https://vsaex.dev.azure.com/fabrikam/_apis/memberentitlements?api-version=7.1-preview.2";
    assert_eq!(azure.get(url, &[("Authorization", &bearer(&devops))]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn refuses_what_a_code_can_be_refused_for() {
    let azure = world(&DeviceCode { declined: true, after_polls: 0, ..DeviceCode::default() });
    let declined = code(&azure, TENANT).await;
    assert_eq!(error(&poll(&azure, TENANT, &declined).await), (400, "authorization_declined".to_owned()));

    let how = DeviceCode { after_polls: 9, enforce_interval: true, ..DeviceCode::default() };
    let azure = world(&how);
    let hurried = code(&azure, TENANT).await;
    assert_eq!(error(&poll(&azure, TENANT, &hurried).await).1, "authorization_pending");
    assert_eq!(error(&poll(&azure, TENANT, &hurried).await).1, "slow_down");
    azure.world.clock().sleep(Duration::from_secs(5)).await;
    assert_eq!(error(&poll(&azure, TENANT, &hurried).await).1, "authorization_pending");
    azure.world.clock().sleep(Duration::from_secs(895)).await;
    let expired = poll(&azure, TENANT, &hurried).await;
    assert_eq!((error(&expired).1.as_str(), expired.code()), ("expired_token", 70020));
    assert_eq!(error(&poll(&azure, TENANT, "other").await).1, "bad_verification_code");

    azure.world.edit(|state| state.tenants[0].device_code = None).unwrap();
    let unheard = code(&azure, TENANT).await;
    for _ in 0..3 {
        assert_eq!(error(&poll(&azure, TENANT, &unheard).await).1, "authorization_pending", "nobody types it in");
    }
    let nowhere = ask_for_code(&azure, "organizations", CLI, MANAGEMENT).await;
    assert_eq!(nowhere.code(), 90002);
}

#[tokio::test(start_paused = true)]
async fn refuses_requests_that_ask_for_nothing_known() {
    let azure = world(&DeviceCode::default());
    let unknown = ask_for_code(&azure, TENANT, "99999999-9999-4999-8999-999999999999", MANAGEMENT).await;
    assert_eq!(unknown.code(), 700_016);
    assert_eq!(ask_for_code(&azure, TENANT, APP, MANAGEMENT).await.status, 200, "the tenant's own application");
    assert_eq!(ask_for_code(&azure, TENANT, CLI, "openid").await.code(), 70011);
    assert_eq!(ask_for_code(&azure, TENANT, CLI, "api://unknown/x").await.code(), 500_011);
    assert_eq!(ask_for_code(&azure, TENANT, CLI, "").await.code(), 900_144);
    let bad = refresh(&azure, TENANT, "other", MANAGEMENT).await;
    assert_eq!((error(&bad).1.as_str(), bad.code()), ("invalid_grant", 70000));

    let other = "55555555-5555-4555-8555-555555555555";
    azure.world.edit(|state| state.tenants.push(Tenant { id: other.to_owned(), ..Tenant::default() })).unwrap();
    let code = code(&azure, TENANT).await;
    poll(&azure, TENANT, &code).await;
    let token = text(&poll(&azure, TENANT, &code).await.json(), "refresh_token");
    assert_eq!(refresh(&azure, other, &token, MANAGEMENT).await.code(), 50020, "a person of another tenant");
    azure
        .world
        .edit(|state| {
            state.organizations[0].administrators.clear();
            state.tenants[0].device_code = None;
            state.tenants[0].users.clear();
        })
        .unwrap();
    assert_eq!(refresh(&azure, TENANT, &token, MANAGEMENT).await.code(), 70000, "a person who is gone");
}

#[tokio::test(start_paused = true)]
async fn discovery_knows_the_tenants_of_everybody() {
    let azure = world(&DeviceCode::default());
    let url = "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration";
    let document = azure.get(url, &[]).await.json();
    assert_eq!(document["issuer"], "https://login.microsoftonline.com/{tenantid}/v2.0");
    assert!(text(&document, "device_authorization_endpoint").ends_with("/organizations/oauth2/v2.0/devicecode"));
}
