//! IMDS: its retries, its limits, and what each answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::{Identity, Selector};
use flux_bearer::token::Grant;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::{AGENT, Http};
use flux_bearer_azure::imds::{Imds, MAX_IN_FLIGHT, WAITS};
use flux_bearer_azure::mint::{Azure, Credential};
use flux_bearer_azure::resource::Resource;
use futures::future::join_all;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::server::{
    CLIENT, Log, always, assert_own_words, hostile, json as answer, plain, refusing, server, silent, with,
};

fn good() -> axum::response::Response {
    answer(
        200,
        json!({
            "access_token": "the-token", "client_id": CLIENT, "refresh_token": "", "expires_in": "86399",
            "expires_on": "1795446000", "ext_expires_in": "86399", "not_before": "1795359300",
            "resource": "499b84ac-1321-427f-aa17-267ca6975798", "token_type": "Bearer",
        }),
    )
}

async fn mint(http: Http) -> Result<Grant, Failure> {
    Imds::new(http).mint(Resource::AzureDevOps, &Selector::System).await
}

/// Seconds between the requests of a log.
fn gaps(log: &Log) -> Vec<u64> {
    log.lock().unwrap().windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_selector_goes_out_as_the_protocol_says() {
    let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a&b";
    let encoded = "%2Fsubscriptions%2Fs%2FresourceGroups%2Fg%2Fproviders%2FMicrosoft.ManagedIdentity\
                   %2FuserAssignedIdentities%2Fa%26b";
    let cases = [
        (Selector::System, String::new()),
        (Selector::ClientId(CLIENT.into()), format!("&client_id={CLIENT}")),
        (Selector::ObjectId(CLIENT.into()), format!("&object_id={CLIENT}")),
        (Selector::ResourceId(id.into()), format!("&msi_res_id={encoded}")),
    ];
    for (selector, query) in cases {
        let (imds, log) = server(|_| good());
        let azure = Azure::new(refusing(), imds, Authority::default());
        azure.mint(&Identity::ManagedIdentity { selector }, Credential::None).await.unwrap();
        let (_, request) = log.lock().unwrap().remove(0);
        let expected = format!(
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=499b84ac-1321-427f-aa17-267ca6975798{query}"
        );
        assert_eq!((request.method().as_str(), request.uri().to_string()), ("GET", expected));
        assert_eq!(request.headers()["metadata"], "true");
        assert_eq!(request.headers()["user-agent"], AGENT);
        assert!(request.body().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_come_as_strings() {
    let grant = mint(server(|_| good()).0).await.unwrap();
    assert_eq!(grant.secret.expose_secret(), "the-token");
    assert_eq!(grant.expires_in, Some(Duration::from_secs(86399)));
    assert_eq!(grant.expires_on.map(jiff::Timestamp::as_second), Some(1_795_446_000));
}

#[tokio::test(start_paused = true)]
async fn row_06_an_update_of_seventy_seconds_is_sat_out() {
    let start = Instant::now();
    let imds = server(move |_| if start.elapsed().as_secs() < 70 { plain(410, "") } else { good() }).0;
    assert!(mint(imds).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn row_06_what_passes_is_retried_on_the_documented_schedule() {
    for status in [404, 410, 429, 500, 503, 599] {
        let (imds, log) = always(status, "{}");
        let failure = mint(imds).await.unwrap_err();
        assert_eq!((failure.reason, failure.class), ("ImdsUnavailable", Class::Transient), "{status}");
        assert_eq!(gaps(&log), WAITS, "{status}");
    }
    assert!(WAITS.iter().sum::<u64>() >= 70);
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_imds_is_given_up_after_the_same_schedule() {
    let start = Instant::now();
    assert_eq!(mint(refusing()).await.unwrap_err().code, "ConnectionFailed");
    assert_eq!(start.elapsed().as_secs(), WAITS.iter().sum::<u64>());
    assert_eq!(mint(silent()).await.unwrap_err().code, "Timeout");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_at_once() {
    for (status, error, reason) in [
        (400, "invalid_request", "IdentityNotFound"),
        (400, "invalid_resource", "ResourceRejected"),
        (400, "bad_request_102", "ImdsRejected"),
        (401, "unknown_source", "ImdsRejected"),
        (403, "", "ImdsUnavailable"),
    ] {
        let (imds, log) = server(move |_| answer(status, json!({"error": error, "error_description": "canary"})));
        let failure = mint(imds).await.unwrap_err();
        assert_eq!((failure.reason, failure.class), (reason, Class::Permanent), "{status} {error}");
        assert_eq!(log.lock().unwrap().len(), 1, "{status} {error}");
        assert_own_words(&failure, error);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_while_it_is_short() {
    let (imds, log) = server(|n| if n == 0 { with(plain(429, ""), &[("retry-after", "37")]) } else { good() });
    assert!(mint(imds).await.is_ok());
    assert_eq!(gaps(&log), [37]);

    let (imds, log) = server(|_| with(plain(429, ""), &[("retry-after", "120")]));
    assert_eq!(mint(imds).await.unwrap_err().retry_after, Some(Duration::from_mins(2)));
    assert_eq!(log.lock().unwrap().len(), 1, "the caller has others to serve");

    let (imds, log) = server(|n| if n == 0 { with(plain(429, ""), &[("retry-after", "0")]) } else { good() });
    assert!(mint(imds).await.is_ok());
    assert_eq!(gaps(&log), [1], "a server that asks for nothing is still not hammered");
}

#[tokio::test(start_paused = true)]
async fn row_06_no_second_sees_more_than_twenty_requests() {
    let (http, log) = server(|_| good());
    let imds = Imds::new(http);
    let clones: Vec<Imds> = (0..100).map(|_| imds.clone()).collect();
    let minted = join_all(clones.iter().map(|imds| imds.mint(Resource::AzureDevOps, &Selector::System))).await;
    assert!(minted.iter().all(Result::is_ok));
    let times: Vec<Instant> = log.lock().unwrap().iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), 100);
    for window in times.windows(21) {
        assert!(window[20] - window[0] >= Duration::from_secs(1), "{:?}", window[20] - window[0]);
    }
    assert!(times[99] - times[0] < Duration::from_secs(6), "nor does the limit waste time");
}

#[tokio::test(start_paused = true)]
async fn row_06_no_more_than_five_requests_are_on_the_way() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (now.clone(), most.clone());
    let router = Router::new().fallback(move || async move {
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(Duration::from_secs(2)).await;
        inside.fetch_sub(1, Ordering::SeqCst);
        good()
    });
    let imds = Imds::new(Http::new(router));
    let clones: Vec<Imds> = (0..40).map(|_| imds.clone()).collect();
    let minted = join_all(clones.iter().map(|imds| imds.mint(Resource::AzureDevOps, &Selector::System))).await;
    assert!(minted.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), MAX_IN_FLIGHT);
    assert_eq!(now.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_mint_that_waits_for_its_next_attempt_blocks_nobody() {
    let (http, log) = server(|n| if n < MAX_IN_FLIGHT { plain(410, "") } else { good() });
    let imds = Imds::new(http);
    let first = join_all((0..MAX_IN_FLIGHT).map(|_| imds.mint(Resource::AzureDevOps, &Selector::System)));
    let other = async {
        sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        imds.mint(Resource::AzureDevOps, &Selector::System).await.map(|_| start.elapsed())
    };
    let (first, other) = futures::join!(first, other);
    assert!(first.iter().all(Result::is_ok));
    assert!(other.unwrap() < Duration::from_millis(100));
    assert_eq!(log.lock().unwrap().len(), 2 * MAX_IN_FLIGHT + 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        let failure = mint(server(move |_| hostile()).0).await.unwrap_err();
        assert_own_words(&failure, what);
        assert!(["ImdsUnavailable", "ImdsRejected"].contains(&failure.reason), "{what}: {failure:?}");
    }
}
