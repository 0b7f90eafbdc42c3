//! From what an issuer handed out to a token that may be written, or the reason why it may not.

pub mod access;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::failure::{Class, Failure};
use crate::identity::{Identity, is_guid};
use crate::resource::StatusIdentity;

/// The application id of Azure DevOps in every tenant: resource of the request, `aud` of the token.
pub const AZURE_DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798";

/// Longest token that is accepted, in bytes. Real ones have 1.5 to 3 KiB; a request header has room for 16.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest life that is believed. Real tokens live up to 28 hours.
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an issuer handed out, as the wire read it.
#[derive(Debug)]
pub struct Grant {
    /// The token.
    pub secret: SecretString,
    /// Seconds it lives from now on, as the issuer says.
    pub expires_in: Option<Duration>,
    /// When it expires, by the issuer's clock.
    pub expires_on: Option<Timestamp>,
    /// After how long the issuer wants it to be replaced.
    pub refresh_in: Option<Duration>,
    /// The issuer's clock (`Date`), which may differ from ours.
    pub server_time: Option<Timestamp>,
}

/// A token that may be written.
pub struct Token {
    /// The token.
    pub secret: SecretString,
    /// The first 64 bits of its SHA-256 in hex: tells two tokens apart without showing either.
    pub fingerprint: Box<str>,
    /// When it was received, by our clock.
    pub issued_at: Timestamp,
    /// When it expires, by our clock.
    pub expires_at: Timestamp,
    /// When the issuer wants it replaced, by our clock.
    pub refresh_hint: Option<Timestamp>,
    /// Whose it is, as far as identity and token say.
    pub holder: Arc<StatusIdentity>,
    /// When the credential expires that brought it, where that is known: a certificate.
    pub credential_expires_at: Option<Timestamp>,
    /// Whether its claims could be read and compared. The docs call tokens opaque: one that can't be read is used.
    pub verified: bool,
}

/// Neither the token nor a part of it is printed.
impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.fingerprint, self.issued_at, self.expires_at);
        out.debug_tuple("Token").field(&shown).finish()
    }
}

impl Token {
    /// The token of `grant`, received at `now` for `identity`. Nothing is known of the credential here.
    ///
    /// # Errors
    /// An empty or oversized token, one with characters that no header takes, one that has expired, one without a
    /// believable expiry, and one whose readable claims name another audience, tenant, client or object.
    pub fn accept(grant: Grant, identity: &Identity, now: Timestamp) -> Result<Self, Failure> {
        let (claims, lifetime) = examine(&grant, now)?;
        if let Some(claims) = &claims {
            check_claims(claims, identity)?;
        }
        Ok(Self {
            fingerprint: fingerprint(grant.secret.expose_secret()).into(),
            issued_at: now,
            expires_at: now + lifetime,
            refresh_hint: grant.refresh_in.map(|asked| now + asked.min(lifetime)),
            holder: Arc::new(holder(claims.as_ref(), identity)),
            credential_expires_at: None,
            verified: claims.is_some(),
            secret: grant.secret,
        })
    }
}

/// What holds of any token, whoever it is for: its claims, where it has any that can be read, and how long it lives.
fn examine(grant: &Grant, now: Timestamp) -> Result<(Option<Value>, Duration), Failure> {
    check_text(grant.secret.expose_secret())?;
    let claims = claims(grant.secret.expose_secret());
    let lifetime = lifetime(grant, claims.as_ref(), now)?;
    Ok((claims, lifetime))
}

fn check_text(token: &str) -> Result<(), Failure> {
    let fault = match token {
        "" => "the token is empty",
        long if long.len() > MAX_TOKEN_BYTES => "the token is longer than 16 KiB",
        odd if !odd.bytes().all(|byte| byte.is_ascii_graphic()) => "the token holds blanks or control characters",
        _ => return Ok(()),
    };
    Err(unusable(fault))
}

fn unusable(fault: &'static str) -> Failure {
    let fix = "Something in between may answer in the issuer's place: check the proxy";
    Failure::new("TokenUnusable", Class::Transient, "TokenUnusable", fault, fix)
}

/// How long the token still lives: the least of all that the issuer says, each by the issuer's own clock where it is known.
fn lifetime(grant: &Grant, claims: Option<&Value>, now: Timestamp) -> Result<Duration, Failure> {
    let server = grant.server_time.unwrap_or(now);
    let until = |end: Timestamp| Duration::try_from(end.duration_since(server)).unwrap_or_default();
    // A claim is a time by the issuer's clock, so it says nothing where that clock is not known.
    let claims = claims.filter(|_| grant.server_time.is_some());
    let claimed = claims.and_then(|claims| Timestamp::from_second(claims.get("exp")?.as_i64()?).ok());
    // Without an expiry in the answer the claim alone would be trusted, and the docs call tokens opaque.
    let stated = [grant.expires_in, grant.expires_on.map(until)].into_iter().flatten().min();
    let stated = stated.ok_or_else(|| unusable("the answer names no expiry"))?;
    let least = claimed.map(until).map_or(stated, |claimed| claimed.min(stated));
    match least {
        Duration::ZERO => Err(Failure::new(
            "TokenExpired",
            Class::Transient,
            "TokenExpired",
            "the issuer handed out a token that has expired already",
            "Compare the clock of the node with real time; retried by itself",
        )),
        long if long > MAX_LIFETIME => Err(unusable("the token claims to live longer than a week")),
        least => Ok(least),
    }
}

/// The claims of a JWT, unverified: a cross-check only, for nothing is granted because of them.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

fn claim<'a>(claims: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| claims.get(name)?.as_str())
}

/// What a claim says goes into a status or a message only as a GUID: a hostile token must not write prose there.
fn guid(claims: &Value, names: &[&str]) -> Option<String> {
    claim(claims, names).filter(|id| is_guid(id)).map(str::to_ascii_lowercase)
}

fn check_claims(claims: &Value, identity: &Identity) -> Result<(), Failure> {
    // A tenant may be named by domain, and the claim is always the GUID: only like is compared with like.
    let tenant = identity.tenant_id().filter(|tenant| is_guid(tenant));
    let checks = [
        ("audience", Some(AZURE_DEVOPS), claim(claims, &["aud"])),
        ("tenant", tenant, claim(claims, &["tid"])),
        ("client", identity.client_id(), claim(claims, &["appid", "azp"])),
        ("object", identity.object_id(), claim(claims, &["oid"])),
    ];
    for (what, wanted, found) in checks {
        if let (Some(wanted), Some(found)) = (wanted, found)
            && !wanted.eq_ignore_ascii_case(found)
        {
            return Err(Failure::new(
                "TokenMismatch",
                Class::Permanent,
                "TokenMismatch",
                format!("the issuer handed out a token of another {what}; it was not written"),
                "Check spec.identity, and that nothing in between answers in the issuer's place",
            ));
        }
    }
    Ok(())
}

fn holder(claims: Option<&Value>, identity: &Identity) -> StatusIdentity {
    let guid = |names: &[&str]| claims.and_then(|claims| guid(claims, names));
    StatusIdentity {
        tenant_id: guid(&["tid"]).or_else(|| identity.tenant_id().map(str::to_owned)),
        client_id: guid(&["appid", "azp"]).or_else(|| identity.client_id().map(str::to_owned)),
        object_id: guid(&["oid"]).or_else(|| identity.object_id().map(str::to_owned)),
    }
}

/// The first 64 bits of the SHA-256 of `token` in hex.
pub fn fingerprint(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let first = hash.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    format!("{first:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Selector;

    const CLIENT: &str = "11111111-1111-1111-1111-111111111111";
    const TENANT: &str = "22222222-2222-2222-2222-222222222222";
    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn identity() -> Identity {
        Identity::WorkloadIdentity { tenant_id: TENANT.into(), client_id: CLIENT.into() }
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn good() -> Value {
        serde_json::json!({"aud": AZURE_DEVOPS, "tid": TENANT, "appid": CLIENT, "oid": TENANT, "exp": 1_800_003_600})
    }

    fn grant(token: &str) -> Grant {
        Grant {
            secret: token.into(),
            expires_in: Some(Duration::from_secs(3600)),
            expires_on: None,
            refresh_in: None,
            server_time: None,
        }
    }

    #[test]
    fn a_good_token_is_accepted_with_its_holder() {
        let token = Token::accept(grant(&jwt(&good())), &identity(), NOW).unwrap();
        assert_eq!(token.expires_at, NOW + Duration::from_secs(3600));
        assert_eq!(token.holder.object_id.as_deref(), Some(TENANT));
        assert!(token.verified);
        let shown = format!("{token:?}");
        assert!(shown.contains(&*token.fingerprint) && !shown.contains("e30."), "{shown}");
    }

    #[test]
    fn the_issuer_may_want_a_token_replaced_before_its_end() {
        for (asked, hint) in [(60, 60), (u64::MAX, 3600)] {
            let grant = Grant { refresh_in: Some(Duration::from_secs(asked)), ..grant("t") };
            let token = Token::accept(grant, &identity(), NOW).unwrap();
            assert_eq!(token.refresh_hint, Some(NOW + Duration::from_secs(hint)), "{asked}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_in_every_version_for_secrets_remember_it() {
        assert_eq!(fingerprint(""), "e3b0c44298fc1c14", "the SHA-256 of nothing begins like this");
    }

    #[test]
    fn row_14_a_token_of_somebody_else_is_refused() {
        for (claim, what) in [("aud", "audience"), ("tid", "tenant"), ("appid", "client")] {
            let mut claims = good();
            claims[claim] = "33333333-3333-3333-3333-333333333333".into();
            let failure = Token::accept(grant(&jwt(&claims)), &identity(), NOW).unwrap_err();
            assert_eq!(failure.reason, "TokenMismatch");
            assert!(failure.cause.contains(what), "{failure}");
        }
        let other = Identity::ManagedIdentity { selector: Selector::ObjectId(CLIENT.into()) };
        let failure = Token::accept(grant(&jwt(&good())), &other, NOW).unwrap_err();
        assert!(failure.cause.contains("object"), "{failure}");
    }

    #[test]
    fn an_opaque_token_is_used_and_said_to_be_unverified() {
        let token = Token::accept(grant("opaque-token"), &identity(), NOW).unwrap();
        assert!(!token.verified);
        assert_eq!(token.holder.client_id.as_deref(), Some(CLIENT));
    }

    #[test]
    fn row_16_a_token_that_no_header_takes_is_refused() {
        let longest = "x".repeat(16 * 1024);
        assert!(Token::accept(grant(&longest), &identity(), NOW).is_ok());
        let long = format!("{longest}x");
        for text in ["", "a b", "a\r\nb", "a\0b", "tokén", &long] {
            assert_eq!(Token::accept(grant(text), &identity(), NOW).unwrap_err().reason, "TokenUnusable", "{text:.9}");
        }
    }

    #[test]
    fn row_10_an_expired_token_is_refused_whichever_way_it_says_so() {
        let past = NOW - Duration::from_secs(1);
        let mut by_claim = good();
        by_claim["exp"] = past.as_second().into();
        let cases = [
            Grant { expires_in: Some(Duration::ZERO), ..grant("t") },
            Grant { expires_in: None, expires_on: Some(past), ..grant("t") },
            Grant { server_time: Some(NOW), ..grant(&jwt(&by_claim)) },
        ];
        for case in cases {
            assert_eq!(Token::accept(case, &identity(), NOW).unwrap_err().reason, "TokenExpired");
        }
    }

    #[test]
    fn a_claim_counts_only_beside_the_issuers_clock() {
        let mut early = good();
        early["exp"] = NOW.as_second().into();
        assert!(Token::accept(grant(&jwt(&early)), &identity(), NOW).is_ok());
    }

    #[test]
    fn row_18_an_expiry_is_read_by_the_issuers_clock() {
        let fast = NOW + Duration::from_secs(1800);
        let grant = Grant {
            expires_in: None,
            expires_on: Some(fast + Duration::from_secs(3600)),
            server_time: Some(fast),
            ..grant("t")
        };
        let token = Token::accept(grant, &identity(), NOW).unwrap();
        assert_eq!(token.expires_at, NOW + Duration::from_secs(3600));
    }

    #[test]
    fn the_least_of_what_the_issuer_says_counts() {
        let grant = Grant { expires_on: Some(NOW + Duration::from_secs(60)), ..grant("t") };
        assert_eq!(Token::accept(grant, &identity(), NOW).unwrap().expires_at, NOW + Duration::from_secs(60));
    }

    #[test]
    fn a_token_without_a_believable_expiry_is_refused() {
        let none = Grant { expires_in: None, ..grant(&jwt(&good())) };
        let living = |secs| Grant { expires_in: Some(Duration::from_secs(secs)), ..grant("t") };
        let week = 7 * 24 * 3600;
        assert!(Token::accept(living(week), &identity(), NOW).is_ok());
        for case in [none, living(week + 1), living(u64::MAX)] {
            assert_eq!(Token::accept(case, &identity(), NOW).unwrap_err().reason, "TokenUnusable");
        }
    }

    #[test]
    fn a_claim_that_is_no_guid_reaches_no_status() {
        let mut claims = good();
        claims["oid"] = "<script>".into();
        assert_eq!(Token::accept(grant(&jwt(&claims)), &identity(), NOW).unwrap().holder.object_id, None);
    }
}
