//! Repositories, asked whether a token opens them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use flux_bearer::failure::Failure;
use flux_bearer::identity::Identity;
use flux_bearer::repository::Repository;
use flux_bearer::token::Token;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::probe::probe;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::lock;
use crate::metrics::Metrics;

/// Questions at the same time: Azure DevOps counts what an identity asks.
const AT_A_TIME: usize = 8;

/// What each repository said.
pub type Answers = Vec<(Repository, Result<(), Box<Failure>>)>;

/// The way to the repositories.
///
/// Guarantees: few questions at a time; and none for an identity that a repository has asked to wait (`Retry-After`), whichever
/// BearerToken it is for.
pub struct Repositories {
    azure_devops: Http,
    turns: Semaphore,
    busy: Mutex<HashMap<(Arc<Identity>, Repository), Busy>>,
    metrics: Metrics,
}

/// A repository that has asked to wait.
struct Busy {
    until: Instant,
    failure: Failure,
}

impl Repositories {
    /// Repositories that are reached by `azure_devops`.
    pub fn new(azure_devops: Http, metrics: Metrics) -> Self {
        Self { azure_devops, turns: Semaphore::new(AT_A_TIME), busy: Mutex::default(), metrics }
    }

    /// Asks each whether `token`, which is `identity`'s, opens it.
    pub async fn ask(&self, identity: &Arc<Identity>, repositories: Vec<Repository>, token: &Token) -> Answers {
        let mut answers = Vec::with_capacity(repositories.len());
        for repository in repositories {
            // An error would mean that the semaphore is closed, which it never is.
            let _turn = self.turns.acquire().await.ok();
            let whom = (Arc::clone(identity), repository.clone());
            let answer = match self.busy(&whom) {
                Some(failure) => Err(failure),
                None => self.ask_one(whom, token).await,
            };
            answers.push((repository, answer.map_err(Box::new)));
        }
        answers
    }

    async fn ask_one(&self, whom: (Arc<Identity>, Repository), token: &Token) -> Result<(), Failure> {
        let answer = probe(&self.azure_devops, &whom.1, &token.secret).await;
        self.metrics.probed(answer.as_ref().map(|&()| ()));
        if let Err(failure) = &answer
            && let Some(wait) = failure.retry_after
        {
            let busy = Busy { until: Instant::now() + wait, failure: failure.clone() };
            lock(&self.busy).insert(whom, busy);
        }
        answer
    }

    /// What it has said, where it has asked to wait and that is not over, with how long it still wants.
    fn busy(&self, whom: &(Arc<Identity>, Repository)) -> Option<Failure> {
        let (mut busy, now) = (lock(&self.busy), Instant::now());
        busy.retain(|_, busy| busy.until > now);
        let Busy { until, failure } = busy.get(whom)?;
        Some(Failure { retry_after: Some(until.duration_since(now)), ..failure.clone() })
    }
}
