//! What exists: GitRepositories, their Secrets, who else writes and reads those, and the controller. Looking changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use flux_bearer::repository::Repository;
use flux_bearer::secret::Held;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::checks::facts::{account_of, rbac};
use crate::checks::{CREDENTIALS, Deed, SSA, owners};
use crate::cluster::{At, Cluster};
use crate::exit::{Exit, Trouble};
use crate::flux::FLUX_SYSTEM;
use crate::kinds::{
    CONFIG_MAP, CRON_JOB, DEPLOYMENT, GIT_REPOSITORY, HELM_REPOSITORY, INPUT_PROVIDER, Kind, POD, ROLE_BINDING, SECRET,
};
use crate::manifests::CONTROLLER;
use crate::object::{items, name, text, word};
use crate::tokens::{Token, chosen};

/// A Secret of this type can't lose its keys.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

/// What the controller does with a Secret.
const VERBS: [&str; 5] = ["get", "list", "watch", "create", "patch"];

/// Everything that the plan goes by.
#[derive(Debug)]
pub(super) struct Facts {
    /// Namespace of all of it.
    pub(super) namespace: String,
    /// Namespace of the controller.
    pub(super) home: String,
    /// Whether the controller's pod brings an identity along.
    pub(super) pod_identity: bool,
    /// The GitRepositories.
    pub(super) repositories: Vec<Value>,
    /// The BearerTokens.
    pub(super) tokens: Vec<Token>,
    /// The Secrets that a GitRepository reads, or could.
    pub(super) secrets: BTreeMap<String, SecretFacts>,
    /// The `CronJob`s.
    pub(super) jobs: Vec<Value>,
    /// Who is given which Role.
    pub(super) bindings: Vec<Value>,
    /// What else could read a Secret.
    pub(super) readers: Vec<(Kind, Value)>,
}

/// What is known of a Secret, by its metadata.
#[derive(Debug)]
pub(super) struct SecretFacts {
    /// Whose it is.
    pub(super) held: Held,
    /// Who owns which credential in it.
    pub(super) owners: BTreeMap<String, Vec<&'static str>>,
    /// When it was written last, and by whom.
    pub(super) written: Option<(Timestamp, String)>,
    /// Whether it is of the type that keeps `username` and `password`.
    pub(super) basic_auth: bool,
    /// What would put back what it held.
    pub(super) keeper: Option<String>,
    /// Whether the controller may fill it.
    pub(super) allowed: bool,
}

/// The Secret that a GitRepository reads, or is to read.
pub(super) fn secret_of(repository: &Value) -> &str {
    match text(repository, "/spec/secretRef/name") {
        "" => name(repository),
        secret => secret,
    }
}

/// What would take back a change of an object, for it has made it.
pub(super) fn keeper(metadata: &Value) -> Option<String> {
    let label = |name: &str| text(metadata, &format!("/labels/{name}"));
    for (kind, group) in [("Kustomization", "kustomize.toolkit.fluxcd.io"), ("HelmRelease", "helm.toolkit.fluxcd.io")] {
        let (namespace, name) = (label(&format!("{group}~1namespace")), label(&format!("{group}~1name")));
        if !name.is_empty() {
            return Some(format!("{kind} {namespace}/{name}"));
        }
    }
    if label("app.kubernetes.io~1managed-by") == "flux-operator" {
        return Some("the FluxInstance".to_owned());
    }
    let owner = items(metadata, "/ownerReferences").next()?;
    Some(format!("{} {}", text(owner, "/kind"), text(owner, "/name")))
}

/// Looks at everything.
pub(super) async fn gather(cluster: &Cluster, namespace: &str) -> Result<Facts, Trouble> {
    let list = async |kind: Kind| {
        let found = cluster.list(kind, Some(namespace)).await?;
        Ok::<Vec<Value>, Trouble>(found.iter().map(|object| json!(object)).collect())
    };
    let repositories = list(GIT_REPOSITORY).await?;
    let controller = controller(cluster, namespace, &repositories).await?;
    let home = text(&controller, "/metadata/namespace").to_owned();
    let tokens = chosen(cluster, namespace, &[]).await?;
    let rbac = rbac(cluster, namespace).await;
    let account = account_of(&controller);
    // Where nobody may look, the controller itself says what it lacks.
    let allowed = |secret: &str| {
        let deed = |verb| Deed { verb, group: "", resource: "secrets", namespace, name: secret };
        rbac.as_ref().map_or(true, |rbac| VERBS.iter().all(|verb| rbac.allows((&home, account), deed(verb))))
    };
    let names: BTreeSet<&str> = repositories.iter().map(secret_of).collect();
    let secrets = names.into_iter().map(|name| secret(cluster, namespace, name, &tokens, allowed(name)));
    let secrets = try_join_all(secrets).await?.into_iter().collect();
    let mut readers = Vec::new();
    for kind in [HELM_REPOSITORY, INPUT_PROVIDER, POD] {
        readers.extend(list(kind).await?.into_iter().map(|one| (kind, one)));
    }
    Ok(Facts {
        namespace: namespace.to_owned(),
        pod_identity: pod_identity(cluster, &controller).await?,
        home,
        tokens,
        secrets,
        jobs: list(CRON_JOB).await?,
        bindings: list(ROLE_BINDING).await?,
        readers,
        repositories,
    })
}

/// The controller's Deployment, which has to be there and to run.
async fn controller(cluster: &Cluster, namespace: &str, repositories: &[Value]) -> Result<Value, Trouble> {
    let mut homes = vec![namespace, FLUX_SYSTEM];
    homes.dedup();
    for home in homes {
        let at = At { kind: DEPLOYMENT, namespace: home, name: CONTROLLER };
        let Some(found) = cluster.get(at).await? else { continue };
        let found = json!(found);
        if found.pointer("/status/availableReplicas").and_then(Value::as_i64).unwrap_or_default() > 0 {
            return Ok(found);
        }
        return Err(Trouble::new(Exit::Failed, "the controller does not run", format!("flux-bearer check -n {home}")));
    }
    let mut urls = repositories.iter().map(|repository| text(repository, "/spec/url"));
    let url = urls.find_map(|url| Repository::parse(url).ok());
    let url = url.map_or("https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY".to_owned(), |url| url.to_string());
    let cause = format!("there is no controller: neither {namespace} nor {FLUX_SYSTEM} has Deployment {CONTROLLER}");
    // A Secret that nobody reads yet: what Flux pulls with is left to this verb.
    let fix = format!("flux-bearer setup --name flux-bearer --repository {}", word(&url));
    Err(Trouble::new(Exit::NotFound, cause, fix))
}

async fn pod_identity(cluster: &Cluster, controller: &Value) -> Result<bool, Trouble> {
    let client = "AZURE_CLIENT_ID";
    let mut variables = items(controller, "/spec/template/spec/containers/0/env");
    if variables.any(|variable| text(variable, "/name") == client && !text(variable, "/value").is_empty()) {
        return Ok(true);
    }
    // By the name that the Deployment says: kustomize gives it a suffix.
    let sources = items(controller, "/spec/template/spec/containers/0/envFrom");
    for name in sources.map(|source| text(source, "/configMapRef/name")).filter(|name| !name.is_empty()) {
        let at = At { kind: CONFIG_MAP, namespace: text(controller, "/metadata/namespace"), name };
        let found = cluster.get(at).await?;
        if found.is_some_and(|found| !text(&found.data, &format!("/data/{client}")).is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn secret(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    tokens: &[Token],
    allowed: bool,
) -> Result<(String, SecretFacts), Trouble> {
    let at = At { kind: SECRET, namespace, name };
    let found = cluster.metadata(at).await?;
    let metadata = found.map(|found| found.metadata);
    let basic_auth = metadata.is_some() && cluster.is_of_type(at, BASIC_AUTH).await?;
    let lives = |name: &str| tokens.iter().any(|token| token.name == name);
    let keeper_name = tokens.iter().find(|token| token.secret() == name).map_or(name, |token| &token.name);
    let facts = SecretFacts {
        held: Held::read(metadata.as_ref(), keeper_name, lives),
        owners: metadata.as_ref().map(|metadata| owners(metadata, &CREDENTIALS)).unwrap_or_default(),
        written: metadata.as_ref().and_then(written),
        basic_auth,
        keeper: metadata.as_ref().and_then(keeper_of_secret),
        allowed,
    };
    Ok((name.to_owned(), facts))
}

/// What would put back what the Secret held. One that is in Git with this annotation is left alone from then on.
fn keeper_of_secret(metadata: &ObjectMeta) -> Option<String> {
    let how = metadata.annotations.as_ref().and_then(|all| all.get(SSA));
    let left_alone = how.is_some_and(|how| ["Ignore", "IfNotPresent"].contains(&how.as_str()));
    keeper(&json!(metadata)).filter(|_| !left_alone)
}

fn written(metadata: &ObjectMeta) -> Option<(Timestamp, String)> {
    let entries = metadata.managed_fields.iter().flatten();
    let written = entries.filter_map(|entry| Some((entry.time.as_ref()?.0, entry.manager.clone()?)));
    written.max_by_key(|(time, _)| *time)
}

/// Whether an object names this Secret where Kubernetes and Flux name one.
pub(super) fn names_secret(object: &Value, secret: &str) -> bool {
    match object {
        Value::Object(fields) => fields.iter().any(|(field, value)| match field.as_str() {
            "secretName" => value == secret,
            "secretRef" | "secretKeyRef" => text(value, "/name") == secret,
            "secret" => text(value, "/name") == secret || names_secret(value, secret),
            _ => names_secret(value, secret),
        }),
        Value::Array(values) => values.iter().any(|value| names_secret(value, secret)),
        _ => false,
    }
}
