//! Posts to Flux's notification-controller, so that Alerts which exist already fire when a credential fails.
//!
//! What is posted is what is written as a Kubernetes Event: same objects, reasons and messages, in the fields of Flux's event
//! API (`event.toolkit.fluxcd.io` v1, which v1beta1 reads as well). notification-controller selects by kind, namespace and
//! name, and no Alert can name a BearerToken unless its definition is patched: the GitRepository is what makes it fire.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::NAME;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::report::Event;
use flux_bearer_azure::http::{AGENT, Http};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::lock;
use crate::metrics::{Metrics, Notified};

/// Pauses between the attempts to post one event: those of Flux's own controllers. A restart of notification-controller is
/// shorter than their sum.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How long one post may take; Flux's controllers wait as long.
const DEADLINE: Duration = Duration::from_secs(5);

/// Events that wait at most: of an outage that meets more BearerTokens at once, these many tell enough.
pub const MAX_WAITING: usize = 256;

/// Where events are posted.
#[derive(Clone)]
pub struct Receiver {
    /// The way there.
    pub http: Http,
    /// The address of notification-controller.
    pub address: Uri,
}

/// The address that `text` names; nothing where it is empty, as in Flux.
///
/// # Errors
/// What is wrong with it, without repeating it: it may hold a password.
pub fn address(text: &str) -> Result<Option<Uri>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let usable = |uri: &Uri| {
        let authority = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        uri.scheme_str() == Some("http") && authority
    };
    let fault = "--events-addr must be http://host[:port]/, such as http://notification-controller.flux-system.svc.cluster.local./";
    text.parse().ok().filter(usable).map(Some).ok_or_else(|| fault.to_owned())
}

/// The events that are to be posted.
///
/// Nobody waits for it: an event that finds no room is dropped and counted.
pub struct Outbox {
    /// Nothing where events are not posted, or no longer.
    waiting: Mutex<Option<mpsc::Sender<Bytes>>>,
    metrics: Metrics,
}

impl Outbox {
    /// An outbox, and the work of posting to `receiver` what is put into it, which ends once it is closed and empty.
    pub fn open(receiver: Option<Receiver>, metrics: Metrics) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let sender = receiver.is_some().then_some(sender);
        let outbox = Self { waiting: Mutex::new(sender), metrics: metrics.clone() };
        let posting = async move {
            if let Some(receiver) = receiver {
                receiver.deliver(waiting, &metrics).await;
            }
        };
        (outbox, posting)
    }

    /// Puts an event into it.
    pub fn put(&self, event: &Value) {
        let Some(waiting) = &*lock(&self.waiting) else { return };
        // Where there is no notification-controller they wait in vain: as text they take a quarter of the memory.
        if waiting.try_send(Bytes::from(event.to_string())).is_err() {
            self.metrics.notified(Notified::Dropped);
        }
    }

    /// Takes nothing any more.
    pub fn close(&self) {
        lock(&self.waiting).take();
    }
}

impl Receiver {
    /// Posts one event after the other, so that they arrive in the order in which they happened.
    async fn deliver(&self, mut waiting: mpsc::Receiver<Bytes>, metrics: &Metrics) {
        let mut failing = false;
        while let Some(event) = waiting.recv().await {
            let posted = self.post(&event).await;
            // Once is enough: where there is no notification-controller, each event would say it again.
            if let Some(failure) = posted.as_ref().err().filter(|_| !failing) {
                tracing::warn!(error = %failure, "event not posted to notification-controller; it is in the cluster's Events");
            }
            failing = posted.is_err();
            metrics.notified(posted.unwrap_or(Notified::Failed));
        }
    }

    /// Posts an event, again where that may help.
    async fn post(&self, event: &Bytes) -> Result<Notified, Failure> {
        for pause in PAUSES {
            match self.post_once(event).await {
                Err(failure) if failure.class == Class::Transient => sleep(pause).await,
                done => return done,
            }
        }
        self.post_once(event).await
    }

    async fn post_once(&self, event: &Bytes) -> Result<Notified, Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address.clone())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(event.clone()))
            .map_err(|_| refused(StatusCode::BAD_REQUEST))?;
        // Whatever it says beside its status is for nobody.
        let answer = self.http.opening(request, DEADLINE, 1).await;
        let answer = answer.map_err(|fault| fault.failure(REASON, "notification-controller"))?;
        match answer.status() {
            // The same was said of the same object within the last minutes: an earlier attempt may have arrived.
            StatusCode::TOO_MANY_REQUESTS => Ok(Notified::Duplicate),
            status if status.is_success() => Ok(Notified::Delivered),
            status => Err(refused(status)),
        }
    }
}

const REASON: &str = "NotificationFailed";

fn refused(status: StatusCode) -> Failure {
    let class = if status.is_server_error() { Class::Transient } else { Class::Permanent };
    let code = format!("HTTP {}", status.as_u16());
    Failure::new(REASON, class, code, "notification-controller took no event", "Check --events-addr")
}

/// An event about `object`, an `ObjectReference`, as notification-controller reads it.
pub fn body(object: &Value, event: &Event, instance: &str, at: Timestamp) -> Value {
    json!({
        "involvedObject": object,
        "severity": if event.warning { "error" } else { "info" },
        "timestamp": at.to_string(),
        "message": event.message,
        "reason": event.reason,
        // v1 demands what was being done; v1beta1 does not know it.
        "action": "Renew",
        "reportingController": NAME,
        "reportingInstance": instance,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_http_without_a_password() {
        assert_eq!(address(""), Ok(None));
        for good in
            ["http://notification-controller.flux-system.svc.cluster.local./", "http://[::1]:9090", "http://nc/"]
        {
            assert!(address(good).unwrap().is_some(), "{good}");
        }
        for bad in ["notification-controller", "https://nc/", "http://", "/", "http://u:canary@nc/", "http://a b/"] {
            let fault = address(bad).unwrap_err();
            assert!(fault.starts_with("--events-addr must be http://") && !fault.contains("canary"), "{bad}: {fault}");
        }
    }
}
