//! Plain HTTP on loopback: the simulator's admin API, health and metrics of the programs under test.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The body of a successful answer.
pub(crate) async fn get(url: &str) -> anyhow::Result<Bytes> {
    send(Method::GET, url, String::new()).await
}

/// Sends `body` and returns that of the answer, which must be a success.
pub(crate) async fn send(method: Method, url: &str, body: String) -> anyhow::Result<Bytes> {
    let told = format!("{method} {url}");
    let request = Request::builder().method(method).uri(url).body(Full::new(Bytes::from(body)))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.with_context(|| told.clone())?;
    let status = response.status();
    let body = response.into_body().collect().await.with_context(|| told.clone())?.to_bytes();
    if !status.is_success() {
        bail!("{told}: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
