//! Git over HTTP: who may fetch and push. What is then served is [`crate::git`]'s.

use axum::body::Body;
use http::{Request, Response, StatusCode};
use url::form_urlencoded;

use super::answer::ErrorType;
use super::caller::Identity;
use super::{Denied, Exchange};
use crate::git;
use crate::state::{Licence, Project, Repository};

impl Exchange<'_> {
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
        let repository = self.repository(identity, project, repository)?;
        if is_push(path, request.uri().query()) && !repository.is_writable_by(&identity.object_id) {
            let message = "TF401027: You need the Git 'GenericContribute' permission to perform this action.";
            let kind = ErrorType("Microsoft.TeamFoundation.Git.Server", "GitNeedsPermissionException");
            return Err(Denied::no_right(self.answers.error(StatusCode::FORBIDDEN, message, &kind)));
        }
        Ok(git::serve(self.world.git_backend(), repository, path, request).await)
    }

    /// The project, when the identity may see it.
    pub(super) fn project(&self, identity: &Identity, name: &str) -> Result<&Project, Denied> {
        let project = self.organization.project(name).filter(|one| one.is_readable_by(&identity.object_id));
        project.ok_or_else(|| Denied::no_right(self.answers.no_project(name)))
    }

    /// The repository, when the identity has the right and the licence to read it.
    pub(super) fn repository<'a>(
        &self,
        identity: &Identity,
        project: &'a Project,
        name: &str,
    ) -> Result<&'a Repository, Denied> {
        let repository = self.organization.repository(project, name).filter(|one| self.may_read(identity, one));
        repository.ok_or_else(|| Denied::no_right(self.answers.no_repository(name)))
    }

    /// Whether the identity has the right and the licence to read a repository.
    pub(super) fn may_read(&self, identity: &Identity, repository: &Repository) -> bool {
        let licence = self.organization.member(&identity.object_id).map(|member| member.licence);
        licence == Some(Licence::Basic) && repository.is_readable_by(&identity.object_id)
    }
}

fn is_push(path: &str, query: Option<&str>) -> bool {
    let asks_to_push = |query: &str| {
        form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "service" && value == "git-receive-pack")
    };
    path == "git-receive-pack" || query.is_some_and(asks_to_push)
}
