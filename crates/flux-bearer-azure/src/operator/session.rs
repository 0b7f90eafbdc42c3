//! One sign-in for the whole of a set-up.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use flux_bearer::failure::Failure;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{AccessToken, Resource, SignIn};
use crate::http::Http;
use crate::retry::MAX_WAIT;

/// How long before its end a token is replaced: longer than any single call, its waits included.
pub const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// Who does the set-up, signed in: hands out tokens, and asks the way of signing in as rarely as it can.
///
/// Guarantees: at most one sign-in for a resource is under way, and a token that still works is used when a new one
/// can't be had. Clones share everything.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    sign_in: Arc<dyn SignIn>,
    tenant: Option<String>,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    azure_devops: Lane,
    arm: Lane,
}

/// What is kept of one resource.
#[derive(Default)]
struct Lane {
    token: Mutex<Option<Arc<AccessToken>>>,
    /// When the next request may go out.
    next: std::sync::Mutex<Option<Instant>>,
}

/// Nothing of a token.
impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Session").field(&self.describe()).field(&self.tenant()).finish()
    }
}

impl Session {
    /// A session that sends through `http` what `sign_in` gives tokens of `tenant` for, the way's own where it is none.
    /// `now` is the wall clock.
    pub fn new(
        http: Http,
        sign_in: Arc<dyn SignIn>,
        tenant: Option<String>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let (azure_devops, arm) = Default::default();
        Self { inner: Arc::new(Inner { http, sign_in, tenant, now: Box::new(now), azure_devops, arm }) }
    }

    /// The way of signing in, in words.
    pub fn describe(&self) -> String {
        self.inner.sign_in.describe()
    }

    /// The tenant whose tokens it wants.
    pub fn tenant(&self) -> Option<&str> {
        self.inner.tenant.as_deref()
    }

    /// Where its requests go.
    pub fn http(&self) -> &Http {
        &self.inner.http
    }

    /// A token for `resource` that lives at least [`RENEW_BEFORE`], or the longest that can be had.
    ///
    /// # Errors
    /// Why nobody is signed in, or a token of another tenant than the session's.
    pub async fn token(&self, resource: Resource) -> Result<Arc<AccessToken>, Failure> {
        let mut kept = self.lane(resource).token.lock().await;
        let lasts = |token: &Arc<AccessToken>, at: Timestamp| token.expires_at > at;
        if let Some(token) = kept.as_ref().filter(|token| lasts(token, (self.inner.now)() + RENEW_BEFORE)) {
            return Ok(Arc::clone(token));
        }
        match self.sign_in(resource).await {
            Ok(token) => Ok(Arc::clone(kept.insert(Arc::new(token)))),
            Err(failure) => kept.clone().filter(|token| lasts(token, (self.inner.now)())).ok_or(failure),
        }
    }

    async fn sign_in(&self, resource: Resource) -> Result<AccessToken, Failure> {
        let grant = self.inner.sign_in.token(resource, self.tenant()).await?;
        AccessToken::accept(grant, resource.audiences(), self.tenant(), (self.inner.now)())
    }

    fn lane(&self, resource: Resource) -> &Lane {
        match resource {
            Resource::AzureDevOps => &self.inner.azure_devops,
            Resource::Arm => &self.inner.arm,
        }
    }

    /// When the next request may go out.
    pub(crate) fn turn(&self, resource: Resource) -> Instant {
        let next = *self.lane(resource).next.lock().unwrap_or_else(PoisonError::into_inner);
        next.unwrap_or_else(Instant::now)
    }

    /// Lets the next request wait, for a minute at most: Azure DevOps asks for it even with answers that it gives.
    pub(crate) fn slow_down(&self, resource: Resource, asked: Duration) {
        let mut next = self.lane(resource).next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(Instant::now() + asked.min(MAX_WAIT));
    }
}
