//! The time that Entra takes to learn of what was just created, and the price of asking too early.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::state::{Defaults, FederatedCredential};

/// Sign-ins that came too early, and until when each keeps failing.
#[derive(Debug, Default)]
pub(crate) struct Propagation {
    negative: Mutex<HashMap<Key, Timestamp>>,
}

/// Client id, issuer, subject and audience.
type Key = (String, String, String, String);

impl Propagation {
    /// Whether Entra knows the credential when it is asked for it now.
    ///
    /// Asking before it is known is remembered: the credential then stays unknown for the negative cache's time, and
    /// asking again does not lengthen that.
    pub(super) fn knows(
        &self,
        client_id: &str,
        credential: &FederatedCredential,
        defaults: &Defaults,
        now: Timestamp,
    ) -> bool {
        let (issuer, subject, audience) = credential.rule();
        let key = (client_id.to_ascii_lowercase(), issuer.to_owned(), subject.to_owned(), audience.to_owned());
        let mut negative = self.negative.lock().unwrap_or_else(PoisonError::into_inner);
        negative.retain(|_, until| *until > now);
        if negative.contains_key(&key) {
            return false;
        }
        if has_propagated(credential.created_at, defaults, now) {
            return true;
        }
        negative.insert(key, now + seconds(defaults.negative_cache_seconds));
        false
    }
}

/// Whether Entra knows what was created at this time.
pub(super) fn has_propagated(created: Option<Timestamp>, defaults: &Defaults, now: Timestamp) -> bool {
    created.is_none_or(|created| created + seconds(defaults.propagation_seconds) <= now)
}

fn seconds(count: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(count))
}
