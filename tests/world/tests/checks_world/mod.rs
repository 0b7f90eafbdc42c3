//! A world in which nothing is wrong, for each check the one thing that spoils it, and a person who does what is said.

use std::cell::RefCell;
use std::sync::Arc;

use flux_bearer_azure::devops::{self, DevOps, bits, repository_token};
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::operator::{ClientSecret, Session};
use flux_bearer_cli::exit::Exit;
use flux_bearer_sim::kube::Verb;
use flux_bearer_sim::state::{
    AccessControlEntry, Application, FederatedCredential, Licence, Namespace, Repository, ResourceGroup, Role,
    RoleAssignment, State, Subscription, Tenant, UserAssignedIdentity,
};
use flux_bearer_world::company::{OPERATOR, OPERATOR_OBJECT, OPERATOR_SECRET, SUBSCRIPTION};
use flux_bearer_world::identities::{ISSUER, REPOSITORY, SUBJECT, TENANT, client, object};
use flux_bearer_world::shell::{Said, Shell};
use flux_bearer_world::stage::{NAMESPACE, Running, Stage};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::support::{Theatre, answer, seconds};

/// A text that nothing may repeat.
pub(crate) const CANARY: &str = "CANARY-55aa";

const CONTROLLER: &str = "flux-bearer-controller";

/// The identity that the world's BearerTokens sign in as, in Azure.
const IDENTITY: &str = "identity-0";

/// A tenant to which the organisation should not be connected.
const OTHER_TENANT: &str = "11111111-0000-4000-8000-000000000001";

/// What `kubectl apply -k deploy/base` applies, as far as a check looks at it.
const BASE: [&str; 3] = [
    include_str!("../../../../deploy/base/service-account.yaml"),
    include_str!("../../../../deploy/base/rights.yaml"),
    include_str!("../../../../deploy/base/deployment.yaml"),
];

pub(crate) struct World {
    pub(crate) theatre: Theatre,
    pub(crate) shell: Shell,
    /// Namespace that is checked.
    namespace: RefCell<String>,
    running: RefCell<Option<Running>>,
}

impl World {
    /// A whole installation that has filled its Secret. The controller stands still, so that a world can be spoilt.
    pub(crate) async fn healthy() -> Self {
        let theatre = Theatre::with(&[3600]);
        theatre.stage.world.edit(populate).unwrap();
        let shell = Shell::new(&theatre.stage).signed_in();
        let world = Self { theatre, shell, namespace: RefCell::new(NAMESPACE.into()), running: RefCell::default() };
        world.publish(ISSUER);
        world.install();
        world.install_flux();
        world.configure();
        world.stage().bearer_token("flux-system", &json!({}));
        world.stage().git_repository("flux-system", "flux-system", REPOSITORY);
        world.edit("GitRepository", "flux-system", |object| object["spec"]["ref"] = json!({"branch": "main"}));
        world.reconciled("flux-system");
        world.start();
        world.stop_after(5).await;
        world
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.theatre.stage
    }

    /// `flux-bearer check` with these words.
    pub(crate) async fn check(&self, words: &str) -> Said {
        let namespace = self.namespace.borrow().clone();
        self.shell.run(&format!("flux-bearer check -n {namespace} {words}")).await
    }

    /// Starts the controller, unless it runs.
    pub(crate) fn start(&self) {
        self.running.borrow_mut().get_or_insert_with(|| self.stage().start_replica("controller-0"));
    }

    /// Lets the controller work for so many seconds, and stops it where it stands.
    async fn stop_after(&self, count: u64) {
        seconds(count).await;
        let running = self.running.take();
        running.unwrap().kill().await;
    }

    /// Changes what Azure and Azure DevOps know.
    pub(crate) fn azure(&self, change: impl FnOnce(&mut State)) {
        self.stage().world.edit(change).unwrap();
    }

    /// Changes the federated credential of the identity.
    fn credential(&self, change: impl FnOnce(&mut FederatedCredential)) {
        self.azure(|state| change(&mut state.tenants[0].applications[0].federated_credentials[0]));
    }

    /// Writes an entry about the identity into the access control list of the repository.
    fn entry(&self, allow: u32, deny: u32) {
        self.azure(|state| {
            let contoso = &mut state.organizations[0];
            let project = &contoso.projects[0];
            let repository = contoso.repository_id(project, &project.repositories[0]);
            let token = format!("repoV2/{}/{repository}", contoso.project_id(project));
            contoso.access_control.push(AccessControlEntry {
                namespace: Namespace::Git,
                token,
                object_id: object(0),
                allow,
                deny,
                since: None,
            });
        });
    }

    /// Denies the group that the identity is in to read the repository, as an administrator with the portal does.
    pub(crate) async fn deny_readers(&self) {
        let (http, clock) = (self.stage().azure(), self.stage().world.clock().clone());
        let secret = SecretString::from(OPERATOR_SECRET);
        let way = ClientSecret::new(http.clone(), Authority::default(), TENANT.into(), OPERATOR.into(), secret);
        let session = Session::new(http, Arc::new(way), Some(TENANT.into()), move || clock.now());
        let contoso = DevOps::new(session, "contoso");
        let member = contoso.service_principal_of_client(&client(0)).await.unwrap().unwrap();
        let readers = contoso.groups(&member.descriptor).await.unwrap().remove(0).identity;
        let project = contoso.project("platform").await.unwrap().unwrap().id;
        let token = repository_token(&project, &contoso.repository(&project, "fleet").await.unwrap().unwrap().id);
        contoso.set_access(devops::Namespace::GIT_REPOSITORIES, &token, &readers, 0, bits::GIT_READ).await.unwrap();
    }

    /// What Azure CLI does.
    fn az(&self, words: &[&str]) {
        let value =
            |name: &str| words.iter().position(|word| *word == name).map(|at| words[at + 1].to_owned()).unwrap();
        match words {
            ["identity", "federated-credential", verb @ ("create" | "update"), ..] => {
                assert_eq!((value("--identity-name"), value("--resource-group")), (IDENTITY.into(), "fleet".into()));
                assert_eq!(value("--subscription"), SUBSCRIPTION);
                let [name, issuer, subject, audience] = ["--name", "--issuer", "--subject", "--audiences"].map(value);
                let written = FederatedCredential { name, issuer, subject, audience, created_at: None };
                self.azure(|state| {
                    let all = &mut state.tenants[0].applications[0].federated_credentials;
                    let before = all.len();
                    all.retain(|one| one.name != written.name);
                    assert_eq!(all.len() < before, *verb == "update", "{}", written.name);
                    all.push(written);
                });
            }
            ["role", "assignment", "delete", "--ids", ids @ ..] => {
                assert!(ids.iter().all(|id| id.starts_with(&format!("/subscriptions/{SUBSCRIPTION}/"))), "{ids:?}");
                self.azure(|state| {
                    let all = &mut state.subscriptions[0].role_assignments;
                    all.retain(|one| one.object_id != object(0));
                    assert_eq!(ids.len(), 1);
                });
            }
            _ => panic!("az {words:?}"),
        }
    }

    fn publish(&self, issuer: &str) {
        let discovery = json!({"issuer": issuer, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"});
        self.stage().kube.publish("/.well-known/openid-configuration", discovery);
        self.stage().kube.publish("/openid/v1/jwks", json!(self.stage().issuer.jwks()));
    }

    fn install(&self) {
        for file in BASE {
            for document in file.split("\n---\n") {
                self.stage().kube.apply(serde_saphyr::from_str(document).unwrap());
            }
        }
        ready(self.stage(), CONTROLLER, 2);
    }

    fn install_definition(&self) {
        self.stage().kube.apply(json!(flux_bearer::resource::definition()));
    }

    fn install_policies(&self) {
        for name in flux_bearer::preflight::POLICIES {
            for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
                let version = "admissionregistration.k8s.io/v1";
                self.stage().kube.apply(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}}));
            }
        }
    }

    fn install_flux(&self) {
        self.stage().kube.apply(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "gitrepositories.source.toolkit.fluxcd.io"}, "spec": {},
        }));
        self.stage().kube.apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "source-controller", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/version": "v2.9.1"},
            },
            "spec": {"replicas": 1, "template": {"spec": {
                "serviceAccountName": "source-controller",
                "containers": [{"name": "manager", "image": "fluxcd/source-controller:v1.9.1", "args": ["--log-level=info"]}],
            }}},
        }));
        ready(self.stage(), "source-controller", 1);
    }

    fn configure(&self) {
        self.stage().kube.apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONTROLLER, "namespace": NAMESPACE},
            "data": {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": client(0)},
        }));
    }

    /// What Flux says of a GitRepository that it could clone.
    fn reconciled(&self, name: &str) {
        let ready =
            json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored"}]});
        self.stage().kube.patch_status("GitRepository", NAMESPACE, name, ready).unwrap();
    }

    fn failing(&self, message: &str) {
        let ready = json!({"type": "Ready", "status": "False", "reason": "GitOperationFailed", "message": message});
        self.stage()
            .kube
            .patch_status("GitRepository", NAMESPACE, "flux-system", json!({"conditions": [ready]}))
            .unwrap();
    }

    /// A GitRepository more, which Flux could clone.
    fn source(&self, name: &str, spec: &Value) {
        let mut all = json!({"url": REPOSITORY, "interval": "1m", "ref": {"branch": "main"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.stage().kube.apply(json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": all,
        }));
        self.reconciled(name);
    }

    /// Changes an object as a person with an editor does.
    pub(crate) fn edit(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let home = if ["CustomResourceDefinition"].contains(&kind) { "" } else { NAMESPACE };
        let mut object = self.stage().kube.get(kind, home, name).unwrap_or_else(|| panic!("no {kind} {name}"));
        change(&mut object);
        self.stage().kube.apply(object);
    }

    fn url(&self, url: &str) {
        self.edit("GitRepository", "flux-system", |object| object["spec"]["url"] = url.into());
    }

    /// What the controller says of a BearerToken that is Ready, with these conditions more.
    fn says(&self, name: &str, conditions: &[(&str, &str)]) {
        let ready = [("Ready", "True")].into_iter().filter(|_| conditions.iter().all(|(kind, _)| *kind != "Ready"));
        let all: Vec<Value> = ready
            .chain(conditions.iter().copied())
            .map(|(kind, status)| {
                json!({
                    "type": kind, "status": status, "reason": "Because", "message": "AADSTS700213: x. Do y",
                    "lastTransitionTime": "2026-12-01T08:00:00Z",
                })
            })
            .collect();
        let generation =
            self.stage().kube.get("BearerToken", NAMESPACE, name).unwrap()["metadata"]["generation"].clone();
        let status = json!({"conditions": all, "observedGeneration": generation});
        self.stage().kube.patch_status("BearerToken", NAMESPACE, name, status).unwrap();
    }

    fn secret(&self, name: &str, data: &Value) {
        self.stage().kube.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data,
        }));
    }

    /// Runs a command of a fix, as a shell would.
    pub(crate) async fn execute(&self, line: &str) {
        for command in line.split(" && ") {
            let words = words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["kubectl", "-n", namespace, rest @ ..] => self.kubectl(namespace, rest).await,
                ["kubectl", rest @ ..] => self.kubectl("", rest).await,
                ["flux", "install"] => self.install_flux(),
                ["flux", "reconcile", "source", "git", name, "-n", NAMESPACE] => self.reconciled(name),
                ["az", rest @ ..] => self.az(rest),
                ["flux-bearer", "setup", ..] => {
                    self.start();
                    let said = self.shell.run_words(&[&words[..], &["--yes"]].concat()).await;
                    assert_eq!(said.exit, Exit::Done, "{said:#?}");
                }
                ["flux-bearer", ..] => {
                    self.start();
                    drop(self.shell.run_words(&words).await);
                }
                _ => panic!("{command}"),
            }
        }
    }

    async fn kubectl(&self, namespace: &str, words: &[&str]) {
        let kube = &self.stage().kube;
        match words {
            ["apply", "--server-side", "-k", "deploy/base"] => self.install(),
            ["apply", "--server-side", "-k", "deploy/crd"] => self.install_definition(),
            ["apply", "--server-side", "-k", "deploy/policies"] => self.install_policies(),
            ["rollout", "restart", "deployment/flux-bearer-controller"] => self.start(),
            ["create", "namespace", name] => {
                drop(kube.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})));
            }
            ["create", "serviceaccount", name] => drop(kube.apply(json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
            }))),
            ["create", kind @ ("role" | "clusterrole"), name, flags @ ..] => {
                let rule = json!({
                    "apiGroups": [""], "verbs": flag(flags, "verb").unwrap().split(',').collect::<Vec<_>>(),
                    "resources": [flag(flags, "resource").unwrap()],
                    "resourceNames": flag(flags, "resource-name").into_iter().collect::<Vec<_>>(),
                });
                let kind = if *kind == "role" { "Role" } else { "ClusterRole" };
                kube.apply(rbac(kind, namespace, name, &json!({"rules": [rule]})));
            }
            ["create", kind @ ("rolebinding" | "clusterrolebinding"), name, flags @ ..] => {
                let (home, account) = flag(flags, "serviceaccount").unwrap().split_once(':').unwrap();
                let (kind, role) = if *kind == "rolebinding" {
                    ("RoleBinding", "Role")
                } else {
                    ("ClusterRoleBinding", "ClusterRole")
                };
                let named = flag(flags, &role.to_lowercase()).unwrap();
                kube.apply(rbac(
                    kind,
                    namespace,
                    name,
                    &json!({
                        "roleRef": {"kind": role, "name": named},
                        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
                    }),
                ));
            }
            ["delete", "bearertoken", name] => assert!(kube.delete("BearerToken", namespace, name)),
            ["annotate", kind, name, pair] => {
                let (key, value) = match pair.split_once('=') {
                    Some((key, value)) => (key, json!(value)),
                    None => (pair.strip_suffix('-').unwrap(), Value::Null),
                };
                self.patch(kind, namespace, name, &json!({"metadata": {"annotations": {key: value}}})).await;
            }
            ["label", kind, name, pair, "--overwrite"] => {
                let (key, value) = pair.split_once('=').unwrap();
                self.patch(kind, namespace, name, &json!({"metadata": {"labels": {key: value}}})).await;
            }
            ["patch", kind, name, "--type=merge", "-p", patch] => {
                self.patch(kind, namespace, name, &serde_json::from_str(patch).unwrap()).await;
            }
            ["set", "image", _, pair] => {
                let image = pair.split_once('=').unwrap().1;
                self.edit("Deployment", CONTROLLER, |object| {
                    object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
                });
            }
            _ => panic!("kubectl {words:?}"),
        }
    }

    async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) {
        let (group, version, kind, plural) = match kind {
            "gitrepository" => ("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories"),
            "bearertoken" => ("flux-bearer.dev", "v1alpha1", "BearerToken", "bearertokens"),
            "secret" => ("", "v1", "Secret", "secrets"),
            "cronjob" => ("batch", "v1", "CronJob", "cronjobs"),
            "deployment" => ("apps", "v1", "Deployment", "deployments"),
            _ => panic!("{kind}"),
        };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(self.stage().client(), namespace, &resource);
        let params = PatchParams { field_manager: Some("kubectl-patch".into()), ..PatchParams::default() };
        drop(api.patch(name, &params, &Patch::Merge(patch)).await.unwrap());
    }

    /// Writes a Secret as kustomize-controller does from Git.
    async fn apply_as_git(&self, name: &str, data: &Value) {
        let manifest = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let secrets = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Secret"), "secrets");
        let api: Api<DynamicObject> = Api::namespaced_with(self.stage().client(), NAMESPACE, &secrets);
        let params = PatchParams::apply("kustomize-controller").force();
        drop(api.patch(name, &params, &Patch::Apply(manifest)).await.unwrap());
    }
}

/// Says that so many Pods of a Deployment are ready, as a kubelet would.
pub(crate) fn ready(stage: &Stage, deployment: &str, replicas: u32) {
    let status = json!({"readyReplicas": replicas, "availableReplicas": replicas});
    stage.kube.patch_status("Deployment", NAMESPACE, deployment, status).unwrap();
}

/// Adds the subscription in which the identity is, and an operator who may look at everything and change it.
fn populate(state: &mut State) {
    state.subscriptions = vec![Subscription {
        id: SUBSCRIPTION.into(),
        tenant_id: TENANT.into(),
        display_name: "platform".into(),
        resource_groups: vec![ResourceGroup {
            name: "fleet".into(),
            location: "westeurope".into(),
            ..ResourceGroup::default()
        }],
        identities: vec![managed_identity()],
        role_assignments: vec![RoleAssignment {
            object_id: OPERATOR_OBJECT.into(),
            role: Role::Owner,
            resource_group: None,
        }],
        ..Subscription::default()
    }];
    state.tenants[0].applications.push(Application {
        name: "operator".into(),
        client_id: OPERATOR.into(),
        object_id: OPERATOR_OBJECT.into(),
        secrets: vec![flux_bearer_sim::state::Secret { value: OPERATOR_SECRET.into(), expires_at: None }],
        ..Application::default()
    });
    let contoso = &mut state.organizations[0];
    contoso.administrators.push(OPERATOR_OBJECT.into());
    contoso.members.push(flux_bearer_sim::state::Member { object_id: OPERATOR_OBJECT.into(), ..Default::default() });
}

/// The identity as a resource of Azure.
fn managed_identity() -> UserAssignedIdentity {
    UserAssignedIdentity {
        resource_group: "fleet".into(),
        name: IDENTITY.into(),
        location: "westeurope".into(),
        client_id: client(0),
        ..UserAssignedIdentity::default()
    }
}

/// The repository that Flux pulls from.
fn fleet(state: &mut State) -> &mut Repository {
    &mut state.organizations[0].projects[0].repositories[0]
}

fn rbac(kind: &str, namespace: &str, name: &str, rest: &Value) -> Value {
    let mut object = rest.clone();
    object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    object["kind"] = kind.into();
    object["metadata"] = json!({"name": name, "namespace": namespace});
    object
}

fn flag<'a>(flags: &[&'a str], name: &str) -> Option<&'a str> {
    flags.iter().find_map(|flag| flag.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
}

/// The words of a command line; single quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// Spoils the one thing that a check is about.
#[expect(clippy::too_many_lines, reason = "a table: a line or a few for each check")]
pub(crate) async fn harm(id: &str, world: &World) {
    let kube = &world.stage().kube;
    let delete = |kind: &str, namespace: &str, name: &str| assert!(kube.delete(kind, namespace, name), "{kind} {name}");
    let fields = "CustomResourceDefinition";
    let spec = |object: &mut Value, change: &dyn Fn(&mut Value)| {
        change(&mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
    };
    let pod = |object: &mut Value, change: &dyn Fn(&mut Value)| change(&mut object["spec"]["template"]["spec"]);
    match id {
        "cluster-reachable" => world.theatre.kube_fault("down", Some("/version"), answer(503)),
        "cluster-version" => kube.publish("/version", json!({"major": "1", "minor": "29+"})),
        "cluster-issuer" => world.publish("https://kubernetes.default.svc"),
        "cluster-issuer-published" => {
            let bare = ISSUER.trim_end_matches('/');
            world.publish(bare);
            world.credential(|one| one.issuer = bare.into());
        }
        "cluster-issuer-keys" => kube.publish("/openid/v1/jwks", json!({"keys": [{"kid": "rotated"}]})),
        "rights-install" => kube.set_authorizer(|info| info.verb != Verb::Create || info.resource != "clusterroles"),
        "controller-namespace" => "elsewhere".clone_into(&mut world.namespace.borrow_mut()),
        "controller-definition" => world.edit(fields, flux_bearer::preflight::DEFINITION, |object| {
            spec(object, &|spec| drop(spec.as_object_mut().unwrap().remove("suspend")));
        }),
        "controller-definition-newer" => world.edit(fields, flux_bearer::preflight::DEFINITION, |object| {
            spec(object, &|spec| spec["future"] = json!({"type": "string"}));
        }),
        "controller-policies" => delete("ValidatingAdmissionPolicyBinding", "", flux_bearer::preflight::POLICIES[0]),
        "controller-deployment" => delete("Deployment", NAMESPACE, CONTROLLER),
        "controller-version" => world.edit("Deployment", CONTROLLER, |object| {
            pod(object, &|pod| pod["containers"][0]["image"] = "registry:5000/controller:v0.0.9@sha256:0".into());
        }),
        "controller-ready" => ready(world.stage(), CONTROLLER, 0),
        "controller-replicas" => ready(world.stage(), CONTROLLER, 1),
        "controller-service-account" => delete("ServiceAccount", NAMESPACE, CONTROLLER),
        "controller-projected-token" => world.edit("Deployment", CONTROLLER, |object| {
            pod(object, &|pod| {
                pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] = "other".into();
            });
        }),
        "controller-rights" => delete("ClusterRoleBinding", "", CONTROLLER),
        "controller-lease" => delete("Lease", NAMESPACE, "flux-bearer-controller-leader-election"),
        "controller-identity" => {
            world.edit("ConfigMap", CONTROLLER, |object| object["data"]["AZURE_CLIENT_ID"] = "".into());
        }
        "controller-label" => world.edit("Deployment", CONTROLLER, |object| {
            object["metadata"]["labels"]["app.kubernetes.io/part-of"] = "flux".into();
        }),
        "token-any" => {
            delete("BearerToken", NAMESPACE, "flux-system");
            delete("GitRepository", NAMESPACE, "flux-system");
        }
        "token-observed" => {
            world.edit("BearerToken", "flux-system", |object| object["spec"]["repositories"] = json!([REPOSITORY]));
        }
        "token-ready" => world.says("flux-system", &[("Ready", "False")]),
        "token-refreshing" => world.says("flux-system", &[("RefreshFailing", "True")]),
        "token-overdue" => {
            let late = json!({"refreshAt": "2026-12-01T07:50:00Z"});
            kube.patch_status("BearerToken", NAMESPACE, "flux-system", late).unwrap();
        }
        "token-accessible" => world.says("flux-system", &[("Accessible", "False")]),
        "token-suspended" => {
            world.edit("BearerToken", "flux-system", |object| object["spec"]["suspend"] = true.into());
            world.start();
            world.stop_after(5).await;
        }
        "token-rival" => {
            seconds(2).await;
            world.stage().bearer_token("second", &json!({"secret": {"name": "flux-system"}}));
            world.says("second", &[]);
        }
        "secret-right" => world.edit("Role", "flux-bearer-controller-secrets", |object| {
            object["rules"][0]["resourceNames"] = json!(["other"]);
        }),
        "secret-foreign" => {
            world.edit("Role", "flux-bearer-controller-secrets", |object| {
                object["rules"][0]["resourceNames"] = json!(["flux-system", "other"]);
            });
            world.secret("other", &json!({"password": "eA=="}));
            world.stage().bearer_token("other", &json!({"repositories": [REPOSITORY]}));
            world.says("other", &[]);
        }
        "secret-contested" => {
            world.edit("Secret", "flux-system", |object| object["data"]["bearerToken"] = "eA==".into());
        }
        "secret-in-git" => world.apply_as_git("flux-system", &json!({"bearerToken": "eA=="})).await,
        "secret-leftovers" => world.edit("Secret", "flux-system", |object| object["data"]["password"] = "eA==".into()),
        "secret-last-applied" => {
            let annotation = "kubectl.kubernetes.io/last-applied-configuration";
            kube.annotate("Secret", NAMESPACE, "flux-system", annotation, CANARY).unwrap();
        }
        "secret-cron-job" => drop(kube.apply(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "refresh", "namespace": NAMESPACE},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{
                "command": ["sh", "-c", "az account get-access-token | kubectl patch secret flux-system"],
            }]}}}}},
        }))),
        "flux-installed" => delete(fields, "", "gitrepositories.source.toolkit.fluxcd.io"),
        "flux-source-controller" => delete("Deployment", NAMESPACE, "source-controller"),
        "flux-version" => world.edit("Deployment", "source-controller", |object| {
            object["metadata"]["labels"] = json!({});
            pod(object, &|pod| pod["containers"][0]["image"] = "fluxcd/source-controller:v1.2.0".into());
        }),
        "flux-url-ssh" => world.url("git@ssh.dev.azure.com:v3/contoso/platform/fleet"),
        "flux-url-http" => world.url("http://dev.azure.com/contoso/platform/_git/fleet"),
        "flux-url-legacy" => world.url("https://contoso.visualstudio.com/DefaultCollection/platform/_git/fleet"),
        "flux-url-user" => world.url("https://contoso@dev.azure.com/contoso/platform/_git/fleet"),
        "flux-url-form" => world.url("https://dev.azure.com/contoso/platform/fleet"),
        "flux-url-host" => world.url("https://git.example/contoso/platform/_git/fleet"),
        "flux-credential" => world.edit("GitRepository", "flux-system", |object| {
            object["spec"].as_object_mut().unwrap().remove("secretRef");
        }),
        "flux-secret" => world.source("apps", &json!({"secretRef": {"name": "apps"}})),
        "flux-provider" => {
            world.edit("GitRepository", "flux-system", |object| object["spec"]["provider"] = "azure".into());
        }
        "flux-pat" => {
            world.secret("apps", &json!({"username": "eA==", "password": "eA=="}));
            world.source("apps", &json!({"secretRef": {"name": "apps"}}));
        }
        "flux-token-unkept" => {
            world.secret("apps", &json!({"bearerToken": "eA=="}));
            world.source("apps", &json!({"secretRef": {"name": "apps"}}));
        }
        "flux-service-account" => {
            world.edit("GitRepository", "flux-system", |object| object["spec"]["serviceAccountName"] = "tenant".into());
        }
        "flux-account-annotations" => {
            world.edit("Deployment", "source-controller", |object| {
                pod(object, &|pod| {
                    pod["containers"][0]["args"] = json!(["--feature-gates=ObjectLevelWorkloadIdentity=true"]);
                });
            });
            world.kubectl(NAMESPACE, &["create", "serviceaccount", "tenant"]).await;
            world.source("apps", &json!({"provider": "azure", "serviceAccountName": "tenant"}));
        }
        "flux-object-identity" => {
            world.edit("Deployment", "source-controller", |object| {
                object["metadata"]["labels"]["app.kubernetes.io/version"] = "v2.10.0".into();
            });
            let named = json!({"azure.workload.identity/client-id": "c", "azure.workload.identity/tenant-id": "t"});
            kube.apply(json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "tenant", "namespace": NAMESPACE, "annotations": named},
            }));
            world.source("apps", &json!({"provider": "azure", "serviceAccountName": "tenant"}));
        }
        "flux-authentication" => world.failing(&format!("authentication required: <html>{CANARY}</html>")),
        "flux-ready" => world.failing(&format!("unexpected status code: 503 {CANARY}")),
        "azure-identity" => world.azure(|state| {
            state.subscriptions[0].identities.clear();
        }),
        "azure-federation" => {
            world.azure(|state| state.tenants[0].applications[0].federated_credentials.clear());
        }
        "azure-federation-subject" => world.credential(|one| one.subject = SUBJECT.replace("flux-s", "Flux-S")),
        "azure-federation-issuer" => world.credential(|one| one.issuer = ISSUER.trim_end_matches('/').into()),
        "azure-federation-audience" => world.credential(|one| one.audience = "https://management.azure.com".into()),
        "azure-federation-room" => world.azure(|state| {
            let all = &mut state.tenants[0].applications[0].federated_credentials;
            let another = |number: usize| FederatedCredential {
                name: format!("cluster-{number}"),
                issuer: format!("https://oidc.example/{number}/"),
                ..all[0].clone()
            };
            let more: Vec<_> = (1..19).map(another).collect();
            all.extend(more);
        }),
        "azure-roles" => world.azure(|state| {
            let more =
                RoleAssignment { object_id: object(0), role: Role::Reader, resource_group: Some("fleet".into()) };
            state.subscriptions[0].role_assignments.push(more);
        }),
        "devops-organization" => world.url("https://dev.azure.com/contosso/platform/_git/fleet"),
        "devops-tenant" => world.azure(|state| {
            state.tenants.push(Tenant { id: OTHER_TENANT.into(), ..Tenant::default() });
            state.organizations[0].tenant_id = OTHER_TENANT.into();
        }),
        "devops-project" => world.url("https://dev.azure.com/contoso/platfrom/_git/fleet"),
        "devops-repository" => world.url("https://dev.azure.com/contoso/platform/_git/flet"),
        "devops-repository-disabled" => world.azure(|state| fleet(state).is_disabled = true),
        "devops-repository-empty" => world.azure(|state| fleet(state).head = None),
        "devops-branch" => world.edit("GitRepository", "flux-system", |object| {
            object["spec"].as_object_mut().unwrap().remove("ref");
        }),
        "devops-member" => world.azure(|state| state.organizations[0].members.retain(|one| one.object_id != object(0))),
        "devops-licence" => world.azure(|state| state.organizations[0].members[0].licence = Licence::Stakeholder),
        "devops-licence-active" => world.azure(|state| state.organizations[0].members[0].expired = true),
        "devops-project-read" => world.azure(|state| state.organizations[0].projects[0].readers.clear()),
        "devops-repository-read" => world.azure(|state| fleet(state).readers.clear()),
        "devops-deny" => world.entry(0, 2),
        "devops-groups" => world.azure(|state| state.organizations[0].projects[0].groups.readers.push(object(0))),
        "devops-push" => world.entry(4 | 16, 0),
        "devops-rights" => world.entry(8 | 128, 0),
        _ => panic!("there is no world for {id}"),
    }
}

/// Does what a fix asks of a person.
pub(crate) async fn by_hand(id: &str, world: &World) {
    let kube = &world.stage().kube;
    match id {
        "cluster-reachable" => kube.faults().clear_all(),
        "cluster-version" => kube.publish("/version", json!({"major": "1", "minor": "33"})),
        "cluster-issuer" | "cluster-issuer-published" | "cluster-issuer-keys" => {
            world.publish(ISSUER);
            world.credential(|one| one.issuer = ISSUER.into());
        }
        "rights-install" => kube.set_authorizer(|_| true),
        "controller-definition-newer" => world.install_definition(),
        "controller-ready" | "controller-replicas" => ready(world.stage(), CONTROLLER, 2),
        "controller-identity" => world.configure(),
        "token-accessible" => world.execute("flux-bearer refresh flux-system -n flux-system").await,
        "secret-in-git" => {
            kube.annotate("Secret", NAMESPACE, "flux-system", "kustomize.toolkit.fluxcd.io/ssa", "Ignore").unwrap();
        }
        "flux-url-form" | "flux-url-host" | "devops-organization" | "devops-project" | "devops-repository" => {
            world.url(REPOSITORY);
        }
        "azure-identity" => world.azure(|state| state.subscriptions[0].identities.push(managed_identity())),
        "azure-federation-room" => {
            world.azure(|state| state.tenants[0].applications[0].federated_credentials.truncate(5));
        }
        "devops-tenant" => world.azure(|state| state.organizations[0].tenant_id = TENANT.into()),
        "devops-repository-disabled" => world.azure(|state| fleet(state).is_disabled = false),
        "devops-repository-empty" => {
            world.azure(|state| fleet(state).head = Some("8843d7f92416211de9ebb963ff4ce28125932878".into()));
        }
        "devops-licence-active" => world.azure(|state| state.organizations[0].members[0].expired = false),
        "devops-deny" | "devops-push" | "devops-rights" => {
            world.azure(|state| state.organizations[0].access_control.clear());
        }
        "devops-groups" => world.azure(|state| state.organizations[0].projects[0].groups.readers.clear()),
        "flux-account-annotations" => {
            for id in ["client-id", "tenant-id"] {
                kube.annotate("ServiceAccount", NAMESPACE, "tenant", &format!("azure.workload.identity/{id}"), "x")
                    .unwrap();
            }
        }
        _ => panic!("nobody knows what to do about {id}"),
    }
}
