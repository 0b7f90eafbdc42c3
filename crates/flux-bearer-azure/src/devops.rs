//! Azure DevOps' REST interface: what the set-up gives an identity there, and what it looks at.
//!
//! A call is one exchange, tried again a few times while Azure DevOps is busy, and a typed answer. What takes minutes
//! is the caller's to wait for: a new identity is found late, and a right that was written is read back late.
//!
//! Wire format: <https://learn.microsoft.com/rest/api/azure/devops/>, version 7.1.

mod access;
mod call;
mod entitlement;
mod principal;
mod tenant;

use flux_bearer::failure::Failure;
use flux_bearer::failure::devops_rest::{Operation, anonymous};
use serde::Deserialize;

pub use access::{Access, Namespace, bits, project_token, project_tokens, repository_token, repository_tokens};
pub use entitlement::{Entitlement, EntitlementStatus, Licence, NotAdded};
pub use flux_bearer::failure::devops_rest::EntitlementRefused;
pub use principal::{Group, Member};
pub use tenant::{Backing, discover_tenant};

use crate::devops::call::{CORE, PREVIEW_1, Target, V7_1, find, get};
use crate::field::{guid, maybe, or_default, shown, text};
use crate::operator::Session;

/// Who somebody is whom Azure DevOps doesn't know: its answers may be 200 all the same.
const ANYBODY: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// The tenant of an organisation that is connected to none.
const NO_TENANT: &str = "00000000-0000-0000-0000-000000000000";

/// One organisation, seen by whoever is signed in.
#[derive(Clone, Debug)]
pub struct DevOps {
    session: Session,
    organization: String,
}

/// Whom a token belongs to, in the organisation's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Its id in the organisation.
    #[serde(deserialize_with = "guid")]
    pub id: String,
    /// Its identity descriptor, by which rights are given.
    #[serde(default, deserialize_with = "maybe")]
    pub descriptor: Option<String>,
    /// Its name, for display.
    #[serde(rename = "providerDisplayName", default, deserialize_with = "shown")]
    pub name: String,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its id.
    #[serde(deserialize_with = "guid")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "text")]
    pub name: String,
}

/// A Git repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitRepository {
    /// Its id.
    #[serde(deserialize_with = "guid")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Whether somebody has disabled it: nobody can fetch from it then.
    #[serde(default, deserialize_with = "or_default")]
    pub is_disabled: bool,
    /// Its default branch, for example `refs/heads/main`; none before the first push.
    #[serde(default, deserialize_with = "maybe")]
    pub default_branch: Option<String>,
    /// Its URL as the portal shows it, with a user.
    #[serde(deserialize_with = "text")]
    pub remote_url: String,
    /// The project it is in.
    pub project: Project,
}

impl DevOps {
    /// The organisation of this name, seen by `session`.
    pub fn new(session: Session, organization: impl Into<String>) -> Self {
        Self { session, organization: organization.into() }
    }

    /// Whom Azure DevOps takes the caller for.
    ///
    /// # Errors
    /// [`anonymous`] where it takes it for nobody; otherwise see [`flux_bearer::failure::devops_rest`], as for every call.
    pub async fn who_am_i(&self) -> Result<Caller, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Connection {
            authenticated_user: Caller,
        }
        let query = &[("connectOptions", "none"), ("lastChangeId", "-1"), ("lastChangeId64", "-1")];
        let segments = &["_apis", "connectionData"];
        let target = Target { operation: Operation::WhoAmI, host: CORE, segments, query, version: PREVIEW_1 };
        let caller = get::<Connection>(self, &target).await?.authenticated_user;
        if [ANYBODY, NOBODY].contains(&caller.id.as_str()) { Err(anonymous()) } else { Ok(caller) }
    }

    /// The project of this name or id, if the caller may see it.
    pub async fn project(&self, name_or_id: &str) -> Result<Option<Project>, Failure> {
        let segments = &["_apis", "projects", name_or_id];
        let target = Target { operation: Operation::ReadProject, host: CORE, segments, query: &[], version: V7_1 };
        find(self, &target).await
    }

    /// The repository of this name or id in a project, if the caller may see it.
    pub async fn repository(&self, project: &str, name_or_id: &str) -> Result<Option<GitRepository>, Failure> {
        let segments = &[project, "_apis", "git", "repositories", name_or_id];
        let target = Target { operation: Operation::ReadRepository, host: CORE, segments, query: &[], version: V7_1 };
        find(self, &target).await
    }
}
