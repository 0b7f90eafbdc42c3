//! The checks of the command line: each can fail, alone, and what it says to do about it repairs it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on ends")]

mod checks_world;
mod support;

use std::collections::BTreeMap;

use checks_world::{World, by_hand, harm};
use flux_bearer_cli::checks::{self, Severity};
use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::state::Kind;
use flux_bearer_world::accounts::subject;
use flux_bearer_world::company::OPERATOR_OBJECT;
use flux_bearer_world::identities::client;
use flux_bearer_world::stage::NAMESPACE;
use serde_json::{Value, json};
use support::seconds;

/// What every check finds, by id.
async fn findings(world: &World) -> BTreeMap<String, Value> {
    let said = world.check("cluster rights controller token secret flux azure devops -o json").await;
    let document: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:#?}"));
    let all = document["checks"].as_array().unwrap().iter();
    all.map(|finding| (finding["id"].as_str().unwrap().to_owned(), finding.clone())).collect()
}

fn wrong(findings: &BTreeMap<String, Value>) -> Vec<&str> {
    let bad = |finding: &Value| finding["result"] == "fail" || finding["result"] == "warn";
    findings.iter().filter(|(_, finding)| bad(finding)).map(|(id, _)| id.as_str()).collect()
}

/// Does what the findings say, as a person would who reads them; returns what was done.
async fn follow(world: &World, findings: &BTreeMap<String, Value>) -> Vec<String> {
    let mut done = Vec::new();
    for (id, finding) in findings {
        for wrong in finding["wrong"].as_array().unwrap() {
            match wrong["fix"]["command"].as_str() {
                Some(command) => world.execute(command).await,
                None => by_hand(id, world).await,
            }
            done.push(wrong["fix"].to_string());
        }
    }
    // Controllers take a moment.
    seconds(30).await;
    done
}

#[tokio::test(start_paused = true)]
async fn in_a_healthy_world_every_check_is_judged_and_finds_nothing() {
    let world = World::healthy().await;
    let findings = findings(&world).await;
    assert_eq!(findings.len(), checks::all().count());
    for (id, finding) in findings {
        assert_eq!(finding["result"], "ok", "{id}: {finding:#}");
    }
    let said = world.check("").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, "✔ all checks passed\n"), "{said:#?}");
}

/// For each check a world in which exactly it fails; its fix, executed, repairs it.
#[tokio::test(start_paused = true)]
async fn every_check_can_fail_alone_and_its_fix_repairs_it() {
    let mut odd = Vec::new();
    for check in checks::all() {
        let world = World::healthy().await;
        harm(check.id, &world).await;
        let mut found = findings(&world).await;
        let result = if check.severity == Severity::Fail { "fail" } else { "warn" };
        if wrong(&found) != [check.id] || found[check.id]["result"] != result {
            odd.push(format!("{}: wrong are {:?}: {:#}", check.id, wrong(&found), found[check.id]));
            continue;
        }
        let mut done = Vec::new();
        // What is made anew may need a right or a look of its own, which the next round says.
        for _ in 0..3 {
            done.extend(follow(&world, &found).await);
            found = findings(&world).await;
            if wrong(&found).is_empty() {
                break;
            }
        }
        // A namespace alone is not yet an installation.
        let left: Vec<&str> =
            wrong(&found).into_iter().filter(|id| check.id != "controller-namespace" || *id == check.id).collect();
        if !left.is_empty() {
            odd.push(format!("{}: after {done:#?} still wrong: {:#}", check.id, found[left[0]]));
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

/// The fixes that are safe do by themselves what their commands would.
#[tokio::test(start_paused = true)]
async fn what_is_safe_is_repaired_at_once_when_nobody_has_to_be_asked() {
    for id in ["controller-definition", "secret-right", "secret-last-applied"] {
        let mut world = World::healthy().await;
        harm(id, &world).await;
        let said = world.check(&format!("{id} --fix")).await;
        assert_eq!(said.exit, Exit::Usage, "nobody is there: {said:#?}");
        world.shell.answer = Some(false);
        assert_eq!(
            world.check(&format!("{id} --fix")).await.exit,
            if id == "secret-last-applied" { Exit::Done } else { Exit::Failed }
        );
        assert_eq!(wrong(&findings(&world).await), [id], "a no changes nothing");
        let said = world.check(&format!("{id} --fix --yes --strict")).await;
        assert_eq!(said.exit, Exit::Done, "{said:#?}");
        assert!(said.stderr.contains(&format!("✔ {id} repaired")), "{said:#?}");
        assert_eq!(wrong(&findings(&world).await), Vec::<&str>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_to_refresh_is_repaired_by_asking_again() {
    let world = World::healthy().await;
    harm("token-ready", &world).await;
    world.start();
    let said = world.check("token --fix --yes --wait").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn findings_are_shown_with_evidence_fix_and_page_and_what_builds_on_them_is_skipped() {
    let world = World::healthy().await;
    harm("controller-deployment", &world).await;
    let said = world.check("controller").await;
    assert_eq!((said.exit, said.stdout.contains('\x1b')), (Exit::Failed, false));
    let table = "controller\n----------\n✔ the namespace is there\n";
    assert!(said.stdout.starts_with(table), "{}", said.stdout);
    let finding = "✗ the controller is deployed\n    there is no Deployment flux-system/flux-bearer-controller\n    \
                   fix: kubectl apply --server-side -k deploy/base\n    see: flux-bearer explain controller-deployment\n";
    assert!(said.stdout.contains(finding), "{}", said.stdout);
    assert!(said.stdout.contains("- the controller runs skipped: needs controller-deployment\n"), "{}", said.stdout);
    assert_eq!(said.stderr, "✗ 1 of 14 checks failed, 0 warn\n");
    assert_eq!(world.check("controller -o short").await.stdout, finding);
}

#[tokio::test(start_paused = true)]
async fn warnings_end_with_three_only_when_asked_to() {
    let world = World::healthy().await;
    harm("token-suspended", &world).await;
    assert_eq!(world.check("").await.exit, Exit::Done);
    let said = world.check("--strict -o short").await;
    assert_eq!(said.exit, Exit::Warnings);
    assert!(said.stdout.starts_with("⚠️ no BearerToken is suspended\n"), "{}", said.stdout);
}

#[tokio::test(start_paused = true)]
async fn before_an_installation_only_what_it_builds_on_is_judged() {
    let world = World::healthy().await;
    for id in ["controller-deployment", "controller-definition", "rights-install"] {
        harm(id, &world).await;
    }
    let said = world.check("--pre -o short").await;
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.stdout.starts_with("✗ you may install flux-bearer\n"), "{}", said.stdout);
    assert_eq!(said.stdout.matches('✗').count(), 1, "{}", said.stdout);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_looked_at_is_said_and_fails_nothing() {
    let world = World::healthy().await;
    world.stage().kube.set_authorizer(|info| !info.resource.contains("cronjobs") && !info.resource.contains("role"));
    let said = world.check("").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
    assert!(said.stdout.contains("- it may do its work skipped: not allowed to list Role"), "{}", said.stdout);
}

/// Without a sign-in all else is judged as ever, and Azure hears nothing of it.
#[tokio::test(start_paused = true)]
async fn who_is_not_signed_in_is_told_how_to_and_sends_nothing_to_azure() {
    let mut world = World::healthy().await;
    world.shell.environment.clear();
    harm("devops-member", &world).await;
    world.stage().world.journal().clear();
    let said = world.check("").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, "✔ all checks passed\n"), "{said:#?}");
    let why = "skipped: not signed in to Azure (AzureCliMissing: Azure CLI (az) is not on this machine's PATH); Install it \
               (https://aka.ms/azure-cli) and sign in with az login, or sign in in another way";
    for (category, line, count) in [("azure", "-----", 7), ("devops", "------", 16)] {
        let part = format!("{category}\n{line}\n- all {count} {why}\n\n");
        assert!(said.stdout.contains(&part), "{}", said.stdout);
    }
    assert_eq!(world.stage().world.journal().entries().len(), 0);
    let said = world.check("devops -o json").await;
    let document: Value = serde_json::from_str(&said.stdout).unwrap();
    let skipped = |finding: &Value| finding["skipped"].as_str().unwrap_or_default().starts_with("not signed in");
    assert!(document["checks"].as_array().unwrap().iter().all(skipped), "{document:#}");
}

/// Whoever names other categories is not signed in for them.
#[tokio::test(start_paused = true)]
async fn azure_is_left_alone_by_who_asks_for_something_else() {
    let world = World::healthy().await;
    world.stage().world.journal().clear();
    assert_eq!(world.check("cluster token flux").await.exit, Exit::Done);
    assert_eq!(world.check("--pre").await.exit, Exit::Done);
    assert_eq!(world.stage().world.journal().entries().len(), 0);
}

/// Who may not look gets no false alarm: what can't be seen is skipped, with the reason.
#[tokio::test(start_paused = true)]
async fn an_operator_without_rights_is_told_so_and_nothing_fails() {
    let world = World::healthy().await;
    world.azure(|state| {
        state.subscriptions[0].role_assignments.clear();
        let contoso = &mut state.organizations[0];
        contoso.administrators.clear();
        contoso.projects[0].repositories[0].readers.retain(|one| one != OPERATOR_OBJECT);
    });
    let said = world.check("azure devops").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
    assert!(said.stdout.contains("- all 7 skipped: you see no subscription\n"), "{}", said.stdout);
    let unseen = "- every project is there skipped: only an administrator of organisation contoso sees all of it\n";
    assert!(said.stdout.contains(unseen), "{}", said.stdout);
    assert!(said.stdout.contains("✔ every identity is a member\n"), "{}", said.stdout);

    world.azure(|state| state.organizations[0].members.retain(|one| one.object_id != OPERATOR_OBJECT));
    let said = world.check("devops").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
    assert!(said.stdout.contains("- every identity is a member skipped: TF400813"), "{}", said.stdout);
}

/// An organisation that may not be looked at hides nothing of the others.
#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_wrong_is_said_whatever_else_is_not_known() {
    let world = World::healthy().await;
    let url = "https://dev.azure.com/fabrikam/platform/_git/fleet";
    world.stage().bearer_token("second", &json!({"repositories": [url]}));
    world.azure(|state| {
        let mut fabrikam = state.organizations[0].clone();
        (fabrikam.name, fabrikam.members) = ("fabrikam".into(), Vec::new());
        fabrikam.administrators.clear();
        state.organizations.push(fabrikam);
    });
    let said = world.check("devops-member").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
    assert!(said.stdout.contains("- every identity is a member skipped: TF400813"), "{}", said.stdout);
    harm("devops-member", &world).await;
    let said = world.check("devops-member -o short").await;
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.stdout.contains("is no member of organisation contoso\n"), "{}", said.stdout);
}

/// An app registration is in no subscription, and Azure DevOps says that it is one.
#[tokio::test(start_paused = true)]
async fn an_app_registration_is_no_managed_identity_that_is_missing() {
    let world = World::healthy().await;
    harm("azure-identity", &world).await;
    world.azure(|state| {
        state.imds.user_assigned.clear();
        state.tenants[0].applications[0].kind = Kind::Application;
    });
    let said = world.check("azure --strict").await;
    assert_eq!(said.exit, Exit::Done, "{said:#?}");
}

/// A right that comes by a group is one, and a denial of a group wins over the identity's own entry.
#[tokio::test(start_paused = true)]
async fn groups_count_for_what_an_identity_may_and_may_not_do() {
    let world = World::healthy().await;
    for id in ["devops-groups", "devops-project-read", "devops-repository-read"] {
        harm(id, &world).await;
    }
    assert_eq!(wrong(&findings(&world).await), ["devops-groups"]);
    world.deny_readers().await;
    let found = findings(&world).await;
    assert_eq!(wrong(&found), ["devops-deny", "devops-groups"], "{found:#?}");
    let evidence = "Read on repository fleet is denied to [platform]\\Readers, and a denial wins";
    assert_eq!(found["devops-deny"]["wrong"][0]["evidence"], evidence);
}

/// Image automation pushes with what its GitRepository reads.
#[tokio::test(start_paused = true)]
async fn who_pushes_for_image_automation_may() {
    let world = World::healthy().await;
    harm("devops-push", &world).await;
    let automation = |source: &str| {
        world.stage().kube.apply(json!({
            "apiVersion": "image.toolkit.fluxcd.io/v1", "kind": "ImageUpdateAutomation",
            "metadata": {"name": "images", "namespace": "flux-system"},
            "spec": {"sourceRef": {"kind": "GitRepository", "name": source}},
        }));
    };
    automation("other");
    assert_eq!(wrong(&findings(&world).await), ["devops-push"]);
    automation("flux-system");
    assert_eq!(wrong(&findings(&world).await), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn only_the_subscription_that_is_named_is_looked_at() {
    let world = World::healthy().await;
    let said = world.check("azure --subscription platform").await;
    assert!(said.stdout.contains("✔ every managed identity is there\n"), "{}", said.stdout);
    let said = world.check("azure --subscription other").await;
    assert_eq!(said.exit, Exit::Done);
    assert!(said.stdout.contains("- all 7 skipped: you see no subscription other\n"), "{}", said.stdout);
}

/// What somebody writes into a URL does nothing to a terminal or a shell.
#[tokio::test(start_paused = true)]
async fn the_names_in_a_url_are_harmless_in_what_is_shown() {
    let world = World::healthy().await;
    let name = |url: &str| world.edit("GitRepository", "flux-system", |object| object["spec"]["url"] = url.into());
    name("https://dev.azure.com/contoso/platform%27%3bid/_git/fleet");
    let said = world.check("devops -o short").await.stdout;
    assert!(said.contains("organisation contoso has no project platform';id\n"), "{said}");
    name("https://dev.azure.com/contoso/platform%1b%5b2J/_git/fleet%1b%5b2J");
    for format in ["table", "json"] {
        let said = world.check(&format!("devops -o {format}")).await.stdout;
        assert!(said.contains("every project is there") && !said.contains('\x1b'), "{said}");
    }
}

/// The subject that the identity has to trust is that of the account which the BearerToken names.
#[tokio::test(start_paused = true)]
async fn an_account_of_a_bearer_token_has_to_be_there_and_trusted_and_the_controllers_does_not() {
    let world = World::healthy().await;
    let federation = "azure-federation azure-federation-subject controller-identity -o short";
    world.edit("BearerToken", "flux-system", |object| object["spec"]["identity"]["serviceAccountName"] = "app".into());
    let said = world.check(federation).await.stdout;
    assert!(said.contains("there is no ServiceAccount flux-system/app"), "{said}");
    let client = json!({"azure.workload.identity/client-id": client(0)});
    world.stage().service_account(NAMESPACE, "app", &client);
    let said = world.check(federation).await.stdout;
    let (missing, fix) = (
        "no federated credential is for system:serviceaccount:flux-system:app of",
        "--subject system:serviceaccount:flux-system:app ",
    );
    assert!(said.contains(missing) && said.contains(fix) && !said.contains(":flux-bearer-controller"), "{said}");
    world.stage().federate(0, "system:serviceaccount:flux-system:App").unwrap();
    let said = world.check(federation).await.stdout;
    assert!(said.contains("and the service account is \"system:serviceaccount:flux-system:app\""), "{said}");
    world.stage().federate(0, &subject(NAMESPACE, "app")).unwrap();
    let said = world.check(federation).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stdout);
}

/// What the pod's own identity needs at the token proxy of AKS is AKS's own affair.
#[tokio::test(start_paused = true)]
async fn a_pod_that_is_bound_to_the_token_proxy_needs_no_federated_credential_and_no_token_in_the_deployment() {
    let world = World::healthy().await;
    let checks = "azure-federation controller-projected-token -o short";
    world.azure(|state| state.tenants[0].applications[0].federated_credentials.clear());
    world.edit("Deployment", "flux-bearer-controller", |object| {
        let pod = &mut object["spec"]["template"];
        pod["spec"]["volumes"] = json!([]);
        pod["metadata"]["labels"]["azure.workload.identity/use"] = "true".into();
    });
    let said = world.check(checks).await;
    assert!(said.stdout.contains("no federated credential is for"), "the label alone binds nobody: {}", said.stdout);
    world.edit("Deployment", "flux-bearer-controller", |object| {
        let annotations = json!({"azure.workload.identity/use-identity-binding": "true"});
        object["spec"]["template"]["metadata"]["annotations"] = annotations;
    });
    let said = world.check(checks).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.stdout);
}

/// With all 20 taken there is no command that adds one.
#[tokio::test(start_paused = true)]
async fn the_21st_cluster_is_told_that_there_is_no_room() {
    let world = World::healthy().await;
    harm("azure-federation-room", &world).await;
    world.azure(|state| {
        let all = &mut state.tenants[0].applications[0].federated_credentials;
        all[0].subject = "system:serviceaccount:other:other".into();
        let mut last = all[0].clone();
        (last.name, last.issuer) = ("last".into(), "https://oidc.example/last/".into());
        all.push(last);
    });
    let said = world.check("azure -o short").await;
    assert_eq!(said.exit, Exit::Failed);
    assert!(said.stdout.contains("fix: the identity has 20 federated credentials and can have no more"), "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_all_is_well_or_when_the_time_is_over() {
    let world = World::healthy().await;
    harm("controller-ready", &world).await;
    let (healed, at) = (world.stage().clone(), tokio::time::Instant::now());
    tokio::spawn(async move {
        seconds(60).await;
        checks_world::ready(&healed, "flux-bearer-controller", 2);
    });
    assert_eq!(world.check("controller --wait").await.exit, Exit::Done);
    assert!((60..70).contains(&at.elapsed().as_secs()), "{:?}", at.elapsed());
    harm("controller-ready", &world).await;
    let at = tokio::time::Instant::now();
    let said = world.check("controller --wait --timeout 2m").await;
    assert_eq!(said.exit, Exit::Failed, "it says what is wrong in the end");
    assert!(said.stdout.contains("✗ the controller runs") && at.elapsed().as_secs() <= 120, "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn no_token_password_or_page_of_a_server_is_ever_shown() {
    let world = World::healthy().await;
    for id in ["flux-pat", "flux-authentication", "secret-leftovers", "secret-last-applied"] {
        harm(id, &world).await;
    }
    let token = world.theatre.token("flux-system");
    world.edit("GitRepository", "flux-system", |object| {
        object["spec"]["url"] =
            format!("https://user:{}@dev.azure.com/contoso/platform/_git/fleet", checks_world::CANARY).into();
    });
    for format in ["table", "short", "json"] {
        let said = world.check(&format!("-o {format}")).await;
        assert!(said.stdout.contains("holds a user"), "{}", said.stdout);
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(!all.contains(&token) && !all.contains(checks_world::CANARY), "{all}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_of_somebody_else_is_one_word_of_a_fix() {
    let world = World::healthy().await;
    world.edit("GitRepository", "flux-system", |object| {
        object["spec"]["url"] = "http://dev.azure.com/contoso/platform/_git/'; id; '".into();
        object["spec"]["secretRef"]["name"] = "x; id".into();
    });
    let said = world.check("flux -o short").await.stdout;
    assert!(said.contains("flux-bearer create bearertoken 'x; id' -n flux-system\n"), "{said}");
    assert!(said.contains(r"_git/'\'';%20id;%20'\''"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_printed_from_the_program_and_a_wrong_id_gets_the_nearest() {
    let world = World::healthy().await;
    let explain = async |words: &str| world.shell.run(&format!("flux-bearer explain {words}")).await;
    let page = explain("cluster-version").await;
    assert!(page.stdout.starts_with("# cluster-version\n\n") && page.exit == Exit::Done, "{page:#?}");
    let list = explain("").await.stdout;
    assert!(list.starts_with("CHECK ") && list.lines().count() == checks::all().count() + 1, "{list}");
    let ids = explain("-o name").await.stdout;
    assert_eq!(ids.lines().collect::<Vec<_>>(), checks::all().map(|check| check.id).collect::<Vec<_>>());
    let page: Value = serde_json::from_str(&explain("flux-pat -o json").await.stdout).unwrap();
    assert_eq!((&page["id"], &page["severity"]), (&"flux-pat".into(), &"warn".into()));
    let odd = explain("flux-pad").await;
    assert_eq!(odd.exit, Exit::NotFound);
    assert!(odd.stderr.contains("did you mean flux-pat?"), "{odd:#?}");
    assert_eq!(world.check("cluter").await.exit, Exit::NotFound);
}
