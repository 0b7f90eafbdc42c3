//! `flux-…`: whether Flux can use what it is given, for every GitRepository on Azure DevOps.

use flux_bearer::flux::{REQUESTED_AT, is_authentication_failure};
use flux_bearer::repository::{Repository, is_azure_devops};
use flux_bearer::resource::Format;
use serde_json::{Value, json};
use url::Url;

use super::facts::{Facts, account_of, default_account, known};
use super::rights::Deed;
use super::secret::owners;
use super::{Check, Fix, Repair, Verdict, Wrong, check};
use crate::flux::{self, Identities, OBJECT_IDENTITY};
use crate::kinds::GIT_REPOSITORY;
use crate::object::{condition, name, namespace, number, patch, path, printable, text, word};
use crate::tokens::Token;

const INSTALLED: &str = "flux-installed";

/// The first Flux that can be bootstrapped with a bearer token.
const OLDEST: u32 = 3;

pub(super) const CHECKS: &[Check] = &[
    check!("flux-installed", Fail, "Flux is installed", ["cluster-reachable"], installed),
    check!("flux-source-controller", Fail, "source-controller runs", [INSTALLED], source_controller),
    check!("flux-version", Fail, "Flux is 2.3 or newer", ["flux-source-controller"], version),
    check!("flux-url-ssh", Warn, "no GitRepository uses SSH", [INSTALLED], url_ssh),
    check!("flux-url-http", Fail, "no GitRepository sends its token in clear", [INSTALLED], url_http),
    check!("flux-url-legacy", Warn, "no GitRepository uses visualstudio.com", [INSTALLED], url_legacy),
    check!("flux-url-user", Fail, "no URL holds a user beside a bearer token", [INSTALLED], url_user),
    check!("flux-url-form", Fail, "every URL has the form of Azure DevOps", [INSTALLED], url_form),
    check!("flux-url-host", Fail, "tokens go to Azure DevOps alone", [INSTALLED], url_host),
    check!("flux-credential", Warn, "every GitRepository has a credential", [INSTALLED], credential),
    check!("flux-secret", Fail, "every Secret that is named is there", [INSTALLED], secret),
    check!("flux-provider", Warn, "no GitRepository has two credentials", [INSTALLED], provider),
    check!("flux-pat", Warn, "no GitRepository lives on a personal access token", [INSTALLED], pat),
    check!("flux-token-unkept", Warn, "no token is left to expire", [INSTALLED], unkept),
    check!("flux-service-account", Fail, "every service account that is named is there", [INSTALLED], account),
    check!(
        "flux-account-annotations",
        Fail,
        "every such account says its identity",
        ["flux-service-account"],
        annotations
    ),
    check!("flux-object-identity", Fail, "Flux may act as them", ["flux-service-account"], object_identity),
    check!("flux-authentication", Fail, "Azure DevOps accepts every credential", [INSTALLED], authentication),
    check!("flux-ready", Warn, "every GitRepository is ready", [INSTALLED], ready),
];

/// A GitRepository on Azure DevOps.
#[derive(Clone, Copy)]
struct Source<'a> {
    object: &'a Value,
    address: Address<'a>,
}

/// Where the URL of a GitRepository on Azure DevOps leads.
#[derive(Clone, Copy, PartialEq)]
enum Address<'a> {
    Https(&'a str),
    Http(&'a str),
    /// What follows `v3/`.
    Ssh(&'a str),
}

impl<'a> Source<'a> {
    fn of(object: &'a Value) -> Option<Self> {
        Some(Self { object, address: address(text(object, "/spec/url"))? })
    }

    fn secret(&self) -> Option<&'a str> {
        Some(text(self.object, "/spec/secretRef/name")).filter(|secret| !secret.is_empty())
    }

    fn is_native(&self) -> bool {
        text(self.object, "/spec/provider") == "azure"
    }

    fn https(&self) -> Option<&'a str> {
        match self.address {
            Address::Https(url) => Some(url),
            _ => None,
        }
    }

    /// The command that changes its spec. What comes from Git has to be changed there, too: the pages say so.
    fn patch(&self, spec: &Value) -> Fix {
        Fix::Run(format!(
            "kubectl -n {} patch gitrepository {} --type=merge -p {}",
            namespace(self.object),
            name(self.object),
            patch(&json!({"spec": spec}))
        ))
    }

    fn wrong(&self, evidence: impl std::fmt::Display, fix: Fix) -> Wrong {
        Wrong { evidence: format!("GitRepository {}: {evidence}", path(self.object)), fix }
    }

    /// The BearerToken that keeps its Secret.
    fn keeper<'f>(&self, facts: &'f Facts) -> Option<&'f Token> {
        let secret = self.secret()?;
        let tokens = facts.tokens.iter().flatten();
        let mut here = tokens.filter(|token| token.namespace == namespace(self.object));
        here.find(|token| token.secret() == secret || token.status.secret.as_deref() == Some(secret))
    }

    /// The credential keys of its Secret, as far as its metadata tells.
    fn keys(&self, facts: &Facts) -> Vec<&'static str> {
        let key = (namespace(self.object).to_owned(), self.secret().unwrap_or_default().to_owned());
        let Some(Ok(Some(metadata))) = facts.secrets.get(&key) else { return Vec::new() };
        owners(metadata, &["bearerToken", "password"]).into_values().flatten().collect()
    }
}

fn address(url: &str) -> Option<Address<'_>> {
    let ssh = ["@ssh.dev.azure.com:v3/", "@ssh.dev.azure.com/v3/", "@vs-ssh.visualstudio.com:v3/"];
    if let Some((_, path)) = ssh.iter().find_map(|mark| url.split_once(mark)) {
        return Some(Address::Ssh(path));
    }
    let parsed = Url::parse(url).ok()?;
    let ours = parsed.host_str().is_some_and(is_azure_devops);
    match parsed.scheme() {
        "https" if ours => Some(Address::Https(url)),
        "http" if ours => Some(Address::Http(url)),
        _ => None,
    }
}

fn all(facts: &Facts) -> Result<&Vec<Value>, String> {
    known(&facts.repositories)
}

fn sources(facts: &Facts) -> Result<impl Iterator<Item = Source<'_>>, String> {
    Ok(all(facts)?.iter().filter_map(Source::of))
}

/// What `judge` finds wrong with each GitRepository on Azure DevOps.
fn each(facts: &Facts, judge: impl Fn(Source<'_>) -> Option<Wrong>) -> Verdict {
    Ok(sources(facts)?.filter_map(judge).collect())
}

fn installed(facts: &Facts) -> Verdict {
    let found = known(&facts.flux)?;
    let evidence = "the cluster has no GitRepository: Flux is not installed".to_owned();
    let fix = Fix::Run("flux install".to_owned());
    Ok(if found.is_some() { Vec::new() } else { vec![Wrong { evidence, fix }] })
}

fn source_controller(facts: &Facts) -> Verdict {
    let wrong = |evidence: &str, fix: Fix| Ok(vec![Wrong { evidence: evidence.to_owned(), fix }]);
    match known(&facts.source_controller)? {
        None => wrong("there is no Deployment source-controller", Fix::Run("flux install".to_owned())),
        Some(found) if number(found, "/status/readyReplicas") == 0 => {
            let fix = format!("kubectl -n {} describe pods -l app=source-controller", namespace(found));
            wrong("source-controller is not ready", Fix::Do(fix))
        }
        Some(_) => Ok(Vec::new()),
    }
}

/// The minor version of Flux 2.
fn minor(facts: &Facts) -> Result<u32, String> {
    let unknown = || "source-controller does not tell its version".to_owned();
    known(&facts.source_controller)?.as_ref().and_then(flux::minor).ok_or_else(unknown)
}

fn version(facts: &Facts) -> Verdict {
    let minor = minor(facts)?;
    let evidence = format!("Flux is 2.{minor}, which can't be bootstrapped with a bearer token");
    let fix = Fix::Run("flux install".to_owned());
    Ok(if minor < OLDEST { vec![Wrong { evidence, fix }] } else { Vec::new() })
}

fn url_ssh(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let Address::Ssh(path) = source.address else { return None };
        let mut parts = path.split('/');
        let (organization, project, repository) = (parts.next()?, parts.next()?, parts.next()?);
        let url = format!("https://dev.azure.com/{organization}/{project}/_git/{repository}");
        Some(source.wrong("it uses an SSH key, which a token can't replace", source.patch(&json!({"url": url}))))
    })
}

fn url_http(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let Address::Http(url) = source.address else { return None };
        let safe = bare(&url.replacen("http://", "https://", 1))?;
        Some(source.wrong("its URL is plain HTTP", source.patch(&json!({"url": safe}))))
    })
}

fn url_legacy(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let url = Url::parse(source.https()?).ok()?;
        let organization = url.host_str()?.strip_suffix(".visualstudio.com")?;
        let path = url.path().trim_matches('/');
        let path = path.strip_prefix("DefaultCollection/").unwrap_or(path);
        // Without a project, the repository is the one of the project's own name.
        let (project, repository) = match path.split_once("_git/")? {
            ("", repository) => (repository, repository),
            (project, repository) => (project.trim_end_matches('/'), repository),
        };
        let new = format!("https://dev.azure.com/{organization}/{project}/_git/{repository}");
        Some(source.wrong("its URL is on visualstudio.com", source.patch(&json!({"url": new}))))
    })
}

/// A URL without its user.
fn bare(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.to_string())
}

fn has_user(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

fn url_user(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let url = source.https().filter(|url| has_user(url) && !source.is_native())?;
        let bearer = match source.keeper(facts) {
            Some(token) => token.spec.as_ref().is_none_or(|spec| spec.secret.formats.contains(&Format::Bearer)),
            None => source.keys(facts).contains(&"bearerToken"),
        };
        let evidence = "its URL holds a user (org@), and Flux refuses that beside a bearer token";
        bearer.then(|| Some(source.wrong(evidence, source.patch(&json!({"url": bare(url)?})))))?
    })
}

fn url_form(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let failure = Repository::parse(source.https()?).err()?;
        Some(source.wrong(&failure.cause, Fix::Do(format!("{}, in Git and in the GitRepository", failure.fix))))
    })
}

fn url_host(facts: &Facts) -> Verdict {
    let elsewhere = all(facts)?.iter().filter(|object| Source::of(object).is_none());
    let elsewhere = elsewhere.map(|object| Source { object, address: Address::Https("") });
    let wrong = elsewhere.filter_map(|source| {
        let token = source.keeper(facts)?;
        let evidence = format!("it sends the token of BearerToken {} to a host that is not Azure DevOps", token.name);
        Some(source.wrong(
            evidence,
            Fix::Do("give the GitRepository a Secret of its own, or its URL on dev.azure.com".to_owned()),
        ))
    });
    Ok(wrong.collect())
}

fn credential(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let bare = source.secret().is_none() && !source.is_native();
        let kept = facts.tokens.iter().flatten().find(|token| token.namespace == namespace(source.object));
        let fix = match kept {
            Some(token) => source.patch(&json!({"secretRef": {"name": token.secret()}})),
            None => Fix::Do("make a BearerToken, and name its Secret in spec.secretRef".to_owned()),
        };
        bare.then(|| source.wrong("it names no Secret, so only a public project opens", fix))
    })
}

fn secret(facts: &Facts) -> Verdict {
    let mut wrong = Vec::new();
    for source in sources(facts)? {
        let Some(secret) = source.secret() else { continue };
        let home = namespace(source.object);
        let Some(found) = facts.secrets.get(&(home.to_owned(), secret.to_owned())) else { continue };
        if known(found)?.is_some() {
            continue;
        }
        let fix = match source.keeper(facts) {
            Some(token) => format!("flux-bearer refresh {} -n {home}", token.name),
            None => format!("flux-bearer create bearertoken {} -n {home}", word(secret)),
        };
        wrong.push(source.wrong(format!("there is no Secret {secret}"), Fix::Run(fix)));
    }
    Ok(wrong)
}

fn provider(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let secret = source.secret().filter(|_| source.is_native())?;
        // A Secret with nothing but ca.crt is right beside provider: azure.
        let credential = source.keeper(facts).is_some() || !source.keys(facts).is_empty();
        let evidence = format!("provider: azure overrides the credential in Secret {secret}");
        credential.then(|| source.wrong(evidence, source.patch(&json!({"provider": null}))))
    })
}

fn pat(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let keys = source.keys(facts);
        let pat = keys.contains(&"password") && !keys.contains(&"bearerToken") && source.keeper(facts).is_none();
        let secret = source.secret().filter(|_| pat && !source.is_native())?;
        let evidence = format!("Secret {secret} holds a password that nobody renews; global PATs end on 2026-12-01");
        Some(source.wrong(evidence, adopt(source, secret)))
    })
}

fn unkept(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let left = source.keys(facts).contains(&"bearerToken") && source.keeper(facts).is_none();
        let secret = source.secret().filter(|_| left && !source.is_native())?;
        let evidence = format!("Secret {secret} holds a bearer token, and no BearerToken renews it");
        Some(source.wrong(evidence, adopt(source, secret)))
    })
}

fn adopt(source: Source<'_>, secret: &str) -> Fix {
    Fix::Run(format!("flux-bearer create bearertoken {} -n {} --adopt", word(secret), namespace(source.object)))
}

/// The service account that a GitRepository signs in as, by its own word or by Flux's default.
fn account_name(facts: &Facts, source: Source<'_>) -> Option<String> {
    let named = text(source.object, "/spec/serviceAccountName");
    if !named.is_empty() {
        return Some(named.to_owned());
    }
    // Before 2.10 the default counts for native providers alone.
    let applies = source.is_native() || minor(facts).is_ok_and(|minor| minor >= OBJECT_IDENTITY);
    let default = facts.source_controller.iter().flatten().next().map(default_account).unwrap_or_default();
    Some(default).filter(|name| applies && !name.is_empty())
}

fn account(facts: &Facts) -> Verdict {
    let mut wrong = Vec::new();
    for source in sources(facts)? {
        let Some(account) = account_name(facts, source) else { continue };
        let home = namespace(source.object);
        let Some(found) = facts.accounts.get(&(home.to_owned(), account.clone())) else { continue };
        if known(found)?.is_none() {
            let fix = Fix::Run(format!("kubectl -n {home} create serviceaccount {}", word(&account)));
            wrong.push(source.wrong(format!("there is no ServiceAccount {account}"), fix));
        }
    }
    Ok(wrong)
}

fn annotations(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let account = account_name(facts, source).filter(|_| source.is_native())?;
        let home = namespace(source.object);
        let Some(Ok(Some(found))) = facts.accounts.get(&(home.to_owned(), account.clone())) else { return None };
        let set = |id: &str| !text(found, &format!("/metadata/annotations/azure.workload.identity~1{id}")).is_empty();
        let missing: Vec<&str> = ["client-id", "tenant-id"].into_iter().filter(|id| !set(id)).collect();
        let fix = format!(
            "kubectl -n {home} annotate serviceaccount {} azure.workload.identity/client-id=CLIENT_ID \
             azure.workload.identity/tenant-id=TENANT_ID",
            word(&account)
        );
        let evidence =
            format!("ServiceAccount {account} lacks the annotation azure.workload.identity/{}", missing.join(" and "));
        (!missing.is_empty()).then(|| source.wrong(evidence, Fix::Do(fix)))
    })
}

fn object_identity(facts: &Facts) -> Verdict {
    let mut acting = sources(facts)?.filter(|source| source.is_native() && account_name(facts, *source).is_some());
    let (Some(source), Some(controller)) = (acting.next(), facts.source_controller.iter().flatten().next()) else {
        return Ok(Vec::new());
    };
    let identities = flux::identities(minor(facts)?, controller);
    if identities != Identities::Each {
        let on = identities == Identities::Gated(true);
        let fix = "add --feature-gates=ObjectLevelWorkloadIdentity=true to source-controller, in Git";
        let evidence = "Flux before 2.10 ignores serviceAccountName without a feature gate";
        return Ok(if on { Vec::new() } else { vec![source.wrong(evidence, Fix::Do(fix.to_owned()))] });
    }
    let rbac = known(&facts.rbac)?;
    let (home, account) = (namespace(controller), account_of(controller));
    let deed = Deed {
        verb: "create",
        group: "",
        resource: "serviceaccounts/token",
        namespace: namespace(source.object),
        name: "",
    };
    if rbac.allows((home, account), deed) {
        return Ok(Vec::new());
    }
    let fix = format!(
        "kubectl create clusterrole flux-object-identity --verb=create --resource=serviceaccounts/token && \
         kubectl create clusterrolebinding flux-object-identity --clusterrole=flux-object-identity \
         --serviceaccount={home}:{}",
        word(account)
    );
    let evidence =
        format!("{account} may not ask for a token of its service account, which Flux 2.10 no longer grants");
    Ok(vec![source.wrong(evidence, Fix::Run(fix))])
}

/// How a GitRepository fails: whether for its credential, and the reason. The message may quote a page of the server.
fn failing<'a>(source: &Source<'a>) -> Option<(bool, &'a str)> {
    let (status, reason, message) = condition(source.object, "Ready")?;
    let suspended = source.object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    (status == "False" && !suspended).then(|| (is_authentication_failure(reason, message), reason))
}

fn reconcile(facts: &Facts, source: Source<'_>) -> Fix {
    let (home, name) = (namespace(source.object), name(source.object));
    let annotate = Repair::Annotate {
        kind: GIT_REPOSITORY,
        namespace: home.to_owned(),
        name: name.to_owned(),
        annotation: REQUESTED_AT,
        value: Some(facts.now.to_string()),
    };
    Fix::Safe(format!("flux reconcile source git {name} -n {home}"), vec![annotate])
}

fn authentication(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let (_, reason) = failing(&source).filter(|(credential, _)| *credential)?;
        let evidence = format!("Flux says {}: the credential does not open it", printable(reason));
        Some(source.wrong(evidence, reconcile(facts, source)))
    })
}

fn ready(facts: &Facts) -> Verdict {
    each(facts, |source| {
        let (_, reason) = failing(&source).filter(|(credential, _)| !credential)?;
        Some(source.wrong(format!("Flux says {}", printable(reason)), reconcile(facts, source)))
    })
}
