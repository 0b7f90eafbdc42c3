//! The Secret that Flux reads: what its metadata says about it, who owns its keys, and what is written to it.
//!
//! Only metadata is ever looked at. What has to be known of the token in the Secret (expiry, identity, generation) is an
//! annotation, written with the token in one apply: so the two can't disagree, a restart mints nothing, and a Secret that
//! comes back from a backup tells that it is old.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use crate::NAME;
use crate::identity::Identity;
use crate::resource::{DeletionPolicy, Format, StatusIdentity};
use crate::token::Token;

/// The annotation that holds the [`Record`].
pub const RECORD: &str = "flux-bearer.dev/token";

/// Where `kubectl apply` keeps a copy of what it applied, a password in clear included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The keys under which a GitRepository looks for a credential. In an adopted Secret those that we don't write are removed;
/// `token` is not among them, for it may be a Provider's and of any service.
const CREDENTIAL_KEYS: [&str; 5] = ["bearerToken", "username", "password", "identity", "identity.pub"];

/// The label that every Secret of ours carries, with the value [`NAME`]. Never `flux`: `flux uninstall` deletes that.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// What the Secret remembers of the token it holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Name of the BearerToken that wrote it.
    pub bearer_token: Arc<str>,
    /// Generation of its spec.
    pub generation: i64,
    /// The identity that filled it: the last one that worked.
    pub identity: Arc<Identity>,
    /// Whose token it is.
    pub holder: Arc<StatusIdentity>,
    /// The keys that were written.
    #[serde(deserialize_with = "formats")]
    pub formats: &'static [Format],
    /// When the token was received.
    pub issued_at: Timestamp,
    /// When it is to be replaced.
    pub refresh_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When the credential expires that brought it, where that is known: a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_expires_at: Option<Timestamp>,
    /// Tells it from another token without showing it.
    pub fingerprint: Box<str>,
    /// Whether we made the Secret. An adopted one is never deleted.
    #[serde(default)]
    pub made: bool,
    /// What becomes of the Secret when its BearerToken is gone: nobody is left then who could say.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Which state of which object a write is about: the API server refuses it (409) once another has come between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// uid of the Secret.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub resource_version: Box<str>,
}

impl Version {
    /// The state of the object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
        Self { uid: text(&metadata.uid), resource_version: text(&metadata.resource_version) }
    }
}

/// How a Secret of ours differs from what we wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Somebody has changed it: who, in words.
    By(Box<str>),
    /// It was that of another BearerToken, which is gone.
    Inherited,
}

/// Keys that we don't write, in a Secret of ours, and that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whose, in words.
    pub by: Box<str>,
    /// The formats that would write them.
    pub formats: &'static [Format],
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
        /// How it differs from what we wrote, if it does: then it is written again at once.
        drift: Option<Drift>,
        /// Whether somebody else owns a key of ours as well: then the next write takes it from them.
        shared: bool,
        /// Whose credential it holds beside ours, if anybody's.
        leftovers: Option<Box<str>>,
        /// What can't be written without taking it from somebody, if anything.
        taken: Option<Box<Taken>>,
    },
    /// It belongs to somebody else and is left alone, unless it may be adopted.
    Foreign {
        /// Who, in words.
        owner: Box<str>,
        /// What an adoption is pinned to. Nothing where another BearerToken keeps it: that one is never adopted.
        version: Option<Version>,
    },
}

impl Held {
    /// What `metadata` says to the BearerToken `name`. `lives` tells whether a BearerToken of that name still exists in the
    /// namespace: what a deleted or renamed one left behind goes to its successor, for otherwise a rename would lock Flux out.
    pub fn read(metadata: Option<&ObjectMeta>, name: &str, lives: impl Fn(&str) -> bool) -> Self {
        let Some(metadata) = metadata else { return Self::Absent };
        let record = record(metadata);
        let ours = applied_by(metadata, &field_manager(name));
        let writer = record.as_ref().map(|record| &*record.bearer_token);
        match (writer, ours) {
            (Some(other), _) if other != name && lives(other) => {
                Self::Foreign { owner: format!("BearerToken {other}").into(), version: None }
            }
            (None, None) => Self::Foreign { owner: owner(metadata), version: Some(Version::of(metadata)) },
            _ => Self::Ours {
                drift: match writer {
                    Some(other) if other != name => Some(Drift::Inherited),
                    _ => drifted(record.as_ref(), ours).then(|| Drift::By(intruder(metadata, record.as_ref(), name))),
                },
                shared: shared(metadata, record.as_ref(), name),
                leftovers: leftovers(metadata, record.as_ref()),
                taken: taken(metadata, record.as_ref(), name, &lives),
                version: Version::of(metadata),
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
        Format::Token => &["token"],
    };
    formats.iter().flat_map(of).copied().collect()
}

/// What an adopted Secret must no longer hold: the credentials that are not of these formats. As a merge patch, pinned.
///
/// With `kept` it is what the Secret will hold afterwards, for a dry run: our keys are there, without a value.
pub fn cleaning(version: &Version, formats: &[Format], kept: bool) -> serde_json::Value {
    let ours = keys(formats);
    let gone = CREDENTIAL_KEYS.iter().filter(|key| !ours.contains(key)).map(|key| (*key, serde_json::Value::Null));
    let stays = ours.iter().filter(|_| kept).map(|key| (*key, serde_json::Value::from("")));
    let data: BTreeMap<&str, serde_json::Value> = gone.chain(stays).collect();
    serde_json::json!({
        "metadata": {
            "uid": &*version.uid,
            "resourceVersion": &*version.resource_version,
            "annotations": {LAST_APPLIED: null},
        },
        "data": data,
    })
}

/// What becomes of a Secret that no BearerToken keeps any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is left as it is: it isn't that BearerToken's, or it is to be retained.
    Keep,
    /// Our keys go, the rest stays.
    Empty(Version),
    /// The object goes.
    Delete(Version),
}

/// What becomes of the Secret with this metadata, which the BearerToken `name` kept.
pub fn release(metadata: &ObjectMeta, name: &str) -> Release {
    let Some(record) = record(metadata).filter(|record| orphans(record, name)) else { return Release::Keep };
    if record.made && sole_manager(metadata, name) {
        Release::Delete(Version::of(metadata))
    } else {
        Release::Empty(Version::of(metadata))
    }
}

/// Whether nobody but the BearerToken `name` has written anything into this Secret.
pub fn sole_manager(metadata: &ObjectMeta, name: &str) -> bool {
    let ours = field_manager(name);
    metadata.managed_fields.iter().flatten().all(|entry| entry.manager.as_ref() == Some(&ours))
}

/// The BearerToken whose end this Secret is not to outlast.
pub fn mortal(metadata: &ObjectMeta) -> Option<Arc<str>> {
    record(metadata).filter(|record| orphans(record, &record.bearer_token)).map(|record| record.bearer_token)
}

/// Whether the end of the BearerToken `name` is that of the Secret that remembers this.
pub fn orphans(record: &Record, name: &str) -> bool {
    *record.bearer_token == *name && record.deletion_policy == DeletionPolicy::Delete
}

/// The body of the server-side apply that gives up everything that only we own.
pub fn farewell(namespace: &str, name: &str, version: &Version) -> String {
    let metadata = serde_json::json!({
        "name": name, "namespace": namespace, "uid": &*version.uid, "resourceVersion": &*version.resource_version,
    });
    serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}).to_string()
}

/// The body of the server-side apply that puts `token` into the Secret, as JSON. It is as secret as the token.
///
/// A new Secret is `Opaque`, and says so: should one of another type have come between, it is refused. Where it is pinned
/// it names no type, for an adopted one keeps its own, which can't be changed.
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
        keys(record.formats).into_iter().map(|key| (key, value(key))).collect();
    let annotation = serde_json::to_string(record).ok()?;
    let body = Manifest {
        api_version: "v1",
        kind: "Secret",
        metadata: ManifestMeta {
            name,
            namespace,
            uid: version.map(|version| &*version.uid),
            resource_version: version.map(|version| &*version.resource_version),
            labels: BTreeMap::from([(PART_OF, NAME)]),
            annotations: BTreeMap::from([(RECORD, annotation.as_str())]),
        },
        kind_of_secret: version.is_none().then_some("Opaque"),
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
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind_of_secret: Option<&'a str>,
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

fn formats<'de, D: Deserializer<'de>>(from: D) -> Result<&'static [Format], D::Error> {
    Vec::deserialize(from).map(|named: Vec<Format>| Format::set(&named))
}

/// What a Secret with this metadata remembers of its token.
pub fn record(metadata: &ObjectMeta) -> Option<Record> {
    serde_json::from_str(metadata.annotations.as_ref()?.get(RECORD)?).ok()
}

fn applied_by<'a>(metadata: &'a ObjectMeta, manager: &str) -> Option<&'a ManagedFieldsEntry> {
    let applied = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
    };
    metadata.managed_fields.iter().flatten().find(applied)
}

/// Whether a key of ours, the record or the label is no longer owned by our apply: somebody changed or removed it.
fn drifted(record: Option<&Record>, ours: Option<&ManagedFieldsEntry>) -> bool {
    let (Some(record), Some(ours)) = (record, ours) else { return true };
    let owns = |kind: &str, name: &str| {
        let field = format!("/f:metadata/f:{kind}/f:{}", name.replace('/', "~1"));
        ours.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(&field).is_some())
    };
    let described = owns("annotations", RECORD) && owns("labels", PART_OF);
    !(described && keys(record.formats).iter().all(|key| owns_key(ours, key)))
}

/// Who has changed what the BearerToken `name` wrote: whoever owns one of its keys now, or else whoever wrote last.
fn intruder(metadata: &ObjectMeta, record: Option<&Record>, name: &str) -> Box<str> {
    let ours = field_manager(name);
    let others = || metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_ref() != Some(&ours));
    let written = record.map(|record| keys(record.formats)).unwrap_or_default();
    let credential =
        |entry: &&ManagedFieldsEntry| CREDENTIAL_KEYS.iter().chain(&written).any(|key| owns_key(entry, key));
    let time = |entry: &&ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
    let found = others().filter(credential).max_by_key(time).or_else(|| others().max_by_key(time));
    words(found)
}

fn owns_key(entry: &ManagedFieldsEntry, key: &str) -> bool {
    let data = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:data"));
    data.is_some_and(|data| data.get(format!("f:{key}")).is_some())
}

/// Whose credential is beside ours, as far as the managed fields and annotations tell.
fn leftovers(metadata: &ObjectMeta, record: Option<&Record>) -> Option<Box<str>> {
    let ours = record.map(|record| keys(record.formats)).unwrap_or_default();
    let foreign = |entry: &&ManagedFieldsEntry| {
        CREDENTIAL_KEYS.iter().filter(|key| !ours.contains(key)).any(|key| owns_key(entry, key))
    };
    let owner = metadata.managed_fields.iter().flatten().find(foreign).map(|entry| words(Some(entry)));
    let copied = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LAST_APPLIED));
    owner.or_else(|| copied.then(|| "kubectl".into()))
}

/// Whether somebody else owns a key of ours as well, which makes an unforced apply fail: a BearerToken that is gone, whose
/// successor took over with the very token that the Secret held, or whoever has applied what they had read.
fn shared(metadata: &ObjectMeta, record: Option<&Record>, name: &str) -> bool {
    let ours = record.map(|record| keys(record.formats)).unwrap_or_default();
    let manager = field_manager(name);
    let mut others = metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_ref() != Some(&manager));
    others.any(|entry| ours.iter().any(|key| owns_key(entry, key)))
}

/// The keys that we don't write and that somebody else has. What a BearerToken has left that is gone is nobody's.
fn taken(
    metadata: &ObjectMeta,
    record: Option<&Record>,
    name: &str,
    lives: impl Fn(&str) -> bool,
) -> Option<Box<Taken>> {
    let others = || {
        metadata.managed_fields.iter().flatten().filter(|entry| {
            let manager = entry.manager.as_deref().unwrap_or_default();
            let bearer_token = manager.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('/'));
            bearer_token.is_none_or(|other| other != name && lives(other))
        })
    };
    let has = |entry: &ManagedFieldsEntry, format| keys(&[format]).iter().any(|key| owns_key(entry, key));
    let ours = record.map(|record| record.formats).unwrap_or_default();
    let theirs = |format: &Format| !ours.contains(format) && others().any(|entry| has(entry, *format));
    let formats: Vec<Format> = Format::ALL.into_iter().filter(theirs).collect();
    let owner = others().find(|entry| formats.iter().any(|format| has(entry, *format)))?;
    Some(Box::new(Taken { by: words(Some(owner)), formats: Format::set(&formats) }))
}

/// Whom the Secret belongs to, as far as its managed fields tell.
fn owner(metadata: &ObjectMeta) -> Box<str> {
    let managers = metadata.managed_fields.iter().flatten();
    let of_data =
        managers.clone().find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some()));
    words(of_data.or(managers.clone().next()))
}

/// A field manager's name, which is whatever its user agent says, as it may be shown.
fn words(entry: Option<&ManagedFieldsEntry>) -> Box<str> {
    let named = entry.and_then(|entry| entry.manager.as_deref()).unwrap_or("an unknown writer");
    named.chars().filter(|char| !char.is_control()).take(64).collect::<String>().into()
}

#[cfg(test)]
mod tests;
