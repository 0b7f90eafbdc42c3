//! What an answer's headers tell.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The server's clock, from `Date`.
pub fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    timestamp(text(headers, DATE.as_str())?)
}

/// How long the server asks to be left alone.
///
/// The forms and their order are those of Azure's own client libraries: `retry-after-ms` and `x-ms-retry-after-ms` in
/// milliseconds, then `Retry-After` in seconds or as a date, which is read by the server's own `Date`. A date that has
/// passed asks for nothing; what can't be read is left out.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis = |name| digits(text(headers, name)?).map(Duration::from_millis);
    let seconds = || digits(text(headers, RETRY_AFTER.as_str())?).map(Duration::from_secs);
    let until = || {
        let end = timestamp(text(headers, RETRY_AFTER.as_str())?)?;
        Some(Duration::try_from(end.duration_since(server_time(headers)?)).unwrap_or_default())
    };
    millis("retry-after-ms").or_else(|| millis("x-ms-retry-after-ms")).or_else(seconds).or_else(until)
}

/// The first value of a header, when it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// What the body is said to be, in lower case and without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A run of digits; one beyond any number means as long as can be.
fn digits(text: &str) -> Option<u64> {
    let numeric = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| text.parse().unwrap_or(u64::MAX))
}

/// HTTP's date (`Sun, 06 Nov 1994 08:49:37 GMT`) is a form of the one in e-mail.
fn timestamp(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 22 Nov 2026 10:00:00 GMT";
    const LATER: &str = "Sun, 22 Nov 2026 10:01:30 GMT";

    type Pairs = &'static [(&'static str, &'static str)];

    fn asked(pairs: Pairs) -> Option<Duration> {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        retry_after(&pairs.collect())
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let cases: &[(Pairs, Option<u64>)] = &[
            (&[("retry-after", "60")], Some(60_000)),
            (&[("retry-after", " 0 ")], Some(0)),
            (&[("retry-after-ms", "250")], Some(250)),
            (&[("x-ms-retry-after-ms", "1500"), ("retry-after", "60")], Some(1500)),
            (&[("retry-after-ms", "soon"), ("retry-after", "60")], Some(60_000)),
            (&[("date", DATE), ("retry-after", LATER)], Some(90_000)),
            (&[("date", LATER), ("retry-after", DATE)], Some(0)),
            (&[("retry-after", LATER)], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "1.5")], None),
            (&[], None),
        ];
        for (headers, millis) in cases {
            assert_eq!(asked(headers), millis.map(Duration::from_millis), "{headers:?}");
        }
    }

    #[test]
    fn a_number_beyond_any_number_is_as_long_as_can_be() {
        assert_eq!(asked(&[("retry-after", "99999999999999999999999")]), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn the_servers_clock_is_read() {
        let read = |text: &'static str| timestamp(text).map(Timestamp::as_second);
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(read("Mon, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777), "a wrong weekday changes nothing");
        assert_eq!(read("yesterday"), None);
    }
}
