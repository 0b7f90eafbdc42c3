//! Access tokens, in the v1.0 format that Azure DevOps gets even from the v2.0 endpoint.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resource::Resource;
use crate::journal::Visit;
use crate::random;
use crate::state::{Application, Defaults, Kind, Tenant, User, derived_id};
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

/// A person who signed in with an application, for a resource.
pub(super) struct PersonalGrant<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) user: &'a User,
    pub(super) client_id: &'a str,
    pub(super) resource: Resource,
    pub(super) defaults: &'a Defaults,
}

/// From when until when a token is good, in seconds since 1970.
struct Window {
    not_before: i64,
    expires_on: i64,
}

/// Makes a token and notes it in the journal.
pub(crate) fn mint(world: &World, grant: &Grant<'_>, visit: &Visit) -> Result<Minted, Refusal> {
    let life = lifetime(grant.application, grant.defaults);
    let minted = signed(world, life, |window| claims(grant, window))?;
    visit.minted(&grant.application.client_id);
    Ok(minted)
}

/// Makes a person's token, and notes it under the application that the person used.
pub(super) fn mint_personal(world: &World, grant: &PersonalGrant<'_>, visit: &Visit) -> Result<Minted, Refusal> {
    let life = grant.defaults.application_lifetime_seconds;
    let minted = signed(world, life, |window| personal_claims(grant, window))?;
    visit.minted(grant.client_id);
    Ok(minted)
}

/// Makes the token by which the application learns who signed in.
pub(super) fn mint_id_token(world: &World, grant: &PersonalGrant<'_>) -> Result<String, Refusal> {
    let life = grant.defaults.application_lifetime_seconds;
    Ok(signed(world, life, |window| id_claims(grant, window))?.token)
}

fn signed(world: &World, life: u32, claims: impl FnOnce(&Window) -> Value) -> Result<Minted, Refusal> {
    let now = world.clock().now();
    let life = i64::from(life);
    let not_before = now.as_second().saturating_sub(BACKDATED);
    let expires_on = now.as_second().saturating_add(life).saturating_add(1);
    let kid = world.signing_key().kid();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{kid}","kid":"{kid}"}}"#);
    let claims = claims(&Window { not_before, expires_on });
    let token = world.signing_key().sign(&header, &claims).map_err(|_| Refusal::cannot_sign())?;
    Ok(Minted { token, expires_in: life, expires_on, not_before })
}

fn lifetime(application: &Application, defaults: &Defaults) -> u32 {
    application.token_lifetime_seconds.unwrap_or(match application.kind {
        Kind::Application => defaults.application_lifetime_seconds,
        Kind::ManagedIdentity => defaults.managed_identity_lifetime_seconds,
    })
}

fn claims(grant: &Grant<'_>, window: &Window) -> Value {
    let Grant { tenant, application, .. } = grant;
    let Window { not_before, expires_on } = window;
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

/// What tells a person's token from an application's: `upn`, `scp`, and no `idtyp`.
fn personal_claims(grant: &PersonalGrant<'_>, Window { not_before, expires_on }: &Window) -> Value {
    let PersonalGrant { tenant, user, client_id, resource, .. } = grant;
    json!({
        "aud": resource.audience(),
        "iss": format!("https://sts.windows.net/{}/", tenant.id),
        "iat": not_before,
        "nbf": not_before,
        "exp": expires_on,
        "acr": "1",
        "aio": random::opaque(),
        "amr": ["pwd", "mfa"],
        "appid": client_id,
        "appidacr": "0",
        "ipaddr": "127.0.0.1",
        "name": user.name(),
        "oid": user.object_id,
        "rh": random::opaque(),
        "scp": "user_impersonation",
        "sub": pairwise(user, resource.audience()),
        "tid": tenant.id,
        "unique_name": user.user_principal_name,
        "upn": user.user_principal_name,
        "uti": random::opaque(),
        "ver": "1.0",
    })
}

fn id_claims(grant: &PersonalGrant<'_>, Window { not_before, expires_on }: &Window) -> Value {
    let PersonalGrant { tenant, user, client_id, .. } = grant;
    json!({
        "aud": client_id,
        "iss": format!("https://login.microsoftonline.com/{}/v2.0", tenant.id),
        "iat": not_before,
        "nbf": not_before,
        "exp": expires_on,
        "name": user.name(),
        "oid": user.object_id,
        "preferred_username": user.user_principal_name,
        "rh": random::opaque(),
        "sub": pairwise(user, client_id),
        "tid": tenant.id,
        "uti": random::opaque(),
        "ver": "2.0",
    })
}

/// The name that a person has for one resource or application alone.
fn pairwise(user: &User, audience: &str) -> String {
    derived_id(&[&user.object_id, audience]).replace('-', "")
}
