//! Federated identity credentials of user-assigned identities.
//!
//! One write at a time an identity: a write that arrives while another is in flight gets 409. In process a write is
//! over as soon as it has been served, so a fault that delays it (`delayMs`) is what lets a second one meet it.
//! Not simulated: that some redeployments of a credential under its own name have been refused as duplicates.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Refused, empty, ok, put};
use super::identities::missing;
use super::memory::Operation;
use super::target::{CREDENTIALS, Id};
use super::{Exchange, page, subscription_of};
use crate::state::{Application, FederatedCredential, State, Subscription, Tenant, UserAssignedIdentity};

impl Exchange<'_> {
    pub(super) fn credentials(
        &self,
        tenant: Option<&Tenant>,
        subscription: &Subscription,
        id: &Id,
    ) -> Result<Response<Body>, Refused> {
        let (identity, application) = self.parent(tenant, subscription, id, "read", Operation::List)?;
        let all = application.federated_credentials.iter();
        page(self.call, subscription, all.map(|one| render(subscription, identity, one)).collect())
    }

    pub(super) fn credential(
        &self,
        tenant: Option<&Tenant>,
        subscription: &Subscription,
        id: &Id,
        name: &str,
    ) -> Result<Response<Body>, Refused> {
        let (identity, application) = self.parent(tenant, subscription, id, "read", Operation::Get)?;
        let found = application.federated_credentials.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        let nested = Id { group: id.group.clone(), name: format!("{}/federatedIdentityCredentials/{name}", id.name) };
        let absent = || missing(super::target::IDENTITIES, &nested);
        found.map(|one| ok(&render(subscription, identity, one))).ok_or_else(absent)
    }

    pub(super) fn put_credential(
        &self,
        state: &mut State,
        subscription: &str,
        id: &Id,
        name: &str,
    ) -> Result<Response<Body>, Refused> {
        let within = subscription_of(state, subscription)?;
        let tenant = state.tenant(&within.tenant_id);
        let (identity, application) = self.parent(tenant, within, id, "write", Operation::Write)?;
        check_location(within, identity)?;
        let wanted = self.wanted(name)?;
        let others = || application.federated_credentials.iter().filter(|one| !one.name.eq_ignore_ascii_case(name));
        let is_new = others().count() == application.federated_credentials.len();
        if others().any(|one| one.issuer == wanted.issuer && one.subject == wanted.subject) {
            let message = "Issuer and subject combination already exists for this Managed Identity.";
            return Err(Refused::bad_request("BadRequest", message));
        }
        if is_new && others().count() >= Application::MOST_CREDENTIALS {
            // What Azure says and answers here could not be confirmed.
            let message = format!(
                "Too many Federated Identity Credentials for the managed identity: at most {} are allowed.",
                Application::MOST_CREDENTIALS
            );
            return Err(Refused::bad_request("BadRequest", message));
        }
        let body = render(within, identity, &wanted);
        let client_id = identity.client_id.clone();
        if let Some(all) = credentials_of(state, &client_id) {
            match all.iter_mut().find(|one| one.name.eq_ignore_ascii_case(name)) {
                // The date of an unchanged credential stays; a changed one is dated when the change is taken.
                Some(known) => *known = FederatedCredential { created_at: known.created_at, ..wanted },
                None => all.push(wanted),
            }
        }
        Ok(put(is_new, &body))
    }

    pub(super) fn delete_credential(
        &self,
        state: &mut State,
        subscription: &str,
        id: &Id,
        name: &str,
    ) -> Result<Response<Body>, Refused> {
        let within = subscription_of(state, subscription)?;
        let tenant = state.tenant(&within.tenant_id);
        let (identity, _) = self.parent(tenant, within, id, "delete", Operation::Delete)?;
        let client_id = identity.client_id.clone();
        let Some(credentials) = credentials_of(state, &client_id) else { return Ok(empty(StatusCode::NO_CONTENT)) };
        let before = credentials.len();
        credentials.retain(|one| !one.name.eq_ignore_ascii_case(name));
        let was_there = credentials.len() < before;
        Ok(empty(if was_there { StatusCode::OK } else { StatusCode::NO_CONTENT }))
    }

    /// The identity and its application, once version, rate and other writes allow the operation.
    fn parent<'a>(
        &self,
        tenant: Option<&'a Tenant>,
        subscription: &'a Subscription,
        id: &Id,
        verb: &str,
        operation: Operation,
    ) -> Result<(&'a UserAssignedIdentity, &'a Application), Refused> {
        self.check_version(CREDENTIALS)?;
        let found = subscription.identity(&id.group, &id.name);
        let pair = found.and_then(|one| Some((one, tenant?.application(&one.client_id)?)));
        let resource_id = subscription.identity_id(&id.group, &id.name);
        let pair = pair.ok_or_else(|| {
            let message = format!(
                "Failed to perform '{verb}' on resource(s) of type '{}', because the parent resource '{resource_id}' \
                 could not be found.",
                CREDENTIALS.split_once('/').map_or(CREDENTIALS, |(_, name)| name)
            );
            Refused::not_found("ParentResourceNotFound", message)
        })?;
        if self.call.in_flight.as_ref().is_some_and(|write| !write.is_alone()) {
            return Err(concurrent(&resource_id));
        }
        if subscription.enforce_credential_rates {
            let scopes = [resource_id.as_str(), &subscription.id, &subscription.tenant_id];
            self.world.arm().arrive(operation, scopes).map_err(|seconds| {
                Refused::too_many(seconds, format!("The rate is exceeded. Please try again after '{seconds}' seconds."))
            })?;
        }
        Ok(pair)
    }

    /// The credential that the body describes.
    fn wanted(&self, name: &str) -> Result<FederatedCredential, Refused> {
        if !FederatedCredential::is_name(name) {
            let message = format!("Federated Identity Credential name '{name}' is invalid.");
            return Err(Refused::bad_request("BadRequest", message));
        }
        let body = self.call.json()?;
        let properties = body.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty());
        let properties = properties.ok_or_else(|| {
            Refused::bad_request("BadRequest", "Federated Identity Credential from HTTP body has empty properties")
        })?;
        let text = |name: &str| properties.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let audiences = properties.get("audiences").and_then(Value::as_array);
        let (Some(issuer), Some(subject), Some(audiences)) = (text("issuer"), text("subject"), audiences) else {
            let message = "The request format was unexpected. Federated Identity Credential must specify 'issuer', \
                'subject' and 'audience'.";
            return Err(Refused::bad_request("BadRequest", message));
        };
        let [Value::String(audience)] = audiences.as_slice() else {
            let message = "Federated identity credentials must have exactly one audience.";
            return Err(Refused::bad_request("BadRequest", message));
        };
        let [name, issuer, subject, audience] = [name, issuer, subject, audience].map(ToOwned::to_owned);
        Ok(FederatedCredential { name, issuer, subject, audience, created_at: None })
    }
}

/// The credentials of the application of this client id.
fn credentials_of<'a>(state: &'a mut State, client_id: &str) -> Option<&'a mut Vec<FederatedCredential>> {
    let mut applications = state.tenants.iter_mut().flat_map(|tenant| &mut tenant.applications);
    let found = applications.find(|application| application.client_id.eq_ignore_ascii_case(client_id))?;
    Some(&mut found.federated_credentials)
}

fn render(subscription: &Subscription, identity: &UserAssignedIdentity, credential: &FederatedCredential) -> Value {
    let FederatedCredential { name, issuer, subject, audience, .. } = credential;
    let parent = subscription.identity_id(&identity.resource_group, &identity.name);
    json!({
        "id": format!("{parent}/federatedIdentityCredentials/{name}"),
        "name": name,
        "type": CREDENTIALS,
        "properties": {"issuer": issuer, "subject": subject, "audiences": [audience]},
    })
}

/// 405 (code and wording unconfirmed).
fn check_location(subscription: &Subscription, identity: &UserAssignedIdentity) -> Result<(), Refused> {
    let without = &subscription.locations_without_federation;
    if !without.iter().any(|location| location.eq_ignore_ascii_case(&identity.location)) {
        return Ok(());
    }
    let message = format!("Federated identity credentials are not supported in location '{}'.", identity.location);
    Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message))
}

fn concurrent(resource_id: &str) -> Refused {
    let message = format!(
        "Too many Federated Identity Credentials are written concurrently for the managed identity '{}'. Concurrent \
         Federated Identity Credentials writes under the same managed identity are not supported.",
        resource_id.to_lowercase()
    );
    Refused::conflict("ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", message)
}
