//! The seam: deadline, cap, and what each kind of broken connection is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use flux_bearer::failure::Unreachable;
use flux_bearer_azure::http::{Direct, Http, Network, NetworkError};
use futures::stream;
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;

use crate::server::{always, broken, dripping, plain, refusing, server, silent, stalling};

const DEADLINE: Duration = Duration::from_secs(10);

fn request() -> Request<Full<Bytes>> {
    Request::get("https://dev.azure.com/").body(Full::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn row_15_an_answer_of_exactly_the_cap_is_read_and_one_byte_more_is_not() {
    let http = always(200, vec![b'x'; 100]).0;
    assert_eq!(http.exchange(request(), DEADLINE, 100).await.unwrap().body().len(), 100);
    assert_eq!(http.exchange(request(), DEADLINE, 99).await.unwrap_err(), Unreachable::TooLarge(99));
    assert_eq!(http.exchange(request(), DEADLINE, usize::MAX).await.unwrap().body().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn row_15_an_endless_answer_is_not_read_beyond_the_cap() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let http = server(move |_| {
        let counter = counter.clone();
        plain(
            200,
            Body::from_stream(stream::repeat_with(move || {
                counter.fetch_add(1000, Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 1000]))
            })),
        )
    })
    .0;
    assert_eq!(http.exchange(request(), DEADLINE, 4096).await.unwrap_err(), Unreachable::TooLarge(4096));
    assert_eq!(sent.load(Ordering::Relaxed), 5000);
    assert_eq!(http.opening(request(), DEADLINE, 1500).await.unwrap().body().len(), 1500);
}

#[tokio::test(start_paused = true)]
async fn row_03_04_the_deadline_covers_the_whole_exchange() {
    let slow = server(|_| plain(200, dripping(Duration::from_secs(3)))).0;
    let stalled = server(|_| plain(200, stalling("begin"))).0;
    for http in [slow, stalled, silent()] {
        let start = Instant::now();
        assert_eq!(http.exchange(request(), DEADLINE, 4096).await.unwrap_err(), Unreachable::Timeout(DEADLINE));
        assert_eq!(start.elapsed(), DEADLINE);
    }
}

#[tokio::test(start_paused = true)]
async fn row_41_a_broken_connection_has_its_name() {
    let cut = server(|_| plain(200, broken("begin"))).0;
    assert_eq!(cut.exchange(request(), DEADLINE, 4096).await.unwrap_err(), Unreachable::Cut);
    assert_eq!(refusing().exchange(request(), DEADLINE, 4096).await.unwrap_err(), Unreachable::Connect);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_an_answer_and_not_followed() {
    let (http, log) = server(|_| crate::server::with(plain(307, ""), &[("location", "https://evil.example/")]));
    assert_eq!(http.exchange(request(), DEADLINE, 4096).await.unwrap().status(), 307);
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_network_that_cannot_be_used_is_refused_at_the_start() {
    for proxy in ["socks5://proxy:1080", "https://proxy:3128", "ftp://proxy", "http://", "not a url"] {
        let settings = Network { https_proxy: Some(proxy.into()), ..Network::default() };
        assert!(matches!(Http::network(&settings), Err(NetworkError::Proxy)), "{proxy}");
    }
    for pem in [&b""[..], b"no certificate", &vec![b'\n'; 256 * 1024 + 1]] {
        let settings = Network { extra_ca_pem: Some(pem.to_vec()), ..Network::default() };
        assert!(matches!(Http::network(&settings), Err(NetworkError::Ca)), "{:.20}", String::from_utf8_lossy(pem));
        let settings = Direct { only_ca_pem: Some(pem.to_vec()), ..Direct::default() };
        assert!(matches!(Http::direct(&settings), Err(NetworkError::Ca)), "{:.20}", String::from_utf8_lossy(pem));
    }
}

/// A certificate of a CA, which no key is kept of.
const CA: &str = include_str!("ca.pem");

#[tokio::test]
async fn a_broken_entry_of_a_ca_file_is_named_by_its_number() {
    let load = |pem: String| {
        let settings = Network { extra_ca_pem: Some(pem.into_bytes()), ..Network::default() };
        Http::network(&settings).map(drop)
    };
    assert!(load(format!("# ours\n{CA}\n{CA}")).is_ok());
    for broken in ["!", "MAA=", "bm8gY2VydGlmaWNhdGU="] {
        let entry = format!("-----BEGIN CERTIFICATE-----\n{broken}\n-----END CERTIFICATE-----\n");
        let refusal = load(format!("{CA}{entry}{CA}")).unwrap_err();
        assert!(matches!(refusal, NetworkError::CaEntry(2)), "{broken}: {refusal}");
        assert!(refusal.to_string().starts_with("entry 2 of the CA certificates"), "{refusal}");
    }
    let cut = CA.replace("-----END CERTIFICATE-----", "");
    assert!(load(cut).is_err(), "an entry without an end");
}
