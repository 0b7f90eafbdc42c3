//! The tests, one file each.

mod adoption;
mod api_server;
mod bootstrap;
mod clients;
mod crd;
mod five_lifetimes;
mod from_nothing;
mod ipv6;
mod kube_cases;
mod leader;
mod lockout;
mod migrate;
mod namespace;
mod native;
mod official;
mod outage;
mod poisoned;
mod push;
mod release;
mod restart;
mod rights;
mod rollout;
mod setup;
mod silent;
mod steps;
mod tenants;

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
    Test { name: native::NAME, run: |run| native::run(run).boxed_local() },
    Test { name: restart::NAME, run: |run| restart::run(run).boxed_local() },
    Test { name: steps::NAME, run: |run| steps::run(run).boxed_local() },
    Test { name: setup::NAME, run: |run| setup::run(run).boxed_local() },
    Test { name: official::NAME, run: |run| official::run(run).boxed_local() },
    Test { name: clients::NAME, run: |run| clients::run(run).boxed_local() },
    Test { name: push::NAME, run: |run| push::run(run).boxed_local() },
    Test { name: ipv6::NAME, run: |run| ipv6::run(run).boxed_local() },
    Test { name: bootstrap::NAME, run: |run| bootstrap::run(run).boxed_local() },
    Test { name: tenants::NAME, run: |run| tenants::run(run).boxed_local() },
    Test { name: kube_cases::NAME, run: |run| kube_cases::run(run).boxed_local() },
    Test { name: rights::NAME, run: |run| rights::run(run).boxed_local() },
    Test { name: crd::NAME, run: |run| crd::run(run).boxed_local() },
    Test { name: leader::NAME, run: |run| leader::run(run).boxed_local() },
    Test { name: api_server::NAME, run: |run| api_server::run(run).boxed_local() },
    Test { name: silent::NAME, run: |run| silent::run(run).boxed_local() },
    Test { name: adoption::NAME, run: |run| adoption::run(run).boxed_local() },
    Test { name: migrate::NAME, run: |run| migrate::run(run).boxed_local() },
    Test { name: lockout::NAME, run: |run| lockout::run(run).boxed_local() },
    Test { name: release::NAME, run: |run| release::run(run).boxed_local() },
    Test { name: poisoned::NAME, run: |run| poisoned::run(run).boxed_local() },
    Test { name: rollout::NAME, run: |run| rollout::run(run).boxed_local() },
    Test { name: namespace::NAME, run: |run| namespace::run(run).boxed_local() },
];
