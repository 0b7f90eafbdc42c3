//! Two controllers and one lease: never two writers, and never too long none.

mod support;

use flux_bearer_controller::run::End;
use flux_bearer_sim::faults::{Effect, Fault};
use flux_bearer_world::identities::REPOSITORY;
use flux_bearer_world::stage::{Machine, Running};
use jiff::SignedDuration;
use serde_json::json;
use support::pair::{answers, fault, json_answer, page};
use support::{Theatre, minutes, seconds};

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
async fn the_follower_takes_over_from_a_leader_that_is_killed_before_the_token_expires() {
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
async fn a_leader_that_stops_gives_the_lease_back_and_the_follower_leads_within_one_retry() {
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
async fn a_leader_that_is_cut_off_stops_by_its_deadline_and_ends() {
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
async fn a_step_of_one_machines_clock_moves_no_lease_and_expires_no_token() {
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
