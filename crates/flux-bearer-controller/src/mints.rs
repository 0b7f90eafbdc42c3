//! One mint an identity, fanned out to every BearerToken that waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flux_bearer::decide::{Mint, REMINTS};
use flux_bearer::failure::Failure;
use flux_bearer::identity::Identity;
use flux_bearer::schedule::Failing;
use flux_bearer::token::Token;
use flux_bearer_azure::mint::Azure;
use jiff::SignedDuration;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::index::Key;
use crate::lock;
use crate::metrics::Metrics;
use crate::preflight::{Clocks, Peer};

/// The newest token of every identity, and who waits for the next one.
///
/// Guarantees: at most one mint an identity is under way. The BearerTokens that waited for it are handed back when it ends.
pub struct Mints {
    azure: Azure,
    credentials: Credentials,
    clock: Clock,
    clocks: Clocks,
    metrics: Metrics,
    states: Mutex<States>,
    tasks: Mutex<JoinSet<()>>,
    /// Called with whoever waited.
    wake: Box<dyn Fn(HashSet<Key>) + Send + Sync>,
}

/// What is known of every identity's tokens.
pub type States = HashMap<Arc<Identity>, State>;

/// What is known of one identity's tokens.
#[derive(Default)]
pub struct State {
    token: Option<Arc<Token>>,
    failing: Option<Failing>,
    in_flight: bool,
    /// Whether a repository wants a newer token than this.
    outdated: bool,
    /// How many were minted for that reason since one was minted for another.
    remints: u32,
    waiting: HashSet<Key>,
}

impl State {
    /// As the decision sees it.
    pub fn view(&self) -> Mint<'_> {
        Mint {
            token: self.token.as_ref(),
            failing: self.failing.as_ref(),
            in_flight: self.in_flight,
            outdated: self.outdated,
        }
    }
}

impl Mints {
    /// Mints through `azure`; `wake` is called with every BearerToken that waited, after each mint.
    pub fn new(
        azure: Azure,
        credentials: Credentials,
        clock: Clock,
        clocks: Clocks,
        metrics: Metrics,
        wake: impl Fn(HashSet<Key>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            azure,
            credentials,
            clock,
            clocks,
            metrics,
            states: Mutex::default(),
            tasks: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// Looks at the states of all identities at one moment. `key` is woken when the next mint of one of `lives_on` ends,
    /// where one is under way or failing: noted in that same moment, so that no end falls in between.
    pub fn look<'a, R>(
        &self,
        key: &Key,
        lives_on: impl Iterator<Item = &'a Arc<Identity>>,
        look: impl FnOnce(&States) -> R,
    ) -> R {
        let mut states = lock(&self.states);
        for identity in lives_on {
            if let Some(state) = states.get_mut(identity)
                && (state.in_flight || state.failing.is_some())
            {
                state.waiting.insert(key.clone());
            }
        }
        look(&states)
    }

    /// Starts a mint unless one is under way. `lifetime` is that of the token at stake.
    pub fn start(self: &Arc<Self>, identity: &Arc<Identity>, lifetime: Option<Duration>) {
        let mut states = lock(&self.states);
        let state = states.entry(Arc::clone(identity)).or_default();
        if state.in_flight {
            return;
        }
        state.in_flight = true;
        drop(states);
        let (mints, identity) = (Arc::clone(self), Arc::clone(identity));
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let begun = Instant::now();
            let minted = mints.mint(&identity).await;
            mints.metrics.minted(minted.as_ref().map(|_| ()), begun.elapsed());
            mints.finish(&identity, minted, lifetime);
        });
    }

    /// A repository wants a newer token of `identity` than the one with this fingerprint. Nothing comes of it where there is
    /// a newer one, or where [`REMINTS`] are used up.
    pub fn outdated(&self, identity: &Identity, fingerprint: &str) {
        let mut states = lock(&self.states);
        let Some(state) = states.get_mut(identity) else { return };
        let is_newest = state.token.as_ref().is_some_and(|token| *token.fingerprint == *fingerprint);
        state.outdated |= is_newest && state.remints < REMINTS;
    }

    /// Forgets every identity that nobody uses any more.
    pub fn retain(&self, used: &HashSet<Arc<Identity>>) {
        lock(&self.states).retain(|identity, state| state.in_flight || used.contains(identity));
    }

    /// The clock was set by `step`: what has failed is dated anew.
    pub fn follow(&self, step: SignedDuration) {
        lock(&self.states)
            .values_mut()
            .filter_map(|state| state.failing.as_mut())
            .for_each(|failing| failing.follow(step));
    }

    /// Ends the mints under way.
    pub fn stop(&self) {
        lock(&self.tasks).abort_all();
    }

    async fn mint(&self, identity: &Identity) -> Result<Token, Failure> {
        let credential = self.credentials.of(identity, self.clock.now()).await?;
        let credential_expires_at = credential.expires_at();
        let grant = self.azure.mint(identity, credential).await?;
        self.clocks.compare(Peer::Issuer, grant.server_time);
        let token = Token { credential_expires_at, ..Token::accept(grant, identity, self.clock.now())? };
        if !token.verified {
            tracing::warn!(identity = %identity, "the claims of the token can't be read, so they were not compared");
        }
        Ok(token)
    }

    fn finish(&self, identity: &Identity, minted: Result<Token, Failure>, lifetime: Option<Duration>) {
        let now = self.clock.now();
        let mut states = lock(&self.states);
        let Some(state) = states.get_mut(identity) else { return };
        state.in_flight = false;
        match minted {
            Ok(token) => {
                tracing::info!(identity = %identity, fingerprint = token.fingerprint, expires = %token.expires_at, "token minted");
                state.failing = None;
                state.remints = if state.outdated { state.remints + 1 } else { 0 };
                state.outdated = false;
                state.token = Some(Arc::new(token));
            }
            Err(failure) => {
                tracing::error!(identity = %identity, reason = failure.reason, trace = failure.trace, error = %failure, "no token");
                state.failing = Some(Failing::after(state.failing.as_ref(), failure, lifetime, now));
            }
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(states);
        (self.wake)(waiting);
    }
}
