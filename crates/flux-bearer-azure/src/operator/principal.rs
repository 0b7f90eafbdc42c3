//! Signing in without a person: as a service principal or as the machine.

use std::sync::Arc;

use flux_bearer::failure::{Class, Failure, operator};
use flux_bearer::identity::{Identity, Selector};
use flux_bearer::token::Grant;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;

use super::{Resource, SignIn};
use crate::entra::{self, Authority, Endpoint, Form};
use crate::http::Http;
use crate::imds::Imds;
use crate::retry::{Setback, WAITS, retry};
use crate::workload::Assertion;
use crate::{secret, workload};

/// A service principal at Entra ID, whatever proves it.
struct Principal {
    http: Http,
    authority: Authority,
    tenant_id: String,
    client_id: String,
}

impl Principal {
    async fn attempt(&self, tenant: Option<&str>, form: Form) -> Result<Grant, Setback> {
        let tenant = tenant.unwrap_or(&self.tenant_id);
        let answer = entra::send(&self.http, &self.authority, tenant, Endpoint::Token, form).await.map_err(setback)?;
        answer.grant().ok_or_else(|| setback(answer.refusal().of_an_operator()))
    }
}

fn setback(failure: Failure) -> Setback {
    Setback { passing: failure.class == Class::Transient, failure }
}

/// A service principal with a client secret.
pub struct ClientSecret {
    principal: Principal,
    secret: SecretString,
}

impl ClientSecret {
    /// Signs in as `client_id`, in `tenant_id` unless another tenant is asked for.
    pub fn new(http: Http, authority: Authority, tenant_id: String, client_id: String, secret: SecretString) -> Self {
        Self { principal: Principal { http, authority, tenant_id, client_id }, secret }
    }

    async fn attempt(&self, resource: Resource, tenant: Option<&str>) -> Result<Grant, Setback> {
        let form = secret::form(resource, &self.principal.client_id, &self.secret).map_err(Setback::last)?;
        self.principal.attempt(tenant, form).await
    }
}

impl SignIn for ClientSecret {
    fn token<'a>(&'a self, resource: Resource, tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        retry(&WAITS, move || self.attempt(resource, tenant)).boxed()
    }

    fn describe(&self) -> String {
        format!("service principal {} with a client secret", self.principal.client_id)
    }
}

/// A service principal or managed identity that a federated token proves, as pipelines and pods have one.
pub struct Workload {
    principal: Principal,
    assertion: Arc<dyn Assertion>,
}

impl Workload {
    /// Signs in as `client_id`, in `tenant_id` unless another tenant is asked for. The token is read anew each time.
    pub fn new(
        http: Http,
        authority: Authority,
        tenant_id: String,
        client_id: String,
        assertion: Arc<dyn Assertion>,
    ) -> Self {
        Self { principal: Principal { http, authority, tenant_id, client_id }, assertion }
    }

    async fn attempt(&self, resource: Resource, tenant: Option<&str>) -> Result<Grant, Setback> {
        let form = workload::form(resource, &self.principal.client_id, self.assertion.as_ref()).await;
        self.principal.attempt(tenant, form.map_err(Setback::last)?).await
    }
}

impl SignIn for Workload {
    fn token<'a>(&'a self, resource: Resource, tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        retry(&WAITS, move || self.attempt(resource, tenant)).boxed()
    }

    fn describe(&self) -> String {
        format!("workload identity {}", self.principal.client_id)
    }
}

/// A managed identity of the machine.
pub struct ManagedIdentity {
    imds: Imds,
    selector: Selector,
}

impl ManagedIdentity {
    /// Signs in as the identity that `selector` names. It belongs to one tenant, whichever is asked for: the session
    /// finds out by the token.
    pub fn new(imds: Imds, selector: Selector) -> Self {
        Self { imds, selector }
    }
}

impl SignIn for ManagedIdentity {
    fn token<'a>(&'a self, resource: Resource, _tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        async move { self.imds.mint(resource, &self.selector).await.map_err(operator::imds) }.boxed()
    }

    fn describe(&self) -> String {
        Identity::ManagedIdentity { selector: self.selector.clone() }.to_string()
    }
}
