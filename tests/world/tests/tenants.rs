//! An identity of another tenant than the pod's: it trusts the cluster's issuer itself, and nothing leads there by way of the
//! pod's own identity.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::sync::{Arc, Mutex};

use flux_bearer_sim::state::{Member, State};
use flux_bearer_world::identities::{TENANT, client, object};
use flux_bearer_world::stage::NAMESPACE;
use http::Request;
use serde_json::json;
use support::{Theatre, minutes, seconds};
use tower::ServiceExt;

const FABRIKAM: &str = "72f988bf-0000-4000-8000-000000000002";

/// Number of the one identity in Fabrikam's tenant.
const THEIRS: usize = 50;

/// The URLs of the requests to the token endpoint.
type Asked = Arc<Mutex<Vec<String>>>;

/// A stage with a second tenant, which has an identity and an organisation of its own, and BearerTokens of both tenants:
/// `ours` of the pod's own identity, `theirs` of Fabrikam's.
fn two_tenants() -> (Theatre, Asked) {
    let mut theatre = Theatre::with(&[3600]);
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    theatre.stage = theatre.stage.with_tampering(move |url, _| {
        if url.contains("/oauth2/") {
            seen.lock().unwrap().push(url.to_owned());
        }
    });
    theatre.stage.world.edit(add_fabrikam).unwrap();
    theatre.stage.bearer_token("ours", &json!({"repositories": [repository("contoso")]}));
    let identity = json!({"tenantId": FABRIKAM, "clientId": client(THEIRS)});
    theatre.stage.bearer_token("theirs", &json!({"identity": identity, "repositories": [repository("fabrikam")]}));
    (theatre, asked)
}

fn add_fabrikam(state: &mut State) {
    let mut tenant = state.tenants[0].clone();
    FABRIKAM.clone_into(&mut tenant.id);
    tenant.domains = vec!["fabrikam.example".to_owned()];
    tenant.applications.truncate(1);
    tenant.applications[0].client_id = client(THEIRS);
    tenant.applications[0].object_id = object(THEIRS);
    state.tenants.push(tenant);

    let mut organization = state.organizations[0].clone();
    "fabrikam".clone_into(&mut organization.name);
    FABRIKAM.clone_into(&mut organization.tenant_id);
    organization.members = vec![Member { object_id: object(THEIRS), ..Member::default() }];
    organization.projects[0].readers = vec![object(THEIRS)];
    organization.projects[0].repositories[0].readers = vec![object(THEIRS)];
    state.organizations.push(organization);
}

fn repository(organization: &str) -> String {
    format!("https://dev.azure.com/{organization}/platform/_git/fleet")
}

/// The status that Git gets in `organization` with what Secret `secret` holds.
async fn opens(theatre: &Theatre, secret: &str, organization: &str) -> u16 {
    let request = Request::get(format!("{}/info/refs?service=git-upload-pack", repository(organization)))
        .header("Authorization", format!("Bearer {}", theatre.token(secret)))
        .body(axum::body::Body::empty())
        .unwrap();
    theatre.stage.world.service().oneshot(request).await.unwrap().status().as_u16()
}

fn endpoint(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token")
}

#[tokio::test(start_paused = true)]
async fn each_tenant_trusts_the_cluster_itself_and_each_token_opens_its_own() {
    let (theatre, asked) = two_tenants();
    let _running = theatre.stage.start();
    seconds(5).await;
    for (name, tenant, own, foreign) in
        [("ours", TENANT, "contoso", "fabrikam"), ("theirs", FABRIKAM, "fabrikam", "contoso")]
    {
        assert_eq!(theatre.stage.says(name, "Ready"), "True Succeeded", "{:?}", theatre.stage.condition(name, "Ready"));
        assert_eq!(theatre.stage.says(name, "Accessible"), "True RepositoriesOpen", "{name}");
        let status = theatre.stage.kube.get("BearerToken", NAMESPACE, name).unwrap();
        assert_eq!(status["status"]["identity"]["tenantId"], tenant);
        assert_eq!(opens(&theatre, name, own).await, 200, "{name}");
        assert_ne!(opens(&theatre, name, foreign).await, 200, "{name}");
    }
    minutes(24 * 60).await;
    for (name, tenant) in [("ours", TENANT), ("theirs", FABRIKAM)] {
        assert_eq!(theatre.expired_seconds(name), 0);
        let asked = asked.lock().unwrap().iter().filter(|url| **url == endpoint(tenant)).count();
        assert_eq!(asked, theatre.fillings(name), "one request a token of {name}, none on the way to another's");
    }
    assert_eq!(asked.lock().unwrap().len(), theatre.fillings("ours") + theatre.fillings("theirs"));
}

#[tokio::test(start_paused = true)]
async fn row_08_a_tenant_that_does_not_trust_the_cluster_is_told_so_and_the_others_are_served() {
    let (theatre, asked) = two_tenants();
    theatre.stage.world.edit(|state| state.tenants[1].applications[0].federated_credentials.clear()).unwrap();
    // The pod's own identity is not one of Fabrikam's tenant, whoever trusts it elsewhere.
    let stray = json!({"identity": {"tenantId": FABRIKAM, "clientId": client(0)}});
    theatre.stage.bearer_token("stray", &stray);
    let _running = theatre.stage.start();
    minutes(70).await;
    let ready = |name| theatre.stage.condition(name, "Ready").unwrap();
    for (name, code, fix) in [
        ("theirs", "AADSTS70025", "az identity federated-credential create"),
        ("stray", "AADSTS700016", "Compare spec.identity.clientId and tenantId"),
    ] {
        let (status, _, message) = ready(name);
        assert_eq!(status, "False", "{name}");
        assert!(message.contains(code) && message.contains(fix), "{name}: {message}");
        assert_eq!(theatre.stage.kube.get("Secret", NAMESPACE, name), None, "{name}");
    }
    assert_eq!(ready("ours").1, "Succeeded");
    assert_eq!(theatre.expired_seconds("ours"), 0);
    let ours = asked.lock().unwrap().iter().filter(|url| **url == endpoint(TENANT)).count();
    assert_eq!(ours, theatre.fillings("ours"), "nothing of Fabrikam's is asked for in our tenant");
}
