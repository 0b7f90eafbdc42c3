//! What Flux's `GitRepository` says about its credential.

/// The annotation that asks a Flux-style controller to act now; any change of its value counts.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// How go-git words an answer that a token can be the cause of, in every version that source-controller 1.7 to 1.10 pins.
/// Azure DevOps answers a dead token with 401, or with its sign-in page, which no Git client can read.
const TOKEN_WORDS: &[&str] = &[
    "authentication required",
    "authorization failed",
    "repository not found",
    "invalid pkt-len found",
    "http redirect:",
    "basic auth and bearer token cannot be set at the same time",
];

/// Whether a GitRepository's Ready condition (False with this reason and message) may be the credential's doing.
pub fn is_authentication_failure(reason: &str, message: &str) -> bool {
    reason == "AuthenticationFailed"
        || (reason == "GitOperationFailed" && TOKEN_WORDS.iter().any(|words| message.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_token_can_cause_counts() {
        let prefix = "failed to checkout and determine revision: unable to clone 'https://dev.azure.com/o/p/_git/r': ";
        let cases = [
            ("AuthenticationFailed", "failed to get secret 'ns/n'".to_owned(), true),
            ("GitOperationFailed", format!("{prefix}authentication required: <html>"), true),
            ("GitOperationFailed", format!("{prefix}repository not found: TF401019"), true),
            ("GitOperationFailed", format!("{prefix}invalid pkt-len found"), true),
            (
                "GitOperationFailed",
                format!("{prefix}http redirect: target \"/_signin\" does not end with /info/refs"),
                true,
            ),
            ("GitOperationFailed", format!("{prefix}unexpected client error: status code: 503"), false),
            ("URLInvalid", "failed to parse url".to_owned(), false),
        ];
        for (reason, message, expected) in cases {
            assert_eq!(is_authentication_failure(reason, &message), expected, "{reason}: {message}");
        }
    }
}
