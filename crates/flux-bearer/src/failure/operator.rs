//! What keeps whoever does the set-up from signing in.
//!
//! Entra ID's codes mean what they mean to the controller, but a person fixes them elsewhere, and a person's sign-in
//! has codes of its own: they are in the table here, and [`super::entra`] knows the rest.

use std::time::Duration;

use super::Class::{Permanent, Transient};
use super::{Failure, entra};

/// One row: code, reason, cause, fix. Each stays until somebody changes something: a person waits for nothing to
/// spread.
struct Row(u32, &'static str, &'static str, &'static str);

const CREDENTIAL: &str = "CredentialRejected";
const IDENTITY: &str = "IdentityNotFound";
const TENANT: &str = "TenantRejected";
const POLICY: &str = "BlockedByPolicy";
const AGAIN: &str = "SignInRequired";
const DEVICE_CODE: &str = "DeviceCodeFailed";
const AZURE_CLI: &str = "AzureCliFailed";

const SIGN_IN: &str = "Sign in again; with Azure CLI: az login --tenant TENANT";
const OTHER_WAY: &str = "Sign in in another way: with Azure CLI (az login), or as a service principal";

/// From Microsoft's list of authentication errors:
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row(7_000_215, CREDENTIAL, "the client secret is wrong", "Give the secret's value, not its id"),
    Row(7_000_222, CREDENTIAL, "the client secret has expired", "az ad app credential reset --id CLIENT_ID --append"),
    Row(7_000_218, CREDENTIAL, "the request carried no credential", "Check that the client secret or the token file is not empty"),
    Row(7_000_216, CREDENTIAL, "the request carried no credential", "Check that the client secret or the token file is not empty"),
    Row(70023, CREDENTIAL, "the service account token lives longer than the 25 hours that Entra ID accepts", "Ask for one of 24 hours or less: kubectl create token NAME --audience api://AzureADTokenExchange"),
    Row(700_024, CREDENTIAL, "the federated token that signed in has expired", "Sign in again with a fresh one; if it lasts, compare this machine's clock with real time"),
    Row(700_016, IDENTITY, "the tenant has no application with this client id", "Compare client id and tenant: az ad sp show --id CLIENT_ID"),
    Row(1_000_031, IDENTITY, "the application can't be used this way", "Compare the client id: az ad sp show --id CLIENT_ID"),
    Row(50034, IDENTITY, "the tenant doesn't know this account", "Sign in with an account of the organisation's tenant: az login --tenant TENANT"),
    Row(50057, IDENTITY, "the account is disabled", "Ask the tenant's administrator to enable it"),
    Row(50105, IDENTITY, "the account is not assigned to the program that signs in", "Ask the tenant's administrator to assign it to Microsoft Azure CLI"),
    Row(90002, TENANT, "there is no such tenant in this cloud", "Compare the tenant: az account show --query tenantId"),
    Row(50020, TENANT, "the account belongs to another tenant and is no guest of this one", "Sign in with an account of the organisation's tenant: az login --tenant TENANT"),
    Row(90072, TENANT, "the account belongs to another tenant and is no guest of this one", "Sign in with an account of the organisation's tenant: az login --tenant TENANT"),
    Row(50059, TENANT, "the sign-in names no tenant", "Name it: az account show --query tenantId"),
    Row(65001, POLICY, "the tenant has not consented to the program that signs in", "Ask the tenant's administrator to consent to Microsoft Azure CLI, or sign in as a service principal"),
    Row(53000, POLICY, "Conditional Access wants a managed device", "Sign in on a device that the tenant manages, or as a service principal"),
    Row(53001, POLICY, "Conditional Access wants a device that is joined to the domain", "Sign in on a device that the tenant manages, or as a service principal"),
    Row(53003, POLICY, "Conditional Access blocks this sign-in", "Sign in in a browser (az login --tenant TENANT) on a device that the tenant manages, or as a service principal"),
    Row(50097, POLICY, "the tenant wants the device to prove itself", "Sign in in a browser: az login --tenant TENANT"),
    Row(50126, AGAIN, "user name or password is wrong", SIGN_IN),
    Row(50076, AGAIN, "the tenant wants a second factor", SIGN_IN),
    Row(50079, AGAIN, "the tenant wants a second factor to be set up", SIGN_IN),
    Row(50078, AGAIN, "the second factor has expired", SIGN_IN),
    Row(50158, AGAIN, "the tenant wants a further proof", SIGN_IN),
    Row(50173, AGAIN, "the sign-in was revoked, for example by a new password", SIGN_IN),
    Row(70008, AGAIN, "the sign-in has expired", SIGN_IN),
    Row(70043, AGAIN, "the sign-in has expired by a policy of the tenant", SIGN_IN),
    Row(700_082, AGAIN, "the sign-in has expired, because it was not used for long", SIGN_IN),
    Row(700_084, AGAIN, "the sign-in has expired", SIGN_IN),
];

/// The failure for an error answer of Entra ID: the AADSTS numbers in the order given, the OAuth `error`, the status.
pub fn entra(codes: &[u32], error: &str, status: u16, retry_after: Option<Duration>) -> Failure {
    let known = codes.iter().find_map(|code| TABLE.iter().find(|row| row.0 == *code));
    let Some(Row(code, reason, cause, fix)) = known else {
        return entra::from_answer(codes, error, status, retry_after);
    };
    Failure::new(reason, Permanent, format!("AADSTS{code}"), *cause, *fix)
}

/// The same failure of IMDS as whoever does the set-up fixes it.
pub fn imds(failure: Failure) -> Failure {
    let fix = match (failure.reason, &*failure.code) {
        ("IdentityNotFound", _) => {
            "Assign the identity to this machine, and name it by client id, object id or resource id"
        }
        // Off Azure nothing is at its address.
        (_, "ConnectionFailed" | "Timeout") => {
            "If this machine is not in Azure, sign in in another way, for example az login"
        }
        (_, "IMDS 403") => OTHER_WAY,
        _ => return failure,
    };
    Failure { fix: fix.into(), ..failure }
}

/// The failure for the OAuth `error` of a device code that ends without a sign-in; none for the words of a wait.
///
/// The words are those of RFC 8628 and of
/// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code>.
pub fn device_code(error: &str) -> Option<Failure> {
    let (code, cause, fix) = match error {
        "authorization_declined" | "access_denied" => {
            ("SignInDeclined", "the sign-in was declined in the browser", "Run it again, and accept")
        }
        "expired_token" | "code_expired" => (
            "DeviceCodeExpired",
            "nobody signed in before the code expired",
            "Run it again, and enter the code in time",
        ),
        "bad_verification_code" => ("DeviceCodeUnknown", "Entra ID doesn't know the code", "Run it again"),
        _ => return None,
    };
    Some(Failure::new(DEVICE_CODE, Permanent, code, cause, fix))
}

/// The failure of a device code that nobody entered in time.
pub fn device_code_expired() -> Failure {
    let cause = "nobody signed in before the code expired";
    Failure::new(DEVICE_CODE, Permanent, "DeviceCodeExpired", cause, "Run it again, and enter the code in time")
}

/// What is asked of Azure CLI.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The tenant, where one was named.
    pub tenant: Option<&'a str>,
    /// The scope of the token.
    pub scope: &'a str,
}

impl Asked<'_> {
    /// The command that signs in for just this.
    fn login(&self) -> String {
        let tenant = self.tenant.map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
        format!("az login{tenant} --scope {}", self.scope)
    }
}

/// The failure for a run of `az account get-access-token` that gave no token: its exit status and what it wrote to
/// stderr, which is compared with known texts and of which only AADSTS numbers are repeated.
///
/// The texts are those of azure-cli-core 2.91 and of the shells.
pub fn azure_cli(status: Option<i32>, stderr: &str, asked: Asked<'_>) -> Failure {
    let says = |text: &str| stderr.contains(text);
    if status == Some(127) || says("az: not found") || says("command not found") || says("is not recognized") {
        return azure_cli_missing();
    }
    if says("getting access token for non-current tenants is not supported") {
        let cause = "Azure CLI is signed in as a managed identity, which belongs to another tenant";
        return az(TENANT, "OtherTenant", cause, asked.login());
    }
    let codes = entra::codes(stderr);
    if !codes.is_empty() {
        let failure = entra(&codes, "invalid_grant", 400, None);
        return if failure.reason == AGAIN { Failure { fix: asked.login().into(), ..failure } } else { failure };
    }
    if says("does not exist in MSAL token cache") {
        return az(AGAIN, "TokenCacheGone", "Azure CLI has lost the sign-in of its account", asked.login());
    }
    if says("az login") {
        return az(AGAIN, "NotLoggedIn", "Azure CLI is not signed in", asked.login());
    }
    let code = status.map_or_else(|| "az: killed".to_owned(), |status| format!("az: exit {status}"));
    let cause = "Azure CLI gave no token, and says why in words that are not repeated here";
    Failure::new(AZURE_CLI, Permanent, code, cause, see_for_yourself(asked))
}

/// The failure of a machine without Azure CLI.
pub fn azure_cli_missing() -> Failure {
    let fix = "Install it (https://aka.ms/azure-cli) and sign in with az login, or sign in in another way";
    az(AZURE_CLI, "AzureCliMissing", "Azure CLI (az) is not on this machine's PATH", fix)
}

/// The failure of an Azure CLI that could not be run or did not end.
pub fn azure_cli_stuck() -> Failure {
    let cause = "Azure CLI (az) could not be run, or did not end in time";
    Failure::new(AZURE_CLI, Transient, "AzureCliStuck", cause, "Try by hand: az account show")
}

/// The failure of an Azure CLI that ended well and wrote no token that can be used.
pub fn azure_cli_unreadable(asked: Asked<'_>) -> Failure {
    let cause = "Azure CLI wrote no token with expires_on, as it does since version 2.54";
    az(AZURE_CLI, "AzureCliUnreadable", cause, format!("az upgrade, then: {}", see_for_yourself(asked)))
}

/// The same question without the token in its answer.
fn see_for_yourself(asked: Asked<'_>) -> String {
    let tenant = asked.tenant.map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
    format!("az account get-access-token{tenant} --scope {} --query expires_on", asked.scope)
}

fn az(reason: &'static str, code: &'static str, cause: &'static str, fix: impl Into<String>) -> Failure {
    Failure::new(reason, Permanent, code, cause, fix.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    const ASKED: Asked<'_> = Asked { tenant: Some("example.org"), scope: "https://management.azure.com/.default" };
    const LOGIN: &str = "az login --tenant example.org --scope https://management.azure.com/.default";

    #[test]
    fn no_fix_leads_a_person_to_a_bearertoken() {
        for Row(code, ..) in TABLE {
            let failure = entra(&[*code], "invalid_grant", 400, None);
            assert_eq!((failure.class, &*failure.code), (Permanent, &*format!("AADSTS{code}")));
            assert!(!failure.fix.contains("spec.") && !failure.fix.contains("Secret under"), "{failure}");
        }
    }

    #[test]
    fn what_a_person_shares_with_the_controller_is_told_by_its_table() {
        assert_eq!(entra(&[700_211], "invalid_client", 401, None).reason, "FederatedCredentialMismatch");
        let busy = entra(&[], "", 429, Some(Duration::from_secs(7)));
        assert_eq!((busy.class, busy.retry_after), (Class::Transient, Some(Duration::from_secs(7))));
    }

    #[test]
    fn the_words_of_a_wait_are_no_failure() {
        for (error, code) in [
            ("authorization_pending", None),
            ("slow_down", None),
            ("authorization_declined", Some("SignInDeclined")),
            ("access_denied", Some("SignInDeclined")),
            ("expired_token", Some("DeviceCodeExpired")),
            ("code_expired", Some("DeviceCodeExpired")),
            ("bad_verification_code", Some("DeviceCodeUnknown")),
        ] {
            assert_eq!(device_code(error).map(|failure| failure.code), code.map(Into::into), "{error}");
        }
    }

    #[test]
    fn azure_clis_texts_have_their_failure() {
        let expired = "ERROR: AADSTS700082: The refresh token has expired due to inactivity. canary\r\nTrace ID: 1\n\
                       Run the command below to authenticate interactively; additional arguments may be added as needed:\n\
                       az logout\naz login --scope canary";
        for (status, stderr, reason, code) in [
            (Some(127), "/bin/sh: 1: az: not found", "AzureCliFailed", "AzureCliMissing"),
            (Some(127), "", "AzureCliFailed", "AzureCliMissing"),
            (Some(1), "/bin/sh: 1: az: not found", "AzureCliFailed", "AzureCliMissing"),
            (Some(1), "bash: line 1: az: command not found", "AzureCliFailed", "AzureCliMissing"),
            (Some(1), "'az' is not recognized as an internal or external command", "AzureCliFailed", "AzureCliMissing"),
            (Some(1), "ERROR: Please run 'az login' to setup account.", "SignInRequired", "NotLoggedIn"),
            (Some(1), expired, "SignInRequired", "AADSTS700082"),
            (Some(1), "ERROR: AADSTS53003: Access has been blocked", "BlockedByPolicy", "AADSTS53003"),
            (Some(1), "ERROR: AADSTS999999: canary", "RequestRejected", "AADSTS999999"),
            (
                Some(1),
                "ERROR: User 'canary' does not exist in MSAL token cache. Run `az login`.",
                "SignInRequired",
                "TokenCacheGone",
            ),
            (
                Some(1),
                "ERROR: For managed identity account, getting access token for non-current tenants is not supported. \
                 The specified tenant must be canary",
                "TenantRejected",
                "OtherTenant",
            ),
            (Some(2), "az: 'canary' is misspelled", "AzureCliFailed", "az: exit 2"),
            (None, "", "AzureCliFailed", "az: killed"),
        ] {
            let failure = azure_cli(status, stderr, ASKED);
            assert_eq!((failure.reason, &*failure.code), (reason, code), "{stderr}");
            assert!(!failure.to_string().contains("canary"), "{failure}");
            assert_eq!(failure.fix == LOGIN, ["SignInRequired", "TenantRejected"].contains(&reason), "{failure}");
        }
    }

    #[test]
    fn what_azure_cli_does_not_tell_is_seen_by_the_same_question_without_the_token() {
        let question = "az account get-access-token --tenant example.org \
                        --scope https://management.azure.com/.default --query expires_on";
        assert_eq!(azure_cli(Some(2), "canary", ASKED).fix, question);
        assert_eq!(azure_cli_unreadable(ASKED).fix, format!("az upgrade, then: {question}"));
    }

    #[test]
    fn a_machine_without_imds_is_sent_elsewhere() {
        let failure = crate::failure::Unreachable::Connect.failure("ImdsUnavailable", "IMDS");
        assert!(imds(failure).fix.contains("az login"));
        let failure = crate::failure::imds::from_answer(400, "invalid_request", None);
        assert!(!imds(failure).fix.contains("spec."));
        let failure = crate::failure::imds::from_answer(403, "", None);
        assert_eq!(imds(failure).fix, OTHER_WAY);
    }
}
