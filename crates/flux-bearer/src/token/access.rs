//! A token of whoever does the set-up: it is sent, shown with its holder, and never written anywhere.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;

use super::{Grant, claim, examine, guid};
use crate::failure::{Class, Failure};
use crate::identity::is_guid;

/// Longest name of a holder that is shown, in characters.
const MAX_NAME: usize = 128;

/// A token that may be sent.
pub struct AccessToken {
    /// The token.
    pub secret: SecretString,
    /// When it expires, by our clock.
    pub expires_at: Timestamp,
    /// Whose it is, as far as the token says.
    pub holder: Holder,
}

/// Whose a token is: for display only, for nobody has verified it. Nothing of an opaque token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The tenant that issued it.
    pub tenant_id: Option<String>,
    /// The object id of the person or service principal in that tenant.
    pub object_id: Option<String>,
    /// The application that signed in: a person's program, or the service principal itself.
    pub client_id: Option<String>,
    /// What the person or application is called, without anything that a terminal would obey.
    pub name: Option<String>,
}

/// Neither the token nor a part of it is printed.
impl fmt::Debug for AccessToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("AccessToken").field(&self.expires_at).field(&self.holder).finish()
    }
}

impl AccessToken {
    /// The token of `grant`, received at `now`, for a resource that `audiences` name.
    ///
    /// # Errors
    /// A token that can't be one or has expired, as in [`super::Token::accept`], and one whose readable claims name
    /// another resource or another tenant than `tenant`.
    pub fn accept(grant: Grant, audiences: &[&str], tenant: Option<&str>, now: Timestamp) -> Result<Self, Failure> {
        let (claims, lifetime) = examine(&grant, now)?;
        let claims = claims.unwrap_or_default();
        check_audience(&claims, audiences)?;
        check_tenant(&claims, tenant)?;
        Ok(Self { secret: grant.secret, expires_at: now + lifetime, holder: holder(&claims) })
    }
}

/// Resource ids come with and without a slash at their end.
fn check_audience(claims: &Value, audiences: &[&str]) -> Result<(), Failure> {
    let bare = |audience: &str| audience.trim_end_matches('/').to_ascii_lowercase();
    match claim(claims, &["aud"]) {
        Some(found) if !audiences.iter().any(|wanted| bare(wanted) == bare(found)) => Err(mismatch(
            "the token is for another resource".to_owned(),
            "Something in between may answer in the issuer's place: check the proxy".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// A tenant may be named by domain, and the claim is always the GUID: only like is compared with like.
fn check_tenant(claims: &Value, tenant: Option<&str>) -> Result<(), Failure> {
    let (Some(wanted), Some(found)) = (tenant.filter(|tenant| is_guid(tenant)), guid(claims, &["tid"])) else {
        return Ok(());
    };
    if wanted.eq_ignore_ascii_case(&found) {
        return Ok(());
    }
    Err(mismatch(
        format!("the token is of tenant {found}, and tenant {wanted} is needed"),
        format!("Sign in there with an account that it knows: az login --tenant {wanted}"),
    ))
}

fn mismatch(cause: String, fix: String) -> Failure {
    Failure::new("TokenMismatch", Class::Permanent, "TokenMismatch", cause, fix)
}

fn holder(claims: &Value) -> Holder {
    // A person's sign-in name first; an application has but a display name.
    let name = claim(claims, &["upn", "preferred_username", "unique_name", "name", "app_displayname"]);
    Holder {
        tenant_id: guid(claims, &["tid"]),
        object_id: guid(claims, &["oid"]),
        client_id: guid(claims, &["appid", "azp"]),
        name: name.map(|name| name.chars().filter(|letter| is_harmless(*letter)).take(MAX_NAME).collect()),
    }
}

/// Whether a terminal shows `letter` and does nothing else: no control character, and none that turns the direction of
/// what follows.
pub fn is_harmless(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    const TENANT: &str = "22222222-2222-2222-2222-222222222222";
    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const ARM: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net/"];

    fn grant(token: &str) -> Grant {
        Grant {
            secret: token.into(),
            expires_in: Some(Duration::from_secs(3600)),
            expires_on: None,
            refresh_in: None,
            server_time: None,
        }
    }

    fn accept(claims: &Value, tenant: Option<&str>) -> Result<AccessToken, Failure> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        AccessToken::accept(grant(&token), &ARM, tenant, NOW)
    }

    #[test]
    fn a_persons_token_is_shown_with_its_holder() {
        let claims = json!({"aud": ARM[0], "tid": TENANT, "oid": TENANT, "appid": TENANT, "upn": "ada@example.org"});
        let token = accept(&claims, Some(TENANT)).unwrap();
        let ids = Some(TENANT.to_owned());
        let holder = Holder {
            tenant_id: ids.clone(),
            object_id: ids.clone(),
            client_id: ids,
            name: Some("ada@example.org".into()),
        };
        assert_eq!((token.expires_at, token.holder.clone()), (NOW + Duration::from_secs(3600), holder));
        let shown = format!("{token:?}");
        assert!(shown.contains("ada@example.org") && !shown.contains("e30"), "{shown}");
    }

    #[test]
    fn a_token_for_something_else_is_not_sent() {
        for audience in
            ["https://management.azure.com/", "https://management.core.windows.net", "HTTPS://MANAGEMENT.azure.com"]
        {
            assert!(accept(&json!({"aud": audience}), None).is_ok(), "{audience}");
        }
        let failure = accept(&json!({"aud": "https://graph.microsoft.com"}), None).unwrap_err();
        assert_eq!((failure.reason, failure.class), ("TokenMismatch", Class::Permanent));
    }

    #[test]
    fn a_token_of_another_tenant_is_told_with_the_way_to_the_right_one() {
        let other = "33333333-3333-3333-3333-333333333333";
        let claims = json!({"tid": other});
        let failure = accept(&claims, Some(TENANT)).unwrap_err();
        assert!(failure.cause.contains(other) && failure.fix.ends_with(&format!("--tenant {TENANT}")), "{failure}");
        assert!(accept(&claims, Some("example.org")).is_ok(), "a domain can't be compared with a GUID");
        assert!(accept(&claims, None).is_ok());
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        let name = format!("a\u{1b}[2J\r\n\u{202e}b{}", "x".repeat(500));
        let shown = accept(&json!({"unique_name": name, "oid": "<script>"}), None).unwrap().holder;
        assert!(shown.name.unwrap().starts_with("a[2Jbxxx"));
        assert_eq!(shown.object_id, None);
    }

    #[test]
    fn an_opaque_token_has_no_known_holder() {
        assert_eq!(AccessToken::accept(grant("opaque"), &ARM, Some(TENANT), NOW).unwrap().holder, Holder::default());
    }
}
