//! The simulated Kubernetes API, met with the real client.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests may fail as tests do"
)]

mod kube_cases;
mod kube_watch;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::faults::{Effect, Fault, Faults};
use flux_bearer_sim::kube::{Kube, ServedResource, Verb};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event as CoreEvent, Namespace, Secret};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta, Status};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Error, ResourceExt};
use serde_json::{Value, json};
use tower::ServiceExt;

const NS: &str = "flux-system";

fn world() -> (Kube, Client) {
    let kube = Kube::new(Clock::starting_at("2026-12-01T08:00:00Z".parse().unwrap()), Faults::default());
    let client = client(&kube);
    (kube, client)
}

fn client(kube: &Kube) -> Client {
    let service =
        kube.service().map_request(|request: http::Request<kube::client::Body>| request.map(axum::body::Body::new));
    Client::new(service, NS)
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NS)
}

fn tokens(client: &Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("flux-bearer.dev", "v1alpha1", "BearerToken"),
        "bearertokens",
    );
    Api::namespaced_with(client.clone(), NS, &kind)
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NS}, "data": {"k": "MQ=="}})
}

fn token(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
        "metadata": {"name": name, "namespace": NS}, "spec": spec})
}

fn api_error<T>(outcome: Result<T, Error>) -> Status {
    match outcome {
        Err(Error::Api(status)) => *status,
        Err(other) => panic!("no Status: {other:?}"),
        Ok(_) => panic!("it succeeded"),
    }
}

fn names<K: ResourceExt>(objects: impl IntoIterator<Item = K>) -> Vec<String> {
    objects.into_iter().map(|object| object.name_any()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_cases_hold() {
    let (_kube, client) = world();
    for (number, case) in kube_cases::cases().iter().enumerate() {
        if let Err(why) = kube_cases::run(&client, NS, &format!("case-{number}"), case).await {
            panic!("{why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_created_has_what_the_server_gives() {
    let (_kube, client) = world();
    let made: DynamicObject = tokens(&client)
        .create(&PostParams::default(), &serde_json::from_value(token("t", &json!({}))).unwrap())
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(made.creation_timestamp().unwrap().0.to_string(), "2026-12-01T08:00:00Z");
    assert_eq!(made.uid().unwrap().len(), 36);
    let named = json!({"metadata": {"generateName": "e-"}, "involvedObject": {}});
    let api: Api<CoreEvent> = Api::namespaced(client, NS);
    let named = api.create(&PostParams::default(), &serde_json::from_value(named).unwrap()).await.unwrap();
    assert!(named.name_any().starts_with("e-") && named.name_any().len() == 7, "{}", named.name_any());
}

#[tokio::test(start_paused = true)]
async fn a_spec_change_raises_the_generation_and_nothing_else_does() {
    let (kube, client) = world();
    kube.apply(token("t", &json!({"suspend": false})));
    kube.annotate("BearerToken", NS, "t", "a", "b").unwrap();
    let status =
        json!({"status": {"refreshAt": "soon"}, "spec": {"suspend": true}, "metadata": {"labels": {"l": "1"}}});
    let api = tokens(&client);
    let patched = api.patch_status("t", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(1));
    assert_eq!(patched.data["spec"]["suspend"], false, "the status subresource changes no spec");
    assert_eq!(patched.metadata.labels, None, "nor metadata");
    let main = json!({"status": {"refreshAt": "never"}, "spec": {"suspend": true}});
    let patched = api.patch("t", &PatchParams::default(), &Patch::Merge(&main)).await.unwrap();
    assert_eq!(patched.metadata.generation, Some(2));
    assert_eq!(patched.data["status"]["refreshAt"], "soon", "the main resource changes no status");
}

#[tokio::test(start_paused = true)]
async fn an_applied_status_is_owned_through_the_subresource() {
    let (kube, client) = world();
    kube.apply(token("t", &json!({})));
    let api = tokens(&client);
    let mut status = token("t", &json!({"suspend": true}));
    status["status"] = json!({"expiresAt": "2026-12-01T09:00:00Z"});
    let applied = api.patch_status("t", &PatchParams::apply("fb"), &Patch::Apply(&status)).await.unwrap();
    assert_eq!(applied.data["status"]["expiresAt"], "2026-12-01T09:00:00Z");
    assert_eq!(applied.data["spec"], json!({}));
    let entry = applied.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some("fb")).unwrap();
    assert_eq!(entry.subresource.as_deref(), Some("status"));
    assert_eq!(entry.fields_v1.as_ref().unwrap().0, json!({"f:status": {"f:expiresAt": {}}}));
    let again = api.patch_status("t", &PatchParams::apply("fb"), &Patch::Apply(&status)).await.unwrap();
    assert_eq!(again.resource_version(), applied.resource_version());
    status["status"]["expiresAt"] = "later".into();
    let refused = api_error(api.patch_status("t", &PatchParams::apply("other"), &Patch::Apply(&status)).await);
    assert!(
        refused.message.contains(r#"conflict with "fb" with subresource "status": .status.expiresAt"#),
        "{refused:?}"
    );
    let missing =
        api_error(api.patch_status("none", &PatchParams::apply("fb"), &Patch::Apply(&token("none", &json!({})))).await);
    assert_eq!((missing.code, missing.reason.as_str()), (404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_object_must_be_the_one_that_was_read() {
    let (kube, client) = world();
    kube.apply(secret("s"));
    let api = secrets(&client);
    let read = api.get("s").await.unwrap();
    kube.annotate("Secret", NS, "s", "a", "b").unwrap();
    let refused = api_error(api.replace("s", &PostParams::default(), &read).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let read = api.get("s").await.unwrap();
    let same = api.replace("s", &PostParams::default(), &read).await.unwrap();
    assert_eq!(same.resource_version(), read.resource_version(), "nothing changed, nothing is written");
    let leases: Api<Lease> = Api::namespaced(client, NS);
    let lease = leases
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "l"}})).unwrap())
        .await
        .unwrap();
    let unconditional =
        Lease { metadata: kube::core::ObjectMeta { resource_version: None, ..lease.metadata }, ..lease };
    let refused = api_error(leases.replace("l", &PostParams::default(), &unconditional).await);
    assert!(refused.message.contains("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"));
}

#[tokio::test(start_paused = true)]
async fn yaml_is_applied_and_a_manager_is_needed() {
    let (_kube, client) = world();
    let body = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: y\ndata:\n  k: MQ==\n";
    let send = |query: &str| {
        let request = http::Request::patch(format!("/api/v1/namespaces/{NS}/secrets/y?{query}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(body.as_bytes().to_vec())
            .unwrap();
        client.request::<Secret>(request)
    };
    let refused = api_error(send("").await);
    assert_eq!(
        refused.message,
        r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#
    );
    assert_eq!(send("fieldManager=m").await.unwrap().data.unwrap()["k"].0, b"1");
}

#[tokio::test(start_paused = true)]
async fn pages_show_the_state_at_the_first_of_them() {
    let (kube, client) = world();
    (0..7).for_each(|n| drop(kube.apply(secret(&format!("s{n}")))));
    let api = secrets(&client);
    let first = api.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(names(first.items), ["s0", "s1", "s2"]);
    assert_eq!(first.metadata.remaining_item_count, Some(4));
    kube.delete("Secret", NS, "s4");
    kube.apply(secret("s3a"));
    let next = first.metadata.continue_.unwrap();
    let second = api.list(&ListParams::default().limit(3).continue_token(&next)).await.unwrap();
    assert_eq!(names(second.items), ["s3", "s4", "s5"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    kube.compact();
    let next = second.metadata.continue_.unwrap();
    let gone = api_error(api.list(&ListParams::default().limit(3).continue_token(&next)).await);
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
    let rest = gone.metadata.unwrap().continue_.unwrap();
    let third = api.list(&ListParams::default().limit(3).continue_token(&rest)).await.unwrap();
    assert_eq!(names(third.items), ["s6"]);
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_listed_apart_and_together() {
    let (kube, client) = world();
    kube.apply(secret("a"));
    let elsewhere =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b", "namespace": "flux-system-2"}});
    kube.apply(elsewhere);
    assert_eq!(names(secrets(&client).list(&ListParams::default()).await.unwrap()), ["a"]);
    let all: Api<Secret> = Api::all(client);
    assert_eq!(names(all.list(&ListParams::default()).await.unwrap()).len(), 2);
    let one = ListParams::default().fields("metadata.name=b,metadata.namespace=flux-system-2");
    assert_eq!(names(all.list(&one).await.unwrap()), ["b"]);
    let unknown = api_error(all.list(&ListParams::default().fields("spec.x=1")).await);
    assert!(unknown.code == 400 && unknown.message.contains("field label not supported: spec.x"), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn label_selectors_select() {
    let (kube, client) = world();
    for (name, labels) in [("a", json!({"env": "dev"})), ("b", json!({"env": "prod", "x": ""})), ("c", json!({}))] {
        let mut object = secret(name);
        object["metadata"]["labels"] = labels;
        kube.apply(object);
    }
    let table: [(&str, &[&str]); 10] = [
        ("env=dev", &["a"]),
        ("env==prod,x", &["b"]),
        ("env!=dev", &["b", "c"]),
        ("env in (dev, prod)", &["a", "b"]),
        ("env notin (dev),env", &["b"]),
        ("env", &["a", "b"]),
        ("!env", &["c"]),
        ("x=", &["b"]),
        ("env in (dev,prod),!x", &["a"]),
        ("", &["a", "b", "c"]),
    ];
    for (selector, wanted) in table {
        let found = secrets(&client).list(&ListParams::default().labels(selector)).await.unwrap();
        assert_eq!(names(found), wanted, "{selector}");
    }
    assert_eq!(api_error(secrets(&client).list(&ListParams::default().labels("a b")).await).code, 400);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_all_that_a_metadata_request_gets() {
    let (kube, client) = world();
    kube.apply(secret("a"));
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), NS);
    let mut seen = pin!(watcher(api, watcher::Config::default()));
    let mut applied = Vec::new();
    while applied.len() < 2 {
        match seen.next().await.unwrap().unwrap() {
            Event::InitDone => drop(kube.apply(secret("b"))),
            Event::InitApply(object) | Event::Apply(object) => applied.push(object.name_any()),
            Event::Init | Event::Delete(_) => {}
        }
    }
    assert_eq!(applied, ["a", "b"]);
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    for path in ["secrets/a", "secrets", "secrets?watch=true&timeoutSeconds=1"] {
        let request = http::Request::get(format!("/api/v1/namespaces/{NS}/{path}")).header("accept", accept);
        let text = client.request_text(request.body(Vec::new()).unwrap()).await.unwrap();
        assert!(text.contains("PartialObjectMetadata") && text.contains("\"a\""), "{text}");
        assert!(!text.contains("MQ==") && !text.contains("Opaque"), "{text}");
    }
    let patched =
        secrets(&client).patch_metadata("a", &PatchParams::default(), &Patch::Merge(json!({}))).await.unwrap();
    assert_eq!(patched.types.unwrap().kind, "PartialObjectMetadata");
}

#[tokio::test(start_paused = true)]
async fn faults_reach_requests_and_the_journal_has_them() {
    let (kube, client) = world();
    kube.apply(secret("s"));
    let effect = |effect| Fault {
        name: "f".into(),
        path: Some("secrets".into()),
        times: Some(1),
        effect: Some(effect),
        ..Fault::default()
    };
    let api = secrets(&client);
    let status = Effect::Answer { status: 503, retry_after: None, content_type: None, body: "no".into() };
    kube.faults().set(effect(status));
    assert_eq!(api_error(api.get("s").await).code, 503);
    kube.faults().set(effect(Effect::Refuse));
    assert!(matches!(api.get("s").await, Err(Error::Service(_))));
    kube.faults().set(effect(Effect::Hang));
    assert!(tokio::time::timeout(Duration::from_secs(10), api.get("s")).await.is_err());
    kube.faults().set(effect(Effect::Lose));
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"lost": "yes"}}}));
    assert!(
        api.patch("s", &PatchParams { field_manager: Some("m".into()), ..PatchParams::default() }, &patch)
            .await
            .is_err()
    );
    assert_eq!(api.get("s").await.unwrap().annotations()["lost"], "yes", "the write happened, its answer was lost");
    let entries = kube.journal().entries();
    assert_eq!(entries.iter().map(|entry| entry.status).collect::<Vec<_>>(), [Some(503), None, None, None, Some(200)]);
    assert_eq!(entries[3].request.field_manager, "m");
    assert_eq!((kube.journal().count(Verb::Get, "secrets"), kube.journal().count(Verb::Patch, "secrets")), (4, 1));
    kube.journal().clear();
    assert!(kube.journal().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_authoriser_refuses_in_the_servers_words() {
    let (kube, client) = world();
    kube.apply(secret("mine"));
    kube.set_authorizer(|info| info.resource != "secrets" || (info.name == "mine" && info.verb != Verb::Delete));
    let api = secrets(&client);
    let user = "system:serviceaccount:flux-system:flux-bearer-controller";
    let refused = api_error(api.get("other").await);
    let wanted = format!(
        "secrets \"other\" is forbidden: User \"{user}\" cannot get resource \"secrets\" in API group \"\" in the namespace \"flux-system\""
    );
    assert_eq!((refused.code, refused.reason.as_str(), refused.message.as_str()), (403, "Forbidden", wanted.as_str()));
    let all: Api<Secret> = Api::all(client.clone());
    let refused = api_error(all.list(&ListParams::default()).await);
    assert_eq!(
        refused.message,
        format!(
            "secrets is forbidden: User \"{user}\" cannot list resource \"secrets\" in API group \"\" at the cluster scope"
        )
    );
    assert!(api.get("mine").await.is_ok());
    assert_eq!(names(api.list(&ListParams::default().fields("metadata.name=mine")).await.unwrap()), ["mine"]);
    kube.set_authorizer(|info| info.verb != Verb::Create);
    let refused = api_error(api.patch("new", &PatchParams::apply("m"), &Patch::Apply(secret("new"))).await);
    assert!(refused.message.contains("cannot create resource"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_on_its_way_out_takes_nothing_new() {
    let (kube, client) = world();
    assert!(kube.delete("Namespace", "", NS));
    let refused =
        api_error(secrets(&client).create(&PostParams::default(), &serde_json::from_value(secret("s")).unwrap()).await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(refused.details.unwrap().causes[0].reason, "NamespaceTerminating");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(namespaces.get(NS).await.unwrap().status.unwrap().phase.unwrap(), "Terminating");
    assert!(kube.delete("Namespace", "", NS));
    let refused =
        api_error(secrets(&client).create(&PostParams::default(), &serde_json::from_value(secret("s")).unwrap()).await);
    assert_eq!(refused.message, "namespaces \"flux-system\" not found");
}

#[tokio::test(start_paused = true)]
async fn a_resource_without_its_crd_is_no_page() {
    let (kube, client) = world();
    let mut seen = pin!(tokens(&client).watch(&WatchParams::default(), "0").await.unwrap());
    assert!(kube.remove_resource("flux-bearer.dev", "bearertokens"));
    assert!(seen.next().await.is_none(), "its watches end");
    let refused = api_error(tokens(&client).list(&ListParams::default()).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "404 page not found"));
    kube.serve_resource(
        ServedResource::custom("flux-bearer.dev", "v1alpha1", "bearertokens", "BearerToken").with_status(),
    );
    assert!(tokens(&client).list(&ListParams::default()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_date_is_the_worlds() {
    let (_kube, client) = world();
    tokio::time::sleep(Duration::from_secs(90)).await;
    let request = http::Request::get("/api/v1/namespaces/default").body(kube::client::Body::empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.headers()["date"], "Tue, 01 Dec 2026 08:01:30 GMT");
}

#[tokio::test(start_paused = true)]
async fn service_account_tokens_are_the_issuers() {
    let (kube, client) = world();
    kube.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant", "namespace": NS}}));
    kube.issue_tokens(|asked| {
        format!("{}/{} for {}", asked.namespace, asked.service_account, asked.audiences.join(","))
    });
    let review = json!({"spec": {"audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 600}});
    let path = format!("/api/v1/namespaces/{NS}/serviceaccounts/tenant/token");
    let request = http::Request::post(path).body(serde_json::to_vec(&review).unwrap()).unwrap();
    let answer: Value = client.request(request).await.unwrap();
    assert_eq!(answer["status"]["token"], "flux-system/tenant for api://AzureADTokenExchange");
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-12-01T08:10:00Z");
    assert_eq!(
        (kube.journal().entries()[0].request.subresource.as_str(), kube.journal().entries()[0].status),
        ("token", Some(201))
    );
}

#[tokio::test(start_paused = true)]
async fn every_write_is_told_before_it_is_answered() {
    let (kube, client) = world();
    let written = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let counts = written.clone();
    kube.on_change(move |object| {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        *counts.lock().unwrap().entry(name).or_default() += 1;
    });
    kube.apply(secret("a"));
    secrets(&client).patch("a", &PatchParams::apply("m"), &Patch::Apply(secret("a"))).await.unwrap();
    secrets(&client).patch("a", &PatchParams::apply("m"), &Patch::Apply(secret("a"))).await.unwrap();
    assert_eq!(written.lock().unwrap()["a"], 2, "a no-op apply writes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_secret_too_large_or_not_base64_is_refused() {
    let (kube, client) = world();
    let apply = |data: Value| {
        let api = secrets(&client);
        let body = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {}, "data": data});
        async move { api_error(api.patch("s", &PatchParams::apply("m"), &Patch::Apply(body)).await) }
    };
    let large = apply(json!({"k": "AAAA".repeat(1024 * 1024 / 3 + 1)})).await;
    assert_eq!((large.code, large.reason.as_str()), (422, "Invalid"));
    assert_eq!(large.message, "Secret \"s\" is invalid: data: Too long: may not be more than 1048576 bytes");
    let strange = apply(json!({"k": "MQ=?"})).await;
    assert!(strange.code == 400 && strange.message.contains("illegal base64 data at input byte"), "{strange:?}");
    assert!(kube.get("Secret", NS, "s").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_and_stores_nothing() {
    let (kube, client) = world();
    let api = secrets(&client);
    let made = api.patch("s", &PatchParams::apply("m").dry_run(), &Patch::Apply(secret("s"))).await.unwrap();
    assert_eq!(made.name_any(), "s");
    assert!(kube.get("Secret", NS, "s").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_put_for_another_uid_conflicts() {
    let (kube, client) = world();
    let api = secrets(&client);
    kube.apply(secret("s"));
    let read = api.get("s").await.unwrap();
    kube.delete("Secret", NS, "s");
    kube.apply(secret("s"));
    let refused = api_error(api.replace("s", &PostParams::default(), &read).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("Precondition failed: UID in precondition: "), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_test_does_keeps_the_rules() {
    let (kube, _client) = world();
    let first = kube.apply(token("t", &json!({"suspend": false})));
    kube.patch_status("BearerToken", NS, "t", json!({"refreshAt": "soon"})).unwrap();
    let second = kube.apply(token("t", &json!({"suspend": true})));
    assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(second["metadata"]["generation"], 2);
    assert_eq!(second["status"]["refreshAt"], "soon");
    let unknown = kube.apply(json!({"apiVersion": "example.com/v1", "kind": "Nothing", "metadata": {"name": "n"}}));
    assert_eq!((unknown["kind"].as_str(), unknown["code"].as_u64()), (Some("Status"), Some(404)));
    let event = |version: &str| json!({"apiVersion": version, "kind": "Event", "metadata": {"name": version.replace('/', "-"), "namespace": NS}});
    kube.apply(event("v1"));
    kube.apply(event("events.k8s.io/v1"));
    let names = |kind: &str| kube.list(kind).iter().map(|event| event["metadata"]["name"].clone()).collect::<Vec<_>>();
    assert_eq!((names("Event"), names("Event.events.k8s.io")), (vec![json!("v1")], vec![json!("events.k8s.io-v1")]));
}
