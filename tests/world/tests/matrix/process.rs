//! Faults of the controller's own processes and machines, and many objects at once.

use std::collections::HashMap;
use std::time::Duration;

use flux_bearer::flux::REQUESTED_AT;
use flux_bearer_controller::run::End;
use flux_bearer_sim::faults::Fault;
use flux_bearer_world::gate::Death;
use flux_bearer_world::identities::{REPOSITORY, TENANT, client};
use flux_bearer_world::stage::{NAMESPACE, Running};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::table::{folder, sources};
use crate::support::pair::fault;
use crate::support::{Theatre, minutes, seconds};

/// How long after its last renewal a leader may still write, in seconds.
const DEADLINE: u64 = 30;

/// A theatre with BearerToken and GitRepository `flux-system`, whose tokens live so many seconds.
fn one(lifetime: u32) -> Theatre {
    let theatre = Theatre::with(&[lifetime]);
    theatre.stage.git_repository("flux-system", "flux-system", REPOSITORY);
    theatre.stage.bearer_token("flux-system", &json!({}));
    theatre
}

/// Lets each write of a Secret take so many milliseconds.
fn slow_writes(theatre: &Theatre, milliseconds: u64) {
    let (method, path) = (Some("PATCH".into()), Some("/secrets/".into()));
    theatre.stage.kube.faults().set(Fault { method, path, ..fault(Some(milliseconds), None) });
}

#[tokio::test(start_paused = true)]
async fn row_17_a_machine_that_slept_for_two_hours_has_a_good_token_within_a_minute() {
    for (slept, dies) in [(20, false), (120, true)] {
        let theatre = one(3600);
        let _running = theatre.stage.start();
        minutes(20).await;
        // Its monotonic clock has stood still, and the world has gone on.
        let slept = SignedDuration::from_mins(slept);
        theatre.stage.world.clock().step(slept);
        theatre.stage.machine.step(slept);
        seconds(60).await;
        assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "{slept:?}");
        assert_eq!(theatre.clone("flux-system").await, 200, "{slept:?}");
        assert_eq!(theatre.expired_seconds("flux-system") > 0, dies, "{slept:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_34_a_process_that_is_killed_at_any_request_of_a_refresh_costs_one_token_at_most() {
    for death in [Death::Before, Death::After] {
        for requests in 0..10 {
            for first in [true, false] {
                let what = format!("{death:?} request {requests}, at the first token: {first}");
                let theatre = one(600);
                let machine = theatre.stage.machine("a");
                let running = if first {
                    machine.gate.die_after(requests, death);
                    theatre.stage.start_replica_on(&machine)
                } else {
                    let running = theatre.stage.start_replica_on(&machine);
                    seconds(20).await;
                    seconds(theatre.seconds_to_refresh("flux-system") - 1).await;
                    machine.gate.die_after(requests, death);
                    running
                };
                let before = u64::from(!first);
                timeout(Duration::from_secs(300), machine.gate.died()).await.unwrap();
                running.kill().await;
                machine.gate.begin();
                let _running = theatre.stage.start_replica_on(&machine);
                seconds(60).await;
                let mints = theatre.stage.world.journal().mints(&client(0)) - before;
                assert!(mints <= 2, "{what}: {mints} mints for one token");
                assert_eq!(theatre.stage.says("flux-system", "Ready"), "True Succeeded", "{what}");
                minutes(20).await;
                assert_eq!(theatre.expired_seconds("flux-system"), 0, "{what}");
                assert_eq!(theatre.clone("flux-system").await, 200, "{what}");
                assert_eq!(machine.gate.faults(), Vec::<String>::new(), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_35_a_leader_that_is_stopped_in_a_storm_ends_its_work_and_hands_over_within_seconds() {
    let theatre = Theatre::with(&[3600]);
    let names: Vec<String> = (0..200).map(|number| format!("token-{number}")).collect();
    for name in &names {
        theatre.stage.bearer_token(name, &json!({}));
    }
    let machines = ["a", "b"].map(|name| theatre.stage.machine(name));
    let a = theatre.stage.start_replica_on(&machines[0]);
    seconds(1).await;
    let b = theatre.stage.start_replica_on(&machines[1]);
    minutes(5).await;
    // The last write of the leader and its release of the lease are no one moment.
    theatre.stage.kube.faults().set(Fault { method: Some("PATCH".into()), ..fault(Some(1_000), None) });
    for name in &names {
        theatre.stage.kube.annotate("BearerToken", NAMESPACE, name, REQUESTED_AT, "now");
    }
    seconds(3).await;
    theatre.stage.kube.journal().clear();
    let stopped = Instant::now();
    assert_eq!(a.stop().await, Some(End::Stopped));
    assert!(stopped.elapsed() <= Duration::from_secs(10), "{:?}", stopped.elapsed());
    seconds(6).await;
    assert_eq!(theatre.leader(), "b", "one look at the lease later");
    minutes(2).await;
    let writers = theatre.writers_under_lease(DEADLINE);
    assert!(writers.iter().any(|(name, _)| name == "b"));
    for name in &names {
        let object = theatre.stage.kube.get("BearerToken", NAMESPACE, name).unwrap();
        assert_eq!(object["status"]["lastHandledReconcileAt"], "now", "{name}");
    }
    b.kill().await;
}

#[tokio::test(start_paused = true)]
async fn row_37_without_any_replica_for_half_of_what_is_left_no_token_expires() {
    for lifetime in [600, 3600, 86_400] {
        let theatre = one(lifetime);
        let start = || ["a", "b"].map(|name| theatre.stage.start_replica(name));
        let running = start();
        seconds(20).await;
        seconds(theatre.seconds_to_refresh("flux-system") - 1).await;
        for replica in running {
            Running::kill(replica).await;
        }
        seconds(u64::from(lifetime) * 55 / 200).await;
        let _running = start();
        seconds(60).await;
        assert_eq!(theatre.expired_seconds("flux-system"), 0, "tokens that live {lifetime} s");
        assert!(theatre.fillings("flux-system") >= 2, "tokens that live {lifetime} s");
    }
}

#[tokio::test(start_paused = true)]
async fn row_46_a_thousand_of_one_second_are_due_one_after_the_other_and_mint_once() {
    let theatre = Theatre::with(&[3600]);
    let names: Vec<String> = (0..1000).map(|number| format!("token-{number}")).collect();
    for name in &names {
        theatre.stage.bearer_token(name, &json!({}));
    }
    slow_writes(&theatre, 5);
    let _running = theatre.stage.start();
    seconds(5).await;
    assert_eq!(theatre.stage.world.journal().mints(&client(0)), 1);
    let mut due: HashMap<i64, usize> = HashMap::new();
    for name in &names {
        let at: Timestamp = theatre.record(name)["refreshAt"].as_str().unwrap().parse().unwrap();
        *due.entry(at.as_second() / 10).or_default() += 1;
    }
    assert!(due.values().all(|count| *count <= 100), "within ten seconds: {due:?}");
    minutes(65).await;
    assert!(names.iter().all(|name| theatre.expired_seconds(name) == 0));
}

#[tokio::test(start_paused = true)]
async fn row_47_a_namespace_that_flaps_faster_than_it_can_be_served_keeps_no_other_from_its_token() {
    let theatre = Theatre::with(&[600]);
    for number in 0..10 {
        theatre.stage.bearer_token(&format!("calm-{number}"), &json!({}));
    }
    let flap = |number: usize, suspend: bool| {
        theatre.stage.kube.apply(json!({
            "apiVersion": "flux-bearer.dev/v1alpha1", "kind": "BearerToken",
            "metadata": {"name": format!("flapping-{number}"), "namespace": "noisy"},
            "spec": {"suspend": suspend, "identity": {"tenantId": TENANT, "clientId": client(0)}},
        }));
    };
    let slow = Fault { method: Some("PATCH".into()), ..fault(Some(300), None) };
    theatre.stage.kube.faults().set(slow);
    let _running = theatre.stage.start();
    seconds(10).await;
    let calm: Vec<String> = (0..10).map(|number| format!("calm-{number}")).collect();
    // Eight at a time of 300 ms are 27 a second.
    for second in 0..12 * 60 {
        (0..60).for_each(|number| flap(number, second % 2 == 0));
        seconds(1).await;
        for name in &calm {
            let late = late(&theatre.record(name), theatre.stage.world.clock().now());
            assert!(late <= 1, "{name} is {late} s late");
        }
    }
    for name in &calm {
        assert_eq!(theatre.expired_seconds(name), 0, "{name}");
        assert!(theatre.fillings(name) >= 3, "{name} was refreshed {} times", theatre.fillings(name));
    }
}

/// For how many seconds a refresh has been due.
fn late(record: &Value, now: Timestamp) -> i64 {
    let due: Timestamp = record["refreshAt"].as_str().unwrap().parse().unwrap();
    now.duration_since(due).as_secs()
}

#[test]
fn row_48_nothing_that_runs_in_the_pod_writes_a_file() {
    let written = ["fs::write", "File::create", "OpenOptions", "create_dir", "tempfile", "temp_dir"];
    for of in ["crates/flux-bearer/src", "crates/flux-bearer-azure/src", "crates/flux-bearer-controller/src"] {
        for (path, source) in sources(&folder(of)) {
            let shipped = source.split("#[cfg(test)]").next().unwrap();
            let found: Vec<&&str> = written.iter().filter(|call| shipped.contains(**call)).collect();
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
}
