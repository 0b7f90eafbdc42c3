//! The admin API: how a person, a script or a test changes a running world. JSON, without authentication: it belongs
//! on a loopback port of its own, never under one of Azure's names.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /state` | Answers the [`State`]. |
//! | `PUT /state` | Replaces it by the body, JSON or YAML. |
//! | `PATCH /state` | Changes it by the body, a JSON merge patch (RFC 7396): objects merge, `null` removes, lists are replaced. |
//! | `GET /faults` | Answers the list of [`Fault`]s in force. |
//! | `PUT /faults` | Puts the fault of the body in force, in place of one of the same name. |
//! | `DELETE /faults/{name}` | Ends one fault; 404 when there is none of this name. |
//! | `DELETE /faults` | Ends all faults. |
//! | `POST /clock/step` | Steps the wall clock by `{"seconds": N}`, either way. Answers `{"now": …}`. |
//! | `GET /journal` | Answers `counts`, and as `entries` the last requests: `?last=N`, 100 unless said. |
//! | `DELETE /journal` | Forgets what was seen. |
//!
//! Answers 200 with JSON or 204. A body that can't be used is answered 400 with `{"error": …}`, which names the field,
//! and nothing changes.

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::state::State;
use crate::world::World;

/// Entries of the journal that are answered unless the request says how many.
const LAST: usize = 100;

/// The admin API of a world.
pub fn router(world: World) -> Router {
    Router::new()
        .route("/state", get(state).put(put_state).patch(patch_state))
        .route("/faults", get(faults).put(put_fault).delete(clear_faults))
        .route("/faults/{name}", delete(clear_fault))
        .route("/clock/step", post(step))
        .route("/journal", get(journal).delete(clear_journal))
        .with_state(world)
}

/// A request that can't be used, and why.
struct Refused(StatusCode, String);

impl Refused {
    fn bad(reason: &impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

async fn state(Shared(world): Shared<World>) -> Json<State> {
    Json(world.state())
}

async fn put_state(Shared(world): Shared<World>, body: String) -> Result<StatusCode, Refused> {
    replace(&world, &body)
}

async fn patch_state(Shared(world): Shared<World>, body: String) -> Result<StatusCode, Refused> {
    let patch: Value = parsed(&body)?;
    if !patch.is_object() {
        return Err(Refused::bad(&"the merge patch is no object: write the fields of the state that change"));
    }
    let mut merged = serde_json::to_value(world.state()).map_err(|error| Refused::bad(&error))?;
    merge(&mut merged, patch);
    // A text of many lines, so that the reader of YAML can say in which one a fault is.
    let text = serde_json::to_string_pretty(&merged).map_err(|error| Refused::bad(&error))?;
    replace(&world, &text)
}

fn replace(world: &World, text: &str) -> Result<StatusCode, Refused> {
    let next = State::from_yaml(text).map_err(|error| Refused::bad(&error))?;
    world.edit(|state| *state = next).map_err(|error| Refused::bad(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

async fn faults(Shared(world): Shared<World>) -> Json<Vec<Fault>> {
    Json(world.faults().list())
}

async fn put_fault(Shared(world): Shared<World>, body: String) -> Result<StatusCode, Refused> {
    let fault: Fault = parsed(&body)?;
    if fault.name.is_empty() {
        return Err(Refused::bad(&"name: it is empty; write one, so that the fault can be removed"));
    }
    world.faults().set(fault);
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(Shared(world): Shared<World>) -> StatusCode {
    world.faults().clear_all();
    StatusCode::NO_CONTENT
}

async fn clear_fault(Shared(world): Shared<World>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    if world.faults().clear(&name) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Refused(StatusCode::NOT_FOUND, format!("there is no fault `{name}`")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    seconds: i64,
}

async fn step(Shared(world): Shared<World>, body: String) -> Result<Json<Value>, Refused> {
    let Step { seconds } = parsed(&body)?;
    let by = SignedDuration::from_secs(seconds);
    if world.clock().now().checked_add(by).is_err() {
        return Err(Refused::bad(&"seconds: the clock would leave the years -9999 to 9999; step less"));
    }
    world.clock().step(by);
    Ok(Json(json!({"now": world.clock().now()})))
}

#[derive(Deserialize)]
struct Last {
    last: Option<usize>,
}

async fn journal(Shared(world): Shared<World>, Query(query): Query<Last>) -> Json<Value> {
    let entries = world.journal().entries();
    let skipped = entries.len().saturating_sub(query.last.unwrap_or(LAST));
    let last: Vec<_> = entries.into_iter().skip(skipped).collect();
    let dead = world.journal().dead_tokens_seen();
    Json(json!({"counts": world.journal().counts(), "deadTokensSeen": dead, "entries": last}))
}

async fn clear_journal(Shared(world): Shared<World>) -> StatusCode {
    world.journal().clear();
    StatusCode::NO_CONTENT
}

/// Reads a body; JSON is YAML, whose reader says where a fault is.
fn parsed<T: DeserializeOwned>(body: &str) -> Result<T, Refused> {
    serde_saphyr::from_str(body).map_err(|error| Refused::bad(&error))
}
