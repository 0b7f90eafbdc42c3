//! Entra ID's token endpoint, through workload identity and client secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::{Identity, Selector, is_guid};
use flux_bearer::token::Grant;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::{AGENT, Http};
use flux_bearer_azure::mint::{Azure, Credential};
use flux_bearer_azure::workload::Assertion;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::server::{
    CANARY, CLIENT, TENANT, TRACE, always, assert_own_words, hostile, json as answer, refusing, server, silent, with,
};

/// A service account token as the edge reads it.
struct Projected(Result<String, Failure>);

impl Assertion for Projected {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        std::future::ready(self.0.clone().map(SecretString::from)).boxed()
    }
}

pub(crate) fn workload() -> Identity {
    Identity::WorkloadIdentity { tenant_id: TENANT.into(), client_id: CLIENT.into() }
}

pub(crate) fn principal() -> Identity {
    Identity::ClientSecret {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        namespace: "team-a".into(),
        secret: "azure".into(),
    }
}

pub(crate) fn projected(token: &str) -> Credential {
    Credential::Assertion(Arc::new(Projected(Ok(token.to_owned()))))
}

fn azure(entra: Http) -> Azure {
    Azure::new(entra, refusing(), Authority::default())
}

async fn mint(entra: Http) -> Result<Grant, Failure> {
    azure(entra).mint(&workload(), projected("e30.e30.sig")).await
}

pub(crate) fn good() -> axum::response::Response {
    answer(
        200,
        json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "the-token"}),
    )
}

/// The one request of a mint that succeeds.
async fn sent(identity: &Identity, credential: Credential) -> Request<Bytes> {
    let (entra, log) = server(|_| good());
    azure(entra).mint(identity, credential).await.unwrap();
    let mut log = log.lock().unwrap();
    assert_eq!(log.len(), 1);
    log.remove(0).1
}

#[tokio::test(start_paused = true)]
async fn a_service_account_token_goes_out_as_the_protocol_says() {
    let request = sent(&workload(), projected(" e30.e30.sig\n")).await;
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token").as_str());
    assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.headers()["accept"], "application/json");
    assert_eq!(request.headers()["user-agent"], AGENT);
    assert!(is_guid(request.headers()["client-request-id"].to_str().unwrap()));
    let body = format!(
        "grant_type=client_credentials&client_id={CLIENT}\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion=e30.e30.sig&scope=499b84ac-1321-427f-aa17-267ca6975798%2F.default"
    );
    assert_eq!(request.body(), &body);
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_goes_out_percent_encoded() {
    let request = sent(&principal(), Credential::ClientSecret("a~b+c/d=e&f %g._-é\n".into())).await;
    let body = format!(
        "grant_type=client_credentials&client_id={CLIENT}&client_secret=a%7Eb%2Bc%2Fd%3De%26f+%25g._-%C3%A9\
         &scope=499b84ac-1321-427f-aa17-267ca6975798%2F.default"
    );
    assert_eq!(request.body(), &body);
}

/// Whoever claims it (`xms_cc` CP1) gets tokens of a day, and has to answer every claims challenge.
#[tokio::test(start_paused = true)]
async fn no_request_claims_the_capability_of_continuous_access_evaluation() {
    let (imds, asked) = server(|_| json_of_imds());
    let azure = Azure::new(refusing(), imds, Authority::default());
    azure.mint(&Identity::ManagedIdentity { selector: Selector::System }, Credential::None).await.unwrap();
    let certificate = crate::certificate::identity();
    for request in [
        sent(&workload(), projected("e30.e30.sig")).await,
        sent(&principal(), Credential::ClientSecret("secret".into())).await,
        sent(&certificate, Credential::Certificate(Arc::new(crate::certificate::readable()))).await,
        asked.lock().unwrap().remove(0).1,
    ] {
        let sent = format!("{}?{}", request.uri(), String::from_utf8_lossy(request.body()));
        for word in ["xms_cc", "CP1", "claims="] {
            assert!(!sent.contains(word), "{sent}");
        }
    }
}

fn json_of_imds() -> axum::response::Response {
    answer(200, json!({"token_type": "Bearer", "expires_in": "86399", "access_token": "the-token"}))
}

#[tokio::test(start_paused = true)]
async fn the_authority_is_the_one_that_was_set() {
    let (entra, log) = server(|_| good());
    let authority = Authority::parse("https://login.windows.net/").unwrap();
    Azure::new(entra, refusing(), authority).mint(&workload(), projected("e30.e30.sig")).await.unwrap();
    assert_eq!(log.lock().unwrap()[0].1.uri().host(), Some("login.windows.net"));
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_read_with_the_servers_clock() {
    let entra = server(|_| with(good(), &[("date", "Sun, 22 Nov 2026 10:00:00 GMT")])).0;
    let grant = mint(entra).await.unwrap();
    assert_eq!(grant.secret.expose_secret(), "the-token");
    assert_eq!(grant.expires_in, Some(Duration::from_secs(3599)));
    assert_eq!((grant.expires_on, grant.refresh_in), (None, None));
    assert_eq!(grant.server_time.map(|time| time.to_string()).as_deref(), Some("2026-11-22T10:00:00Z"));
    assert!(!format!("{grant:?}").contains("the-token"));
}

#[tokio::test(start_paused = true)]
async fn row_08_an_error_is_told_by_its_number() {
    let description = format!("AADSTS700213: No matching record for '{CANARY}'.\r\nTrace ID: {TRACE}");
    let cases = [
        (
            401,
            json!({"error": "invalid_client", "error_codes": [700_213], "error_description": description}),
            "AADSTS700213",
        ),
        (401, json!({"error": "invalid_client", "error_description": description}), "AADSTS700213"),
        (401, json!({"error": "invalid_client", "error_codes": ["7000215"]}), "AADSTS7000215"),
        (400, json!({"error": "invalid_request"}), "HTTP 400"),
        (400, json!({}), "HTTP 400"),
    ];
    for (status, body, code) in cases {
        let entra = always(status, body.to_string()).0;
        let failure = mint(entra).await.unwrap_err();
        assert_eq!(failure.code, code, "{body}");
        assert_own_words(&failure, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_carries_a_request_id_and_the_time_to_wait() {
    let other = "00fcf2da-1cd2-425a-b155-0b10daeb00c5";
    let body = json!({"error": "temporarily_unavailable", "trace_id": TRACE, "correlation_id": other});
    let told = server(move |_| with(answer(503, body.clone()), &[("retry-after", "7")])).0;
    let failure = mint(told).await.unwrap_err();
    assert_eq!((failure.trace.as_deref(), failure.retry_after), (Some(TRACE), Some(Duration::from_secs(7))));

    for body in [json!("<html>"), json!({"trace_id": CANARY}), json!({"trace_id": 7, "correlation_id": other})] {
        let by_header = server(move |_| with(answer(503, body.clone()), &[("x-ms-request-id", TRACE)])).0;
        assert_eq!(mint(by_header).await.unwrap_err().trace.as_deref(), Some(TRACE));
    }

    let (untold, log) = always(503, "busy");
    let trace = mint(untold).await.unwrap_err().trace;
    let sent = log.lock().unwrap()[0].1.headers()["client-request-id"].to_str().unwrap().to_owned();
    assert_eq!(trace, Some(sent), "without an id of the server's, ours finds the request");
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        let (entra, log) = server(move |_| hostile());
        let failure = mint(entra).await.unwrap_err();
        assert_own_words(&failure, what);
        let known = ["EntraUnavailable", "Throttled", "FederatedCredentialMismatch"];
        assert!(known.contains(&failure.reason), "{what}: {failure:?}");
        assert!(failure.retry_after.is_none_or(|asked| asked <= Duration::from_mins(5)), "{what}");
        assert_eq!(log.lock().unwrap().len(), 1, "{what}: the rules retry, the wire doesn't");
    }
    for (entra, code) in [(refusing(), "ConnectionFailed"), (silent(), "Timeout")] {
        let failure = mint(entra).await.unwrap_err();
        assert_eq!((failure.reason, &*failure.code), ("EntraUnavailable", code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_file_without_a_token_sends_nothing() {
    let oversized = "x".repeat(16 * 1024 + 1);
    for (token, word) in
        [("", "empty"), (" \r\n", "empty"), ("a\r\nb", "control"), ("a\0b", "control"), (&oversized, "16 KiB")]
    {
        let (entra, log) = server(|_| good());
        let failure = azure(entra).mint(&workload(), projected(token)).await.unwrap_err();
        assert_eq!((failure.reason, failure.class), ("ServiceAccountTokenUnusable", Class::Reread));
        assert!(failure.cause.contains(word) && failure.fix.contains("AZURE_FEDERATED_TOKEN_FILE"), "{failure}");
        assert!(log.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn row_39_the_token_file_is_read_again_at_every_mint() {
    /// A file that the kubelet replaces between two reads.
    struct Rotated(AtomicUsize);
    impl Assertion for Rotated {
        fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(format!("e30.e30.{number}").into())).boxed()
        }
    }
    let (entra, log) = server(|_| good());
    let credential = Credential::Assertion(Arc::new(Rotated(AtomicUsize::new(0))));
    let azure = azure(entra);
    for number in 0..3 {
        azure.mint(&workload(), credential.clone()).await.unwrap();
        let body = log.lock().unwrap()[number].1.body().clone();
        assert!(String::from_utf8_lossy(&body).contains(&format!("client_assertion=e30.e30.{number}&")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_cannot_be_read_is_the_edges_failure() {
    let missing = Failure::new("TokenFileMissing", Class::Permanent, "ENOENT", "no file", "mount it");
    let (entra, log) = server(|_| good());
    let credential = Credential::Assertion(Arc::new(Projected(Err(missing.clone()))));
    assert_eq!(azure(entra).mint(&workload(), credential).await.unwrap_err(), missing);
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_that_is_none_sends_nothing() {
    for secret in ["", "\n", "a\nb", &"x".repeat(1025)] {
        let (entra, log) = server(|_| good());
        let failure = azure(entra).mint(&principal(), Credential::ClientSecret(secret.into())).await.unwrap_err();
        assert_eq!((failure.reason, failure.class), ("CredentialRejected", Class::Permanent));
        assert!(log.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_of_another_kind_sends_nothing() {
    let machine = Identity::ManagedIdentity { selector: Selector::System };
    let cases = [
        (workload(), Credential::ClientSecret(CANARY.into())),
        (workload(), Credential::None),
        (principal(), projected(CANARY)),
        (machine.clone(), projected(CANARY)),
        (machine, Credential::ClientSecret(CANARY.into())),
    ];
    for (identity, credential) in cases {
        let (http, log) = server(|_| good());
        let failure =
            Azure::new(http.clone(), http, Authority::default()).mint(&identity, credential).await.unwrap_err();
        assert_eq!(failure.code, "CredentialMismatch");
        assert_own_words(&failure, "mismatch");
        assert!(log.lock().unwrap().is_empty());
    }
}
