//! Strikes one process, and waits until all is well again.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, ensure};
use flux_bearer_sim::faults::{Effect, Fault as Trouble};
use tokio::time::{Instant, sleep, sleep_until};

use super::ledger::{self, Ledger};
use super::schedule::{Fault, Schedule, Strike};
use super::verdict::Mark;
use crate::azure::Azure;
use crate::cluster::Cluster;
use crate::controller;
use crate::kubelet::{Kubelet, Running, Signal};
use crate::story::Story;
use crate::wait::wait_for;

/// Time for all to be well again. Far more than a strike may take: this finds what never heals.
const HEALED: Duration = Duration::from_secs(120);

/// Seconds that every token has left when all is well: it is replaced with 33 to go, and a thousand of them are replaced one
/// after the other.
const CALM: f64 = 20.0;

/// Who is struck.
pub(super) struct Victims<'a> {
    /// etcd, kube-apiserver and kube-controller-manager.
    pub(super) cluster: &'a mut Cluster,
    /// Both replicas.
    pub(super) kubelet: &'a Kubelet,
    /// Azure.
    pub(super) azure: &'a Azure,
    /// What tells whether all is well.
    pub(super) ledger: &'a RefCell<Ledger>,
    /// What is told of it.
    pub(super) story: &'a Story,
}

impl Victims<'_> {
    /// Strikes as `schedule` says, until `length` is over.
    pub(super) async fn strike_on(
        &mut self,
        mut schedule: Schedule,
        length: Duration,
        marks: &RefCell<Vec<Mark>>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while let Some(Strike { pause, fault, span }) = schedule.next(began.elapsed()) {
            sleep(pause).await;
            let at = began.elapsed().as_secs_f64();
            self.strike(fault, span).await.with_context(|| fault.name())?;
            self.well().await.with_context(|| format!("after: {}", fault.name()))?;
            let took = began.elapsed().as_secs_f64() - at;
            let left = self.ledger.borrow().least.unwrap_or_default();
            self.story.tell(&format!("{}: well after {took:.1} s; least left so far: {left:.1} s", fault.name()));
            marks.borrow_mut().push(Mark { at, fault, took });
        }
        sleep_until(began + length).await;
        Ok(())
    }

    /// Waits until this many Secrets are filled and all is well.
    pub(super) async fn filled(&self, count: u32) -> anyhow::Result<()> {
        wait_for("every Secret to be filled", HEALED, async || {
            let filled = self.ledger.borrow().len();
            ensure!(filled >= count as usize, "{filled} so far");
            Ok(())
        })
        .await?;
        self.story.tell("every Secret is filled");
        self.well().await
    }

    /// How often the lease has changed hands.
    pub(super) async fn transitions(&self) -> anyhow::Result<u64> {
        Ok(controller::lead(self.cluster).await?.transitions)
    }

    async fn strike(&mut self, fault: Fault, span: Duration) -> anyhow::Result<()> {
        match fault {
            Fault::KillLeader => restarted(&self.leader().await?, Signal::Kill).await,
            Fault::EndLeader => restarted(&self.leader().await?, Signal::Terminate).await,
            Fault::KillFollower => restarted(&self.follower().await?, Signal::Kill).await,
            Fault::EndFollower => restarted(&self.follower().await?, Signal::Terminate).await,
            Fault::StopLeader => {
                let leader = self.leader().await?;
                leader.signal(Signal::Stop).await?;
                sleep(span).await;
                leader.signal(Signal::Continue).await
            }
            Fault::KillServer => {
                self.cluster.kill_server().await?;
                self.cluster.start_server().await
            }
            Fault::StopServer => {
                self.cluster.signal_server(Signal::Stop).await?;
                sleep(span).await;
                self.cluster.signal_server(Signal::Continue).await
            }
            Fault::KillEtcd => self.cluster.restart_etcd().await,
            Fault::KillManager => self.cluster.restart_controllers().await,
            Fault::RefuseTokens => {
                self.azure.begin_outage().await?;
                sleep(span).await;
                self.azure.end_outage().await
            }
            Fault::SilenceAzure => {
                let silence = Trouble { name: "silence".to_owned(), effect: Some(Effect::Hang), ..Trouble::default() };
                self.azure.set_fault(&silence).await?;
                sleep(span).await;
                self.azure.end_fault(&silence.name).await
            }
        }
    }

    /// Waits until both replicas are available, one of them leads, and no token is near its end.
    async fn well(&self) -> anyhow::Result<()> {
        wait_for("a leader", HEALED, async || self.leader().await.map(drop)).await?;
        controller::rolled_out(self.cluster).await?;
        wait_for("every token to be young", HEALED, async || {
            let left = self.ledger.borrow().left(ledger::now());
            ensure!(left >= CALM, "one has {left:.1} s left");
            Ok(())
        })
        .await
    }

    async fn leader(&self) -> anyhow::Result<Running> {
        let lead = wait_for("the lease", HEALED, async || controller::lead(self.cluster).await).await?;
        self.kubelet.named(&lead.pod)
    }

    async fn follower(&self) -> anyhow::Result<Running> {
        let leader = self.leader().await?;
        let other = self.kubelet.pods().into_iter().find(|pod| pod.name() != leader.name());
        other.context("nobody follows")
    }
}

/// Ends a container's process by this signal, and waits until it runs again.
async fn restarted(pod: &Running, signal: Signal) -> anyhow::Result<()> {
    let restarts = pod.restarts();
    pod.signal(signal).await?;
    wait_for("a new process", HEALED, async || {
        ensure!(pod.restarts() > restarts, "it was not started again");
        pod.process().map(drop)
    })
    .await
}
