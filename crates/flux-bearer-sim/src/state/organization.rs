//! The Azure DevOps part of the state.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Azure DevOps organisation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Organization {
    /// Its name, as in `https://dev.azure.com/{name}`.
    pub name: String,
    /// The tenant it is connected to. The all-zero GUID is an organisation backed by Microsoft accounts, which accepts
    /// no Entra token at all.
    pub tenant_id: String,
    /// Identities that were added to it.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Personal access tokens, which Git and REST take as a Basic password with any user or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personal_access_tokens: Vec<PersonalAccessToken>,
    /// Its projects.
    #[serde(default)]
    pub projects: Vec<Project>,
    /// Whether `connectionData` answers 200 with the anonymous identity when the token is missing or bad, as
    /// organisations do that allow public projects.
    #[serde(default)]
    pub anonymous_connection_data: bool,
    /// How a GET without a good token and without `X-TFS-FedAuthRedirect: Suppress` is answered.
    #[serde(default)]
    pub sign_in_answer: SignInAnswer,
    /// How a good token of an identity that is no member is answered.
    #[serde(default)]
    pub not_member_answer: NotMemberAnswer,
    /// Object ids that a Conditional Access policy keeps out: 403 VS403463.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by_conditional_access: Vec<String>,
    /// Rate limiting in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// How Azure DevOps asks a browser to sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SignInAnswer {
    /// 203 with an HTML page.
    #[default]
    Page,
    /// 302 to the sign-in service.
    Redirect,
}

/// How Azure DevOps refuses an identity that it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NotMemberAnswer {
    /// 401 TF400813.
    #[default]
    NotAuthorized,
    /// 401 TF401444.
    SignInOnce,
}

/// Rate limiting of an organisation: what its answers say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Seconds in the `Retry-After` header, which also comes on answers that were served.
    pub retry_after_seconds: u32,
    /// Whether requests are refused (429 TF400733) rather than served with a warning.
    #[serde(default)]
    pub blocked: bool,
}

/// An identity that was added to an organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Member {
    /// Object id of the service principal.
    pub object_id: String,
    /// Its licence.
    #[serde(default)]
    pub licence: Licence,
}

/// A personal access token (PAT), scoped to its organisation. Service principals can't have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonalAccessToken {
    /// Its value.
    pub value: String,
    /// Object id of the user it is of: the user's membership, licence and rights are the token's.
    pub object_id: String,
    /// When it expires; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
}

/// A licence of Azure DevOps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Licence {
    /// Basic (`express`): enough for Repos.
    #[default]
    Basic,
    /// Stakeholder: not enough for Repos, whatever the rights say.
    Stakeholder,
}

/// A project.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its GUID; none means one derived from the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Object ids that may see the project (`GENERIC_READ`). Without it even a readable repository can't be reached.
    #[serde(default)]
    pub readers: Vec<String>,
    /// Its Git repositories.
    #[serde(default)]
    pub repositories: Vec<Repository>,
}

/// A Git repository.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Its GUID; none means one derived from the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Object ids that may fetch (`GenericRead`).
    #[serde(default)]
    pub readers: Vec<String>,
    /// Object ids that may push (`GenericContribute`), which includes fetching here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<String>,
    /// Directory of a bare Git repository, from which a Git backend serves everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Commit of `refs/heads/main` where there is no `path`; none means an empty repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

impl Organization {
    /// The member of this object id.
    pub fn member(&self, object_id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.object_id.eq_ignore_ascii_case(object_id))
    }

    /// The project of this name or GUID.
    pub fn project(&self, name_or_id: &str) -> Option<&Project> {
        self.projects.iter().find(|project| {
            project.name.eq_ignore_ascii_case(name_or_id) || self.project_id(project).eq_ignore_ascii_case(name_or_id)
        })
    }

    /// The GUID of the organisation, derived from its name.
    pub fn id(&self) -> String {
        derived_id(&[&self.name])
    }

    /// The GUID of a project.
    pub fn project_id(&self, project: &Project) -> String {
        project.id.clone().unwrap_or_else(|| derived_id(&[&self.name, &project.name]))
    }

    /// The GUID of a repository.
    pub fn repository_id(&self, project: &Project, repository: &Repository) -> String {
        repository.id.clone().unwrap_or_else(|| derived_id(&[&self.name, &project.name, &repository.name]))
    }

    /// The repository of this name or GUID in a project.
    pub fn repository<'a>(&self, project: &'a Project, name_or_id: &str) -> Option<&'a Repository> {
        project.repositories.iter().find(|repository| {
            repository.name.eq_ignore_ascii_case(name_or_id)
                || self.repository_id(project, repository).eq_ignore_ascii_case(name_or_id)
        })
    }
}

impl Project {
    /// Whether this identity may see the project.
    pub fn is_readable_by(&self, object_id: &str) -> bool {
        holds(&self.readers, object_id)
    }
}

impl Repository {
    /// Whether this identity has the right to fetch.
    pub fn is_readable_by(&self, object_id: &str) -> bool {
        holds(&self.readers, object_id) || self.is_writable_by(object_id)
    }

    /// Whether this identity has the right to push.
    pub fn is_writable_by(&self, object_id: &str) -> bool {
        holds(&self.contributors, object_id)
    }
}

pub(crate) fn holds(ids: &[String], id: &str) -> bool {
    ids.iter().any(|other| other.eq_ignore_ascii_case(id))
}

/// A GUID that follows from these names, so that it is the same in every run.
pub(crate) fn derived_id(names: &[&str]) -> String {
    derived_uuid(names, '4')
}

/// The same with this version digit.
pub(crate) fn derived_uuid(names: &[&str], version: char) -> String {
    let text = names.join("/").to_lowercase();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    crate::random::format_uuid(bytes, version)
}
