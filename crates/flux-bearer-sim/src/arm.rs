//! Azure Resource Manager: subscriptions, resource groups, user-assigned identities with their federated credentials,
//! AKS clusters (to read), and the rights of who asks.
//!
//! Order of the checks: subscription, token, tenant, api-version, then of a resource: right, provider, lock, policy,
//! resource group, and what the resource itself demands. Deleting a resource group is the only long-running operation.

mod answer;
mod caller;
mod clusters;
mod credentials;
mod groups;
mod identities;
mod memory;
mod providers;
mod rights;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::form_urlencoded;

use self::answer::{Refused, empty, finish, ok};
use self::caller::Caller;
use self::memory::InFlight;
pub(crate) use self::memory::Memory;
use self::target::{Target, What};
use crate::journal::{TokenVerdict, Visit};
use crate::state::{LockLevel, State, Subscription};
use crate::world::World;

/// The host under which it answers.
pub(crate) const HOST: &str = "management.azure.com";

/// Bytes that a request may have.
const LARGEST: usize = 1 << 20;

/// A request, read.
struct Call {
    method: Method,
    path: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    /// Set for writes of federated credentials.
    in_flight: Option<Arc<InFlight>>,
}

impl Call {
    async fn read(request: Request<Body>) -> Self {
        let (mut parts, body) = request.into_parts();
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
        Self {
            path: parts.uri.path().to_owned(),
            query: query.map(|(name, value)| (name.to_lowercase(), value)).collect(),
            body: axum::body::to_bytes(body, LARGEST).await.unwrap_or_default(),
            in_flight: parts.extensions.remove(),
            method: parts.method,
            headers: parts.headers,
        }
    }

    /// A parameter of the query, whose names compare without regard to case.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.get(&name.to_lowercase()).map(String::as_str)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The body as a JSON object.
    fn json(&self) -> Result<Value, Refused> {
        let parsed = serde_json::from_slice::<Value>(&self.body).ok().filter(Value::is_object);
        parsed.ok_or_else(|| {
            let message = "The request content was invalid and could not be deserialized.";
            Refused::bad_request("InvalidRequestContent", message)
        })
    }
}

/// What the handlers of one request share.
struct Exchange<'a> {
    world: &'a World,
    call: &'a Call,
    caller: Caller,
}

/// Answers a request for [`HOST`].
pub(crate) async fn serve(world: &World, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let call = Call::read(request).await;
    let (verdict, mut response) = match exchange(world, &call, visit) {
        Ok(response) => (TokenVerdict::Valid, response),
        Err(refused) => (refused.verdict, refused.response()),
    };
    visit.judged(verdict);
    finish(&mut response, &call.headers, &call.method, world.clock().now());
    response
}

fn exchange(world: &World, call: &Call, visit: &Visit) -> Result<Response<Body>, Refused> {
    let state = world.snapshot();
    let target = Target::of(&call.path);
    let tenant = match &target {
        Some(Target::Of { subscription, .. }) => Some(subscription_of(&state, subscription)?.tenant_id.as_str()),
        _ => None,
    };
    let caller = Caller::of(world, &call.headers, tenant)?;
    visit.identity(Some(&caller.client_id), &caller.object_id);
    if call.query("api-version").is_none_or(str::is_empty) {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(Refused::bad_request("MissingApiVersionParameter", message));
    }
    let exchange = Exchange { world, call, caller };
    match target {
        // How it answers for what it does not have could not be confirmed.
        None => Err(Refused::not_found("InvalidResourceType", format!("The path '{}' is not simulated.", call.path))),
        Some(Target::Tenants) => exchange.only_read().map(|()| exchange.tenants(&state)),
        Some(Target::Subscriptions) => exchange.only_read().map(|()| exchange.subscriptions(&state)),
        Some(Target::Of { subscription, what }) if call.is_read() => {
            exchange.read(&state, subscription_of(&state, &subscription)?, &what)
        }
        Some(Target::Of { subscription, what }) => world.try_edit(|state| exchange.write(state, &subscription, &what)),
    }
}

fn subscription_of<'a>(state: &'a State, id: &str) -> Result<&'a Subscription, Refused> {
    state.subscription(id).ok_or_else(|| {
        Refused::not_found("SubscriptionNotFound", format!("The subscription '{id}' could not be found."))
    })
}

/// The subscription of this id, where it is known to be.
fn subscription_mut<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Subscription, Refused> {
    let mut all = state.subscriptions.iter_mut();
    let found = all.find(|subscription| subscription.id.eq_ignore_ascii_case(id));
    found.ok_or_else(|| Refused::not_found("SubscriptionNotFound", "The subscription could not be found."))
}

impl Exchange<'_> {
    fn now(&self) -> Timestamp {
        self.world.clock().now()
    }

    fn read(&self, state: &State, subscription: &Subscription, what: &What) -> Result<Response<Body>, Refused> {
        self.admit(subscription, what)?;
        let tenant = state.tenant(&subscription.tenant_id);
        match what {
            What::Subscription => Ok(ok(&one_subscription(subscription))),
            What::Operation => Ok(empty(StatusCode::OK)),
            What::Groups => self.groups(subscription),
            What::Group(name) => self.group(subscription, name),
            What::Resources(group) => self.resources(tenant, subscription, group),
            What::Provider(namespace) => Ok(ok(&self.provider(subscription, namespace))),
            What::Identities(group) => self.identities(tenant, subscription, group.as_deref()),
            What::Identity(id) => self.identity(tenant, subscription, id),
            What::Credentials(id) => self.credentials(tenant, subscription, id),
            What::Credential(id, name) => self.credential(tenant, subscription, id, name),
            What::Clusters(group) => self.clusters(subscription, group.as_deref()),
            What::Cluster(id) => clusters::cluster(subscription, id),
            What::Permissions(group) => Ok(self.permissions(subscription, group.as_deref())),
            What::RoleAssignments(group) => self.role_assignments(subscription, group.as_deref()),
            What::RoleAssignment(group, name) => rights::one_role_assignment(subscription, group.as_deref(), name),
            What::RoleDefinitions => self.role_definitions(subscription),
            What::RoleDefinition(id) => rights::role_definition(subscription, id),
            What::Registration(_) => Err(self.no_such_method()),
        }
    }

    fn write(&self, state: &mut State, subscription: &str, what: &What) -> Result<Response<Body>, Refused> {
        self.admit(subscription_of(state, subscription)?, what)?;
        match (&self.call.method, what) {
            (&Method::PUT, What::Group(name)) => self.put_group(subscription_mut(state, subscription)?, name),
            (&Method::DELETE, What::Group(name)) => self.delete_group(state, subscription, name),
            (&Method::PUT, What::Identity(id)) => self.put_identity(state, subscription, id),
            (&Method::PATCH, What::Identity(id)) => self.patch_identity(state, subscription, id),
            (&Method::DELETE, What::Identity(id)) => self.delete_identity(state, subscription, id),
            (&Method::PUT, What::Credential(id, name)) => self.put_credential(state, subscription, id, name),
            (&Method::DELETE, What::Credential(id, name)) => self.delete_credential(state, subscription, id, name),
            (&Method::POST, What::Registration(namespace)) => {
                Ok(self.register(subscription_mut(state, subscription)?, namespace))
            }
            _ => Err(self.no_such_method()),
        }
    }

    /// Refuses what is not the caller's to do, or what the subscription forbids.
    fn admit(&self, subscription: &Subscription, what: &What) -> Result<(), Refused> {
        self.check_right(subscription, what)?;
        self.check_provider(subscription, what)?;
        if !self.call.is_read() {
            self.check_locks(subscription, what)?;
            self.check_policy(subscription, what)?;
        }
        let group = what.group().filter(|_| !matches!(what, What::Group(_)));
        match group {
            Some(group) if subscription.resource_group(group).is_none() => Err(groups::missing(group)),
            _ => Ok(()),
        }
    }

    fn check_right(&self, subscription: &Subscription, what: &What) -> Result<(), Refused> {
        let verb = match self.call.method {
            Method::GET | Method::HEAD => "read",
            Method::DELETE => "delete",
            _ => "write",
        };
        let object_id = &self.caller.object_id;
        let is_known = rights::knows(subscription, object_id);
        let (action, allowed) = match (what, what.resource_type()) {
            (What::Permissions(_), _) => return Ok(()),
            (What::Registration(namespace), _) => {
                let action = format!("{namespace}/register/action");
                let allowed = rights::allows(subscription, object_id, None, &action);
                (action, allowed)
            }
            (_, None) => ("Microsoft.Resources/subscriptions/read".to_owned(), is_known),
            // Everybody who has any role sees of such a list what the role lets be seen.
            (_, Some(kind)) if what.spans_groups() && is_known => (format!("{kind}/{verb}"), true),
            (_, Some(kind)) => {
                let action = format!("{kind}/{verb}");
                let allowed = rights::allows(subscription, object_id, what.group(), &action);
                (action, allowed)
            }
        };
        if allowed { Ok(()) } else { Err(Refused::no_right(object_id, &action, &self.call.path)) }
    }

    /// Whether the caller may read resources of this type in this group.
    fn may_read(&self, subscription: &Subscription, group: &str, resource_type: &str) -> bool {
        rights::allows(subscription, &self.caller.object_id, Some(group), &format!("{resource_type}/read"))
    }

    fn check_locks(&self, subscription: &Subscription, what: &What) -> Result<(), Refused> {
        if matches!(what, What::Registration(_)) {
            return Ok(());
        }
        let is_delete = self.call.method == Method::DELETE;
        let mut locks = subscription.locks.iter().filter(|lock| is_delete || lock.level == LockLevel::ReadOnly);
        let covers = |own: Option<&str>| match (own, what.group()) {
            (None, _) => true,
            (Some(own), Some(group)) => own.eq_ignore_ascii_case(group),
            (Some(_), None) => false,
        };
        let Some(lock) = locks.find(|lock| covers(lock.resource_group.as_deref())) else { return Ok(()) };
        let root = format!("/subscriptions/{}", subscription.id);
        let scope = lock.resource_group.as_ref().map_or(root.clone(), |group| format!("{root}/resourceGroups/{group}"));
        let operation = if is_delete { "delete" } else { "write" };
        Err(Refused::conflict(
            "ScopeLocked",
            format!(
                "The scope '{}' cannot perform {operation} operation because following scope(s) are locked: '{scope}'. \
                 Please remove the lock and try again.",
                self.call.path
            ),
        ))
    }

    fn check_policy(&self, subscription: &Subscription, what: &What) -> Result<(), Refused> {
        let is_denied =
            |kind: &str| subscription.denied_by_policy.iter().any(|denied| denied.eq_ignore_ascii_case(kind));
        match what.resource_type() {
            Some(kind) if self.call.method != Method::DELETE && is_denied(kind) => {
                let name = self.call.path.rsplit('/').next().unwrap_or_default();
                Err(Refused::denied_by_policy(name))
            }
            _ => Ok(()),
        }
    }

    fn only_read(&self) -> Result<(), Refused> {
        if self.call.is_read() { Ok(()) } else { Err(self.no_such_method()) }
    }

    /// 405 (wording unconfirmed).
    fn no_such_method(&self) -> Refused {
        let message = format!("The resource does not support http method '{}'.", self.call.method);
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, "HttpMethodNotSupported", message)
    }

    /// The caller's tenant: a token is for one.
    fn tenants(&self, state: &State) -> Response<Body> {
        let tenant = state.tenant(&self.caller.tenant_id);
        let value = tenant.map(|tenant| {
            let domain = tenant.domains.first();
            json!({
                "id": format!("/tenants/{}", tenant.id),
                "tenantId": tenant.id,
                "displayName": domain.unwrap_or(&tenant.id),
                "defaultDomain": domain,
                "domains": tenant.domains,
                "tenantCategory": "Home",
            })
        });
        ok(&json!({"value": value.as_slice()}))
    }

    fn subscriptions(&self, state: &State) -> Response<Body> {
        let Caller { tenant_id, object_id, .. } = &self.caller;
        let of_tenant = state.subscriptions.iter().filter(|one| one.tenant_id.eq_ignore_ascii_case(tenant_id));
        let known = of_tenant.filter(|one| rights::knows(one, object_id));
        let value: Vec<Value> = known.map(one_subscription).collect();
        ok(&json!({"value": value, "count": {"type": "Total", "value": value.len()}}))
    }
}

fn one_subscription(subscription: &Subscription) -> Value {
    let Subscription { id, tenant_id, display_name, .. } = subscription;
    json!({
        "id": format!("/subscriptions/{id}"),
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": id,
        "tenantId": tenant_id,
        "displayName": if display_name.is_empty() { id } else { display_name },
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    })
}

/// A page of a list: `$top` entries at most, from `$skiptoken` on, and where the next one is.
fn page(call: &Call, subscription: &Subscription, entries: Vec<Value>) -> Result<Response<Body>, Refused> {
    let number = |name: &str| match call.query(name).map(str::parse::<usize>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(Refused::bad_request("BadRequest", format!("The value of '{name}' is not valid."))),
    };
    let skip = number("$skiptoken")?.unwrap_or_default();
    let most = usize::try_from(subscription.page_size).unwrap_or(usize::MAX);
    let top = number("$top")?.filter(|top| *top > 0).map_or(most, |top| top.min(most));
    let next = skip.saturating_add(top);
    let mut body = json!({});
    if let Some(body) = body.as_object_mut() {
        let link = (next < entries.len()).then(|| next_link(call, next));
        body.insert("value".to_owned(), entries.into_iter().skip(skip).take(top).collect());
        body.extend(link.map(|link| ("nextLink".to_owned(), json!(link))));
    }
    Ok(ok(&body))
}

fn next_link(call: &Call, next: usize) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in ["api-version", "$top", "$filter"] {
        query.extend_pairs(call.query(name).map(|value| (name, value)));
    }
    query.append_pair("$skiptoken", &next.to_string());
    format!("https://{HOST}{}?{}", call.path, query.finish())
}

/// What a body names as its location.
fn location(body: &Value) -> Result<String, Refused> {
    let location = body.get("location").and_then(Value::as_str).filter(|text| !text.is_empty());
    let location = location.map(|text| text.to_lowercase().replace(' ', ""));
    location.ok_or_else(|| {
        let message = "The location property is required for this definition.";
        Refused::bad_request("LocationRequired", message)
    })
}

/// The tags of a body, where it has any.
fn tags(body: &Value) -> Result<Option<BTreeMap<String, String>>, Refused> {
    let Some(tags) = body.get("tags").filter(|tags| !tags.is_null()) else { return Ok(None) };
    let tags = serde_json::from_value(tags.clone()).map(Some);
    tags.map_err(|_| Refused::bad_request("InvalidTags", "The tags are invalid: each value must be text."))
}
