//! What was asked and what was answered, as it was seen on the wire.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::Unreachable;
use flux_bearer_azure::http::{BoxError, Http};
use http::{Request, Response, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::service_fn;

/// How long one exchange may take: longer than any client of ours waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// How much of an answer is read, in bytes. A page of members has hundreds of kilobytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How much of a plain text is kept, in bytes.
const MAX_TEXT: usize = 300;

/// A request and its answer. What was sent (header fields, body) is not kept: it is ours, and holds credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Exchange {
    /// What it was sent for, for example `sign-in/unknown-client`.
    pub step: String,
    /// Method of the request.
    pub method: String,
    /// Host of the request.
    pub host: String,
    /// Path and query of the request, percent-decoded.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// Header fields of the answer, by their names in lower case.
    pub headers: BTreeMap<String, Vec<String>>,
    /// JSON as it is, null for nothing, and a text for anything else: a page is not kept, and of a repository's
    /// branches only the first line.
    pub body: Value,
}

/// Keeps the exchanges of one Azure. Clones are the same recorder.
#[derive(Clone, Default)]
pub struct Recorder {
    inner: Arc<Mutex<Tape>>,
}

#[derive(Default)]
struct Tape {
    step: String,
    exchanges: Vec<Exchange>,
}

impl Recorder {
    /// What comes from now on is for this step.
    pub fn step(&self, name: &str) {
        name.clone_into(&mut self.tape().step);
    }

    /// The step that was begun last.
    pub fn last_step(&self) -> String {
        self.tape().step.clone()
    }

    /// What was recorded, not redacted yet.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.tape().exchanges.clone()
    }

    /// `http`, recorded.
    pub fn over(&self, http: Http) -> Http {
        let recorder = self.clone();
        Http::new(service_fn(move |request| recorder.clone().exchange(http.clone(), request)))
    }

    async fn exchange(self, http: Http, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        let (method, uri) = (request.method().to_string(), request.uri().clone());
        let answer = http.opening(request, DEADLINE, MAX_ANSWER).await.map_err(told)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in answer.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.as_str().to_owned()).or_default().push(value);
        }
        let mut tape = self.tape();
        let exchange = Exchange {
            step: tape.step.clone(),
            // To HEAD a service in process may answer with a body that no server would send.
            body: if method == "HEAD" { Value::Null } else { body(&answer) },
            method,
            host: uri.host().unwrap_or_default().to_owned(),
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
            status: answer.status().as_u16(),
            headers,
        };
        tape.exchanges.push(exchange);
        drop(tape);
        Ok(answer.map(Full::new))
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same fault for whoever asked through the recorder.
fn told(unreachable: Unreachable) -> BoxError {
    match unreachable {
        Unreachable::Connect | Unreachable::Proxy => io::Error::from(io::ErrorKind::ConnectionRefused).into(),
        other => format!("no answer: {other:?}").into(),
    }
}

fn body(answer: &Response<Bytes>) -> Value {
    let bytes = answer.body().strip_prefix(b"\xef\xbb\xbf").unwrap_or(answer.body());
    let media_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match media_type.unwrap_or_default() {
        _ if bytes.is_empty() => Value::Null,
        git if git.starts_with("application/x-git-") => {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(line).into_owned().into()
        }
        page if page.starts_with("text/html") => "(a page)".into(),
        _ => serde_json::from_slice(bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned().into()),
    }
}
