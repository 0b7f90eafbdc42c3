//! As much of an X.509 certificate as signing in needs: from when until when it is valid, and its RSA key.
//!
//! Nothing is granted because of it, for Entra ID compares the certificate with the one that it knows. So this reads three
//! fields and judges nothing; what is no DER is no certificate.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The field that may come before the serial number.
const VERSION: u8 = 0xa0;

/// The object identifier of an RSA key: rsaEncryption, 1.2.840.113549.1.1.1.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What is read of a certificate.
pub(super) struct Fields<'a> {
    /// From when it is valid.
    pub(super) not_before: Timestamp,
    /// Until when. What is beyond all calendars is the end of ours.
    pub(super) not_after: Timestamp,
    /// Its `RSAPublicKey` in DER, where its key is RSA.
    pub(super) rsa_key: Option<&'a [u8]>,
}

/// The fields of the certificate that `der` is.
pub(super) fn read(der: &[u8]) -> Option<Fields<'_>> {
    let mut certificate = Der(Der(der).take(SEQUENCE)?);
    let mut fields = Der(certificate.take(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.take(VERSION)?;
    }
    fields.take(INTEGER)?;
    let [_signature, _issuer, validity, _subject, public_key] = [(); 5].map(|()| fields.take(SEQUENCE));
    let mut validity = Der(validity?);
    Some(Fields {
        not_before: time(validity.element()?)?,
        not_after: time(validity.element()?)?,
        rsa_key: rsa_key(Der(public_key?)),
    })
}

fn rsa_key(mut public_key: Der<'_>) -> Option<&[u8]> {
    let algorithm = public_key.take(SEQUENCE)?;
    // The first byte counts the unused bits of the last one, of which a key has none.
    let key = public_key.take(BIT_STRING)?.strip_prefix(&[0])?;
    algorithm.starts_with(RSA).then_some(key)
}

fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // Its year has two digits, from 1950 to 2049.
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    // "99991231235959Z" is how a certificate says that it has no end.
    Some(TimeZone::UTC.to_timestamp(time).unwrap_or(Timestamp::MAX))
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Tag and content of the next element.
    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        /// Bit that says that the rest of the byte counts the bytes of the length.
        const LONG: u8 = 0x80;
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let of_length = if first & LONG == 0 { 0 } else { usize::from(first & !LONG) };
        // Four bytes of length are four gigabytes, which no certificate has.
        let (length, rest) = rest.split_at_checked(of_length).filter(|(length, _)| length.len() <= 4)?;
        let long = length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        let size = if of_length == 0 { usize::from(*first) } else { long };
        let (content, rest) = rest.split_at_checked(size)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let read = |tag, text: &str| time((tag, text.as_bytes())).map(|time| time.to_string());
        assert_eq!(read(UTC_TIME, "261201080000Z").as_deref(), Some("2026-12-01T08:00:00Z"));
        assert_eq!(read(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(read(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00Z"));
        assert_eq!(time((GENERALIZED_TIME, b"99991231235959Z")), Some(Timestamp::MAX));
        for (tag, text) in [(UTC_TIME, ""), (UTC_TIME, "261301080000Z"), (GENERALIZED_TIME, "now"), (SEQUENCE, "x")] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let whole = [&[SEQUENCE, 0x82, 0x01, 0x00, SEQUENCE, 0x84][..], &bytes].concat();
            prop_assert!(read(&bytes).is_none() && read(&whole).is_none());
        }
    }
}
