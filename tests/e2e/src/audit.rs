//! What our controller asked of the API server, as the API server's own audit log has it.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// One request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    resource: String,
    subresource: Option<String>,
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
        let code = entry.response_status.as_ref().map(|status| status.code);
        self.forbidden += usize::from(code == Some(403));
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

/// The requests since `mark`.
pub(crate) fn since(log: &Path, mark: Mark) -> anyhow::Result<Requests> {
    let mut requests = Requests::default();
    for line in std::fs::read_to_string(log)?.lines().skip(mark.0) {
        requests.add(&serde_json::from_str(line).with_context(|| format!("no entry of an audit log: {line}"))?);
    }
    Ok(requests)
}
