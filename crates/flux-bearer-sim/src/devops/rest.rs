//! The REST resources that a set-up reads, at api-version 7.1.

use std::collections::HashMap;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answer::{ANONYMOUS, ErrorType, json, no_such_page};
use super::caller::Identity;
use super::{Denied, Exchange};
use crate::state::{Organization, Project, Repository, derived_id, derived_uuid};

/// Projects on a page unless `$top` says otherwise.
const PAGE: usize = 100;

/// Resource locations, which clients made for older servers ask for first: id, area, resource, route, preview.
const LOCATIONS: [(&str, &str, &str, &str); 4] = [
    ("00d9565f-ed9c-4a06-9a50-00e7896ccab4", "Location", "ConnectionData", "_apis/{resource}"),
    ("e81700f7-3be2-46de-8624-2eb35882fcaa", "Location", "ResourceAreas", "_apis/{resource}/{areaId}"),
    ("603fe2ac-9723-48b9-88ad-09305aa6c6e1", "core", "projects", "_apis/{resource}/{*projectId}"),
    ("225f7195-f9c7-4d14-ab28-a83f7ff77e1f", "git", "repositories", "{project}/_apis/{area}/{resource}/{repositoryId}"),
];

type Served = Result<Response<Body>, Denied>;

impl Exchange<'_> {
    /// Serves a REST resource to those who may.
    pub(super) fn rest(
        &self,
        identity: &Identity,
        project: Option<&str>,
        path: &[String],
        request: &Request<Body>,
    ) -> Served {
        let lower: Vec<String> = path.iter().map(|segment| segment.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        if request.method() == Method::OPTIONS && lower.is_empty() {
            return Ok(json(StatusCode::OK, &list(&LOCATIONS.map(location))));
        }
        if request.method() != Method::GET {
            return Ok(method_not_allowed());
        }
        match lower.as_slice() {
            ["connectiondata"] => Ok(self.connection_data(identity, request)),
            ["resourceareas"] => Ok(json(StatusCode::OK, &list(&[]))),
            ["projects"] => Ok(self.projects(identity, request)),
            ["projects", name] => self.one_project(identity, name, request),
            ["git", "repositories"] => self.repositories(identity, project),
            ["git", "repositories", name] => self.one_repository(identity, project, name),
            _ => Ok(no_such_page()),
        }
    }

    fn connection_data(&self, identity: &Identity, request: &Request<Body>) -> Response<Body> {
        if let Some(version) = api_version(request).filter(|version| !version.contains("-preview")) {
            let message = format!(
                "The requested version \"{version}\" of the resource is under preview. The -preview flag must be \
                 supplied in the api-version for such requests. For example: \"{version}-preview\""
            );
            let kind = ErrorType("Microsoft.VisualStudio.Services.WebApi", "VssInvalidPreviewVersionException");
            return self.answers.error(StatusCode::BAD_REQUEST, &message, &kind);
        }
        json(StatusCode::OK, &connection_data(self.organization, &self.user(identity)))
    }

    /// The identity as the organisation knows it. Its id and the id in its descriptor differ in the version digit.
    fn user(&self, identity: &Identity) -> Value {
        let Identity { object_id, tenant_id, .. } = identity;
        let names = [self.organization.name.as_str(), object_id.as_str()];
        let subject = STANDARD_NO_PAD.encode(derived_uuid(&names, '7'));
        // How a service principal's descriptors begin, and a person's.
        let (claims, prefix) = match identity.client_id {
            Some(_) => ("Microsoft.VisualStudio.Services.Claims.AadServicePrincipal", "aadsp"),
            None => ("Microsoft.IdentityModel.Claims.ClaimsIdentity", "aad"),
        };
        let name = self.state.principal(object_id).map_or(object_id.as_str(), |principal| principal.name.as_str());
        json!({
            "id": derived_uuid(&names, '6'),
            "descriptor": format!("{claims};{tenant_id}\\{object_id}"),
            "subjectDescriptor": format!("{prefix}.{subject}"),
            "providerDisplayName": name,
            "isActive": true,
            "resourceVersion": 2,
            "metaTypeId": 0,
            "properties": {"Account": {"$type": "System.String", "$value": object_id}},
        })
    }

    fn projects(&self, identity: &Identity, request: &Request<Body>) -> Response<Body> {
        let query = query(request);
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
        let skip = number("continuationToken").or_else(|| number("$skip")).unwrap_or_default();
        let top = number("$top").unwrap_or(PAGE);
        let readable = self.organization.projects.iter().filter(|one| one.is_readable_by(&identity.object_id));
        let mut rest = readable.skip(skip);
        let page: Vec<Value> = rest.by_ref().take(top).map(|one| project(self.organization, one)).collect();
        let next = rest.next().map(|_| HeaderValue::from(skip.saturating_add(top)));
        let mut response = json(StatusCode::OK, &list(&page));
        if let Some(next) = next {
            response.headers_mut().insert("x-ms-continuationtoken", next);
        }
        response
    }

    fn one_project(&self, identity: &Identity, name: &str, request: &Request<Body>) -> Served {
        let found = self.project(identity, name)?;
        let mut body = project(self.organization, found);
        if let Some(body) = body.as_object_mut() {
            let team = [self.organization.name.as_str(), found.name.as_str(), "team"];
            let name = format!("{} Team", found.name);
            body.insert("defaultTeam".to_owned(), json!({"id": derived_id(&team), "name": name}));
            let wanted = query(request).get("includeCapabilities").is_some_and(|value| value == "true");
            let capabilities = json!({
                "versioncontrol": {"sourceControlType": "Git", "gitEnabled": "True", "tfvcEnabled": "False"},
            });
            body.extend(wanted.then(|| ("capabilities".to_owned(), capabilities)));
        }
        Ok(json(StatusCode::OK, &body))
    }

    fn repositories(&self, identity: &Identity, within: Option<&str>) -> Served {
        let within = within.map(|name| self.project(identity, name)).transpose()?;
        let readable = |one: &&Project| one.is_readable_by(&identity.object_id);
        let chosen = |one: &&Project| within.is_none_or(|within| std::ptr::eq(within, *one));
        let projects = self.organization.projects.iter().filter(readable).filter(chosen);
        let pairs = projects.flat_map(|project| project.repositories.iter().map(move |one| (project, one)));
        let pairs = pairs.filter(|(_, one)| self.may_read(identity, one));
        let found: Vec<Value> = pairs.map(|(project, one)| repository(self.organization, project, one)).collect();
        Ok(json(StatusCode::OK, &list(&found)))
    }

    fn one_repository(&self, identity: &Identity, within: Option<&str>, name: &str) -> Served {
        let within = match within {
            Some(within) => self.project(identity, within)?,
            // Without a project only an id is unambiguous, and a name is taken where it is found first.
            None => self
                .organization
                .projects
                .iter()
                .filter(|project| project.is_readable_by(&identity.object_id))
                .find(|project| self.organization.repository(project, name).is_some())
                .ok_or_else(|| Denied::no_right(self.answers.no_repository(name)))?,
        };
        let found = self.repository(identity, within, name)?;
        Ok(json(StatusCode::OK, &repository(self.organization, within, found)))
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

fn project(organization: &Organization, project: &Project) -> Value {
    let id = organization.project_id(project);
    json!({
        "url": format!("https://dev.azure.com/{}/_apis/projects/{id}", organization.name),
        "id": id,
        "name": project.name,
        "description": "",
        "state": "wellFormed",
        "revision": 11,
        "visibility": "private",
        "lastUpdateTime": "2026-01-01T00:00:00.000Z",
    })
}

fn repository(organization: &Organization, within: &Project, repository: &Repository) -> Value {
    let id = organization.repository_id(within, repository);
    let org = &organization.name;
    let path = format!("{org}/{}/_git/{}", encoded(&within.name), encoded(&repository.name));
    let mut body = json!({
        "id": id,
        "name": repository.name,
        "url": format!("https://dev.azure.com/{org}/_apis/git/repositories/{id}"),
        "project": project(organization, within),
        "size": 0,
        "remoteUrl": format!("https://{org}@dev.azure.com/{path}"),
        "sshUrl":
            format!("git@ssh.dev.azure.com:v3/{org}/{}/{}", encoded(&within.name), encoded(&repository.name)),
        "webUrl": format!("https://dev.azure.com/{path}"),
        "isDisabled": false,
    });
    // An empty repository has no default branch. One on disk is taken to have a commit.
    let has_commits = repository.head.is_some() || repository.path.is_some();
    if let Some(body) = body.as_object_mut() {
        body.extend(has_commits.then(|| ("defaultBranch".to_owned(), json!("refs/heads/main"))));
    }
    body
}

fn location((id, area, resource, route): (&str, &str, &str, &str)) -> Value {
    json!({
        "id": id,
        "area": area,
        "resourceName": resource,
        "routeTemplate": route,
        "resourceVersion": 1,
        "minVersion": "1.0",
        "maxVersion": "7.2",
        "releasedVersion": if area == "Location" { "0.0" } else { "7.1" },
    })
}

fn list(value: &[Value]) -> Value {
    json!({"count": value.len(), "value": value})
}

fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

fn query(request: &Request<Body>) -> HashMap<String, String> {
    form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The api-version of the query, else of the `Accept` header.
fn api_version(request: &Request<Body>) -> Option<String> {
    if let Some(version) = query(request).remove("api-version") {
        return Some(version);
    }
    let accept = request.headers().get(header::ACCEPT)?.to_str().ok()?;
    accept.split(';').find_map(|part| part.trim().strip_prefix("api-version=")).map(ToOwned::to_owned)
}

fn method_not_allowed() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
