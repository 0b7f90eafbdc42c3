//! Shows the plan, what has to be committed, and what a person does afterwards.

use serde_json::{Value, json};

use super::facts::Facts;
use super::plan::{From, Move, Plan, Source, Step};
use crate::args::{Format, Global};
use crate::cluster::Cluster;
use crate::edge::Edge;
use crate::exit::Trouble;
use crate::object::{items, name, patch, text, word};

/// Prints the plan: data on standard output.
pub(super) fn plan(plan: &Plan, cluster: &Cluster, global: &Global, edge: &Edge) {
    if global.output == Format::Json {
        return edge.out.data(&format!("{:#}\n", document(plan, cluster, global)));
    }
    edge.out.data(&format!("cluster    {} ({})\nnamespace  {}\n\n", cluster.context, cluster.server, global.namespace));
    for kept in &plan.kept {
        edge.out.data(&format!("  = {kept}\n"));
    }
    for one in &plan.moves {
        edge.out.data(&format!("  {}\n", what(one)));
        for evidence in &one.evidence {
            edge.out.data(&format!("      {evidence}\n"));
        }
        for step in &one.steps {
            let sign = if step.is_wait() { "·" } else { "+" };
            edge.out.data(&format!("    {sign} {}\n", step.what(one)));
        }
        for commit in &one.commits {
            edge.out.data(&format!("    ! {} is to be changed in Git: {} applies it\n", commit.what, commit.keeper));
        }
    }
    for trouble in &plan.left {
        edge.out.data(&format!("  ! {}\n", trouble.cause));
    }
    edge.out.data("\n");
}

fn document(plan: &Plan, cluster: &Cluster, global: &Global) -> Value {
    let step = |of: &Move, step: &Step| json!({"what": step.what(of), "wait": step.is_wait()});
    let one = |one: &Move| {
        json!({
            "secret": one.secret,
            "bearerToken": one.token,
            "from": from(&one.from),
            "evidence": one.evidence,
            "repositories": one.sources.iter().map(|source| &source.name).collect::<Vec<_>>(),
            "steps": one.steps.iter().map(|found| step(one, found)).collect::<Vec<_>>(),
            "commits": one.commits.iter().map(|commit| json!({
                "keeper": commit.keeper, "what": commit.what, "change": commit.change, "gone": commit.gone,
            })).collect::<Vec<_>>(),
        })
    };
    let left = |trouble: &Trouble| json!({"cause": trouble.cause, "fix": trouble.fix});
    json!({
        "cluster": {"context": cluster.context, "server": cluster.server},
        "namespace": global.namespace,
        "moves": plan.moves.iter().map(one).collect::<Vec<_>>(),
        "kept": plan.kept,
        "left": plan.left.iter().map(left).collect::<Vec<_>>(),
    })
}

fn what(of: &Move) -> String {
    let names: Vec<&str> = of.sources.iter().map(|source| source.name.as_str()).collect();
    format!("GitRepository {}: from {} to BearerToken {}", names.join(", "), from(&of.from), of.token)
}

fn from(from: &From) -> String {
    match from {
        From::Password => "a PAT".to_owned(),
        From::Bearer => "a bearer token that nobody renews".to_owned(),
        From::Jobs(jobs) => format!("CronJob {}", jobs.iter().map(name).collect::<Vec<_>>().join(", ")),
        From::Native => "provider azure".to_owned(),
        From::Ours => "a token that is not there yet".to_owned(),
    }
}

/// Prints what has to be committed, as the lines of YAML that change; a document has them already.
pub(super) fn commits(of: &Move, global: &Global, edge: &Edge) {
    for commit in &of.commits {
        edge.out.action(&format!("Secret {} is ready; commit this, in what {} applies:", of.secret, commit.keeper));
        if global.output == Format::Json {
            continue;
        }
        edge.out.data(&format!("# {}\n", commit.what));
        edge.out.document(Format::Yaml, &commit.change);
        if let Some(field) = commit.gone {
            edge.out.data(&format!("# and remove {field}\n"));
        }
    }
}

/// Says what is to be done with what is not needed any more, and what leads back.
pub(super) fn done(of: &Move, facts: &Facts, edge: &Edge) {
    let (namespace, secret, token) = (&facts.namespace, &of.secret, &of.token);
    edge.out.success(&format!("Secret {namespace}/{secret} holds a token, which BearerToken {token} keeps fresh"));
    if let Some(source) = of.sources.first().filter(|_| of.from == From::Password) {
        let url = format!("https://dev.azure.com/{}/_usersSettings/tokens", source.url.organization());
        edge.out.action(&format!("revoke the PAT: {url}, as whoever made it; nothing of it is left in the Secret"));
    }
    if let From::Jobs(jobs) = &of.from {
        for job in jobs {
            retire(job, facts, edge);
        }
    }
    for reader in &of.readers {
        edge.out.warning(&format!("{reader} reads Secret {secret} too, and finds the token there from now on"));
    }
    edge.out.action(&format!("back: {}", back(of, namespace)));
}

/// How to delete a job, who was allowed what for it, and what Entra ID knows of it.
fn retire(job: &Value, facts: &Facts, edge: &Edge) {
    let (namespace, job_name) = (&facts.namespace, name(job));
    edge.out.action(&format!(
        "CronJob {job_name} is suspended; delete it: kubectl -n {namespace} delete cronjob {job_name}"
    ));
    let account = match text(job, "/spec/jobTemplate/spec/template/spec/serviceAccountName") {
        "" => return,
        account => account,
    };
    let subject = |subject: &Value| text(subject, "/kind") == "ServiceAccount" && text(subject, "/name") == account;
    for binding in facts.bindings.iter().filter(|binding| items(binding, "/subjects").any(subject)) {
        let (role, kind) = (text(binding, "/roleRef/name"), text(binding, "/roleRef/kind"));
        let role = if kind == "Role" { format!(" role/{role}") } else { String::new() };
        edge.out.detail(&format!("its rights: kubectl -n {namespace} delete rolebinding/{}{role}", name(binding)));
    }
    edge.out.detail(&format!(
        "its federated credential: the one for system:serviceaccount:{namespace}:{account}, by az identity \
         federated-credential delete"
    ));
}

/// The one line that leads back to what there was.
fn back(of: &Move, namespace: &str) -> String {
    let Move { secret, token, .. } = of;
    let delete = format!("kubectl -n {namespace} delete bearertoken {token}");
    match &of.from {
        From::Jobs(jobs) => {
            let resume = jobs.iter().map(|job| {
                let on = patch(&json!({"spec": {"suspend": false}}));
                format!(" && kubectl -n {namespace} patch cronjob {} --type=merge -p {on}", name(job))
            });
            format!("{delete}{}", resume.collect::<String>())
        }
        From::Native => {
            let lead = |source: &Source| {
                let before = patch(&json!({"spec": source.before}));
                format!("kubectl -n {namespace} patch gitrepository {} --type=merge -p {before}", word(&source.name))
            };
            let switched = of.steps.iter().filter_map(|step| match step {
                Step::Switch(name, _) => of.sources.iter().find(|source| source.name == *name),
                _ => None,
            });
            switched.map(lead).chain([delete]).collect::<Vec<_>>().join(" && ")
        }
        From::Password | From::Bearer | From::Ours => {
            let pat = json!({"data": {"bearerToken": null}, "stringData": {"username": "git", "password": "PAT"}});
            format!("{delete} && kubectl -n {namespace} patch secret {secret} --type=merge -p {}", patch(&pat))
        }
    }
}
