//! A shell on a stage: runs the command line in process, with the stage as its outside, and keeps what it says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use flux_bearer_cli::cluster::Cluster;
use flux_bearer_cli::edge::{Call, Clusters, Edge, Ended, Input, Programs, Which};
use flux_bearer_cli::exit::{Exit, Trouble};
use flux_bearer_cli::out::Out;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use kube::Client;
use secrecy::SecretString;

use crate::stage::Stage;

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
        }
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
        let exit = flux_bearer_cli::run(words.iter().map(Into::into).collect(), &edge).await;
        Said { exit, stdout: text(&stdout), stderr: text(&stderr) }
    }

    fn edge(&self, stdout: &Arc<Mutex<Vec<u8>>>, stderr: &Arc<Mutex<Vec<u8>>>) -> Edge {
        let machine = self.stage.machine.clone();
        Edge {
            azure: self.stage.azure(),
            link_local: self.stage.azure(),
            clusters: Arc::new(OnStage(self.stage.client())),
            programs: Arc::new(Path(self.programs.clone())),
            out: Out::new(stdout.clone(), stderr.clone(), false, false),
            input: Arc::new(Somebody { answer: self.answer, piped: self.piped.clone() }),
            environment: self.environment.clone(),
            now: Arc::new(move || machine.now()),
        }
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

struct Path(BTreeMap<&'static str, Program>);

impl Programs for Path {
    fn run(&self, call: Call) -> BoxFuture<'_, io::Result<Ended>> {
        let ended = match self.0.get(call.program) {
            Some(program) => program(&call),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        ready(ended).boxed()
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
