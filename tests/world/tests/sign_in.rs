//! The whole set-up by every way to sign in; and how it ends where nobody can be asked.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::operator::{ClientSecret, Resource, SignIn};
use flux_bearer_cli::edge::Ended;
use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::state::{DeviceCode, Kind, State, User};
use flux_bearer_world::company::{self, OPERATOR, OPERATOR_OBJECT, OPERATOR_SECRET};
use flux_bearer_world::identities::TENANT;
use flux_bearer_world::life::live;
use flux_bearer_world::shell::{Said, Shell};
use flux_bearer_world::stage::Stage;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::json;

const SETUP: &str =
    "flux-bearer setup --repository https://dev.azure.com/contoso/platform/_git/fleet --location westeurope --yes";

fn company(change: impl FnOnce(&mut State)) -> Stage {
    let stage = Stage::bare(company::state().unwrap()).unwrap();
    stage.world.edit(change).unwrap();
    stage
}

async fn set_up(stage: &Stage, shell: &Shell, flags: &str) -> Said {
    let life = live(stage);
    let said = shell.run(&format!("{SETUP} {flags}")).await;
    life.end().await;
    said
}

fn is_done(said: &Said) {
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn a_machines_managed_identity_sets_up() {
    let stage = company(|state| {
        state.imds.user_assigned.push(OPERATOR.into());
        let operator = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications).next().unwrap();
        (operator.kind, operator.secrets) = (Kind::ManagedIdentity, Vec::new());
    });
    let mut shell = Shell::new(&stage);
    shell.environment.insert("AZURE_CLIENT_ID".into(), OPERATOR.into());
    is_done(&set_up(&stage, &shell, "--sign-in managed-identity").await);
}

/// What `az account get-access-token` prints for a resource.
async fn printed_by_az(azure: Http, resource: Resource, now: Timestamp) -> String {
    let secret = OPERATOR_SECRET.to_owned().into();
    let way = ClientSecret::new(azure, Authority::default(), TENANT.into(), OPERATOR.into(), secret);
    let grant = way.token(resource, Some(TENANT)).await.unwrap();
    let ends = now.as_second() + 3600;
    json!({"accessToken": grant.secret.expose_secret(), "expires_on": ends}).to_string()
}

#[tokio::test(start_paused = true)]
async fn whoever_azure_cli_signed_in_sets_up() {
    let stage = company(|_| ());
    let now = stage.machine.now();
    let arm = printed_by_az(stage.azure(), Resource::Arm, now).await;
    let devops = printed_by_az(stage.azure(), Resource::AzureDevOps, now).await;
    let shell = Shell::new(&stage).with("az", move |call| {
        let for_arm = call.arguments.contains(&Resource::Arm.scope());
        let stdout = if for_arm { &arm } else { &devops };
        Ok(Ended { status: Some(0), stdout: stdout.clone().into(), stderr: String::new() })
    });
    is_done(&set_up(&stage, &shell, "").await);
}

#[tokio::test(start_paused = true)]
async fn a_person_sets_up_by_a_device_code() {
    let person = "00000000-ffff-4000-8000-000000000001";
    let stage = company(|state| {
        let name = "ada@contoso.example".to_owned();
        let tenant = state.tenants.first_mut().unwrap();
        let user = User { object_id: person.into(), user_principal_name: name.clone(), ..User::default() };
        tenant.users.push(user);
        tenant.device_code = Some(DeviceCode { user: name, ..DeviceCode::default() });
        let text = serde_json::to_string(&state.organizations).unwrap().replace(OPERATOR_OBJECT, person);
        state.organizations = serde_json::from_str(&text).unwrap();
        let assignments = state.subscriptions.iter_mut().flat_map(|one| &mut one.role_assignments);
        assignments.for_each(|one| one.object_id = person.into());
    });
    let said = set_up(&stage, &Shell::new(&stage), "--sign-in device-code").await;
    is_done(&said);
    assert_eq!(said.stderr.matches("and enter the code").count(), 1, "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn nobody_signed_in_is_told_how_to() {
    let stage = company(|_| ());
    let said = set_up(&stage, &Shell::new(&stage), "").await;
    assert_eq!(said.exit, Exit::SignIn, "{}", said.stderr);
    assert!(said.stderr.contains("az login"), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn without_a_network_nothing_is_made_and_the_service_is_named() {
    for (host, service) in [
        ("dev.azure.com", "Azure DevOps"),
        ("login.microsoftonline.com", "Entra ID"),
        ("management.azure.com", "Azure Resource Manager"),
    ] {
        let stage = company(|_| ());
        let before = stage.world.state();
        let fault =
            Fault { name: "cut".into(), host: Some(host.into()), effect: Some(Effect::Refuse), ..Fault::default() };
        stage.world.faults().set(fault);
        let said = set_up(&stage, &Shell::new(&stage).signed_in(), "").await;
        assert_eq!(said.exit, Exit::Network, "{host}: {}", said.stderr);
        assert!(said.stderr.contains(service) && said.stderr.contains("run it again"), "{host}: {}", said.stderr);
        assert_eq!(stage.world.state(), before, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_comes_ends_the_run_in_time_and_a_later_one_goes_on() {
    let stage = company(|_| ());
    let shell = Shell::new(&stage).signed_in();
    let said = shell.run(&format!("{SETUP} --timeout 1m")).await;
    assert_eq!(said.exit, Exit::TimedOut, "{}", said.stderr);
    assert!(said.stderr.contains("what was done so far stays valid"), "{}", said.stderr);
    is_done(&set_up(&stage, &shell, "").await);
}
