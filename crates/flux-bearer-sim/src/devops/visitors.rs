//! Who has used an organisation since the world began: a licence is `pending` until then.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Organisations and object ids, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Visitors {
    seen: Mutex<HashSet<(String, String)>>,
}

impl Visitors {
    pub(super) fn note(&self, organization: &str, object_id: &str) {
        self.lock().insert(key(organization, object_id));
    }

    pub(super) fn forget(&self, organization: &str, object_id: &str) {
        self.lock().remove(&key(organization, object_id));
    }

    pub(super) fn has(&self, organization: &str, object_id: &str) -> bool {
        self.lock().contains(&key(organization, object_id))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(organization: &str, object_id: &str) -> (String, String) {
    (organization.to_lowercase(), object_id.to_lowercase())
}
