//! The REST resources, by the host that serves them; and who a token is (`connectionData`).

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{ANONYMOUS, json, no_such_page};
use super::call::Call;
use super::caller::Identity;
use super::locations;
use super::principals::Principal;
use super::target::Host;
use super::{Exchange, Served};
use crate::state::{Organization, derived_id};

/// First words of what `dev.azure.com` serves.
const AREAS: [&str; 8] = [
    "projects",
    "operations",
    "git",
    "securitynamespaces",
    "accesscontrolentries",
    "accesscontrollists",
    "permissions",
    "security",
];

impl Exchange<'_> {
    /// Serves a REST resource to those who may.
    pub(super) async fn rest(
        &self,
        identity: &Identity,
        host: Host,
        project: Option<&str>,
        path: &[String],
        request: Request<Body>,
    ) -> Served {
        let call = Call::read(request).await;
        let lower: Vec<String> = path.iter().map(|segment| segment.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        match (&call.method, lower.as_slice()) {
            (&Method::OPTIONS, []) => Ok(locations::locations(host)),
            (&Method::GET, ["connectiondata"]) => self.connection_data(identity, &call),
            (&Method::GET, ["resourceareas"]) => Ok(self.areas()),
            (&Method::GET, ["resourceareas", id]) => self.area(id),
            (_, ["connectiondata" | "resourceareas", ..]) => Ok(method_not_allowed()),
            (_, lower) => match host {
                Host::Core => self.core(identity, project, lower, path, &call),
                Host::Identities => self.directory(identity, lower, path, &call),
                Host::Entitlements => self.entitlements(identity, lower, path, &call),
            },
        }
    }

    /// Everything of `dev.azure.com`.
    fn core(&self, identity: &Identity, within: Option<&str>, lower: &[&str], path: &[String], call: &Call) -> Served {
        let name = path.last().map(String::as_str).unwrap_or_default();
        match (&call.method, lower) {
            (&Method::GET, ["projects"]) => Ok(self.projects(identity, call)),
            (&Method::POST, ["projects"]) => self.add_project(identity, call),
            (&Method::GET, ["projects", _]) => self.one_project(identity, name, call),
            (&Method::GET, ["operations", _]) => self.operation(name),
            (&Method::GET, ["git", "repositories"]) => self.repositories(identity, within),
            (&Method::POST, ["git", "repositories"]) => self.add_repository(identity, within, call),
            (&Method::GET, ["git", "repositories", _]) => self.one_repository(identity, within, name),
            (&Method::DELETE, ["git", "repositories", _]) => self.delete_repository(identity, within, name, call),
            (&Method::GET, ["securitynamespaces"]) => self.namespaces(None),
            (&Method::GET, ["securitynamespaces", id]) => self.namespaces(Some(id)),
            (&Method::POST, ["accesscontrolentries", id]) => self.set_entries(identity, id, call),
            (&Method::DELETE, ["accesscontrolentries", id]) => self.remove_entries(identity, id, call),
            (&Method::GET, ["accesscontrollists", id]) => self.lists(id, call),
            (&Method::GET, ["permissions", id, bits]) => self.permissions(identity, id, bits, call),
            (&Method::POST, ["security", "permissionevaluationbatch"]) => self.evaluate(identity, call),
            (_, [area, ..]) if AREAS.contains(area) => Ok(method_not_allowed()),
            _ => Ok(no_such_page()),
        }
    }

    fn connection_data(&self, identity: &Identity, call: &Call) -> Served {
        self.check_version(call, true)?;
        let principal = Principal::new(self.state, self.organization, &identity.object_id);
        Ok(json(StatusCode::OK, &connection_data(self.organization, &principal.connected())))
    }
}

/// `connectionData` as the anonymous identity sees it.
pub(super) fn anonymous(organization: &Organization) -> Response<Body> {
    let user = json!({
        "id": ANONYMOUS,
        "descriptor": format!("System:PublicAccess;{ANONYMOUS}"),
        "subjectDescriptor": format!("sys.{}", STANDARD_NO_PAD.encode(ANONYMOUS)),
        "providerDisplayName": "Anonymous",
        "isActive": true,
        "resourceVersion": 2,
        "metaTypeId": 0,
        "properties": {},
    });
    json(StatusCode::OK, &connection_data(organization, &user))
}

fn connection_data(organization: &Organization, user: &Value) -> Value {
    json!({
        "authenticatedUser": user,
        "authorizedUser": user,
        "instanceId": organization.id(),
        "deploymentId": derived_id(&["deployment"]),
        "deploymentType": "hosted",
        "locationServiceData": {
            "serviceOwner": "00025394-6065-48ca-87d9-7f5672854ef7",
            "defaultAccessMappingMoniker": "PublicAccessMapping",
            "lastChangeId": 1,
            "lastChangeId64": 1,
        },
    })
}

/// A list as the API answers it.
pub(super) fn list(value: &[Value]) -> Value {
    json!({"count": value.len(), "value": value})
}

pub(super) fn method_not_allowed() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
