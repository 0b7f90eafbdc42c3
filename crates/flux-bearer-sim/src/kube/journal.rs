//! Every request that arrived, and what became of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::{RequestInfo, Verb};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it asked for.
    pub request: RequestInfo,
    /// The HTTP status that the client saw: `None` while it waits, and for ever when a fault ended the connection.
    pub status: Option<u16>,
}

/// The requests so far, those that a fault met included. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    inner: Arc<Mutex<Pages>>,
}

#[derive(Debug, Default)]
struct Pages {
    cleared: usize,
    entries: Vec<Entry>,
}

impl Journal {
    /// Every entry, in the order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        self.pages().entries.clone()
    }

    /// How many entries `wanted` is true of.
    pub fn count_where(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.pages().entries.iter().filter(|entry| wanted(entry)).count()
    }

    /// How many requests did `verb` to `resource` (its plural), subresources included.
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        self.count_where(|entry| entry.request.verb == verb && entry.request.resource == resource)
    }

    /// How many requests there were.
    pub fn len(&self) -> usize {
        self.pages().entries.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        let mut pages = self.pages();
        pages.cleared += pages.entries.len();
        pages.entries.clear();
    }

    /// Notes a request, and returns the number to report its answer under.
    pub(super) fn arrived(&self, request: RequestInfo) -> usize {
        let mut pages = self.pages();
        pages.entries.push(Entry { request, status: None });
        pages.cleared + pages.entries.len() - 1
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        let mut pages = self.pages();
        let at = number.checked_sub(pages.cleared);
        if let Some(entry) = at.and_then(|at| pages.entries.get_mut(at)) {
            entry.status = Some(status);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
