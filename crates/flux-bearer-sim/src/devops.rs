//! Azure DevOps: who a token is, what it opens, and how everything else is refused.
//!
//! Order of the checks: organisation, token, membership, Conditional Access, rate limit, then the rights that the
//! request needs. The REST part is what a set-up asks for: connection data, projects, repositories, entitlements, graph,
//! identities, access control, resource locations.

mod access;
mod answer;
mod call;
mod caller;
mod entitlements;
mod git;
mod graph;
mod groups;
mod locations;
mod principals;
mod projects;
mod rest;
mod security;
mod target;
mod visitors;

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response};

use self::access::Access;
use self::answer::{Answers, bad_state};
use self::caller::{Caller, Identity};
use self::target::{Host, Target, What};
pub(crate) use self::visitors::Visitors;
use crate::journal::{TokenVerdict, Visit};
use crate::service::host;
use crate::state::{NotMemberAnswer, Organization, State, StateError, holds, is_zero};
use crate::world::World;

/// Whether requests for this host are Azure DevOps'.
pub(crate) fn is_host(host: &str) -> bool {
    let known = ["dev.azure.com", "vssps.dev.azure.com", "vsaex.dev.azure.com", "app.vssps.visualstudio.com"];
    known.contains(&host) || target::legacy_organization(host).is_some()
}

/// What the handlers of one request share.
struct Exchange<'a> {
    world: &'a World,
    state: &'a State,
    organization: &'a Organization,
    answers: Answers<'a>,
}

type Served = Result<Response<Body>, Denied>;

/// A refusal, and what it says of the token.
struct Denied {
    verdict: TokenVerdict,
    response: Box<Response<Body>>,
}

impl Denied {
    fn new(verdict: TokenVerdict, response: Response<Body>) -> Self {
        Self { verdict, response: Box::new(response) }
    }

    /// For want of a right, or of the thing asked for: Azure DevOps does not say which.
    fn no_right(response: Response<Body>) -> Self {
        Self::new(TokenVerdict::NoRight, response)
    }
}

impl From<StateError> for Denied {
    /// What a request brings that no state may hold.
    fn from(error: StateError) -> Self {
        Self::new(TokenVerdict::Valid, bad_state(&error))
    }
}

/// The organisation of this name, which is known to be there.
fn organization_mut<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Organization, Denied> {
    let found = state.organizations.iter_mut().find(|organization| organization.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Denied::new(TokenVerdict::Valid, answer::no_such_page()))
}

/// Answers a request for a host of Azure DevOps.
pub(crate) async fn serve(world: &World, request: Request<Body>, visit: &Visit) -> Response<Body> {
    let state = world.snapshot();
    let host = host(&request);
    let Some(target) = Target::of(&host, request.uri().path()) else { return answer::no_such_page() };
    let Some(organization) = state.organization(&target.organization) else { return answer::no_such_page() };
    let caller = Caller::of(world, organization, request.headers());
    if let Caller::Known(identity) = &caller {
        visit.identity(identity.client_id.as_deref(), &identity.object_id);
    }
    let answers = Answers::to(&request, organization, target.is_git());
    let exchange = Exchange { world, state: &state, organization, answers };
    let (verdict, mut response) = match exchange.serve(caller, Host::of(&host), target.what, request).await {
        Ok(response) => (TokenVerdict::Valid, response),
        Err(Denied { verdict, response }) => (verdict, *response),
    };
    visit.judged(verdict);
    exchange.answers.finish(&mut response, world.clock().now());
    response
}

impl<'a> Exchange<'a> {
    async fn serve(&self, caller: Caller, host: Host, what: What, request: Request<Body>) -> Served {
        let identity = self.admit(caller, &what, request.method())?;
        self.world.visitors().note(&self.organization.name, &identity.object_id);
        match what {
            What::Git { project, repository, path } => {
                self.git(&identity, project.as_deref(), &repository, &path, request).await
            }
            What::Rest { project, path } => self.rest(&identity, host, project.as_deref(), &path, request).await,
            // The page of an organisation tells a HEAD all it wants to know.
            What::Page if request.method() == Method::HEAD => Ok(Response::new(Body::empty())),
            What::Page => Ok(answer::no_such_page()),
        }
    }

    /// The rights that are in force.
    fn access(&self) -> Access<'a> {
        Access::new(self.organization, self.world.clock().now())
    }

    /// Changes the state. The change is given the name of the organisation.
    fn change<T>(&self, change: impl FnOnce(&mut State, &str) -> Result<T, Denied>) -> Result<T, Denied> {
        self.world.try_edit(|state| change(state, &self.organization.name))
    }

    /// The identity, when its token is good, the organisation knows it, and nothing keeps it out.
    fn admit(&self, caller: Caller, what: &What, method: &Method) -> Result<Identity, Denied> {
        let identity = match caller {
            Caller::Known(identity) => identity,
            Caller::Stranger(verdict) if self.welcomes_strangers(what, method) => {
                return Err(Denied::new(verdict, rest::anonymous(self.organization)));
            }
            Caller::Stranger(verdict) => return Err(Denied::new(verdict, self.answers.sign_in())),
        };
        if is_zero(&self.organization.tenant_id) && identity.client_id.is_some() {
            return Err(Denied::new(TokenVerdict::NotMember, self.answers.no_entra_here()));
        }
        let at_home = self.organization.tenant_id.eq_ignore_ascii_case(&identity.tenant_id);
        if !at_home || self.organization.member(&identity.object_id).is_none() {
            return Err(Denied::new(TokenVerdict::NotMember, self.not_a_member(&identity)));
        }
        if holds(&self.organization.blocked_by_conditional_access, &identity.object_id) {
            return Err(Denied::no_right(self.answers.blocked_by_policy()));
        }
        if self.organization.rate_limit.as_ref().is_some_and(|limit| limit.blocked) {
            return Err(Denied::new(TokenVerdict::Valid, self.answers.too_many()));
        }
        Ok(identity)
    }

    fn welcomes_strangers(&self, what: &What, method: &Method) -> bool {
        let What::Rest { path, .. } = what else { return false };
        let is_connection_data = path.first().is_some_and(|name| name.eq_ignore_ascii_case("connectionData"));
        self.organization.anonymous_connection_data && is_connection_data && method == Method::GET
    }

    fn not_a_member(&self, identity: &Identity) -> Response<Body> {
        match self.organization.not_member_answer {
            NotMemberAnswer::NotAuthorized => self.answers.unauthorized(),
            NotMemberAnswer::SignInOnce => {
                let Identity { tenant_id, object_id, .. } = identity;
                self.answers.unauthorized_because(&format!(
                    "TF401444: Please sign-in at least once as {tenant_id}\\{tenant_id}\\{object_id} in a web browser \
                     to enable access to the service."
                ))
            }
        }
    }
}

/// Whether the client asked for plain refusals instead of a sign-in page.
fn suppresses_sign_in(headers: &HeaderMap) -> bool {
    headers.get("x-tfs-fedauthredirect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"suppress"))
}
