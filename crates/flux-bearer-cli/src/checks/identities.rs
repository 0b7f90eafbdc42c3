//! Whose tokens are kept, and what they are to open: read off the cluster, before Azure is asked anything.

use std::collections::BTreeMap;

use flux_bearer::failure::Failure;
use flux_bearer::identity::{Allowed, Claims, Identity, Pod, account_of as account_named};
use flux_bearer::repository::Repository;
use flux_bearer::resource::BearerTokenSpec;
use serde_json::Value;

use super::facts::{Facts, account_of, argument, is_bound, known, variable};
use crate::manifests::CONTROLLER;
use crate::object::{items, namespace, text};
use crate::tokens::Token;

/// An identity as Entra ID knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// Its tenant, where the BearerToken says it: a GUID or a domain.
    pub tenant: Option<String>,
    /// Its client id, in lower case.
    pub client: String,
}

/// A BearerToken whose identity has a client id.
#[derive(Clone, Debug)]
pub(super) struct Use<'a> {
    pub(super) token: &'a Token,
    pub(super) identity: Identity,
    pub(super) account: Account,
    /// What it is to open, each once.
    pub(super) repositories: Vec<Repository>,
}

impl Use<'_> {
    /// Whose service account tokens it signs in with, as Entra ID compares it; nothing where it signs in otherwise, as the
    /// pod's own identity does at the token proxy of AKS: Entra ID trusts the proxy then, and AKS sees to that.
    pub(super) fn subject(&self, facts: &Facts) -> Option<String> {
        match &self.identity {
            Identity::WorkloadIdentity { .. } => {
                let deployment = facts.deployment.iter().flatten().next();
                let account = deployment.map_or(CONTROLLER, account_of);
                let bound = deployment.is_some_and(is_bound);
                (!bound).then(|| format!("system:serviceaccount:{}:{account}", facts.namespace))
            }
            Identity::ServiceAccount { namespace, account, .. } => {
                Some(format!("system:serviceaccount:{namespace}:{account}"))
            }
            _ => None,
        }
    }

    /// Whether its identity may be a managed one.
    pub(super) fn may_be_managed(&self) -> bool {
        !matches!(self.identity, Identity::ClientSecret { .. } | Identity::ClientCertificate { .. })
    }
}

/// The same repository has the same address, however its URL is written.
pub(super) fn address(repository: &Repository) -> String {
    repository.canonical().to_lowercase()
}

/// The BearerTokens whose identity has a client id that can be read off the cluster.
pub(super) fn uses(facts: &Facts) -> Result<Vec<Use<'_>>, String> {
    let pod = pod(facts);
    let found = known(&facts.tokens)?.iter().filter_map(|token| {
        let spec = token.spec.as_ref()?;
        let identity = resolved(facts, token, spec, &pod).ok()?;
        let account = Account {
            tenant: identity.tenant_id().or(pod.tenant_id.as_deref()).map(str::to_ascii_lowercase),
            client: identity.client_id()?.to_ascii_lowercase(),
        };
        Some(Use { token, identity, account, repositories: repositories(facts, token, &spec.repositories) })
    });
    Ok(found.collect())
}

/// The identity that a BearerToken means, with what its ServiceAccount says as far as that was seen.
pub(super) fn resolved(facts: &Facts, token: &Token, spec: &BearerTokenSpec, pod: &Pod) -> Result<Identity, Failure> {
    let account = account_named(&spec.identity).map(|name| (token.namespace.clone(), name.to_owned()));
    let found = account.and_then(|key| facts.accounts.get(&key)?.as_ref().ok()?.as_ref());
    let annotations = found.and_then(|found| found.pointer("/metadata/annotations")).cloned().unwrap_or_default();
    let claims = Claims::of(&serde_json::from_value(annotations).unwrap_or_default());
    Identity::resolve(&spec.identity, &token.namespace, pod, &claims)
}

/// Those that a BearerToken names, and those of the GitRepositories that read its Secret.
fn repositories(facts: &Facts, token: &Token, named: &[String]) -> Vec<Repository> {
    let read = facts.repositories.iter().flatten().filter(|object| reads(object, token));
    let urls = named.iter().map(String::as_str).chain(read.map(|object| text(object, "/spec/url")));
    let parsed = urls.filter_map(|url| Repository::parse(url).ok());
    parsed.map(|repository| (address(&repository), repository)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Whether a GitRepository reads the Secret of a BearerToken.
pub(super) fn reads(object: &Value, token: &Token) -> bool {
    namespace(object) == token.namespace && text(object, "/spec/secretRef/name") == token.secret()
}

/// What the controller's Pods bring along, as far as its Deployment and its `ConfigMap` say.
pub(super) fn pod(facts: &Facts) -> Pod {
    let deployment = facts.deployment.iter().flatten().next();
    let config = facts.config.iter().flatten().next();
    let value = |name: &str, flag: &str| {
        let set = deployment.and_then(|found| argument(found, flag).or_else(|| variable(found, name)));
        let set = set.or_else(|| config.map(|config| text(config, &format!("/data/{name}"))));
        set.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let arguments = deployment.into_iter().flat_map(|found| items(found, "/spec/template/spec/containers/0/args"));
    let arguments = arguments.filter_map(Value::as_str);
    let allowed = arguments.filter_map(|argument| argument.strip_prefix("--allow-identity=")?.parse::<Allowed>().ok());
    Pod {
        namespace: facts.namespace.clone(),
        tenant_id: value("AZURE_TENANT_ID", "--tenant-id"),
        client_id: value("AZURE_CLIENT_ID", "--client-id"),
        allowed: allowed.collect(),
    }
}
