//! Access tokens, in the v1.0 format that Azure DevOps gets even from the v2.0 endpoint.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::Resource;
use crate::journal::Visit;
use crate::random;
use crate::state::{Application, Defaults, Kind, Tenant};
use crate::world::World;

/// Seconds by which `iat` and `nbf` are dated back, against clocks that run behind.
const BACKDATED: i64 = 300;

/// How an application proved who it is: claim `appidacr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// `1`: client secret.
    Secret,
    /// `2`: an assertion, or a managed identity's own certificate.
    Assertion,
}

/// What a token is to be made for.
pub(crate) struct Grant<'a> {
    /// Tenant.
    pub(crate) tenant: &'a Tenant,
    /// Whose token.
    pub(crate) application: &'a Application,
    /// For what.
    pub(crate) resource: Resource,
    /// On what proof.
    pub(crate) proof: Proof,
    /// Whether the client said that it handles claims challenges (`CP1`).
    pub(crate) handles_challenges: bool,
    /// Lifetimes that hold where the application has none.
    pub(crate) defaults: &'a Defaults,
}

/// An access token.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    /// The token.
    pub(crate) token: String,
    /// Seconds it lives, as the answer says: the last one begun is not counted, hence 3599 for an hour.
    pub(crate) expires_in: i64,
    /// Claim `exp`.
    pub(crate) expires_on: i64,
    /// Claim `nbf`.
    pub(crate) not_before: i64,
}

/// Makes a token and notes it in the journal.
pub(crate) fn mint(world: &World, grant: &Grant<'_>, visit: &Visit) -> Result<Minted, Refusal> {
    let now = world.clock().now();
    let life = i64::from(lifetime(grant.application, grant.defaults));
    let not_before = now.as_second().saturating_sub(BACKDATED);
    let expires_on = now.as_second().saturating_add(life).saturating_add(1);
    let claims = claims(grant, not_before, expires_on);
    let kid = world.signing_key().kid();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{kid}","kid":"{kid}"}}"#);
    let token = world.signing_key().sign(&header, &claims).map_err(|_| Refusal::cannot_sign())?;
    visit.minted(&grant.application.client_id);
    Ok(Minted { token, expires_in: life, expires_on, not_before })
}

fn lifetime(application: &Application, defaults: &Defaults) -> u32 {
    application.token_lifetime_seconds.unwrap_or(match application.kind {
        Kind::Application => defaults.application_lifetime_seconds,
        Kind::ManagedIdentity => defaults.managed_identity_lifetime_seconds,
    })
}

fn claims(grant: &Grant<'_>, not_before: i64, expires_on: i64) -> Value {
    let Grant { tenant, application, .. } = grant;
    let issuer = format!("https://sts.windows.net/{}/", tenant.id);
    let mut claims = json!({
        "aud": grant.resource.audience(),
        "iss": issuer,
        "iat": not_before,
        "nbf": not_before,
        "exp": expires_on,
        "aio": random::opaque(),
        "appid": application.client_id,
        "appidacr": if grant.proof == Proof::Secret { "1" } else { "2" },
        "idp": issuer,
        "idtyp": "app",
        "oid": application.object_id,
        "rh": random::opaque(),
        "sub": application.object_id,
        "tid": tenant.id,
        "uti": random::opaque(),
        "ver": "1.0",
    });
    if let Some(claims) = claims.as_object_mut() {
        let managed = application.resource_id.as_ref().filter(|_| application.kind == Kind::ManagedIdentity);
        claims.extend(managed.map(|id| ("xms_mirid".to_owned(), json!(id))));
        claims.extend(grant.handles_challenges.then(|| ("xms_cc".to_owned(), json!(["CP1"]))));
    }
    claims
}
