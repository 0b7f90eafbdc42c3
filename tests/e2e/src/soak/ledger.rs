//! What every Secret holds: when its token expires, and for how long it held one that had expired.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use tokio::time::sleep;

use crate::cluster::NAMESPACE;

/// Pause before an API server that is away is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Every Secret, by name, with the second in which its token expires. Times are seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    expiries: HashMap<String, f64>,
    /// How often a token was seen to be replaced.
    pub(super) replaced: u64,
    /// Seconds in which a Secret held an expired token, or none any more, of all Secrets together.
    pub(super) expired: f64,
    /// The least that a token had left when it was replaced, in seconds.
    pub(super) least: Option<f64>,
}

impl Ledger {
    /// A Secret was seen to hold a token that expires then; or none, which counts as one that expires now.
    fn holds(&mut self, name: &str, expiry: Option<f64>, now: f64) {
        let next = expiry.unwrap_or(now);
        let Some(before) = self.expiries.insert(name.to_owned(), next) else { return };
        if before.total_cmp(&next).is_eq() {
            return;
        }
        let left = before - now;
        self.replaced += 1;
        self.expired += (-left).max(0.0);
        self.least = Some(self.least.map_or(left, |least| least.min(left)));
    }

    /// How many Secrets have been seen.
    pub(super) fn len(&self) -> usize {
        self.expiries.len()
    }

    /// The least that any token has left.
    pub(super) fn left(&self, now: f64) -> f64 {
        self.expiries.values().map(|expiry| expiry - now).fold(f64::INFINITY, f64::min)
    }

    /// Counts from now on.
    pub(super) fn begin(&mut self) {
        (self.replaced, self.expired, self.least) = (0, 0.0, None);
    }

    /// Counts what has expired and was not replaced to the end.
    pub(super) fn end(&mut self, now: f64) {
        self.expired += self.expiries.values().map(|expiry| (now - expiry).max(0.0)).sum::<f64>();
    }
}

/// Watches the Secrets for ever. While the API server is away, what they held last counts.
pub(super) async fn watch(client: Client, ledger: &RefCell<Ledger>) -> Infallible {
    let api: Api<Secret> = Api::namespaced(client, NAMESPACE);
    loop {
        // An error is the API server's absence.
        drop(follow(&api, ledger).await);
        sleep(AGAIN).await;
    }
}

async fn follow(api: &Api<Secret>, ledger: &RefCell<Ledger>) -> anyhow::Result<()> {
    let list = api.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.clone().unwrap_or_default();
    list.items.iter().for_each(|secret| note(ledger, secret));
    let mut events = std::pin::pin!(api.watch(&WatchParams::default(), &version).await?);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(secret) | WatchEvent::Modified(secret) => note(ledger, &secret),
            WatchEvent::Deleted(secret) => ledger.borrow_mut().holds(&secret.name_any(), None, now()),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => bail!("the watch has ended"),
        }
    }
    Ok(())
}

fn note(ledger: &RefCell<Ledger>, secret: &Secret) {
    let token = secret.data.as_ref().and_then(|data| data.get("bearerToken"));
    // A token that can't be read opens nothing.
    let expiry = token.and_then(|token| expiry(&token.0).ok());
    ledger.borrow_mut().holds(&secret.name_any(), expiry, now());
}

/// When a token says that it expires.
fn expiry(token: &[u8]) -> anyhow::Result<f64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = std::str::from_utf8(token)?.split('.').nth(1).context("what the Secret holds is no token")?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(claims.exp)
}

/// The simulator's clock, which is this machine's.
#[allow(clippy::disallowed_methods, reason = "tokens that a real clock dates are looked at in real time")]
pub(super) fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "sums of halves are exact")]

    use super::*;

    #[test]
    fn seconds_count_from_the_expiry_to_the_next_token() {
        let mut ledger = Ledger::default();
        ledger.holds("a", Some(60.0), 0.0);
        ledger.holds("a", Some(60.0), 30.0);
        ledger.holds("a", Some(87.0), 27.0);
        assert_eq!((ledger.replaced, ledger.expired, ledger.least), (1, 0.0, Some(33.0)));
        ledger.holds("a", Some(150.0), 88.5);
        assert_eq!((ledger.replaced, ledger.expired, ledger.least), (2, 1.5, Some(-1.5)));
    }

    #[test]
    fn a_token_that_is_gone_or_never_replaced_counts() {
        let mut ledger = Ledger::default();
        ledger.holds("gone", Some(60.0), 0.0);
        ledger.holds("gone", None, 20.0);
        ledger.holds("kept", Some(60.0), 0.0);
        assert_eq!(ledger.left(10.0), 10.0);
        ledger.end(70.5);
        assert_eq!(ledger.expired, 50.5 + 10.5);
    }

    #[test]
    fn an_expiry_is_read_from_the_token_itself() {
        let token = format!("head.{}.signature", URL_SAFE_NO_PAD.encode(r#"{"aud":"a","exp":1893456000}"#));
        assert_eq!(expiry(token.as_bytes()).unwrap(), 1_893_456_000.0);
        assert!(expiry(b"a-pat").is_err());
    }
}
