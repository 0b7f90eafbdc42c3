//! What the token proxy of AKS says by itself, or in its silence. Entra ID's own answers come through it as they are.
//!
//! Its errors are documented nowhere, so a status is read as HTTP means it, and no word of a body counts.

use std::time::Duration;

use super::Class::{Permanent, Starting, Transient};
use super::{Failure, Unreachable};

/// Its name in words.
const SERVICE: &str = "the token proxy of AKS";

const UNAVAILABLE: &str = "TokenProxyUnavailable";
const REFUSED: &str = "TokenProxyRefused";

/// The failure for an answer that is not one of Entra ID's, by its HTTP status.
pub fn from_status(status: u16, retry_after: Option<Duration>) -> Failure {
    let code = format!("HTTP {status}");
    let failure = match status {
        // Both are rights in the cluster, which may come with the same apply.
        401 | 403 => Failure::new(
            REFUSED,
            Starting,
            code,
            format!("{SERVICE} does not let the controller's ServiceAccount use this identity"),
            "Bind it to a ClusterRole with the verb use-managed-identity on the identity's client id in the API group \
             cid.wi.aks.azure.com, as deploy/components/identity-binding does",
        ),
        429 => Failure::new("Throttled", Transient, code, format!("{SERVICE} asks for fewer requests"), WAIT),
        408 | 500.. => Failure::new(UNAVAILABLE, Transient, code, format!("{SERVICE} is not available"), WAIT),
        400..=499 => Failure::new(
            REFUSED,
            Permanent,
            code,
            format!("{SERVICE} refuses the request"),
            "Compare client id and tenant with the bindings of the cluster: az aks identity-binding list -g GROUP \
             --cluster-name NAME",
        ),
        _ => Failure::new(
            UNAVAILABLE,
            Transient,
            code,
            format!("the answer is not one of {SERVICE}"),
            "Check AZURE_KUBERNETES_TOKEN_PROXY: something else may answer there",
        ),
    };
    failure.retry_after(retry_after)
}

const WAIT: &str = "Retried by itself";

/// The failure of an exchange that gave no answer.
pub fn unreachable(unreachable: Unreachable) -> Failure {
    let failure = unreachable.failure(UNAVAILABLE, SERVICE);
    // It is trusted by settings of its own, and no proxy leads there.
    let fix = match unreachable {
        Unreachable::Connect | Unreachable::Timeout(_) => {
            "Check AZURE_KUBERNETES_TOKEN_PROXY and the NetworkPolicy on the way to it; retried by itself"
        }
        Unreachable::Tls => {
            "Compare AZURE_KUBERNETES_CA_FILE (or AZURE_KUBERNETES_CA_DATA) and AZURE_KUBERNETES_SNI_NAME with its \
             certificate; where none of them is set, the system's CAs and the host of AZURE_KUBERNETES_TOKEN_PROXY count"
        }
        Unreachable::Proxy | Unreachable::TooLarge(_) | Unreachable::Malformed => {
            "Check AZURE_KUBERNETES_TOKEN_PROXY: something else may answer there"
        }
        Unreachable::Cut => WAIT,
    };
    Failure { fix: fix.into(), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_its_class_and_names_no_other_service() {
        let cases = [
            (401, REFUSED, Starting, "use-managed-identity"),
            (403, REFUSED, Starting, "cid.wi.aks.azure.com"),
            (400, REFUSED, Permanent, "az aks identity-binding list"),
            (404, REFUSED, Permanent, "az aks identity-binding list"),
            (429, "Throttled", Transient, "by itself"),
            (408, UNAVAILABLE, Transient, "by itself"),
            (503, UNAVAILABLE, Transient, "by itself"),
            (200, UNAVAILABLE, Transient, "AZURE_KUBERNETES_TOKEN_PROXY"),
            (302, UNAVAILABLE, Transient, "AZURE_KUBERNETES_TOKEN_PROXY"),
        ];
        for (status, reason, class, fix) in cases {
            let failure = from_status(status, Some(Duration::from_secs(7)));
            assert_eq!((failure.reason, failure.class), (reason, class), "{status}");
            assert_eq!(
                (&*failure.code, failure.retry_after),
                (&*format!("HTTP {status}"), Some(Duration::from_secs(7)))
            );
            assert!(failure.fix.contains(fix) && failure.cause.contains(SERVICE), "{failure}");
        }
    }

    #[test]
    fn no_fix_of_a_silence_names_a_setting_that_does_not_reach_it() {
        let silences = [
            Unreachable::Connect,
            Unreachable::Timeout(Duration::from_secs(10)),
            Unreachable::Proxy,
            Unreachable::Tls,
            Unreachable::Cut,
            Unreachable::TooLarge(1),
            Unreachable::Malformed,
        ];
        for silence in silences {
            let failure = unreachable(silence);
            assert_eq!((failure.reason, failure.class), (UNAVAILABLE, Transient), "{failure}");
            assert!(!failure.fix.contains("HTTPS_PROXY") && !failure.fix.contains("--ca-file"), "{failure}");
        }
    }
}
