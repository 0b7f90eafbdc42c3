//! What the Kubernetes API says when it takes no write.

use std::time::Duration;

use super::Class::{Permanent, Starting, Transient};
use super::Failure;
use crate::token::fingerprint;

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// A Secret that is kept filled.
    Secret(Place<'a>),
    /// A Secret whose client secret is read.
    Credential(Place<'a>),
    /// A ServiceAccount that signs in: its metadata, or a token of it.
    Account(Place<'a>),
    /// Anything else that is written, in words.
    Other(&'static str),
}

/// A Secret or ServiceAccount, and the controller that wants it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Namespace of the controller.
    pub controller: &'a str,
}

/// One cause in a Status object, as far as it is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cause<'a> {
    /// Its reason.
    pub reason: &'a str,
    /// The field that it names.
    pub field: &'a str,
}

/// The failure for an answer: HTTP status, the causes in the Status object, and what was asked for.
pub fn from_answer(status: u16, causes: &[Cause<'_>], about: About<'_>, retry_after: Option<Duration>) -> Failure {
    let code = format!("HTTP {status}");
    let names = |field: &str| causes.iter().any(|cause| cause.field == field);
    let name = match about {
        About::Secret(place) | About::Credential(place) | About::Account(place) => place.name,
        About::Other(_) => "",
    };
    let failure = match (status, about) {
        (403, _) if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => Failure::new(
            TERMINATING,
            Permanent,
            code,
            "the namespace is being deleted, so nothing new can be made in it",
            "Nothing to do: the BearerToken goes with its namespace",
        ),
        (403, About::Secret(_)) if causes.iter().any(|cause| cause.reason == ADMISSION) => {
            rejected(code, &format!("Secret {name}"))
        }
        (403, about) => forbidden(code, about),
        (404, about) => missing(code, about),
        // A Secret of type kubernetes.io/basic-auth can't lose its user name and password.
        (422, _) if causes.iter().any(|cause| cause.field.starts_with("data[")) => Failure::new(
            "SecretNeedsBasic",
            Permanent,
            code,
            format!("Secret {name} is of a type that needs the keys username and password; it was not touched"),
            "Set spec.secret.formats: [Basic], which writes them",
        ),
        (422, _) if names("data") || names("immutable") => Failure::new(
            "SecretImmutable",
            Permanent,
            code,
            format!("Secret {name} is immutable"),
            format!("kubectl delete secret {name}, and it is made anew at once"),
        ),
        // Another object of the same name has come between: the write is pinned to the uid of the old one, or was to make it.
        (422, _) if names("metadata.uid") || names("type") => busy(code),
        (409 | 429 | 408 | 500.., _) => busy(code),
        (_, About::Other(what)) => rejected(code, what),
        (_, About::Account(_)) => Failure::new(
            "ServiceAccountRefused",
            Permanent,
            code,
            format!("the Kubernetes API gives no token of ServiceAccount {name}"),
            "Look for an admission policy or webhook that guards it",
        ),
        _ => rejected(code, &format!("Secret {name}")),
    };
    failure.retry_after(retry_after)
}

/// The failure where what was asked for is not there, or that which it is in.
fn missing(code: String, about: About<'_>) -> Failure {
    match about {
        About::Other(what) => {
            Failure::new(GONE, Permanent, code, format!("{what}: there is none any more"), "Nothing to do")
        }
        // It may be on its way, in the same apply.
        About::Account(Place { namespace, name, .. }) => Failure::new(
            "ServiceAccountMissing",
            Starting,
            code,
            format!("there is no ServiceAccount {name} in the BearerToken's namespace"),
            format!("kubectl -n {namespace} create serviceaccount {name}, or correct spec.identity.serviceAccountName"),
        ),
        About::Secret(_) | About::Credential(_) => Failure::new(
            NO_NAMESPACE,
            Permanent,
            code,
            "the namespace doesn't exist any more",
            "Delete the BearerToken, or make the namespace again",
        ),
    }
}

/// Reason of a [`Cause`] that stands for the words of a webhook or policy that has refused a write: of these refusals those
/// with status 403 look like a right that is missing.
pub const ADMISSION: &str = "Admission";

const TERMINATING: &str = "NamespaceTerminating";
const NO_NAMESPACE: &str = "NamespaceGone";
const GONE: &str = "ObjectGone";

/// Whether a failure only says that an object or its namespace is on its way out: that is nobody's fault.
pub fn is_farewell(failure: &Failure) -> bool {
    [TERMINATING, NO_NAMESPACE, GONE].contains(&failure.reason)
}

fn forbidden(code: String, about: About<'_>) -> Failure {
    let (reason, cause, fix) = match about {
        About::Secret(place) => (
            "Forbidden",
            format!("the controller may not read and write Secret {}", place.name),
            grant(place, "get,list,watch,create,patch", "secrets"),
        ),
        About::Credential(place) => (
            "CredentialForbidden",
            format!("the controller may not read Secret {}, which holds the credential of the identity", place.name),
            grant(place, "get", "secrets"),
        ),
        About::Account(place) => (
            "ServiceAccountForbidden",
            "the controller may not read the ServiceAccount of spec.identity.serviceAccountName and ask for its tokens"
                .to_owned(),
            grant(place, "get,create", "serviceaccounts,serviceaccounts/token"),
        ),
        About::Other(what) => (
            "Forbidden",
            format!("the controller may not write {what}"),
            "kubectl apply -k deploy/base, which brings ClusterRole flux-bearer-controller and its binding".to_owned(),
        ),
    };
    Failure::new(reason, Starting, code, cause, fix)
}

/// The commands that give the controller these verbs on one object, whatever Roles there are. Whole, they fit into a
/// condition beside the cause.
fn grant(place: Place<'_>, verbs: &str, resource: &str) -> String {
    let Place { namespace, name, controller } = place;
    let role = if name.len() > 63 { fingerprint(name) } else { name.to_owned() };
    // A ServiceAccount often has the name of a Secret.
    let role = if resource == "secrets" { role } else { format!("account-{role}") };
    format!(
        "kubectl -n {namespace} create role flux-bearer-{role} --verb={verbs} --resource={resource} --resource-name={name} && \
         kubectl -n {namespace} create rolebinding flux-bearer-{role} --role=flux-bearer-{role} \
         --serviceaccount={controller}:flux-bearer-controller"
    )
}

fn rejected(code: String, what: &str) -> Failure {
    let cause = format!("the Kubernetes API refuses the write of {what}");
    Failure::new("WriteRejected", Permanent, code, cause, "Look for an admission policy or webhook that guards it")
}

/// The failure of a write that did not start, because another process may lead by now.
pub fn not_leading() -> Failure {
    let cause = "this process has not renewed its lease in time, and writes nothing until it has";
    Failure::new("NotLeading", Transient, "NotLeading", cause, "Renewed by itself, or another replica takes over")
}

fn busy(code: String) -> Failure {
    let cause = "the Kubernetes API takes no write at the moment";
    Failure::new("KubernetesUnavailable", Transient, code, cause, "Retried by itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { namespace: "tenant", name: "s", controller: "flux-system" };

    fn reason(status: u16, cause: Cause<'_>, about: About<'_>) -> &'static str {
        from_answer(status, &[cause], about, None).reason
    }

    #[test]
    fn row_25_30_answers_have_their_reason() {
        let cases = [
            (403, "", "Forbidden"),
            (404, "", "NamespaceGone"),
            (422, "data[username]", "SecretNeedsBasic"),
            (422, "data", "SecretImmutable"),
            (422, "metadata.annotations", "WriteRejected"),
            (422, "metadata.uid", "KubernetesUnavailable"),
            (422, "type", "KubernetesUnavailable"),
            (400, "", "WriteRejected"),
            (409, "", "KubernetesUnavailable"),
            (500, "", "KubernetesUnavailable"),
            (429, "", "KubernetesUnavailable"),
        ];
        for (status, field, expected) in cases {
            let cause = Cause { field, ..Cause::default() };
            assert_eq!(reason(status, cause, About::Secret(PLACE)), expected, "{status} {field:?}");
        }
        let webhook = Cause { reason: ADMISSION, field: "" };
        assert_eq!(reason(403, webhook, About::Secret(PLACE)), "WriteRejected");
        let cases = [
            (403, "ServiceAccountForbidden"),
            (404, "ServiceAccountMissing"),
            (422, "ServiceAccountRefused"),
            (503, "KubernetesUnavailable"),
        ];
        for (status, expected) in cases {
            assert_eq!(reason(status, Cause::default(), About::Account(PLACE)), expected, "{status}");
        }
    }

    #[test]
    fn a_namespace_or_object_on_its_way_out_is_nobodys_fault() {
        let terminating = Cause { reason: "NamespaceTerminating", field: "metadata.namespace" };
        for (status, cause, about) in [
            (403, terminating, About::Secret(PLACE)),
            (403, terminating, About::Other("Events")),
            (404, Cause::default(), About::Secret(PLACE)),
            (404, Cause::default(), About::Other("Events")),
        ] {
            assert!(is_farewell(&from_answer(status, &[cause], about, None)), "{status} {about:?}");
        }
        assert!(!is_farewell(&from_answer(403, &[], About::Secret(PLACE), None)));
    }

    #[test]
    fn a_secret_that_is_in_no_role_is_told_with_the_commands_that_put_it_there() {
        assert_eq!(
            from_answer(403, &[], About::Secret(PLACE), None).to_string(),
            "HTTP 403: the controller may not read and write Secret s. kubectl -n tenant create role flux-bearer-s \
             --verb=get,list,watch,create,patch --resource=secrets --resource-name=s && kubectl -n tenant create \
             rolebinding flux-bearer-s --role=flux-bearer-s --serviceaccount=flux-system:flux-bearer-controller"
        );
        let credential = from_answer(403, &[], About::Credential(PLACE), None);
        assert_eq!(credential.reason, "CredentialForbidden");
        assert!(credential.fix.contains("--verb=get --resource=secrets --resource-name=s "), "{credential}");
        let account = from_answer(403, &[], About::Account(PLACE), None);
        assert_eq!(account.reason, "ServiceAccountForbidden");
        let grant = "create role flux-bearer-account-s --verb=get,create --resource=serviceaccounts,serviceaccounts/token \
                     --resource-name=s ";
        assert!(account.fix.contains(grant), "{account}");
        let other = from_answer(403, &[], About::Other("Events"), None);
        assert!(other.cause.contains("Events") && other.fix.contains("ClusterRole flux-bearer-controller"), "{other}");
    }

    #[test]
    fn the_commands_are_whole_in_a_condition_whatever_the_names() {
        let (namespace, name) = ("n".repeat(63), "s".repeat(253));
        let place = Place { namespace: &namespace, name: &name, controller: &namespace };
        for about in [About::Secret(place), About::Account(place)] {
            let told = from_answer(403, &[], about, None).to_string();
            assert!(told.len() <= 1024 && told.ends_with(":flux-bearer-controller"), "{}: {told}", told.len());
        }
    }

    #[test]
    fn a_role_has_the_name_of_its_object_unless_that_is_long() {
        let fix = |name: &str| from_answer(403, &[], About::Secret(Place { name, ..PLACE }), None).fix;
        let (short, long) = ("s".repeat(63), "s".repeat(64));
        assert!(fix(&short).contains(&format!("create role flux-bearer-{short} ")));
        assert!(fix(&long).contains(&format!("create role flux-bearer-{} ", fingerprint(&long))));
    }

    #[test]
    fn what_was_refused_is_named() {
        for (about, named) in [(About::Secret(PLACE), "the write of Secret s"), (About::Other("Events"), "of Events")] {
            let refused = from_answer(400, &[], about, None);
            assert!(refused.reason == "WriteRejected" && refused.cause.ends_with(named), "{refused}");
        }
    }
}
