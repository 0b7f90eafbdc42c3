//! Names and uids.

use super::refusal::Cause;

/// A uid like no other of this store, the same in every run: what is derived from it can be tested.
pub(super) fn uid(number: u64) -> String {
    let (high, low) = (scrambled(number), scrambled(!number));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

/// Five characters for `generateName`, from the alphabet of the real server (no vowels, nothing to misread).
pub(super) fn suffix(number: u64) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut left = scrambled(number);
    let mut next = || {
        let at = usize::try_from(left % 27).unwrap_or_default();
        left /= 27;
        char::from(*ALPHABET.get(at).unwrap_or(&b'x'))
    };
    (0..5).map(|_| next()).collect()
}

/// The finaliser of `SplitMix64`: a bijection that spreads small numbers over all bits.
fn scrambled(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What is wrong with a name.
pub(super) fn check_name(name: &str) -> Vec<Cause> {
    const WHY: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                       and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                       validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    if name.is_empty() {
        return vec![Cause::required("metadata.name", "name or generateName is required")];
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |label: &str| label.starts_with(plain) && label.ends_with(plain) && label.chars().all(|c| plain(c) || c == '-');
    let good = name.len() <= 253 && name.split('.').all(label);
    if good { Vec::new() } else { vec![Cause::invalid("metadata.name", name, WHY)] }
}
