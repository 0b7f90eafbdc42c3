//! Device code: what a person is shown, and how long they are waited for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::token::Grant;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::operator::{DeviceCode, Prompt, Resource, SignIn};
use http::Response;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::Instant;

use crate::server::{CANARY, Log, TENANT, assert_own_words, hostile, json as answer, plain, refusing, server, with};

const APP: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

type Shown = Arc<Mutex<Vec<Prompt>>>;

fn device_code(http: Http) -> (DeviceCode, Shown) {
    let shown = Shown::default();
    let seen = shown.clone();
    (DeviceCode::new(http, Authority::default(), move |prompt| seen.lock().unwrap().push(prompt.clone())), shown)
}

fn begun() -> Response<Body> {
    answer(
        200,
        json!({
            "user_code": "ABCD-1234", "device_code": "the-device", "verification_uri": "https://microsoft.com/devicelogin",
            "expires_in": 900, "interval": 5, "message": CANARY,
        }),
    )
}

fn error(word: &str) -> Response<Body> {
    answer(400, json!({"error": word, "error_description": "AADSTS70016: canary", "error_codes": [70016]}))
}

fn good(token: &str) -> Response<Body> {
    answer(200, json!({"access_token": token, "expires_in": 3599, "refresh_token": format!("refresh-{token}")}))
}

async fn sign_in(http: Http) -> Result<Grant, Failure> {
    device_code(http).0.token(Resource::Arm, None).await
}

fn gaps(log: &Log) -> Vec<u64> {
    log.lock().unwrap().windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
}

fn sent(log: &Log) -> Vec<(String, String)> {
    let log = log.lock().unwrap();
    log.iter()
        .map(|(_, sent)| (sent.uri().path().to_owned(), String::from_utf8_lossy(sent.body()).into_owned()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_person_is_asked_once_for_every_resource() {
    let (http, log) = server(|n| match n {
        0 => begun(),
        1 | 2 => error("authorization_pending"),
        3 => good("first"),
        _ => good("second"),
    });
    let (way, shown) = device_code(http);
    let grant = way.token(Resource::AzureDevOps, Some(TENANT)).await.unwrap();
    assert_eq!((grant.secret.expose_secret(), grant.expires_in), ("first", Some(Duration::from_secs(3599))));
    assert_eq!(way.token(Resource::Arm, Some(TENANT)).await.unwrap().secret.expose_secret(), "second");
    way.token(Resource::Arm, None).await.unwrap();

    let prompt = Prompt {
        user_code: "ABCD-1234".into(),
        verification_uri: "https://microsoft.com/devicelogin".into(),
        expires_in: Duration::from_mins(15),
    };
    assert_eq!(*shown.lock().unwrap(), [prompt]);
    let poll = (
        format!("/{TENANT}/oauth2/v2.0/token"),
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&client_id={APP}&device_code=the-device"
        ),
    );
    let renewal = |tenant: &str, token: &str| {
        let scope = "https%3A%2F%2Fmanagement.azure.com%2F.default+offline_access";
        (
            format!("/{tenant}/oauth2/v2.0/token"),
            format!("grant_type=refresh_token&client_id={APP}&refresh_token=refresh-{token}&scope={scope}"),
        )
    };
    assert_eq!(
        sent(&log),
        [
            (
                format!("/{TENANT}/oauth2/v2.0/devicecode"),
                format!("client_id={APP}&scope=499b84ac-1321-427f-aa17-267ca6975798%2F.default+offline_access"),
            ),
            poll.clone(),
            poll.clone(),
            poll,
            renewal(TENANT, "first"),
            renewal("organizations", "second"),
        ]
    );
    assert_eq!(gaps(&log)[..3], [5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn polls_keep_the_pace_that_is_asked_for() {
    let (http, log) = server(|n| match n {
        0 => begun(),
        1 => error("slow_down"),
        2 => with(plain(503, ""), &[("retry-after", "7")]),
        3 => plain(502, "<html>"),
        4 => with(plain(429, ""), &[("retry-after", "9999")]),
        _ => good("t"),
    });
    assert!(sign_in(http).await.is_ok());
    assert_eq!(gaps(&log), [5, 10, 17, 17, 60], "never less often than once a minute");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_beyond_the_codes_life() {
    let start = Instant::now();
    let http = server(|n| if n == 0 { begun() } else { error("authorization_pending") }).0;
    let failure = sign_in(http).await.unwrap_err();
    assert_eq!((&*failure.code, start.elapsed().as_secs()), ("DeviceCodeExpired", 900));

    let forever = json!({
        "user_code": "A", "device_code": "d", "verification_uri": "https://a.example/", "expires_in": u64::MAX,
        "interval": u64::MAX,
    });
    let start = Instant::now();
    let http = server(move |n| if n == 0 { answer(200, forever.clone()) } else { error("authorization_pending") }).0;
    assert_eq!(sign_in(http).await.unwrap_err().code, "DeviceCodeExpired");
    assert_eq!(start.elapsed().as_secs(), 900);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_declines_is_believed() {
    for (word, code) in [
        ("authorization_declined", "SignInDeclined"),
        ("expired_token", "DeviceCodeExpired"),
        ("bad_verification_code", "DeviceCodeUnknown"),
        ("invalid_client", "AADSTS70016"),
    ] {
        let (http, log) = server(move |n| if n == 0 { begun() } else { error(word) });
        let failure = sign_in(http).await.unwrap_err();
        assert_eq!((&*failure.code, failure.class), (code, Class::Permanent));
        assert_own_words(&failure, word);
        assert_eq!(log.lock().unwrap().len(), 2, "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_no_longer_good_asks_again() {
    let (http, _) = server(|n| match n {
        0 | 3 => begun(),
        1 => good("first"),
        2 => error("invalid_grant"),
        4 => good("second"),
        5 => plain(503, ""),
        _ => good("third"),
    });
    let (way, shown) = device_code(http);
    for token in ["first", "second"] {
        assert_eq!(way.token(Resource::Arm, None).await.unwrap().secret.expose_secret(), token);
    }
    let failure = way.token(Resource::Arm, None).await.unwrap_err();
    assert_eq!(failure.class, Class::Transient, "Entra ID is away, and nobody has to sign in for that");
    assert!(way.token(Resource::Arm, None).await.is_ok());
    assert_eq!(shown.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_that_a_person_could_not_use_safely() {
    let cases = [
        ("\u{1b}[2J", "https://microsoft.com/devicelogin"),
        ("", "https://microsoft.com/devicelogin"),
        ("A B", "https://microsoft.com/devicelogin"),
        (&"A".repeat(33), "https://microsoft.com/devicelogin"),
        ("A", "http://microsoft.com/devicelogin"),
        ("A", "javascript:alert(1)"),
        ("A", ""),
    ];
    for (user_code, uri) in cases {
        let body = json!({
            "user_code": user_code, "device_code": "d", "verification_uri": uri, "expires_in": 900, "interval": 5,
        });
        let (way, shown) = device_code(server(move |_| answer(200, body.clone())).0);
        let failure = way.token(Resource::Arm, None).await.unwrap_err();
        assert_eq!(failure.code, "AnswerMalformed", "{user_code:?} {uri}");
        assert!(shown.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        for first in [false, true] {
            let http = server(move |n| if n == 0 && !first { begun() } else { hostile() }).0;
            assert_own_words(&sign_in(http).await.unwrap_err(), what);
        }
    }
    assert_eq!(sign_in(refusing()).await.unwrap_err().code, "ConnectionFailed");
}
