//! Azure Resource Manager: rights, resource groups, identities, federated credentials, clusters, and each refusal.

use std::time::Duration;

use flux_bearer_sim::faults::Fault;
use flux_bearer_sim::journal::{Endpoint, TokenVerdict};
use flux_bearer_sim::state::{
    Application, Lock, LockLevel, ManagedCluster, Organization, Role, RoleAssignment, Secret, State, Subscription,
    Tenant,
};
use http::Method;
use serde_json::{Value, json};

use super::support::*;

const SUB: &str = "44444444-4444-4444-8444-444444444444";
const ARM: &str = "https://management.azure.com";
const MANAGEMENT: &str = "https://management.azure.com/.default";
const MSI: &str = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
const VERSION: &str = "api-version=2024-11-30";

/// The state of the other tests, with a subscription whose owner is the application with the secret.
fn with_subscription() -> State {
    let mut state = state();
    state.subscriptions = vec![
        State::from_yaml(&format!(
            r#"
tenants: [{{id: {TENANT}}}]
subscriptions:
  - id: {SUB}
    tenantId: {TENANT}
    displayName: Platform
    resourceGroups: [{{name: Fleet, location: westeurope}}]
    roleAssignments: [{{objectId: {APP_OID}, role: Owner}}]
    managedClusters:
      - {{resourceGroup: Fleet, name: aks, location: westeurope, issuerUrl: "{ISSUER}", workloadIdentity: true}}
"#
        ))
        .unwrap()
        .subscriptions
        .remove(0),
    ];
    state
}

/// The owner of the subscription at work.
struct Owner {
    azure: Azure,
    token: String,
}

impl Owner {
    async fn new() -> Self {
        let azure = Azure::with(with_subscription());
        let token = azure.mint_with_secret(MANAGEMENT).await;
        Self { azure, token }
    }

    /// Sends to a path below the subscription.
    async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        let url = match path {
            _ if path.starts_with("https://") => path.to_owned(),
            _ if path.contains('?') => format!("{ARM}/subscriptions/{SUB}{path}"),
            _ => format!("{ARM}/subscriptions/{SUB}{path}?{VERSION}"),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Authorization", bearer(&self.token))];
        self.azure
            .send(request(method, &url, &headers.each_ref().map(|(name, value)| (*name, value.as_str())), &body))
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Value::Null).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, Value::Null).await
    }

    fn edit(&self, change: impl FnOnce(&mut Subscription)) {
        self.azure.world.edit(|state| change(&mut state.subscriptions[0])).unwrap();
    }

    /// Gives the owner this role instead, in the resource group.
    fn be(&self, role: Role, group: Option<&str>) {
        let resource_group = group.map(ToOwned::to_owned);
        let assignment = RoleAssignment { object_id: APP_OID.to_owned(), role, resource_group };
        self.edit(|subscription| subscription.role_assignments = vec![assignment]);
    }

    async fn identity(&self, name: &str) -> Answer {
        self.put(&identity(name), json!({"location": "West Europe", "tags": {"app": "flux"}})).await
    }

    async fn credential(&self, name: &str, subject: &str) -> Answer {
        self.put(&credential("flux", name), fic(subject)).await
    }
}

fn identity(name: &str) -> String {
    format!("/resourceGroups/fleet/{MSI}/{name}")
}

fn credential(name: &str, credential: &str) -> String {
    format!("{}/federatedIdentityCredentials/{credential}", identity(name))
}

fn fic(subject: &str) -> Value {
    json!({"properties": {"issuer": ISSUER, "subject": subject, "audiences": [AUDIENCE]}})
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap().to_owned())
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"]["message"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn makes_an_identity_that_signs_in_and_leaves_nothing_of_it() {
    let owner = Owner::new().await;
    let before = owner.azure.world.state();
    let made = owner.identity("flux").await;
    assert_eq!(made.status, 201, "{}", made.text);
    let body = made.json();
    let id = format!("/subscriptions/{SUB}/resourcegroups/Fleet/{MSI}/flux");
    assert_eq!((body["id"].as_str(), body["location"].as_str()), (Some(id.as_str()), Some("westeurope")));
    assert_eq!((&body["tags"]["app"], &body["properties"]["tenantId"]), (&json!("flux"), &json!(TENANT)));
    assert_eq!(owner.get(&identity("FLUX")).await.json(), body);
    assert_eq!(owner.identity("flux").await.status, 200);

    let subject = "system:serviceaccount:flux-system:source-controller";
    let made = owner.credential("one", subject).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["properties"], fic(subject)["properties"]);
    assert_eq!(made.json()["id"].as_str().unwrap(), format!("{id}/federatedIdentityCredentials/one"));
    assert_eq!(owner.credential("one", subject).await.status, 200);

    let client_id = body["properties"]["clientId"].as_str().unwrap();
    let assertion = owner.azure.assertion_of(subject);
    let mut fields = federated(&assertion, SCOPE);
    fields[1].1 = client_id;
    let token = owner.azure.token(&fields).await.json();
    let jwt = owner.azure.verified(token["access_token"].as_str().unwrap()).await;
    assert_eq!((jwt.text("oid"), jwt.text("xms_mirid")), (body["properties"]["principalId"].as_str().unwrap(), &*id));

    assert_eq!(owner.delete(&credential("flux", "one")).await.status, 200);
    assert_eq!(owner.delete(&credential("flux", "one")).await.status, 204);
    assert_eq!(owner.delete(&identity("flux")).await.status, 200);
    assert_eq!(owner.delete(&identity("flux")).await.status, 204);
    assert_eq!(owner.azure.world.state(), before);
}

#[tokio::test(start_paused = true)]
async fn carries_the_headers_of_resource_manager_and_is_in_the_journal() {
    let owner = Owner::new().await;
    let answer = owner.get(&format!("?{VERSION}")).await;
    for name in ["x-ms-request-id", "x-ms-correlation-request-id", "x-ms-routing-request-id"] {
        assert!(!answer.header(name).is_empty(), "{name}");
    }
    assert_eq!(answer.header("x-ms-ratelimit-remaining-subscription-reads"), "11999");
    let entry = owner.azure.world.journal().requests(Endpoint::Arm).pop().unwrap();
    assert_eq!((entry.object_id.as_deref(), entry.verdict), (Some(APP_OID), Some(TokenVerdict::Valid)));
}

#[tokio::test(start_paused = true)]
async fn refuses_bad_tokens_with_the_tenant_to_sign_in_to() {
    let owner = Owner::new().await;
    let azure = &owner.azure;
    let url = format!("{ARM}/subscriptions/{SUB}?{VERSION}");
    let expired = azure.mint_with_secret(MANAGEMENT).await;
    let other = "55555555-5555-4555-8555-555555555555";
    azure
        .world
        .edit(|state| {
            let secrets = vec![Secret { value: SECRET.to_owned(), expires_at: None }];
            let object_id = other.to_owned();
            let application = Application { client_id: other.to_owned(), object_id, secrets, ..Application::default() };
            let id = other.to_owned();
            state.tenants.push(Tenant { id, applications: vec![application], ..Tenant::default() });
        })
        .unwrap();
    let mut fields = by_secret(SECRET, MANAGEMENT);
    fields[1].1 = other;
    let foreign = azure.token_of(other, &fields).await.json()["access_token"].as_str().unwrap().to_owned();
    let elsewhere = azure.mint_with_secret(SCOPE).await;
    azure.world.clock().sleep(Duration::from_mins(30)).await;
    let core = azure.mint_with_secret("https://management.core.windows.net//.default").await;
    let table = [
        (None, 401, "AuthenticationFailedMissingToken", TokenVerdict::None),
        (Some("garbage".to_owned()), 401, "InvalidAuthenticationToken", TokenVerdict::Malformed),
        (Some(elsewhere), 401, "InvalidAuthenticationTokenAudience", TokenVerdict::WrongAudience),
        (Some(foreign), 401, "InvalidAuthenticationTokenTenant", TokenVerdict::NotMember),
    ];
    let ask = async |token: Option<&str>| {
        let authorization = token.map(bearer);
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        azure.get(&url, &headers).await
    };
    for (token, status, expected, verdict) in table {
        let answer = ask(token.as_deref()).await;
        assert_eq!(code(&answer), (status, expected.to_owned()), "{}", answer.text);
        let challenge =
            format!("Bearer authorization_uri=\"https://login.windows.net/{TENANT}\", error=\"invalid_token\"");
        assert!(answer.header("www-authenticate").starts_with(&challenge), "{:?}", answer.headers);
        assert_eq!(azure.world.journal().entries().pop().unwrap().verdict, Some(verdict));
    }
    assert_eq!(ask(Some(&core)).await.status, 200, "the older audience is as good");
    assert_eq!(ask(Some(&expired)).await.status, 200);
    azure.world.clock().sleep(Duration::from_mins(30)).await;
    assert_eq!(code(&ask(Some(&expired)).await), (401, "ExpiredAuthenticationToken".to_owned()));
    let unknown = azure.get(&url.replace(SUB, other), &[]).await;
    assert_eq!(code(&unknown), (404, "SubscriptionNotFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn demands_an_api_version_that_has_the_resource() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    let versionless = owner.get(&format!("{}?x=y", identity("flux"))).await;
    assert_eq!(code(&versionless), (400, "MissingApiVersionParameter".to_owned()));
    let unknown = owner.get(&format!("{}?api-version=2020-01-01", identity("flux"))).await;
    assert_eq!(code(&unknown), (400, "NoRegisteredProviderFound".to_owned()));
    let first = "?api-version=2018-11-30";
    assert_eq!(owner.get(&format!("{}{first}", identity("flux"))).await.status, 200);
    let too_old = owner.get(&format!("{}{first}", credential("flux", "one"))).await;
    assert_eq!(code(&too_old), (400, "NoRegisteredProviderFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn lets_each_role_do_what_is_its_own() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    let contributor = Role::ManagedIdentityContributor;
    // Role, resource group, and the statuses of: read, make an identity, give it a credential, make a group.
    let table = [
        (Role::Owner, None, [200, 200, 200, 200]),
        (Role::Contributor, None, [200, 200, 200, 200]),
        (Role::Contributor, Some("fleet"), [200, 200, 200, 200]),
        (Role::Reader, None, [200, 403, 403, 403]),
        (Role::UserAccessAdministrator, None, [200, 403, 403, 403]),
        (contributor, Some("Fleet"), [200, 200, 200, 403]),
        (contributor, None, [200, 200, 200, 403]),
        (Role::ManagedIdentityContributorWithoutFederation, None, [200, 200, 403, 403]),
        (contributor, Some("other"), [403, 403, 403, 403]),
    ];
    owner.put("/resourceGroups/other", json!({"location": "westeurope"})).await;
    owner.credential("one", "s").await;
    for (role, group, expected) in table {
        owner.be(role, group);
        let found = [
            owner.get(&identity("flux")).await,
            owner.identity("flux").await,
            owner.credential("one", "s").await,
            owner.put("/resourceGroups/Fleet", json!({"location": "westeurope"})).await,
        ];
        assert_eq!(found.each_ref().map(|answer| answer.status.as_u16()), expected, "{role:?} {group:?}");
    }
    let refused = owner.identity("flux").await;
    let message = refusal(&refused).1;
    assert!(
        message.starts_with(&format!(
            "The client '{APP_OID}' with object id '{APP_OID}' does not have authorization to perform action \
             'Microsoft.ManagedIdentity/userAssignedIdentities/write' over scope '/subscriptions/{SUB}"
        )),
        "{message}"
    );
    assert_eq!(owner.azure.world.journal().entries().pop().unwrap().verdict, Some(TokenVerdict::NoRight));
}

#[tokio::test(start_paused = true)]
async fn tells_the_caller_its_rights() {
    let owner = Owner::new().await;
    let permissions = "providers/Microsoft.Authorization/permissions?api-version=2022-04-01";
    let at = |scope: &str| format!("{scope}/{permissions}");
    assert_eq!(owner.get(&at("")).await.json()["value"][0]["actions"], json!(["*"]));
    owner.be(Role::Contributor, Some("Fleet"));
    assert_eq!(owner.get(&at("")).await.json()["value"], json!([]));
    for scope in ["/resourcegroups/fleet".to_owned(), identity("flux")] {
        let body = owner.get(&at(&scope)).await.json();
        assert!(body["value"][0]["notActions"].as_array().unwrap().contains(&json!("Microsoft.Authorization/*/Write")));
    }
    let assignments = "providers/Microsoft.Authorization/roleAssignments";
    let list = async |scope: &str, filter: &str| {
        owner.get(&format!("{scope}/{assignments}?api-version=2022-04-01{filter}")).await
    };
    owner.be(Role::Reader, None);
    let all = list("", "").await.json();
    let one = &all["value"][0];
    assert_eq!(one["properties"]["principalId"], APP_OID);
    assert!(one["properties"]["roleDefinitionId"].as_str().unwrap().ends_with("acdd72a7-3385-48ef-bd42-f606fba81ae7"));
    assert_eq!(list("/resourceGroups/fleet", "&$filter=atScope()").await.json(), all);
    let none = list("", &format!("&$filter=principalId%20eq%20'{FLUX_OID}'")).await;
    assert_eq!(none.json()["value"], json!([]));
    let by_name = format!("/{assignments}/{}?api-version=2022-04-01", one["name"].as_str().unwrap());
    assert_eq!(owner.get(&by_name).await.json(), *one);
    let definitions = "/providers/Microsoft.Authorization/roleDefinitions";
    let named =
        owner.get(&format!("{definitions}?api-version=2022-04-01&$filter=roleName%20eq%20'reader'")).await.json();
    assert_eq!(named["value"][0]["id"], one["properties"]["roleDefinitionId"]);
    let id = named["value"][0]["name"].as_str().unwrap();
    let found = owner.get(&format!("{definitions}/{id}?api-version=2022-04-01")).await.json();
    assert_eq!((&found, &found["properties"]["roleName"]), (&named["value"][0], &json!("Reader")));
    assert_eq!(owner.get(&format!("{definitions}/x?api-version=2022-04-01")).await.status, 404);
    let missing = owner.get(&format!("/{assignments}/x?api-version=2022-04-01")).await;
    assert_eq!(code(&missing), (404, "RoleAssignmentNotFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn shows_of_lists_what_may_be_read_page_by_page() {
    let owner = Owner::new().await;
    for name in ["one", "two", "three"] {
        assert_eq!(owner.identity(name).await.status, 201);
    }
    owner.put("/resourceGroups/other", json!({"location": "westeurope"})).await;
    let msi = format!("/{MSI}");
    owner.edit(|subscription| subscription.page_size = 2);
    let first = owner.get(&msi).await.json();
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let second = owner.get(first["nextLink"].as_str().unwrap()).await.json();
    assert_eq!((second["value"][0]["name"].as_str(), second.get("nextLink")), (Some("three"), None));
    let within = owner.get(&format!("/resourceGroups/FLEET/{MSI}?{VERSION}&$top=1")).await.json();
    assert_eq!(within["value"].as_array().unwrap().len(), 1);
    assert!(within["nextLink"].as_str().unwrap().contains("%24skiptoken=1"));
    assert_eq!(owner.get(&format!("{msi}?{VERSION}&$top=x")).await.status, 400);

    owner.be(Role::Reader, Some("other"));
    assert_eq!(owner.get(&msi).await.json()["value"], json!([]));
    assert_eq!(owner.get("/resourceGroups").await.json()["value"][0]["name"], "other");
    let clusters = "/providers/Microsoft.ContainerService/managedClusters";
    assert_eq!(owner.get(clusters).await.json()["value"], json!([]));
    owner.edit(|subscription| subscription.role_assignments.clear());
    for path in [&msi, clusters, "/resourceGroups", ""] {
        assert_eq!(code(&owner.get(path).await), (403, "AuthorizationFailed".to_owned()), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_the_subscriptions_and_the_tenant_of_the_caller() {
    let owner = Owner::new().await;
    let list = owner.get(&format!("{ARM}/subscriptions?{VERSION}")).await.json();
    assert_eq!((&list["value"][0]["subscriptionId"], &list["value"][0]["tenantId"]), (&json!(SUB), &json!(TENANT)));
    let one = owner.get(&format!("?{VERSION}")).await.json();
    assert_eq!((one["displayName"].as_str(), one["state"].as_str()), (Some("Platform"), Some("Enabled")));
    let tenants = owner.get(&format!("{ARM}/tenants?{VERSION}")).await.json();
    assert_eq!(tenants["value"][0]["defaultDomain"], "fabrikam.example");
    owner.edit(|subscription| subscription.role_assignments.clear());
    assert_eq!(owner.get(&format!("{ARM}/subscriptions?{VERSION}")).await.json()["value"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn keeps_resource_groups() {
    let owner = Owner::new().await;
    let before = owner.azure.world.state();
    let path = "/resourcegroups/new";
    assert_eq!(owner.send(Method::HEAD, path, Value::Null).await.status, 404);
    assert_eq!(code(&owner.get(path).await), (404, "ResourceGroupNotFound".to_owned()));
    assert_eq!(code(&owner.put(path, json!({"tags": {}})).await), (400, "LocationRequired".to_owned()));
    let bad = owner.put("/resourcegroups/a%20b", json!({"location": "x"})).await;
    assert_eq!(code(&bad), (400, "InvalidResourceGroupName".to_owned()));
    let made = owner.put(path, json!({"location": "northeurope", "tags": {"a": "b"}})).await;
    assert_eq!((made.status.as_u16(), &made.json()["tags"]["a"]), (201, &json!("b")));
    assert_eq!(owner.send(Method::HEAD, path, Value::Null).await.status, 204);
    let tagged = async |filter: &str| owner.get(&format!("/resourcegroups?$filter={filter}&{VERSION}")).await;
    assert_eq!(tagged("tagName%20eq%20'A'").await.json()["value"], json!([made.json()]));
    assert_eq!(tagged("tagName%20eq%20'c'").await.json()["value"], json!([]));
    assert_eq!(code(&tagged("name%20eq%20'new'").await), (400, "InvalidFilterInQueryString".to_owned()));
    assert_eq!(owner.put(path, json!({"location": "North Europe"})).await.status, 200);
    let moved = owner.put(path, json!({"location": "westeurope"})).await;
    assert_eq!(code(&moved), (409, "InvalidResourceGroupLocation".to_owned()));
    owner.put(&identity("flux").replace("fleet", "new"), json!({"location": "northeurope"})).await;
    let deleted = owner.delete(path).await;
    assert_eq!((deleted.status.as_u16(), deleted.header("retry-after")), (202, "15"));
    assert_eq!(owner.get(deleted.header("location")).await.status, 200);
    assert_eq!(owner.azure.world.state(), before, "with all that was in it");
}

#[tokio::test(start_paused = true)]
async fn refuses_identities_that_cannot_be() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    let here = json!({"location": "westeurope"});
    let nowhere = owner.put(&identity("flux").replace("fleet", "none"), here.clone()).await;
    assert_eq!(code(&nowhere), (404, "ResourceGroupNotFound".to_owned()));
    let elsewhere = owner.put(&identity("flux"), json!({"location": "northeurope"})).await;
    assert_eq!(code(&elsewhere), (409, "InvalidResourceLocation".to_owned()));
    assert_eq!(code(&owner.put(&identity("-x"), here.clone()).await), (400, "InvalidResourceName".to_owned()));
    assert_eq!(code(&owner.put(&identity("flux"), json!({})).await), (400, "LocationRequired".to_owned()));
    assert_eq!(code(&owner.put(&identity("flux"), json!([])).await), (400, "InvalidRequestContent".to_owned()));
    let tags = owner.put(&identity("flux"), json!({"location": "westeurope", "tags": {"a": 1}})).await;
    assert_eq!(code(&tags), (400, "InvalidTags".to_owned()));
    assert_eq!(code(&owner.get(&identity("none")).await), (404, "ResourceNotFound".to_owned()));
    assert_eq!(owner.send(Method::POST, &identity("flux"), here).await.status, 405);
    let patched = owner.send(Method::PATCH, &identity("flux"), json!({"tags": {"a": "b"}})).await;
    assert_eq!(patched.json()["tags"], json!({"a": "b"}));
    let missing = owner.send(Method::PATCH, &identity("none"), json!({})).await;
    assert_eq!(code(&missing), (404, "ResourceNotFound".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn refuses_credentials_that_cannot_be() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    owner.credential("one", "s").await;
    let with = |audiences: Value| json!({"properties": {"issuer": ISSUER, "subject": "t", "audiences": audiences}});
    let table = [
        ("two", with(json!([])), "Federated identity credentials must have exactly one audience."),
        ("two", with(json!(["a", "b"])), "Federated identity credentials must have exactly one audience."),
        (
            "two",
            json!({"properties": {"issuer": ISSUER, "audiences": ["a"]}}),
            "The request format was unexpected. \
            Federated Identity Credential must specify 'issuer', 'subject' and 'audience'.",
        ),
        ("two", json!({}), "Federated Identity Credential from HTTP body has empty properties"),
        ("a.b", fic("t"), "Federated Identity Credential name 'a.b' is invalid."),
        ("two", fic("s"), "Issuer and subject combination already exists for this Managed Identity."),
    ];
    for (name, body, message) in table {
        let answer = owner.put(&credential("flux", name), body).await;
        assert_eq!(refusal(&answer), (400, message.to_owned()));
    }
    assert_eq!(owner.put(&credential("flux", "two"), fic(&"s".repeat(601))).await.status, 400);
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = owner.send(method, &credential("none", "one"), fic("s")).await;
        assert_eq!(code(&answer), (404, "ParentResourceNotFound".to_owned()));
    }
    assert_eq!(code(&owner.get(&credential("flux", "none")).await), (404, "ResourceNotFound".to_owned()));
    for number in 2..=20 {
        assert_eq!(owner.credential(&format!("nr-{number}"), &number.to_string()).await.status, 201);
    }
    assert_eq!(owner.credential("one-more", "more").await.status, 400);
    assert_eq!(owner.credential("one", "changed").await.status, 200);
    let list = owner.get(&format!("{}/federatedIdentityCredentials?{VERSION}&$top=20", identity("flux"))).await.json();
    assert_eq!((list["value"].as_array().unwrap().len(), list.get("nextLink")), (20, None));
    owner.edit(|subscription| subscription.locations_without_federation = vec!["westeurope".to_owned()]);
    assert_eq!(owner.credential("one", "x").await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn takes_one_write_at_a_time_of_an_identity() {
    let owner = Owner::new().await;
    for name in ["flux", "other"] {
        owner.identity(name).await;
    }
    let path = Some("federatedIdentityCredentials".to_owned());
    let slow = Fault { name: "slow".to_owned(), path, delay_ms: Some(500), ..Fault::default() };
    owner.azure.world.faults().set(slow);
    let elsewhere = credential("other", "one");
    let (first, second, other) =
        tokio::join!(owner.credential("one", "a"), owner.credential("two", "b"), owner.put(&elsewhere, fic("a")));
    assert_eq!((first.status.as_u16(), other.status.as_u16()), (201, 201));
    let expected = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity";
    assert_eq!(code(&second), (409, expected.to_owned()));
    let id = identity("flux").to_lowercase();
    assert!(second.text.contains(&format!("/subscriptions/{SUB}{id}")), "{}", second.text);
    assert_eq!(owner.credential("two", "b").await.status, 201, "what is over is in nobody's way");
}

#[tokio::test(start_paused = true)]
async fn enforces_the_published_rates_when_told_to() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    owner.edit(|subscription| subscription.enforce_credential_rates = true);
    assert_eq!(owner.credential("one", "a").await.status, 201);
    let refused = owner.credential("two", "b").await;
    assert_eq!((code(&refused), refused.header("retry-after")), ((429, "TooManyRequests".to_owned()), "4"));
    owner.azure.world.clock().sleep(Duration::from_secs(4)).await;
    assert_eq!(owner.credential("two", "b").await.status, 201);
    assert_eq!(owner.get(&credential("flux", "one")).await.status, 200);
    assert_eq!(owner.get(&credential("flux", "one")).await.header("retry-after"), "2");
}

#[tokio::test(start_paused = true)]
async fn demands_a_registered_provider_and_repeats_its_refusal() {
    let owner = Owner::new().await;
    owner.edit(|subscription| {
        subscription.providers.remove(0);
        subscription.registration_seconds = 20;
    });
    let authorization = bearer(&owner.token);
    let url = format!("{ARM}/subscriptions/{SUB}{}?{VERSION}", identity("flux"));
    let put = async |id: &str| {
        let headers = [("Authorization", authorization.as_str()), ("x-ms-client-request-id", id)];
        let body = json!({"location": "westeurope"}).to_string();
        owner.azure.send(request(Method::PUT, &url, &headers, &body)).await
    };
    let refused = put("first").await;
    assert_eq!(code(&refused), (409, "MissingSubscriptionRegistration".to_owned()));
    assert!(refused.text.contains("'Microsoft.ManagedIdentity'"), "{}", refused.text);
    let state = async || {
        let provider = owner.get("/providers/Microsoft.ManagedIdentity?api-version=2016-02-01").await;
        provider.json()["registrationState"].as_str().unwrap().to_owned()
    };
    assert_eq!(state().await, "NotRegistered");
    let register = "/providers/Microsoft.ManagedIdentity/register?api-version=2016-02-01";
    assert_eq!(owner.send(Method::POST, register, Value::Null).await.status, 200);
    assert_eq!((state().await.as_str(), put("second").await.status.as_u16()), ("Registering", 409));
    owner.azure.world.clock().sleep(Duration::from_secs(20)).await;
    assert_eq!(state().await, "Registered");
    assert_eq!((put("first").await.status.as_u16(), put("third").await.status.as_u16()), (409, 201));
    owner.be(Role::Reader, None);
    assert_eq!(owner.send(Method::POST, register, Value::Null).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn obeys_policy_and_locks() {
    let owner = Owner::new().await;
    owner.identity("flux").await;
    let denied = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
    owner.edit(|subscription| subscription.denied_by_policy = vec![denied.to_owned()]);
    let answer = owner.credential("one", "s").await;
    assert_eq!(code(&answer), (403, "RequestDisallowedByPolicy".to_owned()));
    assert_eq!(answer.json()["error"]["additionalInfo"][0]["type"], "PolicyViolation");
    assert_eq!(owner.identity("flux").await.status, 200);
    owner.edit(|subscription| {
        subscription.denied_by_policy.clear();
        let resource_group = Some("fleet".to_owned());
        subscription.locks = vec![Lock { level: LockLevel::CanNotDelete, resource_group }];
    });
    assert_eq!(owner.credential("one", "s").await.status, 201);
    assert_eq!(code(&owner.delete(&credential("flux", "one")).await), (409, "ScopeLocked".to_owned()));
    owner.edit(|subscription| {
        subscription.locks = vec![Lock { level: LockLevel::ReadOnly, resource_group: None }];
    });
    assert_eq!(code(&owner.identity("flux").await), (409, "ScopeLocked".to_owned()));
    assert_eq!(owner.get(&identity("flux")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn shows_clusters() {
    let owner = Owner::new().await;
    let path = "/resourceGroups/fleet/providers/Microsoft.ContainerService/managedClusters/aks?api-version=2026-08-01";
    let cluster = owner.get(path).await.json();
    assert_eq!(cluster["properties"]["oidcIssuerProfile"], json!({"enabled": true, "issuerURL": ISSUER}));
    assert_eq!(cluster["properties"]["securityProfile"]["workloadIdentity"]["enabled"], true);
    assert_eq!(owner.get(&path.replace("/aks", "")).await.json()["value"][0], cluster);
    assert_eq!(code(&owner.get(&path.replace("aks?", "none?")).await), (404, "ResourceNotFound".to_owned()));
    owner.edit(|subscription| {
        let plain =
            ManagedCluster { issuer_url: None, workload_identity: false, ..subscription.managed_clusters[0].clone() };
        subscription.managed_clusters = vec![plain];
    });
    let properties = owner.get(path).await.json()["properties"].clone();
    assert_eq!((properties.get("oidcIssuerProfile"), properties.get("securityProfile")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_propagates() {
    let owner = Owner::new().await;
    owner.azure.world.edit(|state| state.defaults.propagation_seconds = 30).unwrap();
    let made = owner.identity("flux").await.json();
    owner.credential("one", "s").await;
    let sign_in = async || {
        let assertion = owner.azure.assertion_of("s");
        let mut fields = federated(&assertion, SCOPE);
        fields[1].1 = made["properties"]["clientId"].as_str().unwrap();
        owner.azure.token(&fields).await.status.as_u16()
    };
    assert_eq!(sign_in().await, 400);
    owner.azure.world.clock().sleep(Duration::from_secs(30)).await;
    assert_eq!(sign_in().await, 200);
    assert_eq!(owner.azure.world.state().organizations, vec![Organization::clone(&state().organizations[0])]);
}
