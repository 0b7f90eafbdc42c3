//! Licences: what makes a service principal a member that may open repositories.
//!
//! Wire format: Service Principal Entitlements under
//! <https://learn.microsoft.com/rest/api/azure/devops/memberentitlementmanagement/>.

use flux_bearer::failure::Failure;
use flux_bearer::failure::devops_rest::{EntitlementRefused, Operation};
use http::Method;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::DevOps;
use super::call::{Body, ENTITLEMENTS, PREVIEW_1, Target, delete, find, send};
use crate::field::{guid, or_default};
use crate::resource::Resource;
use crate::rest::malformed;

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// The member's id in the organisation: its storage key.
    pub id: String,
    /// Its licence.
    pub licence: Licence,
    /// Whether the licence counts.
    pub status: EntitlementStatus,
}

/// A licence, by Azure DevOps' word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Licence {
    /// `stakeholder`: opens no repository.
    Stakeholder,
    /// `express`: Basic.
    Basic,
    /// `advanced`: Basic and Test Plans.
    BasicAndTestPlans,
    /// `professional`: of Visual Studio.
    Professional,
    /// `earlyAdopter`: what some organisations give instead of any other.
    EarlyAdopter,
    /// `none`, or a word that is not known.
    None,
}

impl Licence {
    /// Whether a member with it can be given repositories.
    pub fn opens_repositories(self) -> bool {
        !matches!(self, Self::Stakeholder | Self::None)
    }
}

/// Whether a licence counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntitlementStatus {
    /// It counts.
    Active,
    /// It counts, and has not been used yet.
    Pending,
    /// It doesn't: disabled, expired, deleted, or a word that is not known.
    Inactive,
}

/// Why an identity was not added, or its licence not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// Azure DevOps refuses, inside an answer that says 200.
    Refused(EntitlementRefused),
    /// The call failed.
    Failed(Failure),
}

impl From<Failure> for NotAdded {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NotAdded> for Failure {
    fn from(not_added: NotAdded) -> Self {
        match not_added {
            NotAdded::Refused(refused) => refused.failure(),
            NotAdded::Failed(failure) => failure,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(deserialize_with = "guid")]
    id: String,
    access_level: AccessLevel,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessLevel {
    #[serde(deserialize_with = "licence")]
    account_license_type: Licence,
    #[serde(deserialize_with = "status")]
    status: EntitlementStatus,
}

impl From<Wire> for Entitlement {
    fn from(Wire { id, access_level: AccessLevel { account_license_type: licence, status } }: Wire) -> Self {
        Self { id, licence, status }
    }
}

fn licence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Licence, D::Error> {
    let known = [
        ("stakeholder", Licence::Stakeholder),
        ("express", Licence::Basic),
        ("advanced", Licence::BasicAndTestPlans),
        ("professional", Licence::Professional),
        ("earlyAdopter", Licence::EarlyAdopter),
    ];
    Ok(named(&String::deserialize(deserializer)?, &known).unwrap_or(Licence::None))
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EntitlementStatus, D::Error> {
    let known = [("active", EntitlementStatus::Active), ("pending", EntitlementStatus::Pending)];
    Ok(named(&String::deserialize(deserializer)?, &known).unwrap_or(EntitlementStatus::Inactive))
}

fn named<T: Copy>(word: &str, known: &[(&str, T)]) -> Option<T> {
    known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
}

/// What came of a change.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default)]
    is_success: bool,
    #[serde(default, deserialize_with = "or_default")]
    operation_result: Errors,
    #[serde(default, deserialize_with = "or_default")]
    operation_results: Vec<Errors>,
    /// Null, or without anything in it, when nothing came of it.
    #[serde(default)]
    service_principal_entitlement: Value,
}

#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default, deserialize_with = "or_default")]
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
}

impl Outcome {
    fn read(self) -> Result<Entitlement, NotAdded> {
        if !self.is_success {
            return Err(NotAdded::Refused(self.refusal()));
        }
        let read = serde_json::from_value::<Wire>(self.service_principal_entitlement);
        read.map(Entitlement::from).map_err(|_| malformed(Resource::AzureDevOps).into())
    }

    fn refusal(&self) -> EntitlementRefused {
        let results = std::iter::once(&self.operation_result).chain(&self.operation_results);
        let number = |key: &Value| key.as_u64().and_then(|key| key.try_into().ok()).unwrap_or_default();
        let errors: Vec<(u32, &str)> = results
            .flat_map(|result| &result.errors)
            .map(|reason| (number(&reason.key), reason.value.as_str().unwrap_or_default()))
            .collect();
        EntitlementRefused::from_errors(&errors)
    }
}

impl DevOps {
    /// The entitlement of the member with this id, its storage key.
    pub async fn entitlement(&self, id: &str) -> Result<Option<Entitlement>, Failure> {
        let segments = &["_apis", COLLECTION, id];
        Ok(find::<Wire>(self, &at(Operation::ReadEntitlement, segments)).await?.map(Entitlement::from))
    }

    /// Makes the service principal with this object id a member with a Basic licence, and gives it nothing else. Look
    /// first: it is not documented what comes of a member that is there already.
    pub async fn add_entitlement(&self, object_id: &str) -> Result<Entitlement, NotAdded> {
        let body = json!({
            "accessLevel": basic(),
            "servicePrincipal": {"origin": "aad", "originId": object_id, "subjectKind": "servicePrincipal"},
        });
        let target = at(Operation::WriteEntitlement, &["_apis", COLLECTION]);
        send::<Outcome>(self, &target, Method::POST, Some(Body::Json(body))).await?.read()
    }

    /// Gives a member a Basic licence instead of the one that it has.
    pub async fn update_licence(&self, id: &str) -> Result<Entitlement, NotAdded> {
        let body = json!([{"from": "", "op": "replace", "path": "/accessLevel", "value": basic()}]);
        let segments = &["_apis", COLLECTION, id];
        let target = at(Operation::WriteEntitlement, segments);
        send::<Outcome>(self, &target, Method::PATCH, Some(Body::Patch(body))).await?.read()
    }

    /// Removes a member from the organisation and frees its licence, if it is there.
    pub async fn delete_entitlement(&self, id: &str) -> Result<(), Failure> {
        delete(self, &at(Operation::WriteEntitlement, &["_apis", COLLECTION, id])).await
    }
}

const COLLECTION: &str = "serviceprincipalentitlements";

fn at<'a>(operation: Operation, segments: &'a [&'a str]) -> Target<'a> {
    Target { operation, host: ENTITLEMENTS, segments, query: &[], version: PREVIEW_1 }
}

/// The kind of licence counts only together with its source.
fn basic() -> Value {
    json!({"accountLicenseType": "express", "licensingSource": "account"})
}
