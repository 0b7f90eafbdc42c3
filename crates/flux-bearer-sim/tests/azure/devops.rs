//! Azure DevOps: what each kind of token gets, REST, Git refs, and the backend.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use flux_bearer_sim::git::GitBackend;
use flux_bearer_sim::journal::TokenVerdict;
use flux_bearer_sim::state::{
    Member, NotMemberAnswer, Organization, PersonalAccessToken, RateLimit, SignInAnswer, State,
};
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use serde_json::json;
use tower::BoxError;

use super::support::*;

const REFS: &str = "https://dev.azure.com/fabrikam/My%20Fleet/_git/clusters/info/refs?service=git-upload-pack";
const PROJECTS: &str = "https://dev.azure.com/fabrikam/_apis/projects?api-version=7.1";
const CONNECTION: &str = "https://dev.azure.com/fabrikam/_apis/connectionData?api-version=7.1-preview.1";
const ANONYMOUS: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

fn fabrikam(state: &mut State) -> &mut Organization {
    &mut state.organizations[0]
}

async fn with_token(azure: &Azure, url: &str, token: &str) -> Answer {
    azure.get(url, &[("Authorization", &bearer(token))]).await
}

fn last_verdict(azure: &Azure) -> Option<TokenVerdict> {
    azure.world.journal().entries().last().unwrap().verdict
}

/// The tokens of the table: name, `Authorization`, verdict.
async fn bad_authorizations(azure: &Azure) -> Vec<(&'static str, Option<String>, TokenVerdict)> {
    let stranger = Azure::new();
    let good = azure.mint().await;
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let elsewhere = azure.mint_with_secret("https://management.azure.com/.default").await;
    vec![
        ("missing", None, TokenVerdict::None),
        ("garbage", Some(bearer("garbage")), TokenVerdict::Malformed),
        ("another scheme", Some("Negotiate abc".to_owned()), TokenVerdict::Malformed),
        ("basic without a user", Some(basic("", &good)), TokenVerdict::Malformed),
        ("unsigned", Some(bearer(&format!("{unsigned}."))), TokenVerdict::UnknownSignature),
        ("another world's", Some(bearer(&stranger.mint().await)), TokenVerdict::UnknownSignature),
        ("for another resource", Some(bearer(&elsewhere)), TokenVerdict::WrongAudience),
        ("of another tenant's member", Some(bearer(&azure.mint_with_secret(SCOPE).await)), TokenVerdict::NotMember),
    ]
}

#[tokio::test(start_paused = true)]
async fn refuses_bad_tokens_to_git_with_401() {
    let azure = Azure::new();
    for (name, authorization, verdict) in bad_authorizations(&azure).await {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let answer = azure.get(REFS, &headers).await;
        assert_eq!((answer.status.as_u16(), last_verdict(&azure)), (401, Some(verdict)), "{name}");
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(
            challenges,
            [
                &format!("Bearer authorization_uri=https://login.microsoftonline.com/{TENANT}"),
                "Basic realm=\"https://tfsprodneu2.visualstudio.com/\"",
                "TFS-Federated",
            ]
        );
        assert_eq!(answer.header("x-vss-resourcetenant"), TENANT);
        assert_eq!(answer.header("x-vss-authorizationendpoint"), "https://vssps.dev.azure.com/fabrikam/");
        assert_eq!(answer.header("activityid"), answer.header("x-vss-e2eid"));
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(
            answer.header("x-tfs-serviceerror"),
            "TF400813%3A%20The%20user%20%27aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa%27%20is%20not%20authorized%20to%20access%20this%20resource."
        );
        assert!(answer.header("x-tfs-soapexception").starts_with("%3C%3Fxml%20version%3D%221.0%22"));
        assert!(answer.text.contains("The user &#39;aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa&#39; is not authorized"));
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_bad_tokens_to_rest_with_a_page_a_redirect_or_401() {
    let azure = Azure::new();
    for (name, authorization, verdict) in bad_authorizations(&azure).await {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let suppressed: Vec<_> = headers.iter().copied().chain([("X-TFS-FedAuthRedirect", "Suppress")]).collect();
        let plain = azure.get(PROJECTS, &suppressed).await;
        assert_eq!((plain.status.as_u16(), last_verdict(&azure)), (401, Some(verdict)), "{name}");
        assert_eq!((plain.json()["typeKey"].as_str(), plain.text.len()), (Some("UnauthorizedRequestException"), 343));
        if verdict == TokenVerdict::NotMember {
            continue;
        }
        let page = azure.get(PROJECTS, &headers).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (203, "text/html; charset=utf-8"), "{name}");
        let patch = azure.send(request(Method::PATCH, PROJECTS, &headers, "{}")).await;
        assert_eq!((patch.status.as_u16(), patch.text.len()), (401, 307), "{name}");
        azure.world.edit(|state| fabrikam(state).sign_in_answer = SignInAnswer::Redirect).unwrap();
        let redirect = azure.get(PROJECTS, &headers).await;
        assert_eq!(redirect.status, 302, "{name}");
        assert!(redirect.header("location").starts_with(
            "https://spsprodneu1.vssps.visualstudio.com/_signin?realm=dev.azure.com&reply_to=https%3A%2F%2Fdev.azure"
        ));
        azure.world.edit(|state| fabrikam(state).sign_in_answer = SignInAnswer::Page).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_a_token_from_its_expiry_second_on() {
    let azure = Azure::new();
    let token = azure.mint().await;
    azure.world.clock().sleep(Duration::from_secs(86_399)).await;
    assert_eq!(with_token(&azure, REFS, &token).await.status, 200);
    assert_eq!(azure.world.journal().dead_tokens_seen(), 0);
    azure.world.clock().sleep(Duration::from_secs(1)).await;
    assert_eq!(with_token(&azure, REFS, &token).await.status, 401);
    assert_eq!(with_token(&azure, PROJECTS, &token).await.status, 203);
    assert_eq!(last_verdict(&azure), Some(TokenVerdict::Expired));
    assert_eq!(azure.world.journal().dead_tokens_seen(), 2);
}

#[tokio::test(start_paused = true)]
async fn opens_what_the_rights_say() {
    let azure = Azure::new();
    let token = azure.mint().await;
    let git = |path: &str| format!("https://dev.azure.com/fabrikam/{path}/info/refs?service=git-upload-pack");
    let table = [
        (git("My%20Fleet/_git/clusters"), 200, "", TokenVerdict::Valid),
        (git("my%20fleet/_git/CLUSTERS"), 200, "", TokenVerdict::Valid),
        (git("_git/solo"), 200, "", TokenVerdict::Valid),
        (git("My%20Fleet/_git/secret"), 404, "TF401019", TokenVerdict::NoRight),
        (git("My%20Fleet/_git/missing"), 404, "TF401019", TokenVerdict::NoRight),
        (git("hidden/_git/hidden"), 404, "VS800075", TokenVerdict::NoRight),
        (git("missing/_git/clusters"), 404, "VS800075", TokenVerdict::NoRight),
        (git("solo/_git/solo").replace("upload", "receive"), 200, "", TokenVerdict::Valid),
        (git("My%20Fleet/_git/clusters").replace("upload", "receive"), 403, "TF401027", TokenVerdict::NoRight),
    ];
    for (url, status, code, verdict) in table {
        let answer = with_token(&azure, &url, &token).await;
        assert_eq!((answer.status.as_u16(), last_verdict(&azure)), (status, Some(verdict)), "{url}: {}", answer.text);
        assert!(answer.text.contains(code), "{url}: {}", answer.text);
        if status == 404 {
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        }
    }
    assert_eq!(with_token(&azure, &git("_git/x").replace("fabrikam", "nobody"), &token).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn accepts_every_form_of_url_and_of_authorization() {
    let azure = Azure::new();
    let token = azure.mint().await;
    let project = azure.world.state().organizations[0].clone();
    let id = project.repository_id(&project.projects[0], &project.projects[0].repositories[0]);
    let project_id = project.project_id(&project.projects[0]);
    for url in [
        REFS.to_owned(),
        REFS.replace("dev.azure.com/fabrikam", "fabrikam.visualstudio.com"),
        REFS.replace("dev.azure.com/fabrikam", "fabrikam.visualstudio.com/DefaultCollection"),
        REFS.replace("/clusters/", &format!("/{id}/")).replace("My%20Fleet", &project_id),
    ] {
        for authorization in [bearer(&token), basic("any", &token), format!("bearer {token}")] {
            let answer = azure.get(&url, &[("Authorization", &authorization)]).await;
            assert_eq!(answer.status, 200, "{url}: {}", answer.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_stakeholders_from_repositories_but_not_from_projects() {
    let azure = Azure::new();
    azure
        .world
        .edit(|state| fabrikam(state).members[0].licence = flux_bearer_sim::state::Licence::Stakeholder)
        .unwrap();
    let token = azure.mint().await;
    let answer = with_token(&azure, REFS, &token).await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.text,
        "TF401019: The Git repository with name or identifier clusters does not exist or you do not have permissions for the operation you are attempting."
    );
    assert_eq!(with_token(&azure, PROJECTS, &token).await.json()["count"], json!(2));
}

#[tokio::test(start_paused = true)]
async fn obeys_the_knobs_of_the_organisation() {
    let azure = Azure::new();
    let token = azure.mint().await;
    azure.world.edit(|state| fabrikam(state).blocked_by_conditional_access = vec![FLUX_OID.to_owned()]).unwrap();
    let blocked = with_token(&azure, PROJECTS, &token).await;
    assert_eq!((blocked.status.as_u16(), blocked.json()["typeKey"].as_str()), (403, Some("VssServiceException")));
    azure
        .world
        .edit(|state| {
            fabrikam(state).blocked_by_conditional_access.clear();
            fabrikam(state).rate_limit = Some(RateLimit { retry_after_seconds: 7, blocked: false });
        })
        .unwrap();
    let slowed = with_token(&azure, REFS, &token).await;
    assert_eq!((slowed.status.as_u16(), slowed.header("retry-after")), (200, "7"));
    assert_eq!(slowed.header("x-ratelimit-reset"), (azure.now().as_second() + 7).to_string());
    azure.world.edit(|state| fabrikam(state).rate_limit.as_mut().unwrap().blocked = true).unwrap();
    let refused = with_token(&azure, REFS, &token).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "7"));
    assert!(refused.text.starts_with("TF400733: "));
    azure
        .world
        .edit(|state| {
            fabrikam(state).rate_limit = None;
            fabrikam(state).members.clear();
            fabrikam(state).not_member_answer = NotMemberAnswer::SignInOnce;
        })
        .unwrap();
    let stranger = with_token(&azure, PROJECTS, &token).await;
    assert_eq!(stranger.status, 401);
    assert!(stranger.json()["message"].as_str().unwrap().starts_with("TF401444: Please sign-in at least once as "));
}

#[tokio::test(start_paused = true)]
async fn accepts_no_entra_token_in_an_organisation_of_microsoft_accounts() {
    let azure = Azure::new();
    let token = azure.mint().await;
    let zero = "00000000-0000-0000-0000-000000000000";
    azure.world.edit(|state| fabrikam(state).tenant_id = zero.to_owned()).unwrap();
    let answer = with_token(&azure, PROJECTS, &token).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-vss-resourcetenant")), (302, zero));
    let answer = with_token(&azure, REFS, &token).await;
    assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
}

#[tokio::test(start_paused = true)]
async fn tells_who_a_token_is() {
    let azure = Azure::new();
    let token = azure.mint().await;
    for url in [CONNECTION.to_owned(), CONNECTION.replace("dev.azure", "vssps.dev.azure")] {
        let body = with_token(&azure, &url, &token).await.json();
        let user = &body["authenticatedUser"];
        assert_eq!(user["providerDisplayName"], "flux");
        assert_eq!(user["properties"]["Account"]["$value"], FLUX_OID);
        assert!(user["subjectDescriptor"].as_str().unwrap().starts_with("aadsp."));
        assert_eq!(body["authorizedUser"], *user);
    }
    let stable = with_token(&azure, &CONNECTION.replace("-preview.1", ""), &token).await;
    assert_eq!(stable.status, 400);
    assert_eq!(stable.json()["typeKey"], "VssInvalidPreviewVersionException");

    azure.world.edit(|state| fabrikam(state).anonymous_connection_data = true).unwrap();
    let anonymous = azure.get(CONNECTION, &[]).await;
    assert_eq!((anonymous.status.as_u16(), last_verdict(&azure)), (200, Some(TokenVerdict::None)));
    assert_eq!(anonymous.json()["authenticatedUser"]["id"], ANONYMOUS);
}

#[tokio::test(start_paused = true)]
async fn lists_and_finds_projects_and_repositories() {
    let azure = Azure::new();
    let token = azure.mint().await;
    let api = |path: &str| format!("https://dev.azure.com/fabrikam/{path}");
    let get = async |path: &str| with_token(&azure, &api(path), &token).await;

    let first = get("_apis/projects?$top=1").await;
    assert_eq!(first.json()["value"][0]["name"], "My Fleet");
    let next = first.header("x-ms-continuationtoken").to_owned();
    let second = get(&format!("_apis/projects?$top=1&continuationToken={next}")).await;
    assert_eq!((&second.json()["value"][0]["name"], second.header("x-ms-continuationtoken")), (&json!("solo"), ""));

    let project = get("_apis/projects/my%20fleet?includeCapabilities=true&api-version=7.1").await.json();
    assert_eq!(project["capabilities"]["versioncontrol"]["sourceControlType"], "Git");
    let by_id = get(&format!("_apis/projects/{}", project["id"].as_str().unwrap())).await;
    assert_eq!(by_id.json()["name"], "My Fleet");
    let hidden = get("_apis/projects/hidden").await;
    assert_eq!(
        (hidden.status.as_u16(), hidden.json()["typeKey"].as_str()),
        (404, Some("ProjectDoesNotExistException"))
    );

    let all = get("_apis/git/repositories").await.json();
    assert_eq!(all["count"], 2);
    assert_eq!(get("My%20Fleet/_apis/git/repositories").await.json()["count"], 1);
    let one = get("My%20Fleet/_apis/git/repositories/clusters").await.json();
    assert_eq!(one["remoteUrl"], "https://fabrikam@dev.azure.com/fabrikam/My%20Fleet/_git/clusters");
    assert_eq!(one["defaultBranch"], "refs/heads/main");
    assert_eq!(get(&format!("_apis/git/repositories/{}", one["id"].as_str().unwrap())).await.json(), one);
    assert!(get("solo/_apis/git/repositories/solo").await.json().get("defaultBranch").is_none());
    let secret = get("My%20Fleet/_apis/git/repositories/secret").await;
    assert_eq!(
        (secret.status.as_u16(), secret.json()["typeKey"].as_str()),
        (404, Some("GitRepositoryNotFoundException"))
    );

    let options = request(Method::OPTIONS, &api("_apis"), &[("Authorization", &bearer(&token))], "");
    let locations = azure.send(options).await.json();
    assert!(locations["value"].as_array().unwrap().iter().any(|one| one["resourceName"] == "repositories"));
    let areas = get("_apis/resourceAreas").await.json();
    let graph = areas["value"].as_array().unwrap().iter().find(|one| one["name"] == "Graph").unwrap();
    assert_eq!(graph["locationUrl"], "https://vssps.dev.azure.com/fabrikam/");
    assert_eq!(get(&format!("_apis/resourceAreas/{}", graph["id"].as_str().unwrap())).await.json(), *graph);
    assert_eq!(get("_apis/resourceAreas/x").await.status, 400);
}

/// The pkt-lines of a body; a flush is empty.
fn packets(mut body: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while !body.is_empty() {
        let length = usize::from_str_radix(&body[..4], 16).unwrap();
        let (line, rest) = if length == 0 { ("", &body[4..]) } else { (&body[4..length], &body[length..]) };
        lines.push(line.to_owned());
        body = rest;
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn advertises_refs_in_both_protocols() {
    let azure = Azure::new();
    let token = azure.mint().await;
    let answer = with_token(&azure, REFS, &token).await;
    assert_eq!(answer.header("content-type"), "application/x-git-upload-pack-advertisement");
    let lines = packets(&answer.text);
    assert_eq!((lines[0].as_str(), lines[1].as_str()), ("# service=git-upload-pack\n", ""));
    let (first, capabilities) = lines[2].split_once('\0').unwrap();
    assert_eq!(first, format!("{HEAD} HEAD"));
    assert!(capabilities.split(' ').any(|one| one == "multi_ack_detailed"));
    assert_eq!((lines[3].clone(), lines[4].as_str(), lines.len()), (format!("{HEAD} refs/heads/main\n"), "", 5));

    let empty = with_token(&azure, &REFS.replace("My%20Fleet/_git/clusters", "_git/solo"), &token).await;
    assert!(packets(&empty.text)[2].starts_with("0000000000000000000000000000000000000000 capabilities^{}\0"));

    let headers = [("Authorization", bearer(&token)), ("Git-Protocol", "version=2".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let lines = packets(&azure.get(REFS, &headers).await.text);
    assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("version 2\n", ""));
    assert!(lines.contains(&"ls-refs=unborn\n".to_owned()));

    let fetch = REFS.replace("info/refs?service=git-upload-pack", "git-upload-pack");
    let listing = "0014command=ls-refs\n00010008peel000bsymrefs0014ref-prefix HEAD\n0000";
    let listed = azure.send(request(Method::POST, &fetch, &headers, listing)).await;
    assert_eq!(packets(&listed.text), [format!("{HEAD} HEAD symref-target:refs/heads/main\n"), String::new()]);
    let fetched = azure.send(request(Method::POST, &fetch, &headers, "0012command=fetch\n0000")).await;
    assert_eq!(fetched.status, 501);
    let post = request(Method::POST, &fetch, &[("Authorization", &bearer(&token))], "");
    assert_eq!(azure.send(post).await.status, 501);
}

struct Echo;

impl GitBackend for Echo {
    fn serve(
        &self,
        repository: PathBuf,
        path: String,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        let sees_token = request.headers().contains_key("authorization");
        let text = format!("{} {path} {:?} {sees_token}", repository.display(), request.uri().query());
        Box::pin(async move { Ok(Response::new(Body::from(text))) })
    }
}

#[tokio::test(start_paused = true)]
async fn gives_authorised_requests_to_the_backend() {
    let azure = Azure::new();
    let world = azure.world.clone().with_git_backend(Arc::new(Echo));
    world.edit(|state| fabrikam(state).projects[0].repositories[0].path = Some("/srv/clusters.git".into())).unwrap();
    let token = azure.mint().await;
    let answer = with_token(&azure, REFS, &token).await;
    assert_eq!(answer.text, "/srv/clusters.git info/refs Some(\"service=git-upload-pack\") false");
    assert_eq!(with_token(&azure, REFS, "garbage").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn names_the_tenant_to_those_without_a_token() {
    let azure = Azure::new();
    let head = request(Method::HEAD, "https://dev.azure.com/fabrikam", &[], "");
    let answer = azure.send(head).await;
    assert!(answer.header("www-authenticate").ends_with(TENANT));
    assert!(azure.try_send(request(Method::GET, "https://example.com/", &[], "")).await.is_err());
    assert_eq!(azure.world.journal().entries().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_licence_that_has_expired_opens_nothing() {
    let azure = Azure::new();
    let token = azure.mint().await;
    assert_eq!(with_token(&azure, REFS, &token).await.status, 200);
    azure.world.edit(|state| fabrikam(state).members[0].expired = true).unwrap();
    assert_eq!(with_token(&azure, REFS, &token).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn takes_a_personal_access_token_as_a_password_until_it_expires() {
    let azure = Azure::new();
    let user = "66666666-6666-4666-8666-00000000000f";
    azure
        .world
        .edit(|state| {
            let fabrikam = fabrikam(state);
            let expires_at = Some("2026-11-22T11:00:00Z".parse().unwrap());
            let token = PersonalAccessToken { value: "pat".to_owned(), object_id: user.to_owned(), expires_at };
            fabrikam.personal_access_tokens = vec![token];
            fabrikam.members.push(Member { object_id: user.to_owned(), ..Member::default() });
            fabrikam.projects[0].readers.push(user.to_owned());
            fabrikam.projects[0].repositories[0].readers.push(user.to_owned());
        })
        .unwrap();
    let ask = async |authorization: &str| azure.get(REFS, &[("Authorization", authorization)]).await.status.as_u16();
    assert_eq!((ask(&basic("", "pat")).await, ask(&basic("git", "pat")).await), (200, 200));
    assert_eq!(azure.world.journal().entries().last().unwrap().object_id.as_deref(), Some(user));
    assert_eq!((ask(&bearer("pat")).await, ask(&basic("", "other")).await), (401, 401));
    azure.world.clock().sleep(Duration::from_hours(1)).await;
    assert_eq!(ask(&basic("", "pat")).await, 401);
    assert_eq!(last_verdict(&azure), Some(TokenVerdict::Expired));
    let application = azure
        .world
        .edit(|state| fabrikam(state).personal_access_tokens[0].object_id = FLUX_OID.to_owned())
        .unwrap_err();
    assert!(application.to_string().starts_with("organizations[0].personalAccessTokens[0].objectId: "));
}
