//! Resource providers: a subscription uses only those that it has registered.

use flux_bearer::failure::Failure;
use flux_bearer::failure::arm::Operation;
use serde::Deserialize;

use super::Arm;
use super::call::{Target, find, post};
use crate::field::text;

const VERSION: &str = "2016-02-01";

/// The resource provider of managed identities.
pub const MANAGED_IDENTITY: &str = "Microsoft.ManagedIdentity";

/// The resource provider of AKS.
pub const CONTAINER_SERVICE: &str = "Microsoft.ContainerService";

/// Whether a subscription may use a resource provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderState {
    /// It may.
    Registered,
    /// It may in some minutes.
    Registering,
    /// It may not.
    NotRegistered,
}

impl Arm {
    /// Whether the subscription may use the provider with this namespace.
    pub async fn provider_state(&self, namespace: &'static str) -> Result<ProviderState, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Provider {
            #[serde(deserialize_with = "text")]
            registration_state: String,
        }
        let segments = &["subscriptions", &self.subscription, "providers", namespace];
        let target = Target { operation: Operation::ReadProvider(namespace), segments, version: VERSION };
        let provider: Provider = find(&self.session, &target).await?.ok_or_else(|| target.missing())?;
        Ok(match provider.registration_state.to_ascii_lowercase().as_str() {
            "registered" => ProviderState::Registered,
            "registering" => ProviderState::Registering,
            _ => ProviderState::NotRegistered,
        })
    }

    /// Lets the subscription use the provider. It takes a minute or two: ask for the state meanwhile.
    pub async fn register_provider(&self, namespace: &'static str) -> Result<(), Failure> {
        let segments = &["subscriptions", &self.subscription, "providers", namespace, "register"];
        post(&self.session, &Target { operation: Operation::RegisterProvider(namespace), segments, version: VERSION })
            .await
    }
}
