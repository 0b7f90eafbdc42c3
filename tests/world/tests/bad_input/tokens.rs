//! Tokens that are not what was asked for, and projected tokens that are none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::failure::{Class, Failure};
use flux_bearer_azure::workload::Assertion;
use flux_bearer_sim::faults::Fault;
use flux_bearer_world::identities::{SUBJECT, client, object};
use flux_bearer_world::stage::{AUDIENCE, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::support::pair::{Pair, forged, json_answer, token_path, withstands};
use crate::support::{Theatre, minutes};

const SOMEBODY: &str = "99999999-9999-4999-8999-999999999999";

/// An answer with this token and these fields beside it.
fn grants(token: &str, fields: &Value) -> Fault {
    let mut answer = fields.clone();
    answer["access_token"] = token.into();
    json_answer(answer.to_string())
}

#[tokio::test(start_paused = true)]
async fn row_10_14_16_a_token_that_is_not_the_one_asked_for_is_not_written() {
    let hour = json!({"expires_in": 3600});
    let with = |claims: Value| grants(&forged(&claims), &hour);
    let text = |token: &str| grants(token, &hour);
    let mismatch = ("TokenMismatch", "Check spec.identity");
    let unusable = ("TokenUnusable", "check the proxy");
    let expired = ("TokenExpired", "Compare the clock");
    let cases = [
        ("another audience", with(json!({"aud": "https://graph.microsoft.com"})), mismatch),
        ("another tenant", with(json!({"tid": SOMEBODY})), mismatch),
        ("another client", with(json!({"appid": SOMEBODY})), mismatch),
        ("another client in v2", with(json!({"appid": null, "azp": SOMEBODY})), mismatch),
        ("expired by expires_in", grants(&forged(&json!({})), &json!({"expires_in": 0})), expired),
        ("expired by expires_on", grants(&forged(&json!({})), &json!({"expires_on": "1795000000"})), expired),
        ("expired by its claim", with(json!({"exp": 1_795_000_000})), expired),
        ("no expiry at all", grants(&forged(&json!({"exp": 4_000_000_000_i64})), &json!({})), unusable),
        ("an expiry of the wrong type", grants("t", &json!({"expires_in": {"a": 1}, "expires_on": []})), unusable),
        ("an expiry beyond a week", grants("t", &json!({"expires_in": 1e12})), unusable),
        ("nothing", text(""), unusable),
        ("blanks", text("a b"), unusable),
        ("a second header", text("a\r\nX-Evil: 1"), unusable),
        ("a nul", text("a\0b"), unusable),
        ("an escape sequence", text("\u{1b}[2J"), unusable),
        ("letters that no header takes", text("tokén"), unusable),
        ("more than 16 KiB", text(&"x".repeat(16 * 1024 + 1)), unusable),
    ];
    for (what, trouble, (reason, fix)) in cases {
        let trouble = Fault { path: Some(token_path()), ..trouble };
        withstands(&json!({}), what, &trouble, reason, &[fix]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_14_a_token_of_another_object_is_not_written() {
    let spec = json!({"identity": {"type": "ManagedIdentity", "objectId": object(0)}});
    let trouble = grants(&forged(&json!({"oid": SOMEBODY})), &json!({"expires_in": "3600"}));
    let trouble = Fault { host: Some("169.254.169.254".into()), ..trouble };
    withstands(&spec, "another object", &trouble, "TokenMismatch", &["of another object", "Check spec.identity"]).await;
}

#[tokio::test(start_paused = true)]
async fn claims_that_cannot_be_read_refuse_nothing() {
    let nested = json!({"aud": {"a": 1}, "tid": 7, "appid": [], "oid": null, "exp": "soon"});
    for token in ["opaque", "a.b.c", "..", "e30.e30.", "e30.WzFd.c2ln", &forged(&nested)] {
        let pair = Pair::new(&json!({}));
        let trouble = Fault { path: Some(token_path()), ..grants(token, &json!({"expires_in": 3600})) };
        pair.theatre.stage.world.faults().set(trouble);
        let _running = pair.start();
        minutes(70).await;
        pair.says(token, "Ready", "True Succeeded", &[&client(0)]);
        assert_eq!(pair.theatre.token("bad"), token);
        pair.good_is_unaffected(token);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_machine_keeps_is_dated_anew_after_a_step_of_the_clock() {
    for hours in [3, -3] {
        let spec = json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}});
        let theatre = Theatre::with(&[8 * 3600, 3600]);
        theatre.stage.world.edit(|state| state.imds.cache = true).unwrap();
        let pair = Pair::on(theatre, &spec, &json!({"identity": {"clientId": client(1)}}));
        let _running = pair.start();
        minutes(5).await;
        pair.theatre.stage.machine.step(jiff::SignedDuration::from_hours(hours));
        minutes(70).await;
        pair.says("a step", "Ready", "True Succeeded", &[]);
        let expires = pair.theatre.record("bad")["expiresAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let left = expires.duration_since(pair.theatre.stage.machine.now()).as_mins();
        assert!((380..=405).contains(&left), "{left} minutes of 8 h less 75 min");
    }
}

#[tokio::test(start_paused = true)]
async fn a_senseless_refresh_in_makes_no_loop() {
    for refresh_in in [json!(0), json!(-1), json!(1e300), json!("soon"), json!(null)] {
        let what = refresh_in.to_string();
        let pair = Pair::new(&json!({}));
        let answer = grants(&forged(&json!({})), &json!({"expires_in": 3600, "refresh_in": refresh_in}));
        pair.theatre.stage.world.faults().set(Fault { path: Some(token_path()), ..answer });
        let _running = pair.start();
        minutes(5).await;
        pair.theatre.stage.kube.journal().clear();
        minutes(20).await;
        pair.says(&what, "Ready", "True Succeeded", &[]);
        let asked = pair.theatre.stage.world.journal().entries().len();
        assert!(asked < 1600, "{what}: at most about once a second, and not {asked} in 25 minutes");
        pair.good_is_unaffected(&what);
    }
}

/// A projected token that says what the test wants.
#[derive(Clone)]
struct Mounted(Arc<Mutex<Result<String, Failure>>>);

impl Assertion for Mounted {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let said = self.0.lock().unwrap().clone();
        async move { said.map(SecretString::from) }.boxed()
    }
}

/// What becomes of a good projected token.
type Text = fn(String) -> String;

/// A good projected token of an hour.
fn projected(stage: &Stage) -> String {
    stage.issuer.sign(SUBJECT, AUDIENCE, Duration::from_secs(3600), stage.world.clock().now())
}

#[tokio::test(start_paused = true)]
async fn row_39_a_projected_token_that_is_none_fills_nothing_until_it_is_good_again() {
    let missing = Failure::new("CredentialMissing", Class::Permanent, "CredentialMissing", "no file", "Mount one");
    let unusable = ("ServiceAccountTokenUnusable", "Mount a serviceAccountToken volume");
    // Entra ID finds out about these, and says so in codes.
    let rejected = ("RequestRejected", "login.microsoftonline.com/error");
    let cases: [(&str, Text, (&str, &str)); 8] = [
        ("an empty file", |_| String::new(), unusable),
        ("blanks", |_| " \n".into(), unusable),
        ("more than 16 KiB", |good| good.repeat(40), unusable),
        ("control characters", |good| format!("{good}\0"), unusable),
        ("two lines", |good| format!("{good}\n{good}"), unusable),
        ("half a token", |good| good[..good.len() / 2].into(), rejected),
        // 321 of 342 letters: no base64 has that length. One less cut, and one signature in sixteen could still be read.
        ("a token without its end", |good| good[..good.len() - 21].into(), rejected),
        ("no file", |_| String::new(), ("CredentialMissing", "Mount one")),
    ];
    for (what, text, (reason, fix)) in cases {
        let mut theatre = Theatre::with(&[3600]);
        let said = if what == "no file" { Err(missing.clone()) } else { Ok(text(projected(&theatre.stage))) };
        let mounted = Mounted(Arc::new(Mutex::new(said)));
        theatre.stage = theatre.stage.with_assertion(Arc::new(mounted.clone()));
        let imds = json!({"identity": {"type": "ManagedIdentity", "clientId": client(0)}});
        let pair = Pair::on(theatre, &json!({}), &imds);
        let _running = pair.start();
        minutes(70).await;
        assert_eq!(pair.secret(), None, "{what}");
        pair.says(what, "Ready", &format!("False {reason}"), &[fix]);
        *mounted.0.lock().unwrap() = Ok(projected(&pair.theatre.stage));
        minutes(6).await;
        pair.says(what, "Ready", "True Succeeded", &[]);
        pair.good_is_unaffected(what);
    }
}
