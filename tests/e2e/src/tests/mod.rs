//! The tests, one file each.

mod crd;
mod five_lifetimes;
mod from_nothing;
mod kube_cases;
mod outage;
mod restart;
mod rights;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::world::Run;

/// A test: what it is called, and what it does in a world of its own.
pub(crate) struct Test {
    /// What `tests/e2e/run NAME` chooses by.
    pub(crate) name: &'static str,
    /// Runs it; an error is a failure.
    pub(crate) run: for<'a> fn(&'a Run) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: &[Test] = &[
    Test { name: from_nothing::NAME, run: |run| from_nothing::run(run).boxed_local() },
    Test { name: five_lifetimes::NAME, run: |run| five_lifetimes::run(run).boxed_local() },
    Test { name: outage::NAME, run: |run| outage::run(run).boxed_local() },
    Test { name: restart::NAME, run: |run| restart::run(run).boxed_local() },
    Test { name: kube_cases::NAME, run: |run| kube_cases::run(run).boxed_local() },
    Test { name: rights::NAME, run: |run| rights::run(run).boxed_local() },
    Test { name: crd::NAME, run: |run| crd::run(run).boxed_local() },
];
