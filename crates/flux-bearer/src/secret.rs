//! The Secret that Flux reads: what its metadata says about it, who owns its keys, and what is written to it.
//!
//! Only metadata is ever looked at. What has to be known of the token in the Secret (expiry, identity, generation) is an
//! annotation, written with the token in one apply: so the two can't disagree, a restart mints nothing, and a Secret that
//! comes back from a backup tells that it is old.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::NAME;
use crate::identity::Identity;
use crate::resource::{Format, StatusIdentity};
use crate::token::Token;

/// The annotation that holds the [`Record`].
pub const RECORD: &str = "flux-bearer.dev/token";

/// The label that every Secret of ours carries, with the value [`NAME`]. Never `flux`: `flux uninstall` deletes that.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// What the Secret remembers of the token it holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Name of the BearerToken that wrote it.
    pub bearer_token: String,
    /// Generation of its spec.
    pub generation: i64,
    /// The identity that filled it: the last one that worked.
    pub identity: Identity,
    /// Whose token it is.
    pub holder: StatusIdentity,
    /// The keys that were written.
    pub formats: Vec<Format>,
    /// When the token was received.
    pub issued_at: Timestamp,
    /// When it is to be replaced.
    pub refresh_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Tells it from another token without showing it.
    pub fingerprint: String,
}

/// Which state of which object a write is about: the API server refuses it (409) once another has come between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// uid of the Secret.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

/// What the metadata of the Secret says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Held {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// There is no such Secret.
    Absent,
    /// It is ours to write.
    Ours {
        /// What a write is pinned to.
        version: Version,
        /// What it remembers, unless that can't be read.
        record: Option<Box<Record>>,
        /// Whether somebody else has changed what we wrote: then it is taken back at once.
        drift: bool,
        /// Whether somebody else owns a key of ours as well: then the next write takes it from them.
        shared: bool,
    },
    /// It belongs to somebody else and is left alone.
    Foreign {
        /// Who, in words.
        owner: String,
    },
}

impl Held {
    /// What `metadata` says to the BearerToken `name`. `lives` tells whether a BearerToken of that name still exists in the
    /// namespace: what a deleted or renamed one left behind goes to its successor, for otherwise a rename would lock Flux out.
    pub fn read(metadata: Option<&ObjectMeta>, name: &str, lives: impl Fn(&str) -> bool) -> Self {
        let Some(metadata) = metadata else { return Self::Absent };
        let record = record(metadata);
        let ours = applied_by(metadata, &field_manager(name));
        let writer = record.as_ref().map(|record| record.bearer_token.as_str());
        match (writer, ours) {
            (Some(other), _) if other != name && lives(other) => {
                Self::Foreign { owner: format!("BearerToken {other}") }
            }
            (None, None) => Self::Foreign { owner: owner(metadata) },
            _ => Self::Ours {
                drift: drifted(record.as_ref(), ours),
                shared: shared(metadata, record.as_ref(), name, &lives),
                version: version(metadata),
                record: record.map(Box::new),
            },
        }
    }

    /// What the Secret remembers, where it is ours.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Ours { record, .. } => record.as_deref(),
            _ => None,
        }
    }
}

/// The field manager of a BearerToken. One each, so that two of them conflict instead of overwriting each other.
pub fn field_manager(name: &str) -> String {
    // The API server takes at most 128 characters, and a name may have 253.
    format!("{NAME}/{name}").chars().take(128).collect()
}

/// The keys that a format writes.
pub fn keys(formats: &[Format]) -> Vec<&'static str> {
    let of = |format: &Format| match format {
        Format::Bearer => &["bearerToken"][..],
        Format::Basic => &["username", "password"],
    };
    formats.iter().flat_map(of).copied().collect()
}

/// The body of the server-side apply that puts `token` into the Secret, as JSON. It is as secret as the token.
pub fn manifest(
    namespace: &str,
    name: &str,
    version: Option<&Version>,
    token: &Token,
    record: &Record,
) -> Option<SecretString> {
    let encode = |text: &str| Zeroizing::new(STANDARD.encode(text));
    let value = |key: &str| match key {
        // Azure DevOps takes any user name but an empty one.
        "username" => encode(token.holder.client_id.as_deref().unwrap_or(NAME)),
        _ => encode(token.secret.expose_secret()),
    };
    let values: Vec<(&str, Zeroizing<String>)> =
        keys(&record.formats).into_iter().map(|key| (key, value(key))).collect();
    let annotation = serde_json::to_string(record).ok()?;
    let body = Manifest {
        api_version: "v1",
        kind: "Secret",
        metadata: ManifestMeta {
            name,
            namespace,
            uid: version.map(|version| version.uid.as_str()),
            resource_version: version.map(|version| version.resource_version.as_str()),
            labels: BTreeMap::from([(PART_OF, NAME)]),
            annotations: BTreeMap::from([(RECORD, annotation.as_str())]),
        },
        kind_of_secret: "Opaque",
        data: values.iter().map(|(key, value)| (*key, value.as_str())).collect(),
    };
    serde_json::to_string(&body).ok().map(SecretString::from)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: ManifestMeta<'a>,
    #[serde(rename = "type")]
    kind_of_secret: &'a str,
    data: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestMeta<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
}

fn record(metadata: &ObjectMeta) -> Option<Record> {
    serde_json::from_str(metadata.annotations.as_ref()?.get(RECORD)?).ok()
}

fn version(metadata: &ObjectMeta) -> Version {
    Version {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn applied_by<'a>(metadata: &'a ObjectMeta, manager: &str) -> Option<&'a ManagedFieldsEntry> {
    let applied = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
    };
    metadata.managed_fields.iter().flatten().find(applied)
}

/// Whether a key of ours, or the record, is no longer owned by our apply: somebody changed or removed it.
fn drifted(record: Option<&Record>, ours: Option<&ManagedFieldsEntry>) -> bool {
    let (Some(record), Some(fields)) = (record, ours.and_then(|entry| entry.fields_v1.as_ref())) else { return true };
    let owns = |path: [&str; 3]| path.iter().try_fold(&fields.0, |at, part| at.get(part)).is_some();
    let annotation = format!("f:{RECORD}");
    let data = fields.0.get("f:data");
    let keys_owned =
        keys(&record.formats).iter().all(|key| data.is_some_and(|data| data.get(format!("f:{key}")).is_some()));
    !(keys_owned && owns(["f:metadata", "f:annotations", &annotation]))
}

/// Whether somebody else owns a key of ours as well, which makes an unforced apply fail. A BearerToken that lives is
/// left its right to a conflict. One that is gone is not: who took over with the very token that the Secret held shares
/// its keys with it.
fn shared(metadata: &ObjectMeta, record: Option<&Record>, name: &str, lives: impl Fn(&str) -> bool) -> bool {
    let ours = record.map(|record| keys(&record.formats)).unwrap_or_default();
    let other = |entry: &&ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let bearer_token = manager.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/'));
        bearer_token.is_none_or(|other| other != name && !lives(other))
    };
    metadata.managed_fields.iter().flatten().filter(other).any(|entry| {
        let data = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:data"));
        ours.iter().any(|key| data.is_some_and(|data| data.get(format!("f:{key}")).is_some()))
    })
}

/// Whom the Secret belongs to, as far as its managed fields tell.
fn owner(metadata: &ObjectMeta) -> String {
    let managers = metadata.managed_fields.iter().flatten();
    let of_data =
        managers.clone().find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some()));
    let named = of_data.or(managers.clone().next()).and_then(|entry| entry.manager.as_deref());
    named.unwrap_or("an unknown writer").chars().filter(|char| !char.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn a_record() -> Record {
        Record {
            bearer_token: "flux-system".into(),
            generation: 1,
            identity: Identity::WorkloadIdentity { tenant_id: "t".into(), client_id: "c".into() },
            holder: StatusIdentity::default(),
            formats: vec![Format::Bearer],
            issued_at: NOW,
            refresh_at: NOW + Duration::from_secs(1500),
            expires_at: NOW + Duration::from_secs(3600),
            fingerprint: "f".into(),
        }
    }

    fn entry(manager: &str, fields: serde_json::Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some("Apply".into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn ours() -> serde_json::Value {
        serde_json::json!({"f:data": {"f:bearerToken": {}}, "f:metadata": {"f:annotations": {"f:flux-bearer.dev/token": {}}}})
    }

    fn metadata(record: Option<&Record>, managers: Vec<ManagedFieldsEntry>) -> ObjectMeta {
        ObjectMeta {
            uid: Some("u".into()),
            resource_version: Some("7".into()),
            annotations: record.map(|record| BTreeMap::from([(RECORD.into(), serde_json::to_string(record).unwrap())])),
            managed_fields: Some(managers),
            ..ObjectMeta::default()
        }
    }

    fn read(metadata: &ObjectMeta) -> Held {
        Held::read(Some(metadata), "flux-system", |other| other == "alive")
    }

    fn drift(held: &Held) -> Option<bool> {
        match held {
            Held::Ours { drift, .. } => Some(*drift),
            _ => None,
        }
    }

    #[test]
    fn what_we_applied_is_ours_and_has_not_drifted() {
        let held = read(&metadata(Some(&a_record()), vec![entry("flux-bearer/flux-system", ours())]));
        assert_eq!(drift(&held), Some(false));
        assert_eq!(held.record(), Some(&a_record()));
    }

    #[test]
    fn a_key_that_somebody_changed_has_drifted() {
        let lost = serde_json::json!({"f:metadata": {"f:annotations": {"f:flux-bearer.dev/token": {}}}});
        let edited = vec![entry("flux-bearer/flux-system", lost), entry("kubectl-edit", ours())];
        assert_eq!(drift(&read(&metadata(Some(&a_record()), edited))), Some(true));
    }

    #[test]
    fn a_key_that_somebody_else_owns_too_is_taken_with_the_next_write_only() {
        let shared = |managers| match read(&metadata(Some(&a_record()), managers)) {
            Held::Ours { shared, drift, .. } => (shared, drift),
            other => panic!("{other:?}"),
        };
        let both = |other: &str| vec![entry("flux-bearer/flux-system", ours()), entry(other, ours())];
        assert_eq!(shared(both("kubectl")), (true, false));
        assert_eq!(shared(both("flux-bearer/alive")), (false, false));
        assert_eq!(shared(both("flux-bearer/gone")), (true, false));
    }

    #[test]
    fn a_secret_restored_from_a_backup_is_ours_and_is_written_again() {
        assert_eq!(drift(&read(&metadata(Some(&a_record()), vec![entry("velero", ours())]))), Some(true));
    }

    #[test]
    fn a_secret_of_somebody_else_is_foreign_and_its_owner_is_named() {
        let held = read(&metadata(None, vec![entry("flux", serde_json::json!({"f:data": {"f:password": {}}}))]));
        assert_eq!(held, Held::Foreign { owner: "flux".into() });
    }

    #[test]
    fn another_bearer_token_keeps_its_secret_while_it_lives() {
        let of = |name: &str| Record { bearer_token: name.into(), ..a_record() };
        let by = |name: &str| vec![entry(&format!("flux-bearer/{name}"), ours())];
        assert_eq!(
            read(&metadata(Some(&of("alive")), by("alive"))),
            Held::Foreign { owner: "BearerToken alive".into() }
        );
        assert_eq!(drift(&read(&metadata(Some(&of("renamed")), by("renamed")))), Some(true));
    }

    #[test]
    fn the_manifest_is_pinned_and_holds_the_keys_of_its_formats_only() {
        let token = Token {
            secret: "tok".into(),
            fingerprint: "f".into(),
            issued_at: NOW,
            expires_at: NOW,
            refresh_hint: None,
            holder: StatusIdentity { client_id: Some("c".into()), ..StatusIdentity::default() },
            verified: true,
        };
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        let of = |formats: Vec<Format>| {
            let record = Record { formats, ..a_record() };
            let body = manifest("ns", "s", Some(&version), &token, &record).unwrap();
            serde_json::from_str::<serde_json::Value>(body.expose_secret()).unwrap()
        };
        let bearer = of(vec![Format::Bearer]);
        assert_eq!(bearer["data"], serde_json::json!({"bearerToken": STANDARD.encode("tok")}));
        assert_eq!((&bearer["metadata"]["uid"], &bearer["metadata"]["resourceVersion"]), (&"u".into(), &"7".into()));
        assert_eq!(bearer["type"], "Opaque");
        let basic = of(vec![Format::Basic]);
        assert_eq!(
            basic["data"],
            serde_json::json!({"username": STANDARD.encode("c"), "password": STANDARD.encode("tok")})
        );
    }
}
