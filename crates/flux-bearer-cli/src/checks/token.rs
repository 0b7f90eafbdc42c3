//! `token-…`: whether every BearerToken does what it is for, by its own word.

use std::collections::BTreeMap;

use flux_bearer::flux::REQUESTED_AT;

use super::facts::{Facts, known};
use super::{Check, Fix, Repair, Verdict, Wrong, check};
use crate::age::{age, expires_in, until};
use crate::kinds::BEARER_TOKEN;
use crate::manifests::CONTROLLER;
use crate::tokens::Token;

const DEFINED: &str = "controller-definition";
const OBSERVED: &str = "token-observed";

/// How late a refresh may be, in seconds: the controller retries within a minute, and two clocks differ.
const LATE: i64 = 300;

pub(super) const CHECKS: &[Check] = &[
    check!("token-any", Warn, "there is a BearerToken", [DEFINED], any),
    check!("token-observed", Fail, "the controller has seen every BearerToken", [DEFINED], observed),
    check!("token-ready", Fail, "every Secret holds a token that works", [OBSERVED], ready),
    check!("token-refreshing", Fail, "every next token can be had", [OBSERVED], refreshing),
    check!("token-overdue", Fail, "every token is renewed on time", [OBSERVED], overdue),
    check!("token-accessible", Fail, "every token opens its repositories", [OBSERVED], accessible),
    check!("token-suspended", Warn, "no BearerToken is suspended", [DEFINED], suspended),
    check!("token-rival", Fail, "no two BearerTokens keep one Secret", [DEFINED], rival),
];

/// Something wrong with each BearerToken of which `evidence` says so.
fn each(facts: &Facts, evidence: impl Fn(&Token) -> Option<String>, fix: impl Fn(&Token) -> Fix) -> Verdict {
    let tokens = known(&facts.tokens)?;
    let wrong = tokens.iter().filter_map(|token| {
        let evidence = format!("BearerToken {}/{}: {}", token.namespace, token.name, evidence(token)?);
        Some(Wrong { evidence, fix: fix(token) })
    });
    Ok(wrong.collect())
}

fn any(facts: &Facts) -> Verdict {
    let tokens = known(&facts.tokens)?;
    let fix = format!("flux-bearer create bearertoken flux-system -n {}", facts.namespace);
    let evidence = "there is no BearerToken, so no Secret is kept".to_owned();
    Ok(if tokens.is_empty() { vec![Wrong { evidence, fix: Fix::Run(fix) }] } else { Vec::new() })
}

fn observed(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| match token.status.observed_generation {
        _ if token.is_observed() => None,
        Some(seen) if seen >= 0 => Some(format!("the controller knows generation {seen} of {}", token.generation)),
        _ => Some("the controller has not looked at it".to_owned()),
    };
    each(facts, evidence, |_| restart(facts))
}

fn restart(facts: &Facts) -> Fix {
    Fix::Run(format!("kubectl -n {} rollout restart deployment/{CONTROLLER}", facts.namespace))
}

/// Asks the controller to try now. What keeps it is in the message, with its own fix, and has to be done first.
fn refresh(facts: &Facts, token: &Token) -> Fix {
    let annotate = Repair::Annotate {
        kind: BEARER_TOKEN,
        namespace: token.namespace.clone(),
        name: token.name.clone(),
        annotation: REQUESTED_AT,
        value: Some(facts.now.to_string()),
    };
    Fix::Safe(format!("flux-bearer refresh {} -n {}", token.name, token.namespace), vec![annotate])
}

fn ready(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| (!token.is_ready()).then(|| token.message().to_owned());
    each(facts, evidence, |token| refresh(facts, token))
}

fn refreshing(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| {
        let failing = token.failing().filter(|_| token.is_ready())?;
        let left = token.status.expires_at.as_ref().map(|time| expires_in(time.0, facts.now)).unwrap_or_default();
        Some(format!("{failing} (the present token expires in {left})"))
    };
    each(facts, evidence, |token| refresh(facts, token))
}

fn overdue(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| {
        let awake = !token.is_suspended() && token.is_ready() && token.failing().is_none();
        let late = -until(token.status.refresh_at.as_ref().filter(|_| awake)?.0, facts.now);
        (late > LATE).then(|| format!("its refresh was due {} ago, and nothing says why it did not come", age(late)))
    };
    each(facts, evidence, |_| restart(facts))
}

fn accessible(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| token.inaccessible().map(str::to_owned);
    let fix = |token: &Token| {
        let then = format!("flux-bearer refresh {} -n {}", token.name, token.namespace);
        Fix::Do(format!("give the identity the right to read that repository in Azure DevOps, then {then}"))
    };
    each(facts, evidence, fix)
}

fn suspended(facts: &Facts) -> Verdict {
    let evidence = |token: &Token| {
        let left = token.status.expires_at.as_ref().map(|time| expires_in(time.0, facts.now));
        let end = left.map(|left| format!("; its token expires in {left}")).unwrap_or_default();
        token.is_suspended().then(|| format!("it is suspended{end}"))
    };
    each(facts, evidence, |token| Fix::Run(format!("flux-bearer resume {} -n {}", token.name, token.namespace)))
}

fn rival(facts: &Facts) -> Verdict {
    let mut keepers: BTreeMap<(&str, &str), Vec<&Token>> = BTreeMap::new();
    for token in known(&facts.tokens)? {
        keepers.entry((&token.namespace, token.secret())).or_default().push(token);
    }
    let wrong = keepers.into_iter().flat_map(|((namespace, secret), mut tokens)| {
        // As the controller decides it: the older one keeps the Secret.
        tokens.sort_by_key(|token| (token.created, &token.uid));
        let first = tokens.first().map(|token| token.name.clone()).unwrap_or_default();
        tokens.into_iter().skip(1).map(move |token| Wrong {
            evidence: format!(
                "Secret {namespace}/{secret} is kept by BearerToken {first}, and {} names it, too",
                token.name
            ),
            fix: Fix::Run(format!("kubectl -n {namespace} delete bearertoken {}", token.name)),
        })
    });
    Ok(wrong.collect())
}
