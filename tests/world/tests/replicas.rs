//! Two controllers and one lease: never two writers, and never too long none.

mod support;

use flux_bearer_controller::run::End;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::REPOSITORY;
use flux_bearer_world::stage::{LEASE, Machine, NAMESPACE, Running};
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::pair::{answers, fault, json_answer, page};
use support::{Theatre, answer, lines, minutes, seconds};

/// How long after its last renewal a leader may still write, in seconds.
const DEADLINE: u64 = 30;

/// How long a follower waits for a leader that is gone, in seconds: the lease's duration and a retry.
const TAKEOVER: u64 = 35 + 5;

/// Controllers `a`, which leads, and `b`, which follows, with a token of ten minutes.
struct Two {
    theatre: Theatre,
    machines: [Machine; 2],
    a: Running,
    b: Running,
}

impl Two {
    async fn start() -> Self {
        let theatre = Theatre::with(&[600]);
        theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let machines = ["a", "b"].map(|name| theatre.stage.machine(name));
        let a = theatre.stage.start_replica_on(&machines[0]);
        seconds(1).await;
        let b = theatre.stage.start_replica_on(&machines[1]);
        seconds(10).await;
        assert_eq!(theatre.leader(), "a");
        Self { theatre, machines, a, b }
    }

    /// Who wrote, each once, in the order of their first write.
    #[track_caller]
    fn writers(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.theatre.writers_under_lease(DEADLINE) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// How a controller ends that has a minute for it.
async fn ended(running: Running) -> Option<End> {
    tokio::time::timeout(std::time::Duration::from_secs(60), running.end()).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_the_follower_is_ready() {
    let two = Two::start().await;
    assert!(*two.a.ready.borrow() && *two.b.ready.borrow(), "both are ready, or one never becomes Available");
    minutes(180).await;
    assert_eq!(two.writers(), ["a"]);
    assert_eq!(two.theatre.expired_seconds("flux-system"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_34_the_follower_takes_over_from_a_leader_that_is_killed_before_the_token_expires() {
    for wait in (0..300).step_by(23) {
        let two = Two::start().await;
        minutes(10).await;
        seconds(wait).await;
        let killed = two.theatre.stage.world.clock().now();
        let Two { theatre, machines: _machines, a, b } = two;
        a.kill().await;
        seconds(TAKEOVER).await;
        assert_eq!(theatre.leader(), "b", "killed after {wait} s");
        minutes(20).await;
        let writers = theatre.writers_under_lease(DEADLINE);
        assert!(writers.iter().all(|(name, at)| name == "a" || *at > killed + std::time::Duration::from_secs(5)));
        assert!(writers.iter().any(|(name, _)| name == "b"));
        assert_eq!(theatre.expired_seconds("flux-system"), 0, "killed after {wait} s");
        b.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_35_a_leader_that_stops_gives_the_lease_back_and_the_follower_leads_within_one_retry() {
    let two = Two::start().await;
    minutes(5).await;
    let Two { theatre, a, b, .. } = two;
    assert_eq!(a.stop().await, Some(End::Stopped));
    assert_eq!(theatre.leader(), "");
    seconds(6).await;
    assert_eq!(theatre.leader(), "b");
    minutes(30).await;
    assert_eq!(theatre.expired_seconds("flux-system"), 0);
    assert_eq!(theatre.writers_under_lease(DEADLINE).last().unwrap().0, "b");
    assert_eq!(b.stop().await, Some(End::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stops_takes_nothing_from_the_leader() {
    let Two { theatre, a: _a, b, .. } = Two::start().await;
    assert_eq!(b.stop().await, Some(End::Stopped));
    assert_eq!(theatre.leader(), "a");
}

#[tokio::test(start_paused = true)]
async fn row_36_a_leader_that_is_cut_off_stops_by_its_deadline_and_ends() {
    let cuts = [
        ("refused", fault(None, Some(Effect::Refuse))),
        ("silent", fault(None, Some(Effect::Hang))),
        ("late", fault(Some(6_000), None)),
        ("lost on the way back", fault(None, Some(Effect::Lose))),
        ("a page", page(200)),
        ("a gateway", page(502)),
        ("nobody", answers(401, "application/json", "")),
    ];
    for (what, cut) in cuts {
        for wait in (0..300).step_by(47) {
            let two = Two::start().await;
            seconds(120 + wait).await;
            two.machines[0].way.set(cut.clone());
            let gone = two.theatre.stage.world.clock().now();
            minutes(15).await;
            let Two { theatre, a, b, .. } = two;
            let writers = theatre.writers_under_lease(DEADLINE);
            let late = gone + std::time::Duration::from_secs(DEADLINE);
            let lates = writers.iter().filter(|(name, at)| name == "a" && *at > late).count();
            // Where only the way back is cut its renewals arrive, so it holds the lease until it gives up.
            assert_eq!(lates, 0, "{what}");
            assert_eq!(ended(a).await, Some(End::LeaseLost), "{what}");
            assert_eq!(theatre.leader(), "b", "{what}");
            assert_eq!(theatre.expired_seconds("flux-system"), 0, "{what} after {wait} s");
            b.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_make_no_sense_make_nobody_lead() {
    let cases = [
        ("a page", page(200)),
        ("an empty reply", json_answer("")),
        ("deep JSON", json_answer("[".repeat(100_000))),
        ("a lease of the wrong types", json_answer(r#"{"metadata":{"name":7},"spec":{"holderIdentity":["b"]}}"#)),
        ("a refusal", answers(403, "application/json", "{}")),
        ("half a reply", fault(None, Some(Effect::Cut { after: 30 }))),
        ("no reply", fault(None, Some(Effect::Hang))),
        ("a slow reply", fault(Some(6_000), None)),
    ];
    for (what, trouble) in cases {
        let theatre = Theatre::with(&[600]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let trouble = Fault { path: Some("/leases".into()), ..trouble };
        theatre.stage.kube.faults().set(trouble.clone());
        let machine = theatre.stage.machine("a");
        let running = theatre.stage.start_replica_on(&machine);
        minutes(10).await;
        assert_eq!(theatre.writes(), 0, "{what}: nobody leads, nobody writes");
        theatre.stage.kube.faults().clear_all();
        seconds(TAKEOVER).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "{what}");
        theatre.stage.kube.faults().set(trouble);
        assert_eq!(ended(running).await, Some(End::LeaseLost), "{what}");
        assert!(!theatre.writers_under_lease(DEADLINE).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn row_17_a_step_of_one_machines_clock_moves_no_lease_and_expires_no_token() {
    for (who, hours) in [(0, 5), (0, -5), (1, 5), (1, -5)] {
        let two = Two::start().await;
        minutes(5).await;
        two.machines[who].clock.step(SignedDuration::from_hours(hours));
        minutes(60).await;
        let what = format!("{} by {hours} h", two.machines[who].name);
        assert_eq!(two.theatre.leader(), "a", "{what}");
        assert_eq!(two.writers(), ["a"], "{what}");
        let Two { theatre, a, b, .. } = two;
        assert_eq!(theatre.expired_seconds("flux-system"), 0, "{what}");
        a.kill().await;
        minutes(30).await;
        assert_eq!(theatre.leader(), "b", "{what}");
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "{what}");
        assert_eq!(theatre.expired_seconds("flux-system"), 0, "{what}, and the other takes over");
        theatre.writers_under_lease(DEADLINE);
        b.kill().await;
    }
}

/// Makes `holder` hold the lease for `seconds`, as one that has taken it just now.
fn held_by(theatre: &Theatre, holder: &str, seconds: u32) {
    let now = theatre.stage.world.clock().now().to_string();
    let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now, "acquireTime": now});
    edit_lease(theatre, |lease| lease["spec"] = spec);
}

fn edit_lease(theatre: &Theatre, edit: impl FnOnce(&mut Value)) {
    let empty = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE, "namespace": NAMESPACE}});
    let mut lease = theatre.stage.kube.get("Lease", NAMESPACE, LEASE).unwrap_or(empty);
    edit(&mut lease);
    theatre.stage.kube.apply(lease);
}

/// Stops the process of every controller for longer than a lease, as SIGSTOP does: time passes, and then each goes on from
/// where it was. Meanwhile `b` has taken the lease.
async fn stop_while_b_takes_the_lease(theatre: &Theatre) {
    held_by(theatre, "b", 600);
    tokio::time::advance(std::time::Duration::from_secs(50)).await;
}

#[tokio::test(start_paused = true)]
async fn row_36_a_leader_that_was_stopped_and_goes_on_writes_nothing_whatever_it_was_at() {
    // What it is at when it is stopped: the request whose answer takes seconds, and how many seconds before the refresh.
    let cases = [
        ("a sign-in", "azure", "oauth2/v2.0/token", 1),
        ("the Secret", "kube", "/secrets/flux-system?fieldManager", 1),
        ("the status", "kube", "/bearertokens/flux-system/status", 1),
        ("the first of two nudges", "kube", "/gitrepositories/", 1),
        ("nothing", "", "", 20),
    ];
    for (what, whose, path, before) in cases {
        for first in [true, false] {
            let theatre = Theatre::with(&[600]);
            for name in ["flux-system", "apps"] {
                theatre.stage.git_repository(name, "flux-system", REPOSITORY);
                let status =
                    json!({"conditions": [{"type": "Ready", "status": "False", "reason": "AuthenticationFailed"}]});
                theatre.stage.kube.patch_status("GitRepository", NAMESPACE, name, status);
            }
            theatre.stage.bearer_token("flux-system", &json!({}));
            let slow = Fault { path: Some(path.into()), ..fault(Some(3_000), None) };
            let start = || match whose {
                "azure" => theatre.stage.world.faults().set(slow.clone()),
                "kube" => theatre.stage.kube.faults().set(slow.clone()),
                _ => {}
            };
            if first {
                start();
            }
            let a = theatre.stage.start_replica_on(&theatre.stage.machine("a"));
            seconds(2).await;
            if !first {
                seconds(20).await;
                start();
                seconds(theatre.seconds_to_refresh("flux-system") + 3 - before).await;
            }
            stop_while_b_takes_the_lease(&theatre).await;
            assert_eq!(ended(a).await, Some(End::LeaseLost), "{what}");
            theatre.writers_under_lease(DEADLINE);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_stopped_and_not_replaced_goes_on_and_forgets_no_work() {
    for before in (0..60).step_by(7) {
        let theatre = Theatre::with(&[600]);
        theatre.stage.bearer_token("flux-system", &json!({}));
        let _a = theatre.stage.start_replica_on(&theatre.stage.machine("a"));
        seconds(20).await;
        seconds(theatre.seconds_to_refresh("flux-system") - before).await;
        tokio::time::advance(std::time::Duration::from_secs(50)).await;
        minutes(20).await;
        assert_eq!(theatre.leader(), "a");
        assert_eq!(
            theatre.stage.says("flux-system", "Ready"),
            "True Succeeded",
            "stopped {before} s before its refresh"
        );
        assert_eq!(theatre.expired_seconds("flux-system"), 0, "stopped {before} s before its refresh");
        theatre.writers_under_lease(DEADLINE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_under_its_leader_is_made_anew_by_it() {
    for wait in (0..30).step_by(4) {
        let two = Two::start().await;
        seconds(wait).await;
        assert!(two.theatre.stage.kube.delete("Lease", NAMESPACE, LEASE));
        minutes(30).await;
        assert_eq!(two.theatre.leader(), "a", "deleted after {wait} s");
        assert_eq!(two.writers(), ["a"], "deleted after {wait} s");
        assert_eq!(two.theatre.expired_seconds("flux-system"), 0);
        let Two { theatre, a, b, .. } = two;
        a.kill().await;
        theatre.stage.kube.delete("Lease", NAMESPACE, LEASE);
        seconds(TAKEOVER + 5).await;
        assert_eq!(theatre.leader(), "b", "nobody made it anew");
        b.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_edited_to_nonsense_stays_with_its_leader() {
    let cases = [
        ("no spec", json!(null)),
        ("nobody in it", json!({"leaseDurationSeconds": 35})),
        ("no duration", json!({"holderIdentity": "a"})),
        ("no time at all", json!({"holderIdentity": "a", "leaseDurationSeconds": 0, "renewTime": null})),
        ("less than no time", json!({"holderIdentity": "a", "leaseDurationSeconds": -7})),
        ("an age", json!({"holderIdentity": "a", "leaseDurationSeconds": i32::MAX, "leaseTransitions": i32::MAX})),
        (
            "times of its own",
            json!({"holderIdentity": "a", "leaseDurationSeconds": 35, "renewTime": "2199-01-01T00:00:00.000000Z", "acquireTime": "1970-01-01T00:00:00.000000Z"}),
        ),
    ];
    for (what, spec) in cases {
        let two = Two::start().await;
        seconds(7).await;
        edit_lease(&two.theatre, |lease| lease["spec"] = spec);
        minutes(30).await;
        assert_eq!(two.theatre.leader(), "a", "{what}");
        assert_eq!(two.writers(), ["a"], "{what}");
        assert_eq!(two.theatre.expired_seconds("flux-system"), 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_in_whose_lease_somebody_wrote_another_ends_at_its_next_renewal() {
    let Two { theatre, a, b, .. } = Two::start().await;
    held_by(&theatre, "nobody", 35);
    seconds(16).await;
    assert_eq!(tokio::time::timeout(std::time::Duration::from_secs(1), a.end()).await, Ok(Some(End::LeaseLost)));
    seconds(TAKEOVER).await;
    assert_eq!(theatre.leader(), "b");
    b.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaders_lease_that_was_made_to_last_for_years_is_free_after_ten_minutes() {
    let Two { theatre, a, b, .. } = Two::start().await;
    a.kill().await;
    edit_lease(&theatre, |lease| lease["spec"]["leaseDurationSeconds"] = i32::MAX.into());
    seconds(590).await;
    assert_eq!(theatre.leader(), "a");
    seconds(20).await;
    assert_eq!(theatre.leader(), "b");
    b.kill().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_notes_on_a_dead_leaders_lease_does_not_renew_it() {
    let Two { theatre, a, b, .. } = Two::start().await;
    a.kill().await;
    for note in 0..8 {
        theatre.stage.kube.annotate("Lease", NAMESPACE, LEASE, "example.com/note", &note.to_string());
        seconds(5).await;
    }
    assert_eq!(theatre.leader(), "b");
    b.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_another_program_is_told_once_a_holder_and_never_stolen() {
    lines::keep();
    let theatre = Theatre::with(&[600]);
    theatre.stage.bearer_token("flux-system", &json!({}));
    held_by(&theatre, "other-program_1", 15);
    let a = theatre.stage.start_replica_on(&theatre.stage.machine("a"));
    for holder in ["other-program_1", "other-program_2\n{}"] {
        for _ in 0..60 {
            held_by(&theatre, holder, 15);
            seconds(10).await;
        }
        let told = lines::take(&["another program holds the lease", &holder[..15]]);
        assert_eq!(told.len(), 1, "{told:?}");
        let fix = [
            "kubectl -n flux-system get lease flux-bearer-controller-leader-election",
            "--enable-leader-election=false",
        ];
        assert!(fix.iter().all(|fix| told[0].contains(fix)), "{told:?}");
    }
    assert!(*a.ready.borrow(), "it is ready like every follower");
    assert_eq!(theatre.writes(), 0);
    seconds(25).await;
    assert_eq!(theatre.leader(), "a", "it is free once nobody renews it");
    let lease = theatre.stage.kube.get("Lease", NAMESPACE, LEASE).unwrap();
    assert_eq!(lease["metadata"]["labels"]["app.kubernetes.io/part-of"], "flux-bearer");
    assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded");
}

#[tokio::test(start_paused = true)]
async fn our_own_lease_is_no_strangers_and_a_forbidden_one_is_told_once() {
    lines::keep();
    let two = Two::start().await;
    minutes(10).await;
    assert_eq!(lines::take(&["another program"]), Vec::<String>::new());
    two.theatre.stage.kube.set_authorizer(|info| info.resource != "leases");
    minutes(10).await;
    let told = lines::take(&["may not get, create or update its lease", "flux-bearer-controller-leader-election"]);
    assert_eq!(told.len(), 2, "one a replica: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_has_just_started_and_refuses_everybody_is_no_missing_role() {
    lines::keep();
    let two = Two::start().await;
    minutes(10).await;
    lines::take(&[]);
    let refused = Fault {
        name: "just started".into(),
        path: Some("/leases".into()),
        times: Some(1),
        effect: Some(answer(403)),
        ..Fault::default()
    };
    two.theatre.stage.kube.faults().set(refused);
    minutes(10).await;
    let told = lines::take(&["lease"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told.iter().all(|line| line.contains("can't be read or renewed at the moment")), "{told:?}");
}
