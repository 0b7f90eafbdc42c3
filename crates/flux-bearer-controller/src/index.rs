//! What is known: one lean entry a BearerToken, fed by watches, read by the decision.
//!
//! It is no cache of objects. An entry keeps what the decision looks at and drops the rest, which is what keeps ten thousand
//! of them in a few megabytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flux_bearer::decide::{CORRECTIONS, Correction, Probe, Request, Wanted};
use flux_bearer::failure::{Class, Failure};
use flux_bearer::flux::is_authentication_failure;
use flux_bearer::identity::{Identity, Pod};
use flux_bearer::repository::Repository;
use flux_bearer::resource::{BearerTokenSpec, BearerTokenStatus, Format};
use flux_bearer::schedule::Failing;
use flux_bearer::secret::{Held, Record, mortal, orphans};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name of an object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of this namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// What is known of one BearerToken.
#[derive(Debug)]
pub struct Entry {
    /// uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was created: the older of two that name one Secret keeps it.
    pub created: Timestamp,
    /// Name of the Secret that it serves.
    pub secret: Arc<str>,
    /// Name of the Secret that it filled last.
    pub served: Option<Arc<str>>,
    /// The spec, or why it can't be read.
    pub spec: Result<Box<BearerTokenSpec>, Failure>,
    /// What the spec asks for, with the repositories of the GitRepositories filled in.
    pub wanted: Result<Wanted, Failure>,
    /// The stored status.
    pub status: Box<BearerTokenStatus>,
    /// A refresh that was asked for.
    pub request: Option<Request>,
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
    pub writing: Option<Failing>,
    /// A run of statuses that could not be written.
    pub reporting: Option<Failing>,
    /// The latest changes of somebody else that were taken back, oldest first.
    pub corrections: Vec<Correction>,
    /// Whether failing GitRepositories deserve a nudge.
    pub nudge: bool,
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
    /// Its URL.
    pub url: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it fails for an authentication reason.
    pub failing: bool,
    /// uid, for events.
    pub uid: String,
}

impl Source {
    /// Reads a GitRepository; nothing when it uses no Secret.
    pub fn read(object: &serde_json::Value) -> Option<Self> {
        let text = |path: &str| object.pointer(path).and_then(serde_json::Value::as_str);
        let conditions = object.pointer("/status/conditions").and_then(serde_json::Value::as_array);
        let field = |condition: &serde_json::Value, name: &str| condition.get(name)?.as_str().map(str::to_owned);
        let ready = conditions.into_iter().flatten().find(|found| field(found, "type").as_deref() == Some("Ready"));
        let failing = ready.is_some_and(|ready| {
            let (reason, message) = (field(ready, "reason"), field(ready, "message"));
            field(ready, "status").as_deref() == Some("False")
                && is_authentication_failure(&reason.unwrap_or_default(), &message.unwrap_or_default())
        });
        Some(Self {
            secret: text("/spec/secretRef/name")?.into(),
            url: text("/spec/url").unwrap_or_default().to_owned(),
            suspended: object.pointer("/spec/suspend").and_then(serde_json::Value::as_bool).unwrap_or_default(),
            failing,
            uid: text("/metadata/uid").unwrap_or_default().to_owned(),
        })
    }
}

/// What is known of everything.
#[derive(Debug)]
pub struct Index {
    pod: Pod,
    entries: HashMap<Key, Entry>,
    /// The BearerTokens that name a Secret, by the Secret.
    secrets: HashMap<Key, Vec<Key>>,
    /// The GitRepositories of a namespace, by name.
    sources: HashMap<Arc<str>, BTreeMap<Arc<str>, Source>>,
    /// The BearerTokens that name another Secret than the one they filled, by that one.
    renamed: HashMap<Key, BTreeSet<Key>>,
    /// The Secrets that are not to outlast a BearerToken which is gone or names another one, by that BearerToken.
    orphans: HashMap<Key, BTreeSet<Arc<str>>>,
}

impl Index {
    /// Knows nothing yet.
    pub fn new(pod: Pod) -> Self {
        let (entries, secrets, sources, renamed, orphans) = Default::default();
        Self { pod, entries, secrets, sources, renamed, orphans }
    }

    /// What the controller's own pod brings along.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// The entry of `key`.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entry of `key`, to note what was done.
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// The keys of all entries.
    pub fn keys(&self) -> Vec<Key> {
        self.entries.keys().cloned().collect()
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Takes in a BearerToken; returns the keys that have to be looked at because of it.
    pub fn bearer_token(&mut self, key: &Key, seen: Seen, now: Timestamp) -> Vec<Key> {
        let (spec, status) = match seen.content {
            Ok((spec, status)) => (Ok(Box::new(spec)), status),
            Err(failure) => (Err(failure), BearerTokenStatus::default()),
        };
        let uid = seen.metadata.uid.unwrap_or_default();
        // An object of the same name that was made anew has nothing to do with the old one.
        let previous = self.entries.remove(key).filter(|entry| entry.uid == uid);
        let requested = seen.metadata.annotations.and_then(|mut all| all.remove(flux_bearer::flux::REQUESTED_AT));
        let request = request(requested, &status, previous.as_ref(), now);
        let mut entry = previous.unwrap_or_else(|| Entry::new(uid, status.secret.as_deref()));
        let generation = seen.metadata.generation.unwrap_or_default();
        if entry.generation != generation {
            entry.change_may_have_helped();
        }
        let entry = Entry {
            generation,
            created: seen.metadata.creation_timestamp.map_or(now, |time| time.0),
            wanted: Err(unread()),
            status: Box::new(status),
            spec,
            request,
            ..entry
        };
        self.entries.insert(key.clone(), entry);
        let mut woken = self.assign(key);
        self.resolve(key);
        woken.push(key.clone());
        woken
    }

    /// Finds the Secret that `key` serves; returns the keys that concerns, when it is another one than before.
    ///
    /// It is the one that the spec names. But one that it has filled goes on being served while a GitRepository reads it,
    /// or a commit that mistypes the name would be the last that Flux can pull.
    fn assign(&mut self, key: &Key) -> Vec<Key> {
        let Some(entry) = self.entries.get(key) else { return Vec::new() };
        let named: Arc<str> = match &entry.spec {
            Ok(spec) => spec.secret.name.as_deref().unwrap_or(&key.name).into(),
            // A spec that can't be read any more must not end the renewal of the Secret that it named before.
            Err(_) => entry.served.clone().unwrap_or_else(|| Arc::clone(&key.name)),
        };
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
            let secret = Key { namespace: Arc::clone(&key.namespace), name };
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
        let secret = Key { namespace: Arc::clone(&key.namespace), name: entry.secret };
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
        names.map(|name| Key { namespace: Arc::clone(&key.namespace), name }).collect()
    }

    /// Puts back what [`Self::take_orphans`] took, to be tried again.
    pub fn keep_orphan(&mut self, key: &Key, secret: &Key) {
        self.orphans.entry(key.clone()).or_default().insert(Arc::clone(&secret.name));
    }

    /// Takes in what a Secret's metadata says (`None`: it doesn't exist); returns the keys it concerns.
    pub fn secret(&mut self, secret: &Key, metadata: Option<&ObjectMeta>) -> Vec<Key> {
        let Some(keys) = self.secrets.get(secret).cloned() else { return self.unkept(secret, metadata) };
        for key in &keys {
            let lives = |name: &str| self.entries.contains_key(&Key::new(&secret.namespace, name));
            let held = Held::read(metadata, &key.name, lives);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.see(held);
            }
        }
        keys
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
            let secret = Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(&entry.secret) };
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
        let secrets = secrets.map(|name| Key { namespace: Arc::clone(&key.namespace), name });
        let secrets: Vec<Key> = secrets.collect();
        let renamed: Vec<Key> =
            secrets.iter().filter_map(|secret| self.renamed.get(secret)).flatten().cloned().collect();
        let mut keys: Vec<Key> = renamed.iter().flat_map(|key| self.assign(key)).chain(renamed.clone()).collect();
        keys.extend(secrets.iter().filter_map(|secret| self.secrets.get(secret)).flatten().cloned());
        keys.sort();
        keys.dedup();
        for key in &keys {
            self.resolve(key);
        }
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
        let keys = self.secrets.get(&Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(&entry.secret) })?;
        let age = |key: &&Key| self.entries.get(*key).map(|entry| (entry.created, entry.uid.clone()));
        keys.iter().min_by_key(age).filter(|oldest| *oldest != key)
    }

    /// Works out what the spec of `key` asks for.
    fn resolve(&mut self, key: &Key) {
        let Some(entry) = self.entries.get(key) else { return };
        let wanted = match &entry.spec {
            Ok(spec) => self.wanted(key, spec),
            Err(failure) => Err(failure.clone()),
        };
        if let Some(entry) = self.entries.get_mut(key) {
            entry.wanted = wanted;
        }
    }

    fn wanted(&self, key: &Key, spec: &BearerTokenSpec) -> Result<Wanted, Failure> {
        let identity = Identity::resolve(&spec.identity, &key.namespace, &self.pod)?;
        identity.check_allowed(&key.namespace, &self.pod)?;
        let formats = formats(spec);
        let mut repositories = Vec::new();
        for url in &spec.repositories {
            let repository = Repository::parse(url)?;
            repository.check_formats(&formats)?;
            repositories.push(repository);
        }
        let mut unsafe_repository = None;
        for (name, source) in self.sources(key) {
            let parsed = Repository::parse(&source.url).and_then(|found| found.check_formats(&formats).map(|()| found));
            match parsed {
                Ok(found) if spec.repositories.is_empty() => repositories.push(found),
                Ok(_) => {}
                Err(failure) => unsafe_repository = Some(of_source(name, failure)),
            }
        }
        repositories.sort();
        repositories.dedup();
        let (adopt, deletion_policy) = (spec.secret.adopt, spec.secret.deletion_policy);
        Ok(Wanted { identity, formats, repositories, unsafe_repository, adopt, deletion_policy })
    }

    /// Notes that `key` serves another Secret now; returns the keys that concerns.
    fn rename(&mut self, key: &Key, from: &Arc<str>, to: &Arc<str>) -> Vec<Key> {
        let of = |name: &Arc<str>| Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(name) };
        let mut others = Vec::new();
        if let Some(keys) = self.secrets.get_mut(&of(from)) {
            keys.retain(|other| other != key);
            others.clone_from(keys);
        }
        let keys = self.secrets.entry(of(to)).or_default();
        others.extend(keys.iter().filter(|other| *other != key).cloned());
        keys.retain(|other| other != key);
        keys.push(key.clone());
        others
    }
}

impl Entry {
    fn new(uid: String, served: Option<&str>) -> Self {
        Self {
            uid,
            generation: 0,
            created: Timestamp::UNIX_EPOCH,
            secret: "".into(),
            served: served.map(Arc::from),
            spec: Err(unread()),
            wanted: Err(unread()),
            status: Box::default(),
            request: None,
            held: Held::Unknown,
            former: None,
            unsure: false,
            probes: Vec::new(),
            probing: false,
            writing: None,
            reporting: None,
            corrections: Vec::new(),
            nudge: false,
        }
    }

    /// Takes in what the Secret's metadata says now.
    fn see(&mut self, held: Held) {
        if self.held != held && !matches!(self.held, Held::Unknown) {
            self.change_may_have_helped();
        }
        self.held = held;
        self.unsure = false;
        if self.held.record().is_some() {
            self.served = Some(Arc::clone(&self.secret));
            self.former = None;
        }
    }

    /// After a change of the Secret or of the spec, a write that only a change could help is tried again at once.
    fn change_may_have_helped(&mut self) {
        self.writing.take_if(|writing| matches!(writing.failure.class, Class::Permanent | Class::Starting));
    }

    /// Notes that a change of somebody else was taken back.
    pub fn corrected(&mut self, who: String, at: Timestamp) {
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

/// The keys that the spec asks for, sorted and once each.
fn formats(spec: &BearerTokenSpec) -> Vec<Format> {
    let mut formats = spec.secret.formats.clone();
    formats.sort();
    formats.dedup();
    if formats.is_empty() { vec![Format::Bearer] } else { formats }
}

fn of_source(name: &str, failure: Failure) -> Failure {
    Failure { cause: format!("GitRepository {name}: {}", failure.cause).into(), ..failure }
}

/// The request that is still to be answered; when it was first seen is kept.
fn request(
    value: Option<String>,
    status: &BearerTokenStatus,
    previous: Option<&Entry>,
    now: Timestamp,
) -> Option<Request> {
    let value = value.filter(|value| status.last_handled_reconcile_at.as_ref() != Some(value))?;
    let known = previous.and_then(|entry| entry.request.as_ref()).filter(|request| request.value == value);
    let handled = previous.is_some_and(|entry| entry.status.last_handled_reconcile_at.as_ref() == Some(&value));
    (!handled).then(|| known.cloned().unwrap_or(Request { value, seen_at: now }))
}
