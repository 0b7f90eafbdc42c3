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
    /// Object ids of the members that are Project Collection Administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub administrators: Vec<String>,
    /// Basic licences that it has, taken and free; none means as many as are asked for. An entitlement that finds none
    /// free fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_licences: Option<u32>,
    /// Access control entries, as a security namespace has them. `readers` and `contributors` of a project or repository
    /// are the short way to write the usual ones; what is here adds to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_control: Vec<AccessControlEntry>,
    /// Seconds from the creation of an application until it can be added: VS403283 before. Default 0.
    #[serde(default)]
    pub entitlement_delay_seconds: u32,
    /// Seconds until a new or changed entry of `accessControl` is read back and in force. Default 0.
    #[serde(default)]
    pub acl_delay_seconds: u32,
    /// Seconds until the lists of Graph show a new member. Default 0.
    #[serde(default)]
    pub principal_delay_seconds: u32,
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
    /// Object id of the service principal or user.
    pub object_id: String,
    /// Its licence.
    #[serde(default)]
    pub licence: Licence,
    /// Whether the licence has expired, and no longer opens anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// When it was added; none means long ago. An edit of a running world dates what it adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
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
    /// None at all, as a member has that Graph added.
    None,
}

/// What a security namespace says of one identity at one token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessControlEntry {
    /// The namespace: its name, or its GUID.
    pub namespace: Namespace,
    /// The token, for example `repoV2/{project id}/{repository id}`. Case means nothing.
    pub token: String,
    /// Object id of the member, or the GUID of a group.
    pub object_id: String,
    /// Bits that are allowed.
    #[serde(default)]
    pub allow: u32,
    /// Bits that are denied, which wins over `allow`.
    #[serde(default)]
    pub deny: u32,
    /// When it was written; none means long ago. An edit of a running world dates what it adds or changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A security namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Namespace {
    /// Git repositories. Tokens: `repoV2`, `repoV2/{project id}`, `repoV2/{project id}/{repository id}`.
    #[default]
    #[serde(alias = "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87")]
    Git,
    /// Projects. Tokens: `$PROJECT`, `$PROJECT:vstfs:///Classification/TeamProject/{project id}`.
    #[serde(alias = "52d39943-cb85-4d7f-8fa8-c6baac873819")]
    Project,
    /// The organisation. Token: `NAMESPACE:`.
    #[serde(alias = "3e65f728-f8bc-4ecd-8764-7e378b19bfa7")]
    Collection,
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
    /// Object ids of the members that are Project Administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub administrators: Vec<String>,
    /// Who is in its other groups.
    #[serde(default, skip_serializing_if = "ProjectGroups::is_empty")]
    pub groups: ProjectGroups,
    /// Its Git repositories.
    #[serde(default)]
    pub repositories: Vec<Repository>,
}

/// The members of a project's groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProjectGroups {
    /// Object ids in Readers, who may see the project and fetch from all of its repositories.
    pub readers: Vec<String>,
    /// Object ids in Contributors, who may push too.
    pub contributors: Vec<String>,
}

impl ProjectGroups {
    fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.contributors.is_empty()
    }
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
    /// Object ids that may push (`GenericContribute`) and make branches (`CreateBranch`), which includes fetching here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<String>,
    /// Directory of a bare Git repository, from which a Git backend serves everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether it is disabled: Git then answers as if it were not there (which could not be confirmed).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_disabled: bool,
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

impl AccessControlEntry {
    /// Whether it is about the same as another: namespace, token and identity.
    fn is_about(&self, other: &Self) -> bool {
        self.is(other.namespace, &other.token, &other.object_id)
    }

    /// Whether this is its namespace, token and identity.
    pub(crate) fn is(&self, namespace: Namespace, token: &str, object_id: &str) -> bool {
        self.namespace == namespace
            && self.token.trim_end_matches('/').eq_ignore_ascii_case(token.trim_end_matches('/'))
            && self.object_id.eq_ignore_ascii_case(object_id)
    }
}

impl Organization {
    /// Dates the members that `before` did not have, and the entries that it did not have or had otherwise.
    pub(super) fn date_new_parts(&mut self, before: Option<&Self>, now: Timestamp) {
        for member in &mut self.members {
            if before.is_none_or(|before| before.member(&member.object_id).is_none()) {
                member.since.get_or_insert(now);
            }
        }
        let known = before.map(|before| before.access_control.as_slice()).unwrap_or_default();
        for entry in &mut self.access_control {
            let former = known.iter().find(|other| other.is_about(entry));
            if former.is_some_and(|former| (former.allow, former.deny) == (entry.allow, entry.deny)) {
                continue;
            }
            // A changed entry still has the date of what it was.
            if entry.since == former.and_then(|former| former.since) {
                entry.since = Some(now);
            }
        }
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
