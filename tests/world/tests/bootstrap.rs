//! Flux bootstrapped: by `bootstrap`, and as the last step of `setup`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_azure::devops::bits;
use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::state::{AccessControlEntry, Member, Organization, PersonalAccessToken, State, User};
use flux_bearer_world::company::{self, OPERATOR_OBJECT, REPOSITORY};
use flux_bearer_world::forge::Forge;
use flux_bearer_world::life::{Life, live, objects, writes};
use flux_bearer_world::shell::{Said, Shell};
use flux_bearer_world::stage::Stage;
use serde_json::{Value, json};

const VERSION: &str = "v2.9.5";
const PAT: &str = "pat-of-a-person";
const SETUP: &str = "flux-bearer setup --repository https://dev.azure.com/contoso/platform/_git/fleet \
    --location westeurope --yes";
const BOOTSTRAP: &str =
    "flux-bearer bootstrap --repository https://contoso@dev.azure.com/contoso/platform/_git/fleet --path clusters/eu";
const FOLDER: &str = "clusters/eu/flux-system";

/// Object id of a person with a PAT.
const PERSON: &str = "00000000-9999-4000-8000-000000000001";

/// A company where the operator and the person with the PAT may push, or may not.
fn company(may_push: bool) -> Stage {
    let stage = Stage::bare(company::state().unwrap()).unwrap();
    let prepare = |state: &mut State| {
        let person =
            User { object_id: PERSON.into(), user_principal_name: "ada@contoso.example".into(), display_name: None };
        state.tenants.first_mut().unwrap().users.push(person);
        let organization = state.organizations.first_mut().unwrap();
        organization.members.push(Member { object_id: PERSON.into(), ..Member::default() });
        let pat = PersonalAccessToken { value: PAT.into(), object_id: PERSON.into(), expires_at: None };
        organization.personal_access_tokens.push(pat);
        let project = organization.projects.first_mut().unwrap();
        project.readers.push(PERSON.into());
        let repository = project.repositories.first_mut().unwrap();
        repository.readers.push(PERSON.into());
        if may_push {
            repository.contributors.push(PERSON.into());
        } else {
            let denied = no_contribute(organization);
            organization.access_control.push(denied);
        }
    };
    stage.world.edit(prepare).unwrap();
    stage
}

/// What keeps the operator from pushing, who may do all else.
fn no_contribute(organization: &Organization) -> AccessControlEntry {
    let project = organization.projects.first().unwrap();
    let repository = organization.repository_id(project, project.repositories.first().unwrap());
    AccessControlEntry {
        token: format!("repoV2/{}/{repository}", organization.project_id(project)),
        object_id: OPERATOR_OBJECT.into(),
        deny: bits::GIT_CONTRIBUTE,
        ..AccessControlEntry::default()
    }
}

/// A company that is set up, without a Flux.
async fn set_up(may_push: bool) -> (Stage, Life, Forge) {
    let stage = company(may_push);
    let life = live(&stage);
    let said = Shell::new(&stage).signed_in().run(SETUP).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stderr);
    (stage, life, Forge::default())
}

fn shell(stage: &Stage, forge: &Forge) -> Shell {
    forge.serve(Shell::new(stage).signed_in(), stage, VERSION)
}

/// That it ended so, with all of `parts` in what it says, and a fix where it failed.
#[track_caller]
fn said(said: &Said, exit: Exit, parts: &[&str]) {
    assert_eq!(said.exit, exit, "{said:#?}");
    for part in parts {
        assert!(said.stderr.contains(part), "{part:?} in {said:#?}");
    }
    assert!(exit == Exit::Done || said.stderr.contains("    fix: "), "{said:#?}");
}

/// Fails if a credential of the operator is in any Secret.
#[track_caller]
fn check_traces(stage: &Stage) {
    let secrets = stage.kube.list("Secret");
    assert_eq!(secrets.len(), 1);
    let data = secrets.first().and_then(|secret| secret.get("data")).and_then(Value::as_object).unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["bearerToken"]);
    let token = STANDARD.decode(data.get("bearerToken").and_then(Value::as_str).unwrap()).unwrap();
    let claims = String::from_utf8(token).unwrap().split('.').nth(1).unwrap().to_owned();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_ne!(claims.get("oid"), Some(&json!(OPERATOR_OBJECT)));
}

#[tokio::test(start_paused = true)]
async fn flux_pulls_with_the_identity_and_the_controller_is_in_its_first_apply() {
    let (stage, life, forge) = set_up(true).await;
    let ended = shell(&stage, &forge).run(BOOTSTRAP).await;
    life.end().await;
    said(
        &ended,
        Exit::Done,
        &["► bootstrapping Flux into stage", "holds the identity's token, and no other credential"],
    );
    check_traces(&stage);
    let files = forge.files();
    let kustomization = files.get(&format!("{FOLDER}/kustomization.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(kustomization).unwrap();
    let resources = json!(["gotk-components.yaml", "gotk-sync.yaml", "flux-bearer"]);
    assert_eq!(kustomization.get("resources"), Some(&resources));
    let controller = files.get(&format!("{FOLDER}/flux-bearer/controller.yaml")).unwrap();
    assert!(controller.contains("kind: Deployment") && controller.contains("kind: CustomResourceDefinition"));
    let called = forge.calls().into_iter().find(|line| line.starts_with("flux bootstrap")).unwrap();
    let wanted = format!(
        "flux bootstrap git --url={REPOSITORY} --branch=main --path=./clusters/eu --namespace=flux-system \
         --secret-name=flux-system --timeout=300s --silent --with-bearer-token"
    );
    assert_eq!(called, wanted);
}

#[tokio::test(start_paused = true)]
async fn again_commits_nothing_and_says_so() {
    let (stage, life, forge) = set_up(true).await;
    let shell = shell(&stage, &forge);
    said(&shell.run(BOOTSTRAP).await, Exit::Done, &["committed the controller's manifests to \"main\""]);
    let before = (forge.files(), forge.commits());
    said(&shell.run(BOOTSTRAP).await, Exit::Done, &["the controller's manifests are up to date"]);
    life.end().await;
    assert_eq!((forge.files(), forge.commits()), before);
}

#[tokio::test(start_paused = true)]
async fn a_pat_is_in_no_secret_afterwards_and_is_to_be_revoked() {
    let (stage, life, forge) = set_up(true).await;
    let mut shell = shell(&stage, &forge);
    shell.environment.clear();
    PAT.clone_into(&mut shell.piped);
    let ended = shell.run(&format!("{BOOTSTRAP} --pat-stdin")).await;
    said(
        &ended,
        Exit::Done,
        &[
            "removing what else Secret flux-system/flux-system holds",
            "revoke the PAT now",
            "contoso/_usersettings/tokens",
        ],
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    life.end().await;
    check_traces(&stage);
    assert!(forge.calls().iter().any(|line| line.contains(" --token-auth") && !line.contains("bearer-token")));
}

#[tokio::test(start_paused = true)]
async fn a_pat_that_is_none_or_opens_nothing_is_found_before_anything_is_pushed() {
    let (stage, life, forge) = set_up(false).await;
    let mut shell = shell(&stage, &forge);
    for (piped, exit, words) in [
        ("", Exit::Usage, "there is no PAT on standard input"),
        ("two words", Exit::Usage, "there is no PAT on standard input"),
        ("another", Exit::SignIn, "Code (read & write)"),
        (PAT, Exit::Right, "Code (read & write)"),
    ] {
        piped.clone_into(&mut shell.piped);
        said(&shell.run(&format!("{BOOTSTRAP} --pat-stdin")).await, exit, &[words]);
    }
    life.end().await;
    assert_eq!(forge.commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_push_is_told_before_anything_is_changed() {
    let (stage, life, forge) = set_up(false).await;
    let before = (writes(&stage), objects(&stage));
    said(&shell(&stage, &forge).run(BOOTSTRAP).await, Exit::Right, &["TF401027", "--as identity or --pat-stdin"]);
    life.end().await;
    assert_eq!((forge.commits(), writes(&stage), objects(&stage)), (0, before.0, before.1));
}

#[tokio::test(start_paused = true)]
async fn the_identity_itself_pushes_where_it_may() {
    let stage = company(false);
    let (life, forge) = (live(&stage), Forge::default());
    let setup = Shell::new(&stage).signed_in().run(&format!("{SETUP} --access contribute")).await;
    assert_eq!(setup.exit, Exit::Done, "{}", setup.stderr);
    stage.issue_tokens();
    let mut shell = shell(&stage, &forge);
    shell.environment.clear();
    said(&shell.run(&format!("{BOOTSTRAP} --as identity")).await, Exit::Done, &[]);
    life.end().await;
    check_traces(&stage);
}

#[tokio::test(start_paused = true)]
async fn a_flux_that_is_missing_or_too_old_is_found_before_anything_is_changed() {
    let (stage, life, forge) = set_up(true).await;
    let without = Shell::new(&stage).signed_in();
    said(&without.run(BOOTSTRAP).await, Exit::NotFound, &["the program flux is not on PATH", "fluxcd.io"]);
    let old = forge.serve(Shell::new(&stage).signed_in(), &stage, "v2.2.3");
    said(&old.run(BOOTSTRAP).await, Exit::NotFound, &["flux is v2.2, and bearer tokens need v2.3"]);
    let setup = format!("{SETUP} --flux bootstrap");
    life.end().await;
    let stage = company(true);
    let before = (stage.world.state(), objects(&stage));
    said(&Shell::new(&stage).signed_in().run(&setup).await, Exit::NotFound, &["the program flux is not on PATH"]);
    assert_eq!((stage.world.state(), objects(&stage), forge.commits()), (before.0, before.1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_would_end_halfway_is_not_begun_with() {
    let (stage, life, forge) = set_up(true).await;
    let long = format!("{BOOTSTRAP} --timeout 48h");
    said(&shell(&stage, &forge).run(&long).await, Exit::SignIn, &["bootstrapping may take 86460 s", "--timeout"]);
    life.end().await;
    assert_eq!(forge.commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_branch_refuses_is_told_in_our_words() {
    let rejected = "! [remote rejected] main -> main (TF402455: Pushes to this branch are not permitted; canary)";
    for (words, exit, part) in [
        (rejected, Exit::Policy, "a policy of branch main forbids pushes without a pull request"),
        ("remote: TF401027: You need the Git 'CreateBranch' permission. canary", Exit::Right, "may not push to main"),
        ("! [rejected] main -> main (fetch first) canary", Exit::Taken, "at the same time"),
        ("fatal: canary", Exit::Failed, "git push failed"),
    ] {
        let (stage, life, forge) = set_up(true).await;
        forge.refuse(words);
        let ended = shell(&stage, &forge).run(BOOTSTRAP).await;
        said(&ended, exit, &[part]);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
        let ended = shell(&stage, &forge).run(&format!("{BOOTSTRAP} --without-controller")).await;
        said(&ended, exit, &[if exit == Exit::Failed { "flux bootstrap failed" } else { part }]);
        life.end().await;
        assert_eq!(forge.commits(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_secret_that_is_filled_nothing_is_begun() {
    let stage = company(true);
    let forge = Forge::default();
    let shell = shell(&stage, &forge);
    said(&shell.run(BOOTSTRAP).await, Exit::NotFound, &["BearerToken 'flux-system' not found"]);
    let life = live(&stage);
    assert_eq!(Shell::new(&stage).signed_in().run(SETUP).await.exit, Exit::Done);
    life.end().await;
    tokio::time::sleep(Duration::from_secs(2 * 86400)).await;
    said(&shell.run(BOOTSTRAP).await, Exit::NotFound, &["holds no working token of BearerToken flux-system"]);
    assert_eq!(forge.commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kustomization_that_is_there_gets_one_line_more() {
    let (stage, life, forge) = set_up(true).await;
    forge.write("readme.md", "of somebody else");
    let there = "resources:\n- gotk-components.yaml\n- gotk-sync.yaml\npatches: []\n";
    forge.write(&format!("{FOLDER}/kustomization.yaml"), there);
    // A commit, so that there is a branch.
    said(&shell(&stage, &forge).run(&format!("{BOOTSTRAP} --without-controller")).await, Exit::Done, &[]);
    said(&shell(&stage, &forge).run(BOOTSTRAP).await, Exit::Done, &[]);
    life.end().await;
    let files = forge.files();
    let wanted = there.replace("resources:\n", "resources:\n- flux-bearer\n");
    assert_eq!(files.get(&format!("{FOLDER}/kustomization.yaml")), Some(&wanted));
    assert_eq!(files.get("readme.md").map(String::as_str), Some("of somebody else"));
    assert!(!files.get(&format!("{FOLDER}/gotk-components.yaml")).unwrap().is_empty(), "what Flux wrote stays");
}

#[tokio::test(start_paused = true)]
async fn flags_that_contradict_are_refused_before_anything_is_asked() {
    let stage = company(true);
    let forge = Forge::default();
    for (line, part) in [
        (format!("{BOOTSTRAP} -- --password=x"), "--password after --"),
        (format!("{BOOTSTRAP}/../.."), "is no folder inside the repository"),
        (format!("{BOOTSTRAP} --branch=-f"), "can't be the name of a branch"),
        (format!("{SETUP} --path clusters/eu"), "add --flux bootstrap"),
        (format!("{SETUP} -- --force"), "add --flux bootstrap"),
        (format!("{SETUP} --flux bootstrap -- --timeout=1h"), "--timeout after --"),
        (format!("{SETUP} --flux bootstrap --export").replace(" --yes", ""), "leave one of them out"),
        ("flux-bearer bootstrap --repository https://github.com/o/r".to_owned(), "--repository"),
    ] {
        let ended = shell(&stage, &forge).run(&line).await;
        assert_eq!(ended.exit, Exit::Usage, "{line}: {ended:?}");
        assert!(ended.stderr.contains(part), "{line}: {}", ended.stderr);
    }
    assert_eq!(forge.calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn setup_bootstraps_as_its_last_step_and_again_changes_nothing() {
    let stage = company(true);
    let (life, forge) = (live(&stage), Forge::default());
    let setup = format!("{SETUP} --flux bootstrap --path clusters/eu -- --components-extra=source-watcher");
    let ended = shell(&stage, &forge).run(&setup).await;
    said(&ended, Exit::Done, &["✔ bootstrap Flux from ./clusters/eu of branch main: done"]);
    assert!(
        ended.stdout.contains("+ bootstrap Flux from ./clusters/eu of branch main   (needs Contribute"),
        "{ended:?}"
    );
    check_traces(&stage);
    assert!(forge.calls().iter().any(|call| call.ends_with("--with-bearer-token --components-extra=source-watcher")));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = (stage.world.state(), writes(&stage), forge.commits());
    said(&shell(&stage, &forge).run(&setup).await, Exit::Done, &["nothing to change"]);
    life.end().await;
    assert_eq!((stage.world.state(), writes(&stage), forge.commits()), before);
}

#[tokio::test(start_paused = true)]
async fn setup_goes_on_where_a_branch_has_stopped_it() {
    let stage = company(true);
    let (life, forge) = (live(&stage), Forge::default());
    let setup = format!("{SETUP} --flux bootstrap --path clusters/eu");
    forge.refuse("! [remote rejected] main -> main (TF402455: canary)");
    said(&shell(&stage, &forge).run(&setup).await, Exit::Policy, &["a policy of branch main"]);
    let azure = stage.world.state();
    forge.allow();
    let ended = shell(&stage, &forge).run(&setup).await;
    life.end().await;
    said(&ended, Exit::Done, &["✔ bootstrap Flux from ./clusters/eu of branch main: done"]);
    assert_eq!(ended.stdout.matches("  + ").count(), 1, "nothing else is left to do: {}", ended.stdout);
    assert_eq!(stage.world.state(), azure);
    check_traces(&stage);
}

#[tokio::test(start_paused = true)]
async fn what_flux_would_put_back_is_not_uninstalled() {
    let stage = company(true);
    let (life, forge) = (live(&stage), Forge::default());
    let shell = shell(&stage, &forge);
    said(&shell.run(&format!("{SETUP} --flux bootstrap")).await, Exit::Done, &[]);
    life.end().await;
    let before = (stage.world.state(), objects(&stage));
    said(
        &shell.run("flux-bearer uninstall --yes").await,
        Exit::Taken,
        &["Flux applies the controller", "gotk-sync.yaml"],
    );
    assert_eq!((stage.world.state(), objects(&stage)), before);
}

#[tokio::test(start_paused = true)]
async fn row_52_setup_finds_who_may_not_push_before_its_first_change() {
    let stage = company(false);
    let before = (stage.world.state(), objects(&stage));
    let forge = Forge::default();
    said(&shell(&stage, &forge).run(&format!("{SETUP} --flux bootstrap")).await, Exit::Right, &["TF401027"]);
    assert_eq!((stage.world.state(), objects(&stage), forge.commits()), (before.0, before.1, 0));
}
