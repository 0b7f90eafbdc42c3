//! The promise as a measurement: how many seconds a Secret holds an expired token after an outage, by how long that lasts and
//! how long a token lives. Every outage begins at the worst moment: a second before the token would have been replaced.

pub mod plot;

use std::thread;
use std::time::Duration;

use flux_bearer::secret::RECORD;
use flux_bearer_sim::faults::{Effect, Fault, Faults};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::holding::Fillings;
use crate::identities::state;
use crate::stage::{NAMESPACE, Stage};

/// What may be wrong with a stage.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Seconds that tokens live: those of Entra ID, the shortest it can be told to make, and those of managed identities.
pub const LIFETIMES: [u32; 5] = [600, 3600, 4500, 5400, 86_400];

/// The shortest and the longest outage, in seconds.
pub const OUTAGES: (u32, u32) = (60, 86_400);

/// How many outages there are for each lifetime.
const POINTS: u32 = 97;

/// Seconds after an outage in which all has to be well again. The promise is sixty.
const AFTERWARDS: u64 = 300;

/// Name of the BearerToken and its Secret.
const NAME: &str = "fleet";

/// Who is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Entra ID.
    EntraId,
    /// The API server.
    ApiServer,
}

impl Away {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::EntraId, Self::ApiServer];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EntraId => "Entra ID",
            Self::ApiServer => "API server",
        }
    }

    fn faults(self, stage: &Stage) -> &Faults {
        match self {
            Self::EntraId => stage.world.faults(),
            Self::ApiServer => stage.kube.faults(),
        }
    }
}

/// What an outage came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endured {
    /// Who was away.
    pub away: Away,
    /// For how long a token lives, in seconds.
    pub lifetime: u32,
    /// For how long, in seconds.
    pub outage: u32,
    /// Seconds in which the Secret held a token that had expired.
    pub expired: u64,
    /// Seconds from the end of the outage until the Secret was filled with a new token.
    pub recovered: u64,
}

/// Every outage of every lifetime, in that order.
///
/// # Errors
/// When a stage can't be set up, or when one does not recover.
pub fn measure() -> Result<Vec<Endured>, Error> {
    let cases = Away::ALL.into_iter().flat_map(|away| LIFETIMES.map(|lifetime| (away, lifetime)));
    let measured: Vec<Result<Vec<Endured>, Error>> = thread::scope(|scope| {
        let runs: Vec<_> = cases.map(|case| scope.spawn(move || measure_one(case.0, case.1))).collect();
        runs.into_iter().map(|run| run.join().unwrap_or_else(|_| Err("a measurement panicked".into()))).collect()
    });
    Ok(measured.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// The measurement as comma-separated values, times in seconds.
pub fn table(endured: &[Endured]) -> String {
    let line = |one: &Endured| {
        let Endured { away, lifetime, outage, expired, recovered } = one;
        format!("{},{lifetime},{outage},{expired},{recovered}\n", away.name())
    };
    let lines = endured.iter().map(line);
    ["away,lifetime,outage,expired,recovered\n".to_owned()].into_iter().chain(lines).collect()
}

fn measure_one(away: Away, lifetime: u32) -> Result<Vec<Endured>, Error> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    outages().map(|outage| runtime()?.block_on(endure(away, lifetime, outage))).collect()
}

/// Lengths of outages, in seconds, each longer than the one before by the same factor.
fn outages() -> impl Iterator<Item = u32> {
    let (first, last) = (f64::from(OUTAGES.0), f64::from(OUTAGES.1));
    let factor = (last / first).ln() / f64::from(POINTS - 1);
    (0..POINTS).map(move |point| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a day has few seconds")]
        let seconds = (first * (factor * f64::from(point)).exp()).round() as u32;
        seconds
    })
}

/// One outage: of `away`, with tokens that live `lifetime` seconds.
///
/// # Errors
/// When the stage can't be set up, or when it does not recover.
pub async fn endure(away: Away, lifetime: u32, outage: u32) -> Result<Endured, Error> {
    let stage = Stage::new(state(&[lifetime])?)?;
    let fillings = Fillings::default();
    let (seen, clock) = (fillings.clone(), stage.world.clock().clone());
    stage.kube.on_change(move |object| seen.note(object, clock.now()));
    stage.bearer_token(NAME, &json!({}));
    let running = stage.start();
    sleep(Duration::from_secs(5)).await;
    let due = refresh_at(&stage).ok_or("the Secret does not say when it is due")?;
    let wait = due.duration_since(stage.world.clock().now()).unsigned_abs();
    sleep(wait.saturating_sub(Duration::from_secs(1))).await;
    let effect = Effect::Answer { status: 503, retry_after: None, content_type: None, body: String::new() };
    let path = (away == Away::EntraId).then(|| "oauth2/v2.0/token".to_owned());
    away.faults(&stage).set(Fault { name: "away".into(), path, effect: Some(effect), ..Fault::default() });
    sleep(Duration::from_secs(u64::from(outage))).await;
    away.faults(&stage).clear_all();
    let end = stage.world.clock().now();
    sleep(Duration::from_secs(AFTERWARDS)).await;
    running.stop().await;
    let next = fillings.of(NAME).into_iter().find(|filling| filling.at >= end).ok_or("it has not recovered")?;
    let expired = fillings.expired_seconds(NAME, stage.world.clock().now());
    Ok(Endured { away, lifetime, outage, expired, recovered: next.at.duration_since(end).as_secs().unsigned_abs() })
}

fn refresh_at(stage: &Stage) -> Option<Timestamp> {
    let secret = stage.kube.get("Secret", NAMESPACE, NAME)?;
    let record = secret.get("metadata")?.get("annotations")?.get(RECORD)?.as_str()?;
    let record: Value = serde_json::from_str(record).ok()?;
    record.get("refreshAt")?.as_str()?.parse().ok()
}
