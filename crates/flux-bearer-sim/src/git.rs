//! What Git is served: by a real `git http-backend` where there is one, else refs alone, in Rust: enough for
//! `git ls-remote` in both protocols, and nothing can be fetched.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tower::BoxError;
use url::form_urlencoded;

use crate::state::Repository;

/// What the v0 advertisement says the server can do. Azure DevOps insists on `multi_ack`.
const CAPABILITIES: &str = "multi_ack multi_ack_detailed no-done thin-pack side-band side-band-64k ofs-delta shallow \
    no-progress include-tag symref=HEAD:refs/heads/main object-format=sha1 agent=git/azure-repos";
/// The same for pushes.
const PUSH_CAPABILITIES: &str = "report-status delete-refs side-band-64k quiet ofs-delta agent=git/azure-repos";

/// Bytes that a request for refs may have.
const LARGEST: usize = 1 << 16;

/// Serves Git repositories that lie on disk.
pub trait GitBackend: Send + Sync {
    /// Answers an authorised request for `path_in_repository` (for example `info/refs`) of the bare repository in this
    /// directory. The request no longer carries its `Authorization`.
    fn serve(
        &self,
        repository: PathBuf,
        path_in_repository: String,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>>;
}

/// Serves an authorised request.
pub(crate) async fn serve(
    backend: Option<Arc<dyn GitBackend>>,
    repository: &Repository,
    path: &str,
    mut request: Request<Body>,
) -> Response<Body> {
    let (Some(backend), Some(directory)) = (backend, &repository.path) else {
        return without_backend(repository, path, request).await;
    };
    request.headers_mut().remove(header::AUTHORIZATION);
    let served = backend.serve(directory.clone(), path.to_owned(), request).await;
    served.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, format!("git backend: {error}\n")))
}

async fn without_backend(repository: &Repository, path: &str, request: Request<Body>) -> Response<Body> {
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "info/refs") => advertise(repository, &request),
        (&Method::POST, "git-upload-pack") if speaks_v2(request.headers()) => {
            let body = axum::body::to_bytes(request.into_body(), LARGEST).await.unwrap_or_default();
            list_refs(repository, &packets(&body)).unwrap_or_else(no_objects)
        }
        (&Method::POST, "git-upload-pack" | "git-receive-pack") => no_objects(),
        _ => plain(StatusCode::NOT_FOUND, "Not found\n".to_owned()),
    }
}

fn no_objects() -> Response<Body> {
    let text = "This repository has refs but no objects: give it a `path` and the world a Git backend.\n";
    plain(StatusCode::NOT_IMPLEMENTED, text.to_owned())
}

/// The answer to protocol v2's `ls-refs`; `None` for every other command.
fn list_refs(repository: &Repository, lines: &[String]) -> Option<Response<Body>> {
    if lines.first()? != "command=ls-refs" {
        return None;
    }
    let prefixes: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("ref-prefix ")).collect();
    let is_asked = |name: &str| prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix));
    let target = if lines.iter().any(|line| line == "symrefs") { " symref-target:refs/heads/main" } else { "" };
    let refs = [("HEAD", target), ("refs/heads/main", "")].into_iter().filter(|(name, _)| is_asked(name));
    let head = repository.head.iter();
    let lines = head.flat_map(|head| refs.clone().map(move |(name, more)| packet(&format!("{head} {name}{more}\n"))));
    Some(typed("application/x-git-upload-pack-result", lines.collect::<String>() + "0000"))
}

/// The texts of the pkt-lines of a request, up to the first that is none.
fn packets(body: &[u8]) -> Vec<String> {
    let mut rest = std::str::from_utf8(body).unwrap_or_default();
    let mut lines = Vec::new();
    while let Some((length, after)) = rest.split_at_checked(4) {
        let Ok(length) = usize::from_str_radix(length, 16) else { break };
        // Lengths below 4 are delimiters: they have no text.
        let Some((text, after)) = after.split_at_checked(length.saturating_sub(4)) else { break };
        lines.extend((length >= 4).then(|| text.trim_end_matches('\n').to_owned()));
        rest = after;
    }
    lines
}

fn advertise(repository: &Repository, request: &Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let service = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "service").map(|(_, value)| value);
    let head = repository.head.as_deref();
    match service.as_deref() {
        Some("git-upload-pack") if speaks_v2(request.headers()) => {
            typed("application/x-git-upload-pack-advertisement", version_2())
        }
        Some("git-upload-pack") => {
            let refs = head.into_iter().flat_map(|head| [(head, "HEAD"), (head, "refs/heads/main")]);
            let body = version_0("git-upload-pack", &refs.collect::<Vec<_>>(), CAPABILITIES);
            typed("application/x-git-upload-pack-advertisement", body)
        }
        Some("git-receive-pack") => {
            let refs: Vec<_> = head.into_iter().map(|head| (head, "refs/heads/main")).collect();
            let body = version_0("git-receive-pack", &refs, PUSH_CAPABILITIES);
            typed("application/x-git-receive-pack-advertisement", body)
        }
        _ => plain(StatusCode::FORBIDDEN, "Only the smart HTTP protocol is served\n".to_owned()),
    }
}

fn speaks_v2(headers: &HeaderMap) -> bool {
    let protocol = headers.get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default();
    protocol.split(':').any(|part| part == "version=2")
}

fn version_0(service: &str, refs: &[(&str, &str)], capabilities: &str) -> String {
    let mut body = packet(&format!("# service={service}\n")) + "0000";
    // An empty repository still has to say what the server can do.
    let nothing = [("0000000000000000000000000000000000000000", "capabilities^{}")];
    let refs = if refs.is_empty() { nothing.as_slice() } else { refs };
    for (at, (commit, name)) in refs.iter().enumerate() {
        let capabilities = if at == 0 { format!("\0{capabilities}") } else { String::new() };
        body += &packet(&format!("{commit} {name}{capabilities}\n"));
    }
    body + "0000"
}

/// The capability advertisement of protocol v2. Refs come with a later `ls-refs`.
fn version_2() -> String {
    let lines =
        ["version 2\n", "agent=git/azure-repos\n", "ls-refs=unborn\n", "fetch=shallow\n", "object-format=sha1\n"];
    lines.map(packet).concat() + "0000"
}

/// A pkt-line: four hex digits of length, themselves included, then the text.
fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn typed(content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0, must-revalidate"));
    response
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
