//! Shows the plan before anything is changed, and what there is afterwards.

use serde_json::{Value, json};

use super::facts::Facts;
use super::plan::{Change, Plan};
use super::site::Site;
use super::wanted::Wanted;
use crate::args::{Format, Global};
use crate::edge::Edge;
use crate::object::word;

/// Prints the plan: data on standard output.
pub(super) fn plan(plan: &Plan, wanted: &Wanted, site: &Site<'_>, global: &Global, edge: &Edge) {
    match global.output {
        Format::Json => edge.out.data(&format!("{:#}\n", document(plan, wanted, site))),
        _ => text(plan, wanted, site, edge),
    }
}

fn document(plan: &Plan, wanted: &Wanted, site: &Site<'_>) -> Value {
    let change =
        |change: &Change| json!({"what": change.what(wanted), "right": change.right(), "wait": change.is_wait()});
    json!({
        "cluster": {"context": site.cluster.context, "server": site.cluster.server},
        "subscription": site.subscription.id,
        "organization": wanted.repository.organization(),
        "tenant": site.organization_tenant,
        "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        "kept": plan.kept,
        "notes": plan.notes,
    })
}

fn text(plan: &Plan, wanted: &Wanted, site: &Site<'_>, edge: &Edge) {
    let out = &edge.out;
    out.data(&format!("cluster       {} ({})\n", site.cluster.context, site.cluster.server));
    out.data(&format!("subscription  {} ({})\n", site.subscription.name, site.subscription.id));
    out.data(&format!("organisation  {} (tenant {})\n\n", wanted.repository.organization(), site.organization_tenant));
    for kept in &plan.kept {
        out.data(&format!("  = {kept}\n"));
    }
    for change in &plan.changes {
        let right = if change.is_wait() { String::new() } else { format!("   (needs {})", change.right()) };
        let sign = if change.is_wait() { "·" } else { "+" };
        out.data(&format!("  {sign} {}{right}\n", change.what(wanted)));
    }
    for note in &plan.notes {
        out.data(&format!("  ! {note}\n"));
    }
    out.data("\n");
}

/// Says what there is now, and what to do next.
pub(super) fn done(wanted: &Wanted, facts: &Facts, edge: &Edge) {
    let Wanted { namespace, name, secret, .. } = wanted;
    if let Some(expires) = facts.cluster.token.as_ref().and_then(|token| token.status.expires_at.clone()) {
        let text =
            format!("Secret {namespace}/{secret} holds a token until {}; BearerToken {name} keeps it fresh", expires.0);
        edge.out.success(&text);
    }
    if facts.cluster.flux.is_none() {
        edge.out.action(&format!(
            "no Flux reads it yet: flux-bearer bootstrap -n {namespace} --repository {}",
            word(&wanted.repository.to_string())
        ));
    } else if facts.cluster.sources.is_empty() {
        edge.out.action(&format!(
            "no GitRepository uses it yet: flux create source git {name} -n {namespace} --url={} --branch=main \
             --secret-ref={secret}",
            wanted.repository
        ));
    }
}
