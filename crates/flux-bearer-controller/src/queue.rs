//! What is due, and when: each BearerToken at most once, none of them twice at the same time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::index::Key;
use crate::lock;

/// A queue of keys with a due time each.
///
/// Guarantees: a key that is being worked on is not handed out again before it is done; what woke it meanwhile makes it due
/// again then. The earliest of several due times counts.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, Key)>,
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
        let mut state = lock(&self.state);
        if let Some(when) = state.when.remove(key) {
            state.due.remove(&(when, key.clone()));
        }
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
        let now = Instant::now();
        lock(&self.state).due.iter().take_while(|(at, _)| *at <= now).count()
    }
}

impl State {
    fn schedule(&mut self, key: &Key, at: Instant) {
        match self.when.get(key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert((at, key.clone()));
        self.when.insert(key.clone(), at);
    }

    /// Takes the first key that is due at `now`, or says when the first one will be.
    fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        match self.due.first() {
            Some((at, _)) if *at > now => Err(Some(*at)),
            None => Err(None),
            Some(_) => {
                let (_, key) = self.due.pop_first().ok_or(None)?;
                self.when.remove(&key);
                self.running.insert(key.clone(), false);
                Ok(key)
            }
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
