//! `ServiceAccount`s of the cluster: made, given tokens, and trusted by an identity.

use std::time::Duration;

use flux_bearer_sim::state::{FederatedCredential, StateError};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::identities::{ISSUER, client};
use crate::stage::{AUDIENCE, Stage};

/// A ServiceAccount as the subject of its tokens.
pub fn subject(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl Stage {
    /// Lets the Kubernetes API hand out tokens of its `ServiceAccount`s, which the cluster's issuer signs.
    pub fn issue_tokens(&self) {
        let (issuer, clock) = (self.issuer.clone(), self.world.clock().clone());
        self.kube.issue_tokens(move |asked| {
            let life = Duration::from_secs(asked.expiration_seconds.unsigned_abs());
            let subject = subject(&asked.namespace, &asked.service_account);
            issuer.sign(&subject, &asked.audiences.join(","), life, clock.now())
        });
    }

    /// Stores a ServiceAccount with these annotations.
    pub fn service_account(&self, namespace: &str, name: &str, annotations: &Value) {
        let metadata = json!({"name": name, "namespace": namespace, "annotations": annotations});
        self.kube.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}));
    }

    /// Lets the `number`-th identity trust a subject of the cluster, and nobody else, since long ago.
    ///
    /// # Errors
    /// A state that can't be.
    pub fn federate(&self, number: usize, subject: &str) -> Result<(), StateError> {
        let credential = FederatedCredential {
            name: "cluster".to_owned(),
            issuer: ISSUER.to_owned(),
            subject: subject.to_owned(),
            audience: AUDIENCE.to_owned(),
            // Long ago: what is new is not known everywhere at once.
            created_at: Some(Timestamp::UNIX_EPOCH),
        };
        self.world.edit(|state| {
            for application in state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications) {
                if application.client_id == client(number) {
                    application.federated_credentials = vec![credential.clone()];
                }
            }
        })
    }
}
