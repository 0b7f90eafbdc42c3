//! The measurement of the promise that `docs/outages.csv` holds: that it keeps the promise, and that it is today's.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use flux_bearer_world::outages::{Away, Endured, LIFETIMES, endure, table};

/// Seconds after an outage in which all is well again.
const RECOVERED: u64 = 60;

/// By how much an outage has to be shorter than half the life of a token, in seconds.
const LESS: u32 = 120;

fn written() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/outages.csv")).unwrap()
}

fn outages() -> Vec<Endured> {
    let text = written();
    let read = |line: &str| {
        let (name, numbers) = line.split_once(',').unwrap();
        let [lifetime, outage, expired, recovered]: [u32; 4] =
            numbers.split(',').map(|number| number.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
        Endured {
            away: Away::ALL.into_iter().find(|away| away.name() == name).unwrap(),
            lifetime,
            outage,
            expired: expired.into(),
            recovered: recovered.into(),
        }
    };
    text.lines().skip(1).map(read).collect()
}

#[test]
fn row_01_02_19_an_outage_of_half_the_life_less_two_minutes_leaves_no_expired_second_and_any_is_over_within_a_minute() {
    for one in outages() {
        assert!(one.recovered <= RECOVERED, "{one:?}");
        assert!(one.expired == 0 || one.outage > one.lifetime / 2 - LESS, "{one:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_what_is_measured() {
    let written = outages();
    assert_eq!(table(&written), self::written());
    for away in Away::ALL {
        for lifetime in LIFETIMES {
            let mine = written.iter().filter(|one| one.away == away && one.lifetime == lifetime);
            // The shortest that leaves an expired second: where a controller does worse than it did, that shows first.
            let first = mine.min_by_key(|one| (one.expired == 0, one.outage)).unwrap();
            assert_eq!(endure(away, lifetime, first.outage).await.unwrap(), *first);
        }
    }
}
