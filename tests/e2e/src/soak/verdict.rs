//! What a run shows: a table for people, and the bars that it has to keep.

#![allow(clippy::cast_precision_loss, reason = "what is counted here are thousands")]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::sampler::{Sample, Value};
use super::schedule::Fault;

/// How much more may be taken in the last quarter of a life than in the second. The first is left out: it warms up.
const GROWTH: f64 = 1.1;

/// Threads that there may be more of at the fewest. At the median would say nothing: the runtime starts some for what blocks
/// (names, files) and ends each that was idle for ten seconds, so that there are three of them or ten.
const THREADS: f64 = 1.0;

/// Seconds between two renewals of the lease: half of the renew deadline.
const RENEWAL: f64 = 15.0;

/// Renewals more than that for each strike: an attempt that failed is made again, and its answer may have been lost.
const RENEWALS_A_STRIKE: f64 = 2.0;

/// The part of the run that the process that is judged has to have led for.
const LONG: f64 = 1.0 / 3.0;

/// A strike that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// When, in seconds since the run began.
    pub(super) at: f64,
    /// What was done.
    pub(super) fault: Fault,
    /// Seconds until all was well again.
    pub(super) took: f64,
}

/// All that was seen in a run.
#[derive(Debug)]
pub(super) struct Facts {
    /// What its strikes were drawn from.
    pub(super) seed: u64,
    /// How long it was.
    pub(super) length: Duration,
    /// What was done to it.
    pub(super) marks: Vec<Mark>,
    /// What was seen of the controllers.
    pub(super) samples: Vec<Sample>,
    /// Tokens replaced in Secrets.
    pub(super) replaced: u64,
    /// Seconds with an expired token, of all Secrets together.
    pub(super) expired: f64,
    /// The least that a token had left when it was replaced, in seconds.
    pub(super) least: f64,
    /// Tokens that Entra ID made.
    pub(super) mints: u64,
    /// Times that the lease went to another process.
    pub(super) transitions: u64,
}

/// One process, while it led.
struct Life<'a>(Vec<&'a Sample>);

impl Life<'_> {
    fn span(&self) -> f64 {
        self.0.last().zip(self.0.first()).map_or(0.0, |(last, first)| last.at - first.at)
    }

    fn lease_writes(&self) -> u64 {
        self.0.last().zip(self.0.first()).map_or(0, |(last, first)| last.lease_writes - first.lease_writes)
    }

    /// The values in a quarter of its life, 1 to 4, the least first.
    fn sorted(&self, quarter: usize, value: Value) -> Vec<f64> {
        let count = self.0.len();
        let quarter = self.0.get(count * (quarter - 1) / 4..count * quarter / 4).unwrap_or_default();
        let mut values: Vec<f64> = quarter.iter().map(|sample| value(sample)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, quarter: usize, value: Value) -> f64 {
        let values = self.sorted(quarter, value);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    fn least(&self, quarter: usize, value: Value) -> f64 {
        self.sorted(quarter, value).first().copied().unwrap_or_default()
    }

    /// How much it grew an hour from its second quarter on, by least squares.
    fn slope(&self, value: Value) -> f64 {
        let points: Vec<(f64, f64)> =
            self.0.iter().skip(self.0.len() / 4).map(|sample| (sample.at / 3600.0, value(sample))).collect();
        let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / points.len().max(1) as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        if under > 0.0 { over / under } else { 0.0 }
    }
}

/// Every process that has led, the one that led longest first. A process that is killed ends a life: memory is compared
/// within one and never across two.
fn lives(samples: &[Sample]) -> Vec<Life<'_>> {
    let mut lives = BTreeMap::<u32, Life<'_>>::new();
    for sample in samples.iter().filter(|sample| sample.leads) {
        lives.entry(sample.process).or_insert(Life(Vec::new())).0.push(sample);
    }
    let mut lives: Vec<Life<'_>> = lives.into_values().collect();
    lives.sort_by(|one, other| other.span().total_cmp(&one.span()));
    lives
}

/// What has to be, what is, and whether it may be so.
#[derive(Debug)]
pub(super) struct Bar {
    name: &'static str,
    value: String,
    limit: String,
    /// Whether it is kept.
    pub(super) kept: bool,
}

/// What the process that led longest may not take much more of than it did.
const JUDGED: [(&str, Value); 3] = [
    ("resident memory, KiB", |sample| sample.resident),
    ("file descriptors", |sample| sample.descriptors),
    ("tasks", |sample| sample.tasks),
];

/// Every bar.
pub(super) fn bars(facts: &Facts) -> Vec<Bar> {
    let at_most = |name, value: f64, limit: f64| Bar {
        name,
        value: format!("{value:.0}"),
        limit: format!("at most {limit:.0}"),
        kept: value <= limit,
    };
    let lives = lives(&facts.samples);
    let Some(life) = lives.first() else { return vec![at_most("nobody has led", 1.0, 0.0)] };
    let wanted = facts.length.as_secs_f64() * LONG;
    let during = facts.marks.iter().filter(|mark| life.0.first().is_some_and(|first| mark.at >= first.at)).count();
    let during = u32::try_from(during).unwrap_or(u32::MAX);
    let renewals = life.span() / RENEWAL + RENEWALS_A_STRIKE * f64::from(during + 1);
    let handovers = facts.marks.iter().filter(|mark| mark.fault.hurts_leader()).count();
    let mut bars = vec![
        Bar {
            name: "expired-token seconds",
            value: format!("{:.1}", facts.expired),
            limit: "0".to_owned(),
            kept: facts.expired <= 0.0,
        },
        Bar {
            name: "seconds that one process led",
            value: format!("{:.0}", life.span()),
            limit: format!("at least {wanted:.0}"),
            kept: life.span() >= wanted,
        },
    ];
    bars.extend(JUDGED.map(|(name, value)| at_most(name, life.median(4, value), life.median(2, value) * GROWTH)));
    let threads: Value = |sample| sample.threads;
    bars.push(at_most("threads at the fewest", life.least(4, threads), life.least(2, threads) + THREADS));
    bars.push(at_most("its writes of the lease", life.lease_writes() as f64, renewals));
    bars.push(at_most("leader changes", facts.transitions as f64, handovers as f64));
    bars
}

/// The run and its bars, in Markdown.
pub(super) fn table(facts: &Facts, bars: &[Bar]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    write(&mut text, facts, bars)?;
    Ok(text)
}

fn write(text: &mut String, facts: &Facts, bars: &[Bar]) -> fmt::Result {
    let seconds = facts.length.as_secs_f64();
    writeln!(text, "| bar | seen | allowed | |\n|---|---|---|---|")?;
    for Bar { name, value, limit, kept } in bars {
        writeln!(text, "| {name} | {value} | {limit} | {} |", if *kept { "kept" } else { "BROKEN" })?;
    }
    writeln!(text, "\n| | |\n|---|---|")?;
    writeln!(text, "| seed, length | {}, {:.0} min |", facts.seed, seconds / 60.0)?;
    let (replaced, rate) = (facts.replaced, facts.replaced as f64 / seconds);
    writeln!(text, "| tokens replaced in Secrets | {replaced}, {rate:.1} a second |")?;
    writeln!(text, "| tokens minted | {} |", facts.mints)?;
    writeln!(text, "| least that a token had left when it was replaced | {:.1} s |", facts.least)?;
    writeln!(text, "| strikes | {} |", facts.marks.len())?;
    writeln!(text, "\n| struck | times | until all was well, median | at most |\n|---|---|---|---|")?;
    for fault in Fault::ALL {
        let mut took: Vec<f64> = facts.marks.iter().filter(|mark| mark.fault == fault).map(|mark| mark.took).collect();
        took.sort_by(f64::total_cmp);
        let (median, most) = (took.get(took.len() / 2).copied(), took.last().copied());
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1} s"));
        writeln!(text, "| {} | {} | {} | {} |", fault.name(), took.len(), shown(median), shown(most))?;
    }
    writeln!(
        text,
        "\n| led, in minutes | resident, KiB: second and last quarter | a hour | descriptors | a hour | tasks | lease writes |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for life in lives(&facts.samples).iter().filter(|life| life.span() >= seconds / 20.0) {
        let both = |value: Value| format!("{:.0}, {:.0}", life.median(2, value), life.median(4, value));
        let (first, last) = (life.0.first().map_or(0.0, |first| first.at), life.0.last().map_or(0.0, |last| last.at));
        writeln!(
            text,
            "| {:.0} to {:.0} | {} | {:+.0} | {} | {:+.0} | {} | {} |",
            first / 60.0,
            last / 60.0,
            both(|sample| sample.resident),
            life.slope(|sample| sample.resident),
            both(|sample| sample.descriptors),
            life.slope(|sample| sample.descriptors),
            both(|sample| sample.tasks),
            life.lease_writes(),
        )?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use super::*;

    /// A run of an hour in which one process leads for the last 50 minutes and takes what `resident` says at each second. What
    /// the one that follows takes, nobody judges.
    pub(in crate::soak) fn facts(resident: fn(f64) -> f64) -> Facts {
        let sample = |number: u32| {
            let at = f64::from(number) * 10.0;
            let process = if at < 600.0 { 1 } else { 2 };
            Sample {
                at,
                pod: format!("pod-{process}"),
                process,
                leads: true,
                resident: resident(at),
                proportional: 0.0,
                descriptors: 110.0,
                threads: 1.0,
                tasks: 100.0,
                writes: at,
                mints: at,
                requests: 0,
                lease_writes: u64::from(number) * 10 / 15,
            }
        };
        Facts {
            seed: 1,
            length: Duration::from_secs(3600),
            marks: vec![Mark { at: 600.0, fault: Fault::EndLeader, took: 5.0 }],
            samples: (0..360).map(sample).flat_map(|leader| [following(&leader), leader]).collect(),
            replaced: 144_000,
            expired: 0.0,
            least: 20.0,
            mints: 700,
            transitions: 1,
        }
    }

    fn following(leader: &Sample) -> Sample {
        Sample { process: 9, leads: false, resident: leader.at, ..leader.clone() }
    }

    fn broken(facts: &Facts) -> Vec<&'static str> {
        bars(facts).iter().filter(|bar| !bar.kept).map(|bar| bar.name).collect()
    }

    #[test]
    fn what_stays_as_it_is_keeps_every_bar() {
        // A process that warms up in its first minutes, and a dearer one before it.
        let facts = facts(|at| if at < 600.0 { 20_000.0 } else { 10_000.0 - 3_000.0 / (at - 599.0) });
        assert_eq!(broken(&facts), [""; 0], "{}", table(&facts, &bars(&facts)).unwrap());
    }

    #[test]
    fn what_grows_breaks_its_bar() {
        assert_eq!(broken(&facts(|at| 10_000.0 + at)), ["resident memory, KiB"]);
        let slope = lives(&facts(|at| 10_000.0 + at).samples).first().map(|life| life.slope(|sample| sample.resident));
        assert!(slope.is_some_and(|slope| (slope - 3600.0).abs() < 0.1), "{slope:?}");
    }

    #[test]
    fn threads_may_come_and_go_but_not_mount() {
        let mut facts = facts(|_| 10_000.0);
        let minute = |at: f64| (at / 60.0) % 2.0 < 1.0;
        for sample in &mut facts.samples {
            sample.threads = if minute(sample.at) { 3.0 } else { sample.at / 100.0 };
        }
        assert_eq!(broken(&facts), [""; 0]);
        for sample in &mut facts.samples {
            sample.threads = 3.0 + sample.at / 200.0;
        }
        assert_eq!(broken(&facts), ["threads at the fewest"]);
    }

    #[test]
    fn an_expired_second_a_lost_lease_and_a_process_that_never_lived_long_are_seen() {
        let mut facts = facts(|_| 10_000.0);
        facts.expired = 0.5;
        facts.transitions = 2;
        assert_eq!(broken(&facts), ["expired-token seconds", "leader changes"]);
        for (samples, process) in facts.samples.chunks_mut(120).zip(3..) {
            for sample in samples {
                sample.process = process;
            }
        }
        assert!(broken(&facts).contains(&"seconds that one process led"));
        facts.samples.clear();
        assert_eq!(broken(&facts), ["nobody has led"]);
    }

    #[test]
    fn a_lease_that_is_written_more_often_than_it_is_renewed_is_seen() {
        let mut facts = facts(|_| 10_000.0);
        facts.samples.iter_mut().for_each(|sample| sample.lease_writes *= 2);
        assert_eq!(broken(&facts), ["its writes of the lease"]);
    }
}
