//! What a state must hold beyond its schema: ids that are GUIDs, names that are unique, references that lead somewhere.

mod organization;
mod subscription;

use std::collections::HashSet;

use super::{Application, FederatedCredential, Imds, IssuerState, Kind, State, Tenant, TokenProxy};
use crate::entra::public_key;

/// Why a state was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The text is no state: a syntax error, an unknown field, a wrong type. The message has line and column.
    #[error("the state can't be read: {0}")]
    Unreadable(String),
    /// A field is wrong.
    #[error("{field}: {fault}; {fix}")]
    Wrong {
        /// Path of the field, for example `tenants[0].applications[1].clientId`.
        field: String,
        /// What is wrong with it.
        fault: String,
        /// What to do about it.
        fix: String,
    },
}

type Checked = Result<(), StateError>;

fn wrong(field: impl Into<String>, fault: impl Into<String>, fix: impl Into<String>) -> StateError {
    StateError::Wrong { field: field.into(), fault: fault.into(), fix: fix.into() }
}

impl State {
    /// Checks what the schema can't say.
    pub(crate) fn check(&self) -> Checked {
        self.check_issuers()?;
        unique("tenants", "id", self.tenants.iter().map(|tenant| tenant.id.as_str()))?;
        let applications = || self.tenants.iter().flat_map(|tenant| &tenant.applications);
        unique("tenants[].applications", "clientId", applications().map(|one| one.client_id.as_str()))?;
        unique("tenants[].applications", "objectId", applications().map(|one| one.object_id.as_str()))?;
        let users = || self.tenants.iter().flat_map(|tenant| &tenant.users);
        let principals = applications().map(|one| &one.object_id).chain(users().map(|one| &one.object_id));
        unique("tenants[].users", "objectId", principals.map(String::as_str))?;
        unique("tenants[].users", "userPrincipalName", users().map(|one| one.user_principal_name.as_str()))?;
        for (at, tenant) in self.tenants.iter().enumerate() {
            tenant.check(&format!("tenants[{at}]"))?;
        }
        self.imds.check(self)?;
        self.token_proxy.iter().try_for_each(|proxy| proxy.check(self))?;
        unique("subscriptions", "id", self.subscriptions.iter().map(|one| one.id.as_str()))?;
        for (at, subscription) in self.subscriptions.iter().enumerate() {
            subscription.check(self, &format!("subscriptions[{at}]"))?;
        }
        unique("organizations", "name", self.organizations.iter().map(|one| one.name.as_str()))?;
        for (at, organization) in self.organizations.iter().enumerate() {
            organization.check(self, &format!("organizations[{at}]"))?;
        }
        Ok(())
    }

    fn check_issuers(&self) -> Checked {
        unique("issuers", "issuer", self.issuers.iter().map(|one| one.issuer.as_str()))?;
        for (at, issuer) in self.issuers.iter().enumerate() {
            issuer.check(&format!("issuers[{at}]"))?;
        }
        Ok(())
    }
}

impl IssuerState {
    fn check(&self, at: &str) -> Checked {
        if self.issuer.starts_with("https://") {
            return Ok(());
        }
        let fault = format!("`{}` is no https URL", self.issuer);
        Err(wrong(format!("{at}.issuer"), fault, "Entra fetches keys over https only: write the claim `iss`"))
    }
}

impl Tenant {
    fn check(&self, at: &str) -> Checked {
        guid(&format!("{at}.id"), &self.id)?;
        for (index, application) in self.applications.iter().enumerate() {
            application.check(&format!("{at}.applications[{index}]"))?;
        }
        for (index, user) in self.users.iter().enumerate() {
            guid(&format!("{at}.users[{index}].objectId"), &user.object_id)?;
        }
        if let Some(name) = self.device_code.as_ref().map(|code| &code.user).filter(|name| self.user(name).is_none()) {
            let fault = format!("there is no user `{name}`");
            return Err(wrong(format!("{at}.deviceCode.user"), fault, "write the userPrincipalName of one of `users`"));
        }
        Ok(())
    }
}

impl Application {
    /// Federated credentials that Entra stores for one application.
    pub(crate) const MOST_CREDENTIALS: usize = 20;

    fn check(&self, at: &str) -> Checked {
        guid(&format!("{at}.clientId"), &self.client_id)?;
        guid(&format!("{at}.objectId"), &self.object_id)?;
        if self.kind == Kind::ManagedIdentity && !self.secrets.is_empty() {
            let fix = "remove the secrets or make it an Application";
            return Err(wrong(format!("{at}.secrets"), "a managed identity has no secrets", fix));
        }
        self.check_certificates(&format!("{at}.certificates"))?;
        self.check_credentials(&format!("{at}.federatedCredentials"))
    }

    fn check_certificates(&self, at: &str) -> Checked {
        if self.kind == Kind::ManagedIdentity && !self.certificates.is_empty() {
            let fix = "remove the certificates or make it an Application";
            return Err(wrong(at, "a managed identity has no certificates", fix));
        }
        for (index, certificate) in self.certificates.iter().enumerate() {
            if certificate.der().is_none_or(|der| public_key(&der).is_none()) {
                let fix = "write `-----BEGIN CERTIFICATE-----` and what follows";
                return Err(wrong(format!("{at}[{index}].pem"), "it is no certificate in PEM", fix));
            }
        }
        Ok(())
    }

    fn check_credentials(&self, at: &str) -> Checked {
        let credentials = &self.federated_credentials;
        if credentials.len() > Self::MOST_CREDENTIALS {
            let fault = format!("{} are more than the 20 that Entra stores", credentials.len());
            return Err(wrong(at, fault, "spread them over several applications"));
        }
        unique(at, "name", credentials.iter().map(|one| one.name.as_str()))?;
        let pairs = credentials.iter().map(|one| (one.issuer.as_str(), one.subject.as_str()));
        if pairs.clone().collect::<HashSet<_>>().len() != pairs.count() {
            let fault = "two credentials have the same issuer and subject";
            return Err(wrong(at, fault, "keep one of them, as Entra does"));
        }
        for (index, credential) in credentials.iter().enumerate() {
            credential.check(&format!("{at}[{index}]"))?;
        }
        Ok(())
    }
}

impl FederatedCredential {
    /// Characters that Entra stores of issuer, subject and audience.
    const LONGEST: usize = 600;

    /// Whether a credential may have this name.
    pub(crate) fn is_name(name: &str) -> bool {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && (3..=120).contains(&name.len())
    }

    fn check(&self, at: &str) -> Checked {
        if !Self::is_name(&self.name) {
            let fix = "use 3 to 120 letters, digits, `-` and `_`, the first a letter or digit";
            return Err(wrong(format!("{at}.name"), format!("`{}` is no name for a credential", self.name), fix));
        }
        for (field, value) in [("issuer", &self.issuer), ("subject", &self.subject), ("audience", &self.audience)] {
            if value.is_empty() || value.len() > Self::LONGEST {
                let fault = format!("it has {} characters", value.len());
                return Err(wrong(format!("{at}.{field}"), fault, "write 1 to 600"));
            }
        }
        Ok(())
    }
}

impl Imds {
    fn check(&self, state: &State) -> Checked {
        let system = self.system_assigned.iter().map(|id| ("imds.systemAssigned".to_owned(), id));
        let named = self.user_assigned.iter().enumerate();
        let user = named.map(|(at, id)| (format!("imds.userAssigned[{at}]"), id));
        for (field, id) in system.chain(user) {
            let kind = state.application(id).map(|(_, application)| application.kind);
            if kind != Some(Kind::ManagedIdentity) {
                let fix = "write the clientId of an application of kind ManagedIdentity";
                return Err(wrong(field, format!("`{id}` is no managed identity of any tenant"), fix));
            }
        }
        Ok(())
    }
}

impl TokenProxy {
    fn check(&self, state: &State) -> Checked {
        if self.host.is_empty() || self.host != self.host.to_lowercase() || self.host.contains(['/', ':']) {
            let fault = format!("`{}` is no host name in lower case", self.host);
            return Err(wrong("tokenProxy.host", fault, "write it without scheme, port and path"));
        }
        if !state.issuers.iter().any(|known| known.issuer == self.issuer) {
            let fault = format!("`{}` is not in `issuers`", self.issuer);
            return Err(wrong(
                "tokenProxy.issuer",
                fault,
                "write the issuer of the cluster's tokens, and add it there",
            ));
        }
        for (at, binding) in self.bindings.iter().enumerate() {
            let kind = state.application(&binding.client_id).map(|(_, application)| application.kind);
            if kind != Some(Kind::ManagedIdentity) {
                let fault = format!("`{}` is no managed identity of any tenant", binding.client_id);
                let fix = "write the clientId of an application of kind ManagedIdentity";
                return Err(wrong(format!("tokenProxy.bindings[{at}].clientId"), fault, fix));
            }
        }
        Ok(())
    }
}

/// Refuses a list in which two entries have the same key, case apart.
fn unique<'a>(list: &str, key: &str, values: impl Iterator<Item = &'a str>) -> Checked {
    let mut seen = HashSet::new();
    for value in values {
        if value.is_empty() {
            return Err(wrong(format!("{list}[].{key}"), "one is empty", "write it"));
        }
        if !seen.insert(value.to_lowercase()) {
            let fault = format!("`{value}` occurs twice");
            return Err(wrong(format!("{list}[].{key}"), fault, "keep one of them"));
        }
    }
    Ok(())
}

fn guids(field: &str, values: &[String]) -> Checked {
    values.iter().enumerate().try_for_each(|(at, value)| guid(&format!("{field}[{at}]"), value))
}

fn optional_guid(field: &str, value: Option<&String>) -> Checked {
    value.map_or(Ok(()), |value| guid(field, value))
}

fn guid(field: &str, value: &str) -> Checked {
    if is_guid(value) {
        return Ok(());
    }
    let fix = "write 32 hex digits as 8-4-4-4-12";
    Err(wrong(field, format!("`{value}` is no GUID"), fix))
}

/// Whether this text is a GUID in its usual form.
pub(crate) fn is_guid(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    groups.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether this is the all-zero GUID, which an organisation backed by Microsoft accounts has for a tenant.
pub(crate) fn is_zero(guid: &str) -> bool {
    is_guid(guid) && guid.bytes().all(|byte| byte == b'-' || byte == b'0')
}
