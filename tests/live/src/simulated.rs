//! A simulated Azure that has what a person's settings name, so that the same scenario can be played to it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::operator::{DeviceCode, SignIn};
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::service::Service;
use flux_bearer_sim::state::{
    DeviceCode as Typed, Member, Organization, Project, Repository, Role, RoleAssignment, State, Subscription, Tenant,
    User,
};
use flux_bearer_sim::world::{World, WorldError};
use http::Request;
use jiff::Timestamp;
use tower::{ServiceExt, service_fn};

use crate::azure::Azure;
use crate::settings::Settings;

/// Who is signed in: a person.
const OPERATOR: &str = "0f1ec0de-0000-4000-8000-000000000001";
const OPERATOR_NAME: &str = "operator@flux-bearer.example";

/// The commit that the repository has.
const HEAD: &str = "8843d7f92416211de9ebb963ff4ce28125932878";

/// The world of these settings. The person is owner of the subscription and administrator of the organisation.
pub fn state(settings: &Settings) -> State {
    let Settings { subscription, tenant, organization, project, repository, .. } = settings.clone();
    let operator = || vec![OPERATOR.to_owned()];
    let user = User {
        object_id: OPERATOR.to_owned(),
        user_principal_name: OPERATOR_NAME.to_owned(),
        display_name: Some("Operator".to_owned()),
    };
    let types = Typed { user: OPERATOR_NAME.to_owned(), after_polls: 0, interval_seconds: 1, ..Typed::default() };
    let owner = RoleAssignment { object_id: OPERATOR.to_owned(), role: Role::Owner, resource_group: None };
    let repositories = vec![Repository {
        name: repository,
        readers: operator(),
        head: Some(HEAD.to_owned()),
        ..Repository::default()
    }];
    let projects = vec![Project { name: project, readers: operator(), repositories, ..Project::default() }];
    State {
        tenants: vec![Tenant { id: tenant.clone(), users: vec![user], device_code: Some(types), ..Tenant::default() }],
        subscriptions: vec![Subscription {
            id: subscription,
            tenant_id: tenant.clone(),
            role_assignments: vec![owner],
            ..Subscription::default()
        }],
        organizations: vec![Organization {
            name: organization,
            tenant_id: tenant,
            members: vec![Member { object_id: OPERATOR.to_owned(), ..Member::default() }],
            administrators: operator(),
            projects,
            ..Organization::default()
        }],
        ..State::default()
    }
}

/// A world in this state, at this time.
///
/// # Errors
/// Settings that no Azure could have, for example an id that is none.
pub fn world(state: State, now: Timestamp) -> Result<World, WorldError> {
    World::new(state, Clock::starting_at(now))
}

/// The Azure of `service`, by the clock of `world`, as its operator sees it.
pub fn azure(settings: &Settings, service: Service, world: &World) -> Azure {
    let http = Http::new(service_fn(move |request: Request<_>| service.clone().oneshot(request.map(Body::new))));
    let way = DeviceCode::new(http.clone(), Authority::default(), |_| ());
    let way: Arc<dyn SignIn> = Arc::new(way);
    let clock = world.clock().clone();
    Azure::new(settings.clone(), http, way, Arc::new(move || clock.now()), Duration::ZERO)
}
