//! A shell on a stage: runs the command line in process, with the stage as its outside, and keeps what it says.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use flux_bearer_azure::http::Http;
use flux_bearer_cli::cluster::Cluster;
use flux_bearer_cli::edge::{Call, Clusters, Edge, Ended, Files, Folder, Input, Programs, Which};
use flux_bearer_cli::exit::{Exit, Trouble};
use flux_bearer_cli::out::Out;
use flux_bearer_sim::canary::{ACCESS_TOKEN, SERVICE_ACCOUNT_TOKEN, forms};
use futures::FutureExt;
use futures::future::{BoxFuture, pending, ready};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use kube::Client;
use secrecy::SecretString;
use tokio::sync::Notify;
use tower::{BoxError, ServiceExt, service_fn};

use crate::company::{OPERATOR, OPERATOR_SECRET};
use crate::identities::TENANT;
use crate::stage::{NAMESPACE, Stage};

/// Who the shell's person is to the Kubernetes API.
pub const OPERATOR_NAME: &str = "operator";

/// A program of the shell: sees a call, answers how it ends.
type Program = Arc<dyn Fn(&Call) -> io::Result<Ended> + Send + Sync>;

/// A shell whose Azure and cluster are a stage's.
pub struct Shell {
    stage: Stage,
    programs: BTreeMap<&'static str, Program>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// What is answered to a question; nothing means that nobody is there.
    pub answer: Option<bool>,
    /// What is piped in.
    pub piped: String,
    /// Where the line breaks.
    pub breaker: Breaker,
}

/// What happens to the line of a shell at one of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The write does not arrive.
    Refuse,
    /// The write is done, and its answer is lost.
    Lose,
    /// The process is killed before the write arrives.
    KillBefore,
    /// The process is killed while it waits for the answer.
    KillAfter,
}

/// Breaks a line at its n-th write, to Azure or to the cluster; counts them.
#[derive(Clone, Default)]
pub struct Breaker {
    at: Option<(usize, Break)>,
    writes: Arc<AtomicUsize>,
    killed: Arc<Notify>,
}

impl Breaker {
    /// One that breaks at this write, counted from 1.
    pub fn at(write: usize, how: Break) -> Self {
        Self { at: Some((write, how)), ..Self::default() }
    }

    /// How many writes there were.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// What happens to this request.
    fn meet(&self, method: &Method, uri: &Uri) -> Option<Break> {
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let looks = *method == Method::GET || *method == Method::HEAD || *method == Method::OPTIONS;
        let harmless = ["dryRun=All", "selfsubjectaccessreviews", "/oauth2/", "permissionevaluation"];
        if looks || harmless.iter().any(|part| path.contains(part)) {
            return None;
        }
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        self.at.filter(|(at, _)| *at == number).map(|(_, how)| how)
    }

    async fn send<B>(
        &self,
        request: Request<B>,
        serve: impl AsyncFnOnce(Request<B>) -> Result<Response<Body>, BoxError>,
    ) -> Result<Response<Body>, BoxError> {
        match self.meet(request.method(), request.uri()) {
            None => serve(request).await,
            Some(Break::Refuse) => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            Some(Break::Lose) => {
                serve(request).await?;
                Err("lost on the way back".into())
            }
            Some(Break::KillBefore) => self.kill().await,
            Some(Break::KillAfter) => {
                serve(request).await?;
                self.kill().await
            }
        }
    }

    async fn kill(&self) -> Result<Response<Body>, BoxError> {
        self.killed.notify_one();
        pending().await
    }
}

/// What a command line has said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub exit: Exit,
    /// Its data.
    pub stdout: String,
    /// Its progress.
    pub stderr: String,
}

impl Shell {
    /// A shell without a person, without programs, with an empty environment.
    pub fn new(stage: &Stage) -> Self {
        Self {
            stage: stage.clone(),
            programs: BTreeMap::new(),
            environment: BTreeMap::new(),
            answer: None,
            piped: String::new(),
            breaker: Breaker::default(),
        }
    }

    /// The same shell, with the operator of [`crate::company`] in its environment.
    #[must_use]
    pub fn signed_in(mut self) -> Self {
        let variables =
            [("AZURE_TENANT_ID", TENANT), ("AZURE_CLIENT_ID", OPERATOR), ("AZURE_CLIENT_SECRET", OPERATOR_SECRET)];
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// Puts a program on its path.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        program: impl Fn(&Call) -> io::Result<Ended> + Send + Sync + 'static,
    ) -> Self {
        self.programs.insert(name, Arc::new(program));
        self
    }

    /// Runs one command line, for example `flux-bearer get`. Words are what blanks separate.
    pub async fn run(&self, line: &str) -> Said {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>()).await
    }

    /// Runs one command line of these words, which may hold blanks or nothing.
    pub async fn run_words(&self, words: &[&str]) -> Said {
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let edge = self.edge(&stdout, &stderr);
        let exit = tokio::select! {
            exit = flux_bearer_cli::run(words.iter().map(Into::into).collect(), &edge) => exit,
            () = self.breaker.killed.notified() => Exit::Interrupted,
        };
        let said = Said { exit, stdout: text(&stdout), stderr: text(&stderr) };
        let secrets = self.secrets();
        secrets.check(&said.stdout);
        secrets.check(&said.stderr);
        said
    }

    fn secrets(&self) -> Secrets {
        let own = [Some(&self.piped), self.environment.get("AZURE_CLIENT_SECRET")].into_iter().flatten();
        let own = own.filter(|secret| !secret.is_empty()).map(String::as_str);
        Secrets(own.chain([ACCESS_TOKEN, SERVICE_ACCOUNT_TOKEN]).flat_map(forms).collect())
    }

    fn edge(&self, stdout: &Arc<Mutex<Vec<u8>>>, stderr: &Arc<Mutex<Vec<u8>>>) -> Edge {
        let machine = self.stage.machine.clone();
        Edge {
            azure: self.azure(),
            link_local: self.stage.azure(),
            clusters: Arc::new(OnStage(self.cluster())),
            programs: Arc::new(Path(self.programs.clone(), self.secrets())),
            out: Out::new(stdout.clone(), stderr.clone(), false, false),
            input: Arc::new(Somebody { answer: self.answer, piped: self.piped.clone() }),
            files: Arc::new(NoFiles),
            environment: self.environment.clone(),
            now: Arc::new(move || machine.now()),
        }
    }

    fn azure(&self) -> Http {
        let (breaker, inner) = (self.breaker.clone(), self.stage.azure_service());
        Http::new(service_fn(move |request: Request<Full<Bytes>>| {
            let (breaker, inner) = (breaker.clone(), inner.clone());
            async move { breaker.send(request.map(Body::new), async |request| inner.oneshot(request).await).await }
        }))
    }

    fn cluster(&self) -> Client {
        let (breaker, inner) = (self.breaker.clone(), self.stage.kube.service());
        let send = service_fn(move |request: Request<kube::client::Body>| {
            let (breaker, inner) = (breaker.clone(), inner.clone());
            async move {
                let mut request = request.map(Body::new);
                request.headers_mut().insert("impersonate-user", HeaderValue::from_static(OPERATOR_NAME));
                breaker.send(request, async |request| inner.oneshot(request).await).await
            }
        });
        Client::new(send, NAMESPACE)
    }
}

fn text(stream: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&stream.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

struct OnStage(Client);

impl Clusters for OnStage {
    fn connect<'a>(&'a self, _: &'a Which) -> BoxFuture<'a, Result<Cluster, Trouble>> {
        let server = "https://kubernetes.example:6443".into();
        ready(Ok(Cluster { client: self.0.clone(), context: "stage".into(), server })).boxed()
    }

    fn contexts(&self, _: &Which) -> Vec<String> {
        vec!["stage".into()]
    }
}

/// Tokens, and what the person of a shell signs in with, as they can stand in a text.
struct Secrets(Vec<String>);

impl Secrets {
    /// Panics where one of them is in this: no verb ever says one, or gives it to a program as an argument.
    fn check(&self, text: &str) {
        assert!(!self.0.iter().any(|secret| text.contains(secret)), "a credential is in this: {text}");
    }
}

struct Path(BTreeMap<&'static str, Program>, Secrets);

impl Programs for Path {
    fn run(&self, call: Call) -> BoxFuture<'_, io::Result<Ended>> {
        self.1.check(&call.arguments.join(" "));
        let ended = match self.0.get(call.program) {
            Some(program) => program(&call),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        ready(ended).boxed()
    }
}

struct NoFiles;

impl Files for NoFiles {
    fn secret<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<SecretString>> {
        ready(Err(io::ErrorKind::NotFound.into())).boxed()
    }

    fn folder(&self) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(Nowhere))
    }
}

/// A folder for programs that look into none.
struct Nowhere;

impl Folder for Nowhere {
    fn path(&self) -> &std::path::Path {
        std::path::Path::new("/nowhere")
    }
}

struct Somebody {
    answer: Option<bool>,
    piped: String,
}

impl Input for Somebody {
    fn confirm(&self, _: &str) -> BoxFuture<'_, Option<bool>> {
        ready(self.answer).boxed()
    }

    fn secret(&self) -> BoxFuture<'_, io::Result<SecretString>> {
        ready(Ok(SecretString::from(self.piped.clone()))).boxed()
    }
}
