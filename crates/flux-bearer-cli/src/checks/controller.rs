//! `controller-…`: whether what is installed of ours is whole, runs and may do its work.

use std::collections::BTreeSet;

use flux_bearer::identity::account_of as account_named;
use flux_bearer::preflight::{AUDIENCE, MAX_OFFSET, definition as judge_definition, policy};
use flux_bearer::resource::{IdentityKind, IdentitySpec, definition as our_definition};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::facts::{Facts, account_of, argument, known, variable};
use super::identities::{pod, resolved};
use super::rights::Deed;
use super::{Check, Fix, Repair, Verdict, Wrong, check};
use crate::manifests::CONTROLLER;
use crate::object::{items, name, namespace, number, printable, text, word};
use crate::tokens::Token;

const NAMESPACE: &str = "controller-namespace";
const DEPLOYED: &str = "controller-deployment";

/// What brings everything of ours.
const APPLY: &str = "kubectl apply --server-side -k deploy/base";

pub(super) const CHECKS: &[Check] = &[
    check!("controller-namespace", Fail, "the namespace is there", ["cluster-reachable"], home),
    check!(
        "controller-definition",
        Fail,
        "the BearerToken is defined as it is here",
        ["cluster-reachable"],
        definition
    ),
    check!("controller-definition-newer", Warn, "the definition is no newer", ["controller-definition"], newer),
    check!("controller-policies", Warn, "the admission policies are on", ["cluster-version"], policies),
    check!("controller-deployment", Fail, "the controller is deployed", [NAMESPACE], deployed),
    check!("controller-version", Warn, "the controller is of this program's version", [DEPLOYED], version),
    check!("controller-ready", Fail, "the controller runs", [DEPLOYED], ready),
    check!("controller-replicas", Warn, "every replica runs", ["controller-ready"], replicas),
    check!("controller-service-account", Fail, "its service account is there", [DEPLOYED], service_account),
    check!("controller-projected-token", Fail, "it has a token for Entra ID", [DEPLOYED], projected_token),
    check!("controller-rights", Fail, "it may do its work", [DEPLOYED], rights),
    check!("controller-lease", Fail, "one replica leads", ["controller-ready"], lease),
    check!("controller-identity", Fail, "every BearerToken has an identity that it may use", [DEPLOYED], identity),
    check!("controller-label", Warn, "flux uninstall leaves it alone", [DEPLOYED], label),
];

fn one(evidence: impl Into<String>, fix: Fix) -> Vec<Wrong> {
    vec![Wrong { evidence: evidence.into(), fix }]
}

/// The Deployment; the checks that ask for it need [`DEPLOYED`].
fn deployment(facts: &Facts) -> Result<&Value, String> {
    let found = known(&facts.deployment)?;
    found.as_ref().ok_or_else(|| format!("there is no Deployment {CONTROLLER}"))
}

fn home(facts: &Facts) -> Verdict {
    let home = &facts.namespace;
    let fix = || {
        let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}});
        Fix::Safe(format!("kubectl create namespace {home}"), vec![Repair::Apply(manifest)])
    };
    Ok(match known(&facts.home)? {
        None => one(format!("there is no namespace {home}"), fix()),
        Some(found) if !text(found, "/metadata/deletionTimestamp").is_empty() => {
            let wait = format!("kubectl wait --for=delete namespace/{home}, then install again");
            one(format!("namespace {home} is being deleted"), Fix::Do(wait))
        }
        Some(_) => Vec::new(),
    })
}

/// What is wrong with the definition, apart from being newer than this program.
fn definition(facts: &Facts) -> Verdict {
    let wrong = judged(facts)?.into_iter().filter(|(reason, _)| *reason != "DefinitionNewer");
    let fix = || {
        let command = "kubectl apply --server-side -k deploy/crd".to_owned();
        Fix::Safe(command, vec![Repair::Apply(json!(our_definition()))])
    };
    Ok(wrong.map(|(_, evidence)| Wrong { evidence, fix: fix() }).collect())
}

fn newer(facts: &Facts) -> Verdict {
    let wrong = judged(facts)?.into_iter().filter(|(reason, _)| *reason == "DefinitionNewer");
    let fix = "install the flux-bearer of the definition's version; to go back: kubectl apply --server-side --force-conflicts -k deploy/crd";
    Ok(wrong.map(|(_, evidence)| Wrong { evidence, fix: Fix::Do(fix.to_owned()) }).collect())
}

fn judged(facts: &Facts) -> Result<Vec<(&'static str, String)>, String> {
    let found = known(&facts.definition)?;
    let parsed = found.clone().map(serde_json::from_value).transpose();
    let parsed = parsed.map_err(|_| "the definition can't be read".to_owned())?;
    let findings = judge_definition(parsed.as_ref(), &our_definition());
    // It is this program that speaks here, which is of the controller's version or is told otherwise.
    let evidence = |text: &str| text.replace("this controller", "this program");
    Ok(findings.into_iter().map(|finding| (finding.reason, evidence(&finding.cause))).collect())
}

fn policies(facts: &Facts) -> Verdict {
    let mut wrong = Vec::new();
    for (name, found) in &facts.policies {
        let (installed, bound) = known(found)?;
        wrong.extend(policy(name, *installed, *bound).map(|failure| Wrong {
            evidence: failure.cause.into_owned(),
            fix: Fix::Run("kubectl apply --server-side -k deploy/policies".to_owned()),
        }));
    }
    Ok(wrong)
}

fn deployed(facts: &Facts) -> Verdict {
    let found = known(&facts.deployment)?;
    let evidence = format!("there is no Deployment {}/{CONTROLLER}", facts.namespace);
    Ok(if found.is_some() { Vec::new() } else { one(evidence, Fix::Run(APPLY.to_owned())) })
}

fn version(facts: &Facts) -> Verdict {
    let ours = env!("CARGO_PKG_VERSION");
    let image = text(deployment(facts)?, "/spec/template/spec/containers/0/image");
    let (repository, tag) = tag(image).ok_or("the image is named by its digest alone, which tells no version")?;
    if tag.trim_start_matches('v') == ours {
        return Ok(Vec::new());
    }
    let container = text(deployment(facts)?, "/spec/template/spec/containers/0/name");
    let prefix = if tag.starts_with('v') { "v" } else { "" };
    let image = word(&format!("{container}={repository}:{prefix}{ours}"));
    let fix = format!("kubectl -n {} set image deployment/{CONTROLLER} {image}", facts.namespace);
    let evidence = format!("the controller is {}, this program is {ours}", printable(tag));
    Ok(one(evidence, Fix::Run(fix)))
}

/// Repository and tag of an image; nothing where it has no tag.
pub(crate) fn tag(image: &str) -> Option<(&str, &str)> {
    let named = image.split('@').next()?;
    named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
}

fn ready(facts: &Facts) -> Verdict {
    let found = deployment(facts)?;
    let (wanted, ready) = (wanted(found), number(found, "/status/readyReplicas"));
    if ready > 0 {
        return Ok(Vec::new());
    }
    let home = &facts.namespace;
    if wanted == 0 {
        let fix = format!("kubectl -n {home} scale deployment/{CONTROLLER} --replicas=2");
        return Ok(one("it is scaled to no replica", Fix::Run(fix)));
    }
    let why: BTreeSet<String> = facts.pods.iter().flatten().filter_map(waiting).map(printable).collect();
    let why = why.into_iter().map(|reason| [": ", &reason].concat()).collect::<String>();
    let fix = format!("kubectl -n {home} describe pods -l app={CONTROLLER} says what keeps them from running");
    Ok(one(format!("none of {wanted} replicas is ready{why}"), Fix::Do(fix)))
}

fn replicas(facts: &Facts) -> Verdict {
    let found = deployment(facts)?;
    let (wanted, ready) = (wanted(found), number(found, "/status/readyReplicas"));
    let fix = format!("kubectl -n {} describe pods -l app={CONTROLLER} says what keeps the others", facts.namespace);
    let evidence = format!("{ready} of {wanted} replicas are ready");
    Ok(if ready < wanted { one(evidence, Fix::Do(fix)) } else { Vec::new() })
}

fn wanted(deployment: &Value) -> i64 {
    deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// What a Pod waits for: `ImagePullBackOff`, `CreateContainerConfigError`.
fn waiting(pod: &Value) -> Option<&str> {
    let reasons = items(pod, "/status/containerStatuses").map(|status| text(status, "/state/waiting/reason"));
    reasons.filter(|reason| !reason.is_empty()).last()
}

fn service_account(facts: &Facts) -> Verdict {
    let account = account_of(deployment(facts)?);
    let key = (facts.namespace.clone(), account.to_owned());
    let found = known(facts.accounts.get(&key).ok_or("nobody has looked")?)?;
    let evidence = format!("there is no ServiceAccount {}/{account}, so no Pod starts", facts.namespace);
    Ok(if found.is_some() { Vec::new() } else { one(evidence, Fix::Run(APPLY.to_owned())) })
}

fn projected_token(facts: &Facts) -> Verdict {
    let tokens = known(&facts.tokens)?;
    let by_pod = |identity: &IdentitySpec| {
        identity.kind == IdentityKind::WorkloadIdentity && identity.service_account_name.is_none()
    };
    if !tokens.iter().any(|token| token.spec.as_ref().is_none_or(|spec| by_pod(&spec.identity))) {
        return Ok(Vec::new());
    }
    let found = deployment(facts)?;
    let sources = items(found, "/spec/template/spec/volumes").flat_map(|volume| items(volume, "/projected/sources"));
    let audiences: Vec<&str> =
        sources.map(|source| text(source, "/serviceAccountToken/audience")).filter(|name| !name.is_empty()).collect();
    let file = variable(found, "AZURE_FEDERATED_TOKEN_FILE").unwrap_or_default();
    // The webhook of AKS injects both into the Pod, where the Deployment asks for it.
    if text(found, "/spec/template/metadata/labels/azure.workload.identity~1use") == "true" {
        return Ok(Vec::new());
    }
    let evidence = match (audiences.contains(&AUDIENCE), file.is_empty()) {
        (true, false) => return Ok(Vec::new()),
        (true, true) => "AZURE_FEDERATED_TOKEN_FILE is not set, so the mounted token is not found".to_owned(),
        (false, _) if audiences.is_empty() => "no projected service account token is mounted".to_owned(),
        (false, _) => {
            format!("the projected token is for {}, not for {AUDIENCE}", printable(&audiences.join(", ")))
        }
    };
    Ok(one(evidence, Fix::Run(APPLY.to_owned())))
}

fn rights(facts: &Facts) -> Verdict {
    let rbac = known(&facts.rbac)?;
    let home = facts.namespace.as_str();
    let account = (home, account_of(deployment(facts)?));
    let deed = |verb, group, resource| Deed { verb, group, resource, namespace: home, name: "" };
    let lease =
        |verb| Deed { name: "flux-bearer-controller-leader-election", ..deed(verb, "coordination.k8s.io", "leases") };
    let needed = [
        deed("list", "flux-bearer.dev", "bearertokens"),
        deed("watch", "flux-bearer.dev", "bearertokens"),
        deed("patch", "flux-bearer.dev", "bearertokens/status"),
        deed("list", "source.toolkit.fluxcd.io", "gitrepositories"),
        deed("watch", "source.toolkit.fluxcd.io", "gitrepositories"),
        deed("patch", "source.toolkit.fluxcd.io", "gitrepositories"),
        deed("create", "", "events"),
        lease("create"),
        lease("get"),
        lease("update"),
    ];
    let refused: Vec<String> = needed
        .into_iter()
        .filter(|deed| !rbac.allows(account, *deed))
        .map(|deed| format!("{} {}", deed.verb, deed.resource))
        .collect();
    let evidence = format!("ServiceAccount {home}/{} may not {}", account.1, refused.join(", "));
    Ok(if refused.is_empty() { Vec::new() } else { one(evidence, Fix::Run(APPLY.to_owned())) })
}

fn lease(facts: &Facts) -> Verdict {
    let found = deployment(facts)?;
    // A shard has a Lease of another name, and one alone has none.
    if argument(found, "--enable-leader-election") == Some("false")
        || argument(found, "--watch-label-selector").is_some()
    {
        return Ok(Vec::new());
    }
    let restart = || Fix::Run(format!("kubectl -n {} rollout restart deployment/{CONTROLLER}", facts.namespace));
    let Some(lease) = known(&facts.lease)? else {
        return Ok(one("no replica has ever led", restart()));
    };
    let holder = text(lease, "/spec/holderIdentity");
    if holder.is_empty() {
        return Ok(one("no replica leads: the last one gave the lease back", restart()));
    }
    let renewed: Timestamp = text(lease, "/spec/renewTime").parse().map_err(|_| "the lease does not say its age")?;
    let silent = facts.now.as_second().saturating_sub(renewed.as_second());
    // This machine's clock may be off by as much.
    let patience = number(lease, "/spec/leaseDurationSeconds").saturating_add(MAX_OFFSET.as_secs());
    let evidence = format!("{} has not renewed its lease for {}", printable(holder), crate::age::age(silent));
    Ok(if silent > patience { one(evidence, restart()) } else { Vec::new() })
}

fn identity(facts: &Facts) -> Verdict {
    let found = deployment(facts)?;
    known(&facts.config)?;
    let pod = pod(facts);
    // The webhook of AKS brings both along, where nobody sees them here.
    let injected = text(found, "/spec/template/metadata/labels/azure.workload.identity~1use") == "true";
    let mut wrong = Vec::new();
    for token in known(&facts.tokens)? {
        let Some(spec) = token.spec.as_ref().filter(|_| !injected) else { continue };
        if let Some(gone) = missing_account(facts, token) {
            wrong.push(gone);
            continue;
        }
        let allowed =
            resolved(facts, token, spec, &pod).and_then(|identity| identity.check_allowed(&token.namespace, &pod));
        wrong.extend(allowed.err().map(|failure| Wrong {
            evidence: format!("BearerToken {}/{}: {}", token.namespace, token.name, failure.cause),
            fix: Fix::Do(failure.fix.into_owned()),
        }));
    }
    Ok(wrong)
}

/// That the ServiceAccount which a BearerToken names was looked for and is not there.
fn missing_account(facts: &Facts, token: &Token) -> Option<Wrong> {
    let name = account_named(&token.spec.as_ref()?.identity)?;
    let found = facts.accounts.get(&(token.namespace.clone(), name.to_owned()))?;
    matches!(found, Ok(None)).then(|| Wrong {
        evidence: format!("BearerToken {0}/{1}: there is no ServiceAccount {0}/{name}", token.namespace, token.name),
        fix: Fix::Do(format!(
            "kubectl -n {} create serviceaccount {name}, or correct spec.identity.serviceAccountName",
            token.namespace
        )),
    })
}

/// `flux uninstall` deletes whatever carries Flux's label, a definition with all objects of its kind.
fn label(facts: &Facts) -> Verdict {
    let ours =
        [("deployment", Some(deployment(facts)?)), ("customresourcedefinition", known(&facts.definition)?.as_ref())];
    let is_flux = |object: &Value| text(object, "/metadata/labels/app.kubernetes.io~1part-of") == "flux";
    let labelled = ours.into_iter().filter_map(|(kind, object)| Some((kind, object.filter(|object| is_flux(object))?)));
    let wrong = labelled.map(|(kind, object)| {
        let at = if namespace(object).is_empty() { String::new() } else { format!("-n {} ", namespace(object)) };
        let name = name(object);
        Wrong {
            evidence: format!("{kind} {name} carries app.kubernetes.io/part-of: flux"),
            fix: Fix::Run(format!("kubectl {at}label {kind} {name} app.kubernetes.io/part-of=flux-bearer --overwrite")),
        }
    });
    Ok(wrong.collect())
}
