//! The Entra part of the state.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Entra tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Its GUID.
    pub id: String,
    /// Its verified domains, which stand for the GUID in every path.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Applications and managed identities that have a service principal in it.
    #[serde(default)]
    pub applications: Vec<Application>,
    /// People.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Who signs in when a device code asks somebody to; none means that nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_code: Option<DeviceCode>,
    /// Resources that it has no service principal of (AADSTS500011), for example the Azure DevOps application
    /// `499b84ac-1321-427f-aa17-267ca6975798` in a tenant that never used Azure DevOps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent_resources: Vec<String>,
}

impl Tenant {
    /// Whether this GUID or domain is this tenant's.
    pub fn is_named(&self, id_or_domain: &str) -> bool {
        let mut names = std::iter::once(&self.id).chain(&self.domains);
        names.any(|name| name.eq_ignore_ascii_case(id_or_domain))
    }

    /// The user of this user principal name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.user_principal_name.eq_ignore_ascii_case(name))
    }

    /// The application of this client id.
    pub fn application(&self, client_id: &str) -> Option<&Application> {
        self.applications.iter().find(|application| application.client_id.eq_ignore_ascii_case(client_id))
    }
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Object id: `oid` of the person's tokens.
    pub object_id: String,
    /// User principal name, for example `ada@contoso.example`.
    pub user_principal_name: String,
    /// Display name; none means the user principal name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

impl User {
    /// The name to show.
    pub fn name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.user_principal_name)
    }
}

/// What becomes of a sign-in with a device code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceCode {
    /// User principal name of the person who types the code in.
    pub user: String,
    /// Polls that are answered `authorization_pending` before that. Default 1.
    #[serde(default = "one")]
    pub after_polls: u32,
    /// Whether the person then says no: `authorization_declined`.
    #[serde(default)]
    pub declined: bool,
    /// Seconds that a code can be used: `expired_token` afterwards. Default 900.
    #[serde(default = "quarter_of_an_hour")]
    pub expires_in_seconds: u32,
    /// Seconds to wait between polls. Default 5.
    #[serde(default = "five")]
    pub interval_seconds: u32,
    /// Whether a poll that comes sooner is answered `slow_down`. Default false: that Entra does so is unconfirmed.
    #[serde(default)]
    pub enforce_interval: bool,
}

impl Default for DeviceCode {
    fn default() -> Self {
        Self {
            user: String::new(),
            after_polls: one(),
            declined: false,
            expires_in_seconds: quarter_of_an_hour(),
            interval_seconds: five(),
            enforce_interval: false,
        }
    }
}

fn one() -> u32 {
    1
}

fn quarter_of_an_hour() -> u32 {
    900
}

fn five() -> u32 {
    5
}

/// An app registration or a managed identity, with its service principal.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Application {
    /// Display name.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Application (client) id.
    pub client_id: String,
    /// Object id of the service principal: `oid` of its tokens, `principalId` of a managed identity.
    pub object_id: String,
    /// Azure Resource Manager id of a managed identity: IMDS selects by it, tokens carry it as `xms_mirid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// Federated identity credentials, at most 20.
    #[serde(default)]
    pub federated_credentials: Vec<FederatedCredential>,
    /// Client secrets. Managed identities have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Certificates that it signs in with. Managed identities have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// `expires_in` of its tokens, in seconds; none means the default of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_lifetime_seconds: Option<u32>,
    /// `refresh_in` of its tokens, in seconds; none means that the answer has no such member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_in_seconds: Option<u32>,
    /// Whether its sign-in is disabled: AADSTS7000112.
    #[serde(default)]
    pub disabled: bool,
    /// Whether a Conditional Access policy blocks its sign-in: AADSTS53003.
    #[serde(default)]
    pub blocked_by_conditional_access: bool,
    /// When it was created; none means long ago. An edit of a running world dates what it adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
}

impl Application {
    pub(super) fn date_new_parts(&mut self, before: Option<&Self>, now: Timestamp) {
        if before.is_none() {
            self.created_at.get_or_insert(now);
        }
        // Credentials of a new application are as new as it is.
        let known = before.map(|before| before.federated_credentials.as_slice()).unwrap_or_default();
        for credential in &mut self.federated_credentials {
            credential.date_if_new(known, now);
        }
    }
}

/// What an application is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Kind {
    /// A managed identity. It has no secrets, and its tokens live 24 hours.
    ManagedIdentity,
    /// An app registration.
    #[default]
    Application,
}

/// A federated identity credential: whose assertions an application signs in with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FederatedCredential {
    /// Its name: 3 to 120 letters, digits, `-`, `_`, the first a letter or digit.
    pub name: String,
    /// The issuer, byte-equal to the claim `iss`.
    pub issuer: String,
    /// The subject, case-sensitively equal to the claim `sub`.
    pub subject: String,
    /// The audience, one of the claim `aud`. Default `api://AzureADTokenExchange`.
    #[serde(default = "token_exchange")]
    pub audience: String,
    /// When it was created or last changed; none means long ago. An edit of a running world dates what it adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
}

fn token_exchange() -> String {
    "api://AzureADTokenExchange".to_owned()
}

impl FederatedCredential {
    /// Issuer, subject and audience: what has to match.
    pub(crate) fn rule(&self) -> (&str, &str, &str) {
        (&self.issuer, &self.subject, &self.audience)
    }

    fn date_if_new(&mut self, known: &[Self], now: Timestamp) {
        if known.iter().any(|other| other.rule() == self.rule()) {
            return;
        }
        // A changed credential still has the date of what it was.
        let former = known.iter().find(|other| other.name == self.name).and_then(|other| other.created_at);
        if self.created_at == former {
            self.created_at = Some(now);
        }
    }
}

/// A client secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secret {
    /// Its value.
    pub value: String,
    /// When it expires; none means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
}

/// A certificate, whose private key signs assertions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The certificate in PEM, with an RSA key of at least 2048 bits. Its own dates are not looked at.
    pub pem: String,
}

impl Certificate {
    /// The certificate in DER.
    pub(crate) fn der(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).ok()
    }
}
