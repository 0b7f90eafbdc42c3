//! What the metadata of a Secret tells of the credentials in it. Its data is never read.

use flux_bearer::NAME;
use flux_bearer::secret::RECORD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

/// The keys under which Flux looks for a credential.
const KEYS: [&str; 5] = ["bearerToken", "username", "password", "identity", "identity.pub"];

/// What the metadata of a Secret tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// The BearerToken that fills it, if any.
    pub filled_by: Option<String>,
    /// The credentials that others wrote: key, and who.
    pub foreign: Vec<(String, String)>,
}

impl SecretFacts {
    /// Reads the annotation and the managed fields.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let record = metadata.annotations.as_ref().and_then(|all| all.get(RECORD));
        let record = record.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let filled_by = record.as_ref().and_then(|record| record.get("bearerToken")?.as_str().map(str::to_owned));
        let foreign = metadata.managed_fields.iter().flatten().flat_map(foreign).collect();
        Self { filled_by, foreign }
    }
}

/// The credential keys that somebody else than a BearerToken owns by this entry.
fn foreign(entry: &ManagedFieldsEntry) -> Vec<(String, String)> {
    let manager = entry.manager.as_deref().unwrap_or("somebody");
    if manager.strip_prefix(NAME).is_some_and(|rest| rest.starts_with('/')) {
        return Vec::new();
    }
    let data = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:data"));
    let owned = KEYS.iter().filter(|key| data.is_some_and(|data| data.get(format!("f:{key}")).is_some()));
    owned.map(|key| ((*key).to_owned(), manager.to_owned())).collect()
}
