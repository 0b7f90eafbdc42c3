//! Who may do what: entries of access control lists, read and written for one identity at a time.
//!
//! Namespaces, tokens and bits: <https://learn.microsoft.com/azure/devops/organizations/security/namespace-reference>.
//! Changes are read back late: whoever writes waits until they are.

use std::collections::BTreeMap;

use flux_bearer::failure::Failure;
use flux_bearer::failure::devops_rest::Operation;
use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::DevOps;
use super::call::{Body, CORE, List, Target, V7_1, delete, get, send};
use crate::field::or_default;

/// A kind of things that have access control lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace(&'static str);

impl Namespace {
    /// Repositories: tokens by [`repository_token`].
    pub const GIT_REPOSITORIES: Self = Self("2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87");
    /// Projects: tokens by [`project_token`].
    pub const PROJECT: Self = Self("52d39943-cb85-4d7f-8fa8-c6baac873819");
    /// The organisation: its token is [`Namespace::COLLECTION_TOKEN`].
    pub const COLLECTION: Self = Self("3e65f728-f8bc-4ecd-8764-7e378b19bfa7");

    /// The one token of the organisation.
    pub const COLLECTION_TOKEN: &'static str = "NAMESPACE:";
}

/// Rights, each a bit in its namespace.
pub mod bits {
    /// Of a repository: fetch.
    pub const GIT_READ: u32 = 2;
    /// Of a repository: push.
    pub const GIT_CONTRIBUTE: u32 = 4;
    /// Of a repository: push a new branch.
    pub const GIT_CREATE_BRANCH: u32 = 16;
    /// Of a repository: change who may do what.
    pub const GIT_MANAGE_PERMISSIONS: u32 = 8192;
    /// Of a project: see it. Without it a right on one of its repositories opens nothing.
    pub const PROJECT_READ: u32 = 1;
    /// Of a project: change it, and who may do what.
    pub const PROJECT_WRITE: u32 = 2;
    /// Of the organisation: change it, and its members; what Project Collection Administrators have.
    pub const COLLECTION_WRITE: u32 = 2;
}

/// The token of a project, by its id.
pub fn project_token(project_id: &str) -> String {
    format!("$PROJECT:vstfs:///Classification/TeamProject/{project_id}")
}

/// The token of one repository, by the ids of its project and its own.
pub fn repository_token(project_id: &str, repository_id: &str) -> String {
    format!("repoV2/{project_id}/{repository_id}")
}

/// The token of a project and the one that it inherits from.
pub fn project_tokens(project_id: &str) -> [String; 2] {
    [project_token(project_id), "$PROJECT".to_owned()]
}

/// The token of a repository and those that it inherits from, the nearest first: its project's, the organisation's.
pub fn repository_tokens(project_id: &str, repository_id: &str) -> [String; 3] {
    [repository_token(project_id, repository_id), format!("repoV2/{project_id}"), "repoV2".to_owned()]
}

/// What an identity may do with a token's thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The bits that its own entry allows.
    pub allow: u32,
    /// The bits that its own entry denies.
    pub deny: u32,
    /// The bits that are allowed in the end, the entries of what it is inherited from included.
    pub effective_allow: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessControlList {
    #[serde(default, deserialize_with = "or_default")]
    aces_dictionary: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default, deserialize_with = "or_default")]
    allow: u32,
    #[serde(default, deserialize_with = "or_default")]
    deny: u32,
    #[serde(default, deserialize_with = "or_default")]
    extended_info: Extended,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extended {
    effective_allow: Option<u32>,
}

impl From<Entry> for Access {
    fn from(Entry { allow, deny, extended_info }: Entry) -> Self {
        Self { allow, deny, effective_allow: extended_info.effective_allow.unwrap_or(allow & !deny) }
    }
}

/// The entry of `descriptor`. The answer may name it by another, equivalent descriptor; asked for one, it has only one.
fn entry_of(descriptor: &str, lists: Vec<AccessControlList>) -> Option<Entry> {
    let mut entries: Vec<(String, Entry)> = lists.into_iter().flat_map(|list| list.aces_dictionary).collect();
    let named = entries.iter().position(|(name, _)| name.eq_ignore_ascii_case(descriptor));
    match named {
        Some(at) => Some(entries.swap_remove(at).1),
        None if entries.len() == 1 => entries.pop().map(|(_, entry)| entry),
        None => None,
    }
}

impl DevOps {
    /// What the identity with this descriptor may do; nothing where no entry names it.
    pub async fn access(&self, namespace: Namespace, token: &str, descriptor: &str) -> Result<Access, Failure> {
        let lists = self.lists(namespace, token, descriptor).await?;
        Ok(entry_of(descriptor, lists).map(Access::from).unwrap_or_default())
    }

    /// What the entries of identities and groups say at this token itself, by descriptor. Azure DevOps may name one
    /// by another, equivalent descriptor than it was asked for; who has no entry there is not in the answer.
    pub async fn entries(
        &self,
        namespace: Namespace,
        token: &str,
        descriptors: &[String],
    ) -> Result<Vec<(String, Access)>, Failure> {
        let lists = self.lists(namespace, token, &descriptors.join(",")).await?;
        let entries = lists.into_iter().flat_map(|list| list.aces_dictionary);
        Ok(entries.map(|(descriptor, entry)| (descriptor, Access::from(entry))).collect())
    }

    async fn lists(
        &self,
        namespace: Namespace,
        token: &str,
        descriptors: &str,
    ) -> Result<Vec<AccessControlList>, Failure> {
        let query =
            &[("token", token), ("descriptors", descriptors), ("includeExtendedInfo", "true"), ("recurse", "false")];
        let segments = &["_apis", "accesscontrollists", namespace.0];
        let lists: List<AccessControlList> = get(self, &at(Operation::ReadAccess, segments, query)).await?;
        Ok(lists.value)
    }

    /// Allows `bits` beside what the identity's entry says. What the entry denies stays denied.
    pub async fn grant(&self, namespace: Namespace, token: &str, descriptor: &str, bits: u32) -> Result<(), Failure> {
        self.write(namespace, token, true, &json!({"descriptor": descriptor, "allow": bits, "deny": 0})).await
    }

    /// Makes the identity's entry say exactly this.
    pub async fn set_access(
        &self,
        namespace: Namespace,
        token: &str,
        descriptor: &str,
        allow: u32,
        deny: u32,
    ) -> Result<(), Failure> {
        self.write(namespace, token, false, &json!({"descriptor": descriptor, "allow": allow, "deny": deny})).await
    }

    async fn write(&self, namespace: Namespace, token: &str, merge: bool, entry: &Value) -> Result<(), Failure> {
        let segments = &["_apis", "accesscontrolentries", namespace.0];
        let body = json!({"token": token, "merge": merge, "accessControlEntries": [entry]});
        let target = at(Operation::WriteAccess, segments, &[]);
        let written: List<IgnoredAny> = send(self, &target, Method::POST, Some(Body::Json(body))).await?;
        drop(written);
        Ok(())
    }

    /// Removes the identity's entry, if there is one.
    pub async fn revoke(&self, namespace: Namespace, token: &str, descriptor: &str) -> Result<(), Failure> {
        let query = &[("token", token), ("descriptors", descriptor)];
        let segments = &["_apis", "accesscontrolentries", namespace.0];
        delete(self, &at(Operation::WriteAccess, segments, query)).await
    }

    /// Whether the caller has all of `bits`.
    pub async fn has_permission(&self, namespace: Namespace, bits: u32, token: &str) -> Result<bool, Failure> {
        let bits = bits.to_string();
        let query = &[("tokens", token), ("alwaysAllowAdministrators", "false")];
        let segments = &["_apis", "permissions", namespace.0, &bits];
        let answers: List<bool> = get(self, &at(Operation::ReadAccess, segments, query)).await?;
        Ok(!answers.value.is_empty() && answers.value.into_iter().all(|answer| answer))
    }
}

fn at<'a>(operation: Operation, segments: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Target<'a> {
    Target { operation, host: CORE, segments, query, version: V7_1 }
}
