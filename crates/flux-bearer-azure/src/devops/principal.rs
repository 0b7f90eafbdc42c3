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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Principal {
    #[serde(deserialize_with = "text")]
    descriptor: String,
    #[serde(default, deserialize_with = "maybe")]
    origin_id: Option<String>,
    #[serde(default, deserialize_with = "shown")]
    display_name: String,
}

impl DevOps {
    /// The member that is the service principal with this object id in the tenant. All members are looked through:
    /// there is no question for one.
    pub async fn service_principal(&self, object_id: &str) -> Result<Option<Member>, Failure> {
        let segments = &["_apis", "graph", "serviceprincipals"];
        let target = graph(segments, &[], PREVIEW_1);
        let is_it = |one: &Principal| one.origin_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(object_id));
        let Some(principal) = search(self, &target, is_it).await? else { return Ok(None) };
        let Principal { descriptor, display_name: name, .. } = principal;
        let storage_key = self.storage_key(&descriptor).await?;
        Ok(storage_key.map(|storage_key| Member { descriptor, storage_key, name }))
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
