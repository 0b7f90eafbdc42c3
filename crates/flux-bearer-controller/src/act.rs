//! Does what was decided: looks, mints, writes, probes, nudges, and reports once there is nothing left to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::decide::{Action, Decision, Probe, Refused, Takes, Write, lifetime};
use flux_bearer::failure::kubernetes::is_farewell;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::Identity;
use flux_bearer::report::{self, Report, Stored, is_ready};
use flux_bearer::repository::Repository;
use flux_bearer::resource::{BearerTokenStatus, Format};
use flux_bearer::schedule::{Failing, is_usable};
use flux_bearer::secret::{Held, Record, Release, Version, cleaning, field_manager, manifest, release, sole_manager};
use flux_bearer::token::Token;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::events;
use crate::index::{Entry, Index, Key};
use crate::kubernetes::Kubernetes;
use crate::lease::Leadership;
use crate::lock;
use crate::metrics::Metrics;
use crate::mints::Mints;
use crate::notifications::Outbox;
use crate::observe::{decide_about, identities};
use crate::queue::Queue;
use crate::repositories::Repositories;
use crate::watch::secrets::Sight;

/// Steps that one BearerToken may take in a row. From nothing to filled takes five; more means that something is contested.
const MAX_STEPS: usize = 16;

/// Longest pause between two writes that fail by themselves: the token waits in memory, and an API server that is back
/// should have it at once. A sixtieth of this is the cap of the backoff.
const WRITE_BACKOFF: Duration = Duration::from_secs(300);

/// When a Secret that could not be let go is tried again.
const RELEASE_AGAIN: Duration = Duration::from_secs(60);

/// When work that has to pause is gone on with: on a Secret that is contested, or for want of the lease.
const GO_ON: Duration = Duration::from_secs(5);

/// Everything that the loop works with.
pub struct Loop {
    /// What is known.
    pub index: Arc<Mutex<Index>>,
    /// What is due.
    pub queue: Arc<Queue>,
    /// The tokens.
    pub mints: Arc<Mints>,
    /// The Kubernetes API.
    pub kubernetes: Kubernetes,
    /// The way to the repositories.
    pub repositories: Repositories,
    /// The probes under way.
    pub probes: Mutex<JoinSet<()>>,
    /// Wall time.
    pub clock: Clock,
    /// Until when this process may write.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Metrics,
    /// Longest time between two refreshes.
    pub longest: Duration,
    /// Name of this process, for events.
    pub instance: String,
    /// Events on their way to notification-controller.
    pub outbox: Outbox,
    /// Which Secrets a watch tells of.
    pub sight: Sight,
}

impl Loop {
    /// Works on `key` until there is nothing left to do; returns when to look again.
    pub async fn work(self: &Arc<Self>, key: &Key) -> Option<Instant> {
        // A Secret of somebody else is not watched: each time it is looked at anew.
        if let Some(entry) = lock(&self.index).get_mut(key) {
            entry.unsure |= matches!(entry.held, Held::Foreign { .. });
        }
        for _ in 0..MAX_STEPS {
            if !self.leadership.may_write() {
                // A renewal may be on its way, and then nobody else would do this work.
                return Some(Instant::now() + GO_ON);
            }
            let Some(decision) = self.decide(key) else { return self.release(key).await };
            if matches!(decision.action, Action::Rest) {
                return self.rest(key, decision).await;
            }
            self.act(key, decision.action).await;
        }
        tracing::warn!(namespace = &*key.namespace, name = &*key.name, "the Secret is contested; going on later");
        Some(Instant::now() + GO_ON)
    }

    fn decide(&self, key: &Key) -> Option<Decision> {
        let mut index = lock(&self.index);
        let lives_on = identities(index.get(key)?);
        let now = self.clock.now();
        let decision = self.mints.look(key, lives_on, |mints| decide_about(&index, mints, key, self.longest, now))?;
        if matches!(decision.action, Action::Rest) {
            // Nobody was there to be nudged: whoever fails later fails for another reason. Said in the moment of the
            // decision, so that an occasion that comes a moment later is not lost.
            let entry = index.get_mut(key)?;
            entry.nudge = false;
            // Whoever signs in later looks at the ServiceAccount anew.
            if let Some(account) = &mut entry.account {
                account.look.fresh = false;
            }
        }
        Some(decision)
    }

    async fn act(self: &Arc<Self>, key: &Key, action: Action) {
        match action {
            Action::Rest => {}
            Action::Look => self.look(key).await,
            Action::Introduce => self.introduce(key).await,
            Action::Mint(identity) => {
                let at_stake = lock(&self.index).get(key).and_then(|entry| lifetime(&entry.held));
                self.mints.start(&identity, at_stake);
            }
            Action::Write(write) => self.write(key, write).await,
            Action::Clean(formats) => self.clean(key, formats).await,
            Action::Probe(identity, token) => self.start_probe(key, identity, token),
            Action::Nudge => self.nudge(key).await,
        }
    }

    async fn look(&self, key: &Key) {
        let Some(secret) = self.secret_of(key) else { return };
        match self.kubernetes.secret_metadata(&secret).await {
            Ok(metadata) => {
                lock(&self.index).secret(&secret, metadata.as_ref());
                self.sight.looked_at(&secret);
            }
            Err(failure) => self.write_failed(key, failure),
        }
    }

    /// Reads the ServiceAccount that the spec names.
    async fn introduce(&self, key: &Key) {
        let named = |entry: &Entry| Some(entry.account.as_deref()?.name.clone());
        let Some(account) = lock(&self.index).get(key).and_then(named) else { return };
        let found = self.kubernetes.account(&key.beside(&Arc::from(&*account))).await;
        if let Err(failure) = &found {
            tracing::warn!(
                namespace = &*key.namespace,
                name = &*key.name,
                reason = failure.reason,
                error = %failure,
                "ServiceAccount not read"
            );
        }
        lock(&self.index).introduce(key, &account, found, self.clock.now());
    }

    async fn write(&self, key: &Key, write: Write) {
        let Some((secret, generation, version)) = self.target(key) else { return };
        if let (Takes::Over, Some(version)) = (&write.takes, &version) {
            // What it would be in the end is tried first: a Secret that can't be rid of a credential is left as it is.
            let shape = cleaning(version, write.formats, true);
            if let Err(failure) = self.kubernetes.try_secret(&secret, &shape).await {
                return self.write_failed(key, failure);
            }
        }
        let due = lock(&self.index).get(key).and_then(|entry| Some(entry.held.record()?.refresh_at));
        let record = Record {
            bearer_token: Arc::clone(&key.name),
            generation,
            identity: Arc::clone(&write.identity),
            holder: Arc::clone(&write.token.holder),
            formats: write.formats,
            issued_at: write.token.issued_at,
            refresh_at: write.refresh_at,
            expires_at: write.token.expires_at,
            credential_expires_at: write.token.credential_expires_at,
            fingerprint: write.token.fingerprint.clone(),
            made: write.made,
            deletion_policy: write.deletion_policy,
        };
        let Some(body) = manifest(&secret.namespace, &secret.name, version.as_ref(), &write.token, &record) else {
            return;
        };
        let manager = field_manager(&key.name);
        match self.kubernetes.apply_secret(&secret, &manager, write.force, &body).await {
            // An apply can't be pinned to absence: somebody has made this Secret since we looked.
            Ok((metadata, false)) if version.is_none() && !sole_manager(&metadata, &key.name) => {
                self.withdraw(key, &secret, &metadata).await;
            }
            Ok((metadata, _)) => {
                self.take_secret(key, &secret, &metadata);
                self.count_write(due);
                self.written(key, &record, &write).await;
            }
            Err(failure) if failure.class == Class::Permanent && self.has_other_keys(key, write.formats) => {
                self.keys_refused(key, write.formats, failure);
            }
            Err(failure) => self.write_failed(key, failure),
        }
    }

    /// Takes our keys out of a Secret that turned out to be somebody else's, and looks at it again.
    async fn withdraw(&self, key: &Key, secret: &Key, metadata: &ObjectMeta) {
        tracing::warn!(
            namespace = &*key.namespace,
            name = &*key.name,
            "somebody else made the Secret meanwhile: withdrawn"
        );
        match self.kubernetes.give_up_secret(secret, &key.name, &Version::of(metadata)).await {
            Ok(()) => {
                if let Some(entry) = lock(&self.index).get_mut(key) {
                    entry.unsure = true;
                }
            }
            Err(failure) => self.write_failed(key, failure),
        }
    }

    /// Rids an adopted Secret of the credentials of others.
    async fn clean(&self, key: &Key, formats: &[Format]) {
        let Some((secret, _, Some(version))) = self.target(key) else { return };
        let whose = lock(&self.index).get(key).and_then(|entry| match &entry.held {
            Held::Ours { leftovers, .. } => leftovers.clone(),
            _ => None,
        });
        let patch = cleaning(&version, formats, false);
        match self.kubernetes.patch_secret(&secret, &field_manager(&key.name), &patch).await {
            Ok(metadata) => {
                self.take_secret(key, &secret, &metadata);
                let whose = whose.unwrap_or_default();
                tracing::info!(
                    namespace = &*key.namespace,
                    name = &*key.name,
                    whose = &*whose,
                    "credentials of others removed"
                );
                if let Some(entry) = lock(&self.index).get_mut(key) {
                    entry.corrected(whose, self.clock.now());
                }
            }
            Err(failure) => self.write_failed(key, failure),
        }
    }

    /// Takes in what a write of ours has made of the Secret.
    fn take_secret(&self, key: &Key, secret: &Key, metadata: &ObjectMeta) {
        let woken = lock(&self.index).secret(secret, Some(metadata));
        woken.iter().filter(|other| *other != key).for_each(|other| self.queue.wake(other));
    }

    fn target(&self, key: &Key) -> Option<(Key, i64, Option<Version>)> {
        let index = lock(&self.index);
        let entry = index.get(key)?;
        let version = match &entry.held {
            Held::Ours { version, .. } => Some(version.clone()),
            Held::Foreign { version, .. } => version.clone(),
            Held::Unknown | Held::Absent => None,
        };
        Some((key.beside(&entry.secret), entry.generation, version))
    }

    async fn written(&self, key: &Key, record: &Record, write: &Write) {
        let now = self.clock.now();
        tracing::info!(
            namespace = &*key.namespace,
            name = &*key.name,
            fingerprint = &*record.fingerprint,
            expires = %record.expires_at,
            refresh = %record.refresh_at,
            takes = ?write.takes,
            "Secret written"
        );
        let Some((secret, uid)) = self.note_write(key, write, now) else { return };
        if let Some(event) = report::of_write(&secret, write) {
            events::publish(self, key, &uid, &[], &event).await;
        }
    }

    /// Counts a write of a Secret whose token was `due` to be replaced, if there was one.
    fn count_write(&self, due: Option<Timestamp>) {
        self.metrics.written();
        // One that is replaced before its time, for another identity or on request, is not late.
        let late = due.and_then(|due| Duration::try_from(self.clock.now().duration_since(due)).ok());
        if let Some(late) = late {
            self.metrics.refreshed(late);
        }
    }

    fn note_write(&self, key: &Key, write: &Write, now: Timestamp) -> Option<(Arc<str>, Box<str>)> {
        let mut index = lock(&self.index);
        let entry = index.get_mut(key)?;
        entry.writing = None;
        entry.nudge |= write.revives;
        if let Takes::Back(who) = &write.takes {
            entry.corrected(who.clone(), now);
        }
        Some((Arc::clone(&entry.secret), entry.uid.clone()))
    }

    /// After a failed look or write: what is known of the Secret stays, and is looked at again before the next write.
    fn write_failed(&self, key: &Key, failure: Failure) {
        self.tell_of_failure(key, &failure);
        let now = self.clock.now();
        if let Some(entry) = lock(&self.index).get_mut(key) {
            let failing = Failing::after(entry.writing.as_deref(), failure, Some(WRITE_BACKOFF), now);
            entry.writing = Some(Box::new(failing));
            entry.unsure = true;
        }
    }

    /// Whether the Secret is filled in other formats than these.
    fn has_other_keys(&self, key: &Key, formats: &[Format]) -> bool {
        let index = lock(&self.index);
        index.get(key).and_then(|entry| entry.held.record()).is_some_and(|record| record.formats != formats)
    }

    /// After a write of other keys than the Secret has: no write of those that it has is kept waiting by that.
    fn keys_refused(&self, key: &Key, formats: &'static [Format], failure: Failure) {
        self.tell_of_failure(key, &failure);
        let now = self.clock.now();
        if let Some(entry) = lock(&self.index).get_mut(key) {
            let before = entry.refused.as_deref().map(|refused| &refused.failing);
            let failing = Failing::after(before, failure, None, now);
            entry.refused = Some(Box::new(Refused { formats, failing }));
            entry.unsure = true;
        }
    }

    fn tell_of_failure(&self, key: &Key, failure: &Failure) {
        if is_farewell(failure) {
            tracing::info!(
                namespace = &*key.namespace,
                name = &*key.name,
                reason = failure.reason,
                "Secret not written: {}",
                failure.cause
            );
        } else {
            tracing::error!(namespace = &*key.namespace, name = &*key.name, reason = failure.reason, error = %failure, "Secret not written");
        }
        self.metrics.write_failed(failure);
    }

    /// Starts to ask the repositories. It goes on beside everything else: a repository that doesn't answer must not hold up
    /// a refresh, of this BearerToken or of another.
    fn start_probe(self: &Arc<Self>, key: &Key, identity: Arc<Identity>, token: Arc<Token>) {
        let Some(repositories) = self.repositories(key) else { return };
        let (work, key) = (Arc::clone(self), key.clone());
        let mut probes = lock(&self.probes);
        while probes.try_join_next().is_some() {}
        probes.spawn(async move {
            let answers = work.repositories.ask(&identity, repositories, &token).await;
            let at = work.clock.now();
            let probe = Probe { fingerprint: token.fingerprint.clone(), identity, at, answers };
            if probe.wants_newer() {
                work.mints.outdated(&probe.identity, &probe.fingerprint);
            }
            work.probed(&key, probe);
        });
    }

    /// The repositories that are to be asked, which is noted.
    fn repositories(&self, key: &Key) -> Option<Vec<Repository>> {
        let mut index = lock(&self.index);
        let wanted = index.wanted(key, index.get(key)?);
        let repositories = wanted.map(|wanted| wanted.repositories).unwrap_or_default();
        index.get_mut(key)?.probing = true;
        Some(repositories)
    }

    fn probed(&self, key: &Key, probe: Probe) {
        if let Some(entry) = lock(&self.index).get_mut(key) {
            entry.probing = false;
            let before = entry.probes.iter().find(|known| known.identity == probe.identity);
            entry.nudge |= before.is_some_and(|before| opened_anew(before, &probe));
            let used: Vec<Arc<Identity>> = identities(entry).cloned().collect();
            entry.probes.retain(|known| known.identity != probe.identity && used.contains(&known.identity));
            entry.probes.reserve_exact(1);
            entry.probes.push(probe);
        }
        self.queue.wake(key);
    }

    /// Ends what goes on beside the work.
    pub fn stop(&self) {
        lock(&self.probes).abort_all();
        self.mints.stop();
    }

    async fn nudge(&self, key: &Key) {
        let at = self.clock.now().to_string();
        let failing: Vec<Key> = {
            let mut index = lock(&self.index);
            if let Some(entry) = index.get_mut(key) {
                entry.nudge = false;
            }
            let sources = index.sources(key).filter(|(_, source)| source.failing && !source.suspended);
            sources.map(|(name, _)| key.beside(name)).collect()
        };
        for source in failing {
            if let Err(failure) = self.kubernetes.nudge(&source, &at).await
                && !is_farewell(&failure)
            {
                tracing::warn!(namespace = &*source.namespace, name = &*source.name, error = %failure, "GitRepository not nudged");
            }
        }
    }

    /// Reports, and says when to look again.
    async fn rest(&self, key: &Key, decision: Decision) -> Option<Instant> {
        let mut again = self.told_to_wait(key);
        if again.is_none() {
            let reported = self.report(key, &decision.report).await;
            again = self.note_report(key, reported);
        }
        let wake = decision.wake.map(|at| self.clock.instant(at));
        let release = self.release(key).await;
        [wake, again, release].into_iter().flatten().min()
    }

    /// Until when the API server has asked for no status of `key`.
    fn told_to_wait(&self, key: &Key) -> Option<Instant> {
        let index = lock(&self.index);
        let failing = index.get(key)?.reporting.as_ref().filter(|failing| failing.failure.retry_after.is_some())?;
        Some(self.clock.instant(failing.retry_at)).filter(|until| *until > Instant::now())
    }

    /// After a status was written or not; returns when to try again.
    fn note_report(&self, key: &Key, reported: Result<(), Failure>) -> Option<Instant> {
        let mut index = lock(&self.index);
        let entry = index.get_mut(key)?;
        let before = entry.reporting.take();
        let failing = |failure| Failing::after(before.as_deref(), failure, None, self.clock.now());
        entry.reporting = reported.err().map(failing).map(Box::new);
        entry.reporting.as_ref().map(|failing| self.clock.instant(failing.retry_at))
    }

    /// Lets go of the Secrets that are not to outlast `key`; returns when to try again what failed.
    async fn release(&self, key: &Key) -> Option<Instant> {
        let orphans = lock(&self.index).take_orphans(key);
        let mut again = None;
        for secret in orphans {
            if let Err(failure) = self.release_one(key, &secret).await {
                tracing::warn!(namespace = &*secret.namespace, name = &*secret.name, error = %failure, "Secret not released");
                lock(&self.index).keep_orphan(key, &secret);
                again = Some(Instant::now() + RELEASE_AGAIN);
            }
        }
        again
    }

    async fn release_one(&self, key: &Key, secret: &Key) -> Result<(), Failure> {
        // Another shard may keep it: only the API server knows all BearerTokens.
        let kept = self.kubernetes.secret_named_by(key).await?;
        if kept.is_some_and(|name| *name == *secret.name) {
            return Ok(());
        }
        let Some(metadata) = self.kubernetes.secret_metadata(secret).await? else { return Ok(()) };
        let done = match release(&metadata, &key.name) {
            Release::Keep => return Ok(()),
            Release::Empty(version) => self.kubernetes.give_up_secret(secret, &key.name, &version).await,
            Release::Delete(version) => match self.kubernetes.delete_secret(secret, &version).await {
                // The right to delete is not needed for anything else, so a Role may lack it.
                Err(failure) if failure.reason == "Forbidden" => {
                    self.kubernetes.give_up_secret(secret, &key.name, &version).await
                }
                done => done,
            },
        };
        done?;
        tracing::info!(
            namespace = &*secret.namespace,
            name = &*secret.name,
            bearer_token = &*key.name,
            "Secret released"
        );
        Ok(())
    }

    /// Writes the status if it differs from the stored one, then tells of the transitions.
    async fn report(&self, key: &Key, report: &Report) -> Result<(), Failure> {
        let Some((uid, before, after)) = self.news(key, report) else { return Ok(()) };
        let written = self.kubernetes.apply_status(key, &uid, &after).await;
        if let Err(failure) = &written {
            if !is_farewell(failure) {
                tracing::warn!(namespace = &*key.namespace, name = &*key.name, error = %failure, "status not written");
            }
            return written;
        }
        let told = self.take_status(key, &uid, &after);
        for event in report::events(&before, &after) {
            events::publish(self, key, &uid, &told, &event).await;
        }
        Ok(())
    }

    /// The uid, the stored status and the one to store, where they differ.
    fn news(&self, key: &Key, report: &Report) -> Option<(Box<str>, Stored, BearerTokenStatus)> {
        let mut index = lock(&self.index);
        let entry = index.get_mut(key)?;
        let after = report.status(&entry.status, entry.generation, self.clock.now());
        entry.ready = Some(is_ready(&after));
        (!entry.status.is(&after)).then(|| (entry.uid.clone(), entry.status.clone(), after))
    }

    /// Remembers the status that was written; returns the GitRepositories that the news concern as well.
    fn take_status(&self, key: &Key, uid: &str, after: &BearerTokenStatus) -> Vec<(Key, Box<str>)> {
        let mut index = lock(&self.index);
        if let Some(entry) = index.get_mut(key).filter(|entry| *entry.uid == *uid) {
            entry.request.take_if(|request| after.last_handled_reconcile_at.as_deref() == Some(&request.value));
            entry.status = Stored::of(after, &key.name);
        }
        index.sources(key).map(|(name, source)| (key.beside(name), source.uid.clone())).collect()
    }

    fn secret_of(&self, key: &Key) -> Option<Key> {
        let index = lock(&self.index);
        Some(key.beside(&index.get(key)?.secret))
    }

    /// Wakes these keys.
    pub fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        keys.into_iter().for_each(|key| self.queue.wake(&key));
    }

    /// Once a minute: follows the machine's clock, has Secrets read that can't be watched, and forgets the tokens of
    /// identities that nobody uses any more.
    pub fn tidy(&self) {
        if let Some(step) = self.clock.recheck() {
            tracing::warn!(
                seconds = step.as_secs(),
                "the clock was set, or the machine slept: looking at everything again"
            );
            self.mints.follow(step);
            let mut index = lock(&self.index);
            index.follow(step);
            let all = index.keys();
            drop(index);
            self.wake(all);
        }
        self.tidy_index();
        let used: HashSet<Arc<Identity>> =
            lock(&self.index).iter().flat_map(|(_, entry)| identities(entry)).cloned().collect();
        self.mints.retain(&used);
        let tasks = Handle::current().metrics().num_alive_tasks();
        self.metrics.tidy(self.queue.depth(), self.expired(), tasks);
    }

    fn tidy_index(&self) {
        let mut index = lock(&self.index);
        index.tidy();
        self.sight.retain(|secret| index.is_named(secret));
        let unseen = self.sight.seen().map(|seen| index.secrets_listed(&seen)).unwrap_or_default();
        drop(index);
        self.wake(unseen);
    }

    /// How many Secrets hold a token that has expired.
    fn expired(&self) -> usize {
        let now = self.clock.now();
        let index = lock(&self.index);
        let dead = |held: &Held| held.record().is_some_and(|record| !is_usable(record.expires_at, now));
        index.iter().filter(|(_, entry)| dead(&entry.held)).count()
    }
}

/// Whether a repository opens now that did not open before.
fn opened_anew(before: &Probe, now: &Probe) -> bool {
    let failed = |repository| before.answers.iter().any(|(known, answer)| known == repository && answer.is_err());
    now.answers.iter().any(|(repository, answer)| answer.is_ok() && failed(repository))
}
