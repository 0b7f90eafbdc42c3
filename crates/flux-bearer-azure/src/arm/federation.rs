//! Federated credentials: which service accounts a managed identity takes for itself.
//!
//! Azure takes one write at a time for each identity, and one in four seconds in the long run; a write that meets
//! another one is tried again as often as any call.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;
use serde_json::json;

use super::Arm;
use super::call::{Target, delete, list, put};
use super::identity::{KIND, VERSION};
use crate::field::{text, texts};

const CREDENTIALS: &str = "federatedIdentityCredentials";

/// A federated credential. Entra ID compares all but the name with a token byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub struct FederatedCredential {
    /// Its name, which never changes.
    pub name: String,
    /// The issuer of the tokens, a slash at its end included.
    pub issuer: String,
    /// Whose tokens: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// What the tokens are for: exactly one, `api://AzureADTokenExchange`.
    pub audiences: Vec<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(deserialize_with = "text")]
    name: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(deserialize_with = "text")]
    issuer: String,
    #[serde(deserialize_with = "text")]
    subject: String,
    #[serde(deserialize_with = "texts")]
    audiences: Vec<String>,
}

impl From<Wire> for FederatedCredential {
    fn from(Wire { name, properties: Properties { issuer, subject, audiences } }: Wire) -> Self {
        Self { name, issuer, subject, audiences }
    }
}

impl Arm {
    /// The federated credentials of the identity `name` in `group`. There are 20 at most.
    pub async fn federated_credentials(&self, group: &str, name: &str) -> Result<Vec<FederatedCredential>, Failure> {
        let segments = &[&self.resource(group, KIND, name)[..], &[CREDENTIALS]].concat();
        list(&self.session, &Target { operation: Operation::ReadFederation, segments, version: VERSION }).await
    }

    /// Writes a federated credential of the identity `name` in `group`. A pair of issuer and subject that another one
    /// has is refused, so look first.
    pub async fn put_federated_credential(
        &self,
        group: &str,
        name: &str,
        credential: &FederatedCredential,
    ) -> Result<FederatedCredential, Failure> {
        let FederatedCredential { name: own, issuer, subject, audiences } = credential;
        let segments = &[&self.resource(group, KIND, name)[..], &[CREDENTIALS, own]].concat();
        let target = Target { operation: Operation::WriteFederation, segments, version: VERSION };
        let body = json!({"properties": {"issuer": issuer, "subject": subject, "audiences": audiences}});
        put(&self.session, &target, body).await
    }

    /// Deletes a federated credential of the identity `name` in `group`, if it is there.
    pub async fn delete_federated_credential(&self, group: &str, name: &str, credential: &str) -> Result<(), Failure> {
        let segments = &[&self.resource(group, KIND, name)[..], &[CREDENTIALS, credential]].concat();
        delete(&self.session, &Target { operation: Operation::DeleteFederation, segments, version: VERSION }).await
    }
}
