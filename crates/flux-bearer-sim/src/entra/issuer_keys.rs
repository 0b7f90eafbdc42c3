//! The keys of external issuers: fetched when first needed, kept, and fetched again for an unknown key id.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Request, header};
use serde::Deserialize;
use tower::ServiceExt;

use super::refusal::Refusal;
use crate::jwt::{Jwk, Jwks, Jwt};
use crate::service::Service;
use crate::state::State;

/// How long Entra waits for an issuer. The real figure is not published.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a discovery document or a key set may have.
const LARGEST: usize = 1 << 20;
/// What is asked for. kube-apiserver answers 406 for its keys to whoever takes only `application/json`.
const ACCEPT: &str = "application/json, application/jwk-set+json";
/// Keys that Entra keeps of an issuer.
const MOST_KEYS: usize = 100;

/// Keys of issuers, and the client that fetches them.
#[derive(Default)]
pub(crate) struct IssuerKeys {
    client: Mutex<Option<Service>>,
    fetched: Mutex<HashMap<String, Jwks>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    /// Fetches with this client from now on.
    pub(crate) fn fetch_with(&self, client: Service) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
    }

    /// Checks the signature of an assertion of this issuer.
    pub(crate) async fn verify(&self, state: &State, issuer: &str, assertion: &Jwt) -> Result<(), Refusal> {
        match self.key(state, issuer, assertion.kid()).await? {
            None => Err(Refusal::bad_signature("The key was not found.")),
            Some(key) if assertion.is_signed_by(&key) => Ok(()),
            Some(_) => Err(Refusal::bad_signature("The provided signature value did not match the expected value.")),
        }
    }

    async fn key(&self, state: &State, issuer: &str, kid: &str) -> Result<Option<Jwk>, Refusal> {
        let known = state.issuers.iter().find(|known| known.issuer == issuer);
        let known = known.ok_or_else(Refusal::issuer_unreachable)?;
        if let Some(jwks) = &known.jwks {
            return Ok(jwks.key(kid).cloned());
        }
        if let Some(key) = self.kept(issuer, kid) {
            return Ok(Some(key));
        }
        let mut jwks = self.fetch(issuer).await.ok_or_else(Refusal::issuer_unreachable)?;
        jwks.keys.truncate(MOST_KEYS);
        let key = jwks.key(kid).cloned();
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(issuer.to_owned(), jwks);
        Ok(key)
    }

    fn kept(&self, issuer: &str, kid: &str) -> Option<Jwk> {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.get(issuer)?.key(kid).cloned()
    }

    async fn fetch(&self, issuer: &str) -> Option<Jwks> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let base = issuer.trim_end_matches('/');
        let discovery = get(&client, &format!("{base}/.well-known/openid-configuration")).await?;
        let discovery: Discovery = serde_json::from_slice(&discovery).ok()?;
        if discovery.issuer != issuer {
            return None;
        }
        serde_json::from_slice(&get(&client, &discovery.jwks_uri).await?).ok()
    }
}

/// The body of a 200; `None` for everything else, and for an answer that takes too long.
async fn get(client: &Service, url: &str) -> Option<bytes::Bytes> {
    let request = Request::get(url).header(header::ACCEPT, ACCEPT).body(Body::empty()).ok()?;
    let exchange = async {
        let response = client.clone().oneshot(request).await.ok()?;
        let ok = response.status().is_success();
        let body = axum::body::to_bytes(response.into_body(), LARGEST).await.ok()?;
        ok.then_some(body)
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}
