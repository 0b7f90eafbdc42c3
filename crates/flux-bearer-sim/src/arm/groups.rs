//! Resource groups.

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{Refused, empty, ok, put};
use super::target::GROUPS;
use super::{Exchange, HOST, clusters, identities, location, page, subscription_mut, tags};
use crate::random;
use crate::state::{ResourceGroup, State, Subscription, Tenant};

/// 404 for a resource group that is not there.
pub(super) fn missing(name: &str) -> Refused {
    Refused::not_found("ResourceGroupNotFound", format!("Resource group '{name}' could not be found."))
}

fn render(subscription: &Subscription, group: &ResourceGroup) -> Value {
    let ResourceGroup { name, location, tags } = group;
    json!({
        "id": format!("/subscriptions/{}/resourceGroups/{name}", subscription.id),
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": location,
        "tags": tags,
        "properties": {"provisioningState": "Succeeded"},
    })
}

/// Whether a resource group may have this name.
fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
    (1..=90).contains(&name.chars().count()) && name.chars().all(is_good) && !name.ends_with('.')
}

/// The tag that a filter wants: `tagName eq 'app'`. Others are not simulated.
fn tag_name(filter: &str) -> Result<&str, Refused> {
    let name = filter.strip_prefix("tagName eq '").and_then(|rest| rest.strip_suffix('\''));
    name.filter(|name| !name.contains('\'')).ok_or_else(|| {
        Refused::bad_request(
            "InvalidFilterInQueryString",
            format!("Invalid $filter '{filter}' specified in the query string."),
        )
    })
}

impl Exchange<'_> {
    pub(super) fn groups(&self, subscription: &Subscription) -> Result<Response<Body>, Refused> {
        let tag = self.call.query("$filter").map(tag_name).transpose()?;
        let groups = subscription.resource_groups.iter();
        let chosen =
            groups.filter(|group| tag.is_none_or(|tag| group.tags.keys().any(|key| key.eq_ignore_ascii_case(tag))));
        let readable = chosen.filter(|group| self.may_read(subscription, &group.name, GROUPS));
        page(self.call, subscription, readable.map(|group| render(subscription, group)).collect())
    }

    pub(super) fn group(&self, subscription: &Subscription, name: &str) -> Result<Response<Body>, Refused> {
        let found = subscription.resource_group(name);
        match (found, &self.call.method) {
            (Some(_), &Method::HEAD) => Ok(empty(StatusCode::NO_CONTENT)),
            (None, &Method::HEAD) => Ok(empty(StatusCode::NOT_FOUND)),
            (Some(group), _) => Ok(ok(&render(subscription, group))),
            (None, _) => Err(missing(name)),
        }
    }

    /// Everything in a group that the caller may read, in the short form of a list: without `properties`.
    pub(super) fn resources(
        &self,
        tenant: Option<&Tenant>,
        subscription: &Subscription,
        group: &str,
    ) -> Result<Response<Body>, Refused> {
        if subscription.resource_group(group).is_none() {
            return Err(missing(group));
        }
        let is_in = |name: &str| name.eq_ignore_ascii_case(group);
        let identities = subscription.identities.iter().filter(|one| is_in(&one.resource_group));
        let identities = identities.map(|one| identities::render(tenant, subscription, one));
        let clusters = subscription.managed_clusters.iter().filter(|one| is_in(&one.resource_group));
        let clusters = clusters.map(|one| clusters::render(subscription, one));
        let short = |mut resource: Value| {
            if let Some(resource) = resource.as_object_mut() {
                resource.remove("properties");
            }
            resource
        };
        page(self.call, subscription, identities.chain(clusters).map(short).collect())
    }

    pub(super) fn put_group(&self, subscription: &mut Subscription, name: &str) -> Result<Response<Body>, Refused> {
        let body = self.call.json()?;
        let (location, tags) = (location(&body)?, tags(&body)?);
        if !is_name(name) {
            let message = format!("The provided resource group name '{name}' is not valid.");
            return Err(Refused::bad_request("InvalidResourceGroupName", message));
        }
        let known = subscription.resource_groups.iter_mut().find(|group| group.name.eq_ignore_ascii_case(name));
        if let Some(known) = known {
            if known.location != location {
                let message = format!(
                    "Invalid resource group location '{location}'. The Resource group already exists in location '{}'.",
                    known.location
                );
                return Err(Refused::conflict("InvalidResourceGroupLocation", message));
            }
            known.tags = tags.unwrap_or_default();
            let group = known.clone();
            return Ok(put(false, &render(subscription, &group)));
        }
        let group = ResourceGroup { name: name.to_owned(), location, tags: tags.unwrap_or_default() };
        subscription.resource_groups.push(group.clone());
        Ok(put(true, &render(subscription, &group)))
    }

    /// Deletes a group with all that is in it: at once, although the answer speaks of an operation that goes on.
    pub(super) fn delete_group(
        &self,
        state: &mut State,
        subscription: &str,
        name: &str,
    ) -> Result<Response<Body>, Refused> {
        let within = subscription_mut(state, subscription)?;
        if within.resource_group(name).is_none() {
            return Err(missing(name));
        }
        let is_in = |group: &str| group.eq_ignore_ascii_case(name);
        let (gone, kept): (Vec<_>, _) =
            std::mem::take(&mut within.identities).into_iter().partition(|one| is_in(&one.resource_group));
        within.identities = kept;
        within.resource_groups.retain(|group| !is_in(&group.name));
        within.managed_clusters.retain(|cluster| !is_in(&cluster.resource_group));
        within.role_assignments.retain(|one| !one.resource_group.as_deref().is_some_and(is_in));
        within.locks.retain(|lock| !lock.resource_group.as_deref().is_some_and(is_in));
        for identity in gone {
            identities::forget_application(state, &identity.client_id);
        }
        let mut response = empty(StatusCode::ACCEPTED);
        let version = self.call.query("api-version").unwrap_or_default();
        let operation = random::uuid();
        let location =
            format!("https://{HOST}/subscriptions/{subscription}/operationresults/{operation}?api-version={version}");
        let headers = response.headers_mut();
        headers.extend(HeaderValue::from_str(&location).ok().map(|location| (header::LOCATION, location)));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("15"));
        Ok(response)
    }
}
