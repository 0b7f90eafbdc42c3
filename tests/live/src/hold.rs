//! One run: plays the scenario to Azure, cleans up whatever came of it, plays it to the simulator, and compares.

use serde::Serialize;

use crate::azure::Azure;
use crate::clean::{self, Whose, clean};
use crate::compare::{Difference, What, differences};
use crate::record::Exchange;
use crate::scenario::{Run, play};

/// What was answered to one scenario.
#[derive(Debug, Serialize)]
pub struct Played {
    /// The answers, redacted.
    pub exchanges: Vec<Exchange>,
    /// Why it ended early: the step and the failure; of clean-up too.
    #[serde(skip)]
    pub failures: Vec<String>,
}

/// Plays the scenario, until its end, its first failure or `interrupted`, and removes what it made in any case.
pub async fn played(azure: &Azure, run: &Run, interrupted: impl Future<Output = ()>) -> Played {
    let mut failures = Vec::new();
    tokio::select! {
        done = play(azure, run) => if let Err(failure) = done {
            failures.push(format!("{}: {failure:#}", azure.recorder.last_step()));
        },
        () = interrupted => failures.push(format!("{}: interrupted", azure.recorder.last_step())),
    }
    let member = run.member();
    if let Err(failure) = clean(azure, Whose::Run(&run.id, member.as_deref())).await {
        failures.push(format!("{failure:#}"));
    }
    Played { exchanges: azure.transcript(), failures }
}

/// Where the simulator's answers differ from Azure's. After a failure neither what was not
/// asked any more is told, nor what was cleaned up, which is another thing each time.
pub fn held(azure: &Played, simulator: &Played) -> Vec<Difference> {
    let failed = !(azure.failures.is_empty() && simulator.failures.is_empty());
    let found = differences(&azure.exchanges, &simulator.exchanges).into_iter();
    let unfinished = |one: &Difference| one.step == clean::STEP || matches!(one.what, What::Request(_));
    found.filter(|difference| !(failed && unfinished(difference))).collect()
}
