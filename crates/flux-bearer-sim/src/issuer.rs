//! An OIDC issuer in process: the part of a Kubernetes cluster that signs service account tokens and publishes keys.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use crate::jwt::{Jwks, SigningError, SigningKey};
use crate::random;
use crate::service::Service;

/// An issuer of Kubernetes-style service account tokens. Clones share the key.
///
/// Guarantees: tokens are RS256 with the claims of a projected token of kube-apiserver; the key set answers the current
/// key and those it replaced, as a cluster's does after a rotation.
#[derive(Clone)]
pub struct Issuer {
    url: String,
    keys: Arc<RwLock<Vec<Arc<SigningKey>>>>,
}

impl Issuer {
    /// An issuer of this URL, byte for byte (a trailing slash is part of it), with a new key.
    pub fn new(url: impl Into<String>) -> Result<Self, SigningError> {
        let keys = vec![Arc::new(SigningKey::new()?)];
        Ok(Self { url: url.into(), keys: Arc::new(RwLock::new(keys)) })
    }

    /// The URL, as the claim `iss` has it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A projected service account token for `subject` (`system:serviceaccount:NAMESPACE:NAME`), valid from `now`.
    ///
    /// Fails only when the cryptographic library does; the text is then empty, which no one accepts as a token.
    pub fn sign(&self, subject: &str, audience: &str, lifetime: Duration, now: Timestamp) -> String {
        self.sign_claims(&service_account_claims(&self.url, subject, audience, lifetime, now))
    }

    /// A token with exactly these claims: for tests of what Entra refuses.
    pub fn sign_claims(&self, claims: &Value) -> String {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = keys.last() else { return String::new() };
        let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, key.kid());
        key.sign(&header, claims).unwrap_or_default()
    }

    /// The published keys, oldest first.
    pub fn jwks(&self) -> Jwks {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Jwks { keys: keys.iter().map(|key| key.jwk().clone()).collect() }
    }

    /// Signs with a new key from now on; the old ones stay published.
    pub fn rotate(&self) -> Result<(), SigningError> {
        let key = Arc::new(SigningKey::new()?);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).push(key);
        Ok(())
    }

    /// Answers `{url}/.well-known/openid-configuration` and `{url}/openid/v1/jwks`, 404 for every other path.
    ///
    /// The host is not looked at: it is the caller's to bring a request here.
    pub fn service(&self) -> Service {
        let issuer = self.clone();
        Service::new(service_fn(move |request: Request<Body>| {
            let answer = issuer.answer(request.uri().path());
            async move { Ok::<_, Infallible>(answer).map_err(BoxError::from) }
        }))
    }

    fn answer(&self, path: &str) -> Response<Body> {
        let base = self.url.trim_end_matches('/');
        if path.ends_with("/.well-known/openid-configuration") {
            return json_answer(&json!({
                "issuer": self.url,
                "jwks_uri": format!("{base}/openid/v1/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }));
        }
        if path.ends_with("/openid/v1/jwks") {
            return json_answer(&json!(self.jwks()));
        }
        let mut missing = Response::new(Body::from("404 page not found\n"));
        *missing.status_mut() = StatusCode::NOT_FOUND;
        missing
    }
}

fn json_answer(body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// The claims that kube-apiserver puts into a token bound to a service account.
fn service_account_claims(url: &str, subject: &str, audience: &str, lifetime: Duration, now: Timestamp) -> Value {
    let issued = now.as_second();
    let expires = issued.saturating_add_unsigned(lifetime.as_secs());
    let account = subject.strip_prefix("system:serviceaccount:").unwrap_or_default();
    let (namespace, name) = account.split_once(':').unwrap_or_default();
    json!({
        "aud": [audience],
        "exp": expires,
        "iat": issued,
        "iss": url,
        "jti": random::uuid(),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": random::uuid()},
        },
        "nbf": issued,
        "sub": subject,
    })
}
