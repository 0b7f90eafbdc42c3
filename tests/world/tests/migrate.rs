//! `migrate`: from a PAT, a CronJob and `provider: azure` to a token, while Flux pulls.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on ends")]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_sim::kube::ServedResource;
use flux_bearer_sim::state::{Licence, Member, PersonalAccessToken, State};
use flux_bearer_world::flux::Flux;
use flux_bearer_world::identities::{APPLICATION, REPOSITORY, TENANT, client, object, state};
use flux_bearer_world::life::{objects, writes};
use flux_bearer_world::shell::{Break, Breaker, Said, Shell};
use flux_bearer_world::stage::{NAMESPACE, Running, Stage};
use serde_json::{Value, json};

/// The PAT of a person, who has the object id below.
const PAT: &str = "personal-access-token-of-a-person";
const PERSON: &str = "00000000-abcd-4000-8000-000000000001";

const CONTROLLER: &str = "flux-bearer-controller";

/// What `kubectl apply -k deploy/base` applies, as far as `migrate` looks at it.
const BASE: [&str; 3] = [
    include_str!("../../../deploy/base/service-account.yaml"),
    include_str!("../../../deploy/base/rights.yaml"),
    include_str!("../../../deploy/base/deployment.yaml"),
];

/// A cluster with a controller, whose Flux pulls.
struct World {
    stage: Stage,
    flux: Flux,
    running: Running,
}

impl World {
    /// With what `prepare` puts into it.
    async fn with(prepare: impl FnOnce(&Stage)) -> Self {
        let stage = Stage::new(state(&[3600]).unwrap()).unwrap();
        stage.world.edit(employ).unwrap();
        for document in BASE.iter().flat_map(|file| file.split("\n---\n")) {
            stage.kube.apply(serde_saphyr::from_str(document).unwrap());
        }
        stage.kube.patch_status("Deployment", NAMESPACE, CONTROLLER, json!({"availableReplicas": 2}));
        stage.kube.apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONTROLLER, "namespace": NAMESPACE},
            "data": {"AZURE_CLIENT_ID": client(0)},
        }));
        prepare(&stage);
        let world = Self { flux: Flux::start(&stage), running: stage.start(), stage };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(world.flux.failures().is_empty(), "{:?}", world.flux.failures());
        world
    }

    async fn migrate(&self, words: &str) -> Said {
        Shell::new(&self.stage).run(&format!("flux-bearer migrate {words}")).await
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        self.stage.kube.get(kind, NAMESPACE, name).unwrap_or_default()
    }

    fn keys(&self, secret: &str) -> Vec<String> {
        self.get("Secret", secret)["data"].as_object().unwrap().keys().cloned().collect()
    }

    /// Lets Flux look a few times more; not one of its looks may have failed.
    async fn never_failed(&self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(self.flux.failures().is_empty(), "{:?}", self.flux.failures());
    }

    /// What the looks used, without repetitions.
    fn used(&self, repository: &str) -> Vec<&'static str> {
        let looks = self.flux.looks().into_iter().filter(|look| look.repository == repository);
        let mut used: Vec<&str> = looks.map(|look| look.with).collect();
        used.dedup();
        used
    }

    /// That a run more changes nothing and writes nothing.
    async fn again(&self) {
        let before = (writes(&self.stage), objects(&self.stage));
        let said = self.migrate("--yes").await;
        assert_eq!(said.exit, Exit::Done, "{said:#?}");
        assert!(said.stderr.contains("nothing to change"), "{said:#?}");
        assert_eq!((writes(&self.stage), objects(&self.stage)), before);
    }

    async fn end(self) {
        self.running.kill().await;
    }
}

/// Lets a person into the organisation, with a PAT and the right to read the repository.
fn employ(state: &mut State) {
    let organization = &mut state.organizations[0];
    organization.members.push(Member { object_id: PERSON.into(), licence: Licence::Basic, ..Member::default() });
    let pat = PersonalAccessToken { value: PAT.into(), object_id: PERSON.into(), expires_at: None };
    organization.personal_access_tokens.push(pat);
    organization.projects[0].readers.push(PERSON.into());
    organization.projects[0].repositories[0].readers.push(PERSON.into());
}

fn forbid(stage: &Stage) {
    stage
        .world
        .edit(|state| state.organizations[0].projects[0].repositories[0].readers.retain(|id| *id != object(0)))
        .unwrap();
}

fn pat(stage: &Stage, name: &str, kind: &str) {
    stage.kube.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"username": STANDARD.encode("git"), "password": STANDARD.encode(PAT), "ca.crt": STANDARD.encode("CA")},
    }));
}

fn with_pat(stage: &Stage) {
    pat(stage, "fleet", "Opaque");
    stage.git_repository("fleet", "fleet", REPOSITORY);
}

fn cron_job(stage: &Stage, labels: &Value) {
    let script = "t=$(az account get-access-token); kubectl -n flux-system create secret generic fleet";
    stage.kube.apply(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "refresh", "namespace": NAMESPACE, "labels": labels},
        "spec": {"suspend": false, "jobTemplate": {"spec": {"template": {"spec": {
            "serviceAccountName": "refresher", "containers": [{"command": ["sh", "-c", script]}],
        }}}}},
    }));
    stage.kube.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "refresher", "namespace": NAMESPACE},
        "roleRef": {"kind": "Role", "name": "writes-secrets"},
        "subjects": [{"kind": "ServiceAccount", "name": "refresher", "namespace": NAMESPACE}],
    }));
}

fn with_cron_job(stage: &Stage) {
    with_pat(stage);
    cron_job(stage, &json!({}));
}

fn native(stage: &Stage, labels: &Value) {
    stage.kube.apply(json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "fleet", "namespace": NAMESPACE, "labels": labels},
        "spec": {"url": REPOSITORY, "interval": "1m", "provider": "azure", "serviceAccountName": "puller"},
    }));
}

fn with_native(stage: &Stage) {
    native(stage, &json!({}));
}

/// The labels of what a Kustomization has applied.
fn from_git() -> Value {
    json!({"kustomize.toolkit.fluxcd.io/name": "flux-system", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"})
}

/// That it ended so, with all of `parts` in what it says.
#[track_caller]
fn says(said: &Said, exit: Exit, parts: &[&str]) {
    assert_eq!(said.exit, exit, "{said:#?}");
    for part in parts {
        assert!(said.stderr.contains(part) || said.stdout.contains(part), "{part:?} in {said:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pat_gives_way_to_a_token_without_one_failed_look() {
    let world = World::with(with_pat).await;
    let said = world.migrate("--yes").await;
    says(
        &said,
        Exit::Done,
        &[
            "GitRepository fleet: from a PAT to BearerToken fleet",
            "kubectl-client-side-apply has put username, password into Secret fleet",
            "+ let the controller fill Secret fleet",
            "revoke the PAT: https://dev.azure.com/contoso/_usersSettings/tokens",
            "back: kubectl -n flux-system delete bearertoken fleet && kubectl",
        ],
    );
    world.never_failed().await;
    assert_eq!(world.keys("fleet"), ["bearerToken", "ca.crt"]);
    assert_eq!(world.used("fleet").first(), Some(&"password"));
    assert_eq!(world.used("fleet").last(), Some(&"bearerToken"));
    assert!(!said.stdout.contains(PAT) && !said.stderr.contains(PAT));
    world.again().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_plan_and_changes_nothing() {
    for (prepare, words) in [
        (with_pat as fn(&Stage), "+ create BearerToken fleet"),
        (with_cron_job, "+ suspend CronJob refresh"),
        (with_native, "+ lead GitRepository fleet from provider azure to Secret fleet"),
    ] {
        let world = World::with(prepare).await;
        let before =
            (objects(&world.stage), world.get("Secret", "fleet"), world.get("GitRepository", "fleet")["spec"].clone());
        let said = world.migrate("fleet --dry-run").await;
        says(&said, Exit::Changes, &[words, "wait for a token in Secret fleet"]);
        let document: Value = serde_json::from_str(&world.migrate("--dry-run -o json").await.stdout).unwrap();
        assert_eq!(document["moves"][0]["secret"], "fleet", "{document:#}");
        assert_eq!(world.migrate("").await.exit, Exit::Usage, "nobody is there to confirm");
        let after =
            (objects(&world.stage), world.get("Secret", "fleet"), world.get("GitRepository", "fleet")["spec"].clone());
        assert_eq!(after, before);
        assert_eq!(writes(&world.stage), 0);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_in_the_url_and_a_secret_of_its_own_type_keep_user_name_and_password() {
    let user = REPOSITORY.replace("https://", "https://contoso@");
    for (kind, url) in [("Opaque", user.as_str()), ("kubernetes.io/basic-auth", REPOSITORY)] {
        let world = World::with(|stage| {
            pat(stage, "fleet", kind);
            stage.git_repository("fleet", "fleet", url);
        });
        let world = world.await;
        says(&world.migrate("--yes").await, Exit::Done, &[]);
        world.never_failed().await;
        assert_eq!(world.keys("fleet"), ["ca.crt", "password", "username"]);
        assert_ne!(world.get("Secret", "fleet")["data"]["password"], STANDARD.encode(PAT));
        world.again().await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_is_suspended_first_and_what_is_left_of_it_is_named() {
    let world = World::with(with_cron_job).await;
    let said = world.migrate("--yes").await;
    says(
        &said,
        Exit::Done,
        &[
            "GitRepository fleet: from CronJob refresh to BearerToken fleet",
            "CronJob refresh names Secret fleet and get-access-token",
            "kubectl -n flux-system delete cronjob refresh",
            "kubectl -n flux-system delete rolebinding/refresher role/writes-secrets",
            "system:serviceaccount:flux-system:refresher",
            r#"patch cronjob refresh --type=merge -p '{"spec":{"suspend":false}}'"#,
        ],
    );
    world.never_failed().await;
    assert_eq!(world.keys("fleet"), ["bearerToken", "ca.crt"]);
    assert_eq!(world.get("CronJob", "refresh")["spec"]["suspend"], true);
    world.again().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_of_the_job_that_is_under_way_is_waited_for() {
    let world = World::with(with_cron_job).await;
    world.stage.kube.patch_status("CronJob", NAMESPACE, "refresh", json!({"active": [{"name": "refresh-1"}]}));
    let mut migrating = Box::pin(world.migrate("--yes"));
    assert!(tokio::time::timeout(Duration::from_secs(30), migrating.as_mut()).await.is_err());
    assert_eq!(world.keys("fleet"), ["ca.crt", "password", "username"], "not before it has ended");
    world.stage.kube.patch_status("CronJob", NAMESPACE, "refresh", json!({"active": []}));
    says(&migrating.await, Exit::Done, &[]);
    world.never_failed().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_named_counts_without_evidence() {
    let world = World::with(|stage| {
        with_pat(stage);
        stage.kube.apply(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "opaque", "namespace": NAMESPACE},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"command": ["/refresh"]}]}}}}},
        }));
    });
    let world = world.await;
    says(&world.migrate("--yes --cron-job none").await, Exit::NotFound, &["CronJob 'none' not found"]);
    says(&world.migrate("--dry-run").await, Exit::Changes, &["from a PAT"]);
    says(&world.migrate("--yes --cron-job opaque").await, Exit::Done, &["CronJob opaque was named by --cron-job"]);
    world.never_failed().await;
    assert_eq!(world.get("CronJob", "opaque")["spec"]["suspend"], true);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_native_repository_is_led_to_a_secret_that_is_filled_already() {
    let world = World::with(with_native).await;
    let said = world.migrate("--yes").await;
    says(&said, Exit::Done, &["from provider azure to BearerToken fleet", r#""provider":"azure""#]);
    world.never_failed().await;
    assert_eq!(world.used("fleet"), ["provider azure", "bearerToken"]);
    let spec = world.get("GitRepository", "fleet")["spec"].clone();
    assert_eq!((&spec["provider"], &spec["secretRef"]["name"]), (&json!("generic"), &json!("fleet")));
    assert_eq!(spec.get("serviceAccountName"), None);
    world.again().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_git_is_left_to_git_and_the_lines_to_commit_are_printed() {
    let managed = json!({"app.kubernetes.io/managed-by": "flux-operator"});
    for (labels, lines) in [
        (
            from_git(),
            "spec:\n  provider: generic\n  secretRef:\n    name: fleet\n# and remove spec.serviceAccountName\n",
        ),
        (managed, "spec:\n  sync:\n    provider: generic\n    pullSecret: fleet\n"),
    ] {
        let world = World::with(|stage| native(stage, &labels)).await;
        let before = world.get("GitRepository", "fleet")["spec"].clone();
        let said = world.migrate("--yes").await;
        says(&said, Exit::Done, &["Secret fleet is ready; commit this, in what", lines]);
        assert_eq!(world.get("GitRepository", "fleet")["spec"], before);
        assert_eq!(world.keys("fleet"), ["bearerToken"]);
        let document: Value = serde_json::from_str(&world.migrate("-o json").await.stdout).unwrap();
        assert_eq!(document["moves"][0]["commits"].as_array().unwrap().len(), 1);
        let written = writes(&world.stage);
        says(&world.migrate("--yes").await, Exit::Done, &[lines]);
        assert_eq!(writes(&world.stage), written, "said again, and nothing written");
        world.stage.git_repository("fleet", "fleet", REPOSITORY);
        world.never_failed().await;
        assert_eq!(world.used("fleet"), ["provider azure", "bearerToken"]);
        world.again().await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_come_leaves_everything_as_it_was() {
    for prepare in [with_pat as fn(&Stage), with_cron_job, with_native] {
        let world = World::with(prepare).await;
        forbid(&world.stage);
        let spec = |world: &World| {
            (world.get("CronJob", "refresh")["spec"].clone(), world.get("GitRepository", "fleet")["spec"].clone())
        };
        let before = (objects(&world.stage), world.get("Secret", "fleet")["data"].clone(), spec(&world));
        let said = world.migrate("--yes").await;
        says(&said, Exit::Failed, &["TF401019", "fix: "]);
        let left = (objects(&world.stage), world.get("Secret", "fleet")["data"].clone(), spec(&world));
        assert_eq!(left, before);
        world.never_failed().await;
        world
            .stage
            .world
            .edit(|state| state.organizations[0].projects[0].repositories[0].readers.push(object(0)))
            .unwrap();
        says(&world.migrate("--yes").await, Exit::Done, &[]);
        world.never_failed().await;
        world.again().await;
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_come_in_time_is_given_up() {
    let world = World::with(with_cron_job).await;
    let down = Effect::Answer { status: 503, retry_after: None, content_type: None, body: String::new() };
    let path = Some("oauth2/v2.0/token".into());
    world.stage.world.faults().set(Fault { name: "down".into(), path, effect: Some(down), ..Fault::default() });
    let before = (objects(&world.stage), world.get("Secret", "fleet"));
    says(
        &world.migrate("--yes --timeout 2m").await,
        Exit::TimedOut,
        &["not done within 120 s", "CronJob refresh is resumed"],
    );
    assert_eq!((objects(&world.stage), world.get("Secret", "fleet")), before);
    assert_eq!(world.get("CronJob", "refresh")["spec"]["suspend"], false);
    assert_eq!(world.get("CronJob", "refresh")["metadata"].get("annotations"), None);
    world.never_failed().await;
    world.end().await;
}

/// What stands in the way, put there; how the run ends; and what it says.
type Refused = (&'static str, fn(&Stage), Exit, &'static str);

const REFUSED: [Refused; 12] = [
    (
        "no controller",
        |stage| assert!(stage.kube.delete("Deployment", NAMESPACE, CONTROLLER)),
        Exit::NotFound,
        "flux-bearer setup --name flux-bearer --repository https://dev.azure.com/contoso/platform/_git/fleet",
    ),
    (
        "a controller that does not run",
        |stage| {
            stage.kube.patch_status("Deployment", NAMESPACE, CONTROLLER, json!({"availableReplicas": 0}));
        },
        Exit::Failed,
        "the controller does not run",
    ),
    (
        "a job that is in Git",
        |stage| cron_job(stage, &from_git()),
        Exit::Taken,
        "CronJob flux-system/refresh, in what Kustomization flux-system/flux-system applies, and run this again",
    ),
    (
        "a Secret that is in Git",
        |stage| label_secret(stage, &from_git()),
        Exit::Taken,
        "kustomize.toolkit.fluxcd.io/ssa: Ignore",
    ),
    (
        "a Secret that another controller makes",
        |stage| {
            let mut secret = stage.kube.get("Secret", NAMESPACE, "fleet").unwrap();
            secret["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "pat", "uid": "1"}]);
            stage.kube.apply(secret);
        },
        Exit::Taken,
        "ExternalSecret pat would put back what it holds",
    ),
    (
        "a reader on another host",
        |stage| {
            stage.git_repository("elsewhere", "fleet", "https://git.example/a/b");
        },
        Exit::Taken,
        "GitRepository elsewhere reads it too",
    ),
    (
        "a reader of charts",
        |stage| {
            let served = ServedResource::custom("source.toolkit.fluxcd.io", "v1", "helmrepositories", "HelmRepository");
            stage.kube.serve_resource(served);
            stage.kube.apply(json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository",
                "metadata": {"name": "charts", "namespace": NAMESPACE},
                "spec": {"url": "https://charts.example", "secretRef": {"name": "fleet"}},
            }));
        },
        Exit::Taken,
        "HelmRepository charts reads it too",
    ),
    (
        "a BearerToken that is suspended",
        |stage| {
            stage.bearer_token("fleet", &json!({"suspend": true}));
        },
        Exit::Taken,
        "flux-bearer resume fleet",
    ),
    (
        "a BearerToken of this name with another Secret",
        |stage| {
            stage.bearer_token("fleet", &json!({"secret": {"name": "other"}}));
        },
        Exit::Taken,
        "keeps another Secret",
    ),
    (
        "nobody's identity",
        |stage| assert!(stage.kube.delete("ConfigMap", NAMESPACE, CONTROLLER)),
        Exit::Usage,
        "--tenant-id and --client-id",
    ),
    (
        "several identities",
        |stage| {
            stage.bearer_token("one", &json!({"identity": {"clientId": client(0)}}));
            stage.bearer_token("two", &json!({"identity": {"clientId": client(1)}}));
        },
        Exit::Usage,
        "have several identities",
    ),
    (
        "no right",
        |stage| {
            stage.kube.set_authorizer(|request| {
                request.user != "operator" || request.resource != "gitrepositories" || request.verb.rbac() != "patch"
            });
        },
        Exit::Right,
        "not allowed to patch gitrepositories.source.toolkit.fluxcd.io fleet",
    ),
];

fn label_secret(stage: &Stage, labels: &Value) {
    let mut secret = stage.kube.get("Secret", NAMESPACE, "fleet").unwrap();
    secret["metadata"]["labels"] = labels.clone();
    stage.kube.apply(secret);
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_way_is_said_with_its_fix_and_nothing_is_changed() {
    for (name, spoil, exit, words) in REFUSED {
        let world = World::with(with_pat).await;
        spoil(&world.stage);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = (objects(&world.stage), world.get("Secret", "fleet"));
        let said = world.migrate("fleet --yes").await;
        assert_eq!(said.exit, exit, "{name}: {said:#?}");
        assert!(said.stderr.contains(words) && said.stderr.contains("    fix: "), "{name}: {said:#?}");
        assert_eq!(said.stdout.contains("  ! Secret fleet"), exit == Exit::Taken && !name.contains("job"), "{name}");
        assert_eq!((objects(&world.stage), world.get("Secret", "fleet")), before, "{name}");
        assert_eq!(writes(&world.stage), 0, "{name}");
        world.end().await;
    }
    let world = World::with(with_pat).await;
    says(&world.migrate("none --yes").await, Exit::NotFound, &["GitRepository 'none' not found"]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_namespace_is_told_apart() {
    let world = World::with(|stage| {
        with_native(stage);
        for name in ["one", "two"] {
            stage.git_repository(name, "shared", REPOSITORY);
        }
        pat(stage, "shared", "Opaque");
        stage.kube.apply(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sync", "namespace": NAMESPACE},
            "spec": {"volumes": [{"name": "git", "secret": {"secretName": "shared"}}]},
        }));
    });
    let world = world.await;
    world.stage.bearer_token("ready", &json!({"identity": {"tenantId": TENANT, "clientId": client(0)}}));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.stage.git_repository("ready", "ready", REPOSITORY);
    says(
        &world.migrate("--yes").await,
        Exit::Done,
        &[
            "= GitRepository ready: Secret ready holds the token of BearerToken ready",
            "GitRepository one, two: from a PAT to BearerToken shared",
            "GitRepository fleet: from provider azure to BearerToken fleet",
            "Pod sync reads Secret shared too",
        ],
    );
    world.never_failed().await;
    assert_eq!(world.get("BearerToken", "shared")["spec"]["identity"]["clientId"], client(0));
    world.again().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn in_another_namespace_the_identity_is_to_be_named() {
    let world = World::with(|stage| {
        for object in [
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": STANDARD.encode(PAT)}}),
            json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "spec": {"url": REPOSITORY, "suspend": true, "secretRef": {"name": "apps"}},
            }),
        ] {
            let mut object = object;
            object["metadata"] = json!({"name": "apps", "namespace": "team"});
            stage.kube.apply(object);
        }
    });
    let world = world.await;
    says(&world.migrate("-n team --dry-run").await, Exit::Usage, &["choose one with --tenant-id and --client-id"]);
    let ids = format!("--tenant-id {TENANT} --client-id {}", client(0));
    let said = world.migrate(&format!("-n team --dry-run {ids}")).await;
    says(&said, Exit::Changes, &["+ let the controller fill Secret apps", "+ create BearerToken apps"]);
    assert!(!said.stdout.contains("wait for Flux"), "it is suspended: {}", said.stdout);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_that_is_there_is_told_to_adopt() {
    let world = World::with(|stage| {
        with_pat(stage);
        stage.bearer_token("keeper", &json!({"secret": {"name": "fleet"}}));
    });
    let world = world.await;
    says(&world.migrate("--yes").await, Exit::Done, &["+ change BearerToken keeper"]);
    world.never_failed().await;
    assert_eq!(world.keys("fleet"), ["bearerToken", "ca.crt"]);
    world.again().await;
    world.end().await;
}

/// `provider: azure` beside the Secret of a BearerToken that keeps another repository's token in it.
async fn beside(stage_has: fn(&Stage)) -> World {
    let world = World::with(|stage| {
        stage_has(stage);
        stage.bearer_token("fleet", &json!({"repositories": [REPOSITORY]}));
    });
    let world = world.await;
    world.stage.kube.apply(json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "closed", "namespace": NAMESPACE},
        "spec": {
            "url": REPOSITORY.replace("/fleet", "/closed"), "interval": "1m", "provider": "azure",
            "secretRef": {"name": "fleet"},
        },
    }));
    world
}

fn admit(stage: &Stage, number: usize) {
    let admit = |state: &mut State| state.organizations[0].projects[0].repositories[1].readers.push(object(number));
    stage.world.edit(admit).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_repository_is_led_to_a_token_that_is_there_once_it_opens_this_one_too() {
    let world = beside(|stage| {
        admit(stage, APPLICATION);
        admit(stage, 0);
    });
    let world = world.await;
    says(&world.migrate("--yes").await, Exit::Done, &["+ change BearerToken fleet"]);
    world.never_failed().await;
    assert_eq!(world.used("closed"), ["provider azure", "bearerToken"]);
    world.again().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_opens_another_repository_proves_nothing_of_this_one() {
    let world = beside(|stage| admit(stage, APPLICATION)).await;
    assert_eq!(world.stage.says("fleet", "Accessible"), "True RepositoriesOpen");
    let spec = |kind: &str, name: &str| world.get(kind, name)["spec"].clone();
    let before = (spec("GitRepository", "closed"), spec("BearerToken", "fleet"));
    // It takes its time to say no.
    let path = Some("_git/closed".into());
    world.stage.world.faults().set(Fault { name: "slow".into(), path, delay_ms: Some(5000), ..Fault::default() });
    says(&world.migrate("--yes --timeout 3m").await, Exit::TimedOut, &["Secret fleet is as it was"]);
    assert_eq!((spec("GitRepository", "closed"), spec("BearerToken", "fleet")), before);
    world.never_failed().await;
    world.end().await;
}

/// A run that is broken at any of its writes, and run again, comes to the same end; and Flux pulls all the time.
#[tokio::test(start_paused = true)]
async fn row_51_a_migration_broken_anywhere_and_run_again_comes_to_the_same_end() {
    for prepare in [with_cron_job as fn(&Stage), with_native] {
        let world = World::with(prepare).await;
        let whole = Shell::new(&world.stage);
        assert_eq!(whole.run("flux-bearer migrate --yes").await.exit, Exit::Done);
        let wanted = (objects(&world.stage), world.get("GitRepository", "fleet")["spec"].clone());
        world.end().await;
        for write in 1..=whole.breaker.writes() {
            for how in [Break::Refuse, Break::Lose, Break::KillBefore, Break::KillAfter] {
                let world = World::with(prepare).await;
                let mut shell = Shell::new(&world.stage);
                shell.breaker = Breaker::at(write, how);
                let broken = shell.run("flux-bearer migrate --yes").await;
                world.never_failed().await;
                let again = world.migrate("--yes").await;
                assert_eq!(again.exit, Exit::Done, "{how:?} at {write}: {broken:#?} {again:#?}");
                world.never_failed().await;
                let found = (objects(&world.stage), world.get("GitRepository", "fleet")["spec"].clone());
                assert_eq!(found, wanted, "{how:?} at {write}: {broken:#?}");
                world.end().await;
            }
        }
    }
}
