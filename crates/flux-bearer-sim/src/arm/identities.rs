//! User-assigned managed identities: the Azure resource and, made and deleted with it, the application in the tenant.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{Refused, empty, ok, put};
use super::target::{CREDENTIALS, IDENTITIES, Id};
use super::{Exchange, location, page, subscription_mut, subscription_of, tags};
use crate::random;
use crate::state::{Application, Kind, State, Subscription, Tenant, UserAssignedIdentity};

/// Stable versions of the API, of which the first has no federated credentials.
const STABLE: [&str; 5] = ["2018-11-30", "2023-01-31", "2024-11-30", "2026-04-30", "2026-05-31"];
/// Previews have come between them; which ones is not known for certain, so every date is taken for one from here on.
const FIRST_PREVIEW: &str = "2022-01-31-preview";

/// Whether this is a version in which identities, or their federated credentials, exist.
fn is_version(version: &str, has_credentials: bool) -> bool {
    let [oldest, .., newest] = STABLE;
    let is_stable = STABLE.contains(&version) && !(has_credentials && version == oldest);
    let is_preview = version.len() == FIRST_PREVIEW.len() && version.ends_with("-preview");
    is_stable || (is_preview && version >= FIRST_PREVIEW && version < newest)
}

pub(super) fn render(tenant: Option<&Tenant>, subscription: &Subscription, identity: &UserAssignedIdentity) -> Value {
    let UserAssignedIdentity { resource_group, name, location, tags, client_id } = identity;
    let application = tenant.and_then(|tenant| tenant.application(client_id));
    json!({
        "id": subscription.identity_id(resource_group, name),
        "name": name,
        "type": IDENTITIES,
        "location": location,
        "tags": tags,
        "properties": {
            "tenantId": subscription.tenant_id,
            "principalId": application.map(|application| &application.object_id),
            "clientId": client_id,
        },
    })
}

/// Removes the application of an identity that is gone, also from the machine that had it.
pub(super) fn forget_application(state: &mut State, client_id: &str) {
    for tenant in &mut state.tenants {
        tenant.applications.retain(|application| !application.client_id.eq_ignore_ascii_case(client_id));
    }
    state.imds.user_assigned.retain(|assigned| !assigned.eq_ignore_ascii_case(client_id));
    state.imds.system_assigned.take_if(|assigned| assigned.eq_ignore_ascii_case(client_id));
}

impl Exchange<'_> {
    /// Refuses a version in which a resource type of the provider does not exist.
    pub(super) fn check_version(&self, resource_type: &str) -> Result<(), Refused> {
        let version = self.call.query("api-version").unwrap_or_default();
        if is_version(version, resource_type == CREDENTIALS) {
            return Ok(());
        }
        let name = resource_type.split_once('/').map_or(resource_type, |(_, name)| name);
        let message = format!(
            "No registered resource provider found for location '' and API version '{version}' for type '{name}'. The \
             supported api-versions are '{}'.",
            STABLE.join(", ")
        );
        Err(Refused::bad_request("NoRegisteredProviderFound", message))
    }

    pub(super) fn identities(
        &self,
        tenant: Option<&Tenant>,
        subscription: &Subscription,
        group: Option<&str>,
    ) -> Result<Response<Body>, Refused> {
        self.check_version(IDENTITIES)?;
        let within =
            |one: &&UserAssignedIdentity| group.is_none_or(|group| one.resource_group.eq_ignore_ascii_case(group));
        let chosen = subscription.identities.iter().filter(within);
        let readable = chosen.filter(|one| self.may_read(subscription, &one.resource_group, IDENTITIES));
        page(self.call, subscription, readable.map(|one| render(tenant, subscription, one)).collect())
    }

    pub(super) fn identity(
        &self,
        tenant: Option<&Tenant>,
        subscription: &Subscription,
        id: &Id,
    ) -> Result<Response<Body>, Refused> {
        self.check_version(IDENTITIES)?;
        let found = subscription.identity(&id.group, &id.name);
        found.map(|one| ok(&render(tenant, subscription, one))).ok_or_else(|| missing(IDENTITIES, id))
    }

    pub(super) fn put_identity(
        &self,
        state: &mut State,
        subscription: &str,
        id: &Id,
    ) -> Result<Response<Body>, Refused> {
        self.check_version(IDENTITIES)?;
        let body = self.call.json()?;
        let (location, tags) = (location(&body)?, tags(&body)?);
        let within = subscription_mut(state, subscription)?;
        if let Some(known) = within.identities.iter_mut().find(|one| one.is(&id.group, &id.name)) {
            if known.location != location {
                return Err(elsewhere(id, known, &location));
            }
            known.tags = tags.unwrap_or_default();
            return rendered(state, subscription, id, false);
        }
        if !UserAssignedIdentity::is_name(&id.name) {
            let message = format!("The resource name '{}' is invalid.", id.name);
            return Err(Refused::bad_request("InvalidResourceName", message));
        }
        // The group is written as the group itself is, however the request writes it.
        let group = within.resource_group(&id.group).map_or(&id.group, |group| &group.name).clone();
        let (resource_id, tenant_id) = (within.identity_id(&group, &id.name), within.tenant_id.clone());
        let application = Application {
            name: id.name.clone(),
            kind: Kind::ManagedIdentity,
            client_id: random::uuid(),
            object_id: random::uuid(),
            resource_id: Some(resource_id),
            ..Application::default()
        };
        within.identities.push(UserAssignedIdentity {
            resource_group: group,
            name: id.name.clone(),
            location,
            tags: tags.unwrap_or_default(),
            client_id: application.client_id.clone(),
        });
        let tenant = state.tenants.iter_mut().find(|tenant| tenant.is_named(&tenant_id));
        if let Some(tenant) = tenant {
            tenant.applications.push(application);
        }
        rendered(state, subscription, id, true)
    }

    pub(super) fn patch_identity(
        &self,
        state: &mut State,
        subscription: &str,
        id: &Id,
    ) -> Result<Response<Body>, Refused> {
        self.check_version(IDENTITIES)?;
        let tags = tags(&self.call.json()?)?;
        let within = subscription_mut(state, subscription)?;
        let known = within.identities.iter_mut().find(|one| one.is(&id.group, &id.name));
        let known = known.ok_or_else(|| missing(IDENTITIES, id))?;
        known.tags = tags.unwrap_or_else(|| known.tags.clone());
        rendered(state, subscription, id, false)
    }

    pub(super) fn delete_identity(
        &self,
        state: &mut State,
        subscription: &str,
        id: &Id,
    ) -> Result<Response<Body>, Refused> {
        self.check_version(IDENTITIES)?;
        let within = subscription_mut(state, subscription)?;
        let at = within.identities.iter().position(|one| one.is(&id.group, &id.name));
        let Some(at) = at else { return Ok(empty(StatusCode::NO_CONTENT)) };
        let gone = within.identities.remove(at);
        forget_application(state, &gone.client_id);
        Ok(empty(StatusCode::OK))
    }
}

fn rendered(state: &State, subscription: &str, id: &Id, is_new: bool) -> Result<Response<Body>, Refused> {
    let subscription = subscription_of(state, subscription)?;
    let found = subscription.identity(&id.group, &id.name).ok_or_else(|| missing(IDENTITIES, id))?;
    Ok(put(is_new, &render(state.tenant(&subscription.tenant_id), subscription, found)))
}

/// 404 for a resource that is not there.
pub(super) fn missing(resource_type: &str, id: &Id) -> Refused {
    let Id { group, name } = id;
    let message = format!(
        "The Resource '{resource_type}/{name}' under resource group '{group}' was not found. For more details please go \
         to https://aka.ms/ARMResourceNotFoundFix"
    );
    Refused::not_found("ResourceNotFound", message)
}

/// 409 for a resource that is in another location (wording unconfirmed).
fn elsewhere(id: &Id, known: &UserAssignedIdentity, location: &str) -> Refused {
    let message = format!(
        "The resource '{}' already exists in location '{}' in resource group '{}'. A resource with the same name cannot \
         be created in location '{location}'. Please select a new resource name.",
        id.name, known.location, id.group
    );
    Refused::conflict("InvalidResourceLocation", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_stable_versions_and_takes_any_preview_since_the_first() {
        for (version, identities, credentials) in [
            ("2018-11-30", true, false),
            ("2024-11-30", true, true),
            ("2024-11-29", false, false),
            ("2021-09-30-preview", false, false),
            ("2022-01-31-preview", true, true),
            ("2025-05-31-preview", true, true),
            ("2027-01-01-preview", false, false),
        ] {
            assert_eq!((is_version(version, false), is_version(version, true)), (identities, credentials), "{version}");
        }
    }
}
