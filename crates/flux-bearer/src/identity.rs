//! What makes two specs one identity, and which namespace may use which identity.

mod account;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::account::{CLIENT_ANNOTATION, Claims, TENANT_ANNOTATION, account_of};
use crate::failure::{Class, Failure};
use crate::resource::{IdentityKind, IdentitySpec};

/// An identity with every default filled in: two BearerTokens with equal identities share one token.
///
/// It is also what the Secret remembers of the identity that filled it, so it holds names and ids only, never a secret.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Identity {
    /// The pod's projected service account token, exchanged at Entra ID.
    WorkloadIdentity {
        /// Tenant, in lower case.
        tenant_id: String,
        /// Client id, in lower case.
        client_id: String,
    },
    /// A token of a ServiceAccount, exchanged at Entra ID.
    ServiceAccount {
        /// Tenant, in lower case.
        tenant_id: String,
        /// Client id, in lower case.
        client_id: String,
        /// Namespace of the ServiceAccount: always the BearerToken's own.
        namespace: String,
        /// Name of the ServiceAccount.
        account: String,
    },
    /// A managed identity of the machine.
    ManagedIdentity {
        /// Which one.
        selector: Selector,
    },
    /// A service principal with a client secret.
    ClientSecret {
        /// Tenant, in lower case.
        tenant_id: String,
        /// Client id, in lower case.
        client_id: String,
        /// Namespace of the Secret with the client secret: always the BearerToken's own.
        namespace: String,
        /// Name of that Secret.
        secret: String,
    },
    /// A service principal with a certificate.
    ClientCertificate {
        /// Tenant, in lower case.
        tenant_id: String,
        /// Client id, in lower case.
        client_id: String,
        /// Namespace of the Secret with the certificate and its key: always the BearerToken's own.
        namespace: String,
        /// Name of that Secret.
        secret: String,
    },
}

/// Which of a machine's managed identities.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Selector {
    /// The system-assigned one.
    System,
    /// By client id.
    ClientId(String),
    /// By object id.
    ObjectId(String),
    /// By Azure resource id.
    ResourceId(String),
}

/// What the controller's own pod brings along.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Namespace of the controller.
    pub namespace: String,
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// What `--allow-identity` grants to other namespaces.
    pub allowed: Vec<Allowed>,
}

/// One grant of `--allow-identity namespace=tenantId/clientId`: that namespace may use the pod's credential as that identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    namespace: String,
    tenant_id: String,
    client_id: String,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(namespace, rest)| Some((namespace, rest.split_once('/')?)));
        match parts {
            Some((namespace, (tenant, client))) if !namespace.is_empty() && is_tenant(tenant) && is_guid(client) => {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    tenant_id: tenant.to_ascii_lowercase(),
                    client_id: client.to_ascii_lowercase(),
                })
            }
            _ => Err(format!("{text:?} is not namespace=tenantId/clientId with a GUID as client id")),
        }
    }
}

impl Identity {
    /// The identity that a spec in `namespace` means. `claims` are those of the ServiceAccount that it names, if it names
    /// one.
    ///
    /// # Errors
    /// What is missing, malformed or contradicted, and where to set it. The API server checks some of it by CEL; this holds
    /// for objects from before the rule, for the pod's own part, and for the ServiceAccount.
    pub fn resolve(spec: &IdentitySpec, namespace: &str, pod: &Pod, claims: &Claims) -> Result<Self, Failure> {
        if let Some(account) = &spec.service_account_name {
            return account::resolve(spec, namespace, account, pod, claims);
        }
        match spec.kind {
            IdentityKind::WorkloadIdentity => Ok(Self::WorkloadIdentity {
                tenant_id: tenant(spec.tenant_id.as_deref().or(pod.tenant_id.as_deref()))?,
                client_id: client(spec.client_id.as_deref().or(pod.client_id.as_deref()))?,
            }),
            IdentityKind::ManagedIdentity => Ok(Self::ManagedIdentity { selector: selector(spec)? }),
            IdentityKind::ClientSecret => Ok(Self::ClientSecret {
                tenant_id: tenant(spec.tenant_id.as_deref())?,
                client_id: client(spec.client_id.as_deref())?,
                namespace: namespace.to_owned(),
                secret: secret(spec, "Name the Secret that holds clientSecret")?,
            }),
            IdentityKind::ClientCertificate => Ok(Self::ClientCertificate {
                tenant_id: tenant(spec.tenant_id.as_deref())?,
                client_id: client(spec.client_id.as_deref())?,
                namespace: namespace.to_owned(),
                secret: secret(spec, "Name the Secret that holds tls.crt and tls.key")?,
            }),
        }
    }

    /// The tenant, where the identity names it.
    pub fn tenant_id(&self) -> Option<&str> {
        match self {
            Self::WorkloadIdentity { tenant_id, .. }
            | Self::ServiceAccount { tenant_id, .. }
            | Self::ClientSecret { tenant_id, .. }
            | Self::ClientCertificate { tenant_id, .. } => Some(tenant_id),
            Self::ManagedIdentity { .. } => None,
        }
    }

    /// The client id, where the identity names it.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::WorkloadIdentity { client_id, .. }
            | Self::ServiceAccount { client_id, .. }
            | Self::ClientSecret { client_id, .. }
            | Self::ClientCertificate { client_id, .. } => Some(client_id),
            Self::ManagedIdentity { selector: Selector::ClientId(id) } => Some(id),
            Self::ManagedIdentity { .. } => None,
        }
    }

    /// The object id, where the identity names it.
    pub fn object_id(&self) -> Option<&str> {
        match self {
            Self::ManagedIdentity { selector: Selector::ObjectId(id) } => Some(id),
            _ => None,
        }
    }

    /// Namespace and name of the Secret or ServiceAccount that proves it, where one does.
    fn proof(&self) -> Option<(&str, &str)> {
        match self {
            Self::ClientSecret { namespace, secret, .. } | Self::ClientCertificate { namespace, secret, .. } => {
                Some((namespace, secret))
            }
            Self::ServiceAccount { namespace, account, .. } => Some((namespace, account)),
            Self::WorkloadIdentity { .. } | Self::ManagedIdentity { .. } => None,
        }
    }

    /// Whether a BearerToken in `namespace` may use this identity.
    ///
    /// The pod's own credential (its projected token, its machine's IMDS) serves the controller's namespace. Elsewhere it
    /// serves exactly what `--allow-identity` grants, for otherwise whoever may make a BearerToken would be the pod. A
    /// service account, client secret or certificate of the namespace's own is the namespace's own business.
    pub fn check_allowed(&self, namespace: &str, pod: &Pod) -> Result<(), Failure> {
        let granted = pod.allowed.iter().any(|allowed| {
            allowed.namespace == namespace
                && Some(allowed.client_id.as_str()) == self.client_id()
                && self.tenant_id().is_none_or(|tenant| tenant == allowed.tenant_id)
        });
        let allowed = match self.proof() {
            // What a Secret remembers is whatever somebody wrote there: what is no name leads nowhere.
            Some((home, name)) => home == namespace && is_name(name),
            None => namespace == pod.namespace || granted,
        };
        if allowed {
            return Ok(());
        }
        Err(Failure::new(
            "IdentityNotAllowed",
            Class::Permanent,
            "IdentityNotAllowed",
            format!("namespace {namespace} may not use {self}"),
            "An administrator can allow it: --allow-identity namespace=tenantId/clientId on the controller",
        ))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkloadIdentity { client_id, .. } => write!(out, "workload identity {client_id}"),
            Self::ServiceAccount { client_id, account, .. } => {
                write!(out, "workload identity {client_id} of ServiceAccount {account}")
            }
            Self::ClientSecret { client_id, .. } | Self::ClientCertificate { client_id, .. } => {
                write!(out, "service principal {client_id}")
            }
            Self::ManagedIdentity { selector } => match selector {
                Selector::System => write!(out, "the machine's system-assigned identity"),
                Selector::ClientId(id) | Selector::ObjectId(id) | Selector::ResourceId(id) => {
                    write!(out, "managed identity {id}")
                }
            },
        }
    }
}

/// Whether `text` is a GUID with dashes: the only form of id that goes into a message.
pub fn is_guid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == dashes.contains(&at))
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether `text` can be a tenant in a URL: a GUID or a domain, nothing that changes the path.
pub fn is_tenant(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

/// Whether `text` can be the name of a Secret or ServiceAccount: nothing that leads to another object.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
}

fn tenant(value: Option<&str>) -> Result<String, Failure> {
    match value {
        Some(text) if is_tenant(text) => Ok(text.to_ascii_lowercase()),
        Some(_) => Err(invalid("the tenant id is neither a GUID nor a domain", "az account show --query tenantId")),
        None => {
            Err(invalid("no tenant id is known", "Set spec.identity.tenantId, or AZURE_TENANT_ID on the controller"))
        }
    }
}

fn client(value: Option<&str>) -> Result<String, Failure> {
    match value {
        Some(text) if is_guid(text) => Ok(text.to_ascii_lowercase()),
        Some(_) => Err(invalid("the client id is not a GUID", "az identity show -n NAME -g GROUP --query clientId")),
        None => {
            Err(invalid("no client id is known", "Set spec.identity.clientId, or AZURE_CLIENT_ID on the controller"))
        }
    }
}

fn secret(spec: &IdentitySpec, fix: &'static str) -> Result<String, Failure> {
    match &spec.secret_ref {
        Some(reference) if is_name(&reference.name) => Ok(reference.name.clone()),
        Some(_) => Err(invalid("spec.identity.secretRef.name is not the name of a Secret", fix)),
        None => Err(invalid("spec.identity.secretRef is missing", fix)),
    }
}

fn selector(spec: &IdentitySpec) -> Result<Selector, Failure> {
    match (&spec.client_id, &spec.object_id, &spec.resource_id) {
        (None, None, None) => Ok(Selector::System),
        (Some(id), None, None) => Ok(Selector::ClientId(client(Some(id))?)),
        (None, Some(id), None) if is_guid(id) => Ok(Selector::ObjectId(id.to_ascii_lowercase())),
        (None, Some(_), None) => Err(invalid("the object id is not a GUID", "az identity show --query principalId")),
        (None, None, Some(id)) => Ok(Selector::ResourceId(id.clone())),
        _ => Err(invalid(
            "a managed identity is selected twice",
            "Keep one of clientId, objectId and resourceId, or none for the system-assigned one",
        )),
    }
}

fn invalid(cause: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new("InvalidIdentity", Class::Permanent, "InvalidIdentity", cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::SecretReference;

    const CLIENT: &str = "11111111-1111-1111-1111-11111111111A";
    const TENANT: &str = "22222222-2222-2222-2222-222222222222";

    fn pod() -> Pod {
        Pod {
            namespace: "flux-system".into(),
            tenant_id: Some(TENANT.into()),
            client_id: Some(CLIENT.into()),
            allowed: vec![format!("team-a={TENANT}/{CLIENT}").parse().unwrap()],
        }
    }

    #[test]
    fn an_empty_spec_is_the_pods_identity() {
        let identity = Identity::resolve(&IdentitySpec::default(), "flux-system", &pod(), &Claims::default()).unwrap();
        assert_eq!(identity.client_id(), Some(CLIENT.to_ascii_lowercase().as_str()));
    }

    #[test]
    fn upper_and_lower_case_are_one_identity() {
        let upper = IdentitySpec { client_id: Some(CLIENT.to_uppercase()), ..IdentitySpec::default() };
        let lower = IdentitySpec { client_id: Some(CLIENT.to_lowercase()), ..IdentitySpec::default() };
        let resolve = |spec| Identity::resolve(spec, "flux-system", &pod(), &Claims::default()).unwrap();
        assert_eq!(resolve(&upper), resolve(&lower));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let none = Pod { namespace: "flux-system".into(), ..Pod::default() };
        let cases = [
            (IdentitySpec::default(), "tenant id"),
            (IdentitySpec { tenant_id: Some("a/../b".into()), ..Default::default() }, "tenant id"),
            (
                IdentitySpec { tenant_id: Some(TENANT.into()), client_id: Some("x".into()), ..Default::default() },
                "client id",
            ),
            (
                IdentitySpec {
                    kind: IdentityKind::ManagedIdentity,
                    client_id: Some(CLIENT.into()),
                    object_id: Some(CLIENT.into()),
                    ..Default::default()
                },
                "twice",
            ),
            (
                IdentitySpec { kind: IdentityKind::ManagedIdentity, object_id: Some("x".into()), ..Default::default() },
                "the object id is not a GUID",
            ),
            (
                IdentitySpec {
                    kind: IdentityKind::ClientSecret,
                    tenant_id: Some(TENANT.into()),
                    client_id: Some(CLIENT.into()),
                    ..Default::default()
                },
                "secretRef is missing",
            ),
            (
                IdentitySpec {
                    kind: IdentityKind::ClientSecret,
                    tenant_id: Some(TENANT.into()),
                    client_id: Some(CLIENT.into()),
                    secret_ref: Some(SecretReference { name: "../configmaps/s".into() }),
                    ..Default::default()
                },
                "secretRef.name is not the name of a Secret",
            ),
            (
                IdentitySpec {
                    kind: IdentityKind::ClientCertificate,
                    tenant_id: Some(TENANT.into()),
                    client_id: Some(CLIENT.into()),
                    ..Default::default()
                },
                "secretRef",
            ),
        ];
        for (spec, named) in cases {
            let failure = Identity::resolve(&spec, "flux-system", &none, &Claims::default()).unwrap_err();
            assert!(failure.cause.contains(named), "{failure}");
            assert_eq!(failure.reason, "InvalidIdentity");
        }
    }

    #[test]
    fn a_managed_identity_is_the_machines_own_or_selected_by_one_id() {
        let resource = "/subscriptions/1/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n";
        let id = CLIENT.to_ascii_lowercase();
        for (client_id, object_id, resource_id, selector) in [
            (None, None, None, Selector::System),
            (Some(CLIENT), None, None, Selector::ClientId(id.clone())),
            (None, Some(CLIENT), None, Selector::ObjectId(id.clone())),
            (None, None, Some(resource), Selector::ResourceId(resource.into())),
        ] {
            let [client_id, object_id, resource_id] =
                [client_id, object_id, resource_id].map(|id: Option<&str>| id.map(str::to_owned));
            let kind = IdentityKind::ManagedIdentity;
            let spec = IdentitySpec { kind, client_id, object_id, resource_id, ..Default::default() };
            let identity = Identity::resolve(&spec, "flux-system", &pod(), &Claims::default());
            assert_eq!(identity, Ok(Identity::ManagedIdentity { selector }));
        }
        let by_object = Identity::ManagedIdentity { selector: Selector::ObjectId(id.clone()) };
        assert_eq!((by_object.object_id(), by_object.client_id()), (Some(&*id), None));
    }

    #[test]
    fn an_identity_is_told_by_what_a_person_would_look_for() {
        let [tenant_id, client_id, namespace] = ["t", "c", "n"].map(str::to_owned);
        let (account, secret) = ("a".to_owned(), "s".to_owned());
        let pod = Identity::WorkloadIdentity { tenant_id: tenant_id.clone(), client_id: client_id.clone() };
        assert_eq!(pod.to_string(), "workload identity c");
        let own = Identity::ServiceAccount {
            tenant_id: tenant_id.clone(),
            client_id: client_id.clone(),
            namespace: namespace.clone(),
            account,
        };
        assert_eq!(own.to_string(), "workload identity c of ServiceAccount a");
        let principal = Identity::ClientSecret { tenant_id, client_id, namespace, secret };
        assert_eq!(principal.to_string(), "service principal c");
        let managed = |selector| Identity::ManagedIdentity { selector }.to_string();
        assert_eq!(managed(Selector::System), "the machine's system-assigned identity");
        assert_eq!(managed(Selector::ObjectId("o".into())), "managed identity o");
    }

    #[test]
    fn the_pods_identity_serves_its_namespace_and_exact_grants() {
        let own = Identity::resolve(&IdentitySpec::default(), "team-a", &pod(), &Claims::default()).unwrap();
        let other = Identity::WorkloadIdentity { tenant_id: TENANT.into(), client_id: TENANT.into() };
        let system = Identity::ManagedIdentity { selector: Selector::System };
        assert!(own.check_allowed("flux-system", &pod()).is_ok());
        assert!(own.check_allowed("team-a", &pod()).is_ok());
        assert!(own.check_allowed("team-b", &pod()).is_err());
        assert!(other.check_allowed("team-a", &pod()).is_err());
        assert!(system.check_allowed("flux-system", &pod()).is_ok());
        assert!(system.check_allowed("team-a", &pod()).is_err());
    }

    #[test]
    fn a_client_secret_or_certificate_never_crosses_a_namespace() {
        for kind in [IdentityKind::ClientSecret, IdentityKind::ClientCertificate] {
            let spec = IdentitySpec {
                kind,
                tenant_id: Some(TENANT.into()),
                client_id: Some(CLIENT.into()),
                secret_ref: Some(SecretReference { name: "s".into() }),
                ..IdentitySpec::default()
            };
            let identity = Identity::resolve(&spec, "team-b", &pod(), &Claims::default()).unwrap();
            assert!(identity.check_allowed("team-b", &pod()).is_ok());
            assert!(identity.check_allowed("flux-system", &pod()).is_err());
            assert!(identity.check_allowed("team-a", &pod()).is_err());
        }
    }

    #[test]
    fn a_malformed_grant_is_refused() {
        for text in ["", "ns", "ns=t", "=t/c", "ns=t/c", &format!("ns=/{CLIENT}"), &format!("ns=a b/{CLIENT}")] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }
}
