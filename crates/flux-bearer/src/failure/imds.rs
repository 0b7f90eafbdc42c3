//! What the instance metadata service (IMDS) says when it gives no token.

use std::time::Duration;

use super::Class::{Permanent, Transient};
use super::Failure;

/// The failure for an answer of IMDS: HTTP status and its `error` word.
///
/// A 400 `invalid_request` is the one that people meet: no identity on the machine, or several and none chosen.
pub fn from_answer(status: u16, error: &str, retry_after: Option<Duration>) -> Failure {
    let code = format!("IMDS {status}");
    let failure = match (status, error) {
        (400, "invalid_request") => Failure::new(
            "IdentityNotFound",
            Permanent,
            code,
            "the machine has no such managed identity, or several and none is chosen",
            "Assign the identity to the node's scale set, and name it in spec.identity.clientId, objectId or resourceId",
        ),
        (400, "invalid_resource") => Failure::new(
            "ResourceRejected",
            Permanent,
            code,
            "Azure DevOps is not known in the identity's tenant",
            "Use an identity of the tenant that the organisation is connected to",
        ),
        (403, _) => Failure::new(
            "ImdsUnavailable",
            Permanent,
            code,
            "something in the place of IMDS refuses the request",
            "On AKS with IMDS restriction, or off Azure, use type WorkloadIdentity",
        ),
        (404 | 408 | 410 | 429 | 500.., _) => {
            Failure::new("ImdsUnavailable", Transient, code, "IMDS is busy or being updated", "Retried by itself")
        }
        _ => Failure::new(
            "ImdsRejected",
            Permanent,
            code,
            "IMDS refuses the request",
            "Check that the pod runs on Azure and that nothing rewrites requests to 169.254.169.254",
        ),
    };
    failure.retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_06_statuses_have_their_class() {
        let cases = [
            (400, "invalid_request", "IdentityNotFound", Permanent),
            (400, "invalid_resource", "ResourceRejected", Permanent),
            (400, "bad_request_102", "ImdsRejected", Permanent),
            (401, "unknown_source", "ImdsRejected", Permanent),
            (403, "", "ImdsUnavailable", Permanent),
            (404, "", "ImdsUnavailable", Transient),
            (410, "", "ImdsUnavailable", Transient),
            (429, "", "ImdsUnavailable", Transient),
            (500, "unknown", "ImdsUnavailable", Transient),
            (503, "", "ImdsUnavailable", Transient),
        ];
        for (status, error, reason, class) in cases {
            let failure = from_answer(status, error, None);
            assert_eq!((failure.reason, failure.class), (reason, class), "{status} {error}");
        }
    }
}
