//! What is due, and when: each BearerToken at most once, none of them twice at the same time, one namespace after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::index::Key;
use crate::lock;

/// A queue of keys with a due time each.
///
/// Guarantees: a key that is being worked on is not handed out again before it is done; what woke it meanwhile makes it due
/// again then. The earliest of several due times counts. Namespaces of which something is due take turns, so that of one with
/// thousands nobody else waits longer than for one; within a namespace the order is that of the due times.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What is due later, or was not looked at since it is.
    later: BTreeSet<(Instant, Key)>,
    /// What is due, by namespace; none is empty.
    due: BTreeMap<Arc<str>, BTreeSet<(Instant, Key)>>,
    /// The namespaces of `due`, the next one first.
    turns: VecDeque<Arc<str>>,
    /// The due time of each key in `later` or `due`.
    when: HashMap<Key, Instant>,
    /// Keys being worked on, and whether they were woken meanwhile.
    running: HashMap<Key, bool>,
}

impl Queue {
    /// Makes `key` due now.
    pub fn wake(&self, key: &Key) {
        let mut state = lock(&self.state);
        match state.running.get_mut(key) {
            Some(woken) => *woken = true,
            None => state.schedule(key, Instant::now()),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets `key`: its object is gone.
    pub fn forget(&self, key: &Key) {
        lock(&self.state).forget(key);
    }

    /// The next key that is due; waits for one.
    pub async fn next(&self) -> Key {
        loop {
            let earliest = match lock(&self.state).take(Instant::now()) {
                Ok(key) => return key,
                Err(earliest) => earliest,
            };
            match earliest {
                Some(at) => tokio::select! {
                    biased;
                    () = sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Ends the work on `key`; it is due again at `next`, or now if it was woken meanwhile.
    pub fn done(&self, key: &Key, next: Option<Instant>) {
        let mut state = lock(&self.state);
        let woken = state.running.remove(key).unwrap_or_default();
        let next = if woken { Some(Instant::now()) } else { next };
        if let Some(at) = next {
            state.schedule(key, at);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// How many keys are due by now.
    pub fn depth(&self) -> usize {
        let mut state = lock(&self.state);
        state.ripen(Instant::now());
        state.due.values().map(BTreeSet::len).sum()
    }
}

impl State {
    fn schedule(&mut self, key: &Key, at: Instant) {
        if self.when.get(key).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        self.forget(key);
        self.later.insert((at, key.clone()));
        self.when.insert(key.clone(), at);
    }

    fn forget(&mut self, key: &Key) {
        let Some(when) = self.when.remove(key) else { return };
        let entry = (when, key.clone());
        if self.later.remove(&entry) {
            return;
        }
        let Some(due) = self.due.get_mut(&key.namespace) else { return };
        due.remove(&entry);
        if due.is_empty() {
            self.due.remove(&key.namespace);
            self.turns.retain(|namespace| *namespace != key.namespace);
        }
    }

    /// Takes the first key of the namespace whose turn it is at `now`, or says when something will be due.
    fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        self.ripen(now);
        let next = || self.later.first().map(|(at, _)| *at);
        let namespace = self.turns.pop_front().ok_or_else(next)?;
        let due = self.due.get_mut(&namespace).ok_or(None)?;
        let (_, key) = due.pop_first().ok_or(None)?;
        if due.is_empty() {
            self.due.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.when.remove(&key);
        self.running.insert(key.clone(), false);
        Ok(key)
    }

    /// Gives what is due by `now` a place among its namespace's.
    fn ripen(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now)
            && let Some((at, key)) = self.later.pop_first()
        {
            let due = self.due.entry(Arc::clone(&key.namespace)).or_default();
            if due.is_empty() {
                self.turns.push_back(Arc::clone(&key.namespace));
            }
            due.insert((at, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    async fn is_empty(queue: &Queue) -> bool {
        tokio::time::timeout(Duration::from_millis(1), queue.next()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn row_47_a_key_is_handed_out_once_and_in_order() {
        let queue = Queue::default();
        let now = Instant::now();
        for (name, seconds) in [("b", 20), ("a", 10)] {
            queue.wake(&key(name));
            let key = queue.next().await;
            queue.done(&key, Some(now + Duration::from_secs(seconds)));
        }
        assert!(is_empty(&queue).await);
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(Instant::now(), now + Duration::from_secs(10));
        assert_eq!(queue.next().await, key("b"));
        assert!(is_empty(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn row_47_namespaces_take_turns() {
        let queue = Queue::default();
        for name in ["a", "b", "c", "gone"] {
            queue.wake(&Key::new("noisy", name));
        }
        for name in ["a", "b"] {
            queue.wake(&Key::new("calm", name));
        }
        queue.wake(&Key::new("over", "a"));
        assert_eq!(queue.depth(), 7);
        queue.forget(&Key::new("noisy", "gone"));
        queue.forget(&Key::new("over", "a"));
        let mut served = Vec::new();
        while queue.depth() > 0 {
            let key = queue.next().await;
            served.push(format!("{}/{}", key.namespace, key.name));
        }
        assert_eq!(served, ["calm/a", "noisy/a", "calm/b", "noisy/b", "noisy/c"]);
        queue.wake(&Key::new("over", "a"));
        assert_eq!(queue.next().await, Key::new("over", "a"), "it has a turn again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_woken_while_it_is_worked_on_is_due_afterwards() {
        let queue = Queue::default();
        queue.wake(&key("a"));
        let a = queue.next().await;
        queue.wake(&a);
        assert!(is_empty(&queue).await);
        queue.done(&a, None);
        assert_eq!(queue.next().await, a);
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_key_is_not_due() {
        let queue = Queue::default();
        queue.wake(&key("a"));
        queue.forget(&key("a"));
        assert!(is_empty(&queue).await);
    }
}
