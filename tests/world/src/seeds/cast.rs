//! The controllers of a run: each is started anew whenever it has ended, as a kubelet does it.

use std::future::pending;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::watchdog::Watchdog;
use crate::stage::{Machine, Stage};

/// How long a kubelet needs to start what has ended.
const RESTART: Duration = Duration::from_secs(1);

/// How long it may take until another controller does the work of one that has ended.
const TAKEOVER: Duration = Duration::from_secs(120);

/// What a kubelet is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Kill the process, and start it anew after so long.
    Kill(Duration),
    /// Ask it to stop, and start it anew after so long.
    Stop(Duration),
    /// Set the machine's clock by so much. Not while nothing runs: how old a token is by a clock that was set back meanwhile,
    /// a process can't know.
    Clock(SignedDuration),
    /// When the process dies by itself, wait for so long.
    RestartAfter(Duration),
}

/// One machine with a controller on it.
pub(super) struct Actor {
    /// The machine.
    pub(super) machine: Machine,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl Actor {
    /// Starts a controller on a machine of its own.
    pub(super) fn enter(stage: &Stage, name: &str, watchdog: &Watchdog) -> Self {
        let machine = stage.machine(name);
        let (orders, told) = mpsc::unbounded_channel();
        let kubelet = Kubelet { stage: stage.clone(), machine: machine.clone(), watchdog: watchdog.clone(), told };
        Self { machine, orders, task: tokio::spawn(kubelet.run()) }
    }

    /// Gives an order.
    pub(super) fn order(&self, order: Order) {
        // Nobody hears it only where the kubelet has panicked, which `is_well` tells.
        self.orders.send(order).unwrap_or_default();
    }

    /// Whether its kubelet still runs.
    pub(super) fn is_well(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Kubelet {
    stage: Stage,
    machine: Machine,
    watchdog: Watchdog,
    told: mpsc::UnboundedReceiver<Order>,
}

impl Kubelet {
    async fn run(mut self) {
        let mut after_death = RESTART;
        loop {
            self.machine.gate.begin();
            self.tell("starts");
            let pause = self.one_life(&mut after_death).await;
            self.watchdog.excuse(pause + TAKEOVER);
            self.watchdog.blind(pause + TAKEOVER);
            sleep(pause).await;
            // What came while nothing ran is for nobody.
            while self.told.try_recv().is_ok() {}
        }
    }

    /// Runs one process to its end; returns how long to wait before the next.
    async fn one_life(&mut self, after_death: &mut Duration) -> Duration {
        let mut running = self.stage.start_replica_on(&self.machine);
        loop {
            let order = tokio::select! {
                biased;
                order = self.told.recv() => order,
                () = self.machine.gate.died() => {
                    self.tell("dies in the middle of a request");
                    running.kill().await;
                    return *after_death;
                }
                end = running.ended() => {
                    match end {
                        Ok(end) => self.tell(&format!("ends: {end:?}")),
                        Err(_) => self.watchdog.bark(format!("controller {} panicked", self.machine.name)),
                    }
                    return RESTART;
                }
            };
            match order {
                Some(Order::Clock(step)) => {
                    self.watchdog.clock_was_set();
                    self.machine.clock.step(step);
                }
                Some(Order::RestartAfter(pause)) => *after_death = pause,
                Some(Order::Kill(pause)) => {
                    self.tell("is killed");
                    running.kill().await;
                    return pause;
                }
                Some(Order::Stop(pause)) => {
                    self.tell("is asked to stop");
                    if running.stop().await.is_none() {
                        self.watchdog.bark(format!("controller {} panicked", self.machine.name));
                    }
                    return pause;
                }
                None => return pending().await,
            }
        }
    }

    fn tell(&self, what: &str) {
        self.watchdog.tell(format!("controller {} {what}", self.machine.name));
    }
}
