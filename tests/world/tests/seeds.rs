//! The controllers through whatever a seed draws. More seeds: `cargo run -p flux-bearer-world --bin seeds`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::process::Command;

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

/// Each of `defects/*.patch` has to be found by some seed, which `defects/prove` sees to. Here: that they still fit the code.
#[test]
fn every_deliberate_defect_still_applies() {
    let defects = Path::new(env!("CARGO_MANIFEST_DIR")).join("defects");
    let git = |arguments: &[&str]| Command::new("git").arg("-C").arg(&defects).args(arguments).output();
    let top = match git(&["rev-parse", "--show-toplevel"]) {
        Ok(said) if said.status.success() => String::from_utf8(said.stdout).unwrap(),
        _ => {
            eprintln!("skipped: this is no git checkout, or there is no git");
            return;
        }
    };
    let patches: Vec<_> = defects.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let patches: Vec<_> =
        patches.into_iter().filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() >= 12, "{patches:?}");
    for patch in patches {
        let check = Command::new("git").args(["-C", top.trim(), "apply", "--check"]).arg(&patch).output().unwrap();
        assert!(check.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&check.stderr));
    }
}
