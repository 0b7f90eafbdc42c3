//! IMDS: its refusals, its selectors, its cache and its limits.

use std::time::Duration;

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::state::{Kind, State};
use http::Method;

use super::support::*;

const TOKEN: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
type Headers<'a> = &'a [(&'a str, &'a str)];

const OTHER: &str = "33333333-3333-4333-8333-333333333333";

fn url(more: &str) -> String {
    format!("{TOKEN}?api-version=2018-02-01&resource={DEVOPS}{more}")
}

async fn ask(azure: &Azure, more: &str) -> Answer {
    azure.get(&url(more), &[("Metadata", "true")]).await
}

#[tokio::test(start_paused = true)]
async fn answers_a_token_with_every_number_as_text() {
    let azure = Azure::new();
    let answer = ask(&azure, "").await;
    let body = answer.json();
    let now = azure.now().as_second();
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name} is no text: {body}")).to_owned();
    assert_eq!(text("expires_in"), "86399");
    assert_eq!(text("ext_expires_in"), "86399");
    assert_eq!(text("expires_on"), (now + 86_400).to_string());
    assert_eq!(text("not_before"), (now - 300).to_string());
    assert_eq!((text("client_id"), text("resource")), (FLUX.to_owned(), DEVOPS.to_owned()));
    assert_eq!((text("token_type"), text("refresh_token")), ("Bearer".to_owned(), String::new()));
    let jwt = azure.verified(&text("access_token")).await;
    assert_eq!((jwt.text("oid"), jwt.text("aud")), (FLUX_OID, DEVOPS));
}

#[tokio::test(start_paused = true)]
async fn refuses_each_fault_as_imds_does() {
    let metadata = [("Metadata", "true")];
    let proxied = [("Metadata", "true"), ("X-Forwarded-For", "10.0.0.1")];
    let versionless = format!("{TOKEN}?resource={DEVOPS}");
    let none = [];
    let table: [(&str, Headers, u16, &str, &str); 10] = [
        (&url(""), &none, 400, "bad_request_102", "Required metadata header not specified"),
        (&url(""), &[("Metadata", "True")], 400, "bad_request_102", "Required metadata header not specified"),
        (&url(""), &proxied, 400, "invalid_request", "X-Forwarded-For"),
        (&versionless, &metadata, 400, "invalid_request", "api-version"),
        (&versionless.replace('?', "?api-version=2017-09-01&"), &metadata, 400, "invalid_request", "api-version"),
        (&format!("{TOKEN}?api-version=2018-02-01"), &metadata, 400, "invalid_request", "resource"),
        (&url("").replace(DEVOPS, "api://unknown"), &metadata, 400, "invalid_resource", "AADSTS50001"),
        (&url(&format!("&client_id={OTHER}")), &metadata, 400, "invalid_request", "Identity not found"),
        (&url(&format!("&client_id={FLUX}&object_id={FLUX_OID}")), &metadata, 400, "invalid_request", "At most one"),
        ("http://169.254.169.254/other", &metadata, 401, "unknown_source", "/other"),
    ];
    for (url, headers, status, error, description) in table {
        let azure = Azure::new();
        let answer = azure.get(url, headers).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str().unwrap()), (status, error), "{url}");
        assert!(answer.json()["error_description"].as_str().unwrap().contains(description), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn selects_the_identity() {
    let azure = Azure::new();
    let selected = async |more: &str| {
        let answer = ask(&azure, more).await;
        answer.json()["client_id"]
            .as_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| answer.json()["error_description"].as_str().unwrap().split(',').next().unwrap().to_owned())
    };
    let resource_id =
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/flux";
    for more in [
        String::new(),
        format!("&client_id={FLUX}"),
        format!("&object_id={FLUX_OID}"),
        format!("&msi_res_id={resource_id}"),
    ] {
        assert_eq!(selected(&more).await.as_deref(), Ok(FLUX), "{more}");
    }
    azure.world.edit(|state| state.imds.user_assigned.push(OTHER.to_owned())).unwrap();
    assert_eq!(selected("").await.unwrap_err(), "Multiple user assigned identities exist");
    azure.world.edit(|state| state.imds.system_assigned = Some(OTHER.to_owned())).unwrap();
    assert_eq!(selected("").await.as_deref(), Ok(OTHER));
    azure.world.edit(|state| state.imds = flux_bearer_sim::state::Imds::default()).unwrap();
    assert_eq!(selected("").await.unwrap_err(), "Identity not found");
}

#[tokio::test(start_paused = true)]
async fn hands_out_the_same_token_until_it_nears_its_end() {
    let azure = Azure::new();
    let first = ask(&azure, "").await.json();
    azure.world.clock().sleep(Duration::from_secs(86_099)).await;
    let later = ask(&azure, "").await.json();
    assert_eq!(later["access_token"], first["access_token"]);
    assert_eq!(later["expires_on"], first["expires_on"]);
    assert_eq!(later["expires_in"], "300");
    azure.world.clock().sleep(Duration::from_secs(1)).await;
    let renewed = ask(&azure, "").await.json();
    assert_ne!(renewed["access_token"], first["access_token"]);
    assert_eq!(azure.world.journal().mints(FLUX), 2);

    azure.world.edit(|state| state.imds.cache = false).unwrap();
    assert_ne!(ask(&azure, "").await.json()["access_token"], renewed["access_token"]);
}

#[tokio::test(start_paused = true)]
async fn refuses_the_twenty_first_request_of_a_second() {
    let azure = Azure::new();
    for _ in 0..20 {
        assert_eq!(ask(&azure, "").await.status, 200);
    }
    assert_eq!(ask(&azure, "").await.status, 429);
    azure.world.clock().sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&azure, "").await.status, 200);
    assert_eq!(azure.world.journal().counts().imds_violations, 1);

    azure.world.edit(|state| state.imds.enforce_limits = false).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&azure, "").await.status, 200);
    }
    assert_eq!(azure.world.journal().counts().imds_violations, 2);
}

#[tokio::test(start_paused = true)]
async fn refuses_the_sixth_request_at_a_time() {
    let azure = Azure::new();
    let slow = Fault { name: "slow".to_owned(), delay_ms: Some(5000), ..Fault::default() };
    azure.world.faults().set(slow);
    let at_once = futures::future::join_all((0..6).map(|_| ask(&azure, ""))).await;
    let refused = at_once.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((refused, azure.world.journal().counts().imds_violations), (1, 1));
    assert_eq!(ask(&azure, "").await.status, 200, "what has been answered counts no more");
}

#[tokio::test(start_paused = true)]
async fn answers_410_where_a_fault_says_so() {
    let azure = Azure::new();
    let effect = Effect::Answer { status: 410, retry_after: None, content_type: None, body: String::new() };
    let fault = Fault { name: "updating".to_owned(), times: Some(1), effect: Some(effect), ..Fault::default() };
    azure.world.faults().set(fault);
    assert_eq!(ask(&azure, "").await.status, 410);
    assert_eq!(ask(&azure, "").await.status, 200);
    let post = request(Method::POST, &url(""), &[("Metadata", "true")], "");
    assert_eq!(azure.send(post).await.status, 405);
}

#[test]
fn knows_managed_identities_only() {
    let mut yaml: State = state();
    yaml.tenants[0].applications[0].kind = Kind::Application;
    let clock = flux_bearer_sim::clock::Clock::starting_at("2026-11-22T10:00:00Z".parse().unwrap());
    let error = flux_bearer_sim::world::World::new(yaml, clock).err().unwrap().to_string();
    assert!(error.starts_with("imds.userAssigned[0]: "), "{error}");
}
