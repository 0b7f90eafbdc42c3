//! Service principals as members of an organisation, and the three names that each has there.

use flux_bearer::failure::Failure;
use flux_bearer::failure::devops_rest::Operation;
use serde::Deserialize;

use super::DevOps;
use super::call::{GRAPH, List, PREVIEW_1, Target, V7_1, find, get, search};
use crate::field::{guid, maybe, shown, text};

/// A service principal that is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its subject descriptor, for example `aadsp.YjM0…`.
    pub descriptor: String,
    /// Its id in the organisation, by which its licence is read, changed and taken back.
    pub storage_key: String,
    /// Its name, for display.
    pub name: String,
    /// What it signs in as, where Azure DevOps says it.
    pub client_id: Option<String>,
    /// Whether it is a managed identity, and not an app registration.
    pub is_managed_identity: bool,
}

/// A group of the organisation or of one of its projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its subject descriptor, for example `vssgp.Uy0x…`.
    pub descriptor: String,
    /// Its identity descriptor, by which it has rights.
    pub identity: String,
    /// Its name with its project or organisation, for display: `[platform]\Readers`.
    pub name: String,
}

/// How many groups of one member are looked at; nobody is in more by intent.
const MAX_GROUPS: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Principal {
    #[serde(deserialize_with = "text")]
    descriptor: String,
    #[serde(default, deserialize_with = "maybe")]
    origin_id: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    application_id: Option<String>,
    #[serde(default, deserialize_with = "maybe")]
    meta_type: Option<String>,
    #[serde(default, deserialize_with = "shown")]
    display_name: String,
}

impl DevOps {
    /// The member that is the service principal with this object id in the tenant. All members are looked through:
    /// there is no question for one.
    pub async fn service_principal(&self, object_id: &str) -> Result<Option<Member>, Failure> {
        self.member(|one| one.origin_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(object_id))).await
    }

    /// The member that signs in with this client id, looked for in the same way.
    pub async fn service_principal_of_client(&self, client_id: &str) -> Result<Option<Member>, Failure> {
        self.member(|one| one.application_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(client_id))).await
    }

    async fn member(&self, is_it: impl Fn(&Principal) -> bool) -> Result<Option<Member>, Failure> {
        let segments = &["_apis", "graph", "serviceprincipals"];
        let target = graph(segments, &[], PREVIEW_1);
        let Some(principal) = search(self, &target, is_it).await? else { return Ok(None) };
        let Principal { descriptor, application_id: client_id, meta_type, display_name: name, .. } = principal;
        let Some(storage_key) = self.storage_key(&descriptor).await? else { return Ok(None) };
        let is_managed_identity = meta_type.is_some_and(|kind| kind.eq_ignore_ascii_case("managedIdentity"));
        Ok(Some(Member { descriptor, storage_key, name, client_id, is_managed_identity }))
    }

    /// The groups that a member is in, by itself or through another group.
    pub async fn groups(&self, subject_descriptor: &str) -> Result<Vec<Group>, Failure> {
        let mut known: Vec<String> = Vec::new();
        let mut open = vec![subject_descriptor.to_owned()];
        while let Some(descriptor) = open.pop() {
            for container in self.containers(&descriptor).await? {
                if known.len() < MAX_GROUPS && !known.contains(&container) {
                    known.push(container.clone());
                    open.push(container);
                }
            }
        }
        let mut groups = Vec::new();
        for descriptor in known {
            groups.extend(self.group(descriptor).await?);
        }
        Ok(groups)
    }

    /// The subject descriptors of what a member or group is in by itself.
    async fn containers(&self, subject_descriptor: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Membership {
            #[serde(deserialize_with = "text")]
            container_descriptor: String,
        }
        let segments = &["_apis", "graph", "memberships", subject_descriptor];
        let query = &[("direction", "up"), ("depth", "1")];
        let list: List<Membership> = get(self, &graph(segments, query, PREVIEW_1)).await?;
        Ok(list.value.into_iter().map(|one| one.container_descriptor).collect())
    }

    async fn group(&self, descriptor: String) -> Result<Option<Group>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Described {
            #[serde(default, deserialize_with = "shown")]
            principal_name: String,
        }
        let segments = &["_apis", "graph", "groups", &descriptor];
        let found: Option<Described> = find(self, &graph(segments, &[], PREVIEW_1)).await?;
        let Some(Described { principal_name: name }) = found else { return Ok(None) };
        let identity = self.identity_descriptor(&descriptor).await?;
        Ok(identity.map(|identity| Group { descriptor, identity, name }))
    }

    async fn storage_key(&self, descriptor: &str) -> Result<Option<String>, Failure> {
        #[derive(Deserialize)]
        struct Key {
            #[serde(deserialize_with = "guid")]
            value: String,
        }
        let segments = &["_apis", "graph", "storagekeys", descriptor];
        Ok(find::<Key>(self, &graph(segments, &[], PREVIEW_1)).await?.map(|key| key.value))
    }

    /// The identity descriptor of a member, by which rights are given; none until Azure DevOps knows it.
    pub async fn identity_descriptor(&self, subject_descriptor: &str) -> Result<Option<String>, Failure> {
        #[derive(Deserialize)]
        struct Identity {
            #[serde(deserialize_with = "text")]
            descriptor: String,
        }
        let query = &[("subjectDescriptors", subject_descriptor), ("queryMembership", "None")];
        let target = graph(&["_apis", "identities"], query, V7_1);
        // An identity that can't be found is a null in its place.
        let list: List<Option<Identity>> = get(self, &target).await?;
        Ok(list.value.into_iter().flatten().next().map(|identity| identity.descriptor))
    }
}

fn graph<'a>(segments: &'a [&'a str], query: &'a [(&'a str, &'a str)], version: &'static str) -> Target<'a> {
    Target { operation: Operation::ReadPrincipals, host: GRAPH, segments, query, version }
}
