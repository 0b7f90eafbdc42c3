//! What tells a credential in a haystack: search what must hold none (logs, events, metrics, command lines) for it.
//!
//! Tokens are told by how they begin, which does not change: as with Entra ID and Kubernetes it is that of their header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How every token of the simulated Entra ID begins: `{"typ":"JWT","alg":"RS256","x5t":"`.
pub const ACCESS_TOKEN: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsIng1dCI6I";

/// How every token of a service account begins, of [`Issuer`](crate::issuer::Issuer) as of a real API server:
/// `{"alg":"RS256","kid":"`.
pub const SERVICE_ACCOUNT_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6I";

/// The ways in which `secret` can stand somewhere: as it is, and as a part of something in Base64, where it begins at the
/// first, second or third byte of three.
///
/// What is encoded together with the bytes before or behind it is left out, so all of them are found wherever they stand.
pub fn forms(secret: &str) -> [String; 4] {
    let encoded = |before: usize| {
        let text = STANDARD.encode([&vec![0; before], secret.as_bytes()].concat());
        // Each character holds six bits: those that hold a bit of what is before it, and those at the end that hold one
        // of what follows.
        let (first, last) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
        text.get(first..last).unwrap_or_default().to_owned()
    };
    [secret.to_owned(), encoded(0), encoded(1), encoded(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands_in_base64() {
        for (before, after) in [("", ""), ("u", "!"), ("u:", ":u"), ("us:", "\n"), ("user:", "and more")] {
            let encoded = STANDARD.encode(format!("{before}{ACCESS_TOKEN}{after}"));
            assert!(forms(ACCESS_TOKEN).iter().any(|form| encoded.contains(form)), "{before:?} {after:?}");
        }
        let other = STANDARD.encode(format!("user:{SERVICE_ACCOUNT_TOKEN}"));
        assert!(!forms(ACCESS_TOKEN).iter().any(|form| other.contains(form)));
    }
}
