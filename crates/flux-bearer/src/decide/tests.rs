use super::*;
use crate::failure::{Class, entra};
use crate::report::Stored;
use crate::report::of_write;
use crate::report::{ACCESSIBLE, CREDENTIAL_EXPIRING, READY, RECONCILING, REFRESH_FAILING, STALLED};
use crate::resource::BearerTokenStatus;
use crate::secret::{Taken, Version};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const HOUR: Duration = Duration::from_secs(3600);
const UID: &str = "5d1f4f4e-0000-4000-8000-000000000001";

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity::WorkloadIdentity { tenant_id: "t".into(), client_id: name.into() })
}

/// Everything that an observation borrows.
#[allow(clippy::struct_excessive_bools, reason = "as many as an observation has")]
struct Given {
    wanted: Result<Wanted, Failure>,
    account: Option<Account>,
    held: Held,
    unsure: bool,
    minted: Option<Arc<Token>>,
    failing: Option<Failing>,
    in_flight: bool,
    outdated: bool,
    last_working: Option<Arc<Token>>,
    last_failing: Option<Failing>,
    probes: Vec<Probe>,
    probing: bool,
    writing: Option<Failing>,
    refused: Option<Refused>,
    corrections: Vec<Correction>,
    former: Option<Box<Record>>,
    request: Option<Request>,
    nudge: Vec<String>,
    suspend: bool,
    rival: Option<String>,
    revoked: Option<Failure>,
}

fn given(held: Held) -> Given {
    Given {
        wanted: Ok(Wanted {
            identity: identity("new"),
            formats: &[Format::Bearer],
            repositories: vec![],
            unsafe_repository: None,
            adopt: false,
            deletion_policy: DeletionPolicy::Retain,
        }),
        account: None,
        held,
        unsure: false,
        minted: None,
        failing: None,
        in_flight: false,
        outdated: false,
        last_working: None,
        last_failing: None,
        probes: vec![],
        probing: false,
        writing: None,
        refused: None,
        corrections: vec![],
        former: None,
        request: None,
        nudge: vec![],
        suspend: false,
        rival: None,
        revoked: None,
    }
}

impl Given {
    fn observed(&self) -> Observed<'_> {
        Observed {
            uid: UID,
            secret: "flux-system",
            named: None,
            suspend: self.suspend,
            wanted: self.wanted.as_ref(),
            account: self.account.as_ref(),
            rival: self.rival.as_deref(),
            held: &self.held,
            unsure: self.unsure,
            mint: Mint {
                token: self.minted.as_ref(),
                failing: self.failing.as_ref(),
                in_flight: self.in_flight,
                outdated: self.outdated,
            },
            last_working: Mint {
                token: self.last_working.as_ref(),
                failing: self.last_failing.as_ref(),
                ..Mint::default()
            },
            probes: &self.probes,
            probing: self.probing,
            revoked: self.revoked.as_ref(),
            writing: self.writing.as_ref(),
            refused: self.refused.as_ref(),
            corrections: &self.corrections,
            former: self.former.as_deref(),
            request: self.request.as_ref(),
            nudge: &self.nudge,
            longest: HOUR,
        }
    }

    fn decide(&self, after: Duration) -> Decision {
        decide(&self.observed(), NOW + after)
    }

    fn does(&self, after: Duration) -> String {
        name(&self.decide(after).action)
    }

    fn status(&self, after: Duration) -> BearerTokenStatus {
        self.decide(after).report.status(&Stored::of(&BearerTokenStatus::default(), &"fleet".into()), 1, NOW + after)
    }

    fn condition(&self, after: Duration, kind: &str) -> Option<(String, String)> {
        let status = self.status(after);
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|condition| (condition.status, condition.reason))
    }
}

fn name(action: &Action) -> String {
    match action {
        Action::Rest => "rest".into(),
        Action::Look => "look".into(),
        Action::Introduce => "introduce".into(),
        Action::Mint(identity) => format!("mint {}", identity.client_id().unwrap_or_default()),
        Action::Write(write) => format!("write {}", write.token.fingerprint),
        Action::Probe(_, token) => format!("probe {}", token.fingerprint),
        Action::Clean(_) => "clean".into(),
        Action::Nudge => "nudge".into(),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is compared with what a condition lookup returns")]
fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

fn token(fingerprint: &str, issued: Timestamp, lifetime: Duration) -> Arc<Token> {
    Arc::new(Token {
        secret: "secret".into(),
        fingerprint: fingerprint.into(),
        issued_at: issued,
        expires_at: issued + lifetime,
        refresh_hint: None,
        holder: Arc::default(),
        credential_expires_at: None,
        verified: true,
    })
}

/// A Secret that `client` filled at NOW with a token of this lifetime.
fn filled(client: &str, lifetime: Duration) -> Held {
    let expires_at = NOW + lifetime;
    Held::Ours {
        version: Version { uid: "u".into(), resource_version: "1".into() },
        shared: false,
        record: Some(Box::new(Record {
            bearer_token: "flux-system".into(),
            generation: 1,
            identity: identity(client),
            holder: Arc::default(),
            formats: &[Format::Bearer],
            issued_at: NOW,
            refresh_at: schedule::refresh_at(NOW, expires_at, None, HOUR, UID),
            expires_at,
            credential_expires_at: None,
            fingerprint: format!("{client}-0").into(),
            made: true,
            deletion_policy: DeletionPolicy::Retain,
        })),
        drift: None,
        leftovers: None,
        taken: None,
    }
}

fn drifted(held: Held) -> Held {
    match held {
        Held::Ours { version, record, shared, leftovers, taken, .. } => {
            Held::Ours { version, record, shared, leftovers, taken, drift: Some(Drift::By("kubectl-edit".into())) }
        }
        other => other,
    }
}

fn failing(code: u32, since: Duration, at: Duration, retry: Duration) -> Failing {
    Failing {
        failure: entra::from_answer(&[code], "invalid_client", 401, None),
        since: NOW + since,
        at: NOW + at,
        attempts: 3,
        retry_at: NOW + retry,
    }
}

fn repository() -> Repository {
    Repository::parse("https://dev.azure.com/org/project/_git/repo").unwrap()
}

fn probe(client: &str, fingerprint: &str, at: Duration, opens: bool) -> Probe {
    let answer = if opens { Ok(()) } else { Err(crate::failure::devops::from_answer(404, false, None)) };
    Probe {
        fingerprint: fingerprint.into(),
        identity: identity(client),
        at: NOW + at,
        answers: vec![(repository(), answer.map_err(Box::new))],
    }
}

#[test]
fn from_nothing_it_looks_mints_writes_and_rests() {
    let mut world = given(Held::Unknown);
    assert_eq!(world.does(minutes(0)), "look");
    world.held = Held::Absent;
    assert_eq!(world.does(minutes(0)), "mint new");
    world.in_flight = true;
    assert_eq!(world.does(minutes(0)), "rest");
    assert_eq!(world.condition(minutes(0), RECONCILING), says("True", "Progressing"));
    assert_eq!(world.condition(minutes(0), READY), says("False", "Progressing"));
    world.in_flight = false;
    world.minted = Some(token("new-0", NOW, HOUR));
    let Action::Write(write) = world.decide(minutes(0)).action else { panic!("no write") };
    assert!(write.made && write.revives && !write.force && write.takes == Takes::Nothing);
    world.held = filled("new", HOUR);
    assert_eq!(world.does(minutes(0)), "rest");
    assert_eq!(world.condition(minutes(0), READY), says("True", "Succeeded"));
}

#[test]
fn what_could_not_be_seen_is_looked_at_again_after_a_pause_and_stays_ready() {
    let mut world = given(filled("new", HOUR));
    world.unsure = true;
    assert_eq!(world.does(minutes(30)), "look");
    world.writing = Some(failing(90033, minutes(30), minutes(30), minutes(31)));
    assert_eq!(world.does(minutes(30)), "rest");
    assert_eq!(world.condition(minutes(30), READY), says("True", "Succeeded"));
    assert_eq!(world.condition(minutes(30), REFRESH_FAILING), says("True", "EntraUnavailable"));
    assert_eq!(world.does(minutes(31)), "look");
}

#[test]
fn a_token_is_replaced_at_its_time_and_not_before() {
    let world = given(filled("new", HOUR));
    let wake = world.decide(minutes(1)).wake.unwrap();
    assert!(wake >= NOW + minutes(24) && wake <= NOW + minutes(27), "{wake}");
    assert_eq!(world.does(minutes(23)), "rest");
    assert_eq!(world.does(minutes(27)), "mint new");
}

#[test]
fn a_token_that_another_object_has_minted_is_used() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-1", NOW + minutes(25), HOUR));
    assert_eq!(world.does(minutes(20)), "rest");
    assert_eq!(world.does(minutes(28)), "write new-1");
}

#[test]
fn row_11_the_same_token_again_is_no_write_and_no_loop() {
    let mut world = given(filled("new", HOUR));
    let again = Token { expires_at: NOW + HOUR, ..Arc::into_inner(token("new-0", NOW + minutes(27), HOUR)).unwrap() };
    world.minted = Some(Arc::new(again));
    assert_eq!(world.does(minutes(27)), "rest");
    let wake = world.decide(minutes(27)).wake.unwrap();
    assert!(wake >= NOW + minutes(40) && wake < NOW + minutes(42), "{wake}");
}

#[test]
fn the_same_token_is_written_again_only_where_its_end_has_moved_by_more_than_a_minute() {
    let mut world = given(filled("new", HOUR));
    for (moved, does) in [(0, "rest"), (60, "rest"), (61, "write new-0")] {
        for lifetime in [3600 - moved, 3600 + moved].map(Duration::from_secs) {
            world.minted = Some(token("new-0", NOW, lifetime));
            assert_eq!(world.does(minutes(1)), does, "{lifetime:?}");
        }
    }
}

#[test]
fn the_same_token_by_another_certificate_is_written_once() {
    let end = Some(NOW + HOUR * 24);
    let mut world = given(filled("new", HOUR));
    let again = Arc::into_inner(token("new-0", NOW + minutes(20), minutes(40))).unwrap();
    world.minted = Some(Arc::new(Token { credential_expires_at: end, ..again }));
    assert_eq!(world.does(minutes(20)), "write new-0");
    if let Held::Ours { record: Some(record), .. } = &mut world.held {
        record.credential_expires_at = end;
    }
    assert_eq!(world.does(minutes(20)), "rest");
}

#[test]
fn row_01_a_failing_refresh_keeps_the_token_and_ready() {
    let mut world = given(filled("new", HOUR));
    world.failing = Some(failing(90033, minutes(27), minutes(30), minutes(31)));
    assert_eq!(world.does(minutes(30)), "rest");
    assert_eq!(world.decide(minutes(30)).wake, Some(NOW + minutes(31)));
    assert_eq!(world.condition(minutes(30), READY), says("True", "Succeeded"));
    assert_eq!(world.condition(minutes(30), REFRESH_FAILING), says("True", "EntraUnavailable"));
    assert_eq!(world.condition(minutes(30), RECONCILING), None);
    assert_eq!(world.condition(minutes(30), STALLED), None);
    assert_eq!(world.does(minutes(31)), "mint new");
}

#[test]
fn row_02_ready_falls_at_the_second_of_expiry() {
    let mut world = given(filled("new", HOUR));
    world.failing = Some(failing(90033, minutes(27), minutes(59), minutes(61)));
    assert_eq!(world.decide(minutes(59)).wake, Some(NOW + HOUR));
    assert_eq!(world.condition(Duration::from_secs(3599), READY), says("True", "Succeeded"));
    assert_eq!(world.decide(HOUR).wake, Some(NOW + minutes(61)), "not now, again and again");
    assert_eq!(world.condition(HOUR, READY), says("False", "TokenExpired"));
    assert_eq!(world.condition(HOUR, RECONCILING), says("True", "ProgressingWithRetry"));
    assert_eq!(world.condition(HOUR, REFRESH_FAILING), None);
}

#[test]
fn row_08_09_propagation_is_stalled_after_ten_minutes_and_permanent_at_once() {
    let mut world = given(Held::Absent);
    world.failing = Some(failing(700_213, minutes(0), minutes(9), minutes(20)));
    assert_eq!(world.condition(minutes(9), STALLED), None);
    world.failing = Some(failing(700_213, minutes(0), minutes(10), minutes(20)));
    assert_eq!(world.condition(minutes(10), STALLED), says("True", "FederatedCredentialMismatch"));
    world.failing = Some(failing(90002, minutes(0), minutes(0), minutes(20)));
    assert_eq!(world.condition(minutes(0), STALLED), says("True", "TenantRejected"));
    assert_eq!(world.condition(minutes(0), RECONCILING), None);
}

#[test]
fn row_17_a_clock_set_back_replaces_the_token() {
    let world = given(filled("new", HOUR));
    let decision = decide(&world.observed(), Timestamp::constant(1_799_996_400, 0));
    assert_eq!(name(&decision.action), "mint new");
}

#[test]
fn row_27_somebody_elses_change_is_taken_back_at_once_and_five_times_a_minute_at_most() {
    let mut world = given(drifted(filled("new", HOUR)));
    world.minted = Some(token("new-0", NOW, HOUR));
    let after = |count: usize| minutes(1) + Duration::from_secs(count as u64);
    for count in 0..CORRECTIONS {
        let Action::Write(write) = world.decide(after(count)).action else { panic!("no write {count}") };
        assert!(write.force && write.takes == Takes::Back("kubectl-edit".into()));
        world.corrections.push(Correction { at: NOW + after(count), who: "kubectl-edit".into() });
    }
    assert_eq!(world.does(after(CORRECTIONS)), "rest");
    assert_eq!(world.decide(after(CORRECTIONS)).wake, Some(NOW + minutes(2)));
    assert_eq!(world.does(minutes(2)), "write new-0");
}

#[test]
fn who_fights_for_the_secret_is_said_until_a_minute_after_the_fight() {
    let mut world = given(drifted(filled("new", HOUR)));
    world.minted = Some(token("new-0", NOW, HOUR));
    world.corrections = vec![Correction { at: NOW + minutes(1), who: "kustomize-controller".into() }; CORRECTIONS];
    let said = |world: &Given, at| (world.condition(at, READY), world.condition(at, STALLED));
    let contested = || (says("False", "SecretContested"), says("True", "SecretContested"));
    assert_eq!(said(&world, minutes(1)), contested());
    let status = world.status(minutes(1));
    assert_eq!(
        status.conditions[0].message,
        "SecretContested: kustomize-controller keeps changing Secret flux-system; 5 changes were taken back. Take Secret \
         flux-system out of what kustomize-controller writes; for kustomize-controller, annotate it in Git with \
         kustomize.toolkit.fluxcd.io/ssa: Ignore"
    );
    // Taken back, it is ours again; whether it stays so has to be seen.
    world.held = filled("new", HOUR);
    assert_eq!(said(&world, minutes(2)), contested());
    assert_eq!(world.decide(minutes(2)).wake, Some(NOW + minutes(3)));
    assert_eq!(said(&world, minutes(3)), (says("True", "Succeeded"), None));
}

#[test]
fn a_fight_for_the_secret_delays_no_mint() {
    let mut world = given(drifted(filled("new", HOUR)));
    world.corrections = vec![Correction { at: NOW + minutes(30), who: "kubectl".into() }; CORRECTIONS];
    assert_eq!(world.does(minutes(30)), "mint new");
}

fn foreign() -> Held {
    Held::Foreign { owner: "flux".into(), version: Some(Version { uid: "u".into(), resource_version: "1".into() }) }
}

/// A Secret of somebody else that may be adopted, and a token for it.
fn adopting() -> Given {
    let mut world = given(foreign());
    let wanted = world.wanted.as_mut().unwrap();
    (wanted.adopt, wanted.repositories) = (true, vec![repository()]);
    world
}

#[test]
fn a_secret_is_adopted_only_with_a_token_that_opens_every_repository() {
    let mut world = adopting();
    assert_eq!(world.does(minutes(0)), "mint new");
    world.minted = Some(token("new-0", NOW, HOUR));
    assert_eq!(world.does(minutes(0)), "probe new-0");
    world.probes = vec![probe("new", "new-0", minutes(0), false)];
    assert_eq!(world.does(minutes(1)), "rest");
    assert_eq!(world.condition(minutes(1), READY).unwrap().0, "False");
    assert_eq!(world.decide(minutes(1)).wake, Some(NOW + minutes(5)));
    assert_eq!(world.does(minutes(5)), "probe new-0");
    world.probes = vec![probe("new", "new-0", minutes(6), true)];
    let Action::Write(write) = world.decide(minutes(6)).action else { panic!("not adopted") };
    assert!(write.takes == Takes::Over && write.force && !write.made && write.revives);
}

#[test]
fn nothing_is_adopted_without_a_repository_to_try_or_with_one_that_flux_could_not_use_then() {
    let mut world = adopting();
    world.minted = Some(token("new-0", NOW, HOUR));
    world.wanted.as_mut().unwrap().repositories.clear();
    assert_eq!(world.does(minutes(0)), "rest");
    assert_eq!(world.condition(minutes(0), STALLED), says("True", "AdoptionUnproven"));
    let mut world = adopting();
    world.minted = Some(token("new-0", NOW, HOUR));
    world.probes = vec![probe("new", "new-0", minutes(0), true)];
    let org = Repository::parse("https://org@dev.azure.com/org/project/_git/repo").unwrap();
    world.wanted.as_mut().unwrap().unsafe_repository = org.check_formats(&[Format::Bearer]).err();
    assert_eq!(world.does(minutes(0)), "rest");
    assert_eq!(world.condition(minutes(0), STALLED), says("True", "InvalidRepository"));
}

#[test]
fn another_bearer_tokens_secret_is_never_adopted() {
    let mut world = adopting();
    world.held = Held::Foreign { owner: "BearerToken other".into(), version: None };
    assert_eq!(world.does(minutes(0)), "rest");
    assert_eq!(world.condition(minutes(0), STALLED), says("True", "SecretNotOwned"));
}

#[test]
fn an_adopted_secret_is_rid_of_the_credentials_of_others() {
    let mut world = adopting();
    world.held = match filled("new", HOUR) {
        Held::Ours { version, record, shared, drift, taken, .. } => {
            Held::Ours { version, record, shared, drift, taken, leftovers: Some("flux".into()) }
        }
        other => other,
    };
    assert_eq!(world.does(minutes(1)), "clean");
    world.corrections = vec![Correction { at: NOW + minutes(1), who: "flux".into() }; CORRECTIONS];
    assert_eq!(world.does(minutes(1)), "rest");
    world.corrections.clear();
    world.wanted.as_mut().unwrap().adopt = false;
    assert_eq!(world.does(minutes(1)), "rest", "only where that was asked for");
}

#[test]
fn the_keys_stay_while_a_git_repository_could_not_use_the_wanted_ones() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-0", NOW, HOUR));
    let wanted = world.wanted.as_mut().unwrap();
    wanted.formats = &[Format::Bearer, Format::Basic];
    let Action::Write(write) = world.decide(minutes(1)).action else { panic!("no write") };
    assert_eq!(write.formats, [Format::Bearer, Format::Basic]);
    let org = Repository::parse("https://org@dev.azure.com/org/project/_git/repo").unwrap();
    world.wanted.as_mut().unwrap().unsafe_repository = org.check_formats(&[Format::Bearer]).err();
    assert_eq!(world.does(minutes(1)), "rest");
}

/// A Secret of ours in which somebody has written what `Basic` would, and that may have been changed.
fn taken(drift: Option<Drift>) -> Held {
    let taken = Taken { by: "kubectl".into(), formats: &[Format::Basic] };
    match filled("new", HOUR) {
        Held::Ours { version, record, shared, leftovers, .. } => {
            Held::Ours { version, record, shared, leftovers, drift, taken: Some(Box::new(taken)) }
        }
        other => other,
    }
}

#[test]
fn keys_of_somebody_else_are_waited_for_and_taken_over_where_that_is_asked_for() {
    let mut world = given(taken(None));
    world.minted = Some(token("new-0", NOW, HOUR));
    world.wanted.as_mut().unwrap().formats = &[Format::Bearer, Format::Basic];
    assert_eq!(world.does(minutes(1)), "rest");
    assert_eq!(world.condition(minutes(1), STALLED), says("True", "SecretNotOwned"));
    assert_eq!(world.condition(minutes(1), REFRESH_FAILING), None);
    world.minted = Some(token("new-1", NOW + minutes(25), HOUR));
    let write = |world: &Given, at| match world.decide(at).action {
        Action::Write(write) => (write.formats, write.force),
        other => panic!("{other:?}"),
    };
    assert_eq!(write(&world, minutes(27)), (&[Format::Bearer][..], false), "the renewal goes on");
    world.wanted.as_mut().unwrap().adopt = true;
    assert_eq!(write(&world, minutes(27)), (&[Format::Bearer, Format::Basic][..], true));
    let failing = failing(90033, minutes(26), minutes(26), minutes(28));
    world.refused = Some(Refused { formats: &[Format::Bearer, Format::Basic], failing });
    assert_eq!(
        write(&world, minutes(27)),
        (&[Format::Bearer][..], false),
        "a refusal keeps the renewal waiting neither"
    );
    assert_eq!(write(&world, minutes(28)), (&[Format::Bearer, Format::Basic][..], true), "and is tried again");
    world.held = taken(Some(Drift::By("kubectl".into())));
    assert_eq!(write(&world, minutes(28)), (&[Format::Bearer][..], true), "first what was ours is taken back");
}

#[test]
fn a_change_of_the_deletion_policy_is_remembered_at_once() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-0", NOW, HOUR));
    assert_eq!(world.does(minutes(1)), "rest");
    world.wanted.as_mut().unwrap().deletion_policy = DeletionPolicy::Delete;
    let Action::Write(write) = world.decide(minutes(1)).action else { panic!("no write") };
    assert_eq!((write.deletion_policy, write.made, write.force), (DeletionPolicy::Delete, true, false));
    // A spec that can't be read says nothing of it.
    world.wanted = Err(Failure::new("InvalidSpec", Class::Permanent, "InvalidSpec", "unreadable", "none"));
    assert_eq!(world.does(minutes(1)), "rest");
}

#[test]
fn a_commit_that_renames_the_secret_and_breaks_the_identity_does_not_lock_out() {
    let mut world = given(Held::Absent);
    world.former = filled("old", HOUR).record().cloned().map(Box::new);
    world.last_working = Some(token("old-1", NOW, HOUR));
    assert_eq!(world.does(minutes(1)), "mint new", "the new identity goes first");
    world.failing = Some(failing(700_016, minutes(1), minutes(1), minutes(6)));
    let Action::Write(write) = world.decide(minutes(2)).action else { panic!("no write") };
    assert_eq!((write.identity, write.made), (identity("old"), true));
    let org = Repository::parse("https://org@dev.azure.com/org/project/_git/repo").unwrap();
    world.wanted.as_mut().unwrap().unsafe_repository = org.check_formats(&[Format::Bearer]).err();
    assert_eq!(world.does(minutes(2)), "rest", "a repository that the token must not reach");
}

#[test]
fn only_a_write_that_takes_something_from_somebody_is_told_by_itself() {
    let world = Given { minted: Some(token("new-0", NOW, HOUR)), ..given(Held::Absent) };
    let Action::Write(write) = world.decide(minutes(0)).action else { panic!("no write") };
    let told = |takes| {
        let event = of_write("flux-system", &Write { takes, ..write.clone() })?;
        Some((event.warning, format!("{}: {}", event.reason, event.message)))
    };
    assert_eq!(told(Takes::Nothing), None);
    let back = "SecretCorrected: kubectl had changed Secret flux-system; the token was put back";
    assert_eq!(told(Takes::Back("kubectl".into())), Some((true, back.into())));
    let over = "SecretAdopted: Secret flux-system was taken over: its token opens every repository";
    assert_eq!(told(Takes::Over), Some((false, over.into())));
}

#[test]
fn an_undisturbed_write_is_never_forced() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-1", NOW + minutes(27), HOUR));
    let Action::Write(write) = world.decide(minutes(28)).action else { panic!("no write") };
    assert!(!write.force && !write.revives);
}

#[test]
fn keys_that_are_shared_or_inherited_are_taken_and_from_nobody_who_minds() {
    for (found, with) in [(None, true), (Some(Drift::Inherited), false)] {
        let mut world = given(filled("new", HOUR));
        world.minted = Some(token("new-1", NOW + minutes(27), HOUR));
        if let Held::Ours { drift, shared, .. } = &mut world.held {
            (*drift, *shared) = (found, with);
        }
        let Action::Write(write) = world.decide(minutes(28)).action else { panic!("no write") };
        assert!(write.force && write.takes == Takes::Nothing);
    }
}

#[test]
fn row_28_29_a_foreign_secret_and_an_older_rival_are_left_alone() {
    let foreign = given(foreign());
    assert_eq!(foreign.does(minutes(0)), "rest");
    assert_eq!(foreign.condition(minutes(0), STALLED), says("True", "SecretNotOwned"));
    let mut second = given(filled("new", HOUR));
    second.rival = Some("older".into());
    assert_eq!(second.does(minutes(50)), "rest");
    assert_eq!(second.condition(minutes(0), READY), says("False", "SecretConflict"));
}

#[test]
fn suspended_neither_mints_nor_writes_and_still_expires() {
    let mut world = given(drifted(filled("new", HOUR)));
    world.suspend = true;
    world.minted = Some(token("new-0", NOW, HOUR));
    (world.wanted.as_mut().unwrap().repositories, world.nudge) = (vec![repository()], vec!["fleet".into()]);
    assert_eq!(world.does(minutes(20)), "rest", "nothing is tried out, and nobody nudged");
    assert_eq!(world.does(minutes(50)), "rest");
    assert_eq!(world.decide(minutes(50)).wake, Some(NOW + HOUR));
    assert_eq!(world.condition(minutes(50), READY), says("True", "Succeeded"));
    assert_eq!(world.condition(HOUR, READY), says("False", "TokenExpired"));
    assert_eq!(world.condition(HOUR, RECONCILING), None);
    let never = Given { suspend: true, ..given(Held::Absent) };
    assert_eq!(never.condition(minutes(1), READY), says("False", "Suspended"));
}

#[test]
fn the_status_tells_what_the_secret_holds_and_when_that_is_replaced() {
    let told = |world: &Given| {
        let status = world.status(minutes(1));
        (status.secret, status.expires_at.map(|at| at.0), status.refresh_at.is_some(), status.identity.is_some())
    };
    let mut world = given(filled("new", HOUR));
    assert_eq!(told(&world), (Some("flux-system".into()), Some(NOW + HOUR), true, true));
    world.suspend = true;
    assert_eq!(told(&world), (Some("flux-system".into()), Some(NOW + HOUR), false, true), "nobody replaces it");
    (world.suspend, world.rival) = (false, Some("older".into()));
    assert_eq!(told(&world), (None, None, false, false), "it holds what another BearerToken wrote");
}

#[test]
fn the_end_of_a_certificate_is_told_from_thirty_days_before() {
    let (days, soon) = (HOUR * 24 * 30, Duration::from_secs(1));
    let mut world = given(filled("new", HOUR));
    if let Held::Ours { record: Some(record), .. } = &mut world.held {
        let [tenant_id, client_id, namespace, secret] = ["t", "new", "n", "tls"].map(str::to_owned);
        record.identity = Arc::new(Identity::ClientCertificate { tenant_id, client_id, namespace, secret });
        record.credential_expires_at = Some(NOW + days + soon);
    }
    assert_eq!(world.condition(minutes(0), CREDENTIAL_EXPIRING), None);
    assert_eq!(world.condition(soon, CREDENTIAL_EXPIRING), says("True", "CertificateExpires"));
    let status = world.status(soon);
    let said = |at: usize| status.conditions[at].message.as_str();
    let until = format!("valid until {}", NOW + days + soon);
    assert!(said(0).ends_with(&format!("the certificate it signs in with is {until}")), "{}", said(0));
    assert!(said(1).starts_with(&format!("the certificate in Secret tls is {until}. Register")), "{}", said(1));
}

#[test]
fn a_requested_refresh_is_made_and_answered() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-0", NOW, HOUR));
    world.request = Some(Request { value: "now!".into(), seen_at: NOW + minutes(5) });
    assert_eq!(world.does(minutes(5)), "mint new");
    assert_eq!(world.status(minutes(5)).last_handled_reconcile_at, None);
    world.minted = Some(token("new-1", NOW + minutes(5), HOUR));
    assert_eq!(world.does(minutes(5)), "write new-1");
    assert_eq!(world.status(minutes(5)).last_handled_reconcile_at, None, "it is not written yet");
    world.minted = Some(token("new-0", NOW + minutes(5), minutes(55)));
    assert_eq!(world.does(minutes(5)), "rest", "the issuer has no newer one");
    assert_eq!(world.status(minutes(5)).last_handled_reconcile_at.as_deref(), Some("now!"));
    let mut after = given(filled("new", HOUR));
    after.request = Some(Request { value: "now!".into(), seen_at: NOW });
    assert_eq!(after.does(minutes(5)), "rest", "a token of that very moment is an answer");
    assert_eq!(after.status(minutes(5)).last_handled_reconcile_at.as_deref(), Some("now!"));
}

#[test]
fn a_request_cuts_a_pause_short_but_not_a_retry_after() {
    let mut world = given(filled("new", HOUR));
    world.failing = Some(failing(90002, minutes(0), minutes(1), minutes(6)));
    world.request = Some(Request { value: "v".into(), seen_at: NOW + minutes(1) });
    assert_eq!(world.does(minutes(2)), "rest", "an attempt of that very moment is an answer");
    assert_eq!(world.status(minutes(2)).last_handled_reconcile_at.as_deref(), Some("v"));
    world.request = Some(Request { value: "v".into(), seen_at: NOW + minutes(2) });
    assert_eq!(world.does(minutes(2)), "mint new");
    assert_eq!(world.status(minutes(2)).last_handled_reconcile_at, None);
    let throttled = entra::from_status(429, Some(minutes(4)));
    world.failing = Some(Failing { failure: throttled, ..failing(90055, minutes(0), minutes(1), minutes(5)) });
    assert_eq!(world.does(minutes(2)), "rest");
}

#[test]
fn a_new_identity_that_fails_leaves_the_last_working_one_renewing() {
    let mut world = given(filled("old", HOUR));
    world.failing = Some(failing(700_016, minutes(0), minutes(20), minutes(21)));
    assert_eq!(world.does(minutes(20)), "rest");
    assert_eq!(world.condition(minutes(20), READY), says("True", "Succeeded"));
    assert_eq!(world.condition(minutes(20), REFRESH_FAILING), says("True", "NewIdentityNotWorking"));
    world.failing = Some(failing(700_016, minutes(0), minutes(27), minutes(28)));
    assert_eq!(world.does(minutes(27)), "mint old");
    world.last_working = Some(token("old-1", NOW + minutes(27), HOUR));
    assert_eq!(world.does(minutes(27)), "write old-1");
}

#[test]
fn a_new_identity_takes_over_once_it_opens_what_the_old_one_opened() {
    let mut world = given(filled("old", HOUR));
    world.wanted.as_mut().unwrap().repositories = vec![repository()];
    assert_eq!(world.does(minutes(1)), "mint new");
    world.minted = Some(token("new-0", NOW + minutes(1), HOUR));
    assert_eq!(world.does(minutes(1)), "probe new-0");
    world.probes = vec![probe("new", "new-0", minutes(1), false)];
    assert_eq!(world.does(minutes(1)), "mint old", "after a restart nobody knows what the old one opened");
    world.last_working = Some(token("old-1", NOW + minutes(1), HOUR));
    assert_eq!(world.does(minutes(1)), "probe old-1");
    world.probes.push(probe("old", "old-1", minutes(1), true));
    assert_eq!(world.does(minutes(2)), "rest");
    assert_eq!(world.condition(minutes(2), REFRESH_FAILING), says("True", "NewIdentityNotWorking"));
    assert_eq!(world.does(minutes(7)), "probe new-0");
    world.probes = vec![probe("new", "new-0", minutes(7), true), probe("old", "old-1", minutes(1), true)];
    assert_eq!(world.does(minutes(7)), "write new-0");
}

#[test]
fn a_new_identity_need_not_open_what_the_old_one_did_not_open() {
    let mut world = given(filled("old", HOUR));
    world.wanted.as_mut().unwrap().repositories = vec![repository()];
    world.minted = Some(token("new-0", NOW + minutes(1), HOUR));
    world.probes = vec![probe("new", "new-0", minutes(1), false), probe("old", "old-0", minutes(0), false)];
    assert_eq!(world.does(minutes(1)), "write new-0");
}

#[test]
fn what_the_old_identity_opens_is_asked_where_its_last_answer_does_not_say() {
    let other = Repository::parse("https://dev.azure.com/org/project/_git/other").unwrap();
    let mut world = given(filled("old", HOUR));
    world.wanted.as_mut().unwrap().repositories = vec![repository()];
    world.minted = Some(token("new-0", NOW + minutes(1), HOUR));
    world.last_working = Some(token("old-0", NOW, HOUR));
    let refused = probe("new", "new-0", minutes(1), false);
    let mut old = probe("old", "old-0", minutes(1), false);
    old.answers[0].0 = other;
    world.probes = vec![refused.clone(), old.clone()];
    assert_eq!(world.does(minutes(1)), "probe old-0", "it was asked about another repository");
    for failure in [crate::failure::devops::from_answer(503, false, None), crate::failure::devops::outdated()] {
        let reason = failure.reason;
        old.answers = vec![(repository(), Err(Box::new(failure)))];
        world.probes = vec![refused.clone(), old.clone()];
        assert_eq!(world.does(minutes(1)), "rest", "{reason} does not say that it has no right");
        assert_eq!(world.condition(minutes(1), REFRESH_FAILING), says("True", "NewIdentityNotWorking"));
        assert_eq!(world.does(minutes(6)), "probe old-0");
    }
    world.probes = vec![refused, probe("old", "old-0", minutes(1), false)];
    assert_eq!(world.does(minutes(1)), "write new-0");
}

#[test]
fn once_the_old_token_is_dead_the_new_one_is_written_whatever_it_opens() {
    let mut world = given(filled("old", HOUR));
    world.wanted.as_mut().unwrap().repositories = vec![repository()];
    world.last_failing = Some(failing(90033, minutes(27), minutes(60), minutes(62)));
    world.minted = Some(token("new-1", NOW + minutes(57), HOUR));
    world.probes = vec![probe("new", "new-1", minutes(57), false), probe("old", "old-0", minutes(0), true)];
    assert_eq!(world.does(minutes(59)), "rest");
    assert_eq!(world.does(minutes(61)), "write new-1");
}

#[test]
fn a_spec_that_turned_bad_does_not_lock_flux_out() {
    let mut world = given(filled("old", HOUR));
    world.wanted = Err(Repository::parse("ssh://x").unwrap_err());
    assert_eq!(world.does(minutes(1)), "rest");
    assert_eq!(world.condition(minutes(1), READY), says("True", "Succeeded"));
    assert_eq!(world.condition(minutes(1), STALLED), says("True", "InvalidRepository"));
    assert_eq!(world.does(minutes(27)), "mint old");
}

#[test]
fn a_spec_that_is_bad_from_the_start_writes_nothing() {
    let mut world = given(Held::Absent);
    world.wanted = Err(Repository::parse("ssh://x").unwrap_err());
    world.minted = Some(token("new-0", NOW, HOUR));
    assert_eq!(world.does(minutes(1)), "rest");
    assert_eq!(world.condition(minutes(1), READY), says("False", "InvalidRepository"));
    assert_eq!(world.decide(minutes(1)).wake, Some(NOW + minutes(6)), "looked at again all the same");
}

#[test]
fn who_failed_for_want_of_a_token_is_nudged_once_it_is_there() {
    let mut world = given(Held::Absent);
    (world.nudge, world.in_flight) = (vec!["fleet".into()], true);
    assert_eq!(world.does(minutes(0)), "rest");
    world.held = filled("new", HOUR);
    assert_eq!(world.does(minutes(0)), "nudge");
    world.nudge.clear();
    assert_eq!(world.does(minutes(0)), "rest");
}

#[test]
fn what_a_pause_is_measured_by_is_the_whole_life_of_the_token_in_the_secret() {
    assert_eq!((lifetime(&filled("new", HOUR)), lifetime(&Held::Absent)), (Some(HOUR), None));
}

#[test]
fn an_unsafe_repository_stops_the_first_write_but_no_renewal() {
    let unsafe_repository = Some(Repository::parse("https://evil.example/o/p/_git/r").unwrap_err());
    let mut world = given(Held::Absent);
    world.wanted.as_mut().unwrap().unsafe_repository = unsafe_repository.clone();
    world.minted = Some(token("new-0", NOW, HOUR));
    assert_eq!(world.does(minutes(1)), "rest");
    assert_eq!(world.condition(minutes(1), READY), says("False", "InvalidRepository"));
    assert_eq!(world.condition(minutes(1), ACCESSIBLE), None, "no token is there that could open any");
    let mut later = given(filled("new", HOUR));
    later.wanted.as_mut().unwrap().unsafe_repository = unsafe_repository;
    assert_eq!(later.does(minutes(27)), "mint new");
    assert_eq!(later.condition(minutes(1), ACCESSIBLE), says("False", "InvalidRepository"));
}

#[test]
fn a_revoked_grant_ends_the_last_working_identity() {
    let mut world = given(filled("old", HOUR));
    world.wanted = Err(Repository::parse("ssh://x").unwrap_err());
    world.revoked = Some(Repository::parse("ssh://x").unwrap_err());
    assert_eq!(world.does(minutes(30)), "rest");
}

#[test]
fn a_failed_write_is_repeated_after_its_pause() {
    let mut world = given(filled("new", HOUR));
    world.minted = Some(token("new-1", NOW + minutes(27), HOUR));
    world.writing = Some(failing(90033, minutes(27), minutes(28), minutes(29)));
    assert_eq!(world.does(minutes(28)), "rest");
    assert_eq!(world.condition(minutes(28), REFRESH_FAILING), says("True", "EntraUnavailable"));
    assert_eq!(world.does(minutes(29)), "write new-1");
}

#[test]
fn each_token_is_tried_out_once_and_again_while_it_does_not_open() {
    let mut world = given(filled("new", HOUR));
    world.wanted.as_mut().unwrap().repositories = vec![repository()];
    world.minted = Some(token("new-0", NOW, HOUR));
    assert_eq!(world.does(minutes(1)), "probe new-0");
    world.probing = true;
    assert_eq!(world.does(minutes(1)), "rest", "the repositories are being asked already");
    assert_eq!(world.does(minutes(27)), "mint new", "no repository delays a refresh");
    world.probing = false;
    world.probes = vec![probe("new", "new-0", minutes(1), true)];
    assert_eq!(world.does(minutes(20)), "rest");
    world.probes = vec![probe("new", "new-0", minutes(1), false)];
    assert_eq!(world.does(minutes(5)), "rest");
    assert_eq!(world.does(minutes(6)), "probe new-0");
    assert_eq!(world.condition(minutes(5), READY), says("True", "Succeeded"), "Accessible never changes Ready");
    world.probes = vec![probe("new", "new-0", minutes(1), true)];
    let another = Repository::parse("https://dev.azure.com/org/project/_git/another").unwrap();
    world.wanted.as_mut().unwrap().repositories.push(another);
    assert_eq!(world.does(minutes(5)), "probe new-0", "one that was named meanwhile");
    assert_eq!(world.condition(minutes(5), ACCESSIBLE), None);
}

#[test]
fn what_the_token_opens_is_told_in_words() {
    let mut world = given(filled("new", HOUR));
    world.probes = vec![probe("new", "new-0", minutes(1), true)];
    let told = |world: &Given| world.status(minutes(1)).conditions.into_iter().map(|one| one.message).next_back();
    assert_eq!(told(&world).as_deref(), Some("the token opens its repository"));
    let another = world.probes[0].answers[0].clone();
    world.probes[0].answers.push(another);
    assert_eq!(told(&world).as_deref(), Some("the token opens all 2 repositories"));
    world.probes = vec![probe("new", "new-0", minutes(1), false)];
    let closed = told(&world).unwrap();
    assert!(closed.starts_with("https://dev.azure.com/org/project/_git/repo: TF401019: the repository"), "{closed}");
}

#[test]
fn other_keys_are_written_at_once() {
    let mut world = given(filled("new", HOUR));
    world.wanted.as_mut().unwrap().formats = &[Format::Basic];
    assert_eq!(world.does(minutes(1)), "mint new");
}

/// What is known of a ServiceAccount that was read, or not, for the work in hand.
fn read(fresh: bool) -> Account {
    Account { fresh, failing: None }
}

#[test]
fn a_service_account_is_read_before_anything_is_wanted_and_before_each_mint() {
    let absent = || given(Held::Absent);
    let unread = Failure::new("Unread", Class::Transient, "Unread", "not read", "wait");
    let unknown = Given { account: Some(read(false)), wanted: Err(unread), ..absent() };
    assert_eq!(unknown.does(HOUR), "introduce");
    assert_eq!(Given { suspend: true, ..unknown }.does(HOUR), "rest", "a suspended one is not read");
    assert_eq!(Given { account: Some(read(true)), ..absent() }.does(HOUR), "mint new");
    assert_eq!(Given { account: Some(read(false)), ..absent() }.does(HOUR), "introduce");
    let under_way = Given { account: Some(read(false)), in_flight: true, ..absent() };
    assert_eq!(under_way.does(HOUR), "rest");
    let paused = Given { account: Some(read(false)), failing: Some(failing(90002, HOUR, HOUR, 2 * HOUR)), ..absent() };
    assert_eq!(paused.does(HOUR), "rest", "it is read when it signs in, not while it may not");
}

#[test]
fn a_service_account_that_says_another_identity_leaves_the_last_working_one_renewing_unread() {
    let changed = Given { account: Some(read(false)), ..given(filled("old", HOUR)) };
    assert_eq!(changed.does(minutes(1)), "introduce", "the new one is looked at");
    let known = Given { account: Some(read(true)), failing: Some(failing(700_016, HOUR, HOUR, 2 * HOUR)), ..changed };
    assert_eq!(known.does(minutes(1)), "rest");
    assert_eq!(known.does(minutes(28)), "mint old", "the old one is not asked whether it may");
}

#[test]
fn a_look_at_a_service_account_that_fails_pauses_like_any_other_and_is_told() {
    let failure = || Failure::new("ServiceAccountMissing", Class::Starting, "HTTP 404", "none", "make one");
    let run = |retry: Duration| Failing { failure: failure(), since: NOW, at: NOW, attempts: 1, retry_at: NOW + retry };
    let account = |retry| Some(Account { fresh: false, failing: Some(run(retry)) });
    let first = Given { account: account(minutes(5)), wanted: Err(failure()), ..given(Held::Absent) };
    assert_eq!(first.does(minutes(1)), "rest");
    assert_eq!(first.decide(minutes(1)).wake, Some(NOW + minutes(5)));
    assert_eq!(first.condition(minutes(1), READY), says("False", "ServiceAccountMissing"));
    assert_eq!(first.does(minutes(5)), "introduce");
    let asked = Request { value: "now".into(), seen_at: NOW + minutes(1) };
    assert_eq!(Given { request: Some(asked), ..first }.does(minutes(1)), "introduce", "a request cuts the pause short");
    // Of one that was known before.
    let later = Given { account: account(HOUR), ..given(filled("new", HOUR)) };
    assert_eq!(later.condition(minutes(1), REFRESH_FAILING), None, "no mint is due");
    assert_eq!(later.condition(minutes(30), REFRESH_FAILING), says("True", "ServiceAccountMissing"));
    assert_eq!(later.condition(minutes(30), READY), says("True", "Succeeded"));
}

#[test]
fn a_token_that_a_repository_finds_outdated_is_replaced_at_once_while_a_newer_one_can_be_had() {
    let mut given = given(filled("new", HOUR));
    given.wanted.as_mut().unwrap().repositories = vec![repository()];
    given.minted = Some(token("new-0", NOW, HOUR));
    let mut refused = probe("new", "new-0", minutes(1), true);
    refused.answers[0].1 = Err(Box::new(crate::failure::devops::outdated()));
    given.probes = vec![refused];
    assert_eq!(given.does(minutes(1)), "rest", "the cap is reached, or the issuer has no newer one");
    assert_eq!(given.condition(minutes(1), ACCESSIBLE), says("False", "TokenOutdated"));
    given.outdated = true;
    assert_eq!(given.does(minutes(1)), "mint new");
    given.in_flight = true;
    assert_eq!(given.does(minutes(1)), "rest");
    given.in_flight = false;
    given.failing = Some(failing(90055, minutes(1), minutes(1), minutes(2)));
    assert_eq!(given.does(minutes(1)), "rest", "a mint that fails has its pause");
    assert_eq!(given.does(minutes(2)), "mint new");
    (given.outdated, given.failing) = (false, None);
    given.minted = Some(token("new-1", NOW + minutes(1), HOUR));
    assert_eq!(given.does(minutes(1)), "write new-1");
}

#[test]
fn a_newer_token_is_no_reason_to_write_where_the_old_one_is_not_refused() {
    let mut given = given(filled("new", HOUR));
    given.wanted.as_mut().unwrap().repositories = vec![repository()];
    given.minted = Some(token("new-1", NOW + minutes(1), HOUR));
    for (opens, outdated) in [(true, false), (true, true), (false, false), (false, true)] {
        (given.probes, given.outdated) = (vec![probe("new", "new-0", minutes(1), opens)], outdated);
        assert_eq!(given.does(minutes(1)), "rest", "opens: {opens}, outdated: {outdated}");
    }
    given.probes.clear();
    assert_eq!(given.does(minutes(1)), "rest", "only the token that is in the Secret is tried out");
}
