//! From what is known to an observation: the only place that knows both the index and the mints.

use std::sync::Arc;
use std::time::Duration;

use flux_bearer::decide::{Decision, Mint, Observed, decide};
use flux_bearer::identity::Identity;
use flux_bearer::secret::Record;
use jiff::Timestamp;

use crate::index::{Entry, Index, Key};
use crate::mints::{State, States};

/// Decides about `key`; `None` when it is gone.
pub fn decide_about(index: &Index, mints: &States, key: &Key, longest: Duration, now: Timestamp) -> Option<Decision> {
    let entry = index.get(key)?;
    let record = last_working(entry);
    let revoked = record.and_then(|record| record.identity.check_allowed(&key.namespace, index.pod()).err());
    let of = |identity: Option<&Arc<Identity>>| {
        identity.and_then(|identity| mints.get(identity)).map_or(Mint::default(), State::view)
    };
    let wanted = index.wanted(key, entry);
    let nudge = nudge(index, entry, key);
    let rival = index.rival(key);
    let observed = Observed {
        uid: &entry.uid,
        secret: &entry.secret,
        named: entry.named.as_deref().filter(|name| **name != *entry.secret),
        suspend: entry.suspend,
        wanted: wanted.as_ref().map_err(|failure| *failure),
        account: entry.account.as_deref().map(|account| &account.look),
        rival: rival.map(|rival| &*rival.name),
        held: &entry.held,
        former: entry.former.as_deref(),
        unsure: entry.unsure,
        mint: of(wanted.as_ref().ok().map(|wanted| &wanted.identity)),
        last_working: of(record.map(|record| &record.identity)),
        probes: &entry.probes,
        probing: entry.probing,
        revoked: revoked.as_ref(),
        writing: entry.writing.as_deref(),
        refused: entry.refused.as_deref(),
        corrections: &entry.corrections,
        request: entry.request.as_deref(),
        nudge: &nudge,
        longest,
    };
    Some(decide(&observed, now))
}

/// The GitRepositories to nudge: those that fail for want of a token, once it is there.
fn nudge(index: &Index, entry: &Entry, key: &Key) -> Vec<String> {
    if !entry.nudge {
        return Vec::new();
    }
    let failing = index.sources(key).filter(|(_, source)| source.failing && !source.suspended);
    failing.map(|(name, _)| name.to_string()).collect()
}

/// The identities that `entry` lives on: the wanted one and the one that filled the Secret.
pub fn identities(entry: &Entry) -> impl Iterator<Item = &Arc<Identity>> {
    let wanted = entry.asked.as_ref().ok().map(|asked| &asked.identity);
    wanted.into_iter().chain(last_working(entry).map(|record| &record.identity))
}

/// What is remembered of the identity that filled the Secret, or else the one that was named before.
fn last_working(entry: &Entry) -> Option<&Record> {
    entry.held.record().or(entry.former.as_deref())
}
