//! What is counted, and which counts are broken promises.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::git::Cloned;

/// Rotations that the demo shows at least.
pub(crate) const ROTATIONS: u32 = 3;

/// Longest time from the return of Entra ID to a working token in the Secret, in seconds. The controller pauses at most
/// one second between two attempts while tokens live this short; the rest is for a busy machine.
pub(crate) const RECOVERY: f64 = 3.0;

/// The counts of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    /// Clones that worked.
    pub(crate) clones: u32,
    /// Clones that failed although a token should have been there.
    pub(crate) failed_clones: u32,
    /// Clones that were refused as they must be: with an expired token, after an outage longer than its life.
    pub(crate) refused_clones: u32,
    /// How often the token in the Secret was replaced.
    pub(crate) rotations: u32,
    /// How long the longer outage of Entra ID was.
    pub(crate) outage_seconds: Option<f64>,
    /// From its end to a working token in the Secret.
    pub(crate) recovery_seconds: Option<f64>,
    /// What was promised, and did not come.
    pub(crate) missed: Vec<String>,
}

/// One clone, and the token it was given.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// How it ended.
    pub(crate) cloned: Cloned,
    /// When its token expired.
    pub(crate) expires_at: Timestamp,
    /// When it ended.
    pub(crate) ended: Timestamp,
    /// Whether Entra ID has been away for so long that no token can be expected.
    pub(crate) may_lapse: bool,
}

impl Attempt {
    /// Whether it was refused as it must be.
    pub(crate) fn is_due_refusal(&self) -> bool {
        self.may_lapse && self.ended >= self.expires_at && matches!(self.cloned, Cloned::Refused(_))
    }
}

impl Tally {
    /// Counts a clone.
    pub(crate) fn count(&mut self, attempt: &Attempt) {
        match attempt.cloned {
            Cloned::Yes => self.clones += 1,
            _ if attempt.is_due_refusal() => self.refused_clones += 1,
            _ => self.failed_clones += 1,
        }
    }

    /// The promises that were broken, in words.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = self.missed.clone();
        if self.clones == 0 {
            broken.push("no clone ever worked".to_owned());
        }
        if self.failed_clones > 0 {
            broken.push(format!("{} of {} clones failed", self.failed_clones, self.clones + self.failed_clones));
        }
        if self.rotations < ROTATIONS {
            broken.push(format!("the token was replaced {} times, and {ROTATIONS} were to be seen", self.rotations));
        }
        match self.recovery_seconds {
            Some(seconds) if seconds <= RECOVERY => {}
            Some(seconds) => broken.push(format!("recovery took {seconds:.1} s, and {RECOVERY:.1} s were promised")),
            None => broken.push("recovery from the longer outage was not seen".to_owned()),
        }
        broken
    }
}

/// A table for people.
impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} s"));
        let Self { clones, failed_clones, refused_clones, rotations, .. } = self;
        writeln!(out, "  clones            {clones}")?;
        writeln!(out, "  failed            {failed_clones}")?;
        writeln!(out, "  refused, as due   {refused_clones}  (dead token, Entra ID away for longer than it lived)")?;
        writeln!(out, "  tokens replaced   {rotations}")?;
        writeln!(out, "  longest outage    {}", seconds(self.outage_seconds))?;
        write!(out, "  recovery          {}", seconds(self.recovery_seconds))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn kept() -> Tally {
        Tally { clones: 90, rotations: 7, recovery_seconds: Some(1.1), ..Tally::default() }
    }

    fn attempt(cloned: Cloned, seconds_after_expiry: i64, may_lapse: bool) -> Attempt {
        let expires_at = Timestamp::constant(1_800_000_000, 0);
        let ended = expires_at + SignedDuration::from_secs(seconds_after_expiry);
        Attempt { cloned, expires_at, ended, may_lapse }
    }

    fn counted(attempt: &Attempt) -> [u32; 3] {
        let mut tally = Tally::default();
        tally.count(attempt);
        [tally.clones, tally.failed_clones, tally.refused_clones]
    }

    #[test]
    fn promises_that_were_kept_are_not_broken() {
        assert_eq!(kept().broken(), [""; 0]);
        assert_eq!(Tally { refused_clones: 4, ..kept() }.broken(), [""; 0]);
    }

    #[test]
    fn every_count_can_break_a_promise() {
        let cases = [
            (Tally { clones: 0, ..kept() }, "no clone"),
            (Tally { failed_clones: 1, ..kept() }, "1 of 91 clones failed"),
            (Tally { rotations: 2, ..kept() }, "replaced 2 times"),
            (Tally { recovery_seconds: Some(3.1), ..kept() }, "recovery took 3.1 s"),
            (Tally { recovery_seconds: None, ..kept() }, "recovery from the longer outage was not seen"),
            (Tally { missed: vec!["late".to_owned()], ..kept() }, "late"),
        ];
        for (tally, words) in cases {
            let broken = tally.broken();
            assert!(broken.len() == 1 && broken[0].contains(words), "{broken:?}");
        }
    }

    #[test]
    fn a_refusal_is_due_only_with_a_dead_token_in_an_outage_that_outlasts_it() {
        let refused = || Cloned::Refused(String::new());
        assert_eq!(counted(&attempt(refused(), 1, true)), [0, 0, 1]);
        assert_eq!(counted(&attempt(refused(), 1, false)), [0, 1, 0]);
        assert_eq!(counted(&attempt(refused(), -1, true)), [0, 1, 0]);
        assert_eq!(counted(&attempt(Cloned::Failed(String::new()), 1, true)), [0, 1, 0]);
        assert_eq!(counted(&attempt(Cloned::Yes, -1, false)), [1, 0, 0]);
    }

    #[test]
    fn scripts_find_the_names_that_the_readme_gives() {
        let json = serde_json::to_value(Tally { outage_seconds: Some(13.5), ..kept() }).unwrap();
        for name in ["clones", "failedClones", "rotations", "outageSeconds", "recoverySeconds"] {
            assert!(json[name].is_number(), "{name}");
        }
    }
}
