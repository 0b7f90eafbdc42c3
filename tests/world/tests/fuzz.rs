//! The fuzz targets for a few seconds, on stable: each corpus as it is, and thousands of changes to it that a seed draws.
//! For longer: `cargo +nightly fuzz run TARGET` in `fuzz/`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::panic::catch_unwind;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use flux_bearer_world::fuzz::{CANARY, TARGETS, Target};

/// Changed inputs of each target.
const CHANGED: u64 = 3_000;

/// How long one target may take for all of them. They take about a second.
const LONGEST: Duration = Duration::from_secs(120);

/// What parsers stumble over.
const ODD: [&str; 24] = [
    CANARY,
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "-1",
    "0",
    "1e400",
    "18446744073709551615",
    "9223372036854775807",
    "-9223372036854775808",
    "\u{0}",
    "\u{feff}",
    "é",
    "%2F",
    "..",
    "@",
    "\r\n\r\n",
    "9999-12-31T23:59:59Z",
];

#[test]
fn nothing_from_outside_panics_or_hangs_or_brings_a_secret_to_light() {
    let (done, ends) = channel();
    let targets = TARGETS.map(|(name, target)| {
        let done = done.clone();
        let run = thread::spawn(move || {
            run(name, target);
            done.send(()).unwrap();
        });
        (name, run)
    });
    drop(done);
    for _ in &targets {
        match ends.recv_timeout(LONGEST) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let late: Vec<&str> =
                    targets.iter().filter(|(_, run)| !run.is_finished()).map(|(name, _)| *name).collect();
                panic!("{late:?} did not end in {LONGEST:?}");
            }
        }
    }
    for (_, run) in targets {
        run.join().unwrap();
    }
}

fn run(name: &str, target: Target) {
    let corpus = corpus(name);
    let mut rng = Rng::with_seed(7);
    let changed: Vec<Vec<u8>> = (0..CHANGED).map(|_| change(&mut rng, &corpus)).collect();
    for input in corpus.iter().chain(&changed) {
        let shown = input.escape_ascii();
        assert!(catch_unwind(|| target(input)).is_ok(), "{name} with `{shown}`");
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    corpus
}

/// One of the corpus, with a few changes.
fn change(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = rng.choice(corpus).unwrap().clone();
    for _ in 0..rng.usize(1..6) {
        let from = rng.usize(0..=input.len());
        let until = (from + rng.usize(0..12)).min(input.len());
        match rng.u32(0..6) {
            0 => drop(input.drain(from..until)),
            1 => input.truncate(from),
            2 => input.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= 1 << rng.u32(0..8)),
            3 => {
                let copy: Vec<u8> = input[from..until].repeat(rng.usize(1..50));
                input.splice(from..from, copy);
            }
            4 => {
                let other = rng.choice(corpus).unwrap();
                let end = other[rng.usize(0..=other.len())..].to_vec();
                input.splice(from.., end);
            }
            _ => {
                input.splice(from..until, rng.choice(ODD).unwrap().bytes());
            }
        }
    }
    input
}
