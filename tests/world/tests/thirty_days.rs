//! Thirty days of the whole controller: forty BearerTokens over eight identities, and what that costs.

mod support;

use std::collections::HashMap;

use flux_bearer_world::identities::client;
use serde_json::json;
use support::{Theatre, minutes};

const DAYS: u64 = 30;

/// Lifetimes of the eight identities, in seconds: ten minutes to a day.
const LIFETIMES: [u32; 8] = [600, 1200, 3600, 4500, 5400, 7200, 28_800, 86_400];

/// How many BearerTokens each of them has: forty in all.
const OBJECTS: [usize; 8] = [2, 3, 5, 6, 6, 6, 6, 6];

#[tokio::test(start_paused = true)]
async fn row_12_13_thirty_days_without_an_expired_second() {
    let theatre = Theatre::with(&LIFETIMES);
    let owners = OBJECTS.iter().enumerate().flat_map(|(identity, count)| std::iter::repeat_n(identity, *count));
    for (number, identity) in owners.enumerate() {
        theatre.stage.bearer_token(&name(number), &json!({"identity": {"clientId": client(identity)}}));
    }
    let _running = theatre.stage.start();
    minutes(1).await;
    theatre.stage.kube.journal().clear();
    let before: HashMap<String, usize> =
        (0..40).map(|number| (name(number), theatre.fillings(&name(number)))).collect();

    let (mut writes, mut reads) = (0, 0);
    for _ in 0..DAYS {
        minutes(24 * 60).await;
        writes += theatre.writes();
        reads += theatre.reads();
        theatre.stage.kube.journal().clear();
    }

    let expired: u64 = (0..40).map(|number| theatre.expired_seconds(&name(number))).sum();
    assert_eq!(expired, 0, "expired-token seconds");
    assert_eq!(reads, 0, "reads");
    let refreshes: usize = (0..40).map(|number| theatre.fillings(&name(number)) - before[&name(number)]).sum();
    assert!(writes <= 2 * refreshes, "{writes} writes for {refreshes} refreshes");
    let mut mints = Vec::new();
    for (number, lifetime) in LIFETIMES.into_iter().enumerate() {
        let minted = theatre.stage.world.journal().mints(&client(number));
        let (least, most) = mints_expected(lifetime);
        assert!(
            (least..=most).contains(&minted),
            "{minted} mints of tokens that live {lifetime} s, not {least} to {most}"
        );
        mints.push((lifetime, minted));
    }
    println!(
        "{DAYS} days: {refreshes} refreshes, {writes} writes, {reads} reads, {expired} expired-token seconds, mints by lifetime {mints:?}"
    );
}

fn name(number: usize) -> String {
    format!("token-{number}")
}

/// One mint a refresh of the identity's earliest object: between 40 and 45 % of the lifetime, and within the hour.
fn mints_expected(lifetime: u32) -> (u64, u64) {
    let span = DAYS * 24 * 3600;
    let life = u64::from(lifetime);
    let (early, late) = ((life * 400 / 1000).min(3420), (life * 450 / 1000).min(3600));
    (span / (late + 1), span / early + 2)
}
