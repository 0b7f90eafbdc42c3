//! What each GitRepository pulls with, and the steps by which a token takes its place: a pure function of what exists.
//!
//! The order is what keeps Flux pulling. What Flux reads now stays as it is until a token has opened the repository;
//! then one write puts the token in its place. A change that somebody would take back is never made: it is said what to
//! commit.

use flux_bearer::repository::Repository;
use flux_bearer::resource::Format as Keys;
use flux_bearer::secret::Held;
use serde_json::{Value, json};

use super::facts::{Facts, SecretFacts, keeper, names_secret, secret_of};
use super::token::token_step;
use crate::args::Migrate;
use crate::cron_job;
use crate::exit::{Exit, Trouble};
use crate::kinds::{
    BEARER_TOKEN, CRON_JOB, GIT_REPOSITORY, HELM_REPOSITORY, INPUT_PROVIDER, Kind, POD, ROLE, ROLE_BINDING,
};
use crate::manifests::secret_rights;
use crate::object::{name, printable, text};

/// The annotation of a `CronJob` that this verb has suspended: should it be stopped, the next run knows what to resume.
pub(super) const SUSPENDED_BY: &str = "flux-bearer.dev/suspended-by";

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One for each Secret that a token is to fill.
    pub(super) moves: Vec<Move>,
    /// What is as it should be, or none of our business.
    pub(super) kept: Vec<String>,
    /// What can't be done, and why.
    pub(super) left: Vec<Trouble>,
}

/// How one Secret comes to hold a token.
#[derive(Debug)]
pub(super) struct Move {
    /// The Secret.
    pub(super) secret: String,
    /// Its BearerToken.
    pub(super) token: String,
    /// What its GitRepositories pull with now.
    pub(super) from: From,
    /// Whether there is no such Secret yet, and so nobody who reads it.
    pub(super) is_new: bool,
    /// How that is known.
    pub(super) evidence: Vec<String>,
    /// The GitRepositories.
    pub(super) sources: Vec<Source>,
    /// What is done, in order.
    pub(super) steps: Vec<Step>,
    /// What somebody has to commit, for a change in the cluster would be taken back.
    pub(super) commits: Vec<Commit>,
    /// What else reads the Secret.
    pub(super) readers: Vec<String>,
}

/// What a GitRepository pulls with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum From {
    /// A password, which is a PAT.
    Password,
    /// A bearer token that nobody renews.
    Bearer,
    /// What these `CronJob`s put into the Secret.
    Jobs(Vec<Value>),
    /// The identity of source-controller, or of a service account.
    Native,
    /// A token of ours already.
    Ours,
}

/// A GitRepository on Azure DevOps.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) url: Repository,
    /// Whether its URL holds a user (`org@`), which Flux takes no bearer token beside.
    pub(super) user: bool,
    /// Whether it has `provider: azure`.
    pub(super) native: bool,
    suspended: bool,
    keeper: Option<String>,
    /// What a switch changes, as it is now.
    pub(super) before: Value,
}

/// A change that is made in Git, or it does not last.
#[derive(Debug)]
pub(super) struct Commit {
    /// Who applies it.
    pub(super) keeper: String,
    /// The object.
    pub(super) what: String,
    /// Its part that changes.
    pub(super) change: Value,
    /// A field that has to go.
    pub(super) gone: Option<&'static str>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Lets the controller fill the Secret.
    Grant(Box<[Value; 2]>),
    /// Suspends a `CronJob`, so that the two don't fight.
    Suspend(String),
    /// Waits until what it has started has ended.
    AwaitJob(String),
    /// Makes the BearerToken.
    Make(Value),
    /// Changes the one that is there; the second is what takes that back.
    Change(Value, Value),
    /// Waits until the Secret holds a token that opens the repositories.
    AwaitToken,
    /// Leads a GitRepository to the Secret, in one write.
    Switch(String, Value),
    /// Asks Flux to look, and waits until it has pulled.
    AwaitFlux(String),
}

impl Step {
    /// Whether it changes nothing.
    pub(super) fn is_wait(&self) -> bool {
        matches!(self, Self::AwaitJob(_) | Self::AwaitToken | Self::AwaitFlux(_))
    }

    /// What it does, in words.
    pub(super) fn what(&self, of: &Move) -> String {
        let Move { secret, token, .. } = of;
        match self {
            Self::Grant(_) => format!("let the controller fill Secret {secret}"),
            Self::Suspend(job) => format!("suspend CronJob {job}"),
            Self::AwaitJob(job) => format!("wait for the last run of CronJob {job} to end"),
            Self::Make(_) => format!("create BearerToken {token}"),
            Self::Change(..) => format!("change BearerToken {token}"),
            Self::AwaitToken => format!("wait for a token in Secret {secret} that opens the repository"),
            Self::Switch(name, _) => format!("lead GitRepository {name} from provider azure to Secret {secret}"),
            Self::AwaitFlux(name) => format!("wait for Flux to pull GitRepository {name}"),
        }
    }

    /// What we must be allowed to: a verb, a kind, and a name where there is one.
    pub(super) fn needs(&self) -> Vec<(&'static str, Kind, &str)> {
        match self {
            Self::Grant(_) => vec![("create", ROLE, ""), ("create", ROLE_BINDING, "")],
            Self::Suspend(job) => vec![("patch", CRON_JOB, job)],
            Self::Make(_) => ["create", "patch", "delete"].map(|verb| (verb, BEARER_TOKEN, "")).into(),
            Self::Change(..) => vec![("patch", BEARER_TOKEN, "")],
            Self::Switch(name, _) | Self::AwaitFlux(name) => vec![("patch", GIT_REPOSITORY, name)],
            Self::AwaitJob(_) | Self::AwaitToken => Vec::new(),
        }
    }
}

/// Decides what is to be done.
///
/// # Errors
/// That a GitRepository that was named is not there.
pub(super) fn plan(flags: &Migrate, facts: &Facts) -> Result<Plan, Trouble> {
    let mut plan = Plan::default();
    for wanted in &flags.names {
        if !facts.repositories.iter().any(|repository| name(repository) == wanted) {
            let cause = format!("GitRepository '{wanted}' not found in \"{}\" namespace", facts.namespace);
            return Err(Trouble::new(Exit::NotFound, cause, "flux get sources git -A lists those there are"));
        }
    }
    let chosen = |repository: &&Value| flags.names.is_empty() || flags.names.iter().any(|one| one == name(repository));
    for (secret, held) in &facts.secrets {
        let readers: Vec<&Value> = facts.repositories.iter().filter(|one| secret_of(one) == secret).collect();
        if !readers.iter().any(chosen) {
            continue;
        }
        match plan_secret(secret, held, &readers, flags, facts) {
            Ok(Planned::Move(found)) => plan.moves.push(*found),
            Ok(Planned::Kept(words)) => plan.kept.push(words),
            Err(trouble) => plan.left.push(trouble),
        }
    }
    if flags.cron_job.is_some() && plan.moves.len() > 1 {
        let cause = "--cron-job: several Secrets are to be filled, and one job does not fill all of them";
        return Err(Trouble::usage(cause, "name the GitRepository whose Secret it fills"));
    }
    Ok(plan)
}

enum Planned {
    Move(Box<Move>),
    Kept(String),
}

fn plan_secret(
    secret: &str,
    held: &SecretFacts,
    readers: &[&Value],
    flags: &Migrate,
    facts: &Facts,
) -> Result<Planned, Trouble> {
    let (names, credential) = (list(readers), readers.iter().any(|one| has_credential(one)));
    if !credential {
        return Ok(Planned::Kept(format!("{names}: it names no Secret, so it pulls without a credential")));
    }
    let ours: Vec<Source> = readers.iter().filter_map(|one| source(one)).collect();
    if ours.is_empty() {
        return Ok(Planned::Kept(format!("{names}: it does not pull from Azure DevOps over HTTPS")));
    }
    let native = ours.iter().any(|source| source.native);
    let is_ours = match &held.held {
        Held::Ours { .. } => true,
        Held::Foreign { owner, version: None } => return Err(taken(secret, &format!("it is that of {owner}"), "")),
        Held::Absent if !native => {
            let fix = format!("flux-bearer create bearertoken {secret} -n {}", facts.namespace);
            return Err(Trouble::new(Exit::NotFound, format!("{names}: there is no Secret {secret}"), fix));
        }
        Held::Foreign { .. } if !native && held.owners.is_empty() => {
            return Ok(Planned::Kept(format!("{names}: Secret {secret} holds no credential that is known")));
        }
        _ => false,
    };
    check_readers(secret, readers, facts)?;
    let jobs = jobs(secret, flags, facts)?;
    let mut found = Move {
        secret: secret.to_owned(),
        token: secret.to_owned(),
        from: from(is_ours, native, &jobs, held),
        is_new: held.held == Held::Absent,
        evidence: evidence(secret, held, &jobs, flags),
        sources: ours,
        steps: Vec::new(),
        commits: Vec::new(),
        readers: others(secret, facts),
    };
    plan_steps(&mut found, held, &jobs, flags, facts)?;
    if found.steps.is_empty() && found.commits.is_empty() {
        return Ok(Planned::Kept(format!("{names}: Secret {secret} holds the token of BearerToken {}", found.token)));
    }
    Ok(Planned::Move(Box::new(found)))
}

fn list(repositories: &[&Value]) -> String {
    let names: Vec<&str> = repositories.iter().map(|repository| name(repository)).collect();
    format!("GitRepository {}", names.join(", "))
}

fn has_credential(repository: &Value) -> bool {
    !text(repository, "/spec/secretRef/name").is_empty() || is_native(repository)
}

fn is_native(repository: &Value) -> bool {
    text(repository, "/spec/provider") == "azure"
}

fn source(repository: &Value) -> Option<Source> {
    let url = Repository::parse(text(repository, "/spec/url")).ok()?;
    let field =
        |name: &str| (name.to_owned(), repository.pointer(&format!("/spec/{name}")).cloned().unwrap_or_default());
    Some(Source {
        name: name(repository).to_owned(),
        user: url.check_formats(&[Keys::Bearer]).is_err(),
        url,
        native: is_native(repository),
        suspended: repository.pointer("/spec/suspend") == Some(&Value::Bool(true)),
        keeper: repository.get("metadata").and_then(keeper),
        before: Value::Object(["provider", "secretRef", "serviceAccountName"].map(field).into_iter().collect()),
    })
}

/// A token must not go to a host that it is not for, and a reader must find what it looks for.
fn check_readers(secret: &str, repositories: &[&Value], facts: &Facts) -> Result<(), Trouble> {
    let elsewhere = repositories.iter().find(|one| source(one).is_none()).map(|one| ("GitRepository", name(one)));
    let charts = facts.readers.iter().filter(|(kind, one)| *kind == HELM_REPOSITORY && names_secret(one, secret));
    let charts = charts.map(|(_, one)| ("HelmRepository", name(one))).next();
    let Some((kind, name)) = elsewhere.or(charts) else { return Ok(()) };
    Err(taken(
        secret,
        &format!(
            "{kind} {name} reads it too, does not pull from Azure DevOps over HTTPS, and would be given the token"
        ),
        &format!("give {kind} {name} a Secret of its own"),
    ))
}

pub(super) fn taken(secret: &str, why: &str, fix: &str) -> Trouble {
    Trouble::new(Exit::Taken, format!("Secret {secret}: {why}"), fix)
}

/// The jobs that fill the Secret: the one that was named, or those whose words say so.
fn jobs<'a>(secret: &str, flags: &Migrate, facts: &'a Facts) -> Result<Vec<&'a Value>, Trouble> {
    let Some(named) = &flags.cron_job else {
        return Ok(facts.jobs.iter().filter(|job| cron_job::renews(job, secret).is_some()).collect());
    };
    let found = facts.jobs.iter().find(|job| name(job) == named);
    let missing = || {
        let cause = format!("CronJob '{named}' not found in \"{}\" namespace", facts.namespace);
        Trouble::new(Exit::NotFound, cause, format!("kubectl -n {} get cronjobs", facts.namespace))
    };
    Ok(vec![found.ok_or_else(missing)?])
}

fn from(is_ours: bool, native: bool, jobs: &[&Value], held: &SecretFacts) -> From {
    if !jobs.is_empty() {
        return From::Jobs(jobs.iter().copied().cloned().collect());
    }
    match (native, is_ours) {
        (true, _) => From::Native,
        (_, true) => From::Ours,
        _ if held.owners.values().flatten().any(|key| *key == "bearerToken") => From::Bearer,
        _ => From::Password,
    }
}

/// Why it is what it is taken for.
fn evidence(secret: &str, held: &SecretFacts, jobs: &[&Value], flags: &Migrate) -> Vec<String> {
    let owned = held.owners.iter().filter(|(manager, _)| !manager.starts_with("flux-bearer/"));
    let owned = owned.map(|(manager, keys)| format!("{manager} has put {} into Secret {secret}", keys.join(", ")));
    let written = held.written.iter().filter(|_| matches!(held.held, Held::Foreign { .. }));
    let written = written.map(|(time, by)| format!("it was last written at {time}, by {}", printable(by)));
    let job = |job: &&Value| {
        let (name, ran) = (name(job), text(job, "/status/lastScheduleTime"));
        let ran = if ran.is_empty() { String::new() } else { format!(", and ran last at {}", printable(ran)) };
        match cron_job::renews(job, secret) {
            Some(sign) => format!("CronJob {name} names Secret {secret} and {sign}{ran}"),
            None => format!("CronJob {} was named by --cron-job{ran}", flags.cron_job.as_deref().unwrap_or(name)),
        }
    };
    owned.chain(written).chain(jobs.iter().map(job)).collect()
}

/// What else reads the Secret, and finds a token in it then.
fn others(secret: &str, facts: &Facts) -> Vec<String> {
    let found = facts.readers.iter().filter(|(kind, _)| [POD, INPUT_PROVIDER].contains(kind));
    let found = found.filter(|(_, one)| names_secret(one, secret));
    found.map(|(kind, one)| format!("{} {}", kind.kind, name(one))).collect()
}

fn plan_steps(
    found: &mut Move,
    held: &SecretFacts,
    jobs: &[&Value],
    flags: &Migrate,
    facts: &Facts,
) -> Result<(), Trouble> {
    let token = token_step(found, held, flags, facts)?;
    let filled = matches!(held.held, Held::Ours { .. }) && token.is_none() && opens(&found.token, facts);
    if !filled {
        check_keeper(&found.secret, held)?;
        if !held.allowed {
            let rights = secret_rights(&facts.namespace, &found.secret, &facts.home);
            found.steps.push(Step::Grant(Box::new(rights)));
        }
    }
    for job in jobs {
        plan_job(found, job, filled, facts)?;
    }
    if !filled {
        found.steps.extend(token);
        found.steps.push(Step::AwaitToken);
    }
    plan_switches(found);
    Ok(())
}

fn opens(token: &str, facts: &Facts) -> bool {
    facts.tokens.iter().any(|one| one.name == token && one.proves())
}

/// What stands in Git comes back, and what another controller makes as well.
fn check_keeper(secret: &str, held: &SecretFacts) -> Result<(), Trouble> {
    let Some(keeper) = held.keeper.as_ref().filter(|_| matches!(held.held, Held::Foreign { .. })) else {
        return Ok(());
    };
    let fix = if keeper.starts_with("Kustomization") {
        "in Git, annotate the Secret's manifest with kustomize.toolkit.fluxcd.io/ssa: Ignore, push, and run this again"
            .to_owned()
    } else {
        format!("let {keeper} make another Secret, or none, and run this again")
    };
    Err(taken(secret, &format!("{keeper} would put back what it holds"), &fix))
}

/// Suspends a job that could put its own token over ours.
fn plan_job(found: &mut Move, job: &Value, filled: bool, facts: &Facts) -> Result<(), Trouble> {
    let suspended = job.pointer("/spec/suspend") == Some(&Value::Bool(true));
    // One that an earlier run has suspended is this run's to resume, should the token not come.
    let begun = !filled && !text(job, &format!("/metadata/annotations/{}", SUSPENDED_BY.replace('/', "~1"))).is_empty();
    if suspended && !begun {
        return Ok(());
    }
    let job_name = name(job);
    if let Some(keeper) = job.get("metadata").and_then(keeper) {
        let cause = format!(
            "CronJob {job_name} fills Secret {} as well, and {keeper} would resume it if it were suspended here",
            found.secret
        );
        let fix = format!(
            "commit spec.suspend: true to CronJob {}/{job_name}, in what {keeper} applies, and run this again",
            facts.namespace
        );
        return Err(Trouble::new(Exit::Taken, cause, fix));
    }
    found.steps.push(Step::Suspend(job_name.to_owned()));
    found.steps.push(Step::AwaitJob(job_name.to_owned()));
    Ok(())
}

/// Leads each native GitRepository to the Secret, by ourselves or by whoever has it in Git.
fn plan_switches(found: &mut Move) {
    let (mut switches, mut looks) = (Vec::new(), Vec::new());
    for source in &found.sources {
        let account = source.before.get("serviceAccountName").is_some_and(Value::is_string);
        match &source.keeper {
            Some(keeper) if source.native => {
                found.commits.push(commit(keeper, source, &found.secret, account));
                continue;
            }
            _ if source.native => {
                // A service account is taken beside a native provider only.
                let to = json!({
                    "provider": "generic", "secretRef": {"name": found.secret}, "serviceAccountName": null,
                });
                switches.push(Step::Switch(source.name.clone(), json!({"spec": to})));
            }
            _ => {}
        }
        if !source.suspended {
            looks.push(Step::AwaitFlux(source.name.clone()));
        }
    }
    found.steps.extend(switches);
    if !found.steps.is_empty() {
        found.steps.extend(looks);
    }
}

fn commit(keeper: &str, source: &Source, secret: &str, account: bool) -> Commit {
    let of_instance = keeper == "the FluxInstance";
    let change = if of_instance {
        json!({"sync": {"provider": "generic", "pullSecret": secret}})
    } else {
        json!({"provider": "generic", "secretRef": {"name": secret}})
    };
    Commit {
        keeper: keeper.to_owned(),
        what: if of_instance { keeper.to_owned() } else { format!("GitRepository {}", source.name) },
        change: json!({"spec": change}),
        gone: (account && !of_instance).then_some("spec.serviceAccountName"),
    }
}
