//! Deterministic simulation: the real controllers through a schedule of faults that a seed draws, with everything that must
//! never happen looked at every simulated second.
//!
//! Guarantees: a seed is one run, on one thread and one paused clock, and is the same run again wherever it is played.
//!
//! What must never happen: a Secret that holds an expired token although there was trouble for less than half of that token's
//! life, or although nothing is wrong any more, or nothing but a spec or a right; a token of another identity in a Secret than
//! the spec names or the Secret remembers; a Secret or key of somebody else that was touched; a write without the lease; a
//! request before the end of a `Retry-After`; two tokens of one identity asked for at a time; the metadata service asked more
//! than it allows; a BearerToken that says Ready of a token that has expired, or is not Ready once all is well; a loop that goes
//! on writing then; a token in anything that people read.

mod cast;
mod plan;
mod watchdog;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flux_bearer::flux::REQUESTED_AT;
use flux_bearer_sim::faults::{Effect, Fault};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use self::cast::{Actor, Order};
pub use self::plan::{Incident, Plan, Trouble};
use self::watchdog::{ADOPTED, EXTRA, FOREIGN, Watchdog};
use crate::accounts::subject;
use crate::gate::Gate;
use crate::identities::{APPLICATION, REPOSITORY, SECRET, TENANT, client, object, state};
use crate::stage::{LEASE, NAMESPACE, Stage};

/// After everything has to be well again: how long it is watched for being so, in seconds.
const CALM_AFTER: u32 = 330;

/// Writes of one BearerToken that a calm of [`CALM_AFTER`] may see at most: a refresh has two, and shortest lives have three
/// refreshes in it; all else is spent on telling that a fault is over.
const CALM_WRITES: usize = 20;

/// Of several identities each BearerToken has its own; this one is what it may be given for another.
const SPARE: usize = 9;

/// The ServiceAccount that signs in for a BearerToken of its name, and the number of its identity.
const ACCOUNT: &str = "account";
const ACCOUNT_CLIENT: usize = 8;

/// Number of the BearerToken that signs in with a client secret.
const PRINCIPAL: usize = 3;

/// Name of the Secret with that.
const CREDENTIAL: &str = "credential";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The first thing that must not be and was.
    pub broken: Option<String>,
    /// What happened, a line each.
    pub story: Vec<String>,
    /// Seconds that passed in it.
    pub seconds: u32,
}

/// Plays the run of a plan.
///
/// # Errors
/// When the stage can't be set up.
pub fn play(plan: &Plan) -> Result<Outcome, Error> {
    // What kube's backoffs draw their jitter from.
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async { Run::begin(plan)?.play().await })
}

/// The same plan with the fewest incidents, and the shortest, with which something still happens that must not.
///
/// # Errors
/// When a stage can't be set up.
pub fn shrink(plan: &Plan) -> Result<Plan, Error> {
    let mut least = plan.clone();
    loop {
        let before = least.clone();
        for number in (0..least.incidents.len()).rev() {
            let mut fewer = least.clone();
            fewer.incidents.remove(number);
            keep_if_broken(&mut least, fewer)?;
        }
        for number in 0..least.incidents.len() {
            let mut shorter = least.clone();
            if let Some(incident) = shorter.incidents.get_mut(number).filter(|incident| incident.lasting > 1) {
                incident.lasting /= 2;
                keep_if_broken(&mut least, shorter)?;
            }
        }
        if least == before {
            return Ok(least);
        }
    }
}

fn keep_if_broken(least: &mut Plan, candidate: Plan) -> Result<(), Error> {
    if play(&candidate)?.broken.is_some() {
        *least = candidate;
    }
    Ok(())
}

/// A seed whose run did what must not be.
#[derive(Debug)]
pub struct Found {
    /// The least of its plan with which that still happens.
    pub least: Plan,
    /// What became of that.
    pub outcome: Outcome,
}

/// What a hunt has seen.
#[derive(Debug, Default)]
pub struct Hunt {
    /// Runs.
    pub runs: u64,
    /// Things that went wrong in them, each drawn from its seed.
    pub incidents: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// The seeds with which something happened that must not, each shrunk.
    pub found: Vec<Found>,
}

/// Plays the runs of these seeds on as many threads as the machine has cores; stops at the first few that are found.
///
/// # Errors
/// When a stage can't be set up.
pub fn hunt(seeds: Range<u64>) -> Result<Hunt, Error> {
    let next = AtomicU64::new(seeds.start);
    let hunt = Mutex::new(Hunt::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, seeds.end, &hunt))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a run panicked")?)
    })?;
    Ok(hunt.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Milliseconds by which a renewal of a lease is answered late: just within the time that it has.
const LATE: u64 = 4_500;

/// Time in which a leader renews its lease at least once.
const RENEWED: Duration = Duration::from_secs(16);

/// Name of the fault that keeps a lease from being renewed.
const STARVED: &str = "lease-starved";

/// Seeds after which a hunt has found enough.
const ENOUGH: usize = 3;

fn work(next: &AtomicU64, end: u64, hunt: &Mutex<Hunt>) -> Result<(), Error> {
    let lock = || hunt.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || lock().found.len() >= ENOUGH {
            return Ok(());
        }
        let plan = Plan::draw(seed);
        let outcome = play(&plan)?;
        let found = outcome.broken.is_some().then(|| look_into(&plan)).transpose()?;
        let mut hunt = lock();
        hunt.runs += 1;
        hunt.incidents += u64::try_from(plan.incidents.len()).unwrap_or_default();
        hunt.seconds += u64::from(outcome.seconds);
        hunt.found.extend(found);
    }
}

fn look_into(plan: &Plan) -> Result<Found, Error> {
    let least = shrink(plan)?;
    let outcome = play(&least)?;
    Ok(Found { least, outcome })
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.least)?;
        self.outcome.story.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(
            f,
            "{:>7} s  BROKEN: {}",
            self.outcome.seconds,
            self.outcome.broken.as_deref().unwrap_or("not when played again")
        )
    }
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    stage: Stage,
    actors: Vec<Actor>,
    gates: Vec<Gate>,
    watchdog: Watchdog,
    began: Instant,
    /// The BearerTokens that somebody has deleted, as they are made anew.
    gone: Mutex<BTreeMap<String, Value>>,
}

/// What happens at one moment: an incident begins or ends.
struct Moment {
    at: u32,
    number: usize,
    begins: bool,
}

impl<'a> Run<'a> {
    fn begin(plan: &'a Plan) -> Result<Self, Error> {
        let stage = Stage::new(state(&[plan.lifetime; SPARE + 1])?)?;
        stage.kube.apply(secret(FOREIGN, "key", "value"));
        stage.kube.apply(credential());
        stage.issue_tokens();
        stage.federate(ACCOUNT_CLIENT, &subject(NAMESPACE, ACCOUNT))?;
        let watchdog = Watchdog::new(&stage, plan);
        for number in 0..plan.tokens {
            watchdog.allow(&name(number), &own_client(number));
            stage.bearer_token(&name(number), &json!({"identity": identity(number, &own_client(number))}));
            stage.git_repository(&name(number), &name(number), REPOSITORY);
        }
        let names = ["a", "b"].into_iter().take(plan.replicas);
        let actors: Vec<Actor> = names.map(|name| Actor::enter(&stage, name, &watchdog)).collect();
        let gates = actors.iter().map(|actor| actor.machine.gate.clone()).collect();
        // The first time everything is filled.
        watchdog.excuse(Duration::from_secs(10));
        Ok(Self { plan, stage, actors, gates, watchdog, began: Instant::now(), gone: Mutex::default() })
    }

    async fn play(self) -> Result<Outcome, Error> {
        let well = self.plan.incidents.iter().map(|incident| incident.end() + incident.settles_in()).max();
        let end = well.unwrap_or_default().max(self.plan.trouble_ends()) + CALM_AFTER;
        let moments = self.moments();
        let mut moments = moments.iter().peekable();
        let mut calm_writes = 0;
        for second in 1..=end {
            sleep_until(self.began + Duration::from_secs(u64::from(second))).await;
            while let Some(moment) = moments.next_if(|moment| moment.at <= second) {
                self.happen(moment)?;
            }
            self.ask_all_the_time(second);
            if second > end - CALM_AFTER {
                calm_writes += self.writes();
            }
            self.watchdog.look(&self.stage, &self.gates);
            if self.watchdog.broken().is_some() {
                return Ok(self.outcome(second));
            }
        }
        self.look_back(calm_writes);
        Ok(self.outcome(end))
    }

    fn outcome(&self, seconds: u32) -> Outcome {
        Outcome { broken: self.watchdog.broken(), story: self.watchdog.story(), seconds }
    }

    fn moments(&self) -> Vec<Moment> {
        let incidents = self.plan.incidents.iter().enumerate();
        let mut moments: Vec<Moment> = incidents
            .flat_map(|(number, incident)| {
                [(incident.at, true), (incident.end(), false)].map(|(at, begins)| Moment { at, number, begins })
            })
            .collect();
        moments.sort_by_key(|moment| (moment.at, moment.begins));
        moments
    }

    fn happen(&self, moment: &Moment) -> Result<(), Error> {
        let Some(incident) = self.plan.incidents.get(moment.number) else { return Ok(()) };
        if moment.begins {
            let lasting = Duration::from_secs(u64::from(incident.lasting + incident.settles_in()));
            if !incident.is_outlived() || self.plan.forgets() {
                self.watchdog.excuse(lasting);
            }
            if incident.blinds() {
                self.watchdog.blind(lasting);
            }
            self.watchdog.tell(format!("begins: {}", incident.what));
            self.begins(incident)
        } else {
            self.watchdog.tell(format!("ends: {}", incident.what));
            self.ends(incident)
        }
    }

    fn begins(&self, incident: &Incident) -> Result<(), Error> {
        let stage = &self.stage;
        let lasting = Duration::from_secs(u64::from(incident.lasting));
        match &incident.what {
            Trouble::Azure(fault) => stage.world.faults().set(fault.clone()),
            Trouble::Kubernetes(fault) => stage.kube.faults().set(fault.clone()),
            Trouble::Way(machine, fault) => self.on(*machine, |actor| actor.machine.way.set(fault.clone())),
            Trouble::Clock(machine, by) => {
                let step = SignedDuration::from_secs(i64::from(*by));
                self.on(*machine, |actor| actor.order(Order::Clock(step)));
            }
            Trouble::Kill(machine) => self.on(*machine, |actor| actor.order(Order::Kill(lasting))),
            Trouble::Stop(machine) => self.on(*machine, |actor| actor.order(Order::Stop(lasting))),
            Trouble::Die(machine, passing, death) => self.on(*machine, |actor| {
                actor.order(Order::RestartAfter(lasting));
                actor.machine.gate.die_after(*passing, *death);
            }),
            Trouble::SecretGone(token) => {
                self.watchdog.gone(&name(*token));
                stage.kube.delete("Secret", NAMESPACE, &name(*token));
            }
            Trouble::SecretSpoiled(token) => {
                if let Some(mut secret) = stage.kube.get("Secret", NAMESPACE, &name(*token)) {
                    if let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) {
                        // What it does not hold is not its token: where that is asked for next, it is somebody else's.
                        let key = ["bearerToken", "password"].into_iter().find(|key| data.contains_key(*key));
                        data.insert(key.unwrap_or("bearerToken").into(), json!("b3RoZXI="));
                        data.insert(EXTRA.into(), json!("a2V5"));
                    }
                    self.watchdog.put_extra(&name(*token));
                    stage.kube.apply(secret);
                }
            }
            Trouble::Requested(token) => self.request(*token),
            Trouble::TokenGone(token) => {
                if let Some(object) = stage.kube.get("BearerToken", NAMESPACE, &name(*token)) {
                    stage.kube.delete("BearerToken", NAMESPACE, &name(*token));
                    self.gone().insert(name(*token), object.get("spec").cloned().unwrap_or_default());
                }
            }
            Trouble::LeaseStarved(machine) => self.on(*machine, |actor| {
                actor.machine.late.store(LATE, Ordering::Relaxed);
                let way = actor.machine.way.clone();
                tokio::spawn(async move {
                    sleep(RENEWED).await;
                    let (name, path) = (STARVED.to_owned(), Some("/leases".to_owned()));
                    way.set(Fault { name, path, effect: Some(Effect::Refuse), ..Fault::default() });
                });
            }),
            Trouble::CredentialGone => {
                stage.kube.delete("Secret", NAMESPACE, CREDENTIAL);
            }
            Trouble::WatchesSilent => stage.kube.silence_watches(),
            Trouble::WatchesEnd => stage.kube.close_watches(),
            Trouble::HistoryGone => {
                stage.kube.compact();
                stage.kube.close_watches();
            }
            Trouble::LeaseGone => {
                stage.kube.delete("Lease", NAMESPACE, LEASE);
            }
            Trouble::RightsGone => self.readers(false)?,
            Trouble::Suspended(token) => self.respec(*token, "suspend", json!(true)),
            Trouble::NoIdentity(token) => self.respec(*token, "identity", identity(*token, &client(777))),
            Trouble::OtherIdentity(token) => {
                self.watchdog.allow(&name(*token), &client(SPARE));
                self.respec(*token, "identity", identity(SPARE, &client(SPARE)));
            }
            Trouble::Account => {
                stage.service_account(NAMESPACE, ACCOUNT, &json!({}));
                self.watchdog.allow(ACCOUNT, &client(ACCOUNT_CLIENT));
                let identity = json!({"serviceAccountName": ACCOUNT, "clientId": client(ACCOUNT_CLIENT)});
                stage.bearer_token(ACCOUNT, &json!({"identity": identity, "repositories": [REPOSITORY]}));
            }
            Trouble::Renamed(token) => {
                self.respec(*token, "secret", json!({"name": format!("{}-renamed", name(*token))}));
            }
            Trouble::Formats(token, formats) => self.respec(*token, "secret", json!({"formats": formats})),
            Trouble::Forbidden(token) => {
                let name = name(*token);
                stage.kube.set_authorizer(move |request| request.resource != "secrets" || request.name != name);
            }
            Trouble::Intruder => {
                let spec = json!({"identity": identity(0, &client(0)), "repositories": [REPOSITORY]});
                stage.bearer_token(FOREIGN, &spec);
            }
            Trouble::Adoption => {
                stage.kube.apply(secret(ADOPTED, EXTRA, "key"));
                self.watchdog.put_extra(ADOPTED);
                self.watchdog.allow(ADOPTED, &client(0));
                // Only a token that opens something may take the place of what was there.
                let identity = identity(0, &client(0));
                let spec = json!({"identity": identity, "repositories": [REPOSITORY], "secret": {"adopt": true}});
                stage.bearer_token(ADOPTED, &spec);
            }
        }
        Ok(())
    }

    fn ends(&self, incident: &Incident) -> Result<(), Error> {
        let stage = &self.stage;
        match &incident.what {
            Trouble::Azure(fault) => {
                stage.world.faults().clear(&fault.name);
            }
            Trouble::Kubernetes(fault) => {
                stage.kube.faults().clear(&fault.name);
            }
            Trouble::Way(machine, fault) => self.on(*machine, |actor| {
                actor.machine.way.clear(&fault.name);
            }),
            Trouble::CredentialGone => {
                stage.kube.apply(credential());
            }
            Trouble::RightsGone => self.readers(true)?,
            Trouble::Intruder => {
                stage.kube.delete("BearerToken", NAMESPACE, FOREIGN);
            }
            Trouble::Adoption => {
                self.watchdog.let_go(ADOPTED);
                stage.kube.delete("BearerToken", NAMESPACE, ADOPTED);
            }
            Trouble::Account => {
                self.watchdog.let_go(ACCOUNT);
                stage.kube.delete("BearerToken", NAMESPACE, ACCOUNT);
            }
            Trouble::Renamed(token) | Trouble::Formats(token, _) => self.respec(*token, "secret", json!({})),
            Trouble::Forbidden(_) => stage.kube.set_authorizer(|_| true),
            Trouble::Suspended(token) => self.respec(*token, "suspend", json!(false)),
            Trouble::NoIdentity(token) => self.respec(*token, "identity", identity(*token, &own_client(*token))),
            Trouble::TokenGone(token) => {
                if let Some(spec) = self.gone().remove(&name(*token)) {
                    stage.bearer_token(&name(*token), &spec);
                }
            }
            Trouble::LeaseStarved(machine) => self.on(*machine, |actor| {
                actor.machine.late.store(0, Ordering::Relaxed);
                actor.machine.way.clear(STARVED);
            }),
            _ => {}
        }
        Ok(())
    }

    fn on(&self, machine: usize, act: impl FnOnce(&Actor)) {
        self.actors.get(machine).map(act);
    }

    fn readers(&self, may: bool) -> Result<(), Error> {
        let everybody: Vec<String> = (0..=SPARE).chain([APPLICATION]).map(object).collect();
        self.stage.world.edit(|state| {
            let organizations = state.organizations.iter_mut();
            let projects = organizations.flat_map(|organization| &mut organization.projects);
            for repository in projects.flat_map(|project| &mut project.repositories) {
                repository.readers = if may { everybody.clone() } else { Vec::new() };
            }
        })?;
        Ok(())
    }

    fn request(&self, token: usize) {
        let when = self.stage.world.clock().now().to_string();
        self.stage.kube.annotate("BearerToken", NAMESPACE, &name(token), REQUESTED_AT, &when);
    }

    /// Asks for a refresh of every BearerToken, where that is what goes wrong at this second.
    fn ask_all_the_time(&self, second: u32) {
        let starves = |incident: &Incident| matches!(incident.what, Trouble::LeaseStarved(_));
        let now = |incident: &Incident| incident.at <= second && second < incident.end();
        if self.plan.incidents.iter().any(|incident| starves(incident) && now(incident)) {
            (0..self.plan.tokens).for_each(|token| self.request(token));
        }
    }

    fn gone(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a field of a BearerToken's spec.
    fn respec(&self, token: usize, field: &str, value: Value) {
        if let Some(spec) = self.gone().get_mut(&name(token)).and_then(Value::as_object_mut) {
            spec.insert(field.to_owned(), value);
            return;
        }
        let Some(mut object) = self.stage.kube.get("BearerToken", NAMESPACE, &name(token)) else { return };
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert(field.to_owned(), value);
            self.stage.kube.apply(object);
        }
    }

    /// Writes of the controllers since the journal was last looked at, the lease apart.
    fn writes(&self) -> usize {
        let writes = ["create", "patch", "update", "delete"];
        self.stage
            .kube
            .journal()
            .count_where(|entry| entry.request.resource != "leases" && writes.contains(&entry.request.verb.rbac()))
    }

    /// What has to be so in the end.
    fn look_back(&self, calm_writes: usize) {
        for number in 0..self.plan.tokens {
            let says = self.stage.says(&name(number), "Ready");
            if says != "True Succeeded" {
                self.watchdog.bark(format!("all is well, and BearerToken {} says Ready: {says}", name(number)));
            }
        }
        if calm_writes > CALM_WRITES * self.plan.tokens {
            self.watchdog.bark(format!("all is well, and {calm_writes} objects were written in {CALM_AFTER} s"));
        }
        let said = ["BearerToken", "Event"].into_iter().flat_map(|kind| self.stage.kube.list(kind));
        // Every token begins like this: it is `{"` in base64.
        let tells = |text: String| ["eyJ", SECRET].iter().any(|credential| text.contains(credential));
        if said.map(|object| object.to_string()).any(tells) {
            self.watchdog.bark("a token is in a status or an event".into());
        }
        if let Some(actor) = self.actors.iter().find(|actor| !actor.is_well()) {
            self.watchdog.bark(format!("the machine of {} is gone", actor.machine.name));
        }
    }
}

/// Name of a BearerToken, its Secret and its GitRepository.
fn name(number: usize) -> String {
    format!("fleet-{number}")
}

/// The client of a BearerToken's own identity.
fn own_client(number: usize) -> String {
    client(if number == PRINCIPAL { APPLICATION } else { number })
}

/// The identity of this client, for a BearerToken of this number: the first has that of its machine.
fn identity(number: usize, client: &str) -> Value {
    match number {
        0 => json!({"type": "ManagedIdentity", "clientId": client}),
        PRINCIPAL => {
            let secret = json!({"name": CREDENTIAL});
            json!({"type": "ClientSecret", "clientId": client, "tenantId": TENANT, "secretRef": secret})
        }
        _ => json!({"type": "WorkloadIdentity", "clientId": client}),
    }
}

/// The Secret with the client secret of the application.
fn credential() -> Value {
    secret(CREDENTIAL, "clientSecret", SECRET)
}

fn secret(name: &str, key: &str, value: &str) -> Value {
    let (metadata, data) = (json!({"name": name, "namespace": NAMESPACE}), json!({key: BASE64.encode(value)}));
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
}
