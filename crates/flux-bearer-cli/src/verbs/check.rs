//! `check`: looks once, judges everything, shows it, and runs what is safe to run.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::{self, Format, Global};
use crate::checks::cloud::{self, Operator};
use crate::checks::facts::gather;
use crate::checks::{self, CATEGORIES, Check, Finding, Fix, Outcome, Repair, Severity, Wrong};
use crate::cluster::{At, Cluster};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

/// Pause between two looks of `--wait`.
const AGAIN: Duration = Duration::from_secs(5);

/// What is kept of `--timeout` to say how it ended.
const RESERVE: Duration = Duration::from_secs(10);

pub(super) async fn run(wanted: &args::Check, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let chosen = checks::chosen(&wanted.names, wanted.pre)?;
    let cluster = edge.clusters.connect(&global.which()).await?;
    let deadline = Instant::now() + global.timeout.saturating_sub(RESERVE);
    let operator = Operator::new(wanted, edge);
    let look = Look { chosen: &chosen, cluster: &cluster, operator: &operator, global, edge };
    let mut findings = look.judge().await;
    if wanted.fix && repair(&findings, &cluster, wanted.yes, edge).await? {
        findings = look.judge().await;
    }
    while wanted.wait && !is_sound(&findings, wanted.strict) && Instant::now() + AGAIN < deadline {
        let wrong = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Wrong(_))).count();
        edge.out.waiting(&format!("{wrong} checks find something wrong; looking again"));
        sleep(AGAIN).await;
        findings = look.judge().await;
    }
    show(&findings, global.output, edge);
    Ok(conclude(&findings, wanted.strict, edge))
}

struct Look<'a> {
    chosen: &'a [&'static Check],
    cluster: &'a Cluster,
    operator: &'a Operator<'a>,
    global: &'a Global,
    edge: &'a Edge,
}

impl Look<'_> {
    /// Gathers the facts anew and judges them; of everything that is judged, what was chosen.
    async fn judge(&self) -> Vec<Finding> {
        let rights = self.chosen.iter().any(|check| check.category() == "rights");
        let mut facts =
            Box::pin(gather(self.cluster, &self.edge.azure, &self.global.namespace, self.edge.now(), rights)).await;
        if self.chosen.iter().any(|check| check.needs_sign_in()) {
            facts.cloud = Box::pin(cloud::gather(&facts, self.operator)).await;
        }
        let mut findings = checks::judge(&facts);
        findings.retain(|finding| self.chosen.iter().any(|check| check.id == finding.check.id));
        findings
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.is(severity)).count()
}

fn is_sound(findings: &[Finding], strict: bool) -> bool {
    count(findings, Severity::Fail) == 0 && !(strict && count(findings, Severity::Warn) > 0)
}

fn conclude(findings: &[Finding], strict: bool, edge: &Edge) -> Exit {
    match (count(findings, Severity::Fail), count(findings, Severity::Warn)) {
        (0, 0) => {
            edge.out.success("all checks passed");
            Exit::Done
        }
        (0, warnings) => {
            edge.out.warning(&format!("{warnings} of {} checks warn", findings.len()));
            if strict { Exit::Warnings } else { Exit::Done }
        }
        (failed, warnings) => {
            edge.out.failure(&format!("{failed} of {} checks failed, {warnings} warn", findings.len()));
            Exit::Failed
        }
    }
}

/// Runs the safe fixes, each after a question; returns whether anything was changed.
async fn repair(findings: &[Finding], cluster: &Cluster, yes: bool, edge: &Edge) -> Result<bool, Trouble> {
    let mut changed = false;
    for (check, command, repairs) in findings.iter().flat_map(safe) {
        if !yes {
            match edge.input.confirm(&format!("{}: {command}", check.id)).await {
                Some(true) => {}
                Some(false) => continue,
                None => return Err(Trouble::usage("nobody is there to be asked", "add --yes to run every safe fix")),
            }
        }
        edge.out.action(command);
        changed = true;
        match apply(repairs, cluster).await {
            Ok(()) => edge.out.success(&format!("{} repaired", check.id)),
            // The next fix may work, and what is wrong is shown in the end.
            Err(trouble) => drop(edge.out.trouble(&trouble)),
        }
    }
    Ok(changed)
}

fn safe(finding: &Finding) -> impl Iterator<Item = (&'static Check, &String, &Vec<Repair>)> {
    wrongs(finding).iter().filter_map(|wrong| match &wrong.fix {
        Fix::Safe(command, repairs) => Some((finding.check, command, repairs)),
        _ => None,
    })
}

async fn apply(repairs: &[Repair], cluster: &Cluster) -> Result<(), Trouble> {
    for repair in repairs {
        match repair {
            Repair::Apply(manifest) => drop(cluster.apply(manifest, false).await?),
            Repair::Annotate { kind, namespace, name, annotation, value } => {
                let at = At { kind: *kind, namespace, name };
                cluster.annotate(at, annotation, value.as_deref()).await?;
            }
        }
    }
    Ok(())
}

fn wrongs(finding: &Finding) -> &[Wrong] {
    match &finding.outcome {
        Outcome::Wrong(wrong) => wrong,
        _ => &[],
    }
}

fn show(findings: &[Finding], format: Format, edge: &Edge) {
    match format {
        Format::Json => edge.out.document(Format::Json, &document(findings)),
        Format::Short => {
            let wrong = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Wrong(_)));
            edge.out.data(&wrong.map(lines).collect::<String>());
        }
        _ => {
            for category in CATEGORIES {
                let here: Vec<&Finding> =
                    findings.iter().filter(|finding| finding.check.category() == category).collect();
                let here = shown(&here);
                if !here.is_empty() {
                    edge.out.data(&format!("{category}\n{}\n{here}\n", "-".repeat(category.len())));
                }
            }
        }
    }
}

/// The findings of a category. Where all are skipped for one reason, it is said once.
fn shown(findings: &[&Finding]) -> String {
    let why = |finding: &&Finding| match &finding.outcome {
        Outcome::Skipped(why) => Some(why.clone()),
        _ => None,
    };
    match findings.first().and_then(why) {
        Some(first) if findings.len() > 1 && findings.iter().all(|finding| why(finding).as_ref() == Some(&first)) => {
            format!("- all {} skipped: {first}\n", findings.len())
        }
        _ => findings.iter().map(|finding| lines(finding)).collect(),
    }
}

/// A finding for people. Its meaning is in its glyph, not in a colour.
fn lines(finding: &Finding) -> String {
    let check = finding.check;
    let glyph = match finding.result() {
        "ok" => "✔",
        "warn" => "⚠️",
        "fail" => "✗",
        _ => "-",
    };
    let head = match &finding.outcome {
        Outcome::Skipped(why) => format!("{glyph} {} skipped: {why}\n", check.says),
        _ => format!("{glyph} {}\n", check.says),
    };
    let wrongs = wrongs(finding);
    let told = wrongs.iter().map(|wrong| format!("    {}\n    fix: {}\n", wrong.evidence, wrong.fix.text()));
    let page = (!wrongs.is_empty()).then(|| format!("    see: flux-bearer explain {}\n", check.id));
    [head].into_iter().chain(told).chain(page).collect()
}

fn document(findings: &[Finding]) -> Value {
    let failed = count(findings, Severity::Fail) > 0;
    let result = match count(findings, Severity::Warn) {
        _ if failed => "fail",
        0 => "ok",
        _ => "warn",
    };
    json!({"result": result, "checks": findings.iter().map(described).collect::<Vec<_>>()})
}

fn described(finding: &Finding) -> Value {
    let check = finding.check;
    let wrong: Vec<Value> = wrongs(finding).iter().map(told).collect();
    let skipped = match &finding.outcome {
        Outcome::Skipped(why) => Some(why),
        _ => None,
    };
    json!({
        "id": check.id, "category": check.category(), "says": check.says, "result": finding.result(),
        "wrong": wrong, "skipped": skipped, "explain": format!("flux-bearer explain {}", check.id),
    })
}

fn told(wrong: &Wrong) -> Value {
    let (kind, safe) = match &wrong.fix {
        Fix::Run(_) => ("command", false),
        Fix::Safe(..) => ("command", true),
        Fix::Do(_) => ("advice", false),
    };
    json!({"evidence": wrong.evidence, "fix": {kind: wrong.fix.text(), "safe": safe}})
}
