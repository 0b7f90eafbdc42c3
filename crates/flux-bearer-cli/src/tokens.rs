//! BearerTokens as the verbs see them: found by name, read leniently, waited for.

use std::pin::pin;
use std::time::Duration;

use flux_bearer::report::{ACCESSIBLE, READY, RECONCILING, REFRESH_FAILING, STALLED};
use flux_bearer::resource::{BearerTokenSpec, BearerTokenStatus};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::BEARER_TOKEN;

/// Pause before an API server that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// How often a person sees that the wait goes on.
const TICK: Duration = Duration::from_secs(1);

/// A BearerToken.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its resourceVersion.
    pub version: String,
    /// uid.
    pub uid: String,
    /// When it was created, in seconds since 1970: the older of two that name one Secret keeps it.
    pub created: i64,
    /// Generation of the spec.
    pub generation: i64,
    /// Its spec; nothing where a field has a value that this program doesn't know.
    pub spec: Option<BearerTokenSpec>,
    /// Its status, as far as it can be read.
    pub status: BearerTokenStatus,
}

impl Token {
    /// Reads an object. What can't be read is left out: one odd object must not hide the others.
    pub fn of(object: &DynamicObject) -> Self {
        let metadata = &object.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()).unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            spec: part(&object.data, "spec"),
            status: part(&object.data, "status").unwrap_or_default(),
        }
    }

    /// Where it is.
    pub fn at(&self) -> At<'_> {
        At { kind: BEARER_TOKEN, namespace: &self.namespace, name: &self.name }
    }

    /// The Secret that it names.
    pub fn secret(&self) -> &str {
        self.spec.as_ref().and_then(|spec| spec.secret.name.as_deref()).unwrap_or(&self.name)
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.suspend)
    }

    /// A condition, where it has this status.
    fn condition(&self, kind: &str, status: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)
    }

    /// Whether the Secret holds a token that works.
    pub fn is_ready(&self) -> bool {
        self.condition(READY, "True").is_some()
    }

    /// Whether the controller has looked at the spec as it is now.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation == Some(self.generation)
    }

    /// Why it is not Ready.
    pub fn unready(&self) -> Option<&str> {
        self.condition(READY, "False").map(|condition| condition.message.as_str())
    }

    /// What keeps the next token from coming, whether or not the present one still works.
    pub fn failing(&self) -> Option<&str> {
        let found = self.condition(REFRESH_FAILING, "True").or_else(|| self.condition(STALLED, "True"));
        found.map(|condition| condition.message.as_str())
    }

    /// Which repository the token does not open, and why.
    pub fn inaccessible(&self) -> Option<&str> {
        self.condition(ACCESSIBLE, "False").map(|condition| condition.message.as_str())
    }

    /// Whether it opens every repository that was probed, and one was.
    pub fn is_accessible(&self) -> bool {
        self.condition(ACCESSIBLE, "True").is_some()
    }

    /// Whether the Secret holds a token of the current spec that opens the repositories.
    pub fn opens(&self) -> bool {
        self.outcome() == Some(Ok(())) && self.is_accessible()
    }

    /// Why only a person's change can help.
    pub fn stalled(&self) -> Option<&str> {
        self.condition(STALLED, "True").map(|condition| condition.message.as_str())
    }

    /// What a person should read first.
    pub fn message(&self) -> &str {
        let ready = self.condition(READY, "True").map(|condition| condition.message.as_str());
        self.failing().or_else(|| self.unready()).or(ready).unwrap_or("waiting to be reconciled")
    }

    /// The same, proven since the spec was changed last.
    pub fn proves(&self) -> bool {
        let accessible = self.condition(ACCESSIBLE, "True");
        self.opens() && accessible.is_some_and(|found| found.observed_generation == Some(self.generation))
    }

    /// Whether it has answered this request, if there is one.
    pub fn has_handled(&self, request: Option<&str>) -> bool {
        request.is_none() || self.status.last_handled_reconcile_at.as_deref() == request
    }

    /// How the last look of the controller ended; nothing while it goes on trying.
    pub fn outcome(&self) -> Option<Result<(), String>> {
        if !self.is_observed() {
            return None;
        }
        if let Some(message) = self.failing() {
            return Some(Err(message.to_owned()));
        }
        match self.is_ready() {
            true => Some(Ok(())),
            false if self.condition(RECONCILING, "True").is_some() => None,
            false => Some(Err(self.message().to_owned())),
        }
    }
}

fn part<T: DeserializeOwned>(data: &Value, name: &str) -> Option<T> {
    T::deserialize(data.get(name)?).ok()
}

/// The BearerToken of this name.
///
/// # Errors
/// That there is none, as Flux says it.
pub async fn named(cluster: &Cluster, namespace: &str, name: &str) -> Result<DynamicObject, Trouble> {
    let at = At { kind: BEARER_TOKEN, namespace, name };
    cluster.get(at).await?.ok_or_else(|| missing(namespace, name))
}

/// The BearerTokens of these names, or without names all of the namespace.
pub async fn chosen(cluster: &Cluster, namespace: &str, names: &[String]) -> Result<Vec<Token>, Trouble> {
    if names.is_empty() {
        let all = cluster.list(BEARER_TOKEN, Some(namespace)).await?;
        return Ok(all.iter().map(Token::of).collect());
    }
    let mut found = Vec::new();
    for name in names {
        found.push(Token::of(&named(cluster, namespace, name).await?));
    }
    Ok(found)
}

/// Waits until `done` answers about a state of a BearerToken, from the one that is known on. None is missed, for one that
/// says how an attempt has ended may be gone a moment later. What keeps it from being Ready is told meanwhile.
pub async fn wait<T>(
    edge: &Edge,
    cluster: &Cluster,
    known: &Token,
    what: &str,
    done: impl Fn(&Token) -> Option<T>,
) -> Result<T, Trouble> {
    edge.out.waiting(what);
    let mut states = States { cluster, token: known.clone(), changes: None };
    let answer = counted(edge, what, async {
        let mut told = String::new();
        loop {
            if let Some(answer) = done(&states.token) {
                return Ok(answer);
            }
            if let Some(message) = states.token.unready().filter(|message| *message != told) {
                edge.out.waited();
                edge.out.detail(message);
                message.clone_into(&mut told);
            }
            states.next().await?;
        }
    });
    let answer = answer.await;
    edge.out.waited();
    answer
}

/// Waits for something; a person sees the seconds count.
async fn counted<T>(edge: &Edge, what: &str, wanted: impl Future<Output = T>) -> T {
    let (begin, mut wanted) = (Instant::now(), pin!(wanted));
    loop {
        match timeout(TICK, wanted.as_mut()).await {
            Ok(done) => return done,
            Err(_) => edge.out.still_waiting(what, begin.elapsed().as_secs()),
        }
    }
}

/// The states of a BearerToken, one after the other.
struct States<'a> {
    cluster: &'a Cluster,
    token: Token,
    changes: Option<BoxStream<'static, Option<DynamicObject>>>,
}

impl States<'_> {
    /// Waits for the next state. An API server that restarts is waited for, too.
    async fn next(&mut self) -> Result<(), Trouble> {
        loop {
            let Some(changes) = &mut self.changes else {
                match self.cluster.changes(self.token.at(), &self.token.version).await {
                    Ok(changes) => self.changes = Some(changes),
                    Err(trouble) if trouble.exit == Exit::Network => sleep(AGAIN).await,
                    Err(trouble) => return Err(trouble),
                }
                continue;
            };
            match changes.next().await {
                Some(Some(object)) => {
                    self.token = Token::of(&object);
                    return Ok(());
                }
                Some(None) => return Err(missing(&self.token.namespace, &self.token.name)),
                None => {
                    self.changes = None;
                    sleep(AGAIN).await;
                }
            }
            // The stream has ended, perhaps because its history has: what is now counts.
            match named(self.cluster, &self.token.namespace, &self.token.name).await {
                Ok(object) => {
                    self.token = Token::of(&object);
                    return Ok(());
                }
                Err(trouble) if trouble.exit == Exit::Network => {}
                Err(trouble) => return Err(trouble),
            }
        }
    }
}

fn missing(namespace: &str, name: &str) -> Trouble {
    let cause = format!("BearerToken '{name}' not found in \"{namespace}\" namespace");
    Trouble::new(Exit::NotFound, cause, "flux-bearer get -A lists those there are")
}
