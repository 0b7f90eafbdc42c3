//! The identity of a ServiceAccount: what the spec says and what the account's annotations say, made one.

use std::collections::BTreeMap;

use super::{Identity, Pod, client, invalid, is_guid, is_name, is_tenant, tenant};
use crate::failure::Failure;
use crate::resource::{IdentityKind, IdentitySpec};

/// The annotation of a ServiceAccount that names its client id, for Flux and for the webhook of workload identity as well.
pub const CLIENT_ANNOTATION: &str = "azure.workload.identity/client-id";

/// The annotation of a ServiceAccount that names its tenant.
pub const TENANT_ANNOTATION: &str = "azure.workload.identity/tenant-id";

/// What a ServiceAccount says of its identity, as it stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    tenant_id: Option<String>,
    client_id: Option<String>,
}

impl Claims {
    /// What these annotations of a ServiceAccount say.
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let value = |name| annotations.get(name).cloned();
        Self { tenant_id: value(TENANT_ANNOTATION), client_id: value(CLIENT_ANNOTATION) }
    }
}

/// The ServiceAccount that a spec names, where it can be read: the spec is of the type that has one, and the name is a name.
pub fn account_of(spec: &IdentitySpec) -> Option<&str> {
    spec.service_account_name.as_deref().filter(|name| spec.kind == IdentityKind::WorkloadIdentity && is_name(name))
}

/// The identity that a spec in `namespace` means which names ServiceAccount `account`.
///
/// Spec and annotations may each say it, and must not contradict each other. The tenant may be the pod's, as the webhook has
/// it. The client never is: it is the pod that such an identity is to be told from.
pub(super) fn resolve(
    spec: &IdentitySpec,
    namespace: &str,
    account: &str,
    pod: &Pod,
    claims: &Claims,
) -> Result<Identity, Failure> {
    if spec.kind != IdentityKind::WorkloadIdentity {
        let cause = "spec.identity.serviceAccountName belongs to type WorkloadIdentity";
        return Err(invalid(cause, "Set spec.identity.type: WorkloadIdentity, or remove serviceAccountName"));
    }
    if !is_name(account) {
        let cause = "spec.identity.serviceAccountName is not the name of a ServiceAccount";
        return Err(invalid(cause, "Name one of the BearerToken's own namespace, by its name alone"));
    }
    let at = At { namespace, account };
    let said = spec.client_id.as_deref().map(|id| client(Some(id))).transpose()?;
    let client_id = at.agreed("clientId", said, CLIENT_ANNOTATION, claims.client_id.as_deref(), is_guid)?;
    let client_id = client_id.ok_or_else(|| at.nobody())?;
    let said = spec.tenant_id.as_deref().map(|id| tenant(Some(id))).transpose()?;
    let tenant_id = at.agreed("tenantId", said, TENANT_ANNOTATION, claims.tenant_id.as_deref(), is_tenant)?;
    let tenant_id = tenant_id.map_or_else(|| tenant(pod.tenant_id.as_deref()), Ok)?;
    let (namespace, account) = (namespace.to_owned(), account.to_owned());
    Ok(Identity::ServiceAccount { tenant_id, client_id, namespace, account })
}

/// Which ServiceAccount, for the words.
struct At<'a> {
    namespace: &'a str,
    account: &'a str,
}

impl At<'_> {
    /// The one value that a field of the spec and an annotation say, if either does.
    fn agreed(
        &self,
        field: &str,
        said: Option<String>,
        annotation: &str,
        claimed: Option<&str>,
        is_it: fn(&str) -> bool,
    ) -> Result<Option<String>, Failure> {
        let account = self.account;
        let claimed = match claimed {
            Some(text) if !is_it(text) => {
                let cause = format!("annotation {annotation} of ServiceAccount {account} is malformed");
                return Err(invalid(cause, self.annotate(annotation)));
            }
            claimed => claimed.map(str::to_ascii_lowercase),
        };
        match (said, claimed) {
            (Some(said), Some(claimed)) if said != claimed => Err(invalid(
                format!(
                    "spec.identity.{field} is {said}, and annotation {annotation} of ServiceAccount {account} is {claimed}"
                ),
                "Make them agree, or remove one of the two",
            )),
            (said, claimed) => Ok(said.or(claimed)),
        }
    }

    fn nobody(&self) -> Failure {
        let cause = format!("no client id is known for ServiceAccount {}", self.account);
        invalid(cause, format!("{}, or set spec.identity.clientId", self.annotate(CLIENT_ANNOTATION)))
    }

    fn annotate(&self, annotation: &str) -> String {
        let Self { namespace, account } = self;
        format!("kubectl -n {namespace} annotate --overwrite serviceaccount {account} {annotation}=ID")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "11111111-1111-1111-1111-11111111111a";
    const OTHER: &str = "33333333-3333-3333-3333-333333333333";
    const TENANT: &str = "22222222-2222-2222-2222-222222222222";

    /// What is made of client and tenant in the spec, and of client and tenant in the annotations.
    fn resolved(spec: [Option<&str>; 2], claims: [Option<&str>; 2]) -> Result<Identity, Failure> {
        let text = |value: Option<&str>| value.map(str::to_owned);
        let spec = IdentitySpec {
            client_id: text(spec[0]),
            tenant_id: text(spec[1]),
            service_account_name: Some("app".into()),
            ..IdentitySpec::default()
        };
        let annotations = [(CLIENT_ANNOTATION, claims[0]), (TENANT_ANNOTATION, claims[1])];
        let annotations = annotations.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
        let pod = Pod { tenant_id: Some(TENANT.into()), client_id: Some(OTHER.into()), ..Pod::default() };
        Identity::resolve(&spec, "team-a", &pod, &Claims::of(&annotations.collect()))
    }

    fn identity(client_id: &str, tenant_id: &str) -> Identity {
        let (client_id, tenant_id) = (client_id.to_owned(), tenant_id.to_owned());
        Identity::ServiceAccount { tenant_id, client_id, namespace: "team-a".into(), account: "app".into() }
    }

    #[test]
    fn spec_and_annotations_each_say_it_and_the_pod_says_the_tenant_alone() {
        let upper = CLIENT.to_ascii_uppercase();
        for (spec, claims, tenant) in [
            ([Some(CLIENT), None], [None, None], TENANT),
            ([None, None], [Some(CLIENT), None], TENANT),
            ([None, None], [Some(CLIENT), Some("contoso.example")], "contoso.example"),
            ([Some(CLIENT), Some(OTHER)], [None, None], OTHER),
            ([Some(CLIENT), Some(OTHER)], [Some(upper.as_str()), Some(OTHER)], OTHER),
            ([None, Some(OTHER)], [Some(CLIENT), None], OTHER),
        ] {
            assert_eq!(resolved(spec, claims), Ok(identity(CLIENT, tenant)), "{spec:?} {claims:?}");
        }
    }

    #[test]
    fn what_is_missing_malformed_or_contradicted_is_told_with_both_places() {
        let client = "annotate --overwrite serviceaccount app azure.workload.identity/client-id=ID";
        let (both, other) = ([Some(CLIENT), Some(TENANT)], "azure.workload.identity/tenant-id of ServiceAccount app");
        for (spec, claims, parts) in [
            ([None, None], [None, None], ["no client id is known for ServiceAccount app", client]),
            ([None, None], [Some("app\r\nx"), None], ["client-id of ServiceAccount app is malformed", client]),
            ([None, None], [Some(""), None], ["client-id of ServiceAccount app is malformed", client]),
            (both, [None, Some("../common")], ["malformed", "annotate --overwrite serviceaccount app azure"]),
            (both, [Some(OTHER), None], ["spec.identity.clientId is 1111", "client-id of ServiceAccount app is 3333"]),
            (both, [None, Some(OTHER)], ["spec.identity.tenantId is 2222", other]),
        ] {
            let failure = resolved(spec, claims).unwrap_err();
            assert_eq!(failure.reason, "InvalidIdentity");
            for part in parts {
                assert!(failure.to_string().contains(part), "{part:?} is not in {failure}");
            }
        }
    }

    #[test]
    fn a_name_leads_to_no_other_object_and_to_no_other_kind_of_identity() {
        for name in ["other/app", "../secrets/app", "", "App", "-app", "app.", "a b", "a?b", &"a".repeat(254)] {
            let spec = IdentitySpec { service_account_name: Some(name.into()), ..IdentitySpec::default() };
            let failure = Identity::resolve(&spec, "team-a", &Pod::default(), &Claims::default()).unwrap_err();
            assert!(failure.cause.contains("not the name of a ServiceAccount"), "{name:?}: {failure}");
            assert_eq!(account_of(&spec), None, "{name:?} is not looked for");
        }
        let kind = IdentityKind::ManagedIdentity;
        let spec = IdentitySpec { service_account_name: Some("app".into()), ..IdentitySpec::default() };
        assert_eq!(account_of(&spec), Some("app"));
        let spec = IdentitySpec { kind, ..spec };
        assert_eq!(account_of(&spec), None);
        let failure = Identity::resolve(&spec, "team-a", &Pod::default(), &Claims::default()).unwrap_err();
        assert!(failure.cause.contains("belongs to type WorkloadIdentity"), "{failure}");
    }

    #[test]
    fn it_serves_its_own_namespace_without_a_grant_and_no_other_with_one() {
        let grant = format!("team-b={TENANT}/{CLIENT}").parse().unwrap();
        let pod = Pod { namespace: "flux-system".into(), allowed: vec![grant], ..Pod::default() };
        let own = identity(CLIENT, TENANT);
        assert_eq!(own.check_allowed("team-a", &pod), Ok(()));
        for namespace in ["team-b", "flux-system"] {
            assert_eq!(own.check_allowed(namespace, &pod).unwrap_err().reason, "IdentityNotAllowed", "{namespace}");
        }
        // As somebody may have written it into the Secret.
        let account = "../../other/serviceaccounts/app".to_owned();
        let (tenant_id, client_id) = (TENANT.to_owned(), CLIENT.to_owned());
        let forged = Identity::ServiceAccount { tenant_id, client_id, namespace: "team-a".into(), account };
        assert_eq!(forged.check_allowed("team-a", &pod).unwrap_err().reason, "IdentityNotAllowed");
    }
}
