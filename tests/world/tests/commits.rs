//! No commit locks Flux out of the repository that would bring its revert: whatever a BearerToken comes to say, the Secret that
//! the GitRepository reads holds a token that opens it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use flux_bearer_world::identities::{REPOSITORY, TENANT, client};
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};
use support::{Theatre, minutes, seconds};

/// Histories that are drawn, and what happens in each.
const HISTORIES: u64 = 150;
const STEPS: usize = 5;

/// Name of BearerToken, GitRepository and Secret.
const NAME: &str = "fleet";

/// Number of an identity that may not read the repository.
const STRANGER: usize = 2;

/// One of these.
fn any(rng: &mut Rng, of: &[Value]) -> Value {
    rng.choice(of).cloned().unwrap()
}

/// An identity that works or doesn't, in all the ways in which it may not.
fn identity(rng: &mut Rng) -> Value {
    any(
        rng,
        &[
            json!({}),
            json!({"clientId": client(0)}),
            json!({"clientId": client(1)}),
            json!({"clientId": client(STRANGER)}),
            json!({"clientId": client(777)}),
            json!({"clientId": "fleet"}),
            json!({"clientId": client(0), "tenantId": "72f988bf-0000-4000-8000-00000000dead"}),
            json!({"type": "ManagedIdentity", "clientId": client(0)}),
            json!({"type": "ManagedIdentity", "clientId": client(1)}),
            json!({"type": "ClientSecret", "clientId": client(0), "tenantId": TENANT, "secretRef": {"name": "none"}}),
            json!({"type": "Certificate"}),
            json!({"serviceAccountName": "nobody"}),
            json!(7),
        ],
    )
}

/// What may be said of the Secret.
fn secret(rng: &mut Rng) -> Value {
    let formats = [
        json!(["Bearer"]),
        json!(["Basic"]),
        json!(["Token"]),
        json!(["Bearer", "Basic"]),
        json!(["Bearer", "Token"]),
        json!(["Basic", "Token"]),
        json!(["Bearer", "Basic", "Token"]),
        json!([]),
        json!("Bearer"),
    ];
    let names = [json!(NAME), json!("mistyped"), json!("foreign"), json!("../other")];
    let policies = [json!("Retain"), json!("Delete"), json!("Keep")];
    let mut secret = json!({"formats": any(rng, &formats), "adopt": rng.bool()});
    if rng.u8(0..3) == 0 {
        secret["name"] = any(rng, &names);
    }
    if rng.u8(0..3) == 0 {
        secret["deletionPolicy"] = any(rng, &policies);
    }
    secret
}

/// A spec with some of its fields. Nothing that ends renewal on purpose: `suspend` does.
fn spec(rng: &mut Rng) -> Value {
    let repositories = [
        json!([]),
        json!([REPOSITORY]),
        json!([REPOSITORY.replace("fleet", "closed")]),
        json!(["https://github.com/contoso/fleet"]),
        json!(REPOSITORY),
    ];
    let mut spec = json!({});
    if rng.bool() {
        spec["identity"] = identity(rng);
    }
    if rng.bool() {
        spec["secret"] = secret(rng);
    }
    if rng.u8(0..4) == 0 {
        spec["repositories"] = any(rng, &repositories);
    }
    if rng.u8(0..20) == 0 { any(rng, &[json!(null), json!("text"), json!([])]) } else { spec }
}

/// A Secret as somebody has made it, and the first spec that fills it.
fn beginning(rng: &mut Rng, theatre: &Theatre) -> Value {
    let (kind, formats) = match rng.u8(0..3) {
        0 => return json!({}),
        1 => ("Opaque", ["Bearer"]),
        _ => ("kubernetes.io/basic-auth", ["Basic"]),
    };
    let pat = STANDARD.encode("a personal access token");
    theatre.stage.kube.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {"username": STANDARD.encode("git"), "password": pat},
    }));
    json!({"secret": {"adopt": true, "formats": formats}})
}

/// Somebody writes into the Secret what is not a GitRepository's first choice, or takes the label.
fn meddle(rng: &mut Rng, theatre: &Theatre) -> Option<String> {
    let mut secret = theatre.stage.kube.get("Secret", NAMESPACE, NAME)?;
    let key = *rng.choice(["token", "username", "password", "ca.crt", "label"].as_slice())?;
    if key == "label" {
        *secret.pointer_mut("/metadata/labels/app.kubernetes.io~1part-of")? = json!("fleet");
    } else {
        secret.get_mut("data")?.as_object_mut()?.insert(key.to_owned(), json!(STANDARD.encode("theirs")));
    }
    theatre.stage.kube.apply(secret);
    Some(format!("somebody writes {key}"))
}

/// Another object comes that has to do with the Secret, or changes, or goes.
fn beside(rng: &mut Rng, theatre: &Theatre) -> String {
    let stage = &theatre.stage;
    match rng.u8(0..4) {
        0 => {
            let urls =
                ["https://github.com/contoso/fleet", "https://contoso@dev.azure.com/contoso/platform/_git/fleet"];
            let url = *rng.choice(urls.as_slice()).unwrap();
            stage.git_repository("beside", NAME, url);
            format!("a GitRepository of {url} reads the Secret as well")
        }
        1 => {
            let spec = json!({"identity": identity(rng), "secret": {"name": NAME, "adopt": true}});
            stage.bearer_token("rival", &spec);
            format!("a younger BearerToken names the Secret: {spec}")
        }
        2 => {
            stage.kube.delete("GitRepository", NAMESPACE, "beside");
            stage.kube.delete("BearerToken", NAMESPACE, "rival");
            "what came beside goes".to_owned()
        }
        _ => {
            let mut spec = spec(rng);
            // Nothing but the name tells that it is the same one.
            if let Some(secret) = spec.get_mut("secret").and_then(Value::as_object_mut) {
                secret.remove("name");
            }
            stage.kube.delete("BearerToken", NAMESPACE, "rival");
            stage.kube.delete("BearerToken", NAMESPACE, NAME);
            stage.bearer_token(NAME, &spec);
            format!("made anew: {spec}")
        }
    }
}

async fn play(seed: u64) {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let theatre = Theatre::with(&[3600; STRANGER + 1]);
    theatre.forbid(STRANGER);
    theatre.stage.kube.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign", "namespace": NAMESPACE},
        "data": {"password": STANDARD.encode("theirs")},
    }));
    theatre.stage.git_repository(NAME, NAME, REPOSITORY);
    let first = beginning(&mut rng, &theatre);
    theatre.stage.bearer_token(NAME, &first);
    let mut running = theatre.stage.start();
    seconds(10).await;
    let mut history = vec![first.to_string()];
    for _ in 0..STEPS {
        let told = match rng.u8(0..8) {
            0 => meddle(&mut rng, &theatre),
            1 => {
                running.kill().await;
                running = theatre.stage.start();
                Some("the controller starts anew".to_owned())
            }
            2 | 3 => Some(beside(&mut rng, &theatre)),
            _ => {
                let spec = spec(&mut rng);
                theatre.stage.bearer_token(NAME, &spec);
                Some(spec.to_string())
            }
        };
        history.extend(told);
        let pause = rng.u64(0..100);
        minutes(pause).await;
        // What was written a moment ago is put right.
        seconds(2).await;
        history.push(format!("{pause} minutes"));
        assert_eq!(theatre.clone(NAME).await, 200, "seed {seed}: {history:#?}");
    }
    minutes(120).await;
    assert_eq!(theatre.clone(NAME).await, 200, "seed {seed}, two hours after {history:#?}");
    assert_eq!(theatre.expired_seconds(NAME), 0, "seed {seed}: {history:#?}");
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_a_bearer_token_comes_to_say_its_secret_opens_the_repository() {
    for seed in 0..HISTORIES {
        play(seed).await;
    }
}
