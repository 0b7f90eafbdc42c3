//! What may be wrong with an installation, found before it does harm: each in one line, with the command that fixes it.
//!
//! A finding is a [`Failure`] that stops nothing. Names of fields and audiences are all that is repeated of what was found.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use crate::failure::{Class, Failure};
use crate::token::claims;

/// Name of our `CustomResourceDefinition`.
pub const DEFINITION: &str = "bearertokens.flux-bearer.dev";

/// The `ValidatingAdmissionPolicies` that are shipped, each with a binding of its own name.
pub const POLICIES: [&str; 3] =
    ["flux-bearer-gitrepository-metadata", "flux-bearer-gitrepository-host", "flux-bearer-tokenrequest-audience"];

/// The audience that Entra ID demands of a pod's projected token.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// How far two clocks may differ before it is said. Entra ID itself forgives five minutes.
pub const MAX_OFFSET: SignedDuration = SignedDuration::from_secs(300);

/// The version of our definition that this program speaks.
const VERSION: &str = "v1alpha1";

/// Fields that a finding names at most; of more it says how many.
const MAX_NAMED: usize = 5;

/// Longest text that is repeated of what was found.
const MAX_TEXT: usize = 64;

fn finding(reason: &'static str, cause: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new(reason, Class::Permanent, reason, cause.into(), fix.into())
}

/// What is wrong with the definition that the cluster has; `None` where it has none. It is compared with `ours` field by
/// field.
pub fn definition(found: Option<&CustomResourceDefinition>, ours: &CustomResourceDefinition) -> Vec<Failure> {
    let apply = "kubectl apply --server-side -k deploy/crd, of the controller's version";
    let Some(found) = found else {
        let cause = format!("CustomResourceDefinition {DEFINITION} is not installed, so there are no BearerTokens");
        return vec![finding("DefinitionMissing", cause, apply)];
    };
    let Some(theirs) = fields(found) else {
        let cause =
            format!("CustomResourceDefinition {DEFINITION} doesn't serve {VERSION}, which this controller speaks");
        return vec![finding("DefinitionMissing", cause, apply)];
    };
    let ours = fields(ours).unwrap_or_default();
    let mut findings = Vec::new();
    if let Some(lacking) = list(&ours, &theirs) {
        let cause = format!(
            "CustomResourceDefinition {DEFINITION} is older than this controller: the API server drops {lacking}"
        );
        findings.push(finding("DefinitionOlder", cause, apply));
    }
    if let Some(unknown) = list(&theirs, &ours) {
        let cause = format!(
            "CustomResourceDefinition {DEFINITION} is newer than this controller, which does nothing about {unknown}"
        );
        let fix = "Roll out the controller of the definition's version: kubectl apply -k deploy/base";
        findings.push(finding("DefinitionNewer", cause, fix));
    }
    findings
}

/// The paths of all fields of the version that we speak, where it is served.
fn fields(definition: &CustomResourceDefinition) -> Option<BTreeSet<String>> {
    let version = definition.spec.versions.iter().find(|version| version.name == VERSION && version.served)?;
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let mut found = BTreeSet::new();
    collect(schema, "", &mut found);
    Some(found)
}

fn collect(schema: &JSONSchemaProps, path: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(property, &path, found);
        found.insert(path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(items, path, found);
    }
}

/// The fields that are in `all` and not in `known`, in words. Of a field that is missing with all that is in it only it
/// is named.
fn list(all: &BTreeSet<String>, known: &BTreeSet<String>) -> Option<String> {
    let parent_known = |path: &str| path.rsplit_once('.').is_none_or(|(parent, _)| known.contains(parent));
    let extra: Vec<&String> = all.difference(known).filter(|path| parent_known(path)).collect();
    let named: Vec<String> = extra.iter().take(MAX_NAMED).map(|path| printable(path)).collect();
    let mut text = named.join(", ");
    if extra.len() > MAX_NAMED {
        // Writing to a text can't fail.
        write!(text, " and {} more", extra.len() - MAX_NAMED).ok()?;
    }
    (!extra.is_empty()).then_some(text)
}

/// What is wrong with the policy `name`: whether it and its binding are there.
pub fn policy(name: &str, installed: bool, bound: bool) -> Option<Failure> {
    let missing = match (installed, bound) {
        (true, true) => return None,
        (false, _) => "is not installed",
        (true, false) => "is installed, but its binding is not",
    };
    let cause = format!("ValidatingAdmissionPolicy {name} {missing}: a safeguard is off");
    Some(finding("PolicyMissing", cause, "kubectl apply -k deploy/policies; it needs Kubernetes 1.30 or later"))
}

/// That the definition or a policy may not be looked at.
pub fn forbidden() -> Failure {
    let cause =
        "the controller may not look at its own definition and policies, so nobody knows whether they are there";
    let fix = "kubectl apply -k deploy/base, which brings ClusterRole flux-bearer-controller-preflight and its binding";
    finding("PreflightForbidden", cause, fix)
}

/// What is wrong with the pod's projected token: `None` where there is no file of it, or none that can be read.
///
/// Only a managed identity, a client secret or a certificate needs none. `audience` is [`AUDIENCE`], or that of the proxy
/// where the pod's identity signs in instead. A token that can't be read is let through, for they have the last word.
pub fn projected_token(token: Option<&str>, audience: &str) -> Option<Failure> {
    let example = match audience {
        AUDIENCE => "deploy/base does",
        _ => "the webhook of AKS does for deploy/components/identity-binding",
    };
    let fix = format!(
        "Mount a projected serviceAccountToken volume with audience {audience} and name its file in \
         AZURE_FEDERATED_TOKEN_FILE, as {example}"
    );
    let needed = "so only ManagedIdentity, ClientSecret and ClientCertificate can sign in";
    let cause = match token.map(str::trim) {
        None => format!("the pod has no projected service account token that could be read, {needed}"),
        Some("") => format!("the file of the projected service account token is empty, {needed}"),
        Some(token) => {
            let found = audiences(&claims(token)?);
            if found.iter().any(|found| found == audience) {
                return None;
            }
            let found: Vec<String> = found.iter().take(MAX_NAMED).map(|audience| printable(audience)).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            format!("the projected service account token has the audience {found}, not {audience}, {needed}")
        }
    };
    Some(finding("ProjectedTokenMissing", cause, fix))
}

fn audiences(claims: &Value) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// What is wrong with the clock of the controller's machine, which is `offset` ahead of that of `whose`.
pub fn clock(offset: SignedDuration, whose: &str) -> Option<Failure> {
    if offset.abs() <= MAX_OFFSET {
        return None;
    }
    let direction = if offset.is_negative() { "behind" } else { "ahead of" };
    let minutes = offset.abs().as_secs().saturating_add(30) / 60;
    let cause = format!("the clock of the controller's node is {minutes} min {direction} that of {whose}");
    let fix = "timedatectl set-ntp true on that node, or on the other machine if that one is off";
    Some(finding("ClockOff", cause, fix))
}

/// A text of somebody else in printable ASCII and bounded.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn ours() -> CustomResourceDefinition {
        crate::resource::definition()
    }

    /// The properties of `spec` in a definition.
    fn spec(definition: &mut CustomResourceDefinition) -> &mut JSONSchemaProps {
        let schema = definition.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        schema.properties.as_mut().unwrap().get_mut("spec").unwrap()
    }

    fn reasons(found: Option<&CustomResourceDefinition>) -> Vec<(&'static str, String)> {
        let findings = definition(found, &ours());
        findings.iter().map(|finding| (finding.reason, finding.to_string())).collect()
    }

    #[test]
    fn our_own_definition_has_no_fault() {
        assert_eq!(reasons(Some(&ours())), []);
    }

    #[test]
    fn a_definition_that_is_missing_or_serves_another_version_is_told() {
        let mut other = ours();
        other.spec.versions[0].name = "v1".into();
        let mut unserved = ours();
        unserved.spec.versions[0].served = false;
        for found in [None, Some(&other), Some(&unserved)] {
            let told = reasons(found);
            assert_eq!(told[0].0, "DefinitionMissing");
            assert!(told[0].1.contains("kubectl apply --server-side -k deploy/crd"), "{told:?}");
        }
    }

    #[test]
    fn an_older_definition_is_told_with_the_fields_it_lacks_and_without_what_is_in_them() {
        let mut older = ours();
        spec(&mut older).properties.as_mut().unwrap().remove("identity");
        let told = reasons(Some(&older));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, "DefinitionOlder");
        assert!(told[0].1.contains("drops spec.identity. kubectl apply"), "{told:?}");
    }

    #[test]
    fn a_newer_definition_is_told_with_at_most_five_of_its_fields() {
        for (count, more) in [(5, None), (7, Some("and 2 more"))] {
            let mut newer = ours();
            let properties = spec(&mut newer).properties.as_mut().unwrap();
            for number in 0..count {
                properties.insert(format!("new{number}\n{}", "x".repeat(100)), JSONSchemaProps::default());
            }
            let told = reasons(Some(&newer));
            assert_eq!(told[0].0, "DefinitionNewer");
            assert!(told[0].1.contains("spec.new4") && told[0].1.contains(more.unwrap_or_default()), "{told:?}");
            assert_eq!(told[0].1.contains("more"), more.is_some(), "{told:?}");
            assert!(!told[0].1.contains('\n') && told[0].1.len() < 700, "{told:?}");
        }
    }

    #[test]
    fn a_definition_without_a_schema_lacks_everything() {
        let mut bare = ours();
        bare.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema = Some(JSONSchemaProps::default());
        assert!(reasons(Some(&bare))[0].1.contains("drops spec, status"));
    }

    #[test]
    fn a_policy_counts_only_with_its_binding() {
        assert_eq!(policy("p", true, true), None);
        assert!(policy("p", false, true).unwrap().cause.contains("is not installed"));
        assert!(policy("p", true, false).unwrap().cause.contains("its binding is not"));
    }

    #[test]
    fn a_projected_token_needs_the_audience_of_entra_id() {
        let token = |claims: Value| format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let good = [
            token(serde_json::json!({"aud": AUDIENCE})),
            token(serde_json::json!({"aud": ["x", AUDIENCE]})),
            "opaque".into(),
        ];
        for token in good {
            assert_eq!(projected_token(Some(&token), AUDIENCE), None, "{token}");
        }
        let bad = [
            (None, "no projected"),
            (Some(" \n".to_owned()), "is empty"),
            (Some(token(serde_json::json!({}))), "the audience none"),
            (
                Some(token(serde_json::json!({"aud": "https://kubernetes.default.svc"}))),
                "https://kubernetes.default.svc,",
            ),
            (Some(token(serde_json::json!({"aud": ["a\nb", "é", "x".repeat(100)]}))), "ab, , xxx"),
        ];
        for (token, part) in bad {
            let told = projected_token(token.as_deref(), AUDIENCE).unwrap();
            assert!(told.cause.contains(part), "{told}");
            assert!(told.fix.contains(AUDIENCE) && told.fix.contains("deploy/base"), "{told}");
            assert!(told.to_string().len() < 600, "{told}");
        }
        let bound = "api://AKSIdentityBinding";
        let both = [AUDIENCE, bound].map(|audience| token(serde_json::json!({"aud": audience})));
        assert_eq!(projected_token(Some(&both[1]), bound), None);
        let told = projected_token(Some(&both[0]), bound).unwrap();
        assert!(told.cause.contains(AUDIENCE) && told.fix.contains(bound), "{told}");
        assert!(told.fix.contains("identity-binding") && !told.fix.contains("deploy/base"), "{told}");
    }

    #[test]
    fn a_clock_may_be_five_minutes_off() {
        let told =
            |seconds| clock(SignedDuration::from_secs(seconds), "Entra ID").map(|found| found.cause.into_owned());
        assert_eq!(told(300), None);
        assert_eq!(told(-300), None);
        assert!(told(3600).unwrap().contains("60 min ahead of that of Entra ID"));
        assert!(told(-3601).unwrap().contains("60 min behind that of Entra ID"));
        assert!(told(301).is_some() && told(i64::MIN + 1).is_some());
    }
}
