//! What is hurt, when, and for how long: drawn from a seed, so a run can be told by a number.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

/// Seconds between the moment that all is well again and the next strike.
const PAUSE: Range<u64> = 20..46;

/// Milliseconds that something is stopped or silent. What was sent into a silence is given up after 10 s, so it costs more.
const STOPPED: Range<u64> = 2_000..6_000;

/// Milliseconds that Entra ID answers 503.
const REFUSED: Range<u64> = 4_000..10_000;

/// The part of a run, in hundredths, in which the leader is not touched, so that one process lives long enough to be judged.
const SPARED: Range<u64> = 25..80;

/// One way to hurt one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL to the controller that leads.
    KillLeader,
    /// SIGTERM to it: it gives the lease back.
    EndLeader,
    /// SIGSTOP to it, for less than its lease.
    StopLeader,
    /// SIGKILL to the controller that follows.
    KillFollower,
    /// SIGTERM to it.
    EndFollower,
    /// SIGKILL to kube-apiserver.
    KillServer,
    /// SIGSTOP to it.
    StopServer,
    /// SIGKILL to etcd.
    KillEtcd,
    /// SIGKILL to kube-controller-manager.
    KillManager,
    /// Entra ID answers 503.
    RefuseTokens,
    /// All of Azure takes requests and answers none. The simulator's process is never ended: it would forget its state.
    SilenceAzure,
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::KillLeader,
        Self::EndLeader,
        Self::StopLeader,
        Self::KillFollower,
        Self::EndFollower,
        Self::KillServer,
        Self::StopServer,
        Self::KillEtcd,
        Self::KillManager,
        Self::RefuseTokens,
        Self::SilenceAzure,
    ];

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "leader killed",
            Self::EndLeader => "leader told to end",
            Self::StopLeader => "leader stopped",
            Self::KillFollower => "follower killed",
            Self::EndFollower => "follower told to end",
            Self::KillServer => "kube-apiserver killed",
            Self::StopServer => "kube-apiserver stopped",
            Self::KillEtcd => "etcd killed",
            Self::KillManager => "kube-controller-manager killed",
            Self::RefuseTokens => "Entra ID answers 503",
            Self::SilenceAzure => "Azure silent",
        }
    }

    /// Whether it meets the controller that leads.
    pub(super) fn hurts_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::EndLeader | Self::StopLeader)
    }

    /// For how long; nothing for what is started again at once.
    fn span(self, chance: &mut Rng) -> Duration {
        match self {
            Self::StopLeader | Self::StopServer | Self::SilenceAzure => Duration::from_millis(chance.u64(STOPPED)),
            Self::RefuseTokens => Duration::from_millis(chance.u64(REFUSED)),
            _ => Duration::ZERO,
        }
    }
}

/// A fault that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strike {
    /// How long all has to have been well before.
    pub(super) pause: Duration,
    /// What is done.
    pub(super) fault: Fault,
    /// For how long.
    pub(super) span: Duration,
}

/// Draws one strike after the other: every fault once in a random order, then all of them again.
pub(super) struct Schedule {
    chance: Rng,
    length: Duration,
    left: Vec<Fault>,
}

impl Schedule {
    /// That of a run of this length.
    pub(super) fn new(seed: u64, length: Duration) -> Self {
        Self { chance: Rng::with_seed(seed), length, left: Vec::new() }
    }

    /// The next one, as seen `elapsed` after the run began; none when too little of the run is left for it to heal.
    pub(super) fn next(&mut self, elapsed: Duration) -> Option<Strike> {
        let pause = Duration::from_secs(self.chance.u64(PAUSE));
        let at = elapsed + pause;
        if at + Duration::from_secs(PAUSE.end) > self.length {
            return None;
        }
        let spared = self.spares_leader(at);
        let fault = loop {
            match self.left.pop() {
                Some(fault) if spared && fault.hurts_leader() => {}
                Some(fault) => break fault,
                None => {
                    self.left.extend(Fault::ALL);
                    self.chance.shuffle(&mut self.left);
                }
            }
        };
        Some(Strike { pause, fault, span: fault.span(&mut self.chance) })
    }

    /// Whether the leader is left alone at this time of the run.
    fn spares_leader(&self, at: Duration) -> bool {
        SPARED
            .contains(&(at.as_millis().saturating_mul(100) / self.length.as_millis().max(1)).try_into().unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// When everything heals at once: each strike and its time.
    fn run(seed: u64) -> Vec<(Duration, Strike)> {
        let (mut schedule, mut at, mut strikes) = (Schedule::new(seed, HOUR), Duration::ZERO, Vec::new());
        while let Some(strike) = schedule.next(at) {
            at += strike.pause;
            strikes.push((at, strike));
            at += strike.span;
        }
        strikes
    }

    #[test]
    fn a_seed_is_the_same_run_again_and_another_is_another() {
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn an_hour_has_every_fault_and_time_left_at_its_end() {
        let strikes = run(1);
        assert_eq!(strikes.iter().map(|(_, strike)| strike.fault).collect::<BTreeSet<_>>().len(), Fault::ALL.len());
        assert!(strikes.iter().all(|(at, _)| *at + Duration::from_secs(PAUSE.end) <= HOUR));
    }

    #[test]
    fn the_leader_is_left_alone_for_the_middle_of_the_run_and_at_no_other_time() {
        let (before, after): (Vec<_>, Vec<_>) =
            run(3).into_iter().filter(|(_, strike)| strike.fault.hurts_leader()).partition(|(at, _)| *at < HOUR / 2);
        assert!(!before.is_empty() && before.iter().all(|(at, _)| *at < HOUR / 4));
        assert!(!after.is_empty() && after.iter().all(|(at, _)| *at >= HOUR / 5 * 4));
    }
}
