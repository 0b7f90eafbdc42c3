//! That the matrix is whole: every row has its tests, every test a row, and the report tells of them.

use std::path::{Path, PathBuf};

use flux_bearer_world::matrix::{self, Test, report, rows, told};

const REPORT: &str = include_str!("../../../../docs/reliability.md");

/// A folder of the workspace.
pub(super) fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The sources below a folder.
pub(super) fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    matrix::sources(folder).unwrap()
}

fn tests() -> Vec<Test> {
    let sources: Vec<_> = ["crates", "tests"].iter().flat_map(|path| sources(&folder(path))).collect();
    matrix::tests(sources.iter().map(|(_, source)| source.as_str()))
}

#[test]
fn every_row_has_a_test_or_says_why_it_has_none() {
    let tests = tests();
    assert!(rows().map(|row| row.number).eq(1..=53), "53 rows, in order");
    for row in rows() {
        let held = tests.iter().any(|test| test.rows.contains(&row.number));
        assert!(
            held || !row.open.is_empty(),
            "no test is called row_{:02}_…, and matrix.rs does not say why",
            row.number
        );
        assert!(held || row.open.contains("Not held") || row.open.contains("measure"), "row {}", row.number);
    }
}

#[test]
fn every_test_names_rows_that_there_are_and_has_a_name_of_its_own() {
    let tests = tests();
    assert!(tests.len() > 100, "{}", tests.len());
    for test in &tests {
        assert!(!test.rows.is_empty() && test.rows.iter().all(|row| (1..=53).contains(row)), "{}", test.name);
    }
    let twice: Vec<&[Test]> = tests.windows(2).filter(|pair| pair[0].name == pair[1].name).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_end_to_end_test_that_is_named_is_there() {
    let sources = sources(&folder("tests/e2e/src/tests"));
    for name in rows().flat_map(|row| row.end_to_end) {
        let line = format!("const NAME: &str = \"{name}\";");
        assert!(sources.iter().any(|(_, source)| source.contains(&line)), "there is no end-to-end test {name}");
    }
}

#[test]
fn the_report_is_of_these_rows_and_tests() {
    let outcomes = told(REPORT);
    assert!(report(&tests(), &outcomes) == REPORT, "docs/reliability.md is of other rows or tests: tests/world/matrix");
    let failed: Vec<&String> = outcomes.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn outcomes_are_read_from_either_runner() {
    let said =
        "test a::row_01_b ... ok\ntest row_02_c ... FAILED\n   12.3 s  outage: passed\n    1.0 s  leader: FAILED: no\n";
    let outcomes = matrix::outcomes(said);
    let names = ["row_01_b", "row_02_c", "outage", "leader"].map(|name| outcomes[name]);
    assert_eq!(names, [true, false, true, false]);
    let tests = matrix::tests(["    async fn row_01_b() {", "fn row_02_c() {}", "fn other() {}"]);
    let read = told(&report(&tests, &outcomes));
    assert!(read.iter().all(|(name, passed)| outcomes[name] == *passed) && read.len() == 4, "{read:?}");
}
