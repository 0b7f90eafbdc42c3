//! `azure-…`: whether the managed identities are there, and take the tokens of the service accounts that sign in.

use std::collections::{BTreeMap, BTreeSet};

use flux_bearer::preflight::AUDIENCE;
use flux_bearer_azure::arm::FederatedCredential;

use super::cloud::{Cloud, ManagedIdentity};
use super::facts::{Facts, known};
use super::identities::{Account, Use, uses};
use super::{Check, Fix, Verdict, Wrong, check, verdict};
use crate::object::{printable, text, word};
use crate::setup::{MAX_CREDENTIALS, credential_name};

const ISSUER: &str = "cluster-issuer";

/// More federated credentials than this leave no room for the next clusters.
const FEW_LEFT: usize = 18;

pub(super) const CHECKS: &[Check] = &[
    check!("azure-identity", Warn, "every managed identity is there", ["cluster-reachable"], identity),
    check!("azure-federation", Fail, "every identity takes the cluster's tokens", [ISSUER], federation),
    check!("azure-federation-subject", Fail, "the subject is right to its case", [ISSUER], of_subject),
    check!("azure-federation-issuer", Fail, "the issuer is right to its last slash", [ISSUER], of_issuer),
    check!("azure-federation-audience", Fail, "the audience is that of Entra ID", [ISSUER], of_audience),
    check!("azure-federation-room", Warn, "there is room for more clusters", ["cluster-reachable"], room),
    check!("azure-roles", Warn, "no identity may do anything in Azure", ["cluster-reachable"], roles),
];

/// The accounts that may be managed identities, each with the BearerTokens of it.
fn accounts(facts: &Facts) -> Result<BTreeMap<Account, Vec<Use<'_>>>, String> {
    let mut accounts: BTreeMap<Account, Vec<Use<'_>>> = BTreeMap::new();
    for one in uses(facts)?.into_iter().filter(Use::may_be_managed) {
        accounts.entry(one.account.clone()).or_default().push(one);
    }
    Ok(accounts)
}

/// The managed identity that an account is, where it is one.
fn managed<'a>(cloud: &'a Cloud, account: &Account) -> Result<Option<&'a ManagedIdentity>, String> {
    let found = cloud.identities.get(account).ok_or("nobody has looked")?;
    Ok(known(found)?.as_ref())
}

/// What is wrong with each managed identity.
fn each(facts: &Facts, judge: impl Fn(&ManagedIdentity, &[Use<'_>]) -> Result<Option<Wrong>, String>) -> Verdict {
    let cloud = known(&facts.cloud)?;
    verdict(accounts(facts)?.iter().map(|(account, uses)| match managed(cloud, account)? {
        Some(found) => judge(found, uses),
        None => Ok(None),
    }))
}

fn identity(facts: &Facts) -> Verdict {
    let cloud = known(&facts.cloud)?;
    verdict(accounts(facts)?.iter().map(|(account, uses)| {
        let there = managed(cloud, account)?.is_some() || is_registration(cloud, account);
        Ok((!there).then(|| nowhere(account, uses)))
    }))
}

fn nowhere(account: &Account, uses: &[Use<'_>]) -> Wrong {
    let client = &account.client;
    let tokens: Vec<String> = uses.iter().map(|one| format!("{}/{}", one.token.namespace, one.token.name)).collect();
    Wrong {
        evidence: format!(
            "BearerToken {}: no subscription that you see has a managed identity with client id {client}",
            tokens.join(", ")
        ),
        fix: Fix::Do(format!(
            "if az ad sp show --id {client} knows it, look as somebody who sees its subscription; if it was deleted, make \
             another one: flux-bearer setup --repository URL"
        )),
    }
}

/// Whether Azure DevOps knows the account as an app registration, which no subscription has.
fn is_registration(cloud: &Cloud, account: &Account) -> bool {
    let found =
        cloud.organizations.values().filter_map(|one| one.members.get(&account.client)?.as_ref().ok()?.as_ref());
    found.into_iter().any(|found| !found.member.is_managed_identity)
}

/// The federated credential that comes nearest to what the tokens say.
enum Nearest<'a> {
    /// It says the same.
    Right,
    /// Another case in the subject.
    Subject(&'a FederatedCredential),
    /// A slash more or less at the end of the issuer.
    Issuer(&'a FederatedCredential),
    /// Another audience.
    Audience(&'a FederatedCredential),
    /// None says anything like it.
    None,
}

fn nearest<'a>(credentials: &'a [FederatedCredential], issuer: &str, subject: &str) -> Nearest<'a> {
    let find = |is_it: &dyn Fn(&FederatedCredential) -> bool| credentials.iter().find(|one| is_it(one));
    let same_audience = |one: &FederatedCredential| one.audiences == [AUDIENCE];
    if find(&|one| one.issuer == issuer && one.subject == subject && same_audience(one)).is_some() {
        return Nearest::Right;
    }
    let by_audience = find(&|one| one.issuer == issuer && one.subject == subject);
    let by_subject = find(&|one| one.issuer == issuer && one.subject.eq_ignore_ascii_case(subject));
    let bare = |issuer: &str| issuer.trim_end_matches('/').to_owned();
    let by_issuer = find(&|one| one.subject == subject && bare(&one.issuer) == bare(issuer));
    let found = by_audience.map(Nearest::Audience).or_else(|| by_subject.map(Nearest::Subject));
    found.or_else(|| by_issuer.map(Nearest::Issuer)).unwrap_or(Nearest::None)
}

/// The service accounts that sign in as one identity, each once, as Entra ID compares them.
fn subjects(facts: &Facts, uses: &[Use<'_>]) -> BTreeSet<String> {
    uses.iter().filter_map(|one| one.subject(facts)).collect()
}

/// What is wrong with the federated credentials of each identity that a service account signs in as, where `evidence` says
/// so of the nearest one.
fn federated(facts: &Facts, evidence: impl Fn(&Nearest<'_>, &str, &str) -> Option<String>) -> Verdict {
    let (cloud, discovery) = (known(&facts.cloud)?, known(&facts.discovery)?);
    let issuer = text(discovery, "/issuer");
    let accounts = accounts(facts)?;
    let pairs = accounts
        .iter()
        .flat_map(|(account, uses)| subjects(facts, uses).into_iter().map(move |subject| (account, subject)));
    verdict(pairs.map(|(account, subject)| {
        let Some(found) = managed(cloud, account)? else { return Ok(None) };
        let credentials = known(&found.credentials)?;
        let nearest = nearest(credentials, issuer, &subject);
        let evidence = evidence(&nearest, issuer, &subject);
        let name = match nearest {
            Nearest::Subject(one) | Nearest::Issuer(one) | Nearest::Audience(one) => Some(one.name.as_str()),
            Nearest::Right | Nearest::None => None,
        };
        Ok(evidence.map(|evidence| Wrong {
            evidence: format!("managed identity {}: {evidence}", found.identity.name),
            fix: federate(found, name, credentials.len(), issuer, &subject),
        }))
    }))
}

/// The command that makes a federated credential say what the tokens do: the one of this name, or a new one.
fn federate(found: &ManagedIdentity, name: Option<&str>, count: usize, issuer: &str, subject: &str) -> Fix {
    let at = at(found);
    if name.is_none() && count >= MAX_CREDENTIALS {
        return Fix::Do(format!(
            "the identity has {count} federated credentials and can have no more: remove one of a cluster that is gone \
             (az identity federated-credential list {at}), then flux-bearer setup"
        ));
    }
    let verb = if name.is_some() { "update" } else { "create" };
    let name = name.map_or_else(|| credential_name(issuer, subject), word);
    Fix::Run(format!(
        "az identity federated-credential {verb} --name {name} {at} --issuer {} --subject {} --audiences {AUDIENCE}",
        word(issuer),
        word(subject),
    ))
}

/// The flags of `az` that name an identity.
fn at(found: &ManagedIdentity) -> String {
    let (name, group) = (word(&found.identity.name), word(&found.identity.group));
    format!("--identity-name {name} --resource-group {group} --subscription {}", found.subscription)
}

fn federation(facts: &Facts) -> Verdict {
    federated(facts, |nearest, issuer, subject| match nearest {
        Nearest::None => Some(format!("no federated credential is for {} of {:?}", subject, printable(issuer))),
        _ => None,
    })
}

fn of_subject(facts: &Facts) -> Verdict {
    federated(facts, |nearest, _, subject| match nearest {
        Nearest::Subject(one) => {
            Some(format!("{} is for {:?}, and the service account is {subject:?}", one.name, printable(&one.subject)))
        }
        _ => None,
    })
}

fn of_issuer(facts: &Facts) -> Verdict {
    federated(facts, |nearest, issuer, _| match nearest {
        Nearest::Issuer(one) => {
            let (says, is) = (printable(&one.issuer), printable(issuer));
            Some(format!("{} is for issuer {says:?}, and the cluster's is {is:?}", one.name))
        }
        _ => None,
    })
}

fn of_audience(facts: &Facts) -> Verdict {
    federated(facts, |nearest, _, _| match nearest {
        Nearest::Audience(one) => {
            let audiences = printable(&one.audiences.join(", "));
            Some(format!("{} is for audience {audiences:?}, and the tokens are for {AUDIENCE:?}", one.name))
        }
        _ => None,
    })
}

fn room(facts: &Facts) -> Verdict {
    each(facts, |found, uses| {
        let count = known(&found.credentials)?.len();
        let federated = !subjects(facts, uses).is_empty();
        let fix = format!(
            "use an identity more for the next clusters (flux-bearer setup --identity NAME), or remove the credentials of \
             those that are gone: az identity federated-credential list {}",
            at(found)
        );
        Ok((federated && count > FEW_LEFT).then(|| Wrong {
            evidence: format!(
                "managed identity {}: {count} of {MAX_CREDENTIALS} federated credentials are used",
                found.identity.name
            ),
            fix: Fix::Do(fix),
        }))
    })
}

fn roles(facts: &Facts) -> Verdict {
    each(facts, |found, _| {
        let roles = known(&found.roles)?;
        let scopes: Vec<String> = roles.iter().map(|one| printable(&one.scope)).collect();
        let ids: Vec<String> = roles.iter().map(|one| word(&one.id)).collect();
        let name = &found.identity.name;
        Ok((!roles.is_empty()).then(|| Wrong {
            evidence: format!(
                "managed identity {name}: it has a role at {}, and needs none to sign in",
                scopes.join(", ")
            ),
            fix: Fix::Run(format!("az role assignment delete --ids {}", ids.join(" "))),
        }))
    })
}
