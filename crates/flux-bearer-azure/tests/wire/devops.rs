//! Azure DevOps' REST interface: what is asked, and what is read of each answer.

use axum::body::Body;
use flux_bearer::failure::{Class, Failure};
use flux_bearer_azure::devops::{
    Access, Backing, Caller, DevOps, Entitlement, EntitlementRefused, EntitlementStatus, GitRepository, Group, Licence,
    Member, Namespace, NotAdded, Project, bits, discover_tenant, project_token, project_tokens, repository_token,
    repository_tokens,
};
use flux_bearer_azure::http::Http;
use http::Response;
use serde_json::{Value, json};

use crate::server::{
    CANARY, CLIENT, Log, TENANT, TRACE, always, assert_own_words, hostile, json as answer, plain, refusing, server,
    with,
};
use crate::signed_in::session;

const PROJECT: &str = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c";
const REPOSITORY: &str = "5febef5a-833d-4e14-b9c0-14cb638f91e6";
const OBJECT: &str = "92e26ce8-8e7c-4555-bdab-813b34b8e53a";
const KEY: &str = "b34cdbfd-1f2d-60c6-b04a-8a99d301a6cd";
const SUBJECT: &str = "aadsp.YjM0Y2RiZmQtMWYyZC03MGM2LWIwNGEtOGE5OWQzMDFhNmNk";
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
const ANYBODY: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

fn descriptor() -> String {
    format!("Microsoft.VisualStudio.Services.Claims.AadServicePrincipal;{TENANT}\\{OBJECT}")
}

fn devops(http: Http) -> DevOps {
    DevOps::new(session(http), "org")
}

/// A server that answers everything with `body`.
fn says(body: &Value) -> (DevOps, Log) {
    let body = body.clone();
    let (http, log) = server(move |_| answer(200, body.clone()));
    (devops(http), log)
}

fn error(status: u16, type_key: &str) -> Response<Body> {
    let body = json!({
        "$id": "1", "innerException": null, "message": format!("TF400813: {CANARY}"), "typeName": CANARY,
        "typeKey": type_key, "errorCode": 0, "eventId": 3000,
    });
    with(answer(status, body), &[("activityid", TRACE)])
}

fn page(status: u16) -> Response<Body> {
    with(plain(status, format!("<html>{CANARY}</html>")), &[("content-type", "text/html; charset=utf-8")])
}

/// Method, URL and body of the requests of a log.
fn sent(log: &Log) -> Vec<(String, String, Value)> {
    let log = log.lock().unwrap();
    let one = |sent: &http::Request<bytes::Bytes>| {
        assert_eq!(sent.headers()["authorization"], "Bearer token-for-AzureDevOps");
        assert_eq!(sent.headers()["x-tfs-fedauthredirect"], "Suppress");
        assert!(!sent.headers().contains_key("x-ms-client-request-id"));
        let body = serde_json::from_slice(sent.body()).unwrap_or_default();
        (sent.method().to_string(), sent.uri().to_string(), body)
    };
    log.iter().map(|(_, request)| one(request)).collect()
}

fn urls(log: &Log) -> Vec<String> {
    sent(log).into_iter().map(|(_, url, _)| url).collect()
}

mod tenant {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    async fn asked(status: u16, headers: Headers) -> Result<Backing, Failure> {
        let (http, log) = server(move |_| with(plain(status, ""), headers));
        let backing = discover_tenant(&http, "my org").await;
        let log = log.lock().unwrap();
        assert_eq!(
            (log[0].1.method().as_str(), log[0].1.uri().to_string()),
            ("HEAD", "https://dev.azure.com/my%20org".into())
        );
        assert!(!log[0].1.headers().contains_key("authorization"));
        backing
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_by_the_challenge_or_by_a_header_whatever_the_status() {
        const UPPER: &str =
            "Bearer authorization_uri=\"https://login.microsoftonline.com/ABCDEF22-2222-2222-2222-222222222222\"";
        const CHALLENGE: &str =
            "Bearer authorization_uri=https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222";
        let entra = |id: &str| Backing::Entra(id.into());
        let cases: &[(u16, Headers, Backing)] = &[
            (401, &[("www-authenticate", CHALLENGE), ("x-vss-resourcetenant", NOBODY)], entra(TENANT)),
            (302, &[("www-authenticate", UPPER)], entra("abcdef22-2222-2222-2222-222222222222")),
            (200, &[("x-vss-resourcetenant", TENANT)], entra(TENANT)),
            (404, &[("x-vss-resourcetenant", TENANT)], entra(TENANT)),
            (
                401,
                &[(
                    "x-vss-resourcetenant",
                    "00000000-0000-0000-0000-000000000000, 22222222-2222-2222-2222-222222222222",
                )],
                entra(TENANT),
            ),
            (401, &[("www-authenticate", "Bearer"), ("x-vss-resourcetenant", NOBODY)], Backing::MicrosoftAccounts),
            (302, &[("x-vss-resourcetenant", NOBODY)], Backing::MicrosoftAccounts),
            (404, &[], Backing::NoSuchOrganization),
            (404, &[("x-vss-resourcetenant", NOBODY)], Backing::NoSuchOrganization),
        ];
        for (status, headers, backing) in cases {
            assert_eq!(asked(*status, headers).await.unwrap(), *backing, "{status} {headers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_challenge_is_looked_at() {
        let http = server(|_| {
            let mut answer = plain(401, "");
            for challenge in [
                "Basic realm=\"https://tfs/\"",
                "TFS-Federated",
                &format!("Bearer authorization_uri=https://login/{TENANT}"),
            ] {
                answer.headers_mut().append("www-authenticate", challenge.parse().unwrap());
            }
            answer
        })
        .0;
        assert_eq!(discover_tenant(&http, "org").await.unwrap(), Backing::Entra(TENANT.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_say_is_no_answer() {
        for (status, code) in
            [(200, "AnswerMalformed"), (401, "AnswerMalformed"), (302, "AnswerMalformed"), (407, "HTTP 407")]
        {
            let failure = asked(status, &[("www-authenticate", "Basic realm=\"canary\"")]).await.unwrap_err();
            assert_eq!(failure.code, code);
            assert_own_words(&failure, code);
        }
        let (http, log) = always(503, "");
        assert_eq!(discover_tenant(&http, "org").await.unwrap_err().code, "HTTP 503");
        assert_eq!(log.lock().unwrap().len(), 4);
        assert_eq!(discover_tenant(&refusing(), "org").await.unwrap_err().code, "ConnectionFailed");
        assert!(discover_tenant(&refusing(), "..").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_is_who_azure_devops_says() {
    let body = json!({
        "authenticatedUser": {
            "id": KEY, "descriptor": descriptor(), "subjectDescriptor": SUBJECT, "providerDisplayName": "flux\u{1b}-prod",
            "isActive": true, "properties": {"Account": {"$type": "System.String", "$value": OBJECT}},
        },
        "authorizedUser": {"id": NOBODY}, "instanceId": TENANT,
    });
    let (me, log) = says(&body);
    let caller = Caller { id: KEY.into(), descriptor: Some(descriptor()), name: "flux-prod".into() };
    assert_eq!(me.who_am_i().await.unwrap(), caller);
    let query = "connectOptions=none&lastChangeId=-1&lastChangeId64=-1&api-version=7.1-preview.1";
    assert_eq!(urls(&log), [format!("https://dev.azure.com/org/_apis/connectionData?{query}")]);

    for id in [NOBODY, ANYBODY, &ANYBODY.to_uppercase()] {
        let failure = says(&json!({"authenticatedUser": {"id": id}})).0.who_am_i().await.unwrap_err();
        assert_eq!((failure.reason, &*failure.code), ("TokenRejected", "Anonymous"));
    }
}

#[tokio::test(start_paused = true)]
async fn projects_and_repositories_are_found_under_any_name() {
    let (project, log) = says(&json!({"id": PROJECT.to_uppercase(), "name": "Grün & Co", "state": "wellFormed"}));
    let expected = Project { id: PROJECT.into(), name: "Grün & Co".into() };
    assert_eq!(project.project("Grün & Co").await.unwrap(), Some(expected.clone()));
    assert_eq!(urls(&log), ["https://dev.azure.com/org/_apis/projects/Gr%C3%BCn%20&%20Co?api-version=7.1"]);

    let body = json!({
        "id": REPOSITORY, "name": "a/b", "project": {"id": PROJECT, "name": "Grün & Co"}, "size": 0,
        "remoteUrl": "https://org@dev.azure.com/org/x/_git/y", "isDisabled": true, "defaultBranch": "refs/heads/main",
    });
    let (repository, log) = says(&body);
    let mut expected = GitRepository {
        id: REPOSITORY.into(),
        name: "a/b".into(),
        is_disabled: true,
        default_branch: Some("refs/heads/main".into()),
        remote_url: "https://org@dev.azure.com/org/x/_git/y".into(),
        project: expected,
    };
    assert_eq!(repository.repository("Grün & Co", "a/b").await.unwrap(), Some(expected.clone()));
    let url = "https://dev.azure.com/org/Gr%C3%BCn%20&%20Co/_apis/git/repositories/a%2Fb?api-version=7.1";
    assert_eq!(urls(&log), [url]);

    let mut empty = body;
    empty.as_object_mut().unwrap().retain(|name, _| !["isDisabled", "defaultBranch"].contains(&name.as_str()));
    (expected.is_disabled, expected.default_branch) = (false, None);
    let marked = format!("\u{feff}{empty}");
    let repository = devops(always(200, marked).0).repository("p", "r").await.unwrap();
    assert_eq!(repository, Some(expected), "a byte order mark is no fault");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_an_answer_and_no_failure() {
    for (status, key) in [
        (404, "ProjectDoesNotExistException"),
        (400, "ProjectDoesNotExistWithNameException"),
        (404, "GitRepositoryNotFoundException"),
    ] {
        let devops = devops(server(move |_| error(status, key)).0);
        assert_eq!(devops.project("p").await.unwrap(), None);
        assert_eq!(devops.repository("p", "r").await.unwrap(), None);
        assert_eq!(devops.entitlement(KEY).await.unwrap(), None);
        devops.delete_entitlement(KEY).await.unwrap();
        assert!(devops.who_am_i().await.is_err() && devops.add_entitlement(OBJECT).await.is_err());
    }
    let failure = devops(server(|_| page(404)).0).project("p").await.unwrap_err();
    assert_eq!(failure.reason, "OrganizationNotFound");
    assert!(devops(always(404, "").0).project("p").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_page_is_a_refusal_whatever_its_status() {
    let answers: [fn() -> Response<Body>; 6] = [
        || page(200),
        || page(203),
        || with(plain(302, ""), &[("location", "https://evil.example/canary")]),
        || page(401),
        || error(401, "UnauthorizedRequestException"),
        || answer(203, json!({"id": PROJECT, "name": "p"})),
    ];
    for answer in answers {
        let (http, log) = server(move |_| answer());
        let devops = devops(http);
        for failure in [
            devops.project("p").await.unwrap_err(),
            devops.add_entitlement(OBJECT).await.unwrap_err().into(),
            devops.revoke(Namespace::PROJECT, "t", "d").await.unwrap_err(),
        ] {
            assert_eq!((failure.reason, failure.class), ("TokenRejected", Class::Permanent));
            assert_own_words(&failure, "a page");
        }
        assert_eq!(log.lock().unwrap().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_with_the_group_that_has_it() {
    let devops = devops(server(|_| error(403, "AccessCheckException")).0);
    let failure = devops.grant(Namespace::PROJECT, "t", "d", 1).await.unwrap_err();
    assert!(failure.fix.contains("Project Administrators"), "{failure}");
    assert_eq!(failure.trace.as_deref(), Some(TRACE));
    let failure = Failure::from(devops.add_entitlement(OBJECT).await.unwrap_err());
    assert!(failure.fix.contains("Project Collection Administrators"), "{failure}");
}

fn principal(object_id: &str) -> Value {
    json!({
        "subjectKind": "servicePrincipal", "origin": "aad", "originId": object_id, "displayName": "flux-prod",
        "descriptor": SUBJECT, "applicationId": CLIENT, "metaType": "managedIdentity",
    })
}

#[tokio::test(start_paused = true)]
async fn a_member_is_looked_for_page_by_page() {
    let (http, log) = server(|n| match n {
        0 => {
            with(answer(200, json!({"count": 1, "value": [principal(TENANT)]})), &[("x-ms-continuationtoken", "a b&c")])
        }
        1 => with(answer(200, json!({"count": 0, "value": []})), &[("x-ms-continuationtoken", "2")]),
        2 => answer(
            200,
            json!({"count": 2, "value": [{"descriptor": "x", "originId": null}, principal(&OBJECT.to_uppercase())]}),
        ),
        _ => answer(200, json!({"value": KEY, "_links": {}})),
    });
    let member = Member {
        descriptor: SUBJECT.into(),
        storage_key: KEY.into(),
        name: "flux-prod".into(),
        client_id: Some(CLIENT.into()),
        is_managed_identity: true,
    };
    assert_eq!(devops(http).service_principal(OBJECT).await.unwrap(), Some(member.clone()));
    let by_client = server(|n| match n {
        0 => answer(200, json!({"value": [{"descriptor": "x", "applicationId": null}, principal(TENANT)]})),
        _ => answer(200, json!({"value": KEY})),
    });
    let found = devops(by_client.0).service_principal_of_client(&CLIENT.to_uppercase()).await;
    assert_eq!(found.unwrap(), Some(member));
    let base = "https://vssps.dev.azure.com/org/_apis/graph";
    assert_eq!(
        urls(&log),
        [
            format!("{base}/serviceprincipals?api-version=7.1-preview.1"),
            format!("{base}/serviceprincipals?continuationToken=a+b%26c&api-version=7.1-preview.1"),
            format!("{base}/serviceprincipals?continuationToken=2&api-version=7.1-preview.1"),
            format!("{base}/storagekeys/{SUBJECT}?api-version=7.1-preview.1"),
        ]
    );
    assert_eq!(says(&json!({"value": [principal(TENANT)]})).0.service_principal(OBJECT).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_in_groups_and_in_the_groups_that_those_are_in() {
    let edges = |of: &[&str]| {
        let edges: Vec<Value> = of.iter().map(|group| json!({"containerDescriptor": group})).collect();
        answer(200, json!({"count": edges.len(), "value": edges}))
    };
    let (http, log) = server(move |n| match n {
        // Groups that are in each other have an end all the same.
        0 | 2 => edges(&["vssgp.A"]),
        1 => edges(&["vssgp.B"]),
        3 => answer(200, json!({"principalName": "[platform]\\Readers\u{1b}", "descriptor": "vssgp.A"})),
        4 => answer(200, json!({"value": [{"descriptor": "Microsoft.TeamFoundation.Identity;S-1-9-1"}]})),
        _ => error(404, "GraphSubjectNotFoundException"),
    });
    let groups = devops(http).groups(SUBJECT).await.unwrap();
    let readers = Group {
        descriptor: "vssgp.A".into(),
        identity: "Microsoft.TeamFoundation.Identity;S-1-9-1".into(),
        name: "[platform]\\Readers".into(),
    };
    assert_eq!(groups, [readers]);
    let base = "https://vssps.dev.azure.com/org/_apis/graph";
    let up = "direction=up&depth=1&api-version=7.1-preview.1";
    let asked = urls(&log);
    assert_eq!(
        asked[..4],
        [
            format!("{base}/memberships/{SUBJECT}?{up}"),
            format!("{base}/memberships/vssgp.A?{up}"),
            format!("{base}/memberships/vssgp.B?{up}"),
            format!("{base}/groups/vssgp.A?api-version=7.1-preview.1"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_of_members_without_an_end_is_given_up() {
    let (http, log) = server(|_| with(answer(200, json!({"value": []})), &[("x-ms-continuationtoken", "again")]));
    assert_eq!(devops(http).service_principal(OBJECT).await.unwrap_err().code, "TooManyPages");
    assert_eq!(log.lock().unwrap().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_members_descriptor_may_not_be_known_yet() {
    let (known, log) = says(&json!({"count": 1, "value": [{"id": KEY, "descriptor": descriptor(), "isActive": true}]}));
    assert_eq!(known.identity_descriptor(SUBJECT).await.unwrap(), Some(descriptor()));
    let query = format!("subjectDescriptors={SUBJECT}&queryMembership=None&api-version=7.1");
    assert_eq!(urls(&log), [format!("https://vssps.dev.azure.com/org/_apis/identities?{query}")]);
    for unknown in [json!({"count": 1, "value": [null]}), json!({"count": 0, "value": []})] {
        assert_eq!(says(&unknown).0.identity_descriptor(SUBJECT).await.unwrap(), None);
    }
}

mod entitlement {
    use super::*;

    const BASE: &str = "https://vsaex.dev.azure.com/org/_apis/serviceprincipalentitlements";

    fn entitlement(licence: &str, status: &str) -> Value {
        json!({
            "id": KEY, "servicePrincipal": principal(OBJECT), "projectEntitlements": [], "groupAssignments": [],
            "accessLevel": {
                "licensingSource": "account", "accountLicenseType": licence, "msdnLicenseType": "none",
                "licenseDisplayName": CANARY, "status": status, "statusMessage": "", "assignmentSource": "unknown",
            },
        })
    }

    fn basic() -> Value {
        json!({"accountLicenseType": "express", "licensingSource": "account"})
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_with_licence_and_status() {
        use EntitlementStatus::{Active, Inactive, Pending};
        for (word, licence, opens) in [
            ("express", Licence::Basic, true),
            ("Express", Licence::Basic, true),
            ("advanced", Licence::BasicAndTestPlans, true),
            ("professional", Licence::Professional, true),
            ("earlyAdopter", Licence::EarlyAdopter, true),
            ("stakeholder", Licence::Stakeholder, false),
            ("none", Licence::None, false),
            ("canary", Licence::None, false),
        ] {
            let read = says(&entitlement(word, "active")).0.entitlement(KEY).await.unwrap().unwrap();
            assert_eq!((read.licence, read.licence.opens_repositories()), (licence, opens), "{word}");
        }
        for (word, status) in [("active", Active), ("pending", Pending), ("expired", Inactive), ("canary", Inactive)] {
            let (devops, log) = says(&entitlement("express", word));
            let read = devops.entitlement(KEY).await.unwrap().unwrap();
            assert_eq!((read.id.as_str(), read.status), (KEY, status), "{word}");
            assert_eq!(urls(&log), [format!("{BASE}/{KEY}?api-version=7.1-preview.1")]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_added_changed_and_deleted() {
        let expected = Entitlement { id: KEY.into(), licence: Licence::Basic, status: EntitlementStatus::Pending };
        let (one, log) = says(&json!({
            "operationResult": {"servicePrincipalId": KEY, "isSuccess": true, "errors": [], "result": null},
            "isSuccess": true, "servicePrincipalEntitlement": entitlement("express", "pending"),
        }));
        assert_eq!(one.add_entitlement(OBJECT).await.unwrap(), expected);
        assert_eq!(one.update_licence(KEY).await.unwrap(), expected);
        one.delete_entitlement(KEY).await.unwrap();
        let principal = json!({"origin": "aad", "originId": OBJECT, "subjectKind": "servicePrincipal"});
        let added = json!({"accessLevel": basic(), "servicePrincipal": principal});
        let changed = json!([{"from": "", "op": "replace", "path": "/accessLevel", "value": basic()}]);
        let query = "api-version=7.1-preview.1";
        assert_eq!(
            sent(&log),
            [
                ("POST".into(), format!("{BASE}?{query}"), added),
                ("PATCH".into(), format!("{BASE}/{KEY}?{query}"), changed),
                ("DELETE".into(), format!("{BASE}/{KEY}?{query}"), Value::Null),
            ]
        );
        let kinds: Vec<_> =
            log.lock().unwrap().iter().map(|(_, sent)| sent.headers().get("content-type").cloned()).collect();
        assert_eq!(kinds[0].as_ref().unwrap(), "application/json");
        assert_eq!(kinds[1].as_ref().unwrap(), "application/json-patch+json");
        devops(always(204, "").0).delete_entitlement(KEY).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_inside_a_200_is_a_refusal() {
        use EntitlementRefused::{NoLicence, NotAllowed, NotYet, Other};
        let refused = |errors: Value| {
            let result = json!({"isSuccess": false, "errors": errors, "result": null});
            json!({"operationResult": result, "isSuccess": false, "servicePrincipalEntitlement": {}})
        };
        let too_early = format!("VS403283: Could not add user '{CANARY}' at this time.");
        let cases = [
            (refused(json!([{"key": 5000, "value": too_early}])), NotYet),
            (refused(json!([{"key": 5005, "value": CANARY}])), NoLicence),
            (refused(json!([{"key": 5032, "value": CANARY}])), NotAllowed),
            (refused(json!([{"key": 5999, "value": CANARY}])), Other(5999)),
            (refused(json!([{"key": CANARY, "value": null}])), Other(0)),
            (refused(Value::Null), Other(0)),
            (
                json!({"isSuccess": false, "operationResults": [{"errors": []}, {"errors": [{"key": 5005, "value": ""}]}]}),
                NoLicence,
            ),
            (json!({}), Other(0)),
        ];
        for (body, expected) in cases {
            let (devops, log) = says(&body);
            let refused = devops.add_entitlement(OBJECT).await.unwrap_err();
            assert_eq!(refused, NotAdded::Refused(expected), "{body}");
            assert_own_words(&Failure::from(refused), "a refusal");
            assert_eq!(devops.update_licence(KEY).await.unwrap_err(), NotAdded::Refused(expected), "{body}");
            assert_eq!(log.lock().unwrap().len(), 2, "the caller waits, not the call");
        }
        let hollow = says(&json!({"isSuccess": true, "servicePrincipalEntitlement": {"id": CANARY}})).0;
        let NotAdded::Failed(failure) = hollow.add_entitlement(OBJECT).await.unwrap_err() else { panic!("no refusal") };
        assert_eq!(failure.code, "AnswerMalformed");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_added_twice_by_an_answer_that_is_lost() {
        for (status, attempts) in [(503, 1), (429, 4)] {
            let (http, log) = always(status, "");
            assert!(devops(http).add_entitlement(OBJECT).await.is_err());
            assert_eq!(log.lock().unwrap().len(), attempts, "{status}");
        }
    }
}

mod access {
    use super::*;

    fn list(name: &str, entry: &Value) -> Value {
        let list = json!({"inheritPermissions": true, "token": "t", "acesDictionary": {name: entry}});
        json!({"count": 1, "value": [list]})
    }

    async fn read(body: &Value) -> Access {
        says(body).0.access(Namespace::GIT_REPOSITORIES, "t", &descriptor()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_for_one_identity() {
        let token = repository_token(PROJECT, REPOSITORY);
        let extended = json!({"effectiveAllow": 6, "effectiveDeny": 4, "inheritedAllow": 4});
        let entry = json!({"descriptor": descriptor(), "allow": 2, "deny": 4, "extendedInfo": extended});
        let (devops, log) = says(&list(&descriptor().to_uppercase(), &entry));
        let access = devops.access(Namespace::GIT_REPOSITORIES, &token, &descriptor()).await.unwrap();
        assert_eq!(access, Access { allow: 2, deny: 4, effective_allow: 6 });
        let query = format!(
            "token=repoV2%2F{PROJECT}%2F{REPOSITORY}\
             &descriptors=Microsoft.VisualStudio.Services.Claims.AadServicePrincipal%3B{TENANT}%5C{OBJECT}\
             &includeExtendedInfo=true&recurse=false&api-version=7.1"
        );
        let namespace = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87";
        assert_eq!(urls(&log), [format!("https://dev.azure.com/org/_apis/accesscontrollists/{namespace}?{query}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_for_an_identity_and_its_groups_where_something_is_inherited_from() {
        let entry = |allow: u32| json!({"allow": allow, "deny": 1, "extendedInfo": {}});
        let (devops, log) = says(&json!({"value": [{"acesDictionary": {"a": entry(2), "b": entry(4)}}]}));
        let names = ["a".to_owned(), "c".to_owned()];
        let [_, project, all] = repository_tokens(PROJECT, REPOSITORY);
        let entries = devops.entries(Namespace::GIT_REPOSITORIES, &project, &names).await.unwrap();
        let access = |bits| Access { allow: bits, deny: 1, effective_allow: bits };
        assert_eq!(entries, [("a".into(), access(2)), ("b".into(), access(4))]);
        let url = urls(&log).remove(0);
        assert!(url.contains(&format!("?token=repoV2%2F{PROJECT}&descriptors=a%2Cc&")), "{url}");
        assert_eq!((all.as_str(), project_tokens(PROJECT)[1].as_str()), ("repoV2", "$PROJECT"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_allowed_where_no_entry_says_so() {
        let entry = json!({"allow": 2, "deny": null, "extendedInfo": null});
        let other = json!({"count": 1, "value": [{"acesDictionary": {"a": entry, "b": entry}}]});
        for nothing in [json!({"count": 0, "value": []}), json!({"value": [{"acesDictionary": null}]}), other] {
            assert_eq!(read(&nothing).await, Access::default(), "{nothing}");
        }
        let equivalent = read(&list("another name of the same", &entry)).await;
        assert_eq!(equivalent, Access { allow: 2, deny: 0, effective_allow: 2 });
        let denied = read(&list("x", &json!({"allow": 3, "deny": 2}))).await;
        assert_eq!(denied, Access { allow: 3, deny: 2, effective_allow: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_beside_or_instead_and_taken_back() {
        let (one, log) = says(&json!({"count": 1, "value": [{"descriptor": "x", "allow": 1, "deny": 0}]}));
        let token = project_token(PROJECT);
        one.grant(Namespace::PROJECT, &token, &descriptor(), bits::PROJECT_READ).await.unwrap();
        one.set_access(Namespace::PROJECT, &token, &descriptor(), 0, 2).await.unwrap();
        let entries = "https://dev.azure.com/org/_apis/accesscontrolentries/52d39943-cb85-4d7f-8fa8-c6baac873819";
        let body = |merge: bool, allow: u32, deny: u32| {
            let entry = json!({"descriptor": descriptor(), "allow": allow, "deny": deny});
            let token = format!("$PROJECT:vstfs:///Classification/TeamProject/{PROJECT}");
            json!({"token": token, "merge": merge, "accessControlEntries": [entry]})
        };
        let url = format!("{entries}?api-version=7.1");
        assert_eq!(
            sent(&log),
            [("POST".into(), url.clone(), body(true, 1, 0)), ("POST".into(), url, body(false, 0, 2))]
        );

        let (one, log) = says(&json!(true));
        one.revoke(Namespace::PROJECT, "$PROJECT", "a;b\\c").await.unwrap();
        let url = format!("{entries}?token=%24PROJECT&descriptors=a%3Bb%5Cc&api-version=7.1");
        assert_eq!(sent(&log), [("DELETE".into(), url, Value::Null)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_own_rights_are_asked_for() {
        for (value, expected) in
            [(json!([true]), true), (json!([false]), false), (json!([true, false]), false), (json!([]), false)]
        {
            let (one, log) = says(&json!({"count": 1, "value": value}));
            let has =
                one.has_permission(Namespace::COLLECTION, bits::COLLECTION_WRITE, Namespace::COLLECTION_TOKEN).await;
            assert_eq!(has.unwrap(), expected);
            let url = "https://dev.azure.com/org/_apis/permissions/3e65f728-f8bc-4ecd-8764-7e378b19bfa7/2\
                       ?tokens=NAMESPACE%3A&alwaysAllowAdministrators=false&api-version=7.1";
            assert_eq!(urls(&log), [url]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_none_is_not_read() {
    for body in [
        json!({"id": CANARY, "name": "p"}),
        json!({"id": PROJECT, "name": "a\u{202e}b"}),
        json!({"id": PROJECT}),
        json!([]),
    ] {
        let failure = says(&body).0.project("p").await.unwrap_err();
        assert_eq!(failure.code, "AnswerMalformed", "{body}");
        assert_own_words(&failure, "a project");
    }
    let (devops, log) = says(&json!({"id": PROJECT, "name": CLIENT}));
    for name in ["", ".", ".."] {
        assert!(devops.project(name).await.is_err() && devops.repository(name, "r").await.is_err());
    }
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        let http = server(move |_| hostile()).0;
        let devops = devops(http.clone());
        assert_own_words(&devops.project("p").await.unwrap_err(), what);
        assert_own_words(&devops.service_principal(OBJECT).await.unwrap_err(), what);
        if let Err(failure) = devops.add_entitlement(OBJECT).await {
            assert_own_words(&failure.into(), what);
        }
        if let Err(failure) = discover_tenant(&http, "org").await {
            assert_own_words(&failure, what);
        }
    }
}
