//! `TokenRequest`: a token of a ServiceAccount that Kubernetes is asked for, as a Pod of that account would be given one.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

/// Longest service account token that is sent on, in bytes. Real ones have 1 to 2 KiB.
pub const MAX_BYTES: usize = 16 * 1024;

/// How long the token lives, in seconds: the least that Kubernetes gives, for it is used at once.
const SECONDS: u32 = 600;

/// What is asked for: a token for this audience.
pub fn body(audience: &str) -> Vec<u8> {
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": SECONDS},
    });
    asked.to_string().into_bytes()
}

/// The token in an answer; nothing where there is none, or one that no form would take.
pub fn token(answer: &[u8]) -> Option<SecretString> {
    #[derive(Deserialize)]
    struct Answer {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        token: SecretString,
    }
    let token = serde_json::from_slice::<Answer>(answer).ok()?.status.token;
    let text = token.expose_secret();
    let fits = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_asked_for_and_one_audience() {
        let asked: serde_json::Value = serde_json::from_slice(&body("api://x")).unwrap();
        assert_eq!(asked["spec"], json!({"audiences": ["api://x"], "expirationSeconds": 600}));
    }

    #[test]
    fn only_what_a_form_takes_is_a_token() {
        let read = |token: &str| token_of(&json!({"status": {"token": token}}).to_string());
        let longest = "x".repeat(16 * 1024);
        assert_eq!(read("e30.e30.c2ln").as_deref(), Some("e30.e30.c2ln"));
        assert_eq!(read(&longest), Some(longest.clone()));
        for odd in ["", "a b", "a\r\nb", "é", &format!("{longest}x")] {
            assert_eq!(read(odd), None);
        }
        for answer in ["", "{}", "[]", r#"{"status":{"token":7}}"#, r#"{"status":null}"#] {
            assert_eq!(token_of(answer), None, "{answer}");
        }
    }

    fn token_of(answer: &str) -> Option<String> {
        token(answer.as_bytes()).map(|token| token.expose_secret().to_owned())
    }
}
