//! Everything outside: Azure, the cluster, other programs, the terminal, the environment and the clock.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flux_bearer_azure::http::Http;
use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::cluster::Cluster;
use crate::exit::Trouble;
use crate::out::Out;

/// The outside of one run of the program.
pub struct Edge {
    /// The way to Entra ID, Azure Resource Manager and Azure DevOps.
    pub azure: Http,
    /// The way to the machine's metadata service.
    pub link_local: Http,
    /// How a cluster is reached.
    pub clusters: Arc<dyn Clusters>,
    /// Other programs.
    pub programs: Arc<dyn Programs>,
    /// What a person sees and says.
    pub out: Out,
    /// What a person or a pipe says.
    pub input: Arc<dyn Input>,
    /// Files.
    pub files: Arc<dyn Files>,
    /// The environment variables.
    pub environment: BTreeMap<String, String>,
    /// Wall time.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Edge {
    /// An environment variable; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }
}

/// Which cluster: kubectl's flags.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `--request-timeout`, for a connection.
    pub timeout: Option<Duration>,
}

/// How a cluster is reached.
pub trait Clusters: Send + Sync {
    /// The cluster that is meant; nothing has been asked of it yet.
    fn connect<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Cluster, Trouble>>;

    /// Names of the contexts there are to choose from.
    fn contexts(&self, which: &Which) -> Vec<String>;
}

/// One call of another program. Secrets go in by its environment or its standard input alone.
#[derive(Default)]
pub struct Call {
    /// Its name, found on `PATH`.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What its environment has beside ours.
    pub environment: Vec<(&'static str, SecretString)>,
    /// What it reads.
    pub input: Option<SecretString>,
    /// Whether its standard error is shown as it comes.
    pub shown: bool,
}

/// How a program ended.
pub struct Ended {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output, which may be a token.
    pub stdout: SecretString,
    /// What it wrote to standard error, shown or not.
    pub stderr: String,
}

/// Other programs: `az`, `flux`, `git`.
pub trait Programs: Send + Sync {
    /// Runs one to its end.
    ///
    /// # Errors
    /// That it could not be started: [`io::ErrorKind::NotFound`] where there is none.
    fn run(&self, call: Call) -> BoxFuture<'_, io::Result<Ended>>;
}

/// Files.
pub trait Files: Send + Sync {
    /// What a file with a credential holds.
    ///
    /// # Errors
    /// That it can't be read.
    fn secret<'a>(&'a self, path: &'a str) -> BoxFuture<'a, io::Result<SecretString>>;

    /// A new, empty folder that nobody else may look into. It goes with what is returned.
    ///
    /// # Errors
    /// That none can be made.
    fn folder(&self) -> io::Result<Box<dyn Folder>>;
}

/// A folder for as long as this lives.
pub trait Folder: Send + Sync {
    /// Where it is.
    fn path(&self) -> &Path;
}

/// What a person or a pipe says.
pub trait Input: Send + Sync {
    /// Asks for a yes; `None` where nobody is there to be asked.
    fn confirm(&self, question: &str) -> BoxFuture<'_, Option<bool>>;

    /// All of standard input, without the line end: a secret that is piped in.
    fn secret(&self) -> BoxFuture<'_, io::Result<SecretString>>;
}
