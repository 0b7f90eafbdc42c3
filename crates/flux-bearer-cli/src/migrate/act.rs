//! Makes the steps of one move, and takes them back where the token does not come.

use std::time::Duration;

use flux_bearer::flux::REQUESTED_AT;
use flux_bearer::secret::record;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::plan::{Move, SUSPENDED_BY, Step};
use crate::args::Global;
use crate::cluster::{At, Cluster, is_ours};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::{BEARER_TOKEN, CRON_JOB, GIT_REPOSITORY, Kind, SECRET};
use crate::object::{condition, items, printable, text};
use crate::sources::nudge;
use crate::tokens::{Token, named, wait};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long it may take to put everything back, after the time of the run is over.
const PUT_BACK: Duration = Duration::from_secs(60);

/// Where the steps are made.
pub(super) struct Acting<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) global: &'a Global,
    pub(super) edge: &'a Edge,
    /// When the time of the run is over.
    pub(super) deadline: Instant,
}

impl Acting<'_> {
    /// Makes all steps. Where the token does not come, what was done for it is taken back: Flux pulls as before.
    pub(super) async fn make(&self, of: &Move) -> Result<(), Trouble> {
        let until = of.steps.iter().position(|step| *step == Step::AwaitToken).map_or(0, |at| at + 1);
        let (filling, switching) = of.steps.split_at_checked(until).unwrap_or((&of.steps, &[]));
        if let Err(trouble) = self.within(self.steps(filling, of)).await {
            return match timeout(PUT_BACK, self.take_back(filling, of)).await {
                Ok(Err(second)) => {
                    Err(Trouble { cause: format!("{}; and then: {}", trouble.cause, second.cause), ..trouble })
                }
                Ok(Ok(())) | Err(_) => Err(trouble),
            };
        }
        self.within(self.steps(switching, of)).await
    }

    async fn within(&self, work: impl Future<Output = Result<(), Trouble>>) -> Result<(), Trouble> {
        let ended = timeout_at(self.deadline, work).await;
        self.edge.out.waited();
        ended.unwrap_or_else(|_| Err(crate::timed_out(self.global.timeout)))
    }

    async fn steps(&self, steps: &[Step], of: &Move) -> Result<(), Trouble> {
        for step in steps {
            let what = step.what(of);
            if step.is_wait() {
                self.edge.out.waiting(&what);
            } else {
                self.edge.out.action(&what);
            }
            self.step(step, of).await?;
        }
        Ok(())
    }

    fn at<'n>(&'n self, kind: Kind, name: &'n str) -> At<'n> {
        At { kind, namespace: &self.global.namespace, name }
    }

    async fn step(&self, step: &Step, of: &Move) -> Result<(), Trouble> {
        let cluster = self.cluster;
        match step {
            Step::Grant(rights) => {
                for manifest in rights.iter() {
                    cluster.apply(manifest, false).await?;
                }
            }
            Step::Suspend(job) => {
                let marked = json!({
                    "metadata": {"annotations": {SUSPENDED_BY: "flux-bearer migrate"}}, "spec": {"suspend": true},
                });
                cluster.merge(self.at(CRON_JOB, job), &marked).await?;
            }
            Step::AwaitJob(job) => self.await_job(job).await?,
            Step::Make(manifest) => drop(cluster.apply(manifest, false).await?),
            Step::Change(change, _) => drop(cluster.merge(self.at(BEARER_TOKEN, &of.token), change).await?),
            Step::AwaitToken => self.await_token(of).await?,
            Step::Switch(name, change) => drop(cluster.merge(self.at(GIT_REPOSITORY, name), change).await?),
            Step::AwaitFlux(name) => self.await_flux(name).await?,
        }
        Ok(())
    }

    /// Waits until no run of a job is under way that could still write.
    async fn await_job(&self, job: &str) -> Result<(), Trouble> {
        loop {
            let found = self.cluster.get(self.at(CRON_JOB, job)).await?;
            if found.is_none_or(|found| items(&found.data, "/status/active").next().is_none()) {
                return Ok(());
            }
            sleep(EVERY).await;
        }
    }

    /// Waits for the token. One that was asked for before may be stalled by what has been repaired since, so it is
    /// asked again.
    async fn await_token(&self, of: &Move) -> Result<(), Trouble> {
        let (cluster, namespace) = (self.cluster, &self.global.namespace);
        let was_there = !of.steps.iter().any(|step| matches!(step, Step::Make(_)));
        let request = was_there.then(|| self.edge.now().to_string());
        if let Some(request) = &request {
            cluster.annotate(self.at(BEARER_TOKEN, &of.token), REQUESTED_AT, Some(request)).await?;
        }
        let known = Token::of(&named(cluster, namespace, &of.token).await?);
        let ended = wait(self.edge, cluster, &known, "a token", |token| {
            if token.proves() {
                return Some(Ok(()));
            }
            // What is said of the repositories may be of the last token's, where there was one.
            let says = token.stalled().or_else(|| token.inaccessible().filter(|_| !was_there))?;
            (token.is_observed() && token.has_handled(request.as_deref())).then(|| Err(says.to_owned()))
        });
        let fix = || format!("flux-bearer check -n {namespace}, then run this again");
        ended.await?.map_err(|says| Trouble::new(Exit::Failed, says, fix()))
    }

    /// Asks Flux to look, and waits until it has.
    async fn await_flux(&self, name: &str) -> Result<(), Trouble> {
        let now: Timestamp = self.edge.now();
        nudge(self.cluster, &self.global.namespace, name, now).await?;
        loop {
            let found = self.cluster.get(self.at(GIT_REPOSITORY, name)).await?;
            let found = found.map(|found| json!(found)).unwrap_or_default();
            if text(&found, "/status/lastHandledReconcileAt") == now.to_string() {
                return pulled(name, &found, &self.global.namespace);
            }
            sleep(EVERY).await;
        }
    }

    /// Takes back what was done for a token that did not come, the last first. What was not done is harmless to take
    /// back.
    async fn take_back(&self, done: &[Step], of: &Move) -> Result<(), Trouble> {
        for step in done.iter().rev() {
            match step {
                Step::Make(manifest) => {
                    if !self.unmake(manifest, of).await? {
                        return Ok(());
                    }
                }
                Step::Change(_, before) => drop(self.cluster.merge(self.at(BEARER_TOKEN, &of.token), before).await?),
                Step::Suspend(job) => {
                    let resumed = json!({
                        "metadata": {"annotations": {SUSPENDED_BY: null}}, "spec": {"suspend": false},
                    });
                    self.cluster.merge(self.at(CRON_JOB, job), &resumed).await?;
                    self.edge.out.action(&format!("CronJob {job} is resumed"));
                }
                Step::Grant(rights) => {
                    for at in rights.iter().filter_map(At::of) {
                        // One that somebody else had made stays.
                        if self.cluster.metadata(at).await?.is_some_and(|found| is_ours(&found.metadata)) {
                            self.cluster.delete(at).await?;
                        }
                    }
                }
                Step::AwaitJob(_) | Step::AwaitToken | Step::Switch(..) | Step::AwaitFlux(_) => {}
            }
        }
        self.edge.out.action(&format!("Secret {} is as it was", of.secret));
        Ok(())
    }

    /// Deletes the BearerToken again, and the Secret that it has made and nobody reads yet; returns whether that was
    /// right. It was not if a Secret that is read was taken over in the same moment: that one must not be left to
    /// expire.
    async fn unmake(&self, manifest: &Value, of: &Move) -> Result<bool, Trouble> {
        self.cluster.delete(self.at(BEARER_TOKEN, &of.token)).await?;
        let found = self.cluster.metadata(self.at(SECRET, &of.secret)).await?;
        let Some(kept) = found.and_then(|found| record(&found.metadata)) else { return Ok(true) };
        if of.is_new && kept.made {
            return self.cluster.delete(self.at(SECRET, &of.secret)).await.map(|_| true);
        }
        self.cluster.apply(manifest, false).await?;
        self.edge.out.warning(&format!("Secret {} holds a token after all; run this again", of.secret));
        Ok(false)
    }
}

/// What Flux says after it has looked. Its message may quote a page of the server, its reason does not.
fn pulled(name: &str, found: &Value, namespace: &str) -> Result<(), Trouble> {
    match condition(found, "Ready") {
        Some(("True", ..)) => Ok(()),
        found => {
            let reason = found.map_or("nothing", |(_, reason, _)| reason);
            let cause = format!("GitRepository {name} does not pull: Flux says {}", printable(reason));
            Err(Trouble::new(Exit::Failed, cause, format!("flux-bearer check -n {namespace}")))
        }
    }
}
