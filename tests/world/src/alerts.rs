//! What Flux's notification-controller does with the events that it is sent: reads them field by field, and refuses those
//! that it was sent just before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use flux_bearer_azure::http::Http;
use flux_bearer_controller::notifications::{Receiver, address};
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::faults::Faults;
use flux_bearer_sim::service::{Service, guarded};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use tower::{ServiceExt, service_fn};

/// Where it is found: the address that Flux gives its own controllers.
pub const ADDRESS: &str = "http://notification-controller.flux-system.svc.cluster.local./";

/// For how long it refuses what it has been sent already: its `--rate-limit-interval`.
const INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// Longest message, in characters.
const MAX_MESSAGE: usize = 39_000;

/// An event as `fluxcd/pkg/apis/event/v1beta1` has it, with the `action` of v1. A field that neither knows is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// What it is about.
    pub involved_object: Reference,
    /// `info` or `error`.
    pub severity: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// In words.
    pub message: String,
    /// In one word.
    pub reason: String,
    /// What was being done.
    pub action: String,
    /// Which controller says it.
    pub reporting_controller: String,
    /// Which of its processes.
    pub reporting_instance: String,
}

/// As much of a Kubernetes `ObjectReference` as is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reference {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// uid.
    pub uid: String,
}

/// A notification-controller. Clones share what it was sent.
#[derive(Clone)]
pub struct NotificationController {
    clock: Clock,
    faults: Faults,
    taken: Arc<Mutex<Vec<(Event, Timestamp)>>>,
    /// Every body, whatever became of it.
    bodies: Arc<Mutex<Vec<String>>>,
}

impl NotificationController {
    /// One that was sent nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, faults: Faults::default(), taken: Arc::default(), bodies: Arc::default() }
    }

    /// How the controller reaches it.
    pub fn receiver(&self) -> Option<Receiver> {
        let service = self.service();
        let http = Http::new(service.map_request(|request: Request<_>| request.map(Body::new)));
        let address = address(ADDRESS).ok()??;
        Some(Receiver { http, address })
    }

    /// What requests to it meet.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The events that it took, in order.
    pub fn taken(&self) -> Vec<Event> {
        lock(&self.taken).iter().map(|(event, _)| event.clone()).collect()
    }

    /// Every body that reached it, whatever became of it.
    pub fn bodies(&self) -> Vec<String> {
        lock(&self.bodies).clone()
    }

    fn service(&self) -> Service {
        let this = self.clone();
        let serve = service_fn(move |request: Request<Body>| {
            let this = this.clone();
            async move {
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = this.serve(request).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        guarded(self.faults.clone(), serve)
    }

    async fn serve(&self, request: Request<Body>) -> StatusCode {
        let (parts, body) = request.into_parts();
        let host = parts.uri.host() == Some("notification-controller.flux-system.svc.cluster.local.");
        let json = parts.headers.get("content-type").is_some_and(|kind| kind == "application/json");
        if !host || parts.uri.path() != "/" || parts.method != Method::POST || !json {
            return StatusCode::NOT_FOUND;
        }
        let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST };
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        lock(&self.bodies).push(text.clone());
        let read = serde_json::from_str::<Value>(&text).and_then(serde_json::from_value::<Event>);
        read.ok().filter(is_valid).map_or(StatusCode::BAD_REQUEST, |event| self.take(event))
    }

    fn take(&self, event: Event) -> StatusCode {
        let now = self.clock.now();
        let mut taken = lock(&self.taken);
        let same = |(other, at): &(Event, Timestamp)| {
            let about = other.involved_object == event.involved_object;
            about && other.message == event.message && now.duration_since(*at) < INTERVAL
        };
        if taken.iter().any(same) {
            return StatusCode::TOO_MANY_REQUESTS;
        }
        taken.push((event, now));
        StatusCode::ACCEPTED
    }
}

fn is_valid(event: &Event) -> bool {
    let object = &event.involved_object;
    let required = [&object.kind, &object.namespace, &object.name, &event.reason, &event.reporting_controller];
    required.iter().all(|text| !text.is_empty())
        && ["info", "error"].contains(&&*event.severity)
        && event.message.chars().count() <= MAX_MESSAGE
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
