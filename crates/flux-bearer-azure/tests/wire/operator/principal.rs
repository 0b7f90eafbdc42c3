//! Service principals and the machine.

use std::sync::Arc;

use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::Selector;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::imds::Imds;
use flux_bearer_azure::operator::{ClientSecret, ManagedIdentity, Resource, SignIn, Workload};
use flux_bearer_azure::workload::Assertion;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::server::{
    CLIENT, TENANT, TRACE, always, assert_own_words, hostile, json as answer, plain, refusing, server, with,
};

const OTHER: &str = "33333333-3333-3333-3333-333333333333";

struct Federated;

impl Assertion for Federated {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        std::future::ready(Ok("e30.e30.sig".into())).boxed()
    }
}

fn secret(http: Http) -> ClientSecret {
    ClientSecret::new(http, Authority::default(), TENANT.into(), CLIENT.into(), "a-secret".into())
}

fn workload(http: Http) -> Workload {
    Workload::new(http, Authority::default(), TENANT.into(), CLIENT.into(), Arc::new(Federated))
}

fn good() -> axum::response::Response {
    answer(200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "the-token"}))
}

#[tokio::test(start_paused = true)]
async fn each_proof_goes_out_for_the_resource_and_tenant_that_are_asked_for() {
    let (http, log) = server(|_| good());
    let ways: [Box<dyn SignIn>; 2] = [Box::new(secret(http.clone())), Box::new(workload(http))];
    for way in ways {
        way.token(Resource::AzureDevOps, None).await.unwrap();
        let token = way.token(Resource::Arm, Some(OTHER)).await.unwrap();
        assert_eq!(token.secret.expose_secret(), "the-token");
        assert!(way.describe().contains(CLIENT));
    }
    let log = log.lock().unwrap();
    let sent: Vec<_> = log.iter().map(|(_, sent)| (sent.uri().path(), String::from_utf8_lossy(sent.body()))).collect();
    for (at, (path, body)) in sent.iter().enumerate() {
        let (tenant, scope) = match at % 2 {
            0 => (TENANT, "499b84ac-1321-427f-aa17-267ca6975798%2F.default"),
            _ => (OTHER, "https%3A%2F%2Fmanagement.azure.com%2F.default"),
        };
        assert_eq!(*path, format!("/{tenant}/oauth2/v2.0/token"));
        let proof = if at < 2 { "&client_secret=a-secret&" } else { "&client_assertion=e30.e30.sig&" };
        assert!(body.contains(proof) && body.ends_with(&format!("&scope={scope}")), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn entra_id_is_asked_again_while_it_is_busy() {
    let (http, log) = server(|n| if n < 3 { with(plain(503, ""), &[("x-ms-request-id", TRACE)]) } else { good() });
    assert!(secret(http).token(Resource::Arm, None).await.is_ok());
    assert_eq!(log.lock().unwrap().len(), 4);

    let (http, log) = always(429, "");
    assert_eq!(workload(http).token(Resource::Arm, None).await.unwrap_err().reason, "Throttled");
    assert_eq!(log.lock().unwrap().len(), 4);
    assert_eq!(secret(refusing()).token(Resource::Arm, None).await.unwrap_err().code, "ConnectionFailed");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_and_told_to_a_person() {
    let body = json!({"error": "invalid_client", "error_codes": [7_000_215], "trace_id": TRACE});
    let (http, log) = server(move |_| answer(401, body.clone()));
    let failure = secret(http).token(Resource::Arm, None).await.unwrap_err();
    assert_eq!((failure.class, &*failure.code), (Class::Permanent, "AADSTS7000215"));
    assert_eq!(failure.fix, "Give the secret's value, not its id");
    assert_eq!((failure.trace.as_deref(), log.lock().unwrap().len()), (Some(TRACE), 1));
}

#[tokio::test(start_paused = true)]
async fn whatever_answers_in_its_place_is_told_in_our_words() {
    for (what, hostile) in hostile() {
        let http = server(move |_| hostile()).0;
        assert_own_words(&secret(http.clone()).token(Resource::Arm, None).await.unwrap_err(), what);
        assert_own_words(&workload(http).token(Resource::Arm, None).await.unwrap_err(), what);
    }
}

#[tokio::test(start_paused = true)]
async fn the_machine_is_asked_for_the_resource_by_its_bare_name() {
    let (imds, log) = server(|_| good());
    let way = ManagedIdentity::new(Imds::new(imds), Selector::ClientId(CLIENT.into()));
    way.token(Resource::Arm, Some(OTHER)).await.unwrap();
    let query = "api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com";
    assert_eq!(log.lock().unwrap()[0].1.uri().query().unwrap(), format!("{query}&client_id={CLIENT}"));
    assert_eq!(way.describe(), format!("managed identity {CLIENT}"));
}

#[tokio::test(start_paused = true)]
async fn a_machine_outside_azure_is_sent_to_another_way() {
    let way = ManagedIdentity::new(Imds::new(refusing()), Selector::System);
    let failure = way.token(Resource::Arm, None).await.unwrap_err();
    assert!(failure.fix.contains("az login"), "{failure}");
}
