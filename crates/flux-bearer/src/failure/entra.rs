//! What Entra ID's token endpoint says when it gives no token.
//!
//! Entra ID tells its clients to program against `error` and to expect codes to change, so every number that is not in
//! the table still gets a class, from `error` and the HTTP status.

use std::borrow::Cow;
use std::time::Duration;

use super::Class::{Permanent, Propagation, Reread, Transient};
use super::{Class, Failure};

/// One row: code, class, reason, cause, fix.
struct Row(u32, Class, &'static str, &'static str, &'static str);

const FEDERATION: &str = "FederatedCredentialMismatch";
const CREDENTIAL: &str = "CredentialRejected";
const IDENTITY: &str = "IdentityNotFound";
const TENANT: &str = "TenantRejected";
const RESOURCE: &str = "ResourceRejected";
const POLICY: &str = "BlockedByPolicy";
const UNAVAILABLE: &str = "EntraUnavailable";
const REQUEST: &str = "RequestRejected";

const FIX_FEDERATION: &str =
    "Compare issuer, subject and audience: az identity federated-credential list --identity-name NAME -g GROUP";
const WAIT: &str = "Retried by itself";

/// Every code of the job, from Microsoft's list of authentication errors and from field reports.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row(70021, Propagation, FEDERATION, "no federated credential of the identity matches the service account token", FIX_FEDERATION),
    Row(700_211, Propagation, FEDERATION, "no federated credential has the issuer of the service account token", "Compare it byte for byte, the trailing slash included: kubectl get --raw /.well-known/openid-configuration"),
    Row(700_212, Propagation, FEDERATION, "no federated credential has the audience of the service account token", "Both must say api://AzureADTokenExchange"),
    Row(700_213, Propagation, FEDERATION, "no federated credential has the subject of the service account token", "The subject is system:serviceaccount:NAMESPACE:NAME of the controller's service account"),
    Row(7_002_138, Permanent, FEDERATION, "the federated credential's subject differs from the token's in upper and lower case", "Make the federated credential again with the exact case of namespace and service account"),
    Row(7_002_137, Permanent, FEDERATION, "the federated credential nearly matches the service account token", FIX_FEDERATION),
    Row(7_002_121, Permanent, FEDERATION, "the federated credential nearly matches the service account token's audience", FIX_FEDERATION),
    Row(70023, Permanent, CREDENTIAL, "the service account token lives longer than the 25 hours that Entra ID accepts", "Mount a projected token with expirationSeconds of 86400 or less; the pod's default token doesn't do"),
    Row(70025, Propagation, FEDERATION, "the identity has no federated credential", "az identity federated-credential create --identity-name NAME -g GROUP --issuer ISSUER --subject SUBJECT --audience api://AzureADTokenExchange"),
    Row(700_024, Reread, CREDENTIAL, "the service account token, or the assertion that a certificate signed, is not within its valid time", "If it lasts, compare the clocks of the node and the API server with real time"),
    Row(700_027, Reread, CREDENTIAL, "the signature of the assertion is not valid", "If it lasts: the issuer has to publish the key it signs with (kubectl get --raw /openid/v1/jwks), and a certificate has to be registered (az ad app credential list --cert --id CLIENT_ID)"),
    Row(700_030, Permanent, CREDENTIAL, "the certificate's subject name or issuer is not authorised", "Register the certificate with the application"),
    Row(700_222, Permanent, CREDENTIAL, "a token of Entra ID itself was used as the assertion", "Use a service account token of the cluster"),
    Row(700_227, Permanent, CREDENTIAL, "the assertion is a token of Entra ID for a forbidden audience", "Use a service account token of the cluster"),
    Row(700_229, Permanent, CREDENTIAL, "the assertion is a token of Entra ID for a user", "Use a service account token of the cluster"),
    Row(700_223, Permanent, POLICY, "the tenant's policy refuses this issuer for federation", "Ask the tenant's administrator to allow the cluster's issuer"),
    Row(700_238, Permanent, POLICY, "the tenant's policy refuses this issuer for federation", "Ask the tenant's administrator to allow the cluster's issuer"),
    Row(7_002_381, Permanent, POLICY, "the tenant's policy on federation demands a claim that the token lacks", "Ask the tenant's administrator about the policy on federated credentials"),
    Row(90061, Transient, UNAVAILABLE, "Entra ID can't read the cluster's issuer", "The issuer must answer on the internet with a public certificate: curl ISSUER/.well-known/openid-configuration"),
    Row(700_016, Propagation, IDENTITY, "the tenant has no identity with this client id", "Compare spec.identity.clientId and tenantId: az identity show -n NAME -g GROUP --query '{c:clientId,t:tenantId}'"),
    Row(7_000_229, Permanent, IDENTITY, "the application has no service principal in the tenant", "az ad sp create --id CLIENT_ID"),
    Row(7_000_215, Permanent, CREDENTIAL, "the client secret is wrong", "Put the secret's value, not its id, into the Secret under clientSecret"),
    Row(7_000_222, Permanent, CREDENTIAL, "the client secret has expired", "az ad app credential reset --id CLIENT_ID --append, then update the Secret; a managed identity needs none"),
    Row(7_000_218, Permanent, CREDENTIAL, "the request carried no credential", "Check that the projected token is mounted and not empty"),
    Row(7_000_216, Permanent, CREDENTIAL, "the request carried no credential", "Check that the projected token is mounted and not empty"),
    Row(7_000_112, Permanent, IDENTITY, "the application is disabled", "az ad sp update --id CLIENT_ID --set accountEnabled=true"),
    Row(90002, Permanent, TENANT, "there is no such tenant in this cloud", "Compare spec.identity.tenantId: az account show --query tenantId"),
    Row(900_023, Permanent, TENANT, "the tenant id is malformed", "It is a GUID or a verified domain: az account show --query tenantId"),
    Row(900_021, Permanent, TENANT, "the tenant id is all zeros, as an organisation without Entra ID reports it", "Connect the Azure DevOps organisation to Entra ID"),
    Row(900_439, Permanent, TENANT, "the application belongs to another cloud", "Azure DevOps Services exists in the public cloud alone: use an identity there"),
    Row(90038, Permanent, TENANT, "the tenant belongs to another cloud", "Azure DevOps Services exists in the public cloud alone: use an identity there"),
    Row(50020, Permanent, TENANT, "the account belongs to another tenant", "Use an identity of the organisation's tenant"),
    Row(500_011, Permanent, RESOURCE, "Azure DevOps is not known in the tenant", "Use the tenant that the organisation is connected to"),
    Row(50001, Permanent, RESOURCE, "Azure DevOps is not known in the tenant", "Use the tenant that the organisation is connected to"),
    Row(500_014, Permanent, RESOURCE, "Azure DevOps is disabled in the tenant", "Ask the tenant's administrator to enable it"),
    Row(53003, Permanent, POLICY, "Conditional Access blocks this identity", "Ask the tenant's administrator to exclude the identity, or use a managed identity"),
    Row(65001, Permanent, POLICY, "consent is missing", "An app-only token for Azure DevOps needs none: check the client id"),
    Row(70011, Permanent, REQUEST, "the scope is not valid", "This is a fault of flux-bearer: report it with the code"),
    Row(1_002_012, Permanent, REQUEST, "the scope is not valid", "This is a fault of flux-bearer: report it with the code"),
    Row(900_144, Permanent, REQUEST, "the request lacks a parameter", "This is a fault of flux-bearer: report it with the code"),
    Row(90014, Permanent, REQUEST, "the request lacks a field", "This is a fault of flux-bearer: report it with the code"),
    Row(90033, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(90006, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(90012, Transient, UNAVAILABLE, "Entra ID timed out", WAIT),
    Row(90024, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(90090, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(50033, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(50000, Transient, UNAVAILABLE, "Entra ID can't issue a token at the moment", WAIT),
    Row(50087, Transient, UNAVAILABLE, "Entra ID has a passing fault", WAIT),
    Row(90036, Permanent, UNAVAILABLE, "Entra ID's directory has a fault that doesn't pass", "Open a support case with the request id"),
    Row(90092, Permanent, UNAVAILABLE, "Entra ID's directory has a fault that doesn't pass", "Open a support case with the request id"),
    Row(90055, Transient, "Throttled", "Entra ID throttles the tenant", WAIT),
    Row(50196, Transient, "Throttled", "Entra ID sees the same request too often", "Look for another program that signs in as this identity in a loop"),
    Row(100_007, Permanent, REQUEST, "the regional endpoint refuses this application", "This is a fault of flux-bearer: report it with the code"),
    Row(1_000_031, Permanent, IDENTITY, "the application can't be used this way", "Check spec.identity.clientId"),
];

/// How many codes of one error are looked at. Real ones have one or two.
pub const MAX_CODES: usize = 8;

/// How long the loop guard (AADSTS50196) wants to be left alone. The interval is not documented; five minutes is what
/// field reports wait.
const LOOP_GUARD: Duration = Duration::from_secs(300);

/// The failure for an error answer: the AADSTS numbers in the order given, the OAuth `error`, the HTTP status.
pub fn from_answer(codes: &[u32], error: &str, status: u16, retry_after: Option<Duration>) -> Failure {
    let known = codes.iter().find_map(|code| TABLE.iter().find(|row| row.0 == *code));
    match (known, codes.first()) {
        (Some(row), _) => from_row(row, retry_after),
        (None, Some(code)) => unknown(format!("AADSTS{code}").into(), error, status, retry_after),
        (None, None) => from_error(error, status, retry_after),
    }
}

/// The failure for an answer without a code: throttling and gateway faults come as plain text or HTML.
pub fn from_status(status: u16, retry_after: Option<Duration>) -> Failure {
    from_error("", status, retry_after)
}

/// The AADSTS numbers in a text, in their order; nothing else of it is kept.
pub fn codes(text: &str) -> Vec<u32> {
    text.split("AADSTS").skip(1).filter_map(leading_number).take(MAX_CODES).collect()
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn from_row(Row(code, class, reason, cause, fix): &Row, retry_after: Option<Duration>) -> Failure {
    let asked = retry_after.or_else(|| (*code == 50196).then_some(LOOP_GUARD));
    Failure::new(reason, *class, format!("AADSTS{code}"), *cause, *fix).retry_after(asked)
}

fn from_error(error: &str, status: u16, retry_after: Option<Duration>) -> Failure {
    unknown(format!("HTTP {status}").into(), error, status, retry_after)
}

fn unknown(code: Cow<'static, str>, error: &str, status: u16, retry_after: Option<Duration>) -> Failure {
    let passing = matches!(error, "temporarily_unavailable" | "server_error");
    let failure = match status {
        429 => Failure::new("Throttled", Transient, code, "Entra ID asks for fewer requests", WAIT),
        408 | 500.. => Failure::new(UNAVAILABLE, Transient, code, "Entra ID is not available", WAIT),
        _ if passing => Failure::new(UNAVAILABLE, Transient, code, "Entra ID is not available", WAIT),
        400..=499 if !error.is_empty() => {
            let fix = "Look the code up: https://login.microsoftonline.com/error";
            Failure::new(REQUEST, Permanent, code, "Entra ID refuses the request", fix)
        }
        _ => {
            let fix = "Something in between may answer in its place: check the proxy";
            Failure::new(UNAVAILABLE, Transient, code, "the answer is not one of Entra ID's", fix)
        }
    };
    failure.retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of the reference, by what they mean for the next attempt.
    #[test]
    fn row_08_every_code_has_its_class() {
        let expected: &[(Class, &[u32])] = &[
            (Propagation, &[70021, 700_211, 700_212, 700_213, 70025, 700_016]),
            (Reread, &[700_024, 700_027]),
            (Transient, &[90061, 90033, 90006, 90012, 90024, 90090, 50033, 50000, 50087, 90055, 50196]),
            (
                Permanent,
                &[
                    7_002_138, 7_002_137, 7_002_121, 70023, 700_030, 700_222, 700_227, 700_229, 700_223, 700_238,
                    7_002_381, 7_000_215, 7_000_222, 7_000_218, 7_000_216, 7_000_112, 90002, 900_023, 900_021, 900_439,
                    90038, 50020, 500_011, 50001, 500_014, 53003, 65001, 70011, 900_144, 90014, 90036, 90092, 100_007,
                    1_000_031, 7_000_229, 1_002_012,
                ],
            ),
        ];
        for (class, codes) in expected {
            for code in *codes {
                let failure = from_answer(&[*code], "invalid_client", 401, None);
                assert_eq!(failure.class, *class, "AADSTS{code}");
                assert_eq!(failure.code, format!("AADSTS{code}"));
                assert!(!failure.cause.is_empty() && !failure.fix.is_empty(), "AADSTS{code}");
            }
        }
        let rows: usize = expected.iter().map(|(_, codes)| codes.len()).sum();
        assert_eq!(rows, TABLE.len(), "a row of the table is not in this test");
    }

    #[test]
    fn a_code_nobody_knows_is_judged_by_error_and_status() {
        let cases = [
            (&[999_999][..], "invalid_client", 401, Permanent, "AADSTS999999"),
            (&[999_999][..], "temporarily_unavailable", 400, Transient, "AADSTS999999"),
            (&[], "", 503, Transient, "HTTP 503"),
            (&[], "", 429, Transient, "HTTP 429"),
            (&[], "", 407, Transient, "HTTP 407"),
            (&[], "invalid_request", 400, Permanent, "HTTP 400"),
            (&[], "invalid_request", 408, Transient, "HTTP 408"),
            (&[], "invalid_request", 429, Transient, "HTTP 429"),
        ];
        for (codes, error, status, class, code) in cases {
            let failure = from_answer(codes, error, status, None);
            assert_eq!((failure.class, &*failure.code), (class, code));
        }
    }

    #[test]
    fn codes_are_read_from_words() {
        assert_eq!(codes("AADSTS700213: no\r\nTrace ID: 1 (AADSTS50000)"), [700_213, 50000]);
        assert_eq!(codes("AADSTS: AADSTSx AADSTS99999999999: "), [0_u32; 0]);
        assert_eq!(codes(&"AADSTS1 ".repeat(1000)).len(), MAX_CODES);
    }

    #[test]
    fn the_first_known_code_of_several_counts() {
        assert_eq!(from_answer(&[999_999, 700_213], "invalid_client", 401, None).code, "AADSTS700213");
    }
}
