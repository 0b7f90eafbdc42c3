use super::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn stored(conditions: &[(&str, &str, &str)]) -> BearerTokenStatus {
    let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
        type_: (*kind).into(),
        status: (*status).into(),
        reason: (*reason).into(),
        message: "m".into(),
        last_transition_time: Time(NOW),
        observed_generation: Some(1),
    };
    BearerTokenStatus { conditions: conditions.iter().map(condition).collect(), ..BearerTokenStatus::default() }
}

fn kept(status: &BearerTokenStatus) -> Stored {
    Stored::of(status, &"fleet".into())
}

fn nothing() -> Stored {
    kept(&BearerTokenStatus::default())
}

fn report(reason: &'static str, message: &str) -> Report {
    let mut report = Report::default();
    report.say(READY, true, Say { reason, message: message.into() });
    report
}

#[test]
fn a_transition_time_moves_only_with_the_status() {
    let later = NOW + std::time::Duration::from_secs(60);
    let same = report("Other", "m").status(&kept(&stored(&[(READY, "True", "Succeeded")])), 1, later);
    assert_eq!(same.conditions[0].last_transition_time, Time(NOW));
    let moved = report("Succeeded", "m").status(&kept(&stored(&[(READY, "False", "TokenExpired")])), 1, later);
    assert_eq!(moved.conditions[0].last_transition_time, Time(later));
    let mut still = Report::default();
    still.say(READY, false, Say { reason: "Other", message: "m".into() });
    for (before, since) in [("False", NOW), ("True", later), ("Unknown", later)] {
        let status = still.status(&kept(&stored(&[(READY, before, "TokenExpired")])), 1, later);
        assert_eq!(status.conditions[0].last_transition_time, Time(since), "{before}");
    }
}

#[test]
fn an_unchanged_report_is_an_unchanged_status() {
    let first = report("Succeeded", "m").status(&nothing(), 1, NOW);
    let second = report("Succeeded", "m").status(&kept(&first), 1, NOW + std::time::Duration::from_secs(9));
    assert_eq!(first, second);
    assert!(kept(&first).is(&second));
    assert!(!kept(&first).is(&report("Succeeded", "n").status(&nothing(), 1, NOW)));
}

#[test]
fn ready_comes_first_and_then_what_qualifies_it() {
    let mut report = report("Succeeded", "m");
    for kind in [ACCESSIBLE, REFRESH_FAILING, STALLED, CREDENTIAL_EXPIRING] {
        report.say(kind, true, Say { reason: "Any", message: "m".into() });
    }
    let kinds: Vec<String> = report.status(&nothing(), 1, NOW).conditions.into_iter().map(|one| one.type_).collect();
    assert_eq!(kinds, [READY, STALLED, ACCESSIBLE, CREDENTIAL_EXPIRING, REFRESH_FAILING]);
}

#[test]
fn what_is_not_known_anew_is_written_again_as_it_is() {
    let accessible = (ACCESSIBLE, "False", "TokenRejected");
    let mut before = stored(&[(READY, "True", "Succeeded"), accessible]);
    (before.secret, before.last_handled_reconcile_at) = (Some("another".into()), Some("now!".into()));
    before.observed_generation = Some(1);
    let kept = kept(&before);
    assert_eq!((kept.secret(), kept.handled()), (Some("another"), Some("now!")));
    let unknown = Report { keep_accessible: true, ..report("Succeeded", "m") }.status(&kept, 1, NOW);
    assert!(kept.is(&unknown), "{unknown:?}");
    assert_eq!(report("Succeeded", "m").status(&kept, 1, NOW).conditions.len(), 1, "there is nothing to open any more");
}

#[test]
fn the_name_of_a_secret_that_is_the_bearer_tokens_own_is_kept_once() {
    let name: Arc<str> = "fleet".into();
    let status = BearerTokenStatus { secret: Some("fleet".into()), ..BearerTokenStatus::default() };
    assert!(Arc::ptr_eq(Stored::of(&status, &name).secret.as_ref().unwrap(), &name));
}

#[test]
fn a_message_has_an_end() {
    let status = report("Succeeded", &"x".repeat(5000)).status(&nothing(), 1, NOW);
    assert_eq!(status.conditions[0].message.len(), MAX_MESSAGE);
}

#[test]
fn only_transitions_are_events() {
    type Conditions = &'static [(&'static str, &'static str, &'static str)];
    type Told = &'static [(&'static str, bool)];
    let ready: Conditions = &[(READY, "True", "Succeeded")];
    let failing: Conditions = &[(READY, "True", "Succeeded"), (REFRESH_FAILING, "True", "EntraUnavailable")];
    let expired: Conditions = &[(READY, "False", "TokenExpired")];
    let stalled: Conditions = &[(READY, "False", "TenantRejected"), (STALLED, "True", "TenantRejected")];
    let ending: Conditions = &[(READY, "True", "Succeeded"), (CREDENTIAL_EXPIRING, "True", "CertificateExpires")];
    let cases: &[(Conditions, Conditions, Told)] = &[
        (&[], &[(READY, "False", "Progressing")], &[]),
        (&[], ready, &[("Succeeded", false)]),
        (ready, ready, &[]),
        (ready, &[(READY, "True", "Other")], &[("Other", false)]),
        (ready, &[(READY, "False", "Succeeded")], &[("Succeeded", true)]),
        (ready, failing, &[("EntraUnavailable", true)]),
        (&[], failing, &[("Succeeded", false), ("EntraUnavailable", true)]),
        (failing, failing, &[]),
        (failing, ready, &[("RefreshRecovered", false)]),
        (failing, expired, &[("TokenExpired", true)]),
        (ready, stalled, &[("TenantRejected", true)]),
        (ready, ending, &[("CertificateExpires", true)]),
        (ending, ending, &[]),
        (ending, ready, &[]),
    ];
    for (before, after, expected) in cases {
        let found = events(&kept(&stored(before)), &stored(after));
        let found: Vec<(&str, bool)> = found.iter().map(|event| (event.reason.as_str(), event.warning)).collect();
        assert_eq!(&found, expected, "{before:?} -> {after:?}");
    }
}
