//! Leader election on a Lease, by client-go's rule.
//!
//! A lease is free when *this* process has watched it unchanged for its duration on its own monotonic clock. Nobody's wall
//! clock is compared with anybody else's, so clocks that are off or set do no harm.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::lock;

/// How the lease is held. Names and defaults are Flux's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the Lease.
    pub name: String,
    /// Name of this process in it.
    pub holder: String,
    /// How long others wait after the last renewal that they saw.
    pub duration: Duration,
    /// How long after the start of its last successful renewal this process still writes. Less than `duration`.
    pub renew_deadline: Duration,
    /// Pause between two attempts to get or renew the lease.
    pub retry_period: Duration,
    /// Whether to give the lease back when stopping.
    pub release: bool,
}

/// Until when this process may write. Clones share it.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    always: bool,
}

impl Leadership {
    /// Nobody else is there: this process may always write.
    pub fn sole() -> Self {
        Self { until: Arc::default(), always: true }
    }

    /// May not write until it leads.
    pub fn contested() -> Self {
        Self { until: Arc::default(), always: false }
    }

    /// Whether a write may start now.
    pub fn may_write(&self) -> bool {
        self.always || lock(&self.until).is_some_and(|until| Instant::now() < until)
    }

    fn extend(&self, until: Option<Instant>) {
        *lock(&self.until) = until;
    }
}

/// What to do about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Take it, or renew it: it is free or ours.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// Which state of the lease was seen, and since when.
#[derive(Debug)]
struct Watched {
    version: Option<String>,
    since: Instant,
}

/// Decides from the lease, and from how long it has been watched unchanged.
fn step(lease: Option<&LeaseSpec>, unchanged: Duration, me: &str, own: Duration) -> Step {
    let Some(spec) = lease else { return Step::Take };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    // Its holder says how long to wait; a senseless value is replaced by our own.
    let stated =
        spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let duration = stated.map_or(own, Duration::from_secs);
    if holder.is_empty() || holder == me || unchanged >= duration { Step::Take } else { Step::Wait }
}

/// Holds the lease as long as it can.
pub struct Elector {
    api: Api<Lease>,
    settings: Settings,
    clock: Clock,
    leadership: Leadership,
    watched: Watched,
}

impl Elector {
    /// Will hold the lease of `settings` through `api`, and extend `leadership` with every renewal.
    pub fn new(api: Api<Lease>, settings: Settings, clock: Clock, leadership: Leadership) -> Self {
        let watched = Watched { version: None, since: Instant::now() };
        Self { api, settings, clock, leadership, watched }
    }

    /// Gets the lease, says so on `leads`, and renews it; returns when it is lost.
    pub async fn run(&mut self, leads: &watch::Sender<bool>) {
        while !self.attempt().await {
            sleep(self.settings.retry_period).await;
        }
        leads.send_replace(true);
        // Renewed at half of its deadline: a failed renewal has time for several more.
        let calm = (self.settings.renew_deadline / 2).max(self.settings.retry_period);
        let mut pause = calm;
        loop {
            sleep(pause).await;
            pause = if self.attempt().await { calm } else { self.settings.retry_period };
            if !self.leadership.may_write() {
                leads.send_replace(false);
                return;
            }
        }
    }

    /// Gives the lease back, so that another process need not wait.
    pub async fn release(&mut self) {
        if !self.settings.release || !self.leadership.may_write() {
            return;
        }
        self.leadership.extend(None);
        let freed = async {
            let mut lease = self.api.get(&self.settings.name).await?;
            if let Some(spec) =
                lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.settings.holder))
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(&self.settings.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        if !matches!(timeout(self.settings.retry_period, freed).await, Ok(Ok(()))) {
            tracing::warn!("the lease was not given back; another process gets it once it has run out");
        }
    }

    /// Tries once to get or renew the lease; returns whether it is ours.
    async fn attempt(&mut self) -> bool {
        let started = Instant::now();
        let limit = self.settings.retry_period;
        let taken = matches!(timeout(limit, self.take()).await, Ok(Ok(true)));
        if taken {
            // Counted from before the request: its answer may have taken a while.
            self.leadership.extend(Some(started + self.settings.renew_deadline));
        }
        taken
    }

    async fn take(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.settings.name).await?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if self.watched.version != version {
            self.watched = Watched { version, since: Instant::now() };
        }
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let unchanged = self.watched.since.elapsed();
        if step(spec, unchanged, &self.settings.holder, self.settings.duration) == Step::Wait {
            return Ok(false);
        }
        let lease = self.ours(found);
        let created = lease.metadata.resource_version.is_none();
        let params = PostParams::default();
        let written = if created {
            self.api.create(&params, &lease).await
        } else {
            // With its resourceVersion: of two that try, one is refused.
            self.api.replace(&self.settings.name, &params, &lease).await
        };
        match written {
            Ok(lease) => {
                self.watched = Watched { version: lease.metadata.resource_version, since: Instant::now() };
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lease as it is once we hold it.
    fn ours(&self, found: Option<Lease>) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let now = MicroTime(micros(self.clock.now()));
        let before = lease.spec.take().unwrap_or_default();
        let same = before.holder_identity.as_ref() == Some(&self.settings.holder);
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.settings.holder.clone()),
            lease_duration_seconds: i32::try_from(self.settings.duration.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| same).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        });
        lease
    }
}

/// A `MicroTime` has microseconds; the API server refuses anything finer.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_free_ours_or_watched_unchanged_for_its_duration() {
        let seconds = Duration::from_secs;
        let cases = [
            (None, 0, Step::Take),
            (Some(held_by("", 35)), 0, Step::Take),
            (Some(held_by("me", 35)), 0, Step::Take),
            (Some(held_by("other", 35)), 34, Step::Wait),
            (Some(held_by("other", 35)), 35, Step::Take),
            (Some(held_by("other", 5)), 5, Step::Take),
            (Some(held_by("other", -1)), 34, Step::Wait),
        ];
        for (lease, unchanged, expected) in cases {
            assert_eq!(step(lease.as_ref(), seconds(unchanged), "me", seconds(35)), expected, "{lease:?} {unchanged}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_after_the_deadline() {
        let leadership = Leadership::contested();
        assert!(!leadership.may_write());
        leadership.extend(Some(Instant::now() + Duration::from_secs(30)));
        assert!(leadership.may_write());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(!leadership.may_write());
    }
}
