//! The fault switch in front of every endpoint.

use std::time::Duration;

use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::journal::Endpoint;
use flux_bearer_sim::world::World;

use super::support::*;

fn fault(effect: Effect) -> Fault {
    Fault { name: "fault".to_owned(), effect: Some(effect), ..Fault::default() }
}

fn endpoints() -> Vec<String> {
    let login = "https://login.microsoftonline.com";
    vec![
        format!("{login}/common/discovery/instance"),
        format!("{login}/{TENANT}/v2.0/.well-known/openid-configuration"),
        format!("{login}/{TENANT}/discovery/v2.0/keys"),
        format!("{login}/{TENANT}/oauth2/v2.0/token"),
        "http://169.254.169.254/metadata/identity/oauth2/token".to_owned(),
        "https://dev.azure.com/fabrikam/_apis/projects".to_owned(),
        "https://vssps.dev.azure.com/fabrikam/_apis/connectionData".to_owned(),
        "https://fabrikam.visualstudio.com/_git/solo/info/refs".to_owned(),
        "https://app.vssps.visualstudio.com/_apis/accounts".to_owned(),
    ]
}

#[tokio::test(start_paused = true)]
async fn stands_before_every_endpoint() {
    let azure = Azure::new();
    for url in endpoints() {
        let body = "Too Many Requests".to_owned();
        azure.world.faults().set(fault(Effect::Answer {
            status: 429,
            retry_after: Some(60),
            content_type: None,
            body,
        }));
        let answer = azure.get(&url, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "60"), "{url}");
        assert_eq!(azure.world.journal().entries().last().unwrap().status, Some(429));
        azure.world.faults().set(fault(Effect::Refuse));
        assert!(azure.try_send(request(http::Method::GET, &url, &[], "")).await.is_err(), "{url}");
        assert_eq!(azure.world.journal().entries().last().unwrap().status, None);
        azure.world.faults().clear_all();
        assert_ne!(azure.get(&url, &[]).await.status, 429, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_under_every_name_that_it_claims() {
    let azure = Azure::new();
    for host in World::hosts() {
        azure.get(&format!("https://{host}/"), &[]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn counts_a_mint_whose_answer_is_lost() {
    let azure = Azure::new();
    azure.world.faults().set(fault(Effect::Lose));
    let assertion = azure.assertion();
    assert!(azure.try_send(token_request(TENANT, &federated(&assertion, SCOPE))).await.is_err());
    assert_eq!(azure.world.journal().mints(FLUX), 1);
}

#[tokio::test(start_paused = true)]
async fn cuts_and_hangs() {
    let azure = Azure::new();
    azure.world.faults().set(fault(Effect::Cut { after: 10 }));
    let assertion = azure.assertion();
    let request = || token_request(TENANT, &federated(&assertion, SCOPE));
    assert!(azure.try_send(request()).await.is_err());
    azure.world.faults().set(fault(Effect::Hang));
    let patience = Duration::from_hours(24);
    assert!(tokio::time::timeout(patience, azure.try_send(request())).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn puts_the_faults_of_the_state_in_force() {
    let mut state = state();
    state.faults = vec![fault(Effect::Refuse)];
    let azure = Azure::with(state);
    assert!(azure.try_send(request(http::Method::GET, "https://dev.azure.com/fabrikam", &[], "")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dates_requests_by_both_clocks() {
    let azure = Azure::new();
    azure.get("https://dev.azure.com/fabrikam", &[]).await;
    azure.world.clock().sleep(Duration::from_mins(1)).await;
    azure.world.clock().step(jiff::SignedDuration::from_hours(-1));
    azure.get("https://dev.azure.com/fabrikam", &[]).await;
    let entries = azure.world.journal().entries();
    assert_eq!(entries[1].elapsed_ms - entries[0].elapsed_ms, 60_000);
    assert_eq!(entries[1].at.duration_since(entries[0].at).as_secs(), 60 - 3600);
}

#[tokio::test(start_paused = true)]
async fn forgets_old_requests_but_counts_them() {
    let azure = Azure::new();
    for _ in 0..10_001 {
        azure.get("https://login.microsoftonline.com/", &[]).await;
    }
    let journal = azure.world.journal();
    assert_eq!((journal.entries().len(), journal.entries()[0].number), (10_000, 1));
    assert_eq!(journal.counts().requests[&Endpoint::Other], 10_001);
}
