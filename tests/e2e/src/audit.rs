//! What our controller asked of the API server, and what an administrator changed there, as the API server's own audit log
//! has it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// An audit log that is read as it grows. The API server begins a new file after 100 MB.
pub(crate) struct Tail {
    log: PathBuf,
    file: File,
    rest: Vec<u8>,
}

impl Tail {
    /// Begins at the log's present end.
    pub(crate) fn begin(log: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { log: log.to_owned(), file, rest: Vec::new() })
    }

    /// The controller's requests since the last call. A line that the API server's death cut off is none.
    pub(crate) fn entries(&mut self) -> anyhow::Result<Vec<Entry>> {
        self.file.read_to_end(&mut self.rest)?;
        if self.is_replaced()? {
            self.file = File::open(&self.log)?;
            self.file.read_to_end(&mut self.rest)?;
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let entries = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        Ok(entries.filter(|entry| entry.user.username != ADMINISTRATOR).collect())
    }

    fn is_replaced(&self) -> anyhow::Result<bool> {
        // Between two files there is none for a moment.
        let Ok(present) = std::fs::metadata(&self.log) else { return Ok(false) };
        Ok(present.ino() != self.file.metadata()?.ino())
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use std::io::Write as _;

    use super::*;

    fn append(log: &Path, text: &str) {
        File::options().create(true).append(true).open(log).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn line(uri: &str, user: &str) -> String {
        format!(
            r#"{{"verb":"get","requestURI":"{uri}","requestReceivedTimestamp":"t","user":{{"username":"{user}"}}}}"#
        ) + "\n"
    }

    fn uris(tail: &mut Tail) -> Vec<String> {
        tail.entries().unwrap().into_iter().map(|entry| entry.uri).collect()
    }

    #[test]
    fn a_tail_has_each_request_of_the_controller_once_through_a_rotation_and_a_line_that_is_written_by_halves() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        append(&log, &line("/before", "controller"));
        let mut tail = Tail::begin(&log).unwrap();
        append(&log, &(line("/one", "controller") + &line("/other", ADMINISTRATOR)));
        let half = line("/two", "controller");
        let (begun, rest) = half.split_at(20);
        append(&log, begun);
        assert_eq!(uris(&mut tail), ["/one"]);
        append(&log, rest);
        std::fs::rename(&log, folder.path().join("audit-1.log")).unwrap();
        assert_eq!(uris(&mut tail), ["/two"]);
        append(&log, &line("/three", "controller"));
        assert_eq!(uris(&mut tail), ["/three"]);
        assert_eq!(uris(&mut tail), [""; 0]);
    }
}
