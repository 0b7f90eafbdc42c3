//! The simulator held against itself: as if one of two were Azure, as it is and altered on purpose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod stage;
mod switches;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flux_bearer_azure::operator::Resource;
use flux_bearer_live::clean::{Whose, clean};
use flux_bearer_live::hold::{Played, held, played};
use flux_bearer_live::scenario::{Run, play};
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::state::ResourceGroup;
use http::StatusCode;
use http::header::HeaderValue;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::Notify;

use stage::{Altered, SUBSCRIPTION, Stage, TENANT};

fn run() -> Run {
    Run::new("t1")
}

/// Plays the scenario to a simulator that is altered, in Azure's place, and to one as it is.
async fn differences(alter: impl Fn(&str, &mut Altered) + Clone + Send + Sync + 'static) -> Vec<String> {
    let azure = played(&Stage::altered(alter).azure, &run(), pending()).await;
    let simulator = played(&Stage::new().azure, &run(), pending()).await;
    assert!(azure.failures.is_empty() && simulator.failures.is_empty(), "{:?}", azure.failures);
    held(&azure, &simulator).iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn one_simulator_is_like_another_and_nothing_is_left() {
    let stage = Stage::new();
    let before = stage.world.state();
    let azure = played(&stage.azure, &run(), pending()).await;
    assert_eq!(azure.failures, [""; 0]);
    assert!(azure.exchanges.len() > 100, "{}", azure.exchanges.len());
    assert!(stage.world.state() == before, "something is left");
    assert_eq!(differences(|_, _| ()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn another_status_is_found() {
    let found = differences(|asked, answer| {
        if answer.json.pointer("/error_codes/0") == Some(&json!(90_002)) {
            answer.status = StatusCode::UNAUTHORIZED;
        }
        if asked.starts_with("GET https://dev.azure.com/") && answer.status == 203 {
            answer.status = StatusCode::FOUND;
        }
    });
    let data = "GET dev.azure.com/<organization>/_apis/connectionData?api-version=7.1-preview.1";
    let expected = [
        format!("caller/garbage: {data}: status: Azure 302, the simulator 203"),
        format!("caller/no-token: {data}: status: Azure 302, the simulator 203"),
        "sign-in/unknown-tenant: POST login.microsoftonline.com/<guid>/oauth2/v2.0/token: status: Azure 401, the \
         simulator 400"
            .to_owned(),
    ];
    assert_eq!(found.await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_header_field_more_or_less_and_another_media_type_are_found() {
    let found = differences(|asked, answer| {
        if asked.contains("/info/refs") && answer.status == 401 {
            answer.headers.remove("www-authenticate");
        }
        if asked.starts_with("OPTIONS https://dev.azure.com/") && answer.status == 200 {
            answer.headers.insert("x-new", HeaderValue::from_static("1"));
            answer.headers.insert("alt-svc", HeaderValue::from_static("h3"));
            answer.headers.insert("content-type", HeaderValue::from_static("text/json"));
        }
    });
    let git = "GET dev.azure.com/<organization>/<project>/_git/<repository>/info/refs?service=git-upload-pack";
    let options = "caller/interfaces: OPTIONS dev.azure.com/<organization>/_apis";
    let expected = [
        format!(
            "{options}: header alt-svc: of Azure alone (allowed: offers another protocol, which the simulator doesn't speak)"
        ),
        format!("{options}: header x-new: of Azure alone"),
        format!("{options}: content-type: Azure text/json, the simulator application/json"),
    ];
    let steps = ["git/garbage", "git/garbage-suppressed", "git/no-token", "git/no-token-suppressed"];
    let missing = steps.map(|step| format!("{step}: {git}: header www-authenticate: of the simulator alone"));
    assert_eq!(found.await, [expected.as_slice(), &missing].concat());
}

#[tokio::test(start_paused = true)]
async fn a_field_more_or_less_and_another_type_are_found() {
    let found = differences(|asked, answer| {
        if asked.starts_with("POST https://vsaex.dev.azure.com/") && answer.json["isSuccess"] == json!(true) {
            answer.json["servicePrincipalEntitlement"]["dateCreated"].take();
            answer.json["servicePrincipalEntitlement"]["servicePrincipal"].as_object_mut().unwrap().remove("metaType");
        }
        if asked.starts_with("PUT ") && asked.contains("/federatedIdentityCredentials/live-01?") {
            answer.json["properties"]["provisioningState"] = json!("Succeeded");
        }
        if answer.json.pointer("/error_codes/0") == Some(&json!(700_016)) {
            answer.json["error_codes"] = json!(["700016"]);
        }
    });
    let member = "POST vsaex.dev.azure.com/<organization>/_apis/serviceprincipalentitlements?api-version=7.1-preview.1";
    let credential = "PUT management.azure.com/subscriptions/<subscription>/resourceGroups/flux-bearer-live-t1/providers/\
                      Microsoft.ManagedIdentity/userAssignedIdentities/flux-bearer-live-t1/\
                      federatedIdentityCredentials/live-01?api-version=2024-11-30";
    let sign_in = "POST login.microsoftonline.com/<tenant>/oauth2/v2.0/token";
    let entitlement = "body.servicePrincipalEntitlement";
    let mut expected = Vec::new();
    for step in ["credential/create", "credential/create-again"] {
        let field = "field body.properties.provisioningState (text): of Azure alone";
        expected.push(format!("{step}: {credential}: {field}"));
    }
    for step in ["member/add", "member/add-again"] {
        expected.push(format!("{step}: {member}: type of {entitlement}.dateCreated: Azure null, the simulator text"));
        let field = "field body.servicePrincipalEntitlement.servicePrincipal.metaType (text): of the simulator alone";
        expected.push(format!("{step}: {member}: {field}"));
    }
    for step in ["sign-in/malformed-assertion", "sign-in/no-default", "sign-in/unknown-client"] {
        expected.push(format!("{step}: {sign_in}: type of body.error_codes[]: Azure text, the simulator number"));
    }
    assert_eq!(found.await, expected);
}

/// Whether this is a GUID that Microsoft has published.
fn is_public(guid: &str) -> bool {
    let zero = |letter: char| guid.chars().all(|other| other == letter || other == '-');
    let known = ["499b84ac-", "2e9eb7ed-", "52d39943-", "3e65f728-"].iter().any(|known| guid.starts_with(known));
    known || zero('a') || zero('0')
}

fn guids(text: &str) -> Vec<&str> {
    let is_guid = |word: &&str| {
        let parts = || word.split('-');
        parts().map(str::len).eq([8, 4, 4, 4, 12])
            && parts().all(|part| part.chars().all(|letter| letter.is_ascii_hexdigit()))
    };
    let starts = text.char_indices().map(|(at, _)| at);
    starts.filter_map(|at| text.get(at..at + 36)).filter(is_guid).collect()
}

#[tokio::test(start_paused = true)]
async fn a_transcript_holds_no_token_no_cookie_no_id_and_no_name_of_anybody() {
    let canary = "eyJhbGciOiJSUzI1NiJ9.eyJjYW5hcnkiOiJjYW5hcnkifQ.c2lnbmF0dXJl";
    let stage = Stage::altered(move |_, answer| {
        let cookie = HeaderValue::from_static("fpc=canary-cookie; path=/");
        answer.headers.append("set-cookie", cookie);
        let echo = format!("Bearer {canary}; ada.lovelace@contoso.example; {TENANT}");
        answer.headers.append("x-echo", HeaderValue::try_from(echo).unwrap());
        if let Some(fields) = answer.json.as_object_mut() {
            fields.insert("client_assertion".to_owned(), json!("canary-assertion"));
            fields.insert("echo".to_owned(), json!({"token": canary, TENANT: SUBSCRIPTION}));
        }
    });
    let played = played(&stage.azure, &run(), pending()).await;
    assert_eq!(played.failures, [""; 0]);
    let raw = serde_json::to_string(&stage.azure.recorder.exchanges()).unwrap();
    let stored = serde_json::to_string_pretty(&played).unwrap();
    let mut forbidden: Vec<String> = [
        "eyJ",
        "canary",
        "ada.lovelace",
        "contoso",
        "fabrikam",
        "secret plans",
        "secret%20plans",
        "operator@",
        "clusters\"",
        "aadsp.",
        "vssgp.",
    ]
    .map(str::to_owned)
    .into();
    for resource in [Resource::Arm, Resource::AzureDevOps] {
        let token = stage.azure.session().token(resource).await.unwrap();
        forbidden.extend(token.secret.expose_secret().split('.').map(str::to_owned));
    }
    for word in forbidden {
        assert!(!stored.to_lowercase().contains(&word.to_lowercase()), "{word} is stored");
    }
    assert!(guids(&raw).contains(&TENANT), "nothing to redact");
    let private: Vec<&str> = guids(&stored).into_iter().filter(|guid| !is_public(guid)).collect();
    assert_eq!(private, [""; 0]);
    assert!(stored.contains("<tenant>") && stored.contains("<subscription>") && stored.contains("<organization>"));
}

fn fault(method: &str, path: &str) -> Fault {
    let answer = Effect::Answer { status: 500, retry_after: None, content_type: None, body: String::new() };
    Fault {
        name: "in the middle".to_owned(),
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        // As often as a client of ours asks.
        times: Some(4),
        effect: Some(answer),
        ..Fault::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_middle_is_told_and_cleaned_up_after() {
    for (method, path, step) in [
        ("GET", "/_apis/connectionData", "caller/who-am-i"),
        ("PUT", "/federatedIdentityCredentials/live-07", "credential/up-to-twenty"),
        ("GET", "/_apis/graph/storagekeys", "member/find"),
        ("POST", "/_apis/accesscontrolentries/52d3", "rights/project-grant"),
        ("GET", "/_apis/accesscontrollists/2e9e", "rights/repository-none"),
        ("DELETE", "/userAssignedIdentities/", "removal/credential"),
    ] {
        let stage = Stage::new();
        let before = stage.world.state();
        let mut fault = fault(method, path);
        if step == "caller/who-am-i" {
            // Four of our own are asked before.
            fault.times = Some(8);
        }
        stage.world.faults().set(fault);
        let played = played(&stage.azure, &run(), pending()).await;
        assert!(played.failures.len() == 1 && played.failures[0].starts_with(step), "{:?}", played.failures);
        assert!(stage.world.state() == before, "{step}: something is left");
    }
}

async fn hold(stage: &Stage) -> Played {
    played(&stage.azure, &run(), pending()).await
}

#[tokio::test(start_paused = true)]
async fn a_member_that_no_list_shows_yet_is_cleaned_up_too() {
    let stage = Stage::new();
    stage.world.edit(|state| state.organizations[0].principal_delay_seconds = 86_400).unwrap();
    let before = stage.world.state();
    let played = hold(&stage).await;
    assert_eq!(played.failures, ["member/find: the new member is in no list"]);
    assert!(stage.world.state() == before, "something is left");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_is_cleaned_up_after() {
    let stop = Arc::new(Notify::new());
    let stage = {
        let stop = Arc::clone(&stop);
        Stage::altered(move |asked, _| {
            if asked.contains("/federatedIdentityCredentials/live-03?") {
                stop.notify_one();
            }
        })
    };
    let before = stage.world.state();
    let played = played(&stage.azure, &run(), stop.notified()).await;
    assert_eq!(played.failures.len(), 1);
    assert!(played.failures[0].ends_with(": interrupted"), "{:?}", played.failures);
    assert!(stage.world.state() == before, "something is left");
    assert_eq!(held(&played, &hold(&Stage::new()).await), [], "what was played is like the simulator's");
}

#[tokio::test(start_paused = true)]
async fn whenever_a_run_is_killed_what_it_left_is_found_and_nothing_else() {
    let mut killed = 0;
    for at in (4..).step_by(7) {
        let (count, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let stage = {
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            Stage::altered(move |_, _| {
                // The request has had its effect; nobody hears of it.
                if count.fetch_add(1, Ordering::Relaxed) == at {
                    stop.notify_one();
                }
            })
        };
        let others = |name: &str, tag: &str| ResourceGroup {
            name: name.to_owned(),
            location: "westeurope".to_owned(),
            tags: [("flux-bearer-live".to_owned(), tag.to_owned())].into(),
        };
        stage
            .world
            .edit(|state| {
                let groups = &mut state.subscriptions[0].resource_groups;
                groups.extend([others("flux-bearer-live-t9", "t8"), others("production", "t1")]);
            })
            .unwrap();
        let before = stage.world.state();
        let this = run();
        tokio::select! {
            biased;
            () = stop.notified() => (),
            done = play(&stage.azure, &this) => {
                done.unwrap();
                break;
            }
        }
        killed += 1;
        clean(&stage.azure, Whose::Any).await.unwrap();
        assert!(stage.world.state() == before, "killed at {at}: something is left");
    }
    assert!(killed > 10, "{killed}");
}

#[tokio::test(start_paused = true)]
async fn a_run_leaves_what_another_has_made() {
    let stage = Stage::new();
    stage.world.faults().set(Fault { times: Some(1), ..fault("POST", "/_apis/accesscontrolentries/") });
    play(&stage.azure, &Run::new("t2")).await.unwrap_err();
    let before = stage.world.state();
    assert_eq!(hold(&stage).await.failures, [""; 0]);
    assert!(stage.world.state() == before, "the other run is gone");
    let gone = clean(&stage.azure, Whose::Any).await.unwrap();
    assert_eq!(gone, ["member flux-bearer-live-t2", "resource group flux-bearer-live-t2"]);
}
