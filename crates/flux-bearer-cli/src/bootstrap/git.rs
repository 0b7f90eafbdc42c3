//! The program `git`, on a bare repository of its own: no file of the branch is ever written to disk, so nothing that
//! somebody has committed (a link, an attribute, a hook) is followed here.
//!
//! The credential is in its environment alone, and for this repository alone.

use flux_bearer_azure::probe::Proof;
use secrecy::{ExposeSecret, SecretString};

use super::Job;
use crate::edge::{Call, Edge, Ended, Folder};
use crate::exit::{Exit, Trouble};

/// A file of a commit: its path from the root, and what it holds.
pub(super) type File = (String, String);

/// Whether `git` is there.
pub(super) async fn check(edge: &Edge) -> Result<(), Trouble> {
    let call = Call { program: "git", arguments: vec!["--version".to_owned()], ..Call::default() };
    edge.programs.run(call).await.map(drop).map_err(|_| none())
}

fn none() -> Trouble {
    let fix =
        "install git, or commit the controller yourself (flux-bearer setup --export) and add --without-controller";
    Trouble::new(Exit::NotFound, "the program git is not on PATH", fix)
}

/// The newest commit of a branch.
pub(super) struct Branch<'a> {
    job: &'a Job<'a>,
    edge: &'a Edge,
    authorization: SecretString,
    folder: Box<dyn Folder>,
    /// Its id; nothing where there is no such branch yet.
    head: Option<String>,
}

impl<'a> Branch<'a> {
    /// Fetches it.
    pub(super) async fn fetch(job: &'a Job<'a>, proof: &Proof, edge: &'a Edge) -> Result<Self, Trouble> {
        let folder = edge.files.folder().map_err(|_| {
            Trouble::new(
                Exit::Failed,
                "a temporary folder can't be made",
                "set TMPDIR to a folder that can be written to",
            )
        })?;
        let authorization = proof.authorization();
        let mut branch = Self { job, edge, authorization, folder, head: None };
        branch.must(&["init", "--quiet", "--bare", "--template="]).await?;
        let url = job.repository.to_string();
        let reference = branch.reference();
        let listed = branch.must(&["ls-remote", &url, &reference]).await?;
        // A pattern matches ends of names as well.
        if listed.stdout.expose_secret().lines().any(|line| line.ends_with(&format!("\t{reference}"))) {
            branch.must(&["fetch", "--quiet", "--no-tags", "--depth=1", &url, &reference]).await?;
            let head = branch.must(&["rev-parse", "FETCH_HEAD"]).await?;
            branch.head = Some(head.stdout.expose_secret().trim().to_owned());
        }
        Ok(branch)
    }

    /// What a file of it holds; nothing where there is none.
    pub(super) async fn read(&self, path: &str) -> Result<Option<String>, Trouble> {
        let Some(head) = &self.head else { return Ok(None) };
        let ended = self.run(&["show", &format!("{head}:{path}")], None).await?;
        Ok((ended.status == Some(0)).then(|| ended.stdout.expose_secret().to_owned()))
    }

    /// Commits these files on top of it, and pushes.
    pub(super) async fn push(&self, message: &str, files: &[File]) -> Result<(), Trouble> {
        let now = self.edge.now().as_second();
        let import = SecretString::from(import(&self.reference(), self.head.as_deref(), now, message, files));
        let ended = self.run(&["fast-import", "--quiet"], Some(import)).await?;
        self.succeeded("fast-import", ended)?;
        let (url, reference) = (self.job.repository.to_string(), self.reference());
        self.must(&["push", "--quiet", "--no-verify", &url, &format!("{reference}:{reference}")]).await.map(drop)
    }

    fn reference(&self) -> String {
        format!("refs/heads/{}", self.job.tree.branch)
    }

    async fn must(&self, words: &[&str]) -> Result<Ended, Trouble> {
        let ended = self.run(words, None).await?;
        self.succeeded(words.first().copied().unwrap_or_default(), ended)
    }

    fn succeeded(&self, verb: &str, ended: Ended) -> Result<Ended, Trouble> {
        if ended.status == Some(0) {
            return Ok(ended);
        }
        Err(refusal(&ended.stderr, self.job).unwrap_or_else(|| {
            let fix = format!("git ls-remote {} shows whether it can be reached from here", self.job.repository);
            Trouble::new(Exit::Failed, format!("git {verb} failed"), fix)
        }))
    }

    async fn run(&self, words: &[&str], input: Option<SecretString>) -> Result<Ended, Trouble> {
        let mut arguments = vec![format!("--git-dir={}", self.folder.path().display())];
        arguments.extend(words.iter().map(|word| (*word).to_owned()));
        let environment = self.environment();
        let call = Call { program: "git", arguments, environment, input, shown: false };
        self.edge.programs.run(call).await.map_err(|_| none())
    }

    /// Configuration by environment: the credential, no other one in its place, and no way elsewhere with it.
    fn environment(&self) -> Vec<(&'static str, SecretString)> {
        let header = SecretString::from(format!("Authorization: {}", self.authorization.expose_secret()));
        vec![
            ("GIT_CONFIG_COUNT", "3".into()),
            ("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", self.job.repository).into()),
            ("GIT_CONFIG_VALUE_0", header),
            ("GIT_CONFIG_KEY_1", "credential.helper".into()),
            ("GIT_CONFIG_VALUE_1", "".into()),
            ("GIT_CONFIG_KEY_2", "http.followRedirects".into()),
            ("GIT_CONFIG_VALUE_2", "false".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("LC_ALL", "C".into()),
        ]
    }
}

/// A commit in the language of `git fast-import`, on top of `head`; `seconds` is its time.
fn import(reference: &str, head: Option<&str>, seconds: i64, message: &str, files: &[File]) -> String {
    let data = |text: &str| format!("data {}\n{text}\n", text.len());
    let from = head.map(|head| format!("from {head}\n")).unwrap_or_default();
    let files = files.iter().map(|(path, content)| format!("M 100644 inline {path}\n{}", data(content)));
    let files = files.collect::<Vec<_>>().concat();
    format!("commit {reference}\ncommitter flux-bearer <> {seconds} +0000\n{}{from}{files}", data(message))
}

/// What Git's own lines mean, be they of `git` or of `flux`. They quote the server, so they are read and not repeated.
pub(super) fn refusal(lines: &str, job: &Job<'_>) -> Option<Trouble> {
    let (repository, branch) = (job.repository, &job.tree.branch);
    let says = |parts: &[&str]| parts.iter().any(|part| lines.contains(part));
    if says(&["TF402455", "protected branch"]) {
        let cause = format!("a policy of branch {branch} forbids pushes without a pull request");
        let fix = "let who pushes bypass policies when pushing (Project settings, Repositories, Security) for this run, or \
                   take another branch with --branch";
        return Some(Trouble::new(Exit::Policy, cause, fix));
    }
    if says(&["TF401027"]) {
        let fix = "ask a project administrator for Contribute and Create branch on the repository";
        return Some(Trouble::new(Exit::Right, format!("the token may not push to {branch} of {repository}"), fix));
    }
    if says(&["fetch first", "non-fast-forward"]) {
        let cause = format!("somebody else has pushed to {branch} of {repository} at the same time");
        return Some(Trouble::new(Exit::Taken, cause, "run this again"));
    }
    None
}
