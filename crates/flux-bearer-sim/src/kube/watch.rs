//! Watches: every change after a revision, one JSON line each.
//!
//! A watch holds no queue. It remembers how far it has read and reads the store's history when it is woken, so a slow
//! one costs nothing until it is so slow that the history has passed it by: then it is told 410, as the real one is.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Kube;
use super::object;
use super::read;
use super::refusal::{Answer, Refusal};
use super::render::View;
use super::request::{Query, RequestInfo};
use super::selector::Selector;
use super::store::{Change, Collection, Store};

/// How often a bookmark is sent: the real server's period.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// How long before its end a watch gets its last bookmark, so that the next one starts close to the present.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// How long a watch lasts that asks for no time; the real server draws from 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(45);

/// A watch in progress.
struct Watch {
    kube: Kube,
    resource: String,
    namespace: String,
    selector: Selector,
    view: View,
    read: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    woken: watch::Receiver<bool>,
    /// What is sent first.
    first: Vec<u8>,
    over: bool,
}

/// Starts a watch; a revision that is too old is told inside it, as the real server does.
pub(super) fn start(
    kube: &Kube,
    store: &Store,
    objects: &Collection,
    info: &RequestInfo,
    query: &Query,
    view: View,
) -> Answer<Body> {
    let asked = read::revision(&query.resource_version)?;
    if asked > store.revision {
        return Err(Refusal::too_large_revision(asked, store.revision));
    }
    let selector = Selector::parse(&objects.resource, &query.label_selector, &query.field_selector)?;
    let from_now = asked == 0 || query.send_initial_events;
    let timeout = query.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let now = Instant::now();
    let mut watch = Watch {
        kube: kube.clone(),
        resource: info.qualified_resource(),
        namespace: info.namespace.clone(),
        selector,
        view,
        read: if from_now { store.revision } else { asked },
        bookmarks: query.bookmarks,
        next_bookmark: bookmark_after(now, now + timeout),
        deadline: now + timeout,
        woken: objects.subscribe(),
        first: Vec::new(),
        over: false,
    };
    if from_now {
        watch.first = watch.initial(store, objects, query.send_initial_events);
    } else if let Err(refusal) = objects.check_age(asked) {
        watch.first = view.event("ERROR", &refusal.status());
        watch.over = true;
    }
    let lines = stream::unfold(watch, |watch| async move { watch.next().await });
    Ok(Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>)))
}

/// When a bookmark is due next: each minute, and shortly before the end.
fn bookmark_after(now: Instant, deadline: Instant) -> Instant {
    let periodic = now + BOOKMARK_EVERY;
    let last = deadline.checked_sub(LAST_BOOKMARK).unwrap_or(deadline);
    if last > now { periodic.min(last) } else { periodic }
}

impl Watch {
    /// What is there already, as events; a streaming list ends with a bookmark that says so.
    fn initial(&self, store: &Store, objects: &Collection, mark_end: bool) -> Vec<u8> {
        let there = objects.objects(&self.namespace, None).filter(|object| self.selector.matches(object));
        let mut lines = there.map(|object| self.view.event("ADDED", object)).collect::<Vec<_>>().concat();
        if mark_end {
            let end = self.view.bookmark(&objects.resource, store.revision, true);
            lines.extend(self.view.event("BOOKMARK", &end));
        }
        lines
    }

    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            if *self.woken.borrow() {
                std::future::pending::<()>().await;
            }
            let lines = self.take_lines();
            if !lines.is_empty() {
                return Some((lines.into(), self));
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                woken = self.woken.changed() => self.over = woken.is_err(),
                () = sleep_until(self.deadline) => return None,
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = bookmark_after(self.next_bookmark, self.deadline);
                    return Some((self.bookmark().into(), self));
                }
            }
        }
    }

    /// The events since it last looked.
    fn take_lines(&mut self) -> Vec<u8> {
        let first = std::mem::take(&mut self.first);
        if self.over || !first.is_empty() {
            return first;
        }
        self.woken.mark_unchanged();
        let kube = self.kube.clone();
        let store = kube.store();
        let Some(objects) = store.collection(&self.resource) else { return Vec::new() };
        let lines = match objects.since(self.read) {
            Ok(changes) => changes.map(|change| self.event(change)).collect::<Vec<_>>().concat(),
            Err(refusal) => {
                self.over = true;
                self.view.event("ERROR", &refusal.status())
            }
        };
        self.read = store.revision;
        lines
    }

    /// What a change means to this watch: an object that stops matching is gone as far as it can tell.
    fn event(&self, change: &Change) -> Vec<u8> {
        let mine = |object: &Value| {
            let here = self.namespace.is_empty() || object::namespace(object) == self.namespace;
            here && self.selector.matches(object)
        };
        let before = change.before.as_deref().filter(|object| mine(object));
        let after = change.after.as_deref().filter(|object| mine(object));
        match (before, after) {
            (None, None) => Vec::new(),
            (None, Some(after)) => self.view.event("ADDED", after),
            (Some(_), Some(after)) => self.view.event("MODIFIED", after),
            (Some(before), None) => self.view.event("DELETED", &object::at_revision(before.clone(), change.revision)),
        }
    }

    fn bookmark(&self) -> Vec<u8> {
        let store = self.kube.store();
        let Some(objects) = store.collection(&self.resource) else { return Vec::new() };
        self.view.event("BOOKMARK", &self.view.bookmark(&objects.resource, store.revision, false))
    }
}
