//! A token of a BearerToken's identity, got from here: by a token of the service account that signs in, as the controller
//! itself would.

use std::sync::Arc;

use flux_bearer::failure::Failure;
use flux_bearer::identity::{Claims, Identity, Pod, account_of};
use flux_bearer::preflight::AUDIENCE;
use flux_bearer::token::Token as Minted;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::operator::{Resource, SignIn, Workload};
use flux_bearer_azure::workload::Assertion;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use secrecy::SecretString;

use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::{CONFIG_MAP, SERVICE_ACCOUNT};
use crate::manifests::CONTROLLER;
use crate::tokens::Token;

/// The identity that a BearerToken of the controller's namespace means.
pub(crate) async fn identity(cluster: &Cluster, token: &Token) -> Result<Identity, Trouble> {
    let spec = token.spec.as_ref().ok_or_else(|| {
        let fix = "apply the CustomResourceDefinition of this program's version: flux-bearer setup";
        Trouble::new(Exit::Taken, format!("{} can't be read: it is of another version", token.at()), fix)
    })?;
    let claims = match account_of(&spec.identity) {
        Some(name) => claims(cluster, At { kind: SERVICE_ACCOUNT, namespace: &token.namespace, name }).await?,
        None => Claims::default(),
    };
    Ok(Identity::resolve(&spec.identity, &token.namespace, &pod(cluster, &token.namespace).await?, &claims)?)
}

/// What a ServiceAccount says of its identity.
async fn claims(cluster: &Cluster, at: At<'_>) -> Result<Claims, Trouble> {
    let found = cluster.metadata(at).await?.ok_or_else(|| {
        let fix = format!("kubectl -n {} create serviceaccount {}", at.namespace, at.name);
        Trouble::new(Exit::NotFound, format!("there is no {at}"), fix)
    })?;
    Ok(Claims::of(&found.metadata.annotations.unwrap_or_default()))
}

/// What the controller's Pod brings along, from the `ConfigMap` that it is given it by.
async fn pod(cluster: &Cluster, namespace: &str) -> Result<Pod, Trouble> {
    let at = At { kind: CONFIG_MAP, namespace, name: CONTROLLER };
    let found = cluster.get(at).await?;
    let value = |name: &str| {
        let value = found.as_ref()?.data.pointer(&format!("/data/{name}"))?;
        value.as_str().map(str::to_owned)
    };
    let (tenant_id, client_id) = (value("AZURE_TENANT_ID"), value("AZURE_CLIENT_ID"));
    Ok(Pod { namespace: namespace.to_owned(), tenant_id, client_id, allowed: Vec::new() })
}

/// A token for Azure DevOps of this identity.
pub(crate) async fn mint(
    cluster: &Cluster,
    namespace: &str,
    identity: &Identity,
    edge: &Edge,
) -> Result<Minted, Trouble> {
    let (tenant_id, client_id, namespace, account) = match identity {
        Identity::WorkloadIdentity { tenant_id, client_id } => (tenant_id, client_id, namespace, CONTROLLER),
        Identity::ServiceAccount { tenant_id, client_id, namespace, account } => {
            (tenant_id, client_id, namespace.as_str(), account.as_str())
        }
        _ => {
            let cause = format!("a token of {identity} can't be had from here");
            return Err(Trouble::new(Exit::Failed, cause, "use one of yours: add --as operator"));
        }
    };
    let assertion = Arc::new(Requested(cluster.service_account_token(namespace, account, AUDIENCE).await?));
    let way = Workload::new(edge.azure.clone(), Authority::default(), tenant_id.clone(), client_id.clone(), assertion);
    Ok(Minted::accept(way.token(Resource::AzureDevOps, None).await?, identity, edge.now())?)
}

/// A service account token that was asked for just now.
struct Requested(SecretString);

impl Assertion for Requested {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        ready(Ok(self.0.clone())).boxed()
    }
}
