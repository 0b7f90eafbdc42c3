//! The verbs of the command line that look at BearerTokens and change them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

mod support;

use std::time::Duration;

use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::state::State;
use flux_bearer_world::accounts::subject;
use flux_bearer_world::identities::{REPOSITORY, client};
use flux_bearer_world::shell::{Said, Shell};
use flux_bearer_world::stage::{NAMESPACE, Stage};
use serde_json::{Value, json};
use support::{Theatre, answer, minutes, seconds};

fn shell() -> Shell {
    Shell::new(&Stage::new(State::default()).unwrap())
}

/// A theatre with BearerToken and GitRepository `flux-system`, which a controller keeps.
async fn theatre() -> (Theatre, Shell) {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    // It runs until the test ends.
    std::mem::forget(theatre.stage.start());
    seconds(5).await;
    let shell = Shell::new(&theatre.stage);
    (theatre, shell)
}

fn spec(stage: &Stage, name: &str) -> Value {
    stage.kube.get("BearerToken", NAMESPACE, name).unwrap()["spec"].clone()
}

/// That it ended so, with all of `parts` in what it says to a person.
#[track_caller]
fn said(said: &Said, exit: Exit, parts: &[&str]) {
    assert_eq!(said.exit, exit, "{said:#?}");
    for part in parts {
        assert!(said.stderr.contains(part), "{part:?} in {said:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_version_is_that_of_the_program_and_of_the_cluster() {
    let said = shell().run("flux-bearer version").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, ""));
    assert_eq!(said.stdout, format!("flux-bearer: v{}\n", env!("CARGO_PKG_VERSION")));
    let said = shell().run("flux-bearer version --client -o yaml").await;
    assert_eq!(said.stdout, format!("client: \"{}\"\ncontroller: null\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test(start_paused = true)]
async fn a_format_that_a_verb_does_not_have_is_refused_with_those_that_it_has() {
    let ended = shell().run("flux-bearer version -o wide").await;
    said(&ended, Exit::Usage, &["does not write -o wide", "table, json, yaml"]);
    let ended = shell().run("flux-bearer refresh x -o json").await;
    said(&ended, Exit::Usage, &["does not write -o json"]);
}

#[tokio::test(start_paused = true)]
async fn get_shows_how_long_each_token_still_lives() {
    let (theatre, shell) = theatre().await;
    minutes(18).await;
    let said = shell.run("flux-bearer get").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, ""));
    let lines: Vec<Vec<&str>> = said.stdout.lines().map(|line| line.split("   ").map(str::trim).collect()).collect();
    let words = |line: usize| lines[line].iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
    assert_eq!(words(0), ["NAME", "READY", "EXPIRES-IN", "IDENTITY", "SECRET", "MESSAGE"]);
    let message = format!("Secret flux-system holds a token of workload identity {}", client(0));
    assert_eq!(words(1), ["flux-system", "True", "41m", &client(0), "flux-system", &message]);

    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    minutes(60).await;
    let said = shell.run("flux-bearer get bearertokens flux-system --no-header -o wide").await;
    for part in ["False", "EXPIRED", "ago", "due", "of the GitRepositories", "the token in Secret flux-system"] {
        assert!(said.stdout.contains(part), "{part} in {}", said.stdout);
    }
    assert_eq!(said.stdout.lines().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn get_finds_by_name_label_and_namespace() {
    let (theatre, shell) = theatre().await;
    theatre.stage.kube.apply(json!({
        "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
        "metadata": {"name": "other", "namespace": "team", "labels": {"a": "b"}}, "spec": {},
    }));
    let said_of = async |line: &str| shell.run(line).await;
    let all = said_of("flux-bearer get -A --no-header").await.stdout;
    assert!(all.starts_with("flux-system   flux-system") && all.contains("team          other"), "{all}");
    let labelled = said_of("flux-bearer get -A -l a=b -o name").await.stdout;
    assert_eq!(labelled, "bearertoken.flux-bearer.dev/other\n");
    let one: Value = serde_json::from_str(&said_of("flux-bearer get other -n team -o json").await.stdout).unwrap();
    assert_eq!(one["metadata"]["name"], "other");
    assert_eq!(one["metadata"].get("managedFields"), None);
    let list: Value = serde_json::from_str(&said_of("flux-bearer get -n none -o json").await.stdout).unwrap();
    assert_eq!(list, json!({"apiVersion": "v1", "kind": "List", "items": []}));
    said(
        &said_of("flux-bearer get x").await,
        Exit::NotFound,
        &["BearerToken 'x' not found in \"flux-system\" namespace"],
    );
    let none = said_of("flux-bearer get -n none").await;
    said(&none, Exit::Done, &["no BearerToken objects found in \"none\" namespace"]);
    assert_eq!(none.stdout, "");
}

#[tokio::test(start_paused = true)]
async fn get_goes_on_and_shows_what_changes() {
    let (theatre, shell) = theatre().await;
    let mut watching = std::pin::pin!(shell.run("flux-bearer get --watch -o name"));
    let mut watch = async |time| tokio::time::timeout(Duration::from_secs(time), watching.as_mut()).await;
    assert!(watch(10).await.is_err());
    theatre.stage.kube.journal().clear();
    assert!(watch(900).await.is_err(), "--timeout does not end it");
    assert!(theatre.stage.kube.journal().count_where(|entry| entry.request.resource == "bearertokens") > 400);
}

#[tokio::test(start_paused = true)]
async fn refresh_has_a_fresh_token_put_into_the_secret_and_says_until_when() {
    let (theatre, shell) = theatre().await;
    minutes(10).await;
    let before = theatre.token("flux-system");
    let ended = shell.run("flux-bearer refresh flux-system").await;
    let parts = ["► annotating BearerToken flux-system in flux-system namespace", "expires in 60m)"];
    said(&ended, Exit::Done, &parts);
    assert_ne!(theatre.token("flux-system"), before);
    assert_eq!(ended.stdout, "");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_ends_with_what_the_condition_says() {
    let (theatre, shell) = theatre().await;
    minutes(10).await;
    theatre.azure_fault("down", "oauth2/v2.0/token", answer(503));
    let ended = shell.run("flux-bearer refresh --all").await;
    said(&ended, Exit::Failed, &["✗ BearerToken flux-system was not refreshed: HTTP 503"]);
    said(&shell.run("flux-bearer refresh --all --no-wait").await, Exit::Done, &["✔ BearerToken annotated"]);
    said(&shell.run("flux-bearer refresh").await, Exit::Usage, &["BEARERTOKEN"]);
    said(&shell.run("flux-bearer refresh x").await, Exit::NotFound, &["BearerToken 'x' not found"]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_without_a_controller_ends_at_the_timeout() {
    let theatre = Theatre::with(&[3600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    let ended = Shell::new(&theatre.stage).run("flux-bearer refresh flux-system --timeout 1m").await;
    said(&ended, Exit::TimedOut, &["not done within 60 s", "flux-bearer check"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_suspended_is_not_refreshed_and_not_renewed_until_it_is_resumed() {
    let (theatre, shell) = theatre().await;
    let ended = shell.run("flux-bearer suspend flux-system").await;
    said(&ended, Exit::Done, &["✔ BearerToken suspended", "its token expires in 59m"]);
    assert_eq!(spec(&theatre.stage, "flux-system"), json!({"suspend": true}));
    let ended = shell.run("flux-bearer refresh flux-system").await;
    said(&ended, Exit::Taken, &["is suspended", "flux-bearer resume flux-system -n flux-system"]);
    said(&shell.run("flux-bearer refresh --all").await, Exit::Done, &["BearerToken flux-system is suspended"]);
    minutes(70).await;
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "False TokenExpired");
    let ended = shell.run("flux-bearer resume --all").await;
    said(&ended, Exit::Done, &["✔ BearerToken resumed", "✔ Secret flux-system holds a token until"]);
    assert_eq!(spec(&theatre.stage, "flux-system"), json!({}));
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn create_makes_a_bearer_token_and_waits_until_its_secret_is_filled() {
    let (theatre, shell) = theatre().await;
    let line = format!(
        "flux-bearer create bearertoken team --client-id {} --format basic,bearer --repository {REPOSITORY}",
        client(0)
    );
    said(&shell.run(&line).await, Exit::Done, &["✔ BearerToken applied", "✔ Secret team holds a token until"]);
    let stored = json!({
        "identity": {"clientId": client(0)}, "repositories": [REPOSITORY], "secret": {"formats": ["Basic", "Bearer"]},
    });
    assert_eq!(spec(&theatre.stage, "team"), stored);
    // What is applied again without a flag loses the field.
    said(&shell.run("flux-bearer create bt team --adopt").await, Exit::Done, &[]);
    assert_eq!(spec(&theatre.stage, "team"), json!({"secret": {"adopt": true}}));
    theatre.stage.issue_tokens();
    theatre.stage.federate(0, &subject(NAMESPACE, "app")).unwrap();
    theatre.stage.service_account(NAMESPACE, "app", &json!({"azure.workload.identity/client-id": client(0)}));
    let line = "flux-bearer create bearertoken by-account --service-account app";
    said(&shell.run(line).await, Exit::Done, &["✔ Secret by-account holds a token until"]);
    assert_eq!(spec(&theatre.stage, "by-account"), json!({"identity": {"serviceAccountName": "app"}}));
}

#[tokio::test(start_paused = true)]
async fn create_tells_what_keeps_a_new_bearer_token_from_being_ready() {
    let (theatre, shell) = theatre().await;
    let ended = shell.run("flux-bearer create bearertoken x -n team").await;
    said(&ended, Exit::NotFound, &["namespace team does not exist", "kubectl create namespace team"]);
    theatre.stage.kube.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    let ended = shell.run("flux-bearer create bearertoken x -n team").await;
    said(&ended, Exit::Failed, &["namespace team may not use", "the BearerToken stays"]);
    // What may be over in a minute is waited for, and told meanwhile.
    let line = format!("flux-bearer create bearertoken x --client-id {} --timeout 1m", client(77));
    let ended = shell.run(&line).await;
    said(&ended, Exit::TimedOut, &["    AADSTS700016: the tenant has no identity with this client id"]);
    assert_eq!(ended.stderr.matches("AADSTS700016").count(), 1, "told once");
}

#[tokio::test(start_paused = true)]
async fn export_prints_what_git_needs_and_touches_nothing() {
    let (theatre, shell) = theatre().await;
    theatre.stage.kube.journal().clear();
    let line = "flux-bearer create bearertoken flux-system --deletion-policy delete --secret git --export";
    let ended = shell.run(line).await;
    let yaml = "---\napiVersion: flux-bearer.dev/v1alpha1\nkind: BearerToken\nmetadata:\n  name: flux-system\n  namespace: flux-system\nspec:\n  secret:\n    deletionPolicy: Delete\n    name: git\n";
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, yaml, ""));
    assert_eq!(theatre.stage.kube.journal().count_where(|_| true), 0);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_work_is_refused_before_anything_is_touched() {
    let shell = shell();
    let id = client(0);
    let cases = [
        ("Up_per".to_owned(), "can't be the name"),
        ("x --client-id 1".into(), "the client id is not a GUID"),
        (format!("x --object-id {id}"), "select a managed identity"),
        ("x --identity-type managed-identity --tenant-id contoso.example".into(), "leave --tenant-id out"),
        (format!("x --identity-type managed-identity --client-id {id} --object-id {id}"), "selected twice"),
        ("x --identity-type client-secret".into(), "give --tenant-id, --client-id and --secret-ref"),
        ("x --secret-ref y".into(), "add --identity-type client-secret"),
        ("x --service-account team/app".into(), "can't be the name"),
        ("x --service-account app --identity-type managed-identity".into(), "leave one of the two out"),
        ("x --repository http://dev.azure.com/o/p/_git/r".into(), "is not https"),
        ("x --repository https://o@dev.azure.com/o/p/_git/r".into(), "holds a user"),
        ("x --secret -".into(), "can't be the name"),
    ];
    for (line, part) in cases {
        let ended = shell.run(&format!("flux-bearer create bearertoken {line} --export")).await;
        said(&ended, Exit::Usage, &[part]);
        assert_eq!(ended.stdout, "", "{line}");
        assert_eq!(ended.stderr.lines().count(), 2, "one line, and the fix: {}", ended.stderr);
    }
}

#[tokio::test(start_paused = true)]
async fn completion_is_for_the_name_that_the_program_was_called_by() {
    let script = shell().run("/usr/bin/kubectl-flux_bearer completion bash").await.stdout;
    assert!(script.contains("kubectl-flux_bearer") && !script.contains("-F _flux-bearer"), "{script}");
    for name in ["bash", "zsh", "fish", "powershell"] {
        assert!(shell().run(&format!("flux-bearer completion {name}")).await.stdout.contains("refresh"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn words_are_completed_by_cobras_protocol_with_live_names() {
    let (theatre, shell) = theatre().await;
    theatre.stage.kube.apply(json!({
        "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
        "metadata": {"name": "other", "namespace": "team"}, "spec": {},
    }));
    let complete = async |words: &[&str]| {
        let said = shell.run_words(&[&["flux-bearer", "__complete"], words].concat()).await;
        assert_eq!((said.exit, said.stderr.as_str()), (Exit::Done, ""), "{words:?}");
        said.stdout
    };
    let verbs = complete(&["re"]).await;
    assert_eq!(
        verbs,
        "rescue\tWrite a fresh token into the Secret from here, when neither controller nor Git can\nrefresh\tHave a fresh token put into the Secret now\nresume\tRenew tokens again\n:4\n"
    );
    assert!(complete(&[""]).await.contains("suspend\t") && !complete(&[""]).await.contains("__complete"));
    assert_eq!(complete(&["get", ""]).await, "flux-system\n:4\n");
    assert_eq!(complete(&["get", "flux-system", "f"]).await, "flux-system\n:4\n");
    assert_eq!(complete(&["refresh", "--no-wait", "-n", "team", ""]).await, "other\n:4\n");
    assert_eq!(complete(&["refresh", "--namespace=team", "o"]).await, "other\n:4\n");
    assert_eq!(complete(&["get", "-n", "te"]).await, "team\n:4\n");
    assert_eq!(complete(&["get", "--namespace=te"]).await, "--namespace=team\n:4\n");
    assert_eq!(complete(&["--context", ""]).await, "stage\n:4\n");
    assert_eq!(complete(&["get", "--kubeconfig", ""]).await, ":0\n");
    assert_eq!(complete(&["get", "-o", "js"]).await, "json\tJSON\n:4\n");
    assert_eq!(complete(&["completion", "po"]).await, "powershell\n:4\n");
    assert_eq!(complete(&["create", "bear"]).await.lines().next().unwrap().split('\t').next(), Some("bearertoken"));
    assert!(complete(&["create", "bearertoken", "x", "--del"]).await.starts_with("--deletion-policy\t"));
    assert_eq!(complete(&["create", "bearertoken", ""]).await, ":4\n");
    assert!(complete(&[]).await.ends_with(":4\n"));
    theatre.kube_fault("down", None, answer(503));
    assert_eq!(complete(&["get", ""]).await, ":4\n", "silent where nobody answers");
}
