//! Random bytes in the shapes that Azure's answers need. Nothing that a rule decides depends on them.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A random version 4 UUID in lower case, as Azure writes request ids.
pub(crate) fn uuid() -> String {
    format_uuid(bytes(), '4')
}

/// 16 random bytes in base64url without padding: the shape of an access token's `uti`.
pub(crate) fn opaque() -> String {
    URL_SAFE_NO_PAD.encode(bytes())
}

/// These 16 bytes as a UUID whose version digit is `version`.
pub(crate) fn format_uuid(bytes: [u8; 16], version: char) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{version}{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

fn bytes() -> [u8; 16] {
    let mut bytes = [0_u8; 16];
    // The system's random source does not fail once it has started; zeros would still be a well-formed id.
    rand::fill(&mut bytes).unwrap_or_default();
    bytes
}
