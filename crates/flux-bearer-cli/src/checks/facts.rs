//! What exists, gathered once and in parallel: nothing here decides.

use std::collections::BTreeMap;

use flux_bearer::identity::account_of as account_named;
use flux_bearer::preflight::{DEFINITION, POLICIES};
use flux_bearer_azure::http::Http;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

pub use super::cloud::Cloud;
pub use super::rights::Rbac;
use crate::cluster::{At, Cluster};
use crate::exit::{Exit, Trouble};
use crate::flux::{FLUX_SYSTEM, SOURCE_CONTROLLER};
use crate::issuer::{self, Published};
use crate::kinds::{
    ADMISSION_BINDING, ADMISSION_POLICY, BEARER_TOKEN, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, CONFIG_MAP, CRON_JOB,
    DEFINITION as DEFINITIONS, DEPLOYMENT, GIT_REPOSITORY, IMAGE_AUTOMATION, IMAGE_AUTOMATION_BETA, Kind, LEASE,
    NAMESPACE, POD, ROLE, ROLE_BINDING, SECRET, SERVICE_ACCOUNT, is_name,
};
use crate::manifests::CONTROLLER;
use crate::object::{items, namespace, text};
use crate::tokens::Token;

/// Something that was looked at, or why it could not be.
pub type Known<T> = Result<T, String>;

/// A fact that is to be judged; an error where nobody knows it.
pub(super) fn known<T>(fact: &Known<T>) -> Result<&T, String> {
    fact.as_ref().map_err(Clone::clone)
}

/// Namespace and name of an object.
pub type Key = (String, String);

/// Name of the lease that the controller's replicas hold.
const LEADER: &str = "flux-bearer-controller-leader-election";

/// The definition of a `GitRepository`.
const GIT_REPOSITORIES: &str = "gitrepositories.source.toolkit.fluxcd.io";

/// Labels of the controller's Pods.
const PODS: &str = "app=flux-bearer-controller";

/// What whoever installs must be able to create.
const INSTALLED: [Kind; 10] = [
    DEFINITIONS,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ADMISSION_POLICY,
    ADMISSION_BINDING,
    SERVICE_ACCOUNT,
    ROLE,
    ROLE_BINDING,
    DEPLOYMENT,
    CONFIG_MAP,
];

/// Everything that the checks judge.
#[derive(Debug)]
pub struct Facts {
    /// When they were gathered.
    pub now: Timestamp,
    /// Namespace of the controller.
    pub namespace: String,
    /// What the API server says of its version.
    pub server: Known<Value>,
    /// Whether we may create these kinds; empty where nobody asked.
    pub rights: Vec<(Kind, Known<bool>)>,
    /// What the API server says of the issuer of its service account tokens.
    pub discovery: Known<Value>,
    /// Ids of the keys that the API server signs them with.
    pub keys: Known<Vec<String>>,
    /// What the issuer publishes; nothing where its URL can't be public.
    pub published: Option<Known<Published>>,
    /// Our `CustomResourceDefinition`.
    pub definition: Known<Option<Value>>,
    /// Whether each of our policies is there, and its binding.
    pub policies: Vec<(&'static str, Known<(bool, bool)>)>,
    /// The controller's namespace.
    pub home: Known<Option<Value>>,
    /// The controller's Deployment.
    pub deployment: Known<Option<Value>>,
    /// The controller's Pods.
    pub pods: Known<Vec<Value>>,
    /// The controller's `ConfigMap`.
    pub config: Known<Option<Value>>,
    /// The controller's Lease.
    pub lease: Known<Option<Value>>,
    /// Who may do what.
    pub rbac: Known<Rbac>,
    /// The BearerTokens.
    pub tokens: Known<Vec<Token>>,
    /// The `CronJob`s.
    pub cron_jobs: Known<Vec<Value>>,
    /// Flux's definition of a GitRepository.
    pub flux: Known<Option<Value>>,
    /// Flux's source-controller.
    pub source_controller: Known<Option<Value>>,
    /// The GitRepositories.
    pub repositories: Known<Vec<Value>>,
    /// What pushes to GitRepositories: the `ImageUpdateAutomation`s.
    pub automations: Known<Vec<Value>>,
    /// The service accounts that a Deployment, a GitRepository or a BearerToken of these names.
    pub accounts: BTreeMap<Key, Known<Option<Value>>>,
    /// Metadata of the Secrets that a BearerToken or a GitRepository names.
    pub secrets: BTreeMap<Key, Known<Option<ObjectMeta>>>,
    /// What Azure and Azure DevOps say; an error where nobody asked them.
    pub cloud: Known<Cloud>,
}

/// Gathers the facts about the controller in `namespace` and all that it serves; `rights` asks what we may create.
pub async fn gather(cluster: &Cluster, web: &Http, namespace: &str, now: Timestamp, rights: bool) -> Facts {
    let look = Look { cluster, namespace };
    let object = |kind, namespace, name| look.object(At { kind, namespace, name });
    let (server, discovery, keys, definition, flux) = tokio::join!(
        look.document("/version"),
        look.document("/.well-known/openid-configuration"),
        look.document("/openid/v1/jwks"),
        object(DEFINITIONS, "", DEFINITION),
        object(DEFINITIONS, "", GIT_REPOSITORIES),
    );
    let (home, deployment, config, lease, source_controller, pods) = tokio::join!(
        object(NAMESPACE, "", namespace),
        object(DEPLOYMENT, namespace, CONTROLLER),
        object(CONFIG_MAP, namespace, CONTROLLER),
        object(LEASE, namespace, LEADER),
        look.source_controller(),
        look.pods(),
    );
    let (rbac, tokens, cron_jobs, repositories, automations, policies, rights) = tokio::join!(
        look.rbac(),
        look.tokens(),
        look.everywhere(CRON_JOB),
        look.everywhere(GIT_REPOSITORY),
        look.automations(),
        join_all(POLICIES.map(|name| async move { (name, look.policy(name).await) })),
        join_all(INSTALLED.into_iter().filter(|_| rights).map(|kind| look.may_create(kind))),
    );
    let named = accounts(namespace, &deployment, &source_controller, &repositories, &tokens);
    let (published, accounts, secrets) = tokio::join!(
        published(web, &discovery),
        join_all(named.map(|key| look.account(key))),
        join_all(secrets(&tokens, &repositories).map(|key| look.metadata(key))),
    );
    Facts {
        now,
        namespace: namespace.to_owned(),
        server,
        rights,
        discovery,
        keys: keys.map(|document| issuer::key_ids(&document)),
        published,
        definition,
        policies,
        home,
        deployment,
        pods,
        config,
        lease,
        rbac,
        tokens,
        cron_jobs,
        flux,
        source_controller,
        repositories,
        automations,
        accounts: accounts.into_iter().collect(),
        secrets: secrets.into_iter().collect(),
        cloud: Err("nobody has looked".to_owned()),
    }
}

/// What a public issuer says of itself there; none where the cluster's is not public.
async fn published(web: &Http, discovery: &Known<Value>) -> Option<Known<Published>> {
    let url = discovery.as_ref().ok().and_then(issuer::public)?;
    Some(issuer::published(web, &url).await)
}

/// The Secrets that are named, each once.
fn secrets(tokens: &Known<Vec<Token>>, repositories: &Known<Vec<Value>>) -> impl Iterator<Item = Key> {
    let kept = tokens.iter().flatten().map(|token| (token.namespace.clone(), token.secret().to_owned()));
    let read = repositories.iter().flatten().filter_map(|repository| {
        let secret = text(repository, "/spec/secretRef/name");
        (!secret.is_empty()).then(|| (namespace(repository).to_owned(), secret.to_owned()))
    });
    kept.chain(read).collect::<std::collections::BTreeSet<_>>().into_iter()
}

/// The service accounts that are named, each once.
fn accounts(
    home: &str,
    deployment: &Known<Option<Value>>,
    source_controller: &Known<Option<Value>>,
    repositories: &Known<Vec<Value>>,
    tokens: &Known<Vec<Token>>,
) -> impl Iterator<Item = Key> {
    let own = deployment.iter().flatten().map(|deployment| (home.to_owned(), account_of(deployment).to_owned()));
    let default = source_controller.iter().flatten().next().map(default_account).unwrap_or_default();
    let named = repositories.iter().flatten().filter_map(|repository| {
        let account = match text(repository, "/spec/serviceAccountName") {
            "" => default.clone(),
            account => account.to_owned(),
        };
        (!account.is_empty()).then(|| (namespace(repository).to_owned(), account))
    });
    let signing_in = tokens.iter().flatten().filter_map(|token| {
        let account = account_named(&token.spec.as_ref()?.identity)?;
        Some((token.namespace.clone(), account.to_owned()))
    });
    own.chain(named).chain(signing_in).collect::<std::collections::BTreeSet<_>>().into_iter()
}

/// The service account of a Deployment's Pods.
pub(crate) fn account_of(deployment: &Value) -> &str {
    match text(deployment, "/spec/template/spec/serviceAccountName") {
        "" => "default",
        name => name,
    }
}

/// What stands behind `--default-service-account` of a Flux controller; empty where it has none.
pub(super) fn default_account(controller: &Value) -> String {
    argument(controller, "--default-service-account").unwrap_or_default().to_owned()
}

/// The value of an argument (`--name=value`) of a Deployment's first container.
pub(crate) fn argument<'a>(deployment: &'a Value, name: &str) -> Option<&'a str> {
    let arguments = items(deployment, "/spec/template/spec/containers/0/args").filter_map(Value::as_str);
    arguments.filter_map(|argument| argument.strip_prefix(name)?.strip_prefix('=')).last()
}

/// Whether the Pods of the controller sign in at the token proxy of AKS: by its webhook, or by what they are told themselves.
pub(super) fn is_bound(deployment: &Value) -> bool {
    let by_webhook = "/spec/template/metadata/annotations/azure.workload.identity~1use-identity-binding";
    let told = argument(deployment, "--kubernetes-token-proxy")
        .or_else(|| variable(deployment, "AZURE_KUBERNETES_TOKEN_PROXY"));
    text(deployment, by_webhook).eq_ignore_ascii_case("true") || told.is_some_and(|url| !url.is_empty())
}

/// An environment variable of the first container, where the Deployment itself says its value.
pub(super) fn variable<'a>(deployment: &'a Value, wanted: &str) -> Option<&'a str> {
    let mut variables = items(deployment, "/spec/template/spec/containers/0/env");
    variables.find(|variable| text(variable, "/name") == wanted).map(|variable| text(variable, "/value"))
}

/// Who may do what in a namespace, or everywhere.
pub(crate) async fn rbac(cluster: &Cluster, namespace: &str) -> Known<Rbac> {
    Look { cluster, namespace }.rbac().await
}

#[derive(Clone, Copy)]
struct Look<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Look<'_> {
    async fn document(&self, path: &str) -> Known<Value> {
        self.cluster.document(path).await.map_err(why)
    }

    async fn object(&self, at: At<'_>) -> Known<Option<Value>> {
        let found = self.cluster.get(at).await.map_err(why)?;
        Ok(found.map(|object| json!(object)))
    }

    /// The objects of a kind in all namespaces; who may not look there sees those of the controller's own.
    async fn everywhere(&self, kind: Kind) -> Known<Vec<Value>> {
        let found = match self.cluster.list(kind, None).await {
            Err(trouble) if trouble.exit == Exit::Right && kind.namespaced => {
                self.cluster.list(kind, Some(self.namespace)).await
            }
            found => found,
        };
        found.map(|objects| objects.iter().map(|object| json!(object)).collect()).map_err(why)
    }

    /// In the version that the cluster has; none where it has neither.
    async fn automations(&self) -> Known<Vec<Value>> {
        let found = self.everywhere(IMAGE_AUTOMATION).await?;
        if found.is_empty() { self.everywhere(IMAGE_AUTOMATION_BETA).await } else { Ok(found) }
    }

    async fn tokens(&self) -> Known<Vec<Token>> {
        let found = match self.cluster.list(BEARER_TOKEN, None).await {
            Err(trouble) if trouble.exit == Exit::Right => self.cluster.list(BEARER_TOKEN, Some(self.namespace)).await,
            found => found,
        };
        found.map(|objects| objects.iter().map(Token::of).collect()).map_err(why)
    }

    async fn rbac(self) -> Known<Rbac> {
        let (roles, cluster_roles, bindings, cluster_bindings) = tokio::join!(
            self.everywhere(ROLE),
            self.everywhere(CLUSTER_ROLE),
            self.everywhere(ROLE_BINDING),
            self.everywhere(CLUSTER_ROLE_BINDING),
        );
        Ok(Rbac { roles: [roles?, cluster_roles?].concat(), bindings: [bindings?, cluster_bindings?].concat() })
    }

    async fn policy(&self, name: &str) -> Known<(bool, bool)> {
        let (policy, binding) = tokio::join!(
            self.object(At { kind: ADMISSION_POLICY, namespace: "", name }),
            self.object(At { kind: ADMISSION_BINDING, namespace: "", name }),
        );
        Ok((policy?.is_some(), binding?.is_some()))
    }

    async fn pods(&self) -> Known<Vec<Value>> {
        let found = self.cluster.list_labelled(POD, Some(self.namespace), Some(PODS)).await.map_err(why)?;
        Ok(found.iter().map(|object| json!(object)).collect())
    }

    async fn source_controller(&self) -> Known<Option<Value>> {
        let at = |namespace| At { kind: DEPLOYMENT, namespace, name: SOURCE_CONTROLLER };
        match self.object(at(self.namespace)).await {
            Ok(None) if self.namespace != FLUX_SYSTEM => self.object(at(FLUX_SYSTEM)).await,
            found => found,
        }
    }

    async fn may_create(&self, kind: Kind) -> (Kind, Known<bool>) {
        let namespace = if kind.namespaced { self.namespace } else { "" };
        (kind, self.cluster.may("create", At { kind, namespace, name: "" }).await.map_err(why))
    }

    /// What is named may have a name that no object can have: then there is none.
    async fn account(&self, key: Key) -> (Key, Known<Option<Value>>) {
        if !is_name(&key.1) {
            return (key, Ok(None));
        }
        let found = self.object(At { kind: SERVICE_ACCOUNT, namespace: &key.0, name: &key.1 }).await;
        (key, found)
    }

    async fn metadata(&self, key: Key) -> (Key, Known<Option<ObjectMeta>>) {
        if !is_name(&key.1) {
            return (key, Ok(None));
        }
        let found = self.cluster.metadata(At { kind: SECRET, namespace: &key.0, name: &key.1 }).await;
        (key, found.map(|found| found.map(|object| object.metadata)).map_err(why))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is the end of the trouble")]
fn why(trouble: Trouble) -> String {
    trouble.cause
}
