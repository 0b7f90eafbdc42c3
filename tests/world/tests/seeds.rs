//! The controllers through whatever a seed draws. More seeds: `cargo run -p flux-bearer-world --bin seeds`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use flux_bearer_world::seeds::{Plan, hunt, play};

#[test]
fn nothing_happens_that_must_never_happen() {
    let hunt = hunt(0..300).unwrap();
    let stories: Vec<String> = hunt.found.iter().map(ToString::to_string).collect();
    assert!(stories.is_empty(), "{}", stories.join("\n"));
    assert_eq!(hunt.runs, 300);
}

#[test]
fn a_seed_is_the_same_run_wherever_it_is_played() {
    for seed in 0..20 {
        let plan = Plan::draw(seed);
        assert_eq!(play(&plan).unwrap(), play(&plan).unwrap(), "seed {seed}");
    }
}
