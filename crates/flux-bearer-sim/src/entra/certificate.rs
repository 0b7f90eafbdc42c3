//! Sign-in with a certificate: an assertion that the client made itself (issuer and subject are its own client id).
//!
//! Entra compares the certificate, not its chain, and does not limit how long the assertion lives.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use super::assertion;
use super::refusal::Refusal;
use crate::jwt::Jwt;
use crate::state::{Application, Certificate, Tenant};

/// Whether the assertion claims to be the client's own.
pub(super) fn is_own(application: &Application, assertion: &Jwt) -> bool {
    assertion.text("iss").eq_ignore_ascii_case(&application.client_id)
}

/// Checks the client's own assertion: subject, audience, validity, certificate, signature.
pub(super) fn check(
    tenant: &Tenant,
    application: &Application,
    assertion: &Jwt,
    now: Timestamp,
) -> Result<(), Refusal> {
    if !assertion.text("sub").eq_ignore_ascii_case(&application.client_id) {
        return Err(Refusal::other_client());
    }
    if !assertion.audiences().into_iter().any(|audience| is_audience(tenant, audience)) {
        return Err(Refusal::other_realm());
    }
    assertion::check_validity(assertion, now)?;
    let certificates = application.certificates.iter().filter_map(Certificate::der);
    let mut certificates = certificates.filter(|der| is_named(assertion.header(), der));
    match certificates.next() {
        None => Err(Refusal::bad_signature("The key was not found.")),
        Some(der) if is_signed(assertion, &der).is_some() => Ok(()),
        Some(_) => Err(Refusal::bad_signature("The provided signature value did not match the expected value.")),
    }
}

/// The token endpoint, under the tenant's id or one of its domains.
fn is_audience(tenant: &Tenant, audience: &str) -> bool {
    let hosts = super::HOSTS.map(|host| format!("https://{host}/"));
    let path = hosts.iter().find_map(|host| audience.strip_prefix(host.as_str()));
    let named = path.and_then(|path| path.strip_suffix("/oauth2/v2.0/token"));
    named.is_some_and(|name| tenant.is_named(name))
}

/// Whether the header names this certificate: by SHA-256 in `x5t#S256`, or by SHA-1 in `x5t` as older clients do. MSAL for
/// Go writes the alphabet and padding of ordinary Base64 in place of those for URLs, and signs in all the same.
fn is_named(header: &Value, der: &[u8]) -> bool {
    let names: [(&str, &'static Algorithm); 2] = [("x5t#S256", &SHA256), ("x5t", &SHA1_FOR_LEGACY_USE_ONLY)];
    names.into_iter().any(|(member, algorithm)| {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(algorithm, der));
        let for_urls = |name: &str| name.trim_end_matches('=').replace('+', "-").replace('/', "_");
        header.get(member).and_then(Value::as_str).is_some_and(|name| for_urls(name) == thumbprint)
    })
}

fn is_signed(assertion: &Jwt, der: &[u8]) -> Option<()> {
    let algorithm: &'static RsaParameters = match assertion.header().get("alg")?.as_str()? {
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        _ => return None,
    };
    let (signed, signature) = assertion.signed();
    UnparsedPublicKey::new(algorithm, public_key(der)?).verify(signed, signature).ok()
}

/// The `SubjectPublicKeyInfo` of an X.509 certificate in DER: the sixth field of its first part, version apart.
pub(crate) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    /// Tag of the optional version field.
    const VERSION: u8 = 0xa0;
    let mut fields = element(element(element(certificate)?.content)?.whole)?.content;
    if element(fields)?.tag == VERSION {
        fields = element(fields)?.rest;
    }
    for _ in ["serialNumber", "signature", "issuer", "validity", "subject"] {
        fields = element(fields)?.rest;
    }
    Some(element(fields)?.whole)
}

/// An element of DER, and what follows it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    /// Bit that says that the byte counts the bytes of the length.
    const LONG: u8 = 0x80;
    let (tag, after) = der.split_first()?;
    let (first, after) = after.split_first()?;
    let of_length = if first & LONG == 0 { 0 } else { usize::from(first & !LONG) };
    // Four bytes of length are four gigabytes, which no certificate has.
    let (length, after) = after.split_at_checked(of_length).filter(|(length, _)| length.len() <= 4)?;
    let long = length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
    let size = if of_length == 0 { usize::from(*first) } else { long };
    let (content, rest) = after.split_at_checked(size)?;
    let whole = der.get(..der.len().checked_sub(rest.len())?)?;
    Some(Element { tag: *tag, content, whole, rest })
}
