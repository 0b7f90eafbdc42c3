//! The loop of flux-bearer: watches BearerTokens and keeps their Secrets filled.
//!
//! Gather, decide, act: [`observe`] turns what is known into an observation, `flux_bearer::decide` says what to do, [`act`]
//! does it. What is known comes from watches ([`watch`]) into one lean [`index`]; what is due waits in one [`queue`]; every
//! token is minted once an identity ([`mints`]), and tried on its [`repositories`].
//!
//! What may be in this crate: Kubernetes, time and the wiring. What a token is for, when it is due and what a failure means
//! are the rules' (`flux-bearer`); what Azure is asked is the wire's (`flux-bearer-azure`).

pub mod act;
pub mod args;
pub mod ca_file;
pub mod clock;
pub mod credentials;
pub mod events;
pub mod index;
pub mod kubernetes;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod mints;
pub mod notifications;
pub mod observe;
pub mod preflight;
pub mod queue;
pub mod repositories;
pub mod run;
pub mod server;
pub mod sink;
pub mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders never leave it half changed, so that a panic elsewhere does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
