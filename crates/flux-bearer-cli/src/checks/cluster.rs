//! `cluster-…` and `rights-…`: what has to be so before anything of ours can work.

use flux_bearer::resource::IdentityKind;

use super::facts::{Facts, known};
use super::{Check, Fix, Verdict, Wrong, check};
use crate::object::{printable, text};

const REACHABLE: &str = "cluster-reachable";

/// The first Kubernetes that has admission policies without further ado.
const OLDEST: (u32, u32) = (1, 30);

pub(super) const CHECKS: &[Check] = &[
    check!("cluster-reachable", Fail, "the API server answers", [], reachable),
    check!("cluster-version", Fail, "Kubernetes is 1.30 or newer", [REACHABLE], version),
    check!("cluster-issuer", Fail, "service account tokens have a public issuer", [REACHABLE], issuer),
    check!("cluster-issuer-published", Warn, "the issuer publishes who it is", ["cluster-issuer"], published),
    check!("cluster-issuer-keys", Fail, "the issuer publishes the cluster's keys", ["cluster-issuer-published"], keys),
    check!("rights-install", Fail, "you may install flux-bearer", [REACHABLE], install),
];

#[expect(clippy::unnecessary_wraps, reason = "a judge like the others; this one judges whether anything is known")]
fn reachable(facts: &Facts) -> Verdict {
    let fix = "kubectl config get-contexts, then choose with --context; check the network and HTTPS_PROXY";
    Ok(match &facts.server {
        Ok(_) => Vec::new(),
        Err(why) => vec![Wrong { evidence: why.clone(), fix: Fix::Do(fix.to_owned()) }],
    })
}

fn version(facts: &Facts) -> Verdict {
    let server = known(&facts.server)?;
    // Providers write `33+` for a version with patches of their own.
    let part = |pointer| text(server, pointer).trim_end_matches('+').parse::<u32>().ok();
    let (Some(major), Some(minor)) = (part("/major"), part("/minor")) else {
        return Err("the API server does not say its version in numbers".to_owned());
    };
    let fix = "upgrade the cluster; on AKS: az aks upgrade -n NAME -g GROUP --kubernetes-version 1.33";
    let evidence = format!("Kubernetes is {major}.{minor}, which has no ValidatingAdmissionPolicies");
    Ok(if (major, minor) >= OLDEST { Vec::new() } else { vec![Wrong { evidence, fix: Fix::Do(fix.to_owned()) }] })
}

/// Whether somebody signs in with the pod's projected token, or nobody has said otherwise yet.
fn federated(facts: &Facts) -> bool {
    let mut kinds =
        facts.tokens.iter().flatten().filter_map(|token| Some(token.spec.as_ref()?.identity.kind)).peekable();
    kinds.peek().is_none() || kinds.any(|kind| kind == IdentityKind::WorkloadIdentity)
}

fn issuer(facts: &Facts) -> Verdict {
    if !federated(facts) {
        return Ok(Vec::new());
    }
    let discovery = known(&facts.discovery)?;
    if crate::issuer::public(discovery).is_some() {
        return Ok(Vec::new());
    }
    let evidence = format!("the issuer is {:?}, which Entra ID can't reach", printable(text(discovery, "/issuer")));
    let fix = "az aks update -n NAME -g GROUP --enable-oidc-issuer; elsewhere --service-account-issuer of the API server \
               must be an HTTPS URL that anybody can read";
    Ok(vec![Wrong { evidence, fix: Fix::Do(fix.to_owned()) }])
}

fn published(facts: &Facts) -> Verdict {
    let discovery = known(&facts.discovery)?;
    let (Some(published), true) = (&facts.published, federated(facts)) else { return Ok(Vec::new()) };
    let named = text(discovery, "/issuer");
    let evidence = match published {
        Err(why) => format!("{}: {why}", printable(named)),
        Ok(published) if published.issuer != named => format!(
            "the API server signs as {:?}, what is published there says {:?}",
            printable(named),
            printable(&published.issuer)
        ),
        Ok(_) => return Ok(Vec::new()),
    };
    let fix =
        "publish what kubectl get --raw /.well-known/openid-configuration answers at the issuer's URL, for anybody";
    Ok(vec![Wrong { evidence, fix: Fix::Do(fix.to_owned()) }])
}

fn keys(facts: &Facts) -> Verdict {
    let ours = known(&facts.keys)?;
    let (Some(Ok(published)), true) = (&facts.published, federated(facts)) else { return Ok(Vec::new()) };
    let missing: Vec<String> =
        ours.iter().filter(|key| !published.keys.contains(key)).map(|key| printable(key)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let evidence = format!("the cluster signs with {}, which its issuer does not publish", missing.join(", "));
    let fix = "publish what kubectl get --raw /openid/v1/jwks answers at the jwks_uri of the issuer";
    Ok(vec![Wrong { evidence, fix: Fix::Do(fix.to_owned()) }])
}

fn install(facts: &Facts) -> Verdict {
    let mut refused = Vec::new();
    for (kind, allowed) in &facts.rights {
        if !*known(allowed)? {
            refused.push(kind.qualified());
        }
    }
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let evidence = format!("you may not create {}", refused.join(", "));
    let fix =
        "ask a cluster administrator to run the set-up, or to bind you to ClusterRole cluster-admin while it runs";
    Ok(vec![Wrong { evidence, fix: Fix::Do(fix.to_owned()) }])
}
