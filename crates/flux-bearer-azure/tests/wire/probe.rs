//! Git's first question, and the many answers that are no yes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use flux_bearer::failure::Failure;
use flux_bearer::repository::Repository;
use flux_bearer_azure::http::{AGENT, Http};
use flux_bearer_azure::probe::{Proof, may_push, probe, request};
use futures::stream;
use http::Response;
use secrecy::SecretString;

use crate::server::{CANARY, TRACE, assert_own_words, hostile, plain, refusing, server, silent, stalling, with};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const OPENING: &str = "001e# service=git-upload-pack\n0000";

fn repository() -> Repository {
    Repository::parse("https://org@dev.azure.com/org/My%20Project/_git/repo").unwrap()
}

async fn ask(http: &Http) -> Result<(), Failure> {
    probe(http, &repository(), &SecretString::from(CANARY)).await
}

fn git(body: impl Into<Body>) -> Response<Body> {
    with(plain(200, body), &[("content-type", ADVERTISEMENT)])
}

#[tokio::test(start_paused = true)]
async fn the_question_goes_out_as_git_sends_it() {
    let (http, log) = server(|_| git(OPENING));
    ask(&http).await.unwrap();
    let (_, sent) = log.lock().unwrap().remove(0);
    let expected = "https://dev.azure.com/org/My%20Project/_git/repo/info/refs?service=git-upload-pack";
    assert_eq!((sent.method().as_str(), sent.uri().to_string().as_str()), ("GET", expected));
    assert_eq!(sent.headers()["authorization"], format!("Bearer {CANARY}").as_str());
    assert_eq!(sent.headers()["user-agent"], AGENT);
    assert_eq!(sent.headers()["x-tfs-fedauthredirect"], "Suppress");
    assert!(sent.body().is_empty());
}

#[test]
fn the_token_is_hidden_where_headers_are_printed() {
    let request = request(&repository(), &SecretString::from(CANARY)).unwrap();
    assert!(!format!("{request:?}").contains(CANARY));
}

#[tokio::test(start_paused = true)]
async fn a_git_server_is_a_yes_whatever_case_and_charset() {
    for kind in [ADVERTISEMENT, "Application/X-Git-Upload-Pack-Advertisement; charset=utf-8"] {
        let http = server(move |_| with(plain(200, OPENING), &[("content-type", kind)])).0;
        assert!(ask(&http).await.is_ok(), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_big_repository_is_a_yes_after_its_first_line() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let http = server(move |_| {
        let counter = counter.clone();
        let lines = stream::repeat_with(move || {
            let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
            let line = if first { OPENING } else { "003f7217a7c7e582c46cec22a130adf4b9d7d950fba0 refs/heads/x\n" };
            Ok::<_, std::convert::Infallible>(Bytes::from(line))
        });
        git(Body::from_stream(lines))
    })
    .0;
    assert!(ask(&http).await.is_ok());
    assert!(sent.load(Ordering::Relaxed) < 20, "{sent:?} lines were read");
}

#[tokio::test(start_paused = true)]
async fn row_44_a_no_has_its_reason() {
    let html = "text/html; charset=utf-8";
    let text = "text/plain";
    for (status, kind, body, reason) in [
        (401, html, "<html>", "TokenRejected"),
        (203, html, "<html>", "TokenRejected"),
        (302, html, "", "TokenRejected"),
        (200, html, "<html>", "TokenRejected"),
        (200, ADVERTISEMENT, "\r\n <!DOCTYPE html>", "TokenRejected"),
        (200, text, OPENING, "AnswerMalformed"),
        (200, ADVERTISEMENT, "", "AnswerMalformed"),
        (200, ADVERTISEMENT, "001f# service=git-receive-pack\n0000", "AnswerMalformed"),
        (200, ADVERTISEMENT, "001e# service=git-upload-", "AnswerMalformed"),
        (201, ADVERTISEMENT, OPENING, "ProbeRejected"),
        (403, text, "TF400813", "AccessBlocked"),
        (404, text, "TF401019: canary", "RepositoryNotFound"),
        (429, text, "TF400733: canary", "AzureDevOpsUnavailable"),
        (503, html, "<html>", "AzureDevOpsUnavailable"),
    ] {
        let http = server(move |_| with(plain(status, body), &[("content-type", kind), ("activityid", TRACE)])).0;
        let failure = ask(&http).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{status} {kind} {body}");
        assert_eq!(failure.trace.as_deref(), Some(TRACE));
        assert_own_words(&failure, body);
    }
}

#[tokio::test(start_paused = true)]
async fn row_45_a_busy_server_is_left_alone_as_long_as_it_asks() {
    let http = server(|_| with(plain(429, ""), &[("retry-after", "30")])).0;
    assert_eq!(ask(&http).await.unwrap_err().retry_after.map(|asked| asked.as_secs()), Some(30));
}

#[tokio::test(start_paused = true)]
async fn a_server_out_of_reach_is_no_verdict_on_the_token() {
    let stalled = server(|_| git(stalling("001e"))).0;
    for (http, code) in [(refusing(), "ConnectionFailed"), (silent(), "Timeout"), (stalled, "Timeout")] {
        let failure = ask(&http).await.unwrap_err();
        assert_eq!((failure.reason, &*failure.code), ("AzureDevOpsUnavailable", code));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        let (http, log) = server(move |_| hostile());
        let failure = ask(&http).await.unwrap_err();
        assert_own_words(&failure, what);
        assert_eq!(log.lock().unwrap().len(), 1, "{what}: nothing follows a redirect");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_would_push_shows_a_token_as_bearer_and_a_pat_as_a_password() {
    let kind = "application/x-git-receive-pack-advertisement";
    let opening = "001f# service=git-receive-pack\n0000";
    for (proof, authorization) in [
        (Proof::Bearer(CANARY.into()), format!("Bearer {CANARY}")),
        (Proof::Pat("pat".into()), "Basic OnBhdA==".to_owned()),
    ] {
        let (http, log) = server(move |_| with(plain(200, opening), &[("content-type", kind)]));
        may_push(&http, &repository(), &proof).await.unwrap();
        let (_, sent) = log.lock().unwrap().remove(0);
        assert_eq!(sent.uri().query(), Some("service=git-receive-pack"));
        assert_eq!(sent.headers()["authorization"], authorization.as_str());
        assert!(sent.headers()["authorization"].is_sensitive());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_may_fetch_may_not_push_for_that() {
    let cases = [
        (403, "TF401027: canary", "AccessDenied"),
        (401, "<html>", "TokenRejected"),
        (404, "TF401019: canary", "RepositoryNotFound"),
        (200, OPENING, "AnswerMalformed"),
    ];
    for (status, body, reason) in cases {
        let http = server(move |_| with(plain(status, body), &[("content-type", ADVERTISEMENT)])).0;
        let failure = may_push(&http, &repository(), &Proof::Bearer(CANARY.into())).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{status} {body}");
        assert_own_words(&failure, body);
    }
}
