//! The token proxy of AKS: who signs in there, what goes out, and what comes of its answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::{Identity, Selector};
use flux_bearer::token::Grant;
use flux_bearer_azure::binding::{Binding, TokenProxy, Variables};
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::mint::{Azure, Credential};
use http::Request;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::entra::{good, principal, projected, workload};
use crate::server::{
    CANARY, CLIENT, Log, TENANT, TRACE, always, assert_own_words, hostile, plain, refusing, server, silent, with,
};

const PROXY: &str = "https://10.0.0.1:8443/prefix/";

fn proxy(http: Http) -> TokenProxy {
    let variables = Variables { token_proxy: Some(PROXY), ..Variables::default() };
    TokenProxy::new(http, Binding::read(variables).unwrap().unwrap().address)
}

/// With Entra ID and IMDS out of reach.
fn bound(http: Http) -> Azure {
    Azure::new(refusing(), refusing(), Authority::default()).with_token_proxy(proxy(http))
}

async fn mint(http: Http) -> Result<Grant, Failure> {
    bound(http).mint(&workload(), projected("e30.e30.sig")).await
}

fn only(log: &Log) -> Request<Bytes> {
    let mut log = log.lock().unwrap();
    assert_eq!(log.len(), 1);
    log.remove(0).1
}

#[tokio::test(start_paused = true)]
async fn the_request_is_that_for_entra_id_at_another_address() {
    let ((http, log), (entra, direct)) = (server(|_| good()), server(|_| good()));
    let grant = mint(http).await.unwrap();
    assert_eq!(grant.secret.expose_secret(), "the-token");
    let unbound = Azure::new(entra, refusing(), Authority::default());
    unbound.mint(&workload(), projected("e30.e30.sig")).await.unwrap();

    let (through, direct) = (only(&log), only(&direct));
    assert_eq!(through.uri(), &*format!("https://10.0.0.1:8443/prefix/{TENANT}/oauth2/v2.0/token"));
    assert_eq!((through.method(), through.body()), (direct.method(), direct.body()));
    let but_its_id = |request: &Request<Bytes>| {
        let mut headers = request.headers().clone();
        assert!(headers.remove("client-request-id").is_some());
        headers
    };
    assert_eq!(but_its_id(&through), but_its_id(&direct));
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_pods_own_identity_signs_in_there() {
    let account = Identity::ServiceAccount {
        tenant_id: TENANT.into(),
        client_id: CLIENT.into(),
        namespace: "team-a".into(),
        account: "flux".into(),
    };
    let ((http, log), (entra, asked)) = (server(|_| good()), server(|_| good()));
    let azure = Azure::new(entra, refusing(), Authority::default()).with_token_proxy(proxy(http));
    let certificate = Credential::Certificate(Arc::new(crate::certificate::readable()));
    for (identity, credential) in [
        (account, projected("e30.e30.sig")),
        (principal(), Credential::ClientSecret("secret".into())),
        (crate::certificate::identity(), certificate),
    ] {
        azure.mint(&identity, credential).await.unwrap();
        let asked = asked.lock().unwrap().pop().unwrap().1;
        assert_eq!(asked.uri().host(), Some("login.microsoftonline.com"), "{identity}");
    }
    let machine = Identity::ManagedIdentity { selector: Selector::System };
    assert_eq!(azure.mint(&machine, Credential::None).await.unwrap_err().reason, "ImdsUnavailable");
    assert!(log.lock().unwrap().is_empty());
    azure.mint(&workload(), projected("e30.e30.sig")).await.unwrap();
    assert_eq!((log.lock().unwrap().len(), asked.lock().unwrap().len()), (1, 0));
}

#[test]
fn the_audience_of_the_pods_token_is_that_of_whoever_takes_it() {
    assert_eq!(bound(refusing()).audience(), "api://AKSIdentityBinding");
    assert_eq!(Azure::new(refusing(), refusing(), Authority::default()).audience(), "api://AzureADTokenExchange");
}

#[tokio::test(start_paused = true)]
async fn what_entra_id_says_through_it_is_told_by_its_number() {
    let body = json!({"error": "invalid_client", "error_codes": [700_213], "trace_id": TRACE});
    let failure = mint(always(401, body.to_string()).0).await.unwrap_err();
    assert_eq!((&*failure.code, failure.trace.as_deref()), ("AADSTS700213", Some(TRACE)));
}

#[tokio::test(start_paused = true)]
async fn what_it_says_by_itself_is_told_by_its_status_alone() {
    let cases = [
        (403, "TokenProxyRefused", Class::Starting),
        (404, "TokenProxyRefused", Class::Permanent),
        (503, "TokenProxyUnavailable", Class::Transient),
        (429, "Throttled", Class::Transient),
    ];
    for (status, reason, class) in cases {
        let oauth = json!({"error": "unauthorized_client", "error_description": CANARY});
        for body in [CANARY.to_owned(), json!({"message": CANARY}).to_string(), oauth.to_string(), String::new()] {
            let http = server(move |_| with(plain(status, body.clone()), &[("retry-after", "7")])).0;
            let failure = mint(http).await.unwrap_err();
            assert_eq!((failure.reason, failure.class), (reason, class), "{status}");
            assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
            assert_own_words(&failure, reason);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words_and_its_silence_as_its_own() {
    for (what, hostile) in hostile() {
        let (http, log) = server(move |_| hostile());
        let failure = mint(http).await.unwrap_err();
        assert_own_words(&failure, what);
        assert_eq!(log.lock().unwrap().len(), 1, "{what}: the rules retry, the wire doesn't");
    }
    for (http, code) in [(refusing(), "ConnectionFailed"), (silent(), "Timeout")] {
        let failure = mint(http).await.unwrap_err();
        assert_eq!((failure.reason, &*failure.code), ("TokenProxyUnavailable", code));
        assert!(failure.cause.contains("token proxy") && failure.fix.contains("AZURE_KUBERNETES_TOKEN_PROXY"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_would_change_the_address_sends_nothing() {
    let (http, log) = server(|_| good());
    let identity = Identity::WorkloadIdentity { tenant_id: "../..".into(), client_id: CLIENT.into() };
    assert!(bound(http).mint(&identity, projected("e30.e30.sig")).await.is_err());
    assert!(log.lock().unwrap().is_empty());
}
