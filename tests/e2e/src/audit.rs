//! What our controller asked of the API server, and what an administrator changed there, as the API server's own audit log
//! has it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// Under which name the API server notes the Pod that a token is bound to.
const POD: &str = "authentication.kubernetes.io/pod-name";

/// Who uses a test's kubeconfig: the test, its kubelet, and `flux-bearer`.
const ADMINISTRATOR: &str = "admin";

/// How `flux-bearer` calls itself.
const AGENT: &str = "flux-bearer/";

/// One request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// What it does.
    pub(crate) verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub(crate) uri: String,
    /// When it came, in microseconds: entries compare by it as texts.
    #[serde(rename = "requestReceivedTimestamp")]
    pub(crate) received: String,
    /// To what.
    pub(crate) object_ref: Option<Object>,
    response_status: Option<Status>,
    user: User,
    #[serde(default)]
    user_agent: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: u16,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// What a request is about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    /// In the plural.
    pub(crate) resource: String,
    /// A part of it.
    pub(crate) subresource: Option<String>,
    /// Its name; none for a list or watch of all.
    pub(crate) name: Option<String>,
}

impl Entry {
    /// The Pod that asked; none for a token that is bound to no Pod.
    pub(crate) fn pod(&self) -> Option<&str> {
        self.user.extra.get(POD)?.first().map(String::as_str)
    }

    /// The status of the answer, if there was one.
    pub(crate) fn code(&self) -> Option<u16> {
        self.response_status.as_ref().map(|status| status.code)
    }

    /// Whether it changed something.
    pub(crate) fn is_accepted_write(&self) -> bool {
        let reads = ["get", "list", "watch"];
        !reads.contains(&self.verb.as_str()) && self.code().is_some_and(|code| (200..300).contains(&code))
    }

    /// Whether it is about this kind.
    pub(crate) fn is_about(&self, resource: &str) -> bool {
        self.object_ref.as_ref().is_some_and(|object| object.resource == resource)
    }
}

/// Requests by what they were for. Those for the lease, which are as many with one BearerToken as with thousands, and
/// watches, which are told by what they cost, are left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    /// Secrets written.
    pub(crate) secret_writes: usize,
    /// Secrets read or listed.
    pub(crate) secret_reads: usize,
    /// Statuses of BearerTokens written.
    pub(crate) status_writes: usize,
    /// Events written.
    pub(crate) events: usize,
    /// GitRepositories asked to be looked at.
    pub(crate) nudges: usize,
    /// Those of any kind that RBAC refused.
    pub(crate) forbidden: usize,
    /// Anything else.
    pub(crate) others: usize,
}

impl Requests {
    /// Writes of all kinds.
    pub(crate) fn writes(&self) -> usize {
        self.secret_writes + self.status_writes + self.events + self.nudges
    }

    fn add(&mut self, entry: &Entry) {
        self.forbidden += usize::from(entry.code() == Some(403));
        let Some(object) = &entry.object_ref else {
            self.others += 1;
            return;
        };
        match (object.resource.as_str(), object.subresource.as_deref(), entry.verb.as_str()) {
            ("leases", ..) | (_, _, "watch") => {}
            ("secrets", _, "get" | "list") => self.secret_reads += 1,
            ("secrets", ..) => self.secret_writes += 1,
            ("bearertokens", Some("status"), _) => self.status_writes += 1,
            ("gitrepositories", _, "patch") => self.nudges += 1,
            ("events", ..) => self.events += 1,
            _ => self.others += 1,
        }
    }
}

/// A place in an audit log, from which requests are counted; by default its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark(usize);

/// The log's present end.
pub(crate) fn mark(log: &Path) -> anyhow::Result<Mark> {
    Ok(Mark(std::fs::read_to_string(log)?.lines().count()))
}

/// The requests since `mark`, counted.
pub(crate) fn since(log: &Path, mark: Mark) -> anyhow::Result<Requests> {
    let mut requests = Requests::default();
    entries(log, mark)?.iter().for_each(|entry| requests.add(entry));
    Ok(requests)
}

/// The controller's requests since `mark`, in the order of their answers.
pub(crate) fn entries(log: &Path, mark: Mark) -> anyhow::Result<Vec<Entry>> {
    let all = everybodys(log, mark)?.into_iter();
    Ok(all.filter(|entry| entry.user.username != ADMINISTRATOR).collect())
}

/// What `flux-bearer` changed since `mark`. A dry run changes nothing, and neither does asking what one may do.
pub(crate) fn changes(log: &Path, mark: Mark) -> anyhow::Result<Vec<Entry>> {
    let all = everybodys(log, mark)?.into_iter();
    let all = all.filter(|entry| entry.user.username == ADMINISTRATOR && entry.user_agent.starts_with(AGENT));
    let harmless = |entry: &Entry| entry.uri.contains("dryRun=All") || entry.is_about("selfsubjectaccessreviews");
    Ok(all.filter(|entry| entry.is_accepted_write() && !harmless(entry)).collect())
}

fn everybodys(log: &Path, mark: Mark) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(log)?;
    let read = |line| serde_json::from_str(line).with_context(|| format!("no entry of an audit log: {line}"));
    text.lines().skip(mark.0).map(read).collect()
}
