//! Getting a token: picks the way that the identity asks for.

use std::sync::Arc;

use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::Identity;
use flux_bearer::preflight::AUDIENCE;
use flux_bearer::token::Grant;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::binding::{self, TokenProxy};
use crate::certificate::Certificate;
use crate::entra::{self, Authority, Endpoint};
use crate::http::Http;
use crate::imds::Imds;
use crate::resource::Resource;
use crate::workload::Assertion;
use crate::{secret, workload};

/// Everything that hands out tokens. Clones share connections and the limits of IMDS.
#[derive(Clone)]
pub struct Azure {
    entra: Http,
    imds: Imds,
    authority: Authority,
    token_proxy: Option<TokenProxy>,
}

/// What proves an identity, beside the identity itself.
#[derive(Clone)]
pub enum Credential {
    /// A service account token, for [`Identity::WorkloadIdentity`] and [`Identity::ServiceAccount`].
    Assertion(Arc<dyn Assertion>),
    /// A client secret, for [`Identity::ClientSecret`].
    ClientSecret(SecretString),
    /// A certificate with its key, for [`Identity::ClientCertificate`].
    Certificate(Arc<Certificate>),
    /// Nothing, for [`Identity::ManagedIdentity`]: the machine is the proof.
    None,
}

impl Credential {
    /// When it expires, where it says so.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Certificate(certificate) => Some(certificate.expires_at()),
            Self::Assertion(_) | Self::ClientSecret(_) | Self::None => None,
        }
    }
}

impl Azure {
    /// Entra ID through `entra`, and IMDS through `imds`, which must not lead through a proxy.
    pub fn new(entra: Http, imds: Http, authority: Authority) -> Self {
        Self { entra, imds: Imds::new(imds), authority, token_proxy: None }
    }

    /// The same, where the pod's own identity signs in at `proxy`. Every other identity goes to Entra ID itself: only of
    /// the pod's identity the variables of the pod speak.
    #[must_use]
    pub fn with_token_proxy(self, proxy: TokenProxy) -> Self {
        Self { token_proxy: Some(proxy), ..self }
    }

    /// The audience that the pod's own service account token has to have.
    pub fn audience(&self) -> &'static str {
        if self.token_proxy.is_some() { binding::AUDIENCE } else { AUDIENCE }
    }

    /// A new token for Azure DevOps as `identity`. One request for Entra ID, as many as IMDS documents for IMDS.
    ///
    /// # Errors
    /// Why there is none, and when to try again: see [`Failure::class`].
    pub async fn mint(&self, identity: &Identity, credential: Credential) -> Result<Grant, Failure> {
        let resource = Resource::AzureDevOps;
        let (tenant_id, form) = match (identity, credential) {
            (Identity::ManagedIdentity { selector }, Credential::None) => {
                return self.imds.mint(resource, selector).await;
            }
            (
                Identity::WorkloadIdentity { tenant_id, client_id }
                | Identity::ServiceAccount { tenant_id, client_id, .. },
                Credential::Assertion(assertion),
            ) => (tenant_id, workload::form(resource, client_id, assertion.as_ref()).await?),
            (Identity::ClientSecret { tenant_id, client_id, .. }, Credential::ClientSecret(secret)) => {
                (tenant_id, secret::form(resource, client_id, &secret)?)
            }
            (Identity::ClientCertificate { tenant_id, client_id, .. }, Credential::Certificate(certificate)) => {
                let audience = self.authority.url(tenant_id, Endpoint::Token);
                (tenant_id, certificate.form(resource, &audience, client_id)?)
            }
            _ => return Err(mismatch(identity)),
        };
        match (&self.token_proxy, identity) {
            (Some(proxy), Identity::WorkloadIdentity { .. }) => proxy.mint(&self.authority, tenant_id, form).await,
            _ => entra::mint(&self.entra, &self.authority, tenant_id, form).await,
        }
    }
}

fn mismatch(identity: &Identity) -> Failure {
    let cause = format!("{identity} came with a credential of another kind");
    let fix = "This is a fault of flux-bearer: report it";
    Failure::new("InvalidIdentity", Class::Permanent, "CredentialMismatch", cause, fix)
}
