//! Resource providers: what a subscription must have registered before it can have resources of it.

use axum::body::Body;
use http::Response;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Exchange;
use super::answer::{Refused, ok};
use super::target::What;
use crate::state::{Provider, Subscription};

/// Namespaces that every subscription has.
const ALWAYS: [&str; 2] = ["Microsoft.Authorization", "Microsoft.Resources"];

impl Exchange<'_> {
    /// Refuses what belongs to a provider that is not registered, and repeats that refusal to the same request under
    /// the same client request id ever after.
    pub(super) fn check_provider(&self, subscription: &Subscription, what: &What) -> Result<(), Refused> {
        let kind = what.resource_type().and_then(|kind| Some(kind.split_once('/')?.0));
        let Some(namespace) = kind.filter(|namespace| !ALWAYS.contains(namespace)) else { return Ok(()) };
        let id = self.call.header("x-ms-client-request-id");
        let id = id.map(|id| format!("{} {} {id}", self.call.method, self.call.path).to_lowercase());
        let is_repeated = id.as_ref().is_some_and(|id| self.world.arm().is_refused_again(id));
        if !is_repeated && self.registration(subscription, namespace) == "Registered" {
            return Ok(());
        }
        if let Some(id) = id.filter(|_| !is_repeated) {
            self.world.arm().refuse_again(id);
        }
        let message = format!(
            "The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for \
             how to register subscriptions."
        );
        Err(Refused::conflict("MissingSubscriptionRegistration", message))
    }

    /// `registrationState` of a provider.
    fn registration(&self, subscription: &Subscription, namespace: &str) -> &'static str {
        let takes = SignedDuration::from_secs(i64::from(subscription.registration_seconds));
        let known = subscription.providers.iter().find(|one| one.namespace.eq_ignore_ascii_case(namespace));
        match known {
            None => "NotRegistered",
            Some(Provider { since: Some(since), .. }) if self.now() < *since + takes => "Registering",
            Some(_) => "Registered",
        }
    }

    pub(super) fn provider(&self, subscription: &Subscription, namespace: &str) -> Value {
        json!({
            "id": format!("/subscriptions/{}/providers/{namespace}", subscription.id),
            "namespace": namespace,
            "registrationPolicy": "RegistrationRequired",
            "registrationState": self.registration(subscription, namespace),
            "resourceTypes": [],
        })
    }

    pub(super) fn register(&self, subscription: &mut Subscription, namespace: &str) -> Response<Body> {
        if self.registration(subscription, namespace) == "NotRegistered" {
            let since = Some(self.now());
            subscription.providers.push(Provider { namespace: namespace.to_owned(), since });
        }
        ok(&self.provider(subscription, namespace))
    }
}
