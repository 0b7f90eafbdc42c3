//! `CronJob`s that renew a credential, as they were written before there was a controller: `az` for the token,
//! `kubectl` for the Secret. What one does can only be read off its words, so the words are the evidence.

use serde_json::Value;

use crate::object::{items, text};

/// What betrays a job that renews a credential of Azure DevOps.
const SIGNS: [&str; 4] =
    ["get-access-token", "login.microsoftonline.com", "499b84ac-1321-427f-aa17-267ca6975798", "bearerToken"];

/// How far before its name a script says that it means a Secret: `secret generic NAME`, `secret --type=merge NAME`.
const NEAR: usize = 4;

/// Why a job looks as if it fills this Secret; nothing where it doesn't.
pub(crate) fn renews(job: &Value, secret: &str) -> Option<&'static str> {
    let pod = job.pointer("/spec/jobTemplate/spec/template/spec")?;
    let containers = || items(pod, "/containers").chain(items(pod, "/initContainers"));
    let words = |container| items(container, "/command").chain(items(container, "/args")).filter_map(Value::as_str);
    let scripts: Vec<&str> = containers().flat_map(words).collect();
    let sign = SIGNS.into_iter().find(|sign| pod.to_string().contains(sign))?;
    let told = |variable: &Value| {
        text(variable, "/value") == secret && text(variable, "/name").to_ascii_uppercase().contains("SECRET")
    };
    let variable = containers().flat_map(|container| items(container, "/env")).any(told);
    (variable || scripts.iter().any(|script| names(script, secret))).then_some(sign)
}

/// Whether a script names this Secret as one, and not a namespace or label of the same name.
fn names(script: &str, secret: &str) -> bool {
    let words: Vec<&str> =
        script.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-._".contains(letter))).collect();
    let words: Vec<&str> = without_namespace(&words);
    let of_manifest = words.windows(2).any(|pair| pair == ["kind", "Secret"]);
    words.iter().enumerate().filter(|(_, word)| **word == secret).any(|(at, _)| {
        let mut before = words.get(at.saturating_sub(NEAR)..at).unwrap_or_default().iter();
        let named = of_manifest && before.as_slice().last() == Some(&"name");
        named || before.any(|word| ["secret", "secrets"].contains(word))
    })
}

/// The words that are neither empty nor about a namespace.
fn without_namespace<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut words = words.iter().copied().filter(|word| !word.is_empty());
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-n" | "--namespace" | "namespace" | "namespaces" => drop(words.next()),
            word => kept.push(word),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(script: &str, variable: (&str, &str)) -> Value {
        let container = json!({
            "command": ["sh", "-c", script], "env": [{"name": variable.0, "value": variable.1}],
        });
        json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [container]}}}}}})
    }

    #[test]
    fn a_job_that_fills_the_secret_is_known_and_one_that_only_lives_beside_it_is_not() {
        let az = "t=$(az account get-access-token --resource 499b84ac-1321-427f-aa17-267ca6975798); ";
        for (script, variable, renewing) in [
            ("kubectl -n flux-system create secret generic flux-system --from-literal=bearerToken=$t", ("A", ""), true),
            ("kubectl patch secret flux-system -p $t", ("A", ""), true),
            ("kubectl patch secret -n flux-system --type=merge flux-system -p $t", ("A", ""), true),
            ("curl $api/api/v1/namespaces/flux-system/secrets/flux-system", ("A", ""), true),
            ("echo 'kind: Secret\nmetadata:\n  name: flux-system\n  namespace: flux-system'", ("A", ""), true),
            ("kubectl apply -f -", ("SECRET_NAME", "flux-system"), true),
            ("kubectl apply -f -", ("NAMESPACE", "flux-system"), false),
            ("kubectl -n flux-system create secret generic other", ("A", ""), false),
            ("kubectl --namespace=flux-system patch secret other", ("A", ""), false),
            ("curl $api/api/v1/namespaces/flux-system/secrets/other", ("A", ""), false),
        ] {
            let found = renews(&job(&format!("{az}{script}"), variable), "flux-system");
            assert_eq!(found.is_some(), renewing, "{script} {variable:?}");
        }
        let backup = job("kubectl get secret flux-system -o yaml | upload", ("A", ""));
        assert_eq!(renews(&backup, "flux-system"), None, "it renews nothing");
    }
}
