//! The set-up: from an empty subscription to a Flux that pulls, again without a change, and back.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::time::Duration;

use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::state::{
    Application, FederatedCredential, Kind, Organization, ResourceGroup, Role, State, Subscription,
    UserAssignedIdentity,
};
use flux_bearer_world::company;
use flux_bearer_world::identities::TENANT;
use flux_bearer_world::life::{live, objects, writes};
use flux_bearer_world::shell::{Break, Breaker, Said, Shell};
use flux_bearer_world::stage::{NAMESPACE, Stage};
use serde_json::{Value, json};

const SETUP: &str =
    "flux-bearer setup --repository https://dev.azure.com/contoso/platform/_git/fleet --location westeurope";

fn company() -> Stage {
    Stage::bare(company::state().unwrap()).unwrap()
}

/// The line of a plan or a tale that contains `words`.
fn says(said: &str, words: &str) -> bool {
    said.lines().any(|line| line.contains(words))
}

async fn set_up(stage: &Stage) -> Said {
    Shell::new(stage).signed_in().run(&format!("{SETUP} --yes")).await
}

#[tokio::test(start_paused = true)]
async fn from_an_empty_subscription_to_a_secret_that_opens_the_repository() {
    let stage = company();
    let life = live(&stage);
    let said = set_up(&stage).await;
    assert_eq!(said.exit, Exit::Done, "{}{}", said.stdout, said.stderr);
    assert_eq!(stage.says("flux-system", "Ready"), "True Succeeded");
    assert_eq!(stage.says("flux-system", "Accessible"), "True RepositoriesOpen");
    let secret = stage.kube.get("Secret", NAMESPACE, "flux-system").unwrap();
    assert!(secret.pointer("/data/bearerToken").is_some());
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn again_changes_nothing_and_writes_nothing() {
    let stage = company();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = (stage.world.state(), writes(&stage));
    let said = set_up(&stage).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    assert!(says(&said.stderr, "nothing to change"), "{}", said.stderr);
    assert_eq!((stage.world.state(), writes(&stage)), before);
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_it_made_in_azure_is_what_check_wants_and_undone_it_is_what_check_misses() {
    let stage = company();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    let shell = Shell::new(&stage).signed_in();
    let check = async || {
        let said = shell.run("flux-bearer check azure devops -o json").await;
        let document: Value = serde_json::from_str(&said.stdout).unwrap();
        let all = document.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
        let named = |finding: &Value| {
            let text = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            (text("result") != "ok").then(|| format!("{} {}", text("result"), text("id")))
        };
        (all.len(), all.iter().filter_map(named).collect::<Vec<_>>())
    };
    assert_eq!(check().await, (23, Vec::new()));
    let contributes = shell.run(&format!("{SETUP} --access contribute --yes")).await;
    assert_eq!(contributes.exit, Exit::Done, "{}", contributes.stderr);
    assert_eq!(check().await.1, ["warn devops-push"]);
    stage.world.edit(|state| state.organizations.iter_mut().for_each(|one| one.members.truncate(1))).unwrap();
    let found = check().await.1;
    assert!(found.contains(&"fail devops-member".to_owned()), "{found:?}");
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let stage = company();
    let before = stage.world.state();
    let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --dry-run")).await;
    assert_eq!(said.exit, Exit::Changes, "{}", said.stderr);
    for words in [
        "create resource group flux-bearer in westeurope",
        "create managed identity flux-bearer",
        "for system:serviceaccount:flux-system:flux-bearer-controller of https://oidc.example/cluster/",
        "add flux-bearer to organisation contoso with a Basic licence",
        "create BearerToken flux-system/flux-system",
    ] {
        assert!(says(&said.stdout, words), "{words}: {}", said.stdout);
    }
    assert_eq!(stage.world.state(), before);
    assert_eq!(writes(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn uninstall_leaves_everything_as_it_was() {
    let stage = company();
    let before = (stage.world.state(), objects(&stage));
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    life.end().await;
    let said = Shell::new(&stage).signed_in().run("flux-bearer uninstall --yes").await;
    assert_eq!(said.exit, Exit::Done, "{}{}", said.stdout, said.stderr);
    assert!(says(&said.stderr, "the last token can't be revoked"), "{}", said.stderr);
    assert_eq!((stage.world.state(), objects(&stage)), before);
    let said = Shell::new(&stage)
        .signed_in()
        .run(&format!("flux-bearer uninstall --yes --repository {}", company::REPOSITORY))
        .await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    assert!(says(&said.stderr, "nothing to take back"), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn without_a_yes_nothing_is_changed() {
    let stage = company();
    let before = stage.world.state();
    for (answer, exit) in [(None, Exit::Usage), (Some(false), Exit::Failed)] {
        let mut shell = Shell::new(&stage).signed_in();
        shell.answer = answer;
        assert_eq!(shell.run(SETUP).await.exit, exit);
    }
    assert_eq!(stage.world.state(), before);
}

/// What a set-up leaves, without what differs by chance: ids and times.
fn outcome(stage: &Stage) -> (String, Vec<String>) {
    let mut azure = serde_json::to_value(stage.world.state()).unwrap();
    forget_times(&mut azure);
    let mut text = azure.to_string();
    let made = stage.world.state().tenants.into_iter().flat_map(|tenant| tenant.applications);
    for (number, application) in made.filter(|one| one.name == "flux-bearer").enumerate() {
        text = text.replace(&application.client_id, &format!("client-{number}"));
        text = text.replace(&application.object_id, &format!("object-{number}"));
    }
    (text, objects(stage))
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["createdAt", "since"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// A line that is broken at any of its writes, and run again, comes to the same end; and makes nothing twice.
#[tokio::test(start_paused = true)]
async fn row_51_broken_anywhere_and_run_again_it_comes_to_the_same_end() {
    let stage = company();
    let life = live(&stage);
    let whole = Shell::new(&stage).signed_in();
    assert_eq!(whole.run(&format!("{SETUP} --yes")).await.exit, Exit::Done);
    life.end().await;
    let (wanted, writes) = (outcome(&stage), whole.breaker.writes());
    assert!(writes > 20, "{writes}");
    for write in 1..=writes {
        for how in [Break::Refuse, Break::Lose, Break::KillBefore, Break::KillAfter] {
            let stage = company();
            let life = live(&stage);
            let mut shell = Shell::new(&stage).signed_in();
            shell.breaker = Breaker::at(write, how);
            let broken = shell.run(&format!("{SETUP} --yes")).await;
            let again = set_up(&stage).await;
            assert_eq!(again.exit, Exit::Done, "{how:?} at {write}: {broken:?} {again:?}");
            life.end().await;
            assert_eq!(outcome(&stage), wanted, "{how:?} at {write}");
        }
    }
}

/// What is wrong, how the run ends, a part of what it says, and whether something was made before it was found.
type Fault = (&'static str, fn(&mut State), Exit, &'static str, bool);

fn operator(state: &mut State) -> &mut Subscription {
    state.subscriptions.first_mut().unwrap()
}

fn organization(state: &mut State) -> &mut Organization {
    state.organizations.first_mut().unwrap()
}

const FAULTS: [Fault; 10] = [
    (
        "no right in the subscription",
        |state| operator(state).role_assignments.iter_mut().for_each(|one| one.role = Role::Reader),
        Exit::Right,
        "can't create resource group flux-bearer",
        false,
    ),
    (
        "no right in the organisation",
        |state| organization(state).administrators.clear(),
        Exit::Right,
        "Project Collection Administrator",
        false,
    ),
    (
        "no subscription of the tenant",
        |state| state.subscriptions.clear(),
        Exit::NotFound,
        "you see no subscription of tenant",
        false,
    ),
    (
        "an organisation of Microsoft accounts",
        |state| organization(state).tenant_id = "00000000-0000-0000-0000-000000000000".into(),
        Exit::NotFound,
        "is not connected to Entra ID",
        false,
    ),
    (
        "no such organisation",
        |state| organization(state).name = "other".into(),
        Exit::NotFound,
        "no organisation",
        false,
    ),
    (
        "no such project",
        |state| organization(state).projects.iter_mut().for_each(|one| one.name = "other".into()),
        Exit::NotFound,
        "has no project platform",
        false,
    ),
    (
        "a disabled repository",
        |state| {
            let repositories = organization(state).projects.iter_mut().flat_map(|one| &mut one.repositories);
            repositories.for_each(|one| one.is_disabled = true);
        },
        Exit::Policy,
        "repository fleet is disabled",
        false,
    ),
    (
        "the operator's secret is wrong",
        |state| {
            let applications = state.tenants.iter_mut().flat_map(|one| &mut one.applications);
            applications.for_each(|one| one.secrets.iter_mut().for_each(|secret| secret.value = "another".into()));
        },
        Exit::SignIn,
        "AADSTS7000215",
        false,
    ),
    (
        "a policy against identities",
        |state| {
            operator(state).denied_by_policy.push("Microsoft.ManagedIdentity/userAssignedIdentities".into());
        },
        Exit::Policy,
        "RequestDisallowedByPolicy",
        true,
    ),
    ("no licence", |state| organization(state).basic_licences = Some(1), Exit::Right, "licence", true),
];

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_said_in_one_line_with_its_fix_and_changes_nothing() {
    for (name, spoil, exit, words, begun) in FAULTS {
        let stage = company();
        stage.world.edit(spoil).unwrap();
        let (before, life) = ((stage.world.state(), objects(&stage)), live(&stage));
        let said = set_up(&stage).await;
        life.end().await;
        assert_eq!(said.exit, exit, "{name}: {}", said.stderr);
        assert!(said.stderr.contains(words) && says(&said.stderr, "    fix: "), "{name}: {}", said.stderr);
        assert_eq!((stage.world.state(), objects(&stage)) == before, !begun, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_somebody_else_is_left_alone_without_adopt() {
    let stage = company();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "flux-system", "namespace": NAMESPACE},
        "data": {"username": "Z2l0", "password": "cGF0"},
    });
    stage.kube.apply(secret);
    let life = live(&stage);
    let said = set_up(&stage).await;
    assert_eq!(said.exit, Exit::Taken, "{}", said.stderr);
    assert!(
        says(&said.stderr, "Secret flux-system/flux-system is that of kubectl-client-side-apply"),
        "{}",
        said.stderr
    );
    let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --yes --adopt")).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    let data = stage.kube.get("Secret", NAMESPACE, "flux-system").unwrap().pointer("/data").cloned().unwrap();
    assert!(data.get("bearerToken").is_some() && data.get("password").is_none(), "{data}");
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn rescue_fills_the_secret_without_a_controller() {
    let stage = company();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    life.end().await;
    stage.issue_tokens();
    let token = || stage.kube.get("Secret", NAMESPACE, "flux-system").unwrap().pointer("/data/bearerToken").cloned();
    tokio::time::sleep(Duration::from_secs(7200)).await;
    let before = token();
    let said = Shell::new(&stage).signed_in().run("flux-bearer rescue").await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    let by_identity = token();
    assert_ne!(by_identity, before);
    let said = Shell::new(&stage).signed_in().run("flux-bearer rescue --as operator").await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    assert_ne!(token(), by_identity);
}

#[tokio::test(start_paused = true)]
async fn what_azure_does_late_is_waited_for() {
    let stage = company();
    let late = |state: &mut State| {
        operator(state).providers.clear();
        operator(state).registration_seconds = 60;
        let organization = organization(state);
        organization.entitlement_delay_seconds = 40;
        organization.principal_delay_seconds = 30;
        organization.acl_delay_seconds = 20;
        state.defaults.propagation_seconds = 300;
    };
    stage.world.edit(late).unwrap();
    let life = live(&stage);
    let said = set_up(&stage).await;
    life.end().await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    for words in ["register resource provider", "does not know the new identity yet", "AADSTS7"] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
}

/// Puts an identity of somebody else into the subscription, with as many federated credentials.
fn identity_from_before(state: &mut State, credentials: usize) {
    let client_id = "00000000-bbbb-4000-8000-000000000099".to_owned();
    let credential = |number: usize| FederatedCredential {
        name: format!("cluster-{number}"),
        issuer: format!("https://oidc.example/{number}/"),
        subject: "system:serviceaccount:flux-system:flux-bearer-controller".into(),
        audience: "api://AzureADTokenExchange".into(),
        created_at: None,
    };
    state.tenants.first_mut().unwrap().applications.push(Application {
        name: "flux-bearer".into(),
        kind: Kind::ManagedIdentity,
        client_id: client_id.clone(),
        object_id: "00000000-cccc-4000-8000-000000000099".into(),
        federated_credentials: (0..credentials).map(credential).collect(),
        ..Application::default()
    });
    let group = "flux-bearer".to_owned();
    let (name, location) = (group.clone(), "westeurope".to_owned());
    let tags = BTreeMap::new();
    operator(state).resource_groups.push(ResourceGroup { name: name.clone(), location: location.clone(), tags });
    let tags = BTreeMap::new();
    operator(state).identities.push(UserAssignedIdentity { resource_group: group, name, location, tags, client_id });
}

#[tokio::test(start_paused = true)]
async fn a_twenty_first_federated_credential_is_not_tried() {
    let stage = company();
    stage.world.edit(|state| identity_from_before(state, 20)).unwrap();
    let before = stage.world.state();
    let said = set_up(&stage).await;
    assert_eq!(said.exit, Exit::Taken, "{}", said.stderr);
    assert!(said.stderr.contains("20 federated credentials") && said.stderr.contains("--identity flux-bearer-2"));
    assert_eq!(stage.world.state(), before);
}

#[tokio::test(start_paused = true)]
async fn an_identity_from_before_is_used_and_stays() {
    let stage = company();
    stage.world.edit(|state| identity_from_before(state, 2)).unwrap();
    let before = stage.world.state();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    life.end().await;
    let said = Shell::new(&stage).signed_in().run("flux-bearer uninstall --yes").await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    assert!(says(&said.stdout, "= managed identity flux-bearer with its rights: it was there before"));
    let after = stage.world.state();
    assert_eq!((after.tenants, after.subscriptions), (before.tenants, before.subscriptions));
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_and_left_to_whoever_made_it() {
    let stage = company();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    let deny = |state: &mut State| {
        let entries = organization(state).access_control.iter_mut();
        entries.for_each(|entry| (entry.allow, entry.deny) = (0, entry.allow));
    };
    stage.world.edit(deny).unwrap();
    let before = stage.world.state();
    let said = set_up(&stage).await;
    life.end().await;
    assert_eq!(said.exit, Exit::Policy, "{}", said.stderr);
    assert!(said.stderr.contains("flux-bearer is denied project platform by an entry of its own"), "{}", said.stderr);
    assert_eq!(stage.world.state(), before);
}

#[tokio::test(start_paused = true)]
async fn the_secret_of_another_bearer_token_is_not_taken_whatever_is_said() {
    let stage = company();
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    let other = format!("{SETUP} --yes --name other --secret flux-system --adopt");
    let said = Shell::new(&stage).signed_in().run(&other).await;
    life.end().await;
    assert_eq!(said.exit, Exit::Taken, "{}", said.stderr);
    assert!(said.stderr.contains("is that of BearerToken flux-system"), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_entra_id_can_not_reach_is_found_before_anything_is_made() {
    for (issuer, flag, exit) in [
        ("https://kubernetes.default.svc.cluster.local", "", Exit::NotFound),
        ("https://oidc.example/another/", "", Exit::NotFound),
        ("https://oidc.example/cluster/", " --issuer https://oidc.example/cluster", Exit::Usage),
    ] {
        let stage = company();
        stage.kube.publish("/.well-known/openid-configuration", json!({"issuer": issuer}));
        let before = stage.world.state();
        let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --yes{flag}")).await;
        assert_eq!(said.exit, exit, "{issuer}: {}", said.stderr);
        assert!(said.stderr.contains(issuer), "{}", said.stderr);
        assert_eq!(stage.world.state(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_into_git_is_printed_once_the_identity_is_there() {
    let stage = company();
    let shell = || Shell::new(&stage).signed_in();
    assert_eq!(shell().run(&format!("{SETUP} --export")).await.exit, Exit::NotFound);
    let life = live(&stage);
    assert_eq!(set_up(&stage).await.exit, Exit::Done);
    life.end().await;
    let writes_before = writes(&stage);
    let said = shell().run(&format!("{SETUP} --export")).await;
    assert_eq!((said.exit, said.stderr.as_str(), writes(&stage)), (Exit::Done, "", writes_before));
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&said.stdout).unwrap();
    let kinds: Vec<&str> = manifests.iter().filter_map(|one| one.get("kind")?.as_str()).collect();
    assert!(kinds.contains(&"Deployment") && kinds.last() == Some(&"BearerToken"), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_also_for_machines() {
    let said = Shell::new(&company()).signed_in().run(&format!("{SETUP} --dry-run -o json")).await;
    let plan: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(plan.pointer("/organization"), Some(&json!("contoso")));
    let changes = plan.pointer("/changes").and_then(Value::as_array).unwrap();
    assert!(changes.iter().all(|change| change.pointer("/what").is_some() && change.pointer("/right").is_some()));
}

/// Puts a source-controller with these labels into the cluster, and what else is named beside it.
fn install_flux(stage: &Stage, labels: &Value, beside: &[&str]) {
    let deployment = |name: &str, labels: &Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"template": {"spec": {"containers": [{"name": "manager", "image": "x/source-controller:v1.9.4"}]}}},
        })
    };
    stage.kube.apply(deployment("source-controller", labels));
    for name in beside {
        stage.kube.apply(deployment(name, &json!({})));
    }
}

#[tokio::test(start_paused = true)]
async fn the_flux_that_is_there_is_named_and_left_as_it_is() {
    let by = |manager: &str| json!({"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/managed-by": manager});
    let cases = [
        (json!({"app.kubernetes.io/part-of": "flux"}), vec![], "installed by its command line"),
        (by("flux-operator"), vec![], "installed by flux-operator"),
        (by("Helm"), vec![], "installed by Helm"),
        (by("Helm"), vec!["fluxconfig-controller"], "installed by the extension microsoft.flux"),
        (json!({}), vec![], "Flux 2.9 in flux-system:"),
    ];
    for (labels, beside, words) in cases {
        let stage = company();
        install_flux(&stage, &labels, &beside);
        let before = stage.kube.list("Deployment");
        let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --dry-run --flux existing")).await;
        assert_eq!(said.exit, Exit::Changes, "{}", said.stderr);
        let line = said.stdout.lines().find(|line| line.contains("Flux 2.9")).unwrap();
        assert!(line.contains(words) && line.contains("nothing of it is changed but Secret"), "{words}: {line}");
        assert_eq!(stage.kube.list("Deployment"), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flux_that_something_else_keeps_is_not_bootstrapped_over() {
    for (manager, beside, words) in
        [("flux-operator", vec![], "flux-operator"), ("Helm", vec!["fluxconfig-controller"], "microsoft.flux")]
    {
        let stage = company();
        let labels = json!({"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/managed-by": manager});
        install_flux(&stage, &labels, &beside);
        let before = stage.world.state();
        let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --yes --flux bootstrap")).await;
        assert_eq!(said.exit, Exit::Taken, "{}", said.stderr);
        assert!(says(&said.stderr, words), "{}", said.stderr);
        assert_eq!((stage.world.state(), writes(&stage)), (before, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flux_that_is_not_there_is_refused_before_anything_is_made_or_named_as_the_next_step() {
    let stage = company();
    let before = stage.world.state();
    let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --yes --flux existing")).await;
    assert_eq!(said.exit, Exit::NotFound, "{}", said.stderr);
    assert!(says(&said.stderr, "there is no Flux in this cluster"), "{}", said.stderr);
    assert_eq!((stage.world.state(), writes(&stage)), (before, 0));
    let life = live(&stage);
    let said = set_up(&stage).await;
    life.end().await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    let next = format!("flux-bearer bootstrap -n flux-system --repository {}", company::REPOSITORY);
    assert!(says(&said.stderr, &next), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn where_flux_alone_would_do_the_plan_says_so_and_nowhere_else() {
    let aks = format!("https://westeurope.oic.prod-aks.azure.com/{TENANT}/cluster/");
    let elsewhere = "https://westeurope.oic.prod-aks.azure.com/00000000-0000-4000-8000-000000000000/cluster/";
    let eks = "https://oidc.eks.eu-west-1.amazonaws.com/id/CLUSTER";
    let extension: &[&str] = &["fluxconfig-controller"];
    let cases: [(&str, &str, &[&str], bool); 5] = [
        (&aks, "v2.9.4", &[], true),
        (&aks, "v2.3.0", &[], false),
        (&aks, "v2.9.4", extension, false),
        (elsewhere, "v2.9.4", &[], false),
        (eks, "v2.9.4", &[], false),
    ];
    for (issuer, version, beside, fits) in cases {
        let stage = company();
        stage.kube.publish("/.well-known/openid-configuration", json!({"issuer": issuer}));
        let labels = json!({"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/version": version});
        install_flux(&stage, &labels, beside);
        let said = Shell::new(&stage).signed_in().run(&format!("{SETUP} --dry-run --issuer {issuer}")).await;
        assert_eq!(said.exit, Exit::Changes, "{}", said.stderr);
        assert_eq!(says(&said.stdout, "  ! on one AKS cluster"), fits, "{issuer} {version}: {}", said.stdout);
    }
}
