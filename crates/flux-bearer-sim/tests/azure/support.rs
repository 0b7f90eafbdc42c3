//! A world with one of everything, and the requests that clients send it.

use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_sim::clock::Clock;
use flux_bearer_sim::issuer::Issuer;
use flux_bearer_sim::jwt::{Jwks, Jwt};
use flux_bearer_sim::service::Service;
use flux_bearer_sim::state::State;
use flux_bearer_sim::world::World;
use http::{HeaderMap, Method, Request, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tower::{BoxError, ServiceExt};
use url::form_urlencoded;

pub(crate) const TENANT: &str = "72f988bf-0000-4000-8000-000000000001";
pub(crate) const FLUX: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const FLUX_OID: &str = "11111111-1111-4111-8111-00000000000f";
pub(crate) const APP: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const APP_OID: &str = "22222222-2222-4222-8222-00000000000f";
pub(crate) const STAKEHOLDER_OID: &str = "33333333-3333-4333-8333-00000000000f";
pub(crate) const ISSUER: &str = "https://oidc.example/cluster/";
pub(crate) const SUBJECT: &str = "system:serviceaccount:flux-system:flux-bearer";
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";
pub(crate) const DEVOPS: &str = "499b84ac-1321-427f-aa17-267ca6975798";
pub(crate) const SCOPE: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";
pub(crate) const HEAD: &str = "8843d7f92416211de9ebb963ff4ce28125932878";
pub(crate) const SECRET: &str = "s3cret~with/+chars";

/// One tenant with a managed identity, an application and a stakeholder; one organisation with a project of two words.
pub(crate) fn state() -> State {
    State::from_yaml(&format!(
        r#"
issuers: [{{issuer: "{ISSUER}"}}]
tenants:
  - id: {TENANT}
    domains: [fabrikam.example]
    applications:
      - name: flux
        kind: ManagedIdentity
        clientId: {FLUX}
        objectId: {FLUX_OID}
        resourceId: /subscriptions/s/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/flux
        federatedCredentials: [{{name: flux, issuer: "{ISSUER}", subject: "{SUBJECT}"}}]
      - name: pipeline
        clientId: {APP}
        objectId: {APP_OID}
        secrets:
          - {{value: "{SECRET}"}}
          - {{value: old, expiresAt: 2026-01-01T00:00:00Z}}
      - name: stakeholder
        kind: ManagedIdentity
        clientId: 33333333-3333-4333-8333-333333333333
        objectId: {STAKEHOLDER_OID}
imds: {{userAssigned: [{FLUX}]}}
organizations:
  - name: fabrikam
    tenantId: {TENANT}
    members:
      - {{objectId: {FLUX_OID}}}
      - {{objectId: {STAKEHOLDER_OID}, licence: Stakeholder}}
    projects:
      - name: My Fleet
        readers: [{FLUX_OID}, {STAKEHOLDER_OID}]
        repositories:
          - {{name: clusters, readers: [{FLUX_OID}, {STAKEHOLDER_OID}], head: {HEAD}}}
          - {{name: secret, head: {HEAD}}}
      - name: hidden
        repositories: [{{name: hidden, readers: [{FLUX_OID}]}}]
      - name: solo
        readers: [{FLUX_OID}]
        repositories: [{{name: solo, contributors: [{FLUX_OID}]}}]
"#
    ))
    .unwrap()
}

/// A world and the cluster whose tokens its tenant trusts.
pub(crate) struct Azure {
    pub(crate) world: World,
    pub(crate) issuer: Issuer,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn code(&self) -> u64 {
        self.json()["error_codes"][0].as_u64().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Azure {
    pub(crate) fn new() -> Self {
        Self::with(state())
    }

    pub(crate) fn with(state: State) -> Self {
        let issuer = Issuer::new(ISSUER).unwrap();
        let clock = Clock::starting_at("2026-11-22T10:00:00Z".parse().unwrap());
        let world = World::new(state, clock).unwrap().with_issuer_client(issuer.service());
        Self { world, issuer }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock().now()
    }

    pub(crate) fn assertion(&self) -> String {
        self.assertion_of(SUBJECT)
    }

    pub(crate) fn assertion_of(&self, subject: &str) -> String {
        self.issuer.sign(subject, AUDIENCE, Duration::from_hours(1), self.now())
    }

    pub(crate) async fn try_send(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        send(self.world.service(), request).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, url, headers, "")).await
    }

    /// Posts these fields to the token endpoint of the tenant.
    pub(crate) async fn token(&self, fields: &[(&str, &str)]) -> Answer {
        self.token_of(TENANT, fields).await
    }

    pub(crate) async fn token_of(&self, tenant: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(token_request(tenant, fields)).await
    }

    /// Signs in with this assertion as the managed identity.
    pub(crate) async fn federate(&self, assertion: &str) -> Answer {
        self.token(&federated(assertion, SCOPE)).await
    }

    /// A good token of the managed identity for Azure DevOps.
    pub(crate) async fn mint(&self) -> String {
        let answer = self.federate(&self.assertion()).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// A good token of this application with the secret.
    pub(crate) async fn mint_with_secret(&self, scope: &str) -> String {
        let answer = self.token(&by_secret(SECRET, scope)).await;
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    pub(crate) async fn entra_keys(&self) -> Jwks {
        let answer = self.get(&format!("https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"), &[]).await;
        serde_json::from_str(&answer.text).unwrap()
    }

    /// The claims of a token whose signature the published keys verify.
    pub(crate) async fn verified(&self, token: &str) -> Jwt {
        let jwt = Jwt::parse(token).unwrap();
        let keys = self.entra_keys().await;
        assert!(jwt.is_signed_by(keys.key(jwt.kid()).unwrap()));
        jwt
    }
}

pub(crate) async fn send(service: Service, request: Request<Body>) -> Result<Answer, BoxError> {
    let (parts, body) = service.oneshot(request).await?.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await?;
    let text = String::from_utf8(bytes.to_vec())?;
    Ok(Answer { status: parts.status, headers: parts.headers, text })
}

pub(crate) fn request(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body.to_owned())).unwrap()
}

pub(crate) fn token_request(tenant: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    request(Method::POST, &url, &[("content-type", "application/x-www-form-urlencoded")], &body)
}

pub(crate) fn federated<'a>(assertion: &'a str, scope: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", FLUX),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
        ("scope", scope),
    ]
}

pub(crate) fn by_secret<'a>(secret: &'a str, scope: &'a str) -> [(&'static str, &'a str); 4] {
    [("grant_type", "client_credentials"), ("client_id", APP), ("client_secret", secret), ("scope", scope)]
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
