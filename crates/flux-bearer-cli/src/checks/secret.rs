//! `secret-…`: whose the Secrets are that BearerTokens keep, and what else is in them. Only metadata is looked at.

use std::collections::BTreeMap;

use flux_bearer::failure::kubernetes::{About, Place, from_answer};
use flux_bearer::resource::{DeletionPolicy, Format};
use flux_bearer::secret::{Held, keys};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::facts::{Facts, account_of, known};
use super::rights::Deed;
use super::{Check, Fix, Repair, Verdict, Wrong, check};
use crate::cron_job::renews;
use crate::kinds::SECRET;
use crate::object::{name, namespace, patch, printable};
use crate::tokens::Token;

/// Where `kubectl apply` keeps a copy of what it applied, a password in clear included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Flux's annotation about how it applies an object.
pub(crate) const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";

/// The keys under which Flux looks for a credential.
pub(crate) const CREDENTIALS: [&str; 5] = ["bearerToken", "username", "password", "identity", "identity.pub"];

/// Field managers that write what stands in Git, again and again.
const GIT: [&str; 2] = ["kustomize-controller", "helm-controller"];

const DEFINED: &str = "controller-definition";

pub(super) const CHECKS: &[Check] = &[
    check!("secret-right", Fail, "the controller may write every Secret", ["controller-deployment"], right),
    check!("secret-foreign", Fail, "every Secret is its BearerToken's to write", [DEFINED], foreign),
    check!("secret-contested", Fail, "nobody else writes the token", [DEFINED], contested),
    check!("secret-in-git", Fail, "no token is overwritten from Git", [DEFINED], in_git),
    check!("secret-leftovers", Warn, "no other credential is beside the token", [DEFINED], leftovers),
    check!("secret-last-applied", Warn, "no copy of a credential is in an annotation", [DEFINED], last_applied),
    check!("secret-cron-job", Warn, "no CronJob renews the same Secret", [DEFINED], cron_job),
];

/// The Secrets of BearerTokens that exist, each with the one that keeps it.
fn kept(facts: &Facts) -> Result<Vec<(&Token, &ObjectMeta)>, String> {
    let mut found = Vec::new();
    for token in known(&facts.tokens)? {
        let key = (token.namespace.clone(), token.secret().to_owned());
        if let Some(secret) = facts.secrets.get(&key) {
            found.extend(known(secret)?.as_ref().map(|metadata| (token, metadata)));
        }
    }
    Ok(found)
}

/// What the metadata of a Secret says to its BearerToken, by the controller's own rules.
fn held(facts: &Facts, token: &Token, metadata: &ObjectMeta) -> Held {
    let lives = |name: &str| {
        facts.tokens.iter().flatten().any(|other| other.namespace == token.namespace && other.name == name)
    };
    Held::read(Some(metadata), &token.name, lives)
}

/// The keys that a BearerToken writes.
fn written(token: &Token) -> Vec<&'static str> {
    token.spec.as_ref().map_or_else(|| keys(&[Format::Bearer]), |spec| keys(&spec.secret.formats))
}

/// Who owns which of these keys.
pub(crate) fn owners<'a>(metadata: &ObjectMeta, keys: &[&'a str]) -> BTreeMap<String, Vec<&'a str>> {
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for entry in metadata.managed_fields.iter().flatten() {
        let manager = entry.manager.as_deref().unwrap_or("an unknown writer");
        let data = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:data"));
        let owned = keys.iter().filter(|key| data.is_some_and(|data| data.get(format!("f:{key}")).is_some()));
        let owned: Vec<&str> = owned.copied().collect();
        if !owned.is_empty() {
            owners.entry(printable(manager)).or_default().extend(owned);
        }
    }
    owners
}

fn right(facts: &Facts) -> Verdict {
    let rbac = known(&facts.rbac)?;
    let deployment = known(&facts.deployment)?;
    let account = deployment.as_ref().map_or("flux-bearer-controller", account_of);
    let mut wrong = Vec::new();
    for token in known(&facts.tokens)? {
        let (namespace, name) = (token.namespace.as_str(), token.secret());
        let deletes = token.spec.as_ref().is_some_and(|spec| spec.secret.deletion_policy == DeletionPolicy::Delete);
        let verbs = ["get", "list", "watch", "create", "patch"].into_iter().chain(deletes.then_some("delete"));
        let may = |verb: &&str| {
            rbac.allows((&facts.namespace, account), Deed { verb, group: "", resource: "secrets", namespace, name })
        };
        let refused: Vec<&str> = verbs.filter(|verb| !may(verb)).collect();
        if !refused.is_empty() {
            let evidence = format!("no Role lets the controller {} Secret {namespace}/{name}", refused.join(", "));
            wrong.push(Wrong { evidence, fix: grant(facts, account, namespace, name, deletes) });
        }
    }
    Ok(wrong)
}

/// The Role and binding that the controller's own message asks for.
fn grant(facts: &Facts, account: &str, namespace: &str, secret: &str, deletes: bool) -> Fix {
    let place = Place { namespace, name: secret, controller: &facts.namespace };
    let command = from_answer(403, &[], About::Secret(place), None).fix.into_owned();
    let command = command.replace(":flux-bearer-controller", &format!(":{account}"));
    let command = if deletes { command.replace(",patch ", ",patch,delete ") } else { command };
    let role = command.split_whitespace().find(|word| word.starts_with("flux-bearer-")).unwrap_or_default().to_owned();
    let verbs = ["get", "list", "watch", "create", "patch"].into_iter().chain(deletes.then_some("delete"));
    let metadata = json!({"name": role, "namespace": namespace});
    let permission = json!({
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": verbs.collect::<Vec<_>>(),
    });
    let role_manifest = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [permission],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": facts.namespace}],
    });
    Fix::Safe(command, vec![Repair::Apply(role_manifest), Repair::Apply(binding)])
}

fn foreign(facts: &Facts) -> Verdict {
    let mut wrong = Vec::new();
    for (token, metadata) in kept(facts)? {
        let adopts = token.spec.as_ref().is_some_and(|spec| spec.secret.adopt);
        if let Held::Foreign { owner, version: Some(_) } = held(facts, token, metadata)
            && !adopts
        {
            let (namespace, secret) = (&token.namespace, token.secret());
            let adopt = patch(&json!({"spec": {"secret": {"adopt": true}}}));
            wrong.push(Wrong {
                evidence: format!("Secret {namespace}/{secret} belongs to {}, so it is not written", printable(&owner)),
                fix: Fix::Run(format!(
                    "kubectl -n {namespace} patch bearertoken {} --type=merge -p {adopt}",
                    token.name
                )),
            });
        }
    }
    Ok(wrong)
}

/// A Secret of ours in which somebody else owns credential keys.
struct Shared<'a> {
    token: &'a Token,
    metadata: &'a ObjectMeta,
    manager: String,
    keys: Vec<&'static str>,
}

impl Shared<'_> {
    fn comes_from_git(&self) -> bool {
        GIT.contains(&self.manager.as_str())
    }

    fn wrong(&self, what: &str, fix: Fix) -> Wrong {
        let Self { token, manager, keys, .. } = self;
        let evidence = format!("Secret {}/{}: {manager} {what} {}", token.namespace, token.secret(), keys.join(", "));
        Wrong { evidence, fix }
    }
}

/// The Secrets that are ours, with those keys of `of` that somebody else owns.
fn shared(facts: &Facts, of: impl Fn(&Token) -> Vec<&'static str>) -> Result<Vec<Shared<'_>>, String> {
    let is_ours = |(token, metadata): &(&Token, &ObjectMeta)| matches!(held(facts, token, metadata), Held::Ours { .. });
    let shared = kept(facts)?.into_iter().filter(is_ours).flat_map(|(token, metadata)| {
        let others =
            owners(metadata, &of(token)).into_iter().filter(|(manager, _)| !manager.starts_with("flux-bearer/"));
        others.map(move |(manager, keys)| Shared { token, metadata, manager, keys })
    });
    Ok(shared.collect())
}

fn contested(facts: &Facts) -> Verdict {
    let wrong = shared(facts, written)?.into_iter().filter(|shared| !shared.comes_from_git()).map(|shared| {
        let fix = format!("flux-bearer refresh {} -n {}", shared.token.name, shared.token.namespace);
        shared.wrong("writes as well", Fix::Run(fix))
    });
    Ok(wrong.collect())
}

fn in_git(facts: &Facts) -> Verdict {
    let ignored = |metadata: &ObjectMeta| {
        let how = metadata.annotations.as_ref().and_then(|all| all.get(SSA));
        how.is_some_and(|how| how == "Ignore")
    };
    let wrong = shared(facts, |_| CREDENTIALS.to_vec())?;
    let wrong = wrong.into_iter().filter(|shared| shared.comes_from_git() && !ignored(shared.metadata)).map(|shared| {
        let fix = format!("in Git, annotate the Secret's manifest with {SSA}: Ignore, and push; later remove it there");
        shared.wrong("writes, from Git,", Fix::Do(fix))
    });
    Ok(wrong.collect())
}

fn leftovers(facts: &Facts) -> Verdict {
    let others = |token: &Token| {
        let ours = written(token);
        CREDENTIALS.into_iter().filter(|key| !ours.contains(key)).collect()
    };
    let wrong = shared(facts, others)?.into_iter().filter(|shared| !shared.comes_from_git()).map(|shared| {
        let gone: Map<String, Value> = shared.keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let (namespace, secret) = (&shared.token.namespace, shared.token.secret());
        let patch = patch(&json!({"data": gone}));
        let fix = format!("kubectl -n {namespace} patch secret {secret} --type=merge -p {patch}");
        shared.wrong("has left there", Fix::Run(fix))
    });
    Ok(wrong.collect())
}

fn last_applied(facts: &Facts) -> Verdict {
    let copied = |metadata: &ObjectMeta| metadata.annotations.iter().any(|all| all.contains_key(LAST_APPLIED));
    let wrong = kept(facts)?.into_iter().filter(|(_, metadata)| copied(metadata)).map(|(token, _)| {
        let (namespace, secret) = (token.namespace.clone(), token.secret().to_owned());
        let command = format!("kubectl -n {namespace} annotate secret {secret} {LAST_APPLIED}-");
        let evidence = format!("Secret {namespace}/{secret} carries {LAST_APPLIED}, readable without reading data");
        let remove = Repair::Annotate { kind: SECRET, namespace, name: secret, annotation: LAST_APPLIED, value: None };
        Wrong { evidence, fix: Fix::Safe(command, vec![remove]) }
    });
    Ok(wrong.collect())
}

fn cron_job(facts: &Facts) -> Verdict {
    let jobs = known(&facts.cron_jobs)?;
    let mut wrong = Vec::new();
    for (token, _) in kept(facts)? {
        let here = jobs.iter().filter(|job| namespace(job) == token.namespace);
        let running = here.filter(|job| job.pointer("/spec/suspend") != Some(&Value::Bool(true)));
        for job in running.filter(|job| renews(job, token.secret()).is_some()) {
            let (namespace, job, suspend) = (namespace(job), name(job), patch(&json!({"spec": {"suspend": true}})));
            wrong.push(Wrong {
                evidence: format!("CronJob {namespace}/{job} looks as if it fills Secret {}", token.secret()),
                fix: Fix::Run(format!("kubectl -n {namespace} patch cronjob {job} --type=merge -p {suspend}")),
            });
        }
    }
    Ok(wrong)
}
