//! Which rights the controller has used in a run of the suite, beside the list of those that the design gives it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::audit::{self, Entry, Mark};

/// What the controller may ask for: verb, kind, name, and where that is decided. `*` is a name of somebody's choice, and
/// nothing a list or watch of all.
const ALLOWED: &[(&str, &str, &str, &str)] = &[
    ("list", "bearertokens", "", "Shape: what is known comes from watches"),
    ("watch", "bearertokens", "", "Shape: what is known comes from watches"),
    ("patch", "bearertokens/status", "*", "State: status is a copy of the Secret's annotations"),
    ("list", "gitrepositories", "", "The resource: their URLs are probed"),
    ("watch", "gitrepositories", "", "The resource: their URLs are probed"),
    ("patch", "gitrepositories", "*", "Flux: a GitRepository that failed is asked to look"),
    ("get", "secrets", "*", "Writes: metadata first; Rights: by name"),
    ("list", "secrets", "*", "Rights: watched by name, drift shows at once"),
    ("watch", "secrets", "*", "Rights: watched by name, drift shows at once"),
    ("list", "secrets", "", "Rights: open mode, by label"),
    ("watch", "secrets", "", "Rights: open mode, by label"),
    ("patch", "secrets", "*", "Writes: server-side apply, pinned; adoption's merge patch"),
    ("get", "bearertokens", "*", "Secrets: deletionPolicy Delete asks whether it is really gone"),
    ("delete", "secrets", "*", "Secrets: deletionPolicy Delete, where the Role has it"),
    ("get", "serviceaccounts", "*", "Identity: its annotations say whose token, read before each mint"),
    ("create", "serviceaccounts/token", "*", "Identity: TokenRequest, for Entra ID alone"),
    ("create", "events", "*", "Flux: events go to Kubernetes"),
    ("get", "leases", LEASE, "Rights: replicas"),
    ("create", "leases", LEASE, "Rights: replicas"),
    ("update", "leases", LEASE, "Rights: replicas"),
    ("get", "customresourcedefinitions", "bearertokens.flux-bearer.dev", "Bad input: found at the start"),
    ("get", "validatingadmissionpolicies", "flux-bearer-*", "Bad input: found at the start"),
    ("get", "validatingadmissionpolicybindings", "flux-bearer-*", "Bad input: found at the start"),
];

const LEASE: &str = "flux-bearer-controller-leader-election";

/// A right, as it is used.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Use {
    kind: String,
    verb: String,
    name: String,
    refused: bool,
}

/// All that were used, and how often.
#[derive(Debug, Default)]
pub(crate) struct Used(BTreeMap<Use, usize>);

impl Used {
    /// Adds what is in an audit log. What a test asks in the controller's name is not the controller's: only a Pod's token
    /// is bound to a Pod.
    pub(crate) fn add(&mut self, log: &Path) -> anyhow::Result<()> {
        for entry in audit::entries(log, Mark::default())?.iter().filter(|entry| entry.pod().is_some()) {
            *self.0.entry(Use::of(entry)).or_default() += 1;
        }
        Ok(())
    }

    /// Prints the table; returns whether every line is allowed.
    pub(crate) fn tell(&self) -> bool {
        println!("\nWhat the controller asked of the API server, and which line of the design has it:");
        for (used, count) in &self.0 {
            let Use { kind, verb, name, refused } = used;
            let (refused, source) = (if *refused { "refused" } else { "" }, used.source().unwrap_or("NOWHERE"));
            println!("{count:7}  {verb:6} {kind:33} {name:39} {refused:7}  {source}");
        }
        self.0.keys().all(|used| used.source().is_some())
    }
}

impl Use {
    fn of(entry: &Entry) -> Self {
        let (kind, name) = match &entry.object_ref {
            Some(object) => {
                let part = object.subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
                (
                    format!("{}{part}", object.resource),
                    shown(&object.resource, object.name.as_deref().unwrap_or_default()),
                )
            }
            None => (entry.uri.clone(), String::new()),
        };
        Self { kind, verb: entry.verb.clone(), name, refused: entry.code() == Some(403) }
    }

    fn source(&self) -> Option<&'static str> {
        let mine = |line: &&(&str, &str, &str, &str)| (line.0, line.1, line.2) == (&self.verb, &self.kind, &self.name);
        ALLOWED.iter().find(mine).map(|line| line.3)
    }
}

/// A name that somebody chose is shown as `*`; of our policies there are three.
fn shown(resource: &str, name: &str) -> String {
    match (resource, name) {
        (_, "") => String::new(),
        ("secrets" | "bearertokens" | "gitrepositories" | "events" | "serviceaccounts", _) => "*".to_owned(),
        (_, name) if name.starts_with("flux-bearer-") && resource.starts_with("validating") => {
            "flux-bearer-*".to_owned()
        }
        (_, name) => name.to_owned(),
    }
}
