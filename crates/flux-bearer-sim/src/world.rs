//! The world: one state, one clock, one journal and one fault switch behind all of Azure's host names.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use http::{Request, Response};
use tower::{BoxError, ServiceExt, service_fn};

use crate::arm;
use crate::clock::Clock;
use crate::devops;
use crate::entra::{self, IssuerKeys, Propagation, SignIns};
use crate::faults::Faults;
use crate::git::GitBackend;
use crate::imds;
use crate::journal::{Journal, Visit};
use crate::jwt::{Jwk, Jwks, SigningError, SigningKey};
use crate::service::{Service, date, guarded, host};
use crate::state::{State, StateError};
use crate::token_proxy;

/// Names that the world answers to. Beside them it answers to every `<organisation>.visualstudio.com`.
const HOSTS: [&str; 10] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
    "169.254.169.254",
    "management.azure.com",
    "dev.azure.com",
    "vssps.dev.azure.com",
    "vsaex.dev.azure.com",
    "app.vssps.visualstudio.com",
];

/// Why a world could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The state is wrong.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no key to sign tokens with.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The simulated Azure, in process. Clones are the same world.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    state: RwLock<Arc<State>>,
    clock: Clock,
    faults: Faults,
    journal: Journal,
    signing_key: SigningKey,
    issuer_keys: IssuerKeys,
    propagation: Propagation,
    sign_ins: SignIns,
    arm: arm::Memory,
    visitors: devops::Visitors,
    imds_cache: imds::Cache,
    imds_limit: imds::Limit,
    git_backend: RwLock<Option<Arc<dyn GitBackend>>>,
}

impl World {
    /// A world in this state, with a signing key of its own and the state's faults in force.
    pub fn new(state: State, clock: Clock) -> Result<Self, WorldError> {
        state.check()?;
        let faults = Faults::default();
        state.faults.iter().cloned().for_each(|fault| faults.set(fault));
        let inner = Inner {
            state: RwLock::new(Arc::new(state)),
            clock,
            faults,
            journal: Journal::default(),
            signing_key: SigningKey::new()?,
            issuer_keys: IssuerKeys::default(),
            propagation: Propagation::default(),
            sign_ins: SignIns::default(),
            arm: arm::Memory::default(),
            visitors: devops::Visitors::default(),
            imds_cache: imds::Cache::default(),
            imds_limit: imds::Limit::default(),
            git_backend: RwLock::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Lets Entra fetch the keys of external issuers with this client, which is given requests with absolute URIs.
    /// Without one every such fetch fails (AADSTS90061).
    #[must_use]
    pub fn with_issuer_client(self, client: Service) -> Self {
        self.inner.issuer_keys.fetch_with(client);
        self
    }

    /// Lets this backend serve authorised requests for repositories that have a `path`.
    #[must_use]
    pub fn with_git_backend(self, backend: Arc<dyn GitBackend>) -> Self {
        *self.inner.git_backend.write().unwrap_or_else(PoisonError::into_inner) = Some(backend);
        self
    }

    /// The names to resolve to the world and to put into its certificate, wildcards apart.
    pub fn hosts() -> &'static [&'static str] {
        &HOSTS
    }

    /// The clock of the world.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// What the world has seen.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    /// A copy of the state.
    pub fn state(&self) -> State {
        State::clone(&self.snapshot())
    }

    /// Changes the state. What the change adds to Entra is dated now and propagates; a change that leaves the state
    /// wrong is refused, and nothing changes. The change must not ask the world for its state: it holds it.
    pub fn edit(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        self.try_edit(|state| {
            change(state);
            Ok(())
        })
    }

    /// The same for a change that may find itself impossible, whereupon nothing changes either.
    pub(crate) fn try_edit<T, E: From<StateError>>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut current = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = State::clone(&current);
        let outcome = change(&mut next)?;
        next.check()?;
        next.date_new_parts(&current, self.inner.clock.now());
        *current = Arc::new(next);
        Ok(outcome)
    }

    /// The world as a service: it goes by the host of each request, behind the fault switch. A host that it does not
    /// have is an `Err`, as a name that does not resolve would be.
    pub fn service(&self) -> Service {
        let world = self.clone();
        Service::new(service_fn(move |request| world.clone().serve(request)))
    }

    async fn serve(self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let host = host(&request);
        let part =
            Part::of(&host, &self.snapshot()).ok_or_else(|| format!("there is no host `{host}` in this world"))?;
        let (method, uri) = (request.method(), request.uri());
        let visit = self.inner.journal.arrive(self.inner.clock.now(), &host, method, uri);
        if part == Part::Arm {
            self.inner.arm.announce(&mut request);
        }
        let mut answer = self.admit(part, request, &visit).await;
        if let Ok(response) = &mut answer {
            date(response, self.inner.clock.now());
            visit.answered(response.status());
        }
        answer
    }

    /// Counts what IMDS limits, then lets the request through to the faults.
    async fn admit(&self, part: Part, request: Request<Body>, visit: &Visit) -> Result<Response<Body>, BoxError> {
        let in_flight = (part == Part::Imds).then(|| self.inner.imds_limit.arrive());
        if in_flight.as_ref().is_some_and(|in_flight| !in_flight.is_within()) {
            visit.over_limit();
            if self.snapshot().imds.enforce_limits {
                return Ok(imds::too_many());
            }
        }
        let (world, visit) = (self.clone(), visit.clone());
        let inner = service_fn(move |request| world.clone().answer(part, request, visit.clone()));
        let answer = guarded(self.inner.faults.clone(), inner).oneshot(request).await;
        drop(in_flight);
        answer
    }

    async fn answer(self, part: Part, request: Request<Body>, visit: Visit) -> Result<Response<Body>, Infallible> {
        Ok(match part {
            Part::Entra => entra::serve(&self, request, &visit).await,
            Part::Imds => imds::serve(&self, &request, &visit),
            Part::Arm => arm::serve(&self, request, &visit).await,
            Part::DevOps => devops::serve(&self, request, &visit).await,
            Part::TokenProxy => token_proxy::serve(&self, request, &visit).await,
        })
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self) -> Arc<State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The public keys of Entra.
    pub(crate) fn keys(&self) -> Jwks {
        let key = self.inner.signing_key.jwk();
        Jwks { keys: vec![Jwk { x5t: key.kid.clone(), ..key.clone() }] }
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.inner.signing_key
    }

    pub(crate) fn issuer_keys(&self) -> &IssuerKeys {
        &self.inner.issuer_keys
    }

    pub(crate) fn propagation(&self) -> &Propagation {
        &self.inner.propagation
    }

    pub(crate) fn sign_ins(&self) -> &SignIns {
        &self.inner.sign_ins
    }

    pub(crate) fn arm(&self) -> &arm::Memory {
        &self.inner.arm
    }

    pub(crate) fn visitors(&self) -> &devops::Visitors {
        &self.inner.visitors
    }

    pub(crate) fn imds_cache(&self) -> &imds::Cache {
        &self.inner.imds_cache
    }

    pub(crate) fn git_backend(&self) -> Option<Arc<dyn GitBackend>> {
        self.inner.git_backend.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A part of the world, by host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Entra,
    Imds,
    Arm,
    DevOps,
    TokenProxy,
}

impl Part {
    fn of(host: &str, state: &State) -> Option<Self> {
        match host {
            _ if entra::HOSTS.contains(&host) => Some(Self::Entra),
            imds::HOST => Some(Self::Imds),
            arm::HOST => Some(Self::Arm),
            _ if devops::is_host(host) => Some(Self::DevOps),
            _ if state.token_proxy.as_ref().is_some_and(|proxy| proxy.host == host) => Some(Self::TokenProxy),
            _ => None,
        }
    }
}
