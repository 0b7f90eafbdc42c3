//! AKS identity bindings: the pod's own identity signs in at the token proxy of the cluster, and nobody else does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use flux_bearer::failure::Failure;
use flux_bearer_azure::workload::Assertion;
use flux_bearer_sim::journal::Endpoint;
use flux_bearer_sim::state::{FederatedCredential, IdentityBinding, TokenProxy, TokenProxyErrors};
use flux_bearer_world::accounts::subject;
use flux_bearer_world::identities::{ISSUER, REPOSITORY, SUBJECT, TENANT, client};
use flux_bearer_world::stage::{AUDIENCE, NAMESPACE, Stage};
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::json;
use support::{Theatre, lines, minutes, seconds};

const HOST: &str = "token-proxy.example";

/// The pod's projected token, for this audience.
struct Mounted(Stage, &'static str);

impl Assertion for Mounted {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let now = self.0.world.clock().now();
        let token = self.0.issuer.sign(SUBJECT, self.1, Duration::from_secs(3600), now);
        async move { Ok(SecretString::from(token)) }.boxed()
    }
}

/// A stage of two identities whose pod is bound to the first, which trusts the proxy and no longer the cluster.
fn bound() -> Theatre {
    lines::keep();
    let mut theatre = Theatre::with(&[3600, 3600]);
    let edited = theatre.stage.world.edit(|state| {
        state.token_proxy = Some(TokenProxy {
            host: HOST.into(),
            issuer: ISSUER.into(),
            bindings: vec![IdentityBinding { client_id: client(0), subjects: vec![SUBJECT.into()] }],
            errors: TokenProxyErrors::default(),
        });
        let applications = &mut state.tenants[0].applications;
        let application = applications.iter_mut().find(|one| one.client_id == client(0)).unwrap();
        application.federated_credentials = vec![FederatedCredential {
            name: "aks-identity-binding".into(),
            issuer: format!("https://ib.oic.prod-aks.azure.com/{TENANT}/{}", client(0)),
            subject: "aks".into(),
            audience: AUDIENCE.into(),
            created_at: None,
        }];
    });
    edited.unwrap();
    let stage = theatre.stage.clone().with_token_proxy("https://token-proxy.example:8443/");
    theatre.stage = stage.clone().with_assertion(Arc::new(Mounted(stage, "api://AKSIdentityBinding")));
    theatre
}

/// The hosts that were asked for tokens since this was asked last.
fn asked(theatre: &Theatre) -> Vec<String> {
    let journal = theatre.stage.world.journal();
    let mut hosts: Vec<String> = journal.requests(Endpoint::Token).into_iter().map(|entry| entry.host).collect();
    journal.clear();
    hosts.dedup();
    hosts
}

fn bind(theatre: &Theatre, subjects: &[&str]) {
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    theatre.stage.world.edit(|state| state.token_proxy.as_mut().unwrap().bindings[0].subjects = subjects).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_pods_identity_signs_in_at_the_proxy_for_a_day_and_an_account_of_its_own_at_entra_id() {
    let theatre = bound();
    theatre.stage.bearer_token("fleet", &json!({"repositories": [REPOSITORY]}));
    let running = theatre.stage.start();
    minutes(24 * 60).await;
    assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
    assert_eq!(theatre.stage.says("fleet", "Accessible"), "True RepositoriesOpen");
    assert_eq!((theatre.expired_seconds("fleet"), asked(&theatre)), (0, vec![HOST.to_owned()]));
    let complaints = lines::take(&["ProjectedTokenMissing"]);
    assert!(complaints.is_empty(), "a token for the proxy is none for somebody else: {complaints:#?}");
    running.stop().await;

    theatre.stage.issue_tokens();
    theatre.stage.federate(1, &subject(NAMESPACE, "app")).unwrap();
    theatre.stage.service_account(NAMESPACE, "app", &json!({}));
    theatre.stage.bearer_token("own", &json!({"identity": {"serviceAccountName": "app", "clientId": client(1)}}));
    let _running = theatre.stage.start();
    seconds(30).await;
    assert_eq!(theatre.stage.says("own", "Ready"), "True Succeeded");
    assert_eq!(asked(&theatre), ["login.microsoftonline.com"]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_taken_away_is_told_with_its_fix_and_the_token_serves_until_it_is_back() {
    for errors in [TokenProxyErrors::Text, TokenProxyErrors::OAuth] {
        let theatre = bound();
        theatre.stage.world.edit(|state| state.token_proxy.as_mut().unwrap().errors = errors).unwrap();
        theatre.stage.bearer_token("fleet", &json!({}));
        let _running = theatre.stage.start();
        minutes(1).await;
        bind(&theatre, &[]);
        minutes(40).await;
        assert_eq!(theatre.stage.says("fleet", "Ready"), "True Succeeded");
        let (_, reason, message) = theatre.stage.condition("fleet", "RefreshFailing").unwrap();
        assert_eq!(reason, "TokenProxyRefused", "{errors:?}");
        assert!(message.contains("HTTP 403") && message.contains("cid.wi.aks.azure.com"), "{message}");
        assert!(!message.contains(SUBJECT), "no word of the proxy's: {message}");
        bind(&theatre, &[SUBJECT]);
        minutes(6).await;
        assert_eq!(theatre.stage.says("fleet", "RefreshFailing"), "", "{errors:?}");
        assert_eq!(theatre.expired_seconds("fleet"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_projected_token_for_entra_id_is_told_at_the_start_where_the_pod_is_bound() {
    let mut theatre = bound();
    theatre.stage.bearer_token("fleet", &json!({}));
    let mounted = Mounted(theatre.stage.clone(), AUDIENCE);
    theatre.stage = theatre.stage.with_assertion(Arc::new(mounted));
    let _running = theatre.stage.start();
    minutes(1).await;
    let told = lines::take(&["ProjectedTokenMissing"]);
    assert!(told.len() == 1 && told[0].contains("deploy/components/identity-binding"), "{told:#?}");
    assert!(told[0].contains("audience api://AKSIdentityBinding"), "{told:#?}");
}
