//! Lengths of time, as kubectl writes ages: `45s`, `3m20s`, `41m`, `5h12m`, `3d4h`.

use jiff::Timestamp;

/// A number of seconds in kubectl's look: two units where the smaller one still says something. A negative one is `0s`.
pub fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

fn two(large: i64, unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
}

/// Seconds from `now` to `then`; negative once it has passed.
pub fn until(then: Timestamp, now: Timestamp) -> i64 {
    then.as_second().saturating_sub(now.as_second())
}

/// How long a token still lives, or since when it does not.
pub fn expires_in(expires_at: Timestamp, now: Timestamp) -> String {
    match until(expires_at, now) {
        left if left > 0 => age(left),
        left => format!("EXPIRED {} ago", age(left.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let cases = [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (2460, "41m"),
            (10_800, "3h"),
            (18_720, "5h12m"),
            (36_000, "10h"),
            (273_600, "3d4h"),
            (864_000, "10d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(age(seconds), expected, "{seconds}");
        }
    }
}
