//! What could not be confirmed of Azure: the clients of flux-bearer get to the end whichever way it is.

use std::future::pending;
use std::time::Duration;

use flux_bearer_azure::arm::Scope;
use flux_bearer_live::hold::{held, played};
use flux_bearer_live::scenario::Run;
use flux_bearer_sim::state::{AssertionRefusal, ErrorLines, Mismatch, Organization, Role, SignInAnswer, State};

use super::stage::Stage;

/// Plays the scenario to an Azure with this switch the other way; the steps in which it then answers otherwise.
async fn differing_steps(switch: impl FnOnce(&mut State)) -> Vec<String> {
    let (mut other, usual) = (Stage::new(), Stage::new());
    other.world.edit(switch).unwrap();
    // As Azure wants it, and as a run against it does.
    other.azure.pace = Duration::from_secs(4);
    let before = other.world.state();
    let azure = played(&other.azure, &Run::new("t1"), pending()).await;
    assert_eq!(azure.failures, [""; 0]);
    assert!(other.world.state() == before, "something is left");
    let simulator = played(&usual.azure, &Run::new("t1"), pending()).await;
    let mut steps: Vec<String> = held(&azure, &simulator).into_iter().map(|difference| difference.step).collect();
    steps.dedup();
    steps
}

fn organization(state: &mut State) -> &mut Organization {
    &mut state.organizations[0]
}

const NONE: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn however_entra_words_its_refusals() {
    let refused = differing_steps(|state| state.defaults.assertion_refusal = AssertionRefusal::InvalidRequest).await;
    assert_eq!(refused, ["assertion/other-audience", "assertion/too-long"]);
    assert_eq!(differing_steps(|state| state.defaults.mismatch = Mismatch::Generic).await, NONE);
    assert_eq!(differing_steps(|state| state.defaults.error_lines = ErrorLines::CrLf).await, NONE);
}

#[tokio::test(start_paused = true)]
async fn however_azure_devops_meets_strangers() {
    let redirected = differing_steps(|state| organization(state).sign_in_answer = SignInAnswer::Redirect).await;
    assert_eq!(redirected, ["caller/garbage", "caller/no-token"]);
    let anonymous = differing_steps(|state| organization(state).anonymous_connection_data = true).await;
    let steps = ["caller/garbage", "caller/garbage-suppressed", "caller/no-token", "caller/no-token-suppressed"];
    assert_eq!(anonymous, steps);
}

#[tokio::test(start_paused = true)]
async fn however_late_azure_knows_and_however_strict_it_is() {
    let late = |state: &mut State| {
        (state.defaults.propagation_seconds, state.defaults.negative_cache_seconds) = (60, 30);
        let organization = organization(state);
        organization.entitlement_delay_seconds = 240;
        (organization.acl_delay_seconds, organization.principal_delay_seconds) = (45, 90);
    };
    assert_eq!(differing_steps(late).await, NONE);
    let strict = |state: &mut State| {
        state.subscriptions[0].enforce_credential_rates = true;
        let tenant = &mut state.tenants[0];
        tenant.device_code.iter_mut().for_each(|code| (code.enforce_interval, code.after_polls) = (true, 3));
    };
    assert_eq!(differing_steps(strict).await, NONE);
}

#[tokio::test(start_paused = true)]
async fn whether_or_not_a_role_includes_federated_credentials_its_holder_is_told() {
    let credentials = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write";
    let identities = "Microsoft.ManagedIdentity/userAssignedIdentities/write";
    for (role, expected) in
        [(Role::ManagedIdentityContributor, true), (Role::ManagedIdentityContributorWithoutFederation, false)]
    {
        let stage = Stage::new();
        stage.world.edit(|state| state.subscriptions[0].role_assignments[0].role = role).unwrap();
        let may = stage.azure.arm.permissions(Scope::Subscription).await.unwrap();
        assert_eq!((may.allows(identities), may.allows(credentials)), (true, expected), "{role:?}");
    }
}
