//! Git over HTTP: who may fetch and push. What is then served is [`crate::git`]'s.

use axum::body::Body;
use http::{Request, Response};
use url::form_urlencoded;

use super::access::git as rights;
use super::caller::Identity;
use super::{Denied, Exchange};
use crate::git;
use crate::journal::TokenVerdict;
use crate::state::{Licence, Project, Repository};

impl<'a> Exchange<'a> {
    /// Serves a path of a repository to those who may.
    pub(super) async fn git(
        &self,
        identity: &Identity,
        project: Option<&str>,
        repository: &str,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Denied> {
        let project = self.project(identity, project.unwrap_or(repository))?;
        let found = self.repository(identity, project, repository)?;
        if found.is_disabled {
            // That Git is told so could not be confirmed. REST shows the repository and says that it is disabled.
            return Err(Denied::new(TokenVerdict::Valid, self.answers.no_repository(repository)));
        }
        let is_push = is_push(path, request.uri().query());
        if is_push && !self.access().may(&identity.object_id, project, found, rights::CONTRIBUTE) {
            return Err(self.needs("GenericContribute"));
        }
        Ok(git::serve(self.world.git_backend(), found, path, request).await)
    }

    /// The project, when the identity may see it.
    pub(super) fn project(&self, identity: &Identity, name: &str) -> Result<&'a Project, Denied> {
        let project = self.organization.project(name).filter(|one| self.access().sees(&identity.object_id, one));
        project.ok_or_else(|| Denied::no_right(self.answers.no_project(name)))
    }

    /// The repository, when the identity has the right and the licence to read it.
    pub(super) fn repository(
        &self,
        identity: &Identity,
        project: &'a Project,
        name: &str,
    ) -> Result<&'a Repository, Denied> {
        let found = self.organization.repository(project, name);
        let readable = found.filter(|one| self.may_read(identity, project, one));
        readable.ok_or_else(|| Denied::no_right(self.answers.no_repository(name)))
    }

    /// Whether the identity has the right and the licence to read a repository.
    pub(super) fn may_read(&self, identity: &Identity, project: &Project, repository: &Repository) -> bool {
        let member = self.organization.member(&identity.object_id);
        let licensed = member.is_some_and(|member| member.licence == Licence::Basic && !member.expired);
        licensed && self.access().may(&identity.object_id, project, repository, rights::READ)
    }
}

fn is_push(path: &str, query: Option<&str>) -> bool {
    let asks_to_push = |query: &str| {
        form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "service" && value == "git-receive-pack")
    };
    path == "git-receive-pack" || query.is_some_and(asks_to_push)
}
