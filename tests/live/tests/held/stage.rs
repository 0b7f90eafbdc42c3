//! A simulator in Azure's place, whose answers can be altered on their way.

use axum::body::Body;
use flux_bearer_live::azure::Azure;
use flux_bearer_live::settings::Settings;
use flux_bearer_live::simulated;
use flux_bearer_sim::service::Service;
use flux_bearer_sim::world::World;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use tower::{BoxError, ServiceExt, service_fn};

pub(crate) const TENANT: &str = "72f988bf-0000-4000-8000-000000000001";
pub(crate) const SUBSCRIPTION: &str = "00000000-5555-4000-8000-000000000001";

pub(crate) fn settings() -> Settings {
    Settings {
        subscription: SUBSCRIPTION.to_owned(),
        tenant: TENANT.to_owned(),
        organization: "fabrikam".to_owned(),
        project: "secret plans".to_owned(),
        repository: "clusters".to_owned(),
        location: "westeurope".to_owned(),
        sign_in: None,
    }
}

/// An answer on its way; a body that is no JSON is null, and stays as it is.
pub(crate) struct Altered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) azure: Azure,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::altered(|_, _| ())
    }

    /// Each answer is given to `alter`, with `METHOD URL` of its request.
    pub(crate) fn altered(alter: impl Fn(&str, &mut Altered) + Clone + Send + Sync + 'static) -> Self {
        let now = "2026-11-23T08:00:00Z".parse().unwrap();
        let world = simulated::world(simulated::state(&settings()), now).unwrap();
        let service = world.service();
        let service = Service::new(service_fn(move |request: Request<Body>| {
            let (service, alter) = (service.clone(), alter.clone());
            async move {
                let asked = format!("{} {}", request.method(), request.uri());
                let (mut parts, body) = service.oneshot(request).await?.into_parts();
                let bytes = axum::body::to_bytes(body, usize::MAX).await?;
                let json = serde_json::from_slice(&bytes).unwrap_or_default();
                let mut altered = Altered { status: parts.status, headers: parts.headers, json };
                alter(&asked, &mut altered);
                // On a network something else may happen now.
                tokio::task::yield_now().await;
                (parts.status, parts.headers) = (altered.status, altered.headers);
                let body = if altered.json.is_null() { bytes } else { altered.json.to_string().into() };
                Ok::<_, BoxError>(Response::from_parts(parts, Body::from(body)))
            }
        }));
        let azure = simulated::azure(&settings(), service, &world);
        Self { world, azure }
    }
}
