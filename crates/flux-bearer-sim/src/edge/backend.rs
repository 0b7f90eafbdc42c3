//! Real Git behind the simulated repositories: `git http-backend`, run as a CGI program for each request.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::BoxError;

use super::cgi;
use crate::git::GitBackend;

/// Git processes at a time. Each costs three pipes beside the client's socket, and 1024 open files are the usual limit.
const PROCESSES: usize = 64;

/// Bytes read from Git at a time: what a Linux pipe holds.
const CHUNK: usize = 64 * 1024;

/// Settings for Git, whoever owns the repository and whatever its own configuration says. Who may push has been decided
/// before a request comes here.
const SETTINGS: [(&str, &str); 2] = [("safe.directory", "*"), ("http.receivepack", "true")];

/// Serves repositories on disk with the machine's own `git`.
#[derive(Clone, Debug)]
pub struct HttpBackend {
    path: OsString,
    processes: Arc<Semaphore>,
}

impl HttpBackend {
    /// A backend that finds `git` in `path` (the variable `PATH`), the only part of the environment that Git gets to see.
    pub fn new(path: OsString) -> Self {
        Self { path, processes: Arc::new(Semaphore::new(PROCESSES)) }
    }

    async fn answer(self, git: Command, body: Body) -> Result<Response<Body>, BoxError> {
        let place = self.processes.acquire_owned().await?;
        let (child, stdin, stdout, stderr) = spawn(git)?;
        tokio::spawn(feed(body, stdin));
        tokio::spawn(log(stderr));
        let mut output = Output { stdout, arrived: BytesMut::new(), child, _place: place };
        let head = output.head().await?;
        let frames = futures::stream::try_unfold(output, Output::next);
        let mut response = Response::new(Body::from_stream(frames));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn command(&self, repository: &Path, path_in_repository: &str) -> Command {
        let mut git = Command::new("git");
        git.arg("http-backend").env_clear().env("PATH", &self.path);
        git.env("GIT_PROJECT_ROOT", repository).env("PATH_INFO", format!("/{path_in_repository}"));
        git.env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "flux-bearer-sim");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_CONFIG_COUNT", SETTINGS.len().to_string());
        for (number, (key, value)) in SETTINGS.into_iter().enumerate() {
            git.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        git
    }
}

impl GitBackend for HttpBackend {
    fn serve(
        &self,
        repository: PathBuf,
        path_in_repository: String,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
        let (parts, body) = request.into_parts();
        let mut git = self.command(&repository, &path_in_repository);
        git.envs(cgi::variables(&parts));
        Box::pin(self.clone().answer(git, body))
    }
}

/// A running Git, killed when dropped: a client that leaves takes its process along.
struct Output {
    stdout: ChildStdout,
    arrived: BytesMut,
    child: Child,
    _place: OwnedSemaphorePermit,
}

impl Output {
    /// Reads on; `false` at the end.
    async fn read(&mut self) -> std::io::Result<bool> {
        self.arrived.reserve(CHUNK);
        Ok(self.stdout.read_buf(&mut self.arrived).await? > 0)
    }

    /// The head; what follows it stays in `arrived`.
    async fn head(&mut self) -> Result<cgi::Head, BoxError> {
        loop {
            if let Some((head, body)) = cgi::split(&self.arrived) {
                let (parsed, body) = (cgi::parse(head)?, BytesMut::from(body));
                self.arrived = body;
                return Ok(parsed);
            }
            if self.arrived.len() > cgi::LONGEST_HEAD || !self.read().await? {
                return Err(cgi::HeadError::Incomplete.into());
            }
        }
    }

    /// The next bytes of the body. The exit status says nothing here: Git reports trouble within the body.
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        if self.arrived.is_empty() && !self.read().await? {
            // It may still be writing to the repository: the answer is complete once it is done with that.
            self.child.wait().await?;
            return Ok(None);
        }
        Ok(Some((self.arrived.split().freeze(), self)))
    }
}

fn spawn(mut git: Command) -> Result<(Child, ChildStdin, ChildStdout, ChildStderr), BoxError> {
    let mut child = git.spawn().map_err(|error| format!("can't run git http-backend: {error}"))?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok((child, stdin, stdout, stderr)),
        _ => Err("git http-backend has no pipes".into()),
    }
}

/// Gives the request's body to Git. A body that breaks off ends Git's input early, which it refuses.
async fn feed(body: Body, mut stdin: ChildStdin) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn log(stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::warn!(line, "git http-backend");
    }
}
