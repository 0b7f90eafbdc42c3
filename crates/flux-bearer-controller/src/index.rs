//! What is known: one lean entry a BearerToken, fed by watches, read by the decision.
//!
//! It is no cache of objects. An entry keeps what the decision looks at and drops the rest, which is what keeps ten thousand
//! of them in a few megabytes.

mod account;
mod pool;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use flux_bearer::decide::{CORRECTIONS, Correction, Probe, Refused, Request, Wanted};
use flux_bearer::failure::{Class, Failure};
use flux_bearer::flux::is_authentication_failure;
use flux_bearer::identity::{Claims, Identity, Pod};
use flux_bearer::report::Stored;
use flux_bearer::repository::Repository;
use flux_bearer::resource::{BearerTokenSpec, BearerTokenStatus, DeletionPolicy, Format, StatusIdentity};
use flux_bearer::schedule::{Failing, moved};
use flux_bearer::secret::{Held, Record, mortal, orphans};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::account::Account;
use self::pool::Pool;
use crate::watch::Object;

/// Namespace and name of an object. One pointer, for each is in half a dozen collections; clones share the names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Arc<Names>);

/// What a [`Key`] is made of.
#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Names {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Deref for Key {
    type Target = Names;

    fn deref(&self) -> &Names {
        &self.0
    }
}

impl Key {
    /// The key of this namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(Arc::new(Names { namespace: namespace.into(), name: name.into() }))
    }

    /// The key of the object of this name in the same namespace.
    #[must_use]
    pub fn beside(&self, name: &Arc<str>) -> Self {
        if self.name == *name {
            return self.clone();
        }
        Self(Arc::new(Names { namespace: Arc::clone(&self.namespace), name: Arc::clone(name) }))
    }

    /// `name`, which often is the name of this very object and then is not kept twice.
    fn named(&self, name: &str) -> Arc<str> {
        if *self.name == *name { Arc::clone(&self.name) } else { name.into() }
    }
}

/// What is known of one BearerToken. What is rare is behind a pointer, and what can be worked out is not kept.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is known or noted by itself")]
pub struct Entry {
    /// uid.
    pub uid: Box<str>,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was created: the older of two that name one Secret keeps it.
    pub created: Timestamp,
    /// Name of the Secret that it serves.
    pub secret: Arc<str>,
    /// Name of the Secret that it filled last.
    pub served: Option<Arc<str>>,
    /// Name of the Secret that the spec names; nothing where the spec can't be read.
    pub named: Option<Arc<str>>,
    /// Whether the spec says to pause.
    pub suspend: bool,
    /// What the spec asks for, or why that can't be done.
    pub asked: Result<Asked, Box<Failure>>,
    /// The ServiceAccount that signs in, where the spec names one.
    pub account: Option<Box<Account>>,
    /// What is kept of the stored status.
    pub status: Stored,
    /// Whether this process last reported it ready; nothing before its first report.
    pub ready: Option<bool>,
    /// A refresh that was asked for.
    pub request: Option<Box<Request>>,
    /// What the Secret's metadata says, or said when it was last seen.
    pub held: Held,
    /// What the Secret that was named before remembered, until this one is filled.
    pub former: Option<Box<Record>>,
    /// Whether the Secret has to be looked at again: a write failed, or it may have changed unseen.
    pub unsure: bool,
    /// What the repositories said: to the token in the Secret, and to that of a new identity.
    pub probes: Vec<Probe>,
    /// Whether the repositories are being asked at this moment.
    pub probing: bool,
    /// A run of failed writes.
    pub writing: Option<Box<Failing>>,
    /// Other keys than the Secret has, which it can't have.
    pub refused: Option<Box<Refused>>,
    /// A run of statuses that could not be written.
    pub reporting: Option<Box<Failing>>,
    /// The latest changes of somebody else that were taken back, oldest first.
    pub corrections: Vec<Correction>,
    /// Whether failing GitRepositories deserve a nudge.
    pub nudge: bool,
}

/// What a spec asks for by itself, before the GitRepositories that use its Secret are looked at.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// The identity.
    pub identity: Arc<Identity>,
    formats: &'static [Format],
    repositories: Vec<Repository>,
    adopt: bool,
    deletion_policy: DeletionPolicy,
}

impl Asked {
    fn read(spec: &BearerTokenSpec, namespace: &str, pod: &Pod, claims: &Claims) -> Result<Self, Failure> {
        let identity = Identity::resolve(&spec.identity, namespace, pod, claims)?;
        identity.check_allowed(namespace, pod)?;
        let formats = Format::set(&spec.secret.formats);
        let mut repositories = Vec::with_capacity(spec.repositories.len());
        for url in &spec.repositories {
            let repository = Repository::parse(url)?;
            repository.check_formats(formats)?;
            repositories.push(repository);
        }
        let (adopt, deletion_policy) = (spec.secret.adopt, spec.secret.deletion_policy);
        Ok(Self { identity: Arc::new(identity), formats, repositories, adopt, deletion_policy })
    }
}

/// A BearerToken as the watch brings it.
#[derive(Debug)]
pub struct Seen {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its spec and status, or why they can't be read.
    pub content: Result<(BearerTokenSpec, BearerTokenStatus), Failure>,
}

/// What is known of one GitRepository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of the Secret it reads.
    pub secret: Arc<str>,
    /// Its repository, or why a token can't open it.
    pub repository: Result<Repository, Box<Failure>>,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it fails for an authentication reason.
    pub failing: bool,
    /// uid, for events.
    pub uid: Box<str>,
}

impl Source {
    /// Reads a GitRepository; nothing when it uses no Secret.
    pub fn read(object: &Object) -> Option<Self> {
        let text = |path: &str| object.spec.pointer(path).and_then(serde_json::Value::as_str);
        let conditions = object.status.get("conditions").and_then(serde_json::Value::as_array);
        let field = |condition: &serde_json::Value, name: &str| condition.get(name)?.as_str().map(str::to_owned);
        let ready = conditions.into_iter().flatten().find(|found| field(found, "type").as_deref() == Some("Ready"));
        let failing = ready.is_some_and(|ready| {
            let (reason, message) = (field(ready, "reason"), field(ready, "message"));
            field(ready, "status").as_deref() == Some("False")
                && is_authentication_failure(&reason.unwrap_or_default(), &message.unwrap_or_default())
        });
        Some(Self {
            secret: text("/secretRef/name")?.into(),
            repository: Repository::parse(text("/url").unwrap_or_default()).map_err(Box::new),
            suspended: object.spec.get("suspend").and_then(serde_json::Value::as_bool).unwrap_or_default(),
            failing,
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
        })
    }
}

/// What is known of everything.
#[derive(Debug)]
pub struct Index {
    pod: Pod,
    entries: HashMap<Key, Box<Entry>>,
    /// The BearerTokens that name a Secret, by the Secret.
    secrets: HashMap<Key, Vec<Key>>,
    /// The GitRepositories of a namespace, by name.
    sources: HashMap<Arc<str>, BTreeMap<Arc<str>, Source>>,
    /// The BearerTokens that name another Secret than the one they filled, by that one.
    renamed: HashMap<Key, BTreeSet<Key>>,
    /// The Secrets that are not to outlast a BearerToken which is gone or names another one, by that BearerToken.
    orphans: HashMap<Key, BTreeSet<Arc<str>>>,
    namespaces: Pool<str>,
    identities: Pool<Identity>,
    holders: Pool<StatusIdentity>,
}

impl Index {
    /// Knows nothing yet.
    pub fn new(pod: Pod) -> Self {
        let (entries, secrets, sources, renamed, orphans) = Default::default();
        let (namespaces, identities, holders) = Default::default();
        Self { pod, entries, secrets, sources, renamed, orphans, namespaces, identities, holders }
    }

    /// What the controller's own pod brings along.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The entry of `key`.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key).map(|entry| &**entry)
    }

    /// The entry of `key`, to note what was done.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key).map(|entry| &mut **entry)
    }

    /// The keys of all entries.
    pub fn keys(&self) -> Vec<Key> {
        self.entries.keys().cloned().collect()
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key, &**entry))
    }

    /// The clock was set by `step`: what happened, and what is waited for, is dated anew. Otherwise a pause of seconds would
    /// last for as long as the clock was set back.
    pub fn follow(&mut self, step: SignedDuration) {
        self.entries.values_mut().for_each(|entry| entry.follow(step));
    }

    /// Lets go of what was shared and nobody uses any more.
    pub fn tidy(&mut self) {
        self.namespaces.tidy();
        self.identities.tidy();
        self.holders.tidy();
    }

    /// Takes in a BearerToken; returns the keys that have to be looked at because of it: none where it is our own status that
    /// comes back.
    pub fn bearer_token(&mut self, key: &Key, seen: Seen, now: Timestamp) -> Vec<Key> {
        let key = &self.canonical(key);
        let uid = seen.metadata.uid.unwrap_or_default();
        // An object of the same name that was made anew has nothing to do with the old one.
        let anew = self.entries.get(key).is_some_and(|entry| *entry.uid != *uid);
        let mut woken = if anew { self.bearer_token_gone(key) } else { Vec::new() };
        let (spec, status) = match seen.content {
            Ok((spec, status)) => (Ok(spec), status),
            Err(failure) => (Err(failure), BearerTokenStatus::default()),
        };
        let (named, suspend) = match &spec {
            Ok(spec) => (Some(key.named(spec.secret.name.as_deref().unwrap_or(&key.name))), spec.suspend),
            Err(_) => (None, false),
        };
        let (account, asked) = match spec {
            Ok(spec) => {
                let account = self.account(key, &spec);
                let asked = self.ask(key, &spec, account.as_ref());
                (account.map(Box::new), asked)
            }
            Err(failure) => (None, Err(Box::new(failure))),
        };
        let mut news = !self.entries.contains_key(key);
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Box::new(Entry::new(key, uid, &status)));
        let requested = seen.metadata.annotations.and_then(|mut all| all.remove(flux_bearer::flux::REQUESTED_AT));
        let request = request(requested, &status, entry, now).map(Box::new);
        let generation = seen.metadata.generation.unwrap_or_default();
        if entry.generation != generation {
            entry.change_may_have_helped();
        }
        news |= entry.generation != generation || entry.request != request || !entry.status.is(&status);
        news |= entry.named != named || entry.suspend != suspend || entry.asked != asked;
        (entry.generation, entry.request, entry.status) = (generation, request, Stored::of(&status, &key.name));
        (entry.named, entry.suspend, entry.asked, entry.account) = (named, suspend, asked, account);
        entry.created = seen.metadata.creation_timestamp.map_or(now, |time| time.0);
        woken.extend(self.assign(key));
        woken.extend(news.then(|| key.clone()));
        woken
    }

    /// The key as it is kept: each of its texts once, however often it is brought.
    fn canonical(&mut self, key: &Key) -> Key {
        if let Some((known, _)) = self.entries.get_key_value(key) {
            return known.clone();
        }
        let namespace = self.namespaces.share(&key.namespace);
        Key(Arc::new(Names { namespace, name: Arc::clone(&key.name) }))
    }

    /// Finds the Secret that `key` serves; returns the keys that concerns, when it is another one than before.
    ///
    /// It is the one that the spec names. But one that it has filled goes on being served while a GitRepository reads it,
    /// or a commit that mistypes the name would be the last that Flux can pull.
    fn assign(&mut self, key: &Key) -> Vec<Key> {
        let Some(entry) = self.entries.get(key) else { return Vec::new() };
        // A spec that can't be read any more must not end the renewal of the Secret that it named before.
        let named = entry.named.as_ref().or(entry.served.as_ref()).unwrap_or(&key.name);
        let named = Arc::clone(named);
        let renamed = entry.served.clone().filter(|served| *served != named);
        let kept = renamed.clone().filter(|served| self.is_read(&key.namespace, served));
        self.note_renamed(key, renamed);
        self.serve(key, &kept.unwrap_or(named))
    }

    /// Notes which Secret, once filled by `key`, is no longer the one that it names: a GitRepository that begins or ends
    /// to read it changes which of the two is served.
    fn note_renamed(&mut self, key: &Key, from: Option<Arc<str>>) {
        self.renamed.retain(|_, keys| {
            keys.remove(key);
            !keys.is_empty()
        });
        if let Some(name) = from {
            let secret = key.beside(&name);
            self.renamed.entry(secret).or_default().insert(key.clone());
        }
    }

    /// Whether a GitRepository reads this Secret.
    fn is_read(&self, namespace: &str, secret: &str) -> bool {
        self.sources.get(namespace).is_some_and(|all| all.values().any(|source| *source.secret == *secret))
    }

    /// Lets `key` serve this Secret from now on; returns the keys that concerns.
    fn serve(&mut self, key: &Key, secret: &Arc<str>) -> Vec<Key> {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.secret != *secret) else { return Vec::new() };
        let before = std::mem::replace(&mut entry.secret, Arc::clone(secret));
        let held = std::mem::take(&mut entry.held);
        let record = held.record().cloned();
        entry.former = record.clone().map(Box::new).or_else(|| entry.former.take());
        if record.is_some_and(|record| orphans(&record, &key.name)) {
            self.orphans.entry(key.clone()).or_default().insert(Arc::clone(&before));
        }
        self.rename(key, &before, secret)
    }

    /// Forgets a BearerToken; returns the keys that have to be looked at because of it.
    pub fn bearer_token_gone(&mut self, key: &Key) -> Vec<Key> {
        let Some(entry) = self.entries.remove(key) else { return Vec::new() };
        self.note_renamed(key, None);
        if entry.held.record().is_some_and(|record| orphans(record, &key.name)) {
            self.orphans.entry(key.clone()).or_default().insert(Arc::clone(&entry.secret));
        }
        let secret = key.beside(&entry.secret);
        let Some(keys) = self.secrets.get_mut(&secret) else { return Vec::new() };
        keys.retain(|other| other != key);
        let mut woken = keys.clone();
        if woken.is_empty() {
            self.secrets.remove(&secret);
        }
        // Whoever was refused because of it may have the Secret now.
        for other in &woken {
            if let Some(entry) = self.entries.get_mut(other) {
                entry.held = Held::Unknown;
            }
        }
        woken.extend(self.orphans.contains_key(key).then(|| key.clone()));
        woken
    }

    /// The Secrets that are not to outlast `key`, once it is gone, or serves another one that is filled.
    pub fn take_orphans(&mut self, key: &Key) -> Vec<Key> {
        let entry = self.entries.get(key);
        if entry.is_some_and(|entry| entry.held.record().is_none()) {
            return Vec::new();
        }
        let names = self.orphans.remove(key).into_iter().flatten();
        let names = names.filter(|name| entry.is_none_or(|entry| entry.secret != *name));
        names.map(|name| key.beside(&name)).collect()
    }

    /// Puts back what [`Self::take_orphans`] took, to be tried again.
    pub fn keep_orphan(&mut self, key: &Key, secret: &Key) {
        self.orphans.entry(key.clone()).or_default().insert(Arc::clone(&secret.name));
    }

    /// Takes in what a Secret's metadata says (`None`: it doesn't exist); returns the keys to which it is news.
    pub fn secret(&mut self, secret: &Key, metadata: Option<&ObjectMeta>) -> Vec<Key> {
        let Some(keys) = self.secrets.get(secret).cloned() else { return self.unkept(secret, metadata) };
        let mut woken = Vec::new();
        for key in keys {
            let lives = |name: &str| self.entries.contains_key(&Key::new(&secret.namespace, name));
            let held = Held::read(metadata, &key.name, lives);
            let held = self.shared(&key, held);
            let news = self.entries.get_mut(&key).is_some_and(|entry| entry.see(held));
            woken.extend(news.then_some(key));
        }
        woken
    }

    /// The same with every text that is kept already.
    fn shared(&mut self, key: &Key, mut held: Held) -> Held {
        if let Held::Ours { record: Some(record), .. } = &mut held {
            record.bearer_token = key.named(&record.bearer_token);
            record.identity = self.identities.share(&record.identity);
            record.holder = self.holders.share(&record.holder);
        }
        held
    }

    /// A Secret that no BearerToken names: from before the controller's start, perhaps, and not to outlast one that is gone.
    fn unkept(&mut self, secret: &Key, metadata: Option<&ObjectMeta>) -> Vec<Key> {
        let Some(name) = metadata.and_then(mortal) else { return Vec::new() };
        let key = Key::new(&secret.namespace, &name);
        self.keep_orphan(&key, secret);
        vec![key]
    }

    /// After a complete list of our Secrets: what is held to be ours and was not listed has to be looked at again.
    pub fn secrets_listed(&mut self, listed: &std::collections::HashSet<Key>) -> Vec<Key> {
        let mut missing = Vec::new();
        for (key, entry) in &mut self.entries {
            let secret = key.beside(&entry.secret);
            if matches!(entry.held, Held::Ours { .. }) && !listed.contains(&secret) {
                entry.unsure = true;
                missing.push(key.clone());
            }
        }
        missing
    }

    /// Has a Secret looked at again that is held to be ours and may not be; returns the keys it concerns.
    pub fn doubt(&mut self, secret: &Key) -> Vec<Key> {
        let mut keys = self.secrets.get(secret).cloned().unwrap_or_default();
        keys.retain(|key| {
            let entry = self.entries.get_mut(key).filter(|entry| matches!(entry.held, Held::Ours { .. }));
            entry.map(|entry| entry.unsure = true).is_some()
        });
        keys
    }

    /// Whether a BearerToken names this Secret.
    pub fn is_named(&self, secret: &Key) -> bool {
        self.secrets.get(secret).is_some_and(|keys| !keys.is_empty())
    }

    /// Takes in a GitRepository (`None`: it is gone, or uses no Secret); returns the keys it concerns.
    pub fn source(&mut self, key: &Key, source: Option<Source>) -> Vec<Key> {
        let sources = self.sources.entry(Arc::clone(&key.namespace)).or_default();
        let before = match &source {
            Some(source) => sources.insert(Arc::clone(&key.name), source.clone()),
            None => sources.remove(&key.name),
        };
        if before == source {
            return Vec::new();
        }
        let secrets = [before, source].into_iter().flatten().map(|source| source.secret);
        let secrets: Vec<Key> = secrets.map(|name| key.beside(&name)).collect();
        let renamed: Vec<Key> =
            secrets.iter().filter_map(|secret| self.renamed.get(secret)).flatten().cloned().collect();
        let mut keys: Vec<Key> = renamed.iter().flat_map(|key| self.assign(key)).chain(renamed.clone()).collect();
        keys.extend(secrets.iter().filter_map(|secret| self.secrets.get(secret)).flatten().cloned());
        keys.sort();
        keys.dedup();
        keys
    }

    /// The GitRepositories that use the Secret of `key`.
    pub fn sources(&self, key: &Key) -> impl Iterator<Item = (&Arc<str>, &Source)> {
        let secret = self.entries.get(key).map(|entry| &entry.secret);
        let all = self.sources.get(&key.namespace).into_iter().flatten();
        all.filter(move |(_, source)| secret == Some(&source.secret))
    }

    /// The BearerToken that keeps the Secret of `key` because it is older.
    pub fn rival(&self, key: &Key) -> Option<&Key> {
        let entry = self.entries.get(key)?;
        let keys = self.secrets.get(&key.beside(&entry.secret))?;
        let age = |key: &&Key| self.entries.get(*key).map(|entry| (entry.created, &*entry.uid));
        keys.iter().min_by_key(age).filter(|oldest| *oldest != key)
    }

    /// What `entry`, which is that of `key`, asks for, with the repositories of the GitRepositories beside its own.
    pub fn wanted<'a>(&self, key: &Key, entry: &'a Entry) -> Result<Wanted, &'a Failure> {
        let asked = entry.asked.as_ref().map_err(|failure| &**failure)?;
        let formats = asked.formats;
        let mut repositories = asked.repositories.clone();
        let mut unsafe_repository = None;
        for (name, source) in self.sources(key) {
            let checked = match &source.repository {
                Ok(found) => {
                    repositories.push(found.clone());
                    found.check_source(formats)
                }
                Err(failure) => Err(Failure::clone(failure)),
            };
            if let Err(failure) = checked {
                unsafe_repository = Some(of_source(name, failure));
            }
        }
        repositories.sort();
        repositories.dedup();
        let (identity, adopt, deletion_policy) = (Arc::clone(&asked.identity), asked.adopt, asked.deletion_policy);
        Ok(Wanted { identity, formats, repositories, unsafe_repository, adopt, deletion_policy })
    }

    /// Notes that `key` serves another Secret now; returns the keys that concerns.
    fn rename(&mut self, key: &Key, from: &Arc<str>, to: &Arc<str>) -> Vec<Key> {
        let mut others = Vec::new();
        if let Some(keys) = self.secrets.get_mut(&key.beside(from)) {
            keys.retain(|other| other != key);
            others.clone_from(keys);
        }
        // Most Secrets are named by one.
        let keys = self.secrets.entry(key.beside(to)).or_insert_with(|| Vec::with_capacity(1));
        others.extend(keys.iter().filter(|other| *other != key).cloned());
        keys.retain(|other| other != key);
        keys.push(key.clone());
        others
    }
}

impl Entry {
    fn new(key: &Key, uid: String, status: &BearerTokenStatus) -> Self {
        Self {
            uid: uid.into(),
            generation: 0,
            created: Timestamp::UNIX_EPOCH,
            secret: "".into(),
            served: status.secret.as_deref().map(|name| key.named(name)),
            named: None,
            suspend: false,
            asked: Err(Box::new(unread())),
            account: None,
            status: Stored::of(status, &key.name),
            ready: None,
            request: None,
            held: Held::Unknown,
            former: None,
            unsure: false,
            probes: Vec::new(),
            probing: false,
            writing: None,
            refused: None,
            reporting: None,
            corrections: Vec::new(),
            nudge: false,
        }
    }

    /// Takes in what the Secret's metadata says now; returns whether that is news.
    fn see(&mut self, held: Held) -> bool {
        let changed = self.held != held;
        if changed && !matches!(self.held, Held::Unknown) {
            self.change_may_have_helped();
        }
        let news = changed || self.unsure;
        self.held = held;
        self.unsure = false;
        if self.held.record().is_some() {
            self.served = Some(Arc::clone(&self.secret));
            self.former = None;
        }
        news
    }

    fn follow(&mut self, step: SignedDuration) {
        let looking = self.account.as_deref_mut().and_then(|account| account.look.failing.as_mut());
        let failing = [&mut self.writing, &mut self.reporting].into_iter().flatten().map(|failing| &mut **failing);
        let refused = self.refused.as_deref_mut().map(|refused| &mut refused.failing);
        failing.chain(looking).chain(refused).for_each(|failing| failing.follow(step));
        let request = self.request.as_deref_mut().map(|request| &mut request.seen_at);
        let probes = self.probes.iter_mut().map(|probe| &mut probe.at);
        let corrections = self.corrections.iter_mut().map(|correction| &mut correction.at);
        request.into_iter().chain(probes).chain(corrections).for_each(|time| *time = moved(*time, step));
    }

    /// After a change of the Secret or of the spec, a write that only a change could help is tried again at once.
    fn change_may_have_helped(&mut self) {
        self.writing.take_if(|writing| matches!(writing.failure.class, Class::Permanent | Class::Starting));
        self.refused = None;
    }

    /// Notes that a change of somebody else was taken back.
    pub fn corrected(&mut self, who: Box<str>, at: Timestamp) {
        self.corrections.push(Correction { at, who });
        let excess = self.corrections.len().saturating_sub(CORRECTIONS);
        self.corrections.drain(..excess);
    }
}

/// The failure of a BearerToken that can't be read: made for another version of its definition.
pub fn unread() -> Failure {
    Failure::new(
        "InvalidSpec",
        Class::Permanent,
        "InvalidSpec",
        "the BearerToken can't be read; it was written for another version of its definition",
        "kubectl explain bearertoken.spec, and apply deploy/crd/bearertokens.yaml of the controller's version",
    )
}

fn of_source(name: &str, failure: Failure) -> Failure {
    Failure { cause: format!("GitRepository {name}: {}", failure.cause).into(), ..failure }
}

/// The request that is still to be answered; when it was first seen is kept.
fn request(value: Option<String>, status: &BearerTokenStatus, entry: &Entry, now: Timestamp) -> Option<Request> {
    let value = value.filter(|value| status.last_handled_reconcile_at.as_ref() != Some(value))?;
    let known = entry.request.as_deref().filter(|request| *request.value == *value);
    let handled = entry.status.handled() == Some(&*value);
    (!handled).then(|| known.cloned().unwrap_or(Request { value: value.into(), seen_at: now }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("ns", "fleet")
    }

    /// The BearerToken `fleet` with this uid, which names this Secret.
    fn see(index: &mut Index, uid: &str, secret: &str) -> Vec<Key> {
        let metadata = ObjectMeta { uid: Some(uid.into()), ..ObjectMeta::default() };
        let mut spec = BearerTokenSpec::default();
        spec.secret.name = Some(secret.into());
        let seen = Seen { metadata, content: Ok((spec, BearerTokenStatus::default())) };
        index.bearer_token(&key(), seen, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_known_already_wakes_nobody() {
        let mut index = Index::new(Pod::default());
        assert_eq!(see(&mut index, "u", "a"), [key()]);
        assert_eq!(see(&mut index, "u", "a"), []);
        assert_eq!(see(&mut index, "u", "b"), [key()]);
        let secret = Key::new("ns", "b");
        assert_eq!(index.secret(&secret, None), [key()]);
        assert_eq!(index.secret(&secret, None), []);
        let version = |version: &str| ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() };
        assert_eq!(index.secret(&secret, Some(&version("1"))), [key()]);
        assert_eq!(index.secret(&secret, Some(&version("1"))), []);
        index.get_mut(&key()).unwrap().unsure = true;
        assert_eq!(index.secret(&secret, Some(&version("1"))), [key()], "it had to be looked at");
    }

    #[test]
    fn one_that_was_made_anew_unseen_serves_its_own_secret_only() {
        let mut index = Index::new(Pod::default());
        see(&mut index, "old", "a");
        see(&mut index, "new", "b");
        assert_eq!(&*index.get(&key()).unwrap().secret, "b");
        assert!(!index.is_named(&Key::new("ns", "a")));
        assert!(index.is_named(&Key::new("ns", "b")));
    }

    #[test]
    fn a_key_is_kept_once_however_often_it_is_brought() {
        let mut index = Index::new(Pod::default());
        see(&mut index, "u", "fleet");
        see(&mut index, "u", "fleet");
        let (key, entry) = index.iter().next().unwrap();
        assert!(Arc::ptr_eq(&key.name, &entry.secret));
        let (secret, keys) = index.secrets.iter().next().unwrap();
        assert!(Arc::ptr_eq(&secret.name, &key.name) && keys.iter().all(|kept| Arc::ptr_eq(&kept.name, &key.name)));
    }
}
