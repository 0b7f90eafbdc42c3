//! A token answer, read leniently: Entra ID and IMDS write the same fields, one as numbers and the other as strings.

use std::time::Duration;

use bytes::Bytes;
use flux_bearer::token::Grant;
use http::Response;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::http::headers::server_time;

#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    expires_in: Option<Value>,
    expires_on: Option<Value>,
    refresh_in: Option<Value>,
}

/// What `answer` grants, or nothing when it is no success or no token answer.
pub(crate) fn grant(answer: &Response<Bytes>) -> Option<Grant> {
    let read: Answer = answer.status().is_success().then(|| serde_json::from_slice(answer.body()).ok())??;
    Some(Grant {
        secret: read.access_token,
        expires_in: read.expires_in.as_ref().and_then(seconds),
        expires_on: read.expires_on.as_ref().and_then(epoch),
        refresh_in: read.refresh_in.as_ref().and_then(seconds),
        server_time: server_time(answer.headers()),
    })
}

/// The token that a person's sign-in hands out beside the access token, to get further ones without the person.
pub(crate) fn refresh_token(answer: &Response<Bytes>) -> Option<SecretString> {
    #[derive(Deserialize)]
    struct Answer {
        refresh_token: SecretString,
    }
    serde_json::from_slice(answer.body()).ok().map(|answer: Answer| answer.refresh_token)
}

/// A time in seconds since 1970, as a number or as a string with one.
pub(crate) fn epoch(value: &Value) -> Option<Timestamp> {
    seconds(value).and_then(since_epoch)
}

/// Seconds as a number or as a string with one; anything else says nothing.
fn seconds(value: &Value) -> Option<Duration> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(number).ok()
}

fn since_epoch(seconds: Duration) -> Option<Timestamp> {
    Timestamp::UNIX_EPOCH.checked_add(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Grant> {
        grant(&Response::new(Bytes::copy_from_slice(body.as_bytes())))
    }

    #[test]
    fn numbers_are_read_in_either_dress() {
        for body in [
            r#"{"access_token":"t","expires_in":3599,"expires_on":1795446000,"refresh_in":1800}"#,
            r#"{"access_token":"t","expires_in":"3599","expires_on":"1795446000","refresh_in":" 1800 "}"#,
            r#"{"access_token":"t","expires_in":3599.0,"expires_on":1795446000.0,"refresh_in":1800.0,"token_type":"Bearer","x":[1]}"#,
        ] {
            let grant = read(body).unwrap();
            assert_eq!(grant.expires_in, Some(Duration::from_secs(3599)));
            assert_eq!(grant.expires_on.map(Timestamp::as_second), Some(1_795_446_000));
            assert_eq!(grant.refresh_in, Some(Duration::from_mins(30)));
        }
    }

    #[test]
    fn a_number_that_is_none_says_nothing() {
        for odd in ["null", "-1", "\"soon\"", "\"\"", "\"NaN\"", "\"inf\"", "1e300", "[3599]", "{}", "true"] {
            let grant = read(&format!(r#"{{"access_token":"t","expires_in":{odd},"expires_on":{odd}}}"#)).unwrap();
            assert_eq!((grant.expires_in, grant.expires_on), (None, None), "{odd}");
        }
    }

    #[test]
    fn an_answer_without_a_token_grants_nothing() {
        for body in ["", "{}", "[]", "null", r#"{"access_token":null}"#, r#"{"access_token":{"a":1}}"#, "<html>"] {
            assert!(read(body).is_none(), "{body}");
        }
    }
}
