//! Azure DevOps: what a set-up asks for, and who may.

use std::time::Duration;

use flux_bearer_sim::state::{Application, Kind, Licence, Member, Namespace, Organization, State, User};
use http::Method;
use serde_json::{Value, json};

use super::support::*;

const NEW_OID: &str = "77777777-7777-4777-8777-00000000000f";
const NEW: &str = "77777777-7777-4777-8777-777777777777";
const ADA: &str = "88888888-8888-4888-8888-00000000000f";
const GIT: &str = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87";
const PROJECT: &str = "52d39943-cb85-4d7f-8fa8-c6baac873819";
const PREVIEW: &str = "api-version=7.1-preview.1";

fn fabrikam(state: &mut State) -> &mut Organization {
    &mut state.organizations[0]
}

/// The state of the other tests, with the application as an administrator, a person, and a managed identity to be added.
fn state_to_set_up() -> State {
    let mut state = state();
    let tenant = &mut state.tenants[0];
    tenant.applications.push(Application {
        name: "new".to_owned(),
        kind: Kind::ManagedIdentity,
        client_id: NEW.to_owned(),
        object_id: NEW_OID.to_owned(),
        ..Application::default()
    });
    let display_name = Some("Ada Lovelace".to_owned());
    let user_principal_name = "ada@fabrikam.example".to_owned();
    tenant.users.push(User { object_id: ADA.to_owned(), user_principal_name, display_name });
    let fabrikam = fabrikam(&mut state);
    for object_id in [APP_OID, ADA] {
        fabrikam.members.push(Member { object_id: object_id.to_owned(), ..Member::default() });
    }
    fabrikam.administrators.push(APP_OID.to_owned());
    state
}

/// An administrator at work.
struct Administrator {
    azure: Azure,
    token: String,
}

impl Administrator {
    async fn new() -> Self {
        let azure = Azure::with(state_to_set_up());
        let token = azure.mint_with_secret(SCOPE).await;
        Self { azure, token }
    }

    /// Sends to `HOST/PATH`, where the host is `dev`, `vssps` or `vsaex`.
    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.send_as(&self.token, method, path, body).await
    }

    async fn send_as(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        let (host, path) = path.split_once('/').unwrap();
        let host = if host == "dev" { "dev.azure.com".to_owned() } else { format!("{host}.dev.azure.com") };
        let url = format!("https://{host}/fabrikam/{path}");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.azure.send(request(method, &url, &[("Authorization", &bearer(token))], &text)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &Value::Null).await
    }

    fn edit(&self, change: impl FnOnce(&mut Organization)) {
        self.azure.world.edit(|state| change(fabrikam(state))).unwrap();
    }

    fn organization(&self) -> Organization {
        self.azure.world.state().organizations.remove(0)
    }

    async fn add(&self, body: Value) -> Answer {
        self.post(&format!("vsaex/_apis/serviceprincipalentitlements?{PREVIEW}"), body).await
    }

    /// Sets an entry for the new identity at a token.
    async fn allow(&self, namespace: &str, token: &str, allow: u32, deny: u32, merge: bool) -> Answer {
        let entry = json!({"descriptor": descriptor(), "allow": allow, "deny": deny, "extendedInfo": {}});
        let body = json!({"token": token, "merge": merge, "accessControlEntries": [entry]});
        self.post(&format!("dev/_apis/accesscontrolentries/{namespace}?api-version=7.1"), body).await
    }

    /// What an entry of the new identity says, and what follows: allow, deny, effective allow.
    async fn read_back(&self, namespace: &str, token: &str) -> Option<(u64, u64, u64)> {
        let descriptor = descriptor();
        let path = format!(
            "dev/_apis/accesscontrollists/{namespace}?token={}&descriptors={}&includeExtendedInfo=true&recurse=false",
            token.replace('$', "%24"),
            descriptor.replace('\\', "%5C").replace(';', "%3B"),
        );
        let lists = self.get(&path).await.json();
        let entry = lists["value"].get(0)?["acesDictionary"][&descriptor].clone();
        let number = |value: &Value| value.as_u64().unwrap();
        Some((number(&entry["allow"]), number(&entry["deny"]), number(&entry["extendedInfo"]["effectiveAllow"])))
    }

    fn tokens(&self) -> (String, String) {
        let organization = self.organization();
        let project = &organization.projects[0];
        let project_id = organization.project_id(project);
        let repository_id = organization.repository_id(project, &project.repositories[0]);
        (
            format!("$PROJECT:vstfs:///Classification/TeamProject/{project_id}"),
            format!("repoV2/{project_id}/{repository_id}"),
        )
    }

    /// A token of the new identity, got as the machine's.
    async fn token_of_new(&self) -> String {
        self.azure.world.edit(|state| state.imds.user_assigned = vec![NEW.to_owned()]).unwrap();
        let url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=";
        let answer = self.azure.get(&format!("{url}{DEVOPS}"), &[("Metadata", "true")]).await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// What the new identity gets of Git: the status of a fetch and of a push.
    async fn git(&self) -> (u16, u16) {
        let token = self.token_of_new().await;
        let path = "dev/My%20Fleet/_git/clusters/info/refs?service=git-upload-pack";
        let ask = async |path: &str| self.send_as(&token, Method::GET, path, &Value::Null).await.status.as_u16();
        (ask(path).await, ask(&path.replace("upload", "receive")).await)
    }
}

fn descriptor() -> String {
    format!("Microsoft.VisualStudio.Services.Claims.AadServicePrincipal;{TENANT}\\{NEW_OID}")
}

fn entitlement(licence: &str) -> Value {
    json!({
        "accessLevel": {"accountLicenseType": licence, "licensingSource": "account"},
        "servicePrincipal": {"origin": "aad", "originId": NEW_OID, "subjectKind": "servicePrincipal"},
    })
}

fn in_group(kind: &str) -> Value {
    let mut body = entitlement("express");
    let project = json!({"id": state_to_set_up().organizations[0].project_id(&state().organizations[0].projects[0])});
    body["projectEntitlements"] = json!([{"group": {"groupType": kind}, "projectRef": project}]);
    body
}

fn fault(answer: &Answer) -> String {
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["isSuccess"]), (200, &json!(false)), "{}", answer.text);
    assert!(body["servicePrincipalEntitlement"].is_null());
    body["operationResult"]["errors"][0]["value"].as_str().unwrap().to_owned()
}

fn key(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["typeKey"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn adds_an_identity_that_fetches_and_leaves_nothing_of_it() {
    let admin = Administrator::new().await;
    let before = admin.azure.world.state();
    let added = admin.add(entitlement("express")).await.json();
    assert_eq!((&added["isSuccess"], &added["operationResult"]["errors"]), (&json!(true), &json!([])));
    let given = &added["servicePrincipalEntitlement"];
    assert_eq!(added["operationResult"]["result"], *given);
    let graph = &given["servicePrincipal"];
    assert_eq!((&graph["originId"], &graph["applicationId"]), (&json!(NEW_OID), &json!(NEW)));
    assert_eq!((&graph["metaType"], &graph["domain"]), (&json!("managedIdentity"), &json!(TENANT)));
    assert_eq!(
        (&given["accessLevel"]["licenseDisplayName"], &given["accessLevel"]["status"]),
        (&json!("Basic"), &json!("pending"))
    );
    assert_eq!(given["dateCreated"], "2026-11-22T10:00:00Z");

    let (project, repository) = admin.tokens();
    assert_eq!(admin.git().await, (404, 404), "no right yet");
    assert_eq!(admin.allow(GIT, &repository, 2, 0, true).await.status, 200);
    assert_eq!(admin.git().await, (404, 404), "the project can't be seen");
    assert_eq!(admin.allow(PROJECT, &project, 1, 0, true).await.status, 200);
    assert_eq!(admin.git().await, (200, 403));
    assert_eq!(admin.read_back(GIT, &repository.to_uppercase()).await, Some((2, 0, 2)));
    let merged = admin.allow(GIT, &repository, 4, 0, true).await.json();
    assert_eq!((&merged["value"][0]["allow"], &merged["count"]), (&json!(6), &json!(1)));
    assert_eq!(admin.git().await, (200, 200));
    admin.allow(GIT, &repository, 4, 2, false).await;
    assert_eq!((admin.read_back(GIT, &repository).await, admin.git().await), (Some((4, 2, 4)), (404, 404)));

    let id = given["id"].as_str().unwrap();
    let path = format!("vsaex/_apis/serviceprincipalentitlements/{id}?{PREVIEW}");
    assert_eq!(admin.get(&path).await.json()["accessLevel"]["status"], "active");
    for (namespace, token) in [(GIT, &repository), (PROJECT, &project)] {
        let query = format!(
            "token={}&descriptors={}&api-version=7.1",
            token.replace('$', "%24"),
            descriptor().replace('\\', "%5C")
        );
        let path = format!("dev/_apis/accesscontrolentries/{namespace}?{query}");
        assert_eq!((admin.delete(&path).await.json(), admin.delete(&path).await.json()), (json!(true), json!(false)));
    }
    assert_eq!(admin.delete(&path).await.status, 200);
    assert_eq!(key(&admin.get(&path).await), (404, "IdentityNotFoundException".to_owned()));
    admin.azure.world.edit(|state| state.imds = before.imds.clone()).unwrap();
    assert_eq!(admin.azure.world.state(), before);
}

#[tokio::test(start_paused = true)]
async fn gives_what_the_groups_have() {
    let admin = Administrator::new().await;
    for (kind, expected) in [("projectReader", (200, 403)), ("projectContributor", (200, 200))] {
        let added = admin.add(in_group(kind)).await.json();
        let given = &added["servicePrincipalEntitlement"]["projectEntitlements"];
        assert!(given.as_array().unwrap().iter().any(|one| one["group"]["groupType"] == kind), "{added}");
        assert_eq!(admin.git().await, expected, "{kind}");
    }
    let added = admin.add(in_group("projectAdministrator")).await.json();
    let id = added["servicePrincipalEntitlement"]["id"].as_str().unwrap();
    let token = admin.token_of_new().await;
    let body = json!({"name": "made"});
    let path = "dev/My%20Fleet/_apis/git/repositories?api-version=7.1";
    assert_eq!(admin.send_as(&token, Method::POST, path, &body).await.status, 201);
    admin.delete(&format!("vsaex/_apis/serviceprincipalentitlements/{id}?{PREVIEW}")).await;
    let project = &admin.organization().projects[0];
    assert!(project.administrators.is_empty() && project.groups == flux_bearer_sim::state::ProjectGroups::default());
}

#[tokio::test(start_paused = true)]
async fn a_denial_wins_and_the_nearer_token_decides() {
    let admin = Administrator::new().await;
    admin.add(in_group("projectReader")).await;
    let (_, repository) = admin.tokens();
    let (project, _) = repository.rsplit_once('/').unwrap();
    admin.allow(GIT, "repoV2", 0, 2, true).await;
    assert_eq!(admin.git().await.0, 200, "the project's group is nearer than the organisation");
    admin.allow(GIT, project, 0, 2, true).await;
    assert_eq!(admin.git().await.0, 404, "at one token a denial wins over the group");
    admin.allow(GIT, &repository, 2, 0, true).await;
    assert_eq!(admin.git().await.0, 200, "the repository is nearer");
    let lists = admin.get(&format!("dev/_apis/accesscontrollists/{GIT}?token={project}&recurse=true")).await.json();
    let tokens: Vec<_> =
        lists["value"].as_array().unwrap().iter().map(|list| list["token"].as_str().unwrap()).collect();
    assert_eq!(tokens[..2], [project, &repository], "{tokens:?}");
    let all = admin.get(&format!("dev/_apis/accesscontrollists/{GIT}")).await.json();
    let tokens: Vec<_> = all["value"].as_array().unwrap().iter().map(|list| list["token"].as_str().unwrap()).collect();
    assert_eq!(tokens[..3], ["repoV2", project, &repository], "{tokens:?}");
    admin.edit(|organization| organization.members.last_mut().unwrap().licence = Licence::Stakeholder);
    assert_eq!(admin.git().await.0, 404, "a stakeholder opens no repository");
}

#[tokio::test(start_paused = true)]
async fn the_short_lists_are_entries_too() {
    let admin = Administrator::new().await;
    let (project, repository) = admin.tokens();
    let descriptor = format!("Microsoft.VisualStudio.Services.Claims.AadServicePrincipal;{TENANT}\\{FLUX_OID}");
    let lists = admin.get(&format!("dev/_apis/accesscontrollists/{GIT}?token={repository}")).await.json();
    assert_eq!(lists["value"][0]["acesDictionary"][&descriptor]["allow"], 2);
    let query = format!(
        "token={}&descriptors={}&api-version=7.1",
        project.replace('$', "%24"),
        descriptor.replace('\\', "%5C")
    );
    assert_eq!(admin.delete(&format!("dev/_apis/accesscontrolentries/{PROJECT}?{query}")).await.json(), true);
    assert!(!admin.organization().projects[0].readers.contains(&FLUX_OID.to_owned()));
    let root = admin.get(&format!("dev/_apis/accesscontrollists/{GIT}?token=repoV2")).await.json();
    let entries = root["value"][0]["acesDictionary"].as_object().unwrap();
    assert!(entries.keys().all(|key| key.starts_with("Microsoft.TeamFoundation.Identity;S-1-9-1551374245-")));
}

#[tokio::test(start_paused = true)]
async fn refuses_an_entitlement_in_the_shape_of_a_success() {
    let admin = Administrator::new().await;
    admin.edit(|organization| {
        organization.entitlement_delay_seconds = 60;
        organization.basic_licences = Some(3);
    });
    let before = admin.organization();
    let mut wrong = entitlement("express");
    wrong["servicePrincipal"]["originId"] = json!(NEW);
    assert_eq!(fault(&admin.add(wrong).await), format!("Failed to create service principal with object ID '{NEW}'."));
    assert_eq!(
        fault(&admin.add(entitlement("express")).await),
        "There are no licenses of the type 'Basic' left in the organization."
    );
    assert_eq!(admin.organization(), before);
    admin
        .azure
        .world
        .edit(|state| state.tenants[0].applications.last_mut().unwrap().created_at = Some(admin.azure.now()))
        .unwrap();
    let early = admin.add(entitlement("stakeholder")).await;
    assert_eq!(fault(&early), format!("VS403283: Could not add user '{NEW_OID}' at this time."));
    assert_eq!(early.json()["operationResult"]["errors"][0]["key"], 5000);
    admin.azure.world.clock().sleep(Duration::from_mins(1)).await;
    let added = admin.add(entitlement("stakeholder")).await.json();
    assert_eq!(added["servicePrincipalEntitlement"]["accessLevel"]["accountLicenseType"], "stakeholder");
    admin.edit(|organization| organization.basic_licences = Some(4));
    let numbers = json!({"accountLicenseType": 2, "licensingSource": 1});
    let mut body = entitlement("");
    body["accessLevel"] = numbers;
    assert_eq!(
        admin.add(body).await.json()["servicePrincipalEntitlement"]["accessLevel"]["accountLicenseType"],
        "express"
    );
    let mut sourceless = entitlement("express");
    sourceless["accessLevel"]["licensingSource"] = json!("auto");
    let level = admin.add(sourceless).await.json()["servicePrincipalEntitlement"]["accessLevel"].clone();
    assert_eq!(level["accountLicenseType"], "stakeholder", "only the account's licences are given");
    assert_eq!(fault(&admin.add(entitlement("platinum")).await), "The account license type is not valid.");
    assert!(fault(&admin.add(in_group("custom")).await).starts_with("There is no group 'custom'"));
}

#[tokio::test(start_paused = true)]
async fn updates_entitlements_one_by_one_and_in_bulk() {
    let admin = Administrator::new().await;
    let added = admin.add(in_group("projectReader")).await.json()["servicePrincipalEntitlement"].clone();
    let (id, project) = (added["id"].as_str().unwrap(), &added["projectEntitlements"][0]["projectRef"]["id"]);
    let project = project.as_str().unwrap();
    let patch = json!([
        {"from": "", "op": "replace", "path": "/accessLevel", "value": {"accountLicenseType": "stakeholder", "licensingSource": "account"}},
        {"from": "", "op": "remove", "path": format!("/projectEntitlements/{project}"), "value": ""},
        {"from": "", "op": "add", "path": format!("/projectEntitlements/{project}"), "value": in_group("projectContributor")["projectEntitlements"][0]},
        {"from": "", "op": "test", "path": "/x", "value": ""},
    ]);
    let one = format!("vsaex/_apis/serviceprincipalentitlements/{id}?{PREVIEW}");
    let answer = admin.send(Method::PATCH, &one, &patch).await.json();
    let worked: Vec<_> = answer["operationResults"].as_array().unwrap().iter().map(|one| &one["isSuccess"]).collect();
    assert_eq!(
        (worked, &answer["isSuccess"]),
        (vec![&json!(true), &json!(true), &json!(true), &json!(false)], &json!(false))
    );
    let now = &answer["servicePrincipalEntitlement"];
    assert_eq!(now["accessLevel"]["accountLicenseType"], "stakeholder");
    assert_eq!(now["projectEntitlements"].as_array().unwrap().len(), 1);
    assert_eq!(now["projectEntitlements"][0]["group"]["groupType"], "projectContributor");

    let all = format!("vsaex/_apis/serviceprincipalentitlements?{PREVIEW}");
    let bulk = json!([
        {"op": "replace", "path": format!("/{id}/accessLevel"), "value": {"accountLicenseType": "express", "licensingSource": "account"}},
        {"op": "add", "path": "", "value": entitlement("express")},
    ]);
    let answer = admin.send(Method::PATCH, &all, &bulk).await.json();
    assert_eq!((&answer["status"], &answer["haveResultsSucceeded"]), (&json!("succeeded"), &json!(true)));
    assert_eq!(answer["results"][1]["servicePrincipalId"], id);
    assert_eq!(admin.get(&all).await.status, 405, "there is no list call");
    let found =
        admin.get("vsaex/_apis/memberentitlements?api-version=7.1-preview.2&$filter=name%20eq%20'new'").await.json();
    assert_eq!((&found["totalCount"], &found["members"][0]["member"]["originId"]), (&json!(1), &json!(NEW_OID)));
    let everyone = admin.get("vsaex/_apis/memberentitlements?api-version=7.1-preview.2").await.json();
    assert_eq!((&everyone["totalCount"], &everyone["items"]), (&json!(5), &everyone["members"]));
}

#[tokio::test(start_paused = true)]
async fn demands_the_right_api_version() {
    let admin = Administrator::new().await;
    let path = "vsaex/_apis/serviceprincipalentitlements";
    let stable = admin.post(&format!("{path}?api-version=7.1"), entitlement("express")).await;
    assert_eq!(key(&stable), (400, "VssInvalidPreviewVersionException".to_owned()));
    let none = admin.post(path, entitlement("express")).await;
    assert_eq!(key(&none), (400, "VssVersionNotSpecifiedException".to_owned()));
    let storage_key = admin.add(entitlement("express")).await.json()["servicePrincipalEntitlement"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(admin.get(&format!("vssps/_apis/graph/descriptors/{storage_key}?api-version=7.1")).await.status, 200);
    assert_eq!(admin.get("vssps/_apis/graph/groups?api-version=7.1").await.status, 400);
    assert_eq!(admin.get("vssps/_apis/graph/groups").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn lets_only_administrators_set_up() {
    let admin = Administrator::new().await;
    let (project, repository) = admin.tokens();
    let member = admin.azure.mint().await;
    let entry = json!({"descriptor": descriptor(), "allow": 2, "deny": 0});
    let body = |token: &str| json!({"token": token, "merge": true, "accessControlEntries": [entry]});
    let at = |namespace: &str| format!("dev/_apis/accesscontrolentries/{namespace}?api-version=7.1");
    let entitle = format!("vsaex/_apis/serviceprincipalentitlements?{PREVIEW}");
    admin.add(entitlement("express")).await;
    let as_member = async |path: &str, body: &Value| key(&admin.send_as(&member, Method::POST, path, body).await);
    let denied = (403, "AccessDeniedException".to_owned());
    assert_eq!(as_member(&entitle, &entitlement("express")).await, denied);
    assert_eq!(as_member(&at(GIT), &body(&repository)).await, denied);
    assert_eq!(as_member(&at(PROJECT), &body(&project)).await, denied);
    admin.edit(|organization| organization.projects[0].administrators.push(FLUX_OID.to_owned()));
    for (namespace, token) in [(GIT, &repository), (PROJECT, &project)] {
        assert_eq!(admin.send_as(&member, Method::POST, &at(namespace), &body(token)).await.status, 200);
    }
    assert_eq!(as_member(&at(GIT), &body("repoV2")).await, denied, "an administrator of a project is none elsewhere");
    assert_eq!(as_member(&entitle, &entitlement("express")).await, denied);
    assert_eq!(as_member("dev/_apis/projects?api-version=7.1", &json!({"name": "p"})).await, denied);
}

#[tokio::test(start_paused = true)]
async fn reads_an_entry_back_late_when_told_to() {
    let admin = Administrator::new().await;
    admin.add(entitlement("express")).await;
    admin.edit(|organization| organization.acl_delay_seconds = 30);
    let (project, repository) = admin.tokens();
    admin.allow(PROJECT, &project, 1, 0, true).await;
    assert_eq!(admin.allow(GIT, &repository, 2, 0, true).await.json()["value"][0]["allow"], 2);
    assert_eq!((admin.read_back(GIT, &repository).await, admin.git().await.0), (None, 404));
    admin.azure.world.clock().sleep(Duration::from_secs(29)).await;
    admin.allow(GIT, &repository, 2, 0, true).await;
    assert_eq!(admin.read_back(GIT, &repository).await, None);
    admin.azure.world.clock().sleep(Duration::from_secs(1)).await;
    assert_eq!((admin.read_back(GIT, &repository).await, admin.git().await.0), (Some((2, 0, 2)), 200));
}

#[tokio::test(start_paused = true)]
async fn lists_a_new_principal_late_when_told_to() {
    let admin = Administrator::new().await;
    admin.edit(|organization| organization.principal_delay_seconds = 10);
    let list = async || {
        let body = admin.get(&format!("vssps/_apis/graph/serviceprincipals?{PREVIEW}")).await.json();
        body["value"].as_array().unwrap().iter().filter(|one| one["originId"] == NEW_OID).count()
    };
    admin.add(entitlement("express")).await;
    assert_eq!(list().await, 0);
    admin.azure.world.clock().sleep(Duration::from_secs(10)).await;
    assert_eq!(list().await, 1);
}

#[tokio::test(start_paused = true)]
async fn tells_descriptors_apart_and_leads_from_one_to_another() {
    let admin = Administrator::new().await;
    let graph = format!("vssps/_apis/graph/serviceprincipals?{PREVIEW}");
    let made = admin.post(&graph, json!({"originId": NEW_OID})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(admin.organization().members.last().unwrap().licence, Licence::None);
    let subject = made.json()["descriptor"].as_str().unwrap().to_owned();
    assert!(subject.starts_with("aadsp."));
    let key = admin.get(&format!("vssps/_apis/graph/storagekeys/{subject}")).await.json()["value"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(admin.get(&format!("vssps/_apis/graph/descriptors/{key}")).await.json()["value"], subject.as_str());

    let identities =
        async |query: &str| admin.get(&format!("vssps/_apis/identities?{query}&api-version=7.1")).await.json();
    let found = identities(&format!("subjectDescriptors=aadsp.none,{subject}")).await;
    assert!(found["value"][0].is_null(), "what is not found is null, in its place");
    let identity = &found["value"][1];
    assert_eq!((identity["descriptor"].as_str(), identity["id"].as_str()), (Some(&*descriptor()), Some(&*key)));
    let claim = "http://schemas.microsoft.com/identity/claims/objectidentifier";
    assert_eq!(identity["properties"][claim]["$value"], NEW_OID);
    let by_descriptor =
        identities(&format!("descriptors={}", descriptor().replace('\\', "%5C").replace(';', "%3B"))).await;
    assert_eq!(
        (&by_descriptor["value"][0], &identities(&format!("identityIds={key}")).await["value"][0]),
        (identity, identity)
    );
    assert_eq!(identities("searchFilter=General&filterValue=NEW").await["value"][0], *identity);
    assert_eq!(admin.get(&format!("vssps/_apis/identities/{key}?api-version=7.1")).await.json(), *identity);
    assert_eq!(admin.get("vssps/_apis/identities?api-version=7.1").await.status, 400);

    let person = identities("searchFilter=General&filterValue=ada@fabrikam.example").await["value"][0].clone();
    assert_eq!(
        person["descriptor"],
        format!("Microsoft.IdentityModel.Claims.ClaimsIdentity;{TENANT}\\ada@fabrikam.example")
    );
    assert!(person["subjectDescriptor"].as_str().unwrap().starts_with("aad."));
    let users = admin.get(&format!("vssps/_apis/graph/users?{PREVIEW}")).await.json();
    assert_eq!((&users["count"], &users["value"][0]["mailAddress"]), (&json!(1), &json!("ada@fabrikam.example")));
    let me = admin.get("vssps/_apis/profile/profiles/me?api-version=7.1").await.json();
    assert_eq!(me["displayName"], "pipeline");

    let keys = json!({"lookupKeys": [{"descriptor": subject}, {"descriptor": "aadsp.none"}]});
    let looked = admin.post(&format!("vssps/_apis/graph/subjectlookup?{PREVIEW}"), keys).await.json();
    assert_eq!((&looked["count"], &looked["value"][&subject]["originId"]), (&json!(1), &json!(NEW_OID)));
    let query = json!({"query": NEW_OID, "subjectKind": ["User"]});
    let asked = admin.post(&format!("vssps/_apis/graph/subjectquery?{PREVIEW}"), query).await.json();
    assert_eq!(asked["value"][0]["descriptor"], subject.as_str());
    assert_eq!(admin.delete(&format!("vssps/_apis/graph/serviceprincipals/{subject}?{PREVIEW}")).await.status, 204);
    assert_eq!(admin.get(&format!("vssps/_apis/graph/serviceprincipals/{subject}?{PREVIEW}")).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn puts_members_into_groups() {
    let admin = Administrator::new().await;
    let subject =
        admin.add(entitlement("express")).await.json()["servicePrincipalEntitlement"]["servicePrincipal"]["descriptor"]
            .as_str()
            .unwrap()
            .to_owned();
    let project_id = admin.organization().project_id(&admin.organization().projects[0]);
    let scope = admin.get(&format!("vssps/_apis/graph/descriptors/{project_id}")).await.json()["value"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(scope.starts_with("scp."));
    let groups = admin.get(&format!("vssps/_apis/graph/groups?scopeDescriptor={scope}")).await.json();
    assert_eq!(groups["count"], 3);
    let readers = groups["value"].as_array().unwrap().iter().find(|one| one["displayName"] == "Readers").unwrap();
    assert_eq!(
        (readers["principalName"].as_str(), &readers["domain"]),
        (Some("[My Fleet]\\Readers"), &json!(format!("vstfs:///Classification/TeamProject/{project_id}")))
    );
    let group = readers["descriptor"].as_str().unwrap();
    let edge = format!("vssps/_apis/graph/memberships/{subject}/{group}?{PREVIEW}");
    let send = async |method: Method| admin.send(method, &edge, &Value::Null).await.status.as_u16();
    assert_eq!(send(Method::HEAD).await, 404);
    let member = admin.azure.mint().await;
    assert_eq!(admin.send_as(&member, Method::PUT, &edge, &Value::Null).await.status, 403);
    assert_eq!((send(Method::PUT).await, send(Method::HEAD).await, send(Method::GET).await), (201, 200, 200));
    assert_eq!(admin.git().await.0, 200);
    let up = admin.get(&format!("vssps/_apis/graph/memberships/{subject}")).await.json();
    let down = admin.get(&format!("vssps/_apis/graph/memberships/{group}?direction=down")).await.json();
    assert_eq!((up["count"].clone(), &up["value"]), (json!(1), &down["value"]));
    assert_eq!((send(Method::DELETE).await, send(Method::HEAD).await), (200, 404));
    assert_eq!(admin.get(&format!("vssps/_apis/graph/groups/{group}?{PREVIEW}")).await.json(), *readers);
    let id = readers["originId"].as_str().unwrap();
    assert_eq!(admin.get(&format!("vssps/_apis/graph/descriptors/{id}")).await.json()["value"], group);
}

#[tokio::test(start_paused = true)]
async fn evaluates_the_rights_of_the_caller() {
    let admin = Administrator::new().await;
    let (project, repository) = admin.tokens();
    let namespaces = admin.get("dev/_apis/securitynamespaces?api-version=7.1").await.json();
    assert_eq!(namespaces["count"], 3);
    let git = admin.get(&format!("dev/_apis/securitynamespaces/{GIT}?api-version=7.1")).await.json();
    let manage = git["value"][0]["actions"].as_array().unwrap().iter().find(|one| one["bit"] == 8192).unwrap();
    assert_eq!((&manage["name"], &git["value"][0]["writePermission"]), (&json!("ManagePermissions"), &json!(8192)));
    assert_eq!(admin.get(&format!("dev/_apis/securitynamespaces/{NEW}?api-version=7.1")).await.status, 404);

    let member = admin.azure.mint().await;
    let ask = async |token: &str, bits: u32| {
        let path = format!("dev/_apis/permissions/{GIT}/{bits}?tokens={repository},repoV2&api-version=7.1");
        admin.send_as(token, Method::GET, &path, &Value::Null).await.json()["value"].clone()
    };
    assert_eq!((ask(&member, 2).await, ask(&member, 6).await), (json!([true, false]), json!([false, false])));
    assert_eq!(ask(&admin.token, 8192).await, json!([true, true]));
    let batch = json!({"alwaysAllowAdministrators": false, "evaluations": [
        {"securityNamespaceId": GIT, "token": repository, "permissions": 4},
        {"securityNamespaceId": PROJECT, "token": project, "permissions": 1},
    ]});
    let path = "dev/_apis/security/permissionevaluationbatch?api-version=7.1";
    let answer = admin.send_as(&member, Method::POST, path, &batch).await.json();
    let values: Vec<_> = answer["evaluations"].as_array().unwrap().iter().map(|one| &one["value"]).collect();
    assert_eq!(values, [&json!(false), &json!(true)]);
}

#[tokio::test(start_paused = true)]
async fn makes_projects_and_repositories() {
    let admin = Administrator::new().await;
    let path = "dev/_apis/projects?api-version=7.1";
    let queued = admin.post(path, json!({"name": "Second"})).await;
    assert_eq!((queued.status.as_u16(), &queued.json()["status"]), (202, &json!("queued")));
    let id = queued.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.get(&format!("dev/_apis/operations/{id}?api-version=7.1")).await.json()["status"], "succeeded");
    assert_eq!(admin.get(&format!("dev/_apis/operations/{NEW}?api-version=7.1")).await.status, 404);
    assert_eq!(admin.post(path, json!({"name": "second"})).await.status, 409);

    let repositories = "dev/Second/_apis/git/repositories";
    let made = admin.post(&format!("{repositories}?api-version=7.1"), json!({"name": "fleet"})).await;
    assert_eq!(
        (made.status.as_u16(), made.json()["remoteUrl"].as_str()),
        (201, Some("https://fabrikam@dev.azure.com/fabrikam/Second/_git/fleet"))
    );
    assert!(made.json().get("defaultBranch").is_none());
    let twice = admin.post(&format!("{repositories}?api-version=7.1"), json!({"name": "Fleet"})).await;
    assert_eq!(key(&twice), (409, "GitRepositoryNameAlreadyExistsException".to_owned()));
    let member = admin.azure.mint().await;
    let path = "dev/My%20Fleet/_apis/git/repositories?api-version=7.1";
    let refused = admin.send_as(&member, Method::POST, path, &json!({"name": "x"})).await;
    assert_eq!(key(&refused), (403, "GitNeedsPermissionException".to_owned()));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("dev/_apis/git/repositories/{id}?api-version=7.1")).await.status, 204);
    assert!(admin.organization().projects.last().unwrap().repositories.is_empty());

    admin.edit(|organization| organization.projects[0].repositories[0].is_disabled = true);
    let disabled = admin.get("dev/My%20Fleet/_apis/git/repositories/clusters").await;
    assert_eq!(disabled.json()["isDisabled"], true);
    admin.add(in_group("projectReader")).await;
    assert_eq!(admin.git().await, (404, 404));
}

#[tokio::test(start_paused = true)]
async fn serves_each_resource_at_its_own_host() {
    let admin = Administrator::new().await;
    let elsewhere = [
        "dev/_apis/graph/groups",
        "dev/_apis/identities?identityIds=x",
        "dev/_apis/memberentitlements",
        "vssps/_apis/projects",
        "vssps/_apis/serviceprincipalentitlements/x",
        "vsaex/_apis/graph/groups",
        "vsaex/_apis/securitynamespaces",
    ];
    for path in elsewhere {
        let answer = admin.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (404, "text/html; charset=utf-8"),
            "{path}"
        );
    }
    let locations = admin.send(Method::OPTIONS, "vsaex/_apis", &Value::Null).await.json();
    let ids: Vec<_> = locations["value"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(
        ids.contains(&"f03dbf50-80f8-41b7-8ca2-65b6a178caba") && ids.contains(&"e81700f7-3be2-46de-8624-2eb35882fcaa")
    );
    let head = admin.send(Method::HEAD, "dev/", &Value::Null).await;
    assert_eq!((head.status.as_u16(), head.header("x-vss-resourcetenant")), (200, TENANT));
    let nowhere = admin.azure.send(request(Method::HEAD, "https://dev.azure.com/none", &[], "")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.header("content-type")), (404, "text/html; charset=utf-8"));
}

#[tokio::test(start_paused = true)]
async fn refuses_entries_that_cannot_be() {
    let admin = Administrator::new().await;
    let (_, repository) = admin.tokens();
    let unknown = admin.allow(GIT, &repository, 2, 0, true).await;
    assert_eq!(key(&unknown), (404, "IdentityNotFoundException".to_owned()));
    let at = format!("dev/_apis/accesscontrolentries/{GIT}");
    assert_eq!(admin.post(&format!("{at}?api-version=7.1"), json!({"token": "repoV2"})).await.status, 400);
    assert_eq!(key(&admin.post(&at, json!({})).await), (400, "VssVersionNotSpecifiedException".to_owned()));
    assert_eq!(admin.delete(&format!("{at}?token=repoV2&api-version=7.1")).await.status, 400);
    assert_eq!(admin.get(&at).await.status, 405);
    let bad = admin.get(&format!("dev/_apis/permissions/{GIT}/x?tokens=repoV2")).await;
    assert_eq!(bad.status, 400);
}

#[test]
fn a_namespace_is_known_by_its_name_and_its_guid() {
    let entry = |namespace: &str| {
        let yaml = format!(
            "organizations: [{{name: o, tenantId: 00000000-0000-0000-0000-000000000000, accessControl: [{{namespace: {namespace}, token: repoV2, objectId: {ADA}}}]}}]"
        );
        State::from_yaml(&yaml).unwrap().organizations[0].access_control[0].namespace
    };
    assert_eq!((entry("Git"), entry(GIT), entry(PROJECT)), (Namespace::Git, Namespace::Git, Namespace::Project));
}
