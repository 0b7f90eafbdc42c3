//! What Azure DevOps says when a token opens no repository.

use std::time::Duration;

use super::Class::{Permanent, Transient};
use super::Failure;

/// Reason of a refusal that a newer token may mend: a challenge of continuous access evaluation (CAE).
pub const OUTDATED: &str = "TokenOutdated";

/// The failure for an answer to `info/refs`.
///
/// Any 203, any redirect and any HTML answer is the sign-in page, so a rejected token: `html` says that the body was
/// HTML. A 404 hides whether the repository or the right is missing.
pub fn from_answer(status: u16, html: bool, retry_after: Option<Duration>) -> Failure {
    let failure = match status {
        200 if !html => Failure::new(
            "AnswerMalformed",
            Transient,
            "HTTP 200",
            "the answer is not a Git server's",
            "Something in between may answer in its place: check the proxy",
        ),
        200 | 203 | 300..=399 | 401 => Failure::new(
            "TokenRejected",
            Permanent,
            "TF400813",
            "Azure DevOps doesn't know the identity",
            "Add it to the organisation with a Basic licence: Organization settings, Users, Add users",
        ),
        403 => Failure::new(
            "AccessBlocked",
            Permanent,
            "HTTP 403",
            "a policy of the organisation or its tenant blocks the identity",
            "Look at Conditional Access and at the organisation's policies",
        ),
        404 => Failure::new(
            "RepositoryNotFound",
            Permanent,
            "TF401019",
            "the repository doesn't exist, or the identity may not read it",
            "Check the URL, and give the identity Read on project and repository and a Basic licence (Stakeholder doesn't do)",
        ),
        408 | 429 | 500.. => Failure::new(
            "AzureDevOpsUnavailable",
            Transient,
            format!("HTTP {status}"),
            "Azure DevOps is busy or not available",
            "Retried by itself",
        ),
        _ => Failure::new(
            "ProbeRejected",
            Permanent,
            format!("HTTP {status}"),
            "Azure DevOps refuses the request",
            "Open the repository's URL in a browser and compare",
        ),
    };
    failure.retry_after(retry_after)
}

/// The failure for a 401 whose challenge says `insufficient_claims`: the token was good when it was issued, and something
/// about the identity or a policy has changed since.
pub fn outdated() -> Failure {
    Failure::new(
        OUTDATED,
        Permanent,
        "insufficient_claims",
        "Azure DevOps wants a token from after a change to the identity or to a policy",
        "If a newer token doesn't help, see whether the identity was disabled, and what Conditional Access for workload identities asks of it",
    )
}

/// The failure for a 403 to the first question of a push, from somebody who is known.
pub fn no_push() -> Failure {
    Failure::new(
        "AccessDenied",
        Permanent,
        "TF401027",
        "the token may fetch from the repository and not push to it, or a policy of the organisation blocks it",
        "Give whoever it belongs to Contribute on the repository: Project settings, Repositories, Security",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_44_answers_have_their_reason() {
        let cases = [
            (401, true, "TokenRejected"),
            (203, true, "TokenRejected"),
            (302, false, "TokenRejected"),
            (200, true, "TokenRejected"),
            (200, false, "AnswerMalformed"),
            (403, false, "AccessBlocked"),
            (404, false, "RepositoryNotFound"),
            (429, false, "AzureDevOpsUnavailable"),
            (503, true, "AzureDevOpsUnavailable"),
            (400, false, "ProbeRejected"),
        ];
        for (status, html, reason) in cases {
            assert_eq!(from_answer(status, html, None).reason, reason, "{status} html: {html}");
        }
    }
}
