//! Equal values kept once: thousands of BearerTokens share a few namespaces and identities.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values that are shared for as long as somebody uses them.
#[derive(Debug)]
pub(super) struct Pool<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// The one that is equal to `value`: `value` itself from now on, if there was none.
    pub(super) fn share(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.get(value) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(value));
        Arc::clone(value)
    }

    /// Lets go of what nobody uses any more.
    pub(super) fn tidy(&mut self) {
        self.0.retain(|value| Arc::strong_count(value) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_until_nobody_uses_them() {
        let mut pool = Pool::<str>::default();
        let first = pool.share(&"a".into());
        let second = pool.share(&"a".into());
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        pool.tidy();
        assert_eq!(pool.0.len(), 1);
        drop(second);
        pool.tidy();
        assert_eq!(pool.0.len(), 0);
    }
}
