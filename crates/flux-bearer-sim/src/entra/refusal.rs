//! Every AADSTS code that the simulated Entra answers: status, `error` and wording, one constructor a code.

use http::StatusCode;

use crate::state::AssertionRefusal;

const FEDERATION_DOCS: &str =
    "https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation";
const CHECK_CREDENTIAL: &str =
    "Please check your federated identity credential Subject, Audience and Issuer against the presented assertion.";
const NOT_INSTALLED: &str = "This can happen if the application has not been installed by the administrator of the \
    tenant or consented to by any user in the tenant. You";

/// A refusal by Entra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Number after `AADSTS`.
    pub(crate) code: u32,
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Member `error`.
    pub(crate) error: &'static str,
    /// Member `suberror`.
    pub(crate) suberror: Option<&'static str>,
    /// Description between the code and the trace id.
    pub(crate) message: String,
}

/// What an assertion says of itself.
pub(super) struct Presented<'a> {
    pub(super) issuer: &'a str,
    pub(super) subject: &'a str,
    pub(super) audience: &'a str,
}

impl Refusal {
    fn bad_request(code: u32, error: &'static str, message: impl Into<String>) -> Self {
        Self { code, status: StatusCode::BAD_REQUEST, error, suberror: None, message: message.into() }
    }

    fn invalid_request(code: u32, message: impl Into<String>) -> Self {
        Self::bad_request(code, "invalid_request", message)
    }

    fn invalid_client(code: u32, message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::bad_request(code, "invalid_client", message) }
    }

    /// For the codes that have been seen both ways.
    fn assertion(code: u32, as_seen: AssertionRefusal, message: impl Into<String>) -> Self {
        match as_seen {
            AssertionRefusal::InvalidClient => Self::invalid_client(code, message),
            AssertionRefusal::InvalidRequest => Self::invalid_request(code, message),
        }
    }

    /// 90002
    pub(super) fn no_tenant(tenant: &str) -> Self {
        Self::invalid_request(
            90_002,
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into \
                 the correct cloud. Check with your subscription administrator, this may happen if there are no \
                 active subscriptions for the tenant."
            ),
        )
    }

    /// The same as discovery says it.
    pub(super) fn no_tenant_in_discovery(tenant: &str) -> Self {
        Self { error: "invalid_tenant", ..Self::no_tenant(tenant) }
    }

    /// 900023 (wording unconfirmed)
    pub(super) fn malformed_tenant(tenant: &str) -> Self {
        let what = "is neither a valid DNS name, nor a valid external domain.";
        Self::invalid_request(900_023, format!("Specified tenant identifier '{tenant}' {what}"))
    }

    /// 900021 (wording unconfirmed)
    pub(super) fn zero_tenant(tenant: &str) -> Self {
        let what = "is not valid: tenant identifiers may not be an empty GUID.";
        Self::invalid_request(900_021, format!("Requested tenant identifier '{tenant}' {what}"))
    }

    /// 900144
    pub(super) fn missing_parameter(name: &str) -> Self {
        let message = format!("The request body must contain the following parameter: '{name}'.");
        Self::invalid_request(900_144, message)
    }

    /// 90014 (wording unconfirmed)
    pub(super) fn missing_field(name: &str) -> Self {
        let message = format!(
            "The required field '{name}' is missing from the credential. Ensure that you have all the necessary \
             parameters for the login request."
        );
        Self::invalid_request(90_014, message)
    }

    /// 70003 (wording unconfirmed)
    pub(super) fn unsupported_grant(grant: &str) -> Self {
        let message = format!("The app requested an unsupported grant type '{grant}'.");
        Self::bad_request(70_003, "unsupported_grant_type", message)
    }

    /// 7000216
    pub(super) fn no_credential() -> Self {
        let what = "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant";
        Self::invalid_request(7_000_216, format!("{what} type."))
    }

    /// 7000218
    pub(super) fn empty_credential() -> Self {
        let what = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        Self::invalid_client(7_000_218, what)
    }

    /// 700016
    pub(super) fn no_application(client_id: &str, tenant: &str) -> Self {
        let message = format!(
            "Application with identifier '{client_id}' was not found in the directory '{tenant}'. {NOT_INSTALLED} may \
             have sent your authentication request to the wrong tenant."
        );
        Self::bad_request(700_016, "unauthorized_client", message)
    }

    /// 7000112
    pub(crate) fn disabled(client_id: &str, name: &str) -> Self {
        let message = format!("Application '{client_id}'({name}) is disabled.");
        Self::bad_request(7_000_112, "unauthorized_client", message)
    }

    /// 50027 (wording unconfirmed)
    pub(super) fn malformed_assertion() -> Self {
        Self::invalid_request(50_027, "JWT token is invalid or malformed.")
    }

    /// 700021 (wording unconfirmed)
    pub(super) fn other_client() -> Self {
        let message = "Client assertion application identifier doesn't match 'client_id' parameter.";
        Self::invalid_client(700_021, message)
    }

    /// 700023 (wording unconfirmed)
    pub(super) fn other_realm() -> Self {
        Self::invalid_client(700_023, "Client assertion audience claim does not match Realm issuer.")
    }

    /// 70025
    pub(super) fn no_credentials(client_id: &str, name: &str) -> Self {
        let message = format!("The client '{client_id}'({name}) has no configured federated identity credentials.");
        Self::invalid_client(70_025, message)
    }

    /// 70021
    pub(super) fn no_match(presented: &Presented<'_>, as_seen: AssertionRefusal) -> Self {
        let Presented { issuer, subject, audience } = presented;
        let message = format!(
            "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. \
             Assertion Subject: '{subject}'. Assertion Audience: '{audience}'. {FEDERATION_DOCS}"
        );
        Self::assertion(70_021, as_seen, message)
    }

    /// 700211
    pub(super) fn wrong_issuer(issuer: &str) -> Self {
        let message = format!(
            "No matching federated identity record found for presented assertion issuer '{issuer}'. \
             {CHECK_CREDENTIAL} {FEDERATION_DOCS}"
        );
        Self::invalid_client(700_211, message)
    }

    /// 700212
    pub(super) fn wrong_audience(audience: &str, as_seen: AssertionRefusal) -> Self {
        let message = format!(
            "No matching federated identity record found for presented assertion audience '{audience}'. \
             {CHECK_CREDENTIAL} {FEDERATION_DOCS}"
        );
        Self::assertion(700_212, as_seen, message)
    }

    /// 700213
    pub(super) fn wrong_subject(subject: &str) -> Self {
        Self::invalid_client(700_213, subject_message(subject, ""))
    }

    /// 7002138
    pub(super) fn wrong_subject_case(subject: &str) -> Self {
        let case = "The subject matches with case-insensitive comparison, but not with case-sensitive comparison. ";
        let notice = " See breaking change notification and remediation at: https://learn.microsoft.com/en-us/entra/\
            identity-platform/reference-breaking-changes#august-2024.";
        Self::invalid_client(7_002_138, format!("{}{notice}", subject_message(subject, case)))
    }

    /// 70023
    pub(super) fn lives_too_long(issued: &str, expires: &str, as_seen: AssertionRefusal) -> Self {
        let message = format!(
            "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at \
             {issued}. Token expires on {expires}."
        );
        Self::assertion(70_023, as_seen, message)
    }

    /// 700024
    pub(super) fn outside_validity(now: &str, from: &str, until: &str) -> Self {
        let message = format!(
            "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {from}, \
             expiry time of assertion {until}. Review the documentation at \
             https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
        );
        Self::invalid_client(700_024, message)
    }

    /// 90061
    pub(super) fn issuer_unreachable() -> Self {
        Self::invalid_request(90_061, "Request to External OIDC endpoint failed.")
    }

    /// 700027
    pub(super) fn bad_signature(reason: &str) -> Self {
        let message = format!("Client assertion contains an invalid signature. [Reason - {reason}]");
        Self::invalid_client(700_027, message)
    }

    /// 7000215
    pub(super) fn wrong_secret(client_id: &str) -> Self {
        let message = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{client_id}'."
        );
        Self::invalid_client(7_000_215, message)
    }

    /// 7000222 (wording unconfirmed)
    pub(super) fn expired_secret(client_id: &str) -> Self {
        let message = format!(
            "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new \
             keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added \
             security: https://aka.ms/certCreds."
        );
        Self::invalid_client(7_000_222, message)
    }

    /// 1002012 (wording unconfirmed)
    pub(super) fn scope_without_default(scope: &str) -> Self {
        let message = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with \
             /.default suffixed to the resource identifier (application ID URI)."
        );
        Self::bad_request(1_002_012, "invalid_scope", message)
    }

    /// 70011 (wording unconfirmed)
    pub(super) fn bad_scope(scope: &str) -> Self {
        let message = format!(
            "The provided request must include a 'scope' input parameter. The provided value for the input parameter \
             'scope' is not valid. The scope {scope} is not valid."
        );
        Self::bad_request(70_011, "invalid_scope", message)
    }

    /// 500011
    pub(crate) fn no_resource(resource: &str, tenant: &str) -> Self {
        let message = format!(
            "The resource principal named {resource} was not found in the tenant named {tenant}. {NOT_INSTALLED} \
             might have sent your authentication request to the wrong tenant."
        );
        Self::bad_request(500_011, "invalid_resource", message)
    }

    /// 53003 (the `error` of an app-only sign-in is unconfirmed)
    pub(super) fn blocked_by_policy() -> Self {
        let message = "Access has been blocked by Conditional Access policies. The access policy does not allow token \
            issuance.";
        Self { suberror: Some("message_only"), ..Self::bad_request(53_003, "interaction_required", message) }
    }

    /// 70016
    pub(super) fn authorization_pending() -> Self {
        let message = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
        Self::bad_request(70_016, "authorization_pending", message)
    }

    /// 70016 with the `error` of RFC 8628 (unconfirmed of Entra)
    pub(super) fn slow_down() -> Self {
        Self::bad_request(70_016, "slow_down", "OAuth 2.0 device flow error. Poll less often.")
    }

    /// 70020 (wording unconfirmed)
    pub(super) fn device_code_expired() -> Self {
        let message = "The provided value for the input parameter 'device_code' is not valid. This device code has \
            expired.";
        Self::bad_request(70_020, "expired_token", message)
    }

    /// 65004 (code and wording unconfirmed)
    pub(super) fn authorization_declined() -> Self {
        Self::bad_request(65_004, "authorization_declined", "User declined to consent to access the app.")
    }

    /// 70018 (wording unconfirmed)
    pub(super) fn bad_device_code() -> Self {
        Self::bad_request(70_018, "bad_verification_code", "The device code was not recognized.")
    }

    /// 70000 (wording unconfirmed)
    pub(super) fn bad_refresh_token() -> Self {
        Self::bad_request(70_000, "invalid_grant", "Provided grant is invalid or malformed.")
    }

    /// 50020 (wording unconfirmed)
    pub(super) fn foreign_user(name: &str, tenant: &str) -> Self {
        let message = format!(
            "User account '{name}' does not exist in tenant '{tenant}' and cannot access the application in that tenant."
        );
        Self::bad_request(50_020, "invalid_grant", message)
    }

    /// 50000: the world itself could not sign.
    pub(crate) fn cannot_sign() -> Self {
        let message = "There was an error issuing a token.";
        let refusal = Self::bad_request(50_000, "server_error", message);
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..refusal }
    }
}

fn subject_message(subject: &str, near_match: &str) -> String {
    format!(
        "No matching federated identity record found for presented assertion subject '{subject}'. {near_match}Check \
         your federated identity credential Subject, Audience and Issuer against the presented assertion. \
         https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
    )
}
