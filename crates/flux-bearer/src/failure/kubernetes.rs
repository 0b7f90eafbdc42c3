//! What the Kubernetes API says when it takes no write.

use std::time::Duration;

use super::Class::{Permanent, Transient};
use super::Failure;

/// The failure for an answer to a write of the Secret `name`: HTTP status, the Status object's `reason`, and the fields
/// that its causes name.
pub fn from_answer(status: u16, reason: &str, fields: &[&str], name: &str, retry_after: Option<Duration>) -> Failure {
    let code = format!("HTTP {status}");
    let failure = match (status, reason) {
        (403, _) => Failure::new(
            "Forbidden",
            Permanent,
            code,
            format!("the controller may not write Secret {name}"),
            format!("Add {name} to the resourceNames of the controller's Role, with get, list, watch, create, patch"),
        ),
        (404, _) => Failure::new(
            "NamespaceGone",
            Permanent,
            code,
            "the namespace doesn't exist any more",
            "Delete the BearerToken, or make the namespace again",
        ),
        // A Secret of type kubernetes.io/basic-auth can't lose its user name and password.
        (422, _) if fields.iter().any(|field| field.starts_with("data[")) => Failure::new(
            "SecretNeedsBasic",
            Permanent,
            code,
            format!("Secret {name} is of a type that needs the keys username and password; it was not touched"),
            "Set spec.secret.formats: [Basic], which writes them",
        ),
        (422, _) if fields.contains(&"data") || fields.contains(&"immutable") => Failure::new(
            "SecretImmutable",
            Permanent,
            code,
            format!("Secret {name} is immutable"),
            format!("kubectl delete secret {name}, and it is made anew at once"),
        ),
        // Another object of the same name has come between: the write is pinned to the uid of the old one, or was to make it.
        (422, _) if fields.contains(&"metadata.uid") || fields.contains(&"type") => busy(code),
        (409 | 429 | 408 | 500.., _) => busy(code),
        _ => Failure::new(
            "WriteRejected",
            Permanent,
            code,
            format!("the Kubernetes API refuses the write of Secret {name}"),
            "Look for an admission policy or webhook that guards Secrets",
        ),
    };
    failure.retry_after(retry_after)
}

fn busy(code: String) -> Failure {
    let cause = "the Kubernetes API takes no write at the moment";
    Failure::new("KubernetesUnavailable", Transient, code, cause, "Retried by itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_reason() {
        let cases: &[(u16, &str, &[&str], &str)] = &[
            (403, "Forbidden", &[], "Forbidden"),
            (404, "NotFound", &[], "NamespaceGone"),
            (422, "Invalid", &["data[username]", "data[password]"], "SecretNeedsBasic"),
            (422, "Invalid", &["data"], "SecretImmutable"),
            (422, "Invalid", &["metadata.annotations"], "WriteRejected"),
            (422, "Invalid", &["metadata.uid"], "KubernetesUnavailable"),
            (422, "Invalid", &["type"], "KubernetesUnavailable"),
            (400, "BadRequest", &[], "WriteRejected"),
            (409, "Conflict", &[], "KubernetesUnavailable"),
            (500, "InternalError", &[], "KubernetesUnavailable"),
            (429, "TooManyRequests", &[], "KubernetesUnavailable"),
        ];
        for (status, reason, fields, expected) in cases {
            assert_eq!(from_answer(*status, reason, fields, "s", None).reason, *expected, "{status} {fields:?}");
        }
    }
}
