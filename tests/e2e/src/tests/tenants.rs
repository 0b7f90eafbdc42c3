//! Two tenants, each with a namespace and a repository of its own, and with two identities: one that the pod is allowed to be
//! for it, and one that its own ServiceAccount is. One of them, who may edit all that is in its namespace, tries every way it
//! has to another token than its own, or to what that token opens.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flux_bearer_sim::state::{Application, Kind, Member, Repository as Stored};
use serde_json::{Value, json};

use crate::azure::{TENANT_ID, credential};
use crate::cluster::{Condition, NAMESPACE};
use crate::controller::{self, AUDIENCE, bearer_token};
use crate::flux::Retries;
use crate::git::Repository;
use crate::wait::wait_for;
use crate::world::{READY, Run, World};

pub(super) const NAME: &str = "tenants";

/// One tenant: its namespace, its repository, its identities and its ServiceAccount.
struct Tenant {
    namespace: &'static str,
    repository: &'static str,
    client_id: &'static str,
    account: &'static str,
    client_of_account: &'static str,
}

static TENANTS: [Tenant; 2] = [
    Tenant {
        namespace: "team-a",
        repository: "app-a",
        client_id: "00000000-bbbb-4000-8000-00000000000a",
        account: "flux-of-a",
        client_of_account: "00000000-bbbb-4000-8000-00000000001a",
    },
    Tenant {
        namespace: "team-b",
        repository: "app-b",
        client_id: "00000000-bbbb-4000-8000-00000000000b",
        account: "flux-of-b",
        client_of_account: "00000000-bbbb-4000-8000-00000000001b",
    },
];

/// Name of each tenant's Secret, BearerToken and GitRepository.
const OBJECT: &str = "git";

/// Name of the same three of its ServiceAccount's identity.
const BY_ACCOUNT: &str = "by-account";

/// Name of what the tenant makes besides. Its Secret, too, is one that the controller may fill.
const ATTEMPT: &str = "attempt";

/// Time in which the controller and Flux answer whatever a tenant does.
const ANSWER: Duration = Duration::from_secs(30);

pub(super) async fn run(run: &Run) -> anyhow::Result<()> {
    let world = World::start(run, NAME).await?;
    let flags: Vec<String> = TENANTS
        .iter()
        .map(|tenant| format!("--allow-identity={}={TENANT_ID}/{}", tenant.namespace, tenant.client_id))
        .collect();
    set_up_azure(run, &world).await?;
    let _flux = world.start_flux(Retries::Quick).await?;
    for tenant in &TENANTS {
        tenant.set_up(&world).await?;
    }
    world.start_controller(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let [ours, theirs] = &TENANTS;
    for tenant in [ours, theirs] {
        for object in [OBJECT, BY_ACCOUNT] {
            let path = tenant.path("source.toolkit.fluxcd.io/v1", "gitrepositories", object);
            world.cluster.wait_ready(&path, READY).await?;
            world.story.tell(&format!("{} pulls {} with Secret {object}", tenant.namespace, tenant.repository));
        }
    }
    for (attempt, name) in ATTEMPTS {
        let ended = attempt(&world, ours, theirs).await.with_context(|| (*name).to_owned())?;
        world.story.tell(&format!("{name}: {ended}"));
        own_token_alone(&world).await.with_context(|| format!("after: {name}"))?;
    }
    world.story.tell(&format!("{} ways were tried; each Secret holds its own identity's token", ATTEMPTS.len()));
    Ok(())
}

/// Two identities and a repository for each, and nothing of one for the other.
async fn set_up_azure(run: &Run, world: &World<'_>) -> anyhow::Result<()> {
    for tenant in &TENANTS {
        let folder = run.folder.join(format!("{}.git", tenant.repository));
        let repository = Repository::create(&folder, world.folder().join(tenant.repository)).await?;
        repository.commit("first").await?;
    }
    let change = |state: &mut flux_bearer_sim::state::State| {
        for tenant in &TENANTS {
            let own = format!("system:serviceaccount:{}:{}", tenant.namespace, tenant.account);
            let controllers = "system:serviceaccount:flux-system:flux-bearer-controller";
            let identities = [(tenant.client_id, controllers), (tenant.client_of_account, &*own)];
            let objects = identities.map(|(client_id, _)| client_id.replace("bbbb", "cccc"));
            for ((client_id, subject), object_id) in identities.into_iter().zip(&objects) {
                let identity = Application {
                    name: format!("{}-{}", tenant.namespace, subject.rsplit(':').next().unwrap_or_default()),
                    kind: Kind::ManagedIdentity,
                    client_id: client_id.to_owned(),
                    object_id: object_id.clone(),
                    federated_credentials: vec![credential(subject)],
                    ..Application::default()
                };
                state.tenants.iter_mut().for_each(|one| one.applications.push(identity.clone()));
            }
            for organization in &mut state.organizations {
                let member = |object_id: &String| Member { object_id: object_id.clone(), ..Member::default() };
                organization.members.extend(objects.iter().map(member));
                for project in &mut organization.projects {
                    project.readers.extend(objects.clone());
                    project.repositories.push(Stored {
                        name: tenant.repository.to_owned(),
                        path: Some(format!("{}.git", tenant.repository).into()),
                        readers: objects.to_vec(),
                        ..Stored::default()
                    });
                }
            }
        }
    };
    world.azure().edit(change).await
}

impl Tenant {
    fn url(&self) -> String {
        format!("https://dev.azure.com/contoso/platform/_git/{}", self.repository)
    }

    fn path(&self, api: &str, kind: &str, name: &str) -> String {
        format!("/apis/{api}/namespaces/{}/{kind}/{name}", self.namespace)
    }

    /// Who edits its namespace.
    fn person(&self) -> String {
        format!("person-of-{}", self.namespace)
    }

    /// Its namespace, and what an administrator gives it: the right to edit, and the controller's to fill its Secrets and to
    /// have tokens of its ServiceAccount.
    async fn set_up(&self, world: &World<'_>) -> anyhow::Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        world.cluster.apply(&namespace.to_string()).await?;
        let secrets = [OBJECT, BY_ACCOUNT, ATTEMPT].map(str::to_owned);
        controller::name_secrets(&world.cluster, self.namespace, &secrets).await?;
        let rights = include_str!("../../../../deploy/components/token-request/rights.yaml");
        let rights =
            rights.replace("namespace: flux-system\n  labels", &format!("namespace: {}\n  labels", self.namespace));
        world.cluster.apply(&rights.replace("flux-bearer-identity", self.account)).await?;
        world.cluster.apply(&self.service_account(self.client_of_account).to_string()).await?;
        let group = "rbac.authorization.k8s.io";
        let (person, metadata) = (self.person(), json!({"name": "flux", "namespace": self.namespace}));
        let subjects = json!([{"apiGroup": group, "kind": "User", "name": person}]);
        let bind = |name: &str, kind: &str, role: &str| {
            json!({
                "apiVersion": format!("{group}/v1"),
                "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": self.namespace},
                "roleRef": {"apiGroup": group, "kind": kind, "name": role},
                "subjects": subjects,
            })
        };
        let flux = json!([{"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["*"], "verbs": ["*"]}]);
        let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": flux});
        for object in [role, bind("flux", "Role", "flux"), bind("edit", "ClusterRole", "edit")] {
            world.cluster.apply(&object.to_string()).await?;
        }
        let identity = json!({"identity": {"tenantId": TENANT_ID, "clientId": self.client_id}});
        world.cluster.apply(&bearer_token(self.namespace, OBJECT, &identity).to_string()).await?;
        world.cluster.apply(&self.repository(OBJECT, &self.url(), OBJECT).to_string()).await?;
        let identity = json!({"identity": {"serviceAccountName": self.account}});
        world.cluster.apply(&bearer_token(self.namespace, BY_ACCOUNT, &identity).to_string()).await?;
        world.cluster.apply(&self.repository(BY_ACCOUNT, &self.url(), BY_ACCOUNT).to_string()).await
    }

    /// Its ServiceAccount, annotated with this client id.
    fn service_account(&self, client_id: &str) -> Value {
        let annotations =
            json!({"azure.workload.identity/client-id": client_id, "azure.workload.identity/tenant-id": TENANT_ID});
        let metadata = json!({"name": self.account, "namespace": self.namespace, "annotations": annotations});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    }

    fn repository(&self, name: &str, url: &str, secret: &str) -> Value {
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"interval": "1s", "timeout": "10s", "url": url, "ref": {"branch": "main"}, "secretRef": {"name": secret}},
        })
    }

    /// Runs kubectl as the one who edits the namespace.
    async fn kubectl(&self, world: &World<'_>, words: &[&str], input: &str) -> anyhow::Result<String> {
        let (person, namespace) = (format!("--as={}", self.person()), format!("--namespace={}", self.namespace));
        let words = [&[person.as_str(), namespace.as_str()], words].concat();
        world.cluster.kubectl(&words, input).await
    }

    /// Applies an object as that person.
    async fn apply(&self, world: &World<'_>, object: &Value) -> anyhow::Result<()> {
        self.kubectl(world, &["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string())
            .await
            .map(drop)
    }

    /// Makes a BearerToken, waits until the controller has refused it for this reason, and takes it away.
    async fn refused_token(&self, world: &World<'_>, spec: Value, reason: &str) -> anyhow::Result<String> {
        self.apply(world, &bearer_token(self.namespace, ATTEMPT, &spec)).await?;
        let path = self.path("flux-bearer.dev/v1alpha1", "bearertokens", ATTEMPT);
        wait_for("the BearerToken to be refused", ANSWER, async || {
            let found = Condition::of(&world.cluster.get(&path).await?, "Ready");
            ensure!(found.status == "False" && found.reason == reason, "{}: {}", found.reason, found.message);
            Ok(())
        })
        .await?;
        let secret = world.cluster.get(&format!("/api/v1/namespaces/{}/secrets/{ATTEMPT}", self.namespace)).await;
        ensure!(secret.is_err(), "its Secret was made");
        self.kubectl(world, &["delete", "bearertoken", ATTEMPT], "").await?;
        Ok(reason.to_owned())
    }

    /// Makes a GitRepository, waits until Flux has failed, and takes it away.
    async fn failing_pull(&self, world: &World<'_>, url: &str) -> anyhow::Result<()> {
        self.apply(world, &self.repository(ATTEMPT, url, OBJECT)).await?;
        let path = self.path("source.toolkit.fluxcd.io/v1", "gitrepositories", ATTEMPT);
        world.cluster.wait_not_ready(&path, ANSWER).await?;
        wait_for("the fetch to fail", ANSWER, async || {
            let found = world.cluster.get(&path).await?;
            ensure!(Condition::of(&found, "FetchFailed").status == "True", "it has not failed yet");
            Ok(())
        })
        .await?;
        self.kubectl(world, &["delete", "gitrepository", ATTEMPT], "").await.map(drop)
    }
}

/// Why an identity is refused that is not the namespace's.
const NOT_ALLOWED: &str = "IdentityNotAllowed";

/// Each Secret holds the token of its own identity and of no other.
async fn own_token_alone(world: &World<'_>) -> anyhow::Result<()> {
    let secrets =
        |tenant: &'static Tenant| [(tenant, OBJECT, tenant.client_id), (tenant, BY_ACCOUNT, tenant.client_of_account)];
    for (tenant, secret, own) in TENANTS.iter().flat_map(secrets) {
        wait_for("the Secret to hold its own token", ANSWER, async || {
            let path = format!("/api/v1/namespaces/{}/secrets/{secret}", tenant.namespace);
            let found = world.cluster.get(&path).await?;
            let token = found.pointer("/data/bearerToken").and_then(Value::as_str).context("no token")?;
            let whose = client_of(token)?;
            ensure!(whose == own, "Secret {secret} of {} holds a token of {whose}", tenant.namespace);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The client that a token is of.
fn client_of(encoded: &str) -> anyhow::Result<String> {
    let token = String::from_utf8(STANDARD.decode(encoded)?)?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).context("no token")?)?;
    let claims: Value = serde_json::from_slice(&claims)?;
    claims.get("appid").and_then(Value::as_str).map(str::to_owned).context("no appid")
}

/// A way that a tenant tries, as `ours` against `theirs`; how it ended.
type Attempt =
    for<'a> fn(&'a World<'a>, &'a Tenant, &'a Tenant) -> futures::future::LocalBoxFuture<'a, anyhow::Result<String>>;

/// A request that the API server has to refuse; its reason in a word.
async fn forbidden(attempt: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    match attempt.await {
        Ok(_) => bail!("it was allowed"),
        Err(error) if format!("{error:#}").contains("orbidden") => Ok("forbidden".to_owned()),
        Err(error) => Err(error),
    }
}

const ATTEMPTS: &[(Attempt, &str)] = &[
    (|world, ours, theirs| Box::pin(other_identity(world, ours, theirs)), "a BearerToken of the other's identity"),
    (
        |world, ours, _| Box::pin(ours.refused_token(world, json!({}), NOT_ALLOWED)),
        "a BearerToken of the pod's own identity",
    ),
    (
        |world, ours, theirs| {
            let identity = json!({"type": "ManagedIdentity", "clientId": theirs.client_id});
            Box::pin(ours.refused_token(world, json!({"identity": identity}), NOT_ALLOWED))
        },
        "a BearerToken of the other's identity by IMDS",
    ),
    (
        |world, ours, _| {
            Box::pin(ours.refused_token(world, json!({"identity": {"type": "ManagedIdentity"}}), NOT_ALLOWED))
        },
        "a BearerToken of the machine's identity",
    ),
    (|world, ours, theirs| Box::pin(guessed_secret(world, ours, theirs)), "the other's identity by a guessed secret"),
    (|world, ours, theirs| Box::pin(unnamed_account(world, ours, theirs)), "naming the other's ServiceAccount"),
    (|world, ours, theirs| Box::pin(account_by_path(world, ours, theirs)), "naming it by a path"),
    (
        |world, ours, theirs| Box::pin(contradicted(world, ours, theirs)),
        "its own ServiceAccount as the other's identity, against the annotation",
    ),
    (
        |world, ours, theirs| Box::pin(annotated(world, ours, theirs.client_of_account)),
        "its own ServiceAccount, annotated with the identity of the other's",
    ),
    (
        |world, ours, theirs| Box::pin(annotated(world, ours, theirs.client_id)),
        "its own ServiceAccount, annotated with what the pod may be for the other",
    ),
    (|world, ours, theirs| Box::pin(account_token(world, ours, theirs)), "a token of the other's ServiceAccount"),
    (
        |world, ours, theirs| Box::pin(repointed(world, ours, theirs)),
        "its own BearerToken, changed to the other's identity",
    ),
    (|world, ours, theirs| Box::pin(forged(world, ours, theirs)), "its own Secret, marked as the other identity's"),
    (
        |world, ours, _| Box::pin(unnamed_secret(world, ours)),
        "a token in a Secret that nobody has named to the controller",
    ),
    (|world, ours, theirs| Box::pin(read_secret(world, ours, theirs)), "reading the other's Secret"),
    (|world, ours, theirs| Box::pin(other_namespace(world, ours, theirs)), "a BearerToken in the other's namespace"),
    (|world, ours, _| Box::pin(controllers_token(world, ours)), "a service account token of the controller"),
    (|world, ours, _| Box::pin(status(world, ours)), "writing a BearerToken's status"),
    (|world, ours, theirs| Box::pin(pull_other(world, ours, theirs)), "pulling the other's repository"),
    (|world, ours, theirs| Box::pin(probe_other(world, ours, theirs)), "having the other's repository probed"),
    (|world, ours, _| Box::pin(foreign_host(world, ours)), "sending its token to a host of its own"),
];

async fn other_identity(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let identity = json!({"tenantId": TENANT_ID, "clientId": theirs.client_id});
    ours.refused_token(world, json!({"identity": identity}), NOT_ALLOWED).await
}

async fn guessed_secret(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "guess", "namespace": ours.namespace},
        "stringData": {"clientSecret": "a-guess"},
    });
    ours.apply(world, &secret).await?;
    let reference = json!({"name": "guess"});
    let identity =
        json!({"type": "ClientSecret", "tenantId": TENANT_ID, "clientId": theirs.client_id, "secretRef": reference});
    ours.refused_token(world, json!({"identity": identity}), "CredentialForbidden").await
}

/// In its own namespace there is none of that name, and none that the controller may look for.
async fn unnamed_account(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let identity = json!({"serviceAccountName": theirs.account, "clientId": theirs.client_of_account});
    ours.refused_token(world, json!({"identity": identity}), "ServiceAccountForbidden").await
}

async fn account_by_path(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    for name in [
        format!("{}/{}", theirs.namespace, theirs.account),
        format!("../../{}/serviceaccounts/{}", theirs.namespace, theirs.account),
    ] {
        let spec = json!({"identity": {"serviceAccountName": name}});
        let Err(error) = ours.apply(world, &bearer_token(ours.namespace, ATTEMPT, &spec)).await else {
            bail!("{name} was stored")
        };
        ensure!(format!("{error:#}").contains("spec.identity.serviceAccountName"), "{error:#}");
    }
    Ok("not stored".to_owned())
}

async fn contradicted(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let identity = json!({"serviceAccountName": ours.account, "clientId": theirs.client_of_account});
    ours.refused_token(world, json!({"identity": identity}), "InvalidIdentity").await
}

/// Entra ID compares the subject, whatever the annotation says.
async fn annotated(world: &World<'_>, ours: &Tenant, client_id: &str) -> anyhow::Result<String> {
    ours.apply(world, &ours.service_account(client_id)).await?;
    let spec = json!({"identity": {"serviceAccountName": ours.account}});
    let ended = ours.refused_token(world, spec, "FederatedCredentialMismatch").await;
    ours.apply(world, &ours.service_account(ours.client_of_account)).await?;
    ended
}

async fn account_token(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let (there, audience) = (format!("--namespace={}", theirs.namespace), format!("--audience={AUDIENCE}"));
    forbidden(ours.kubectl(world, &[&there, "create", "token", theirs.account, &audience], "")).await
}

/// The identity that filled the Secret goes on with it.
async fn repointed(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let spec = |client: &str| json!({"identity": {"tenantId": TENANT_ID, "clientId": client}});
    ours.apply(world, &bearer_token(ours.namespace, OBJECT, &spec(theirs.client_id))).await?;
    let path = ours.path("flux-bearer.dev/v1alpha1", "bearertokens", OBJECT);
    let mut reason = String::new();
    wait_for("the change to be refused", ANSWER, async || {
        let found = Condition::of(&world.cluster.get(&path).await?, "Stalled");
        ensure!(found.status == "True", "it is not Stalled");
        reason = found.reason;
        Ok(())
    })
    .await?;
    own_token_alone(world).await?;
    ours.apply(world, &bearer_token(ours.namespace, OBJECT, &spec(ours.client_id))).await?;
    world.cluster.wait_ready(&path, READY).await?;
    Ok(format!("Stalled, {reason}"))
}

/// What the controller has noted in the Secret is put right, and believed by nobody.
async fn forged(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{}/secrets/{OBJECT}", ours.namespace);
    let before = world.cluster.get(&path).await?;
    let annotations = before.pointer("/metadata/annotations").and_then(Value::as_object).context("no annotations")?;
    let forged: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| {
            let text = value.as_str().unwrap_or_default().replace(ours.client_id, theirs.client_id);
            (name.clone(), json!(text))
        })
        .collect();
    ensure!(forged != *annotations, "the identity is in no annotation");
    let change = json!({"metadata": {"annotations": forged}}).to_string();
    ours.kubectl(world, &["patch", "secret", OBJECT, "--type=merge", "--patch", &change], "").await?;
    wait_for("the mark to be put right", ANSWER, async || {
        let now = world.cluster.get(&path).await?;
        let now = now.pointer("/metadata/annotations").map(Value::to_string).unwrap_or_default();
        ensure!(!now.contains(theirs.client_id), "it still names the other's identity");
        Ok(())
    })
    .await?;
    Ok("put right".to_owned())
}

async fn unnamed_secret(world: &World<'_>, ours: &Tenant) -> anyhow::Result<String> {
    let identity = json!({"tenantId": TENANT_ID, "clientId": ours.client_id});
    ours.refused_token(world, json!({"identity": identity, "secret": {"name": "unnamed"}}), "Forbidden").await
}

async fn read_secret(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let there = format!("--namespace={}", theirs.namespace);
    forbidden(ours.kubectl(world, &[&there, "get", "secret", OBJECT], "")).await
}

async fn other_namespace(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let there = format!("--namespace={}", theirs.namespace);
    let object = bearer_token(theirs.namespace, ATTEMPT, &json!({})).to_string();
    forbidden(ours.kubectl(world, &[&there, "create", "-f", "-"], &object)).await
}

async fn controllers_token(world: &World<'_>, ours: &Tenant) -> anyhow::Result<String> {
    let (there, audience) = (format!("--namespace={NAMESPACE}"), format!("--audience={AUDIENCE}"));
    forbidden(ours.kubectl(world, &[&there, "create", "token", "flux-bearer-controller", &audience], "")).await
}

async fn status(world: &World<'_>, ours: &Tenant) -> anyhow::Result<String> {
    let words = ["patch", "bearertoken", OBJECT, "--subresource=status", "--type=merge", "--patch", r#"{"status":{}}"#];
    forbidden(ours.kubectl(world, &words, "")).await
}

async fn pull_other(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    ours.failing_pull(world, &theirs.url()).await?;
    Ok("Azure DevOps refuses".to_owned())
}

/// What is said of it is what anybody is told who may not see it.
async fn probe_other(world: &World<'_>, ours: &Tenant, theirs: &Tenant) -> anyhow::Result<String> {
    let spec = |repositories: Value| {
        let identity = json!({"tenantId": TENANT_ID, "clientId": ours.client_id});
        json!({"identity": identity, "repositories": repositories})
    };
    let path = ours.path("flux-bearer.dev/v1alpha1", "bearertokens", OBJECT);
    ours.apply(world, &bearer_token(ours.namespace, OBJECT, &spec(json!([theirs.url()])))).await?;
    let mut reason = String::new();
    wait_for("the probe to fail", ANSWER, async || {
        let found = Condition::of(&world.cluster.get(&path).await?, "Accessible");
        ensure!(found.status == "False", "Accessible is {:?}", found.status);
        reason = found.reason;
        Ok(())
    })
    .await?;
    let without = json!({"identity": {"tenantId": TENANT_ID, "clientId": ours.client_id}});
    ours.apply(world, &bearer_token(ours.namespace, OBJECT, &without)).await?;
    Ok(format!("not Accessible, {reason}"))
}

async fn foreign_host(world: &World<'_>, ours: &Tenant) -> anyhow::Result<String> {
    let object = ours.repository(ATTEMPT, "https://git.team-a.example/catch", OBJECT).to_string();
    forbidden(ours.kubectl(world, &["create", "-f", "-"], &object)).await
}
