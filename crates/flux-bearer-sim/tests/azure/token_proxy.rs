//! The token proxy of AKS identity bindings: for whom it vouches, and both ways in which it may refuse.

use std::time::Duration;

use flux_bearer_sim::state::{FederatedCredential, IdentityBinding, State, TokenProxy, TokenProxyErrors};
use http::Method;
use url::form_urlencoded;

use super::support::*;

const HOST: &str = "token-proxy.example";
const BOUND: &str = "api://AKSIdentityBinding";

/// The state with the account of the tests bound to the managed identity, which trusts the proxy and no longer the cluster.
fn bound() -> State {
    let mut state = state();
    state.token_proxy = Some(TokenProxy {
        host: HOST.to_owned(),
        issuer: ISSUER.to_owned(),
        bindings: vec![IdentityBinding { client_id: FLUX.to_owned(), subjects: vec![SUBJECT.to_owned()] }],
        errors: TokenProxyErrors::default(),
    });
    state.tenants[0].applications[0].federated_credentials = vec![FederatedCredential {
        name: "aks-identity-binding".to_owned(),
        issuer: format!("https://ib.oic.prod-aks.azure.com/{TENANT}/{FLUX}"),
        subject: "aks".to_owned(),
        audience: AUDIENCE.to_owned(),
        created_at: None,
    }];
    state
}

fn assertion(azure: &Azure, subject: &str, audience: &str) -> String {
    azure.issuer.sign(subject, audience, Duration::from_hours(1), azure.now())
}

async fn ask(azure: &Azure, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    azure.send(request(Method::POST, &format!("https://{HOST}{path}"), &form, &body)).await
}

async fn ask_as(azure: &Azure, assertion: &str) -> Answer {
    ask(azure, &format!("/{TENANT}/oauth2/v2.0/token"), &federated(assertion, SCOPE)).await
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_bound_gets_the_token_that_entra_would_give_and_entra_itself_refuses_it() {
    let azure = Azure::with(bound());
    let assertion = assertion(&azure, SUBJECT, BOUND);
    let answer = ask_as(&azure, &assertion).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = azure.verified(&token).await;
    assert_eq!((claims.text("appid"), claims.text("aud")), (FLUX, DEVOPS));
    assert_eq!(azure.federate(&assertion).await.code(), 700_211);
    azure.world.edit(|state| *state = super::support::state()).unwrap();
    assert_eq!(azure.federate(&assertion).await.code(), 700_212);
    assert!(azure.try_send(request(Method::GET, &format!("https://{HOST}/"), &[], "")).await.is_err(), "no such host");
}

#[tokio::test(start_paused = true)]
async fn what_the_proxy_itself_refuses_bears_no_number_of_entras_in_either_form() {
    for errors in [TokenProxyErrors::Text, TokenProxyErrors::OAuth] {
        let azure = Azure::with(bound());
        azure.world.edit(|state| state.token_proxy.as_mut().unwrap().errors = errors).unwrap();
        let of = |subject: &str, audience: &str| assertion(&azure, subject, audience);
        let old = azure.issuer.sign(SUBJECT, BOUND, Duration::from_secs(60), azure.now() - Duration::from_secs(3600));
        let other = flux_bearer_sim::issuer::Issuer::new(ISSUER).unwrap();
        let forged = other.sign(SUBJECT, BOUND, Duration::from_hours(1), azure.now());
        let foreign = flux_bearer_sim::issuer::Issuer::new("https://oidc.example/other/").unwrap();
        let foreign = foreign.sign(SUBJECT, BOUND, Duration::from_hours(1), azure.now());
        for (assertion, status) in [
            (of("system:serviceaccount:flux-system:other", BOUND), 403),
            (of(SUBJECT, AUDIENCE), 401),
            (old, 401),
            (forged, 401),
            (foreign, 401),
            (String::new(), 401),
        ] {
            let answer = ask_as(&azure, &assertion).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(!answer.text.contains("AADSTS"), "{answer:?}");
            assert_eq!(answer.text.starts_with('{'), errors == TokenProxyErrors::OAuth, "{answer:?}");
        }
        let elsewhere = ask(&azure, &format!("/{TENANT}/v2.0/.well-known/openid-configuration"), &[]).await;
        assert_eq!(elsewhere.status, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn what_entra_refuses_comes_through_as_it_is() {
    let azure = Azure::with(bound());
    let good = assertion(&azure, SUBJECT, BOUND);
    let path = |tenant: &str| format!("/{tenant}/oauth2/v2.0/token");
    let fields = federated(&good, SCOPE);
    let nowhere = "99999999-9999-4999-8999-999999999999";
    assert_eq!(ask(&azure, &path(nowhere), &fields).await.code(), 90002);
    assert_eq!(ask(&azure, &path(TENANT), &fields[..4]).await.code(), 900_144);
    azure.world.edit(|state| state.tenants[0].applications[0].federated_credentials.clear()).unwrap();
    assert_eq!(ask_as(&azure, &good).await.code(), 700_211, "the credential that AKS made is gone");
}

#[test]
fn a_state_whose_proxy_leads_nowhere_is_refused() {
    type Edit = fn(&mut TokenProxy);
    let edits: [(&str, Edit); 3] = [
        ("tokenProxy.host", |proxy| proxy.host = "https://proxy".to_owned()),
        ("tokenProxy.issuer", |proxy| proxy.issuer = "https://oidc.example/other/".to_owned()),
        ("tokenProxy.bindings[0].clientId", |proxy| proxy.bindings[0].client_id = APP.to_owned()),
    ];
    let azure = Azure::with(bound());
    for (field, edit) in edits {
        let refused = azure.world.edit(|state| edit(state.token_proxy.as_mut().unwrap())).unwrap_err();
        assert!(refused.to_string().starts_with(field), "{refused}");
    }
}
