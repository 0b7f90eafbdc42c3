use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn a_record() -> Record {
    Record {
        bearer_token: "flux-system".into(),
        generation: 1,
        identity: Arc::new(Identity::WorkloadIdentity { tenant_id: "t".into(), client_id: "c".into() }),
        holder: Arc::default(),
        formats: &[Format::Bearer],
        issued_at: NOW,
        refresh_at: NOW + Duration::from_secs(1500),
        expires_at: NOW + Duration::from_secs(3600),
        credential_expires_at: None,
        fingerprint: "f".into(),
        made: true,
        deletion_policy: DeletionPolicy::Retain,
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
    serde_json::json!({"f:data": {"f:bearerToken": {}}, "f:metadata": described()})
}

fn described() -> serde_json::Value {
    serde_json::json!({
        "f:annotations": {"f:flux-bearer.dev/token": {}}, "f:labels": {"f:app.kubernetes.io/part-of": {}},
    })
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

fn version() -> Version {
    Version { uid: "u".into(), resource_version: "7".into() }
}

fn read(metadata: &ObjectMeta) -> Held {
    Held::read(Some(metadata), "flux-system", |other| other == "alive")
}

/// How the Secret differs from what we wrote; an error where it is not ours.
fn drift(held: &Held) -> Result<Option<Drift>, &Held> {
    match held {
        Held::Ours { drift, .. } => Ok(drift.clone()),
        other => Err(other),
    }
}

fn by(who: &str) -> Drift {
    Drift::By(who.into())
}

#[test]
fn what_we_applied_is_ours_and_has_not_drifted() {
    let held = read(&metadata(Some(&a_record()), vec![entry("flux-bearer/flux-system", ours())]));
    assert_eq!(drift(&held), Ok(None));
    assert_eq!(held.record(), Some(&a_record()));
}

#[test]
fn a_key_that_somebody_changed_has_drifted() {
    let lost = serde_json::json!({"f:metadata": described()});
    let edited = vec![entry("flux-bearer/flux-system", lost), entry("kubectl-edit", ours())];
    assert_eq!(drift(&read(&metadata(Some(&a_record()), edited))), Ok(Some(by("kubectl-edit"))));
}

#[test]
fn a_label_that_somebody_changed_has_drifted() {
    let annotated = serde_json::json!({"f:annotations": {"f:flux-bearer.dev/token": {}}});
    let left = serde_json::json!({"f:data": {"f:bearerToken": {}}, "f:metadata": annotated});
    let theirs = serde_json::json!({"f:metadata": {"f:labels": {"f:app.kubernetes.io/part-of": {}}}});
    let labelled = vec![entry("flux-bearer/flux-system", left), entry("kubectl-label", theirs)];
    assert_eq!(drift(&read(&metadata(Some(&a_record()), labelled))), Ok(Some(by("kubectl-label"))));
}

#[test]
fn keys_of_somebody_else_are_told_with_the_formats_that_would_write_them() {
    let taken = |other: &str, keys: &[&str]| {
        let managers = vec![entry("flux-bearer/flux-system", ours()), entry(other, keys_of(keys))];
        match read(&metadata(Some(&a_record()), managers)) {
            Held::Ours { taken, .. } => taken.map(|taken| *taken),
            other => panic!("{other:?}"),
        }
    };
    let by = |by: &str, formats| Some(Taken { by: by.into(), formats });
    assert_eq!(taken("kubectl", &["ca.crt", "bearerToken"]), None);
    assert_eq!(taken("kubectl", &["token"]), by("kubectl", &[Format::Token]));
    assert_eq!(
        taken("flux-bearer/alive", &["token", "username"]),
        by("flux-bearer/alive", &[Format::Basic, Format::Token])
    );
    assert_eq!(taken("flux-bearer/gone", &["token"]), None);
}

#[test]
fn a_key_that_somebody_else_owns_too_is_taken_with_the_next_write_only() {
    let shared = |managers| match read(&metadata(Some(&a_record()), managers)) {
        Held::Ours { shared, drift, .. } => (shared, drift.is_some()),
        other => panic!("{other:?}"),
    };
    let both = |other: &str| vec![entry("flux-bearer/flux-system", ours()), entry(other, ours())];
    assert_eq!(shared(both("kubectl")), (true, false));
    assert_eq!(shared(both("flux-bearer/gone")), (true, false));
    let beside = vec![entry("flux-bearer/flux-system", ours()), entry("kubectl", keys_of(&["token"]))];
    assert_eq!(shared(beside), (false, false));
}

#[test]
fn a_secret_restored_from_a_backup_is_ours_and_is_written_again() {
    assert_eq!(drift(&read(&metadata(Some(&a_record()), vec![entry("velero", ours())]))), Ok(Some(by("velero"))));
}

#[test]
fn a_secret_of_somebody_else_is_foreign_and_its_owner_is_named() {
    let held = read(&metadata(None, vec![entry("flux", serde_json::json!({"f:data": {"f:password": {}}}))]));
    assert_eq!(held, Held::Foreign { owner: "flux".into(), version: Some(version()) });
}

#[test]
fn another_bearer_token_keeps_its_secret_while_it_lives() {
    let of = |name: &str| Record { bearer_token: name.into(), ..a_record() };
    let by = |name: &str| vec![entry(&field_manager(name), ours())];
    assert_eq!(
        read(&metadata(Some(&of("alive")), by("alive"))),
        Held::Foreign { owner: "BearerToken alive".into(), version: None }
    );
    assert_eq!(drift(&read(&metadata(Some(&of("renamed")), by("renamed")))), Ok(Some(Drift::Inherited)));
}

#[test]
fn the_manifest_is_pinned_and_holds_the_keys_of_its_formats_only() {
    let token = Token {
        secret: "tok".into(),
        fingerprint: "f".into(),
        issued_at: NOW,
        expires_at: NOW,
        refresh_hint: None,
        holder: StatusIdentity { client_id: Some("c".into()), ..StatusIdentity::default() }.into(),
        credential_expires_at: None,
        verified: true,
    };
    let rendered = |version: Option<&Version>, formats: &'static [Format]| {
        let body = manifest("ns", "s", version, &token, &Record { formats, ..a_record() }).unwrap();
        serde_json::from_str::<serde_json::Value>(body.expose_secret()).unwrap()
    };
    let of = |formats: &'static [Format]| rendered(Some(&version()), formats);
    assert_eq!(rendered(None, &[Format::Bearer])["type"], "Opaque");
    let bearer = of(&[Format::Bearer]);
    assert_eq!(bearer["data"], serde_json::json!({"bearerToken": STANDARD.encode("tok")}));
    assert_eq!((&bearer["metadata"]["uid"], &bearer["metadata"]["resourceVersion"]), (&"u".into(), &"7".into()));
    assert_eq!(bearer.get("type"), None, "an adopted Secret keeps its type");
    let basic = of(&[Format::Basic]);
    assert_eq!(
        basic["data"],
        serde_json::json!({"username": STANDARD.encode("c"), "password": STANDARD.encode("tok")})
    );
    let encoded = STANDARD.encode("tok");
    assert_eq!(of(&[Format::Token])["data"], serde_json::json!({"token": encoded}));
    assert_eq!(
        of(&[Format::Bearer, Format::Basic, Format::Token])["data"],
        serde_json::json!({"bearerToken": encoded, "username": STANDARD.encode("c"), "password": encoded, "token": encoded})
    );
}

#[test]
fn who_takes_the_key_token_is_found_where_we_write_it() {
    let fields = serde_json::json!({"f:data": {}, "f:metadata": described()});
    let taken = |formats: &'static [Format]| {
        let managers = vec![
            entry(&field_manager("flux-system"), fields.clone()),
            entry("bystander", keys_of(&["ca.crt"])),
            entry("thief", keys_of(&["token"])),
            entry("bystander", keys_of(&["known_hosts"])),
        ];
        drift(&read(&metadata(Some(&Record { formats, ..a_record() }), managers))).unwrap()
    };
    assert_eq!(taken(&[Format::Token]), Some(Drift::By("thief".into())));
}

/// Whose credential is beside ours.
fn leftovers(metadata: &ObjectMeta) -> Option<Box<str>> {
    match read(metadata) {
        Held::Ours { leftovers, .. } => leftovers,
        other => panic!("{other:?}"),
    }
}

fn keys_of(keys: &[&str]) -> serde_json::Value {
    let keys: serde_json::Map<_, _> = keys.iter().map(|key| (format!("f:{key}"), serde_json::json!({}))).collect();
    serde_json::json!({ "f:data": keys })
}

#[test]
fn a_credential_beside_ours_is_seen_and_other_keys_are_not() {
    let beside = |other: &str, keys: &[&str]| {
        leftovers(&metadata(
            Some(&a_record()),
            vec![entry(&field_manager("flux-system"), ours()), entry(other, keys_of(keys))],
        ))
    };
    assert_eq!(beside("flux", &["password"]), Some("flux".into()));
    assert_eq!(beside("flux", &["ca.crt", "identity"]), Some("flux".into()));
    assert_eq!(beside("flux", &["ca.crt", "known_hosts", "token"]), None);
    assert_eq!(beside("flux", &["bearerToken"]), None, "that key is ours, and shared");
    let mut copied = metadata(Some(&a_record()), vec![entry(&field_manager("flux-system"), ours())]);
    assert_eq!(leftovers(&copied), None);
    copied.annotations.get_or_insert_default().insert(LAST_APPLIED.into(), "{}".into());
    assert_eq!(leftovers(&copied), Some("kubectl".into()));
}

#[test]
fn cleaning_takes_every_credential_but_ours_and_nothing_else() {
    let data = |formats: &[Format], kept| cleaning(&version(), formats, kept)["data"].clone();
    let none = serde_json::Value::Null;
    assert_eq!(
        data(&[Format::Bearer], false),
        serde_json::json!({"username": none, "password": none, "identity": none, "identity.pub": none})
    );
    assert_eq!(
        data(&[Format::Basic], true),
        serde_json::json!({"bearerToken": none, "identity": none, "identity.pub": none, "username": "", "password": ""})
    );
    assert_eq!(
        data(&[Format::Bearer, Format::Basic, Format::Token], true),
        serde_json::json!({
            "bearerToken": "", "username": "", "password": "", "token": "", "identity": none, "identity.pub": none
        })
    );
    let whole = cleaning(&version(), &[Format::Bearer], false);
    assert_eq!(whole["metadata"]["annotations"][LAST_APPLIED], none);
    assert_eq!((&whole["metadata"]["uid"], &whole["metadata"]["resourceVersion"]), (&"u".into(), &"7".into()));
}

#[test]
fn a_secret_outlasts_its_bearer_token_unless_it_says_otherwise() {
    let mortal = |record: Option<&Record>| super::mortal(&metadata(record, vec![]));
    assert_eq!(mortal(None), None);
    assert_eq!(mortal(Some(&a_record())), None);
    let said = Record { deletion_policy: DeletionPolicy::Delete, ..a_record() };
    assert_eq!(mortal(Some(&said)).as_deref(), Some("flux-system"));
}

#[test]
fn a_farewell_is_pinned_and_holds_nothing() {
    let body: serde_json::Value = serde_json::from_str(&farewell("ns", "s", &version())).unwrap();
    let metadata = serde_json::json!({"namespace": "ns", "name": "s", "uid": "u", "resourceVersion": "7"});
    assert_eq!(body, serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
}

#[test]
fn only_what_was_said_to_go_goes_and_the_object_only_when_nothing_else_is_in_it() {
    let mortal = Record { deletion_policy: DeletionPolicy::Delete, ..a_record() };
    let alone = || vec![entry(&field_manager("flux-system"), ours())];
    let shared = || vec![entry(&field_manager("flux-system"), ours()), entry("flux", keys_of(&["ca.crt"]))];
    let of = |record: &Record, managers| release(&metadata(Some(record), managers), "flux-system");
    assert_eq!(of(&a_record(), alone()), Release::Keep);
    assert_eq!(of(&mortal, alone()), Release::Delete(version()));
    assert_eq!(of(&mortal, shared()), Release::Empty(version()));
    assert_eq!(of(&Record { made: false, ..mortal.clone() }, alone()), Release::Empty(version()));
    assert_eq!(of(&Record { bearer_token: "another".into(), ..mortal }, alone()), Release::Keep);
    assert_eq!(release(&metadata(None, alone()), "flux-system"), Release::Keep);
}
