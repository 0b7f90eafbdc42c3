//! Projects and their Git repositories.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::access::{collection, git};
use super::answer::{ErrorType, json};
use super::call::Call;
use super::caller::Identity;
use super::rest::list;
use super::{Denied, Exchange, Served, organization_mut};
use crate::state::{Namespace, Organization, Project, Repository, derived_id};

/// Projects on a page unless `$top` says otherwise.
const PAGE: usize = 100;

impl Exchange<'_> {
    pub(super) fn projects(&self, identity: &Identity, call: &Call) -> Response<Body> {
        let number = |name: &str| call.query(name).and_then(|value| value.parse::<usize>().ok());
        let skip = number("continuationToken").or_else(|| number("$skip")).unwrap_or_default();
        let top = number("$top").unwrap_or(PAGE);
        let access = self.access();
        let readable = self.organization.projects.iter().filter(|one| access.sees(&identity.object_id, one));
        let mut rest = readable.skip(skip);
        let page: Vec<Value> = rest.by_ref().take(top).map(|one| project(self.organization, one)).collect();
        let next = rest.next().map(|_| HeaderValue::from(skip.saturating_add(top)));
        let mut response = json(StatusCode::OK, &list(&page));
        if let Some(next) = next {
            response.headers_mut().insert("x-ms-continuationtoken", next);
        }
        response
    }

    /// `POST projects`: made at once, although the answer speaks of an operation that goes on.
    pub(super) fn add_project(&self, identity: &Identity, call: &Call) -> Served {
        self.check_version(call, false)?;
        let is_allowed =
            self.access().allows(&identity.object_id, Namespace::Collection, "NAMESPACE:", collection::CREATE_PROJECTS);
        if !is_allowed {
            return Err(self.forbidden(&identity.object_id, "Create new projects"));
        }
        let name = self.name_in(call)?;
        if self.organization.project(&name).is_some() {
            // Wording unconfirmed.
            let message = format!("TF200019: The following project already exists on the server: {name}.");
            let kind = ErrorType("Microsoft.TeamFoundation.Core.WebApi", "ProjectAlreadyExistsException");
            return Err(self.fail(StatusCode::CONFLICT, &message, &kind));
        }
        let made = Project { id: Some(crate::random::uuid()), name, ..Project::default() };
        self.change(|state, organization| {
            organization_mut(state, organization)?.projects.push(made.clone());
            Ok(())
        })?;
        Ok(json(StatusCode::ACCEPTED, &operation(self.organization, &made, "queued")))
    }

    /// `GET operations/{id}`: that of a project which was made.
    pub(super) fn operation(&self, id: &str) -> Served {
        let mut projects = self.organization.projects.iter();
        let made = projects.find(|one| operation_id(self.organization, one).eq_ignore_ascii_case(id));
        let missing = || {
            let kind = ErrorType("Microsoft.VisualStudio.Services.Operations", "OperationNotFoundException");
            self.fail(StatusCode::NOT_FOUND, &format!("The operation {id} could not be found."), &kind)
        };
        let made = made.ok_or_else(missing)?;
        Ok(json(StatusCode::OK, &operation(self.organization, made, "succeeded")))
    }

    pub(super) fn one_project(&self, identity: &Identity, name: &str, call: &Call) -> Served {
        let found = self.project(identity, name)?;
        let mut body = project(self.organization, found);
        if let Some(body) = body.as_object_mut() {
            let team = [self.organization.name.as_str(), found.name.as_str(), "team"];
            let name = format!("{} Team", found.name);
            body.insert("defaultTeam".to_owned(), json!({"id": derived_id(&team), "name": name}));
            let wanted = call.is_set("includeCapabilities");
            let capabilities = json!({
                "versioncontrol": {"sourceControlType": "Git", "gitEnabled": "True", "tfvcEnabled": "False"},
            });
            body.extend(wanted.then(|| ("capabilities".to_owned(), capabilities)));
        }
        Ok(json(StatusCode::OK, &body))
    }

    pub(super) fn repositories(&self, identity: &Identity, within: Option<&str>) -> Served {
        let within = within.map(|name| self.project(identity, name)).transpose()?;
        let access = self.access();
        let readable = |one: &&Project| access.sees(&identity.object_id, one);
        let chosen = |one: &&Project| within.is_none_or(|within| std::ptr::eq(within, *one));
        let projects = self.organization.projects.iter().filter(chosen).filter(readable);
        let pairs = projects.flat_map(|project| project.repositories.iter().map(move |one| (project, one)));
        let pairs = pairs.filter(|(project, one)| self.may_read(identity, project, one));
        let found: Vec<Value> = pairs.map(|(project, one)| repository(self.organization, project, one)).collect();
        Ok(json(StatusCode::OK, &list(&found)))
    }

    /// `POST git/repositories`: an empty one.
    pub(super) fn add_repository(&self, identity: &Identity, within: Option<&str>, call: &Call) -> Served {
        self.check_version(call, false)?;
        let body = self.body(call)?;
        let named = body.pointer("/project/id").and_then(Value::as_str);
        let within = self.project(identity, within.or(named).unwrap_or_default())?;
        let project_id = self.organization.project_id(within);
        let token = format!("repoV2/{project_id}");
        if !self.access().allows(&identity.object_id, Namespace::Git, &token, git::CREATE_REPOSITORY) {
            return Err(self.needs("CreateRepository"));
        }
        let name = self.name_in(call)?;
        if self.organization.repository(within, &name).is_some() {
            // Wording unconfirmed.
            let message = format!("TF400948: A Git repository with the name {name} already exists.");
            let kind = ErrorType("Microsoft.TeamFoundation.Git.Server", "GitRepositoryNameAlreadyExistsException");
            return Err(self.fail(StatusCode::CONFLICT, &message, &kind));
        }
        let made = Repository { id: Some(crate::random::uuid()), name, ..Repository::default() };
        self.change(|state, organization| {
            let organization = organization_mut(state, organization)?;
            let at = organization.projects.iter().position(|one| organization.project_id(one) == project_id);
            if let Some(project) = at.and_then(|at| organization.projects.get_mut(at)) {
                project.repositories.push(made.clone());
            }
            Ok(())
        })?;
        Ok(json(StatusCode::CREATED, &repository(self.organization, within, &made)))
    }

    /// `DELETE git/repositories/{id}`: gone for good, without a recycle bin.
    pub(super) fn delete_repository(
        &self,
        identity: &Identity,
        within: Option<&str>,
        name: &str,
        call: &Call,
    ) -> Served {
        self.check_version(call, false)?;
        let (project, found) = self.repository_anywhere(identity, within, name)?;
        if !self.access().may(&identity.object_id, project, found, git::DELETE_REPOSITORY) {
            return Err(self.needs("DeleteRepository"));
        }
        let id = self.organization.repository_id(project, found);
        self.change(|state, organization| {
            let organization = organization_mut(state, organization)?;
            let gone = |project: &Project| {
                project.repositories.iter().position(|one| organization.repository_id(project, one) == id)
            };
            let place = organization.projects.iter().position(|project| gone(project).is_some());
            let at = place.and_then(|place| gone(organization.projects.get(place)?));
            if let Some((project, at)) = place.and_then(|place| organization.projects.get_mut(place)).zip(at) {
                project.repositories.remove(at);
            }
            Ok(())
        })?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// 403 for want of a right on repositories, as pushing gets it too.
    pub(super) fn needs(&self, right: &str) -> Denied {
        let message = format!("TF401027: You need the Git '{right}' permission to perform this action.");
        let kind = ErrorType("Microsoft.TeamFoundation.Git.Server", "GitNeedsPermissionException");
        Denied::no_right(self.answers.error(StatusCode::FORBIDDEN, &message, &kind))
    }

    pub(super) fn one_repository(&self, identity: &Identity, within: Option<&str>, name: &str) -> Served {
        let (within, found) = self.repository_anywhere(identity, within, name)?;
        Ok(json(StatusCode::OK, &repository(self.organization, within, found)))
    }

    fn repository_anywhere(
        &self,
        identity: &Identity,
        within: Option<&str>,
        name: &str,
    ) -> Result<(&Project, &Repository), Denied> {
        let within = match within {
            Some(within) => self.project(identity, within)?,
            // Without a project only an id is unambiguous, and a name is taken where it is found first.
            None => self
                .organization
                .projects
                .iter()
                .filter(|project| self.access().sees(&identity.object_id, project))
                .find(|project| self.organization.repository(project, name).is_some())
                .ok_or_else(|| Denied::no_right(self.answers.no_repository(name)))?,
        };
        Ok((within, self.repository(identity, within, name)?))
    }

    /// The name that the body gives to what is to be made.
    fn name_in(&self, call: &Call) -> Result<String, Denied> {
        let body = self.body(call)?;
        let name = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        name.map(ToOwned::to_owned).ok_or_else(|| self.bad_request("The body needs a 'name'."))
    }
}

fn operation_id(organization: &Organization, project: &Project) -> String {
    derived_id(&[&organization.project_id(project), "operation"])
}

fn operation(organization: &Organization, project: &Project, status: &str) -> Value {
    let id = operation_id(organization, project);
    json!({
        "id": id,
        "status": status,
        "url": format!("https://dev.azure.com/{}/_apis/operations/{id}", organization.name),
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
        "isDisabled": repository.is_disabled,
    });
    // An empty repository has no default branch. One on disk is taken to have a commit.
    let has_commits = repository.head.is_some() || repository.path.is_some();
    if let Some(body) = body.as_object_mut() {
        body.extend(has_commits.then(|| ("defaultBranch".to_owned(), json!("refs/heads/main"))));
    }
    body
}

fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}
