//! `devops-…`: whether the organisation lets every identity open what it is for, and nothing more.

use flux_bearer::identity::is_guid;
use flux_bearer::repository::Repository;
use flux_bearer_azure::devops::{
    Backing, EntitlementStatus, GitRepository, Project, bits, project_tokens, repository_tokens,
};
use serde_json::{Value, json};

use super::cloud::{Entry, Member, Organization};
use super::facts::{Facts, known};
use super::identities::{Use, address, reads, uses};
use super::{Check, Fix, Verdict, Wrong, check, verdict};
use crate::object::{name, namespace, patch, printable, text, word};

const ORGANIZATION: &str = "devops-organization";
const TENANT: &str = "devops-tenant";
const PROJECT: &str = "devops-project";
const REPOSITORY: &str = "devops-repository";
const MEMBER: &str = "devops-member";

/// What a GitRepository without a `ref` reads.
const DEFAULT_BRANCH: &str = "master";

/// Rights on a repository that neither fetching nor pushing needs.
const TOO_MUCH: [(u32, &str); 8] = [
    (1, "Administer"),
    (8, "ForcePush"),
    (128, "PolicyExempt"),
    (512, "DeleteRepository"),
    (1024, "RenameRepository"),
    (2048, "EditPolicies"),
    (bits::GIT_MANAGE_PERMISSIONS, "ManagePermissions"),
    (32768, "PullRequestBypassPolicy"),
];

pub(super) const CHECKS: &[Check] = &[
    check!("devops-organization", Fail, "every organisation is there", ["cluster-reachable"], organization),
    check!("devops-tenant", Fail, "it is connected to the identity's tenant", [ORGANIZATION], tenant),
    check!("devops-project", Fail, "every project is there", [TENANT], project),
    check!("devops-repository", Fail, "every repository is there", [PROJECT], repository),
    check!("devops-repository-disabled", Fail, "no repository is disabled", [REPOSITORY], disabled),
    check!("devops-repository-empty", Fail, "no repository is empty", [REPOSITORY], empty),
    check!("devops-branch", Warn, "every GitRepository reads a branch that it names", [REPOSITORY], branch),
    check!("devops-member", Fail, "every identity is a member", [TENANT], membership),
    check!("devops-licence", Fail, "every licence opens repositories", [MEMBER], licence),
    check!("devops-licence-active", Fail, "every licence is in force", ["devops-licence"], active),
    check!("devops-project-read", Fail, "every identity may see its projects", [MEMBER, PROJECT], project_read),
    check!("devops-repository-read", Fail, "every identity may read its repositories", [MEMBER, REPOSITORY], read),
    check!("devops-deny", Fail, "nothing that it needs is denied", [MEMBER, REPOSITORY], denied),
    check!("devops-groups", Warn, "no group opens it every repository", [MEMBER, REPOSITORY], groups),
    check!("devops-push", Warn, "no identity may push where nothing pushes", [MEMBER, REPOSITORY], push),
    check!("devops-rights", Warn, "no identity may do more than fetch and push", [MEMBER, REPOSITORY], rights),
];

/// One repository that one BearerToken is to open.
struct Ground<'a> {
    facts: &'a Facts,
    one: &'a Use<'a>,
    repository: &'a Repository,
    organization: &'a Organization,
}

impl<'a> Ground<'a> {
    fn of(facts: &'a Facts, one: &'a Use<'a>, repository: &'a Repository) -> Result<Self, String> {
        let found = known(&facts.cloud)?.organizations.get(&repository.organization().to_lowercase());
        Ok(Self { facts, one, repository, organization: found.ok_or("nobody has looked")? })
    }

    fn project(&self) -> Result<Option<&'a Project>, String> {
        let found = self.organization.projects.get(&self.repository.project().to_lowercase());
        Ok(known(found.ok_or("nobody has looked")?)?.as_ref())
    }

    fn found(&self) -> Result<Option<&'a GitRepository>, String> {
        let found = self.organization.repositories.get(&address(self.repository));
        Ok(known(found.ok_or("nobody has looked")?)?.as_ref())
    }

    fn member(&self) -> Result<Option<&'a Member>, String> {
        let found = self.organization.members.get(&self.one.account.client);
        Ok(known(found.ok_or("nobody has looked")?)?.as_ref())
    }

    /// The member and the repository, where both are there.
    fn reach(&self) -> Result<Option<Reach<'a>>, String> {
        let (member, repository) = (self.member()?, self.found()?);
        Ok(member.zip(repository).map(|(member, repository)| Reach { member, repository }))
    }

    /// Who doesn't see everything can't say that something is not there.
    fn must_see_all(&self) -> Result<(), String> {
        let name = self.name();
        let sees = *known(&self.organization.all_seeing)?;
        if sees { Ok(()) } else { Err(format!("only an administrator of organisation {name} sees all of it")) }
    }

    /// The organisation's name, as it is shown.
    fn name(&self) -> String {
        printable(&self.organization.name)
    }

    /// The organisation's address.
    fn home(&self) -> String {
        self.addresses().0
    }

    /// Where an administrator of the project changes this.
    fn settings(&self, what: &str) -> String {
        format!("{}/_settings/{what}", self.addresses().1)
    }

    /// The addresses of organisation and project, percent-encoded.
    fn addresses(&self) -> (String, String) {
        let url = self.repository.canonical();
        let project = url.split("/_git/").next().unwrap_or(&url);
        let home = project.rsplit_once('/').map_or(project, |(home, _)| home);
        (home.to_owned(), project.to_owned())
    }

    /// What the identity is called.
    fn who(&self) -> String {
        match self.member() {
            Ok(Some(found)) if !found.member.name.is_empty() => found.member.name.clone(),
            _ => self.one.identity.to_string(),
        }
    }

    /// The set-up for this repository gives the identity what is missing, and nothing else.
    fn set_up(&self) -> Fix {
        let (Use { token, account, .. }, url) = (self.one, self.repository);
        let identity = self.facts.cloud.iter().find_map(|cloud| cloud.identities.get(account)?.as_ref().ok()?.as_ref());
        let ours = token.namespace == self.facts.namespace;
        let Some(found) = identity.filter(|_| ours) else {
            return Fix::Do(format!(
                "as administrator of the organisation give it a Basic licence, View project-level information on the \
                 project and Read on the repository: {}/_settings/users",
                self.home()
            ));
        };
        let secret = token.secret();
        let secret = if secret == token.name { String::new() } else { format!(" --secret {}", word(secret)) };
        Fix::Run(format!(
            "flux-bearer setup --repository {} -n {} --name {}{secret} --identity {} --resource-group {} --subscription {}",
            word(&url.canonical()),
            token.namespace,
            token.name,
            word(&found.identity.name),
            word(&found.identity.group),
            found.subscription,
        ))
    }
}

/// A member, and a repository that it is to open.
struct Reach<'a> {
    member: &'a Member,
    repository: &'a GitRepository,
}

impl Reach<'_> {
    fn project_tokens(&self) -> [String; 2] {
        project_tokens(&self.repository.project.id)
    }

    fn repository_tokens(&self) -> [String; 3] {
        repository_tokens(&self.repository.project.id, &self.repository.id)
    }

    /// What the member may do with the project.
    fn at_project(&self) -> Result<Rights, String> {
        rights_at(self.member, &self.project_tokens())
    }

    /// What the member may do with the repository.
    fn at_repository(&self) -> Result<Rights, String> {
        rights_at(self.member, &self.repository_tokens())
    }
}

/// What is wrong with each repository of each BearerToken.
fn each(facts: &Facts, judge: impl Fn(&Ground<'_>) -> Result<Option<Wrong>, String>) -> Verdict {
    let uses = uses(facts)?;
    let pairs = uses.iter().flat_map(|one| one.repositories.iter().map(move |repository| (one, repository)));
    verdict(pairs.map(|(one, repository)| judge(&Ground::of(facts, one, repository)?)))
}

fn wrong(evidence: String, fix: Fix) -> Wrong {
    Wrong { evidence, fix }
}

fn organization(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let name = ground.name();
        let missing = *known(&ground.organization.backing)? == Backing::NoSuchOrganization;
        let fix = "correct the URL of the GitRepository: https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY";
        Ok(missing
            .then(|| wrong(format!("{}: there is no organisation {name}", ground.repository), Fix::Do(fix.to_owned()))))
    })
}

fn tenant(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let name = ground.name();
        // A domain in place of an id can't be compared.
        let Some(own) = ground.one.account.tenant.as_deref().filter(|tenant| is_guid(tenant)) else { return Ok(None) };
        let connect = format!("connect it to tenant {own}: {}/_settings/organizationAad", ground.home());
        Ok(match known(&ground.organization.backing)? {
            Backing::Entra(tenant) if tenant != own => Some(wrong(
                format!("organisation {name} is connected to tenant {tenant}, and the identity is of tenant {own}"),
                Fix::Do(format!("use an identity of tenant {tenant} (flux-bearer setup), or {connect}")),
            )),
            Backing::MicrosoftAccounts => {
                let evidence = format!("organisation {name} is connected to no tenant, so no identity can be a member");
                Some(wrong(evidence, Fix::Do(connect)))
            }
            Backing::Entra(_) | Backing::NoSuchOrganization => None,
        })
    })
}

fn project(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        if ground.project()?.is_some() {
            return Ok(None);
        }
        ground.must_see_all()?;
        let (organization, project) = (ground.name(), printable(&ground.repository.project()));
        let list = format!("az devops project list --organization {}", word(&ground.home()));
        let evidence = format!("{}: organisation {organization} has no project {project}", ground.repository);
        Ok(Some(wrong(evidence, Fix::Do(format!("correct the URL of the GitRepository; the projects: {list}")))))
    })
}

fn repository(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let (Some(project), None) = (ground.project()?, ground.found()?) else { return Ok(None) };
        ground.must_see_all()?;
        let (project, name) = (&project.name, printable(&ground.repository.repository()));
        let list = format!("az repos list --organization {} --project {}", word(&ground.home()), word(project));
        let evidence = format!("{}: project {project} has no repository {name}", ground.repository);
        Ok(Some(wrong(evidence, Fix::Do(format!("correct the URL of the GitRepository; the repositories: {list}")))))
    })
}

fn disabled(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let off = ground.found()?.is_some_and(|found| found.is_disabled);
        let fix = format!("enable it: {}, the repository, Settings", ground.settings("repositories"));
        Ok(off.then(|| wrong(format!("{}: the repository is disabled", ground.repository), Fix::Do(fix))))
    })
}

fn empty(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let empty = ground.found()?.is_some_and(|found| found.default_branch.is_none());
        let fix = format!("push a first commit: git push {} HEAD:main", word(&ground.repository.canonical()));
        Ok(empty.then(|| wrong(format!("{}: the repository has no branch", ground.repository), Fix::Do(fix))))
    })
}

fn branch(facts: &Facts) -> Verdict {
    let (sources, uses) = (known(&facts.repositories)?, uses(facts)?);
    let pairs = uses.iter().flat_map(|one| sources.iter().map(move |source| (one, source)));
    let silent = pairs.filter(|(one, source)| reads(source, one.token) && source.pointer("/spec/ref").is_none());
    verdict(silent.map(|(one, source)| unnamed(facts, one, source)))
}

/// What is wrong with a GitRepository that names no branch.
fn unnamed(facts: &Facts, one: &Use<'_>, source: &Value) -> Result<Option<Wrong>, String> {
    let Ok(repository) = Repository::parse(text(source, "/spec/url")) else { return Ok(None) };
    let found = Ground::of(facts, one, &repository)?.found()?;
    let Some(branch) = found.and_then(|found| found.default_branch.as_deref()) else { return Ok(None) };
    let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    if branch == DEFAULT_BRANCH {
        return Ok(None);
    }
    let (name, namespace) = (name(source), namespace(source));
    let change = patch(&json!({"spec": {"ref": {"branch": branch}}}));
    Ok(Some(wrong(
        format!(
            "GitRepository {namespace}/{name} names no branch, so Flux reads {DEFAULT_BRANCH}, and the default branch of \
             {repository} is {branch}"
        ),
        Fix::Run(format!("kubectl -n {namespace} patch gitrepository {name} --type=merge -p {change}")),
    )))
}

fn membership(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let name = ground.name();
        let evidence = || format!("{} is no member of organisation {name}", ground.one.identity);
        Ok(ground.member()?.is_none().then(|| wrong(evidence(), ground.set_up())))
    })
}

fn licence(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(member) = ground.member()? else { return Ok(None) };
        let opens = known(&member.entitlement)?.as_ref().is_some_and(|found| found.licence.opens_repositories());
        let evidence = || {
            let name = ground.name();
            format!("{} has no licence in organisation {name} that opens repositories: it takes Basic", ground.who())
        };
        Ok((!opens).then(|| wrong(evidence(), ground.set_up())))
    })
}

fn active(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(member) = ground.member()? else { return Ok(None) };
        let off = known(&member.entitlement)?.as_ref().is_some_and(|one| one.status == EntitlementStatus::Inactive);
        let name = ground.name();
        let evidence = || format!("the licence of {} in organisation {name} is disabled or has expired", ground.who());
        let fix = || format!("give it a Basic licence again: {}/_settings/users", ground.home());
        Ok(off.then(|| wrong(evidence(), Fix::Do(fix()))))
    })
}

/// What follows from entries: of the member and of its groups, at something and at all that it inherits from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rights {
    allow: u32,
    deny: u32,
}

impl Rights {
    /// Whether these bits are neither allowed nor denied.
    fn is_silent(self, bits: u32) -> bool {
        (self.allow | self.deny) & bits == 0
    }

    /// At one level a denial wins over what is allowed; a level wins over what it inherits.
    fn over(entries: &[Entry], inherited: Self) -> Self {
        let bits = |of: fn(&Entry) -> u32| entries.iter().map(of).fold(0, |all, one| all | one);
        let deny = bits(|entry| entry.access.deny);
        let allow = bits(|entry| entry.access.allow) & !deny;
        let open = !(allow | deny);
        Self { allow: allow | (inherited.allow & open), deny: deny | (inherited.deny & open) }
    }
}

/// What a member may do at the first of these tokens, which inherits from the others. What Azure DevOps itself says of the
/// member counts too, for it may know a group that nobody sees here.
fn rights_at(member: &Member, tokens: &[String]) -> Result<Rights, String> {
    let mut rights = Rights::default();
    for token in tokens.iter().rev() {
        rights = Rights::over(entries(member, token)?, rights);
    }
    let nearest = tokens.first().map_or(Ok(&[][..]), |token| entries(member, token))?;
    let own = nearest.iter().filter(|entry| entry.group.is_none()).map(|entry| entry.access.effective_allow);
    Ok(Rights { allow: rights.allow | (own.fold(0, |all, one| all | one) & !rights.deny), ..rights })
}

fn entries<'a>(member: &'a Member, token: &str) -> Result<&'a [Entry], String> {
    let found = member.entries.get(token).ok_or("nobody has looked")?;
    known(found).map(Vec::as_slice)
}

fn project_read(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let missing = reach.at_project()?.is_silent(bits::PROJECT_READ);
        let evidence = || {
            let project = &reach.repository.project.name;
            format!("no entry lets {} or a group of it see project {project} (GENERIC_READ)", ground.who())
        };
        Ok(missing.then(|| wrong(evidence(), ground.set_up())))
    })
}

fn read(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let missing = reach.at_repository()?.is_silent(bits::GIT_READ);
        let evidence = || {
            let GitRepository { name, project, .. } = reach.repository;
            let project = &project.name;
            format!("no entry lets {} or a group of it read repository {name} of project {project}", ground.who())
        };
        Ok(missing.then(|| wrong(evidence(), ground.set_up())))
    })
}

fn denied(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let GitRepository { name, project, .. } = reach.repository;
        let project = format!("View project-level information on project {}", project.name);
        let looks = [
            (reach.project_tokens().to_vec(), bits::PROJECT_READ, project, "permissions"),
            (reach.repository_tokens().to_vec(), bits::GIT_READ, format!("Read on repository {name}"), "repositories"),
        ];
        for (tokens, bit, what, place) in looks {
            if rights_at(reach.member, &tokens)?.deny & bit != 0 {
                let whose = denier(reach.member, &tokens, bit)?.unwrap_or_else(|| ground.who());
                let fix = format!("set it to Not set or Allow there: {}", ground.settings(place));
                return Ok(Some(wrong(format!("{what} is denied to {whose}, and a denial wins"), Fix::Do(fix))));
            }
        }
        Ok(None)
    })
}

/// The group whose entry denies a bit at the nearest token that does; nothing where it is the member's own.
fn denier(member: &Member, tokens: &[String], bit: u32) -> Result<Option<String>, String> {
    for token in tokens {
        if let Some(entry) = entries(member, token)?.iter().find(|entry| entry.access.deny & bit != 0) {
            return Ok(entry.group.clone());
        }
    }
    Ok(None)
}

fn groups(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let [_, project, all] = reach.repository_tokens();
        let mut opening: Vec<&str> = Vec::new();
        for token in [&project, &all] {
            let wide =
                entries(reach.member, token)?.iter().filter(|entry| entry.access.effective_allow & bits::GIT_READ != 0);
            opening.extend(wide.filter_map(|entry| entry.group.as_deref()));
        }
        let project = &reach.repository.project.name;
        let evidence = format!(
            "{} is in {}, which may read every repository of project {project}",
            ground.who(),
            opening.join(", ")
        );
        let fix = format!(
            "give it the one repository (flux-bearer setup --repository {}), then remove it from the group: \
             {}",
            word(&ground.repository.canonical()),
            ground.settings("permissions")
        );
        Ok((!opening.is_empty()).then(|| wrong(evidence, Fix::Do(fix))))
    })
}

fn push(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let idle = reach.at_repository()?.allow & bits::GIT_CONTRIBUTE != 0 && !is_pushed_to(facts, ground.one)?;
        let secret = ground.one.token.secret();
        let evidence = format!(
            "{} may push to repository {}, and no ImageUpdateAutomation does with Secret {}/{secret}",
            ground.who(),
            reach.repository.name,
            ground.one.token.namespace
        );
        let fix = format!(
            "unless something else pushes with it, set Contribute and Create branch to Not set: {}, the repository, Security",
            ground.settings("repositories")
        );
        Ok(idle.then(|| wrong(evidence, Fix::Do(fix))))
    })
}

/// Whether Flux pushes with the Secret of a BearerToken.
fn is_pushed_to(facts: &Facts, one: &Use<'_>) -> Result<bool, String> {
    let sources = known(&facts.repositories)?.iter().filter(|object| reads(object, one.token));
    let sources: Vec<&str> = sources.map(name).collect();
    let home = |automation: &'_ Value| match text(automation, "/spec/sourceRef/namespace") {
        "" => namespace(automation).to_owned(),
        named => named.to_owned(),
    };
    let mut automations = known(&facts.automations)?.iter();
    Ok(automations.any(|automation| {
        home(automation) == one.token.namespace && sources.contains(&text(automation, "/spec/sourceRef/name"))
    }))
}

fn rights(facts: &Facts) -> Verdict {
    each(facts, |ground| {
        let Some(reach) = ground.reach()? else { return Ok(None) };
        let allow = reach.at_repository()?.allow;
        let much: Vec<&str> = TOO_MUCH.iter().filter(|(bit, _)| allow & bit != 0).map(|(_, name)| *name).collect();
        let evidence = format!("{} may {} on repository {}", ground.who(), much.join(", "), reach.repository.name);
        let fix = format!("set them to Not set: {}, the repository, Security", ground.settings("repositories"));
        Ok((!much.is_empty()).then(|| wrong(evidence, Fix::Do(fix))))
    })
}

#[cfg(test)]
mod tests {
    use flux_bearer_azure::devops::{self, Access};

    use super::*;

    #[test]
    fn a_level_wins_over_what_it_inherits_and_a_denial_over_all_of_its_own_level() {
        let entry = |allow, deny| Entry { group: None, access: Access { allow, deny, effective_allow: 0 } };
        let over = |entries: &[Entry]| {
            let Rights { allow, deny } = Rights::over(entries, Rights { allow: 0b0011, deny: 0b0100 });
            (allow, deny)
        };
        assert_eq!(over(&[]), (0b0011, 0b0100));
        assert_eq!(over(&[entry(0b0100, 0)]), (0b0111, 0));
        assert_eq!(over(&[entry(0, 0b0001)]), (0b0010, 0b0101));
        assert_eq!(over(&[entry(0b1000, 0), entry(0, 0b1000)]), (0b0011, 0b1100));
    }

    #[test]
    fn what_azure_devops_says_of_the_member_counts_unless_it_is_denied() {
        let entry = |group: Option<&str>, allow, deny, effective_allow| Entry {
            group: group.map(str::to_owned),
            access: Access { allow, deny, effective_allow },
        };
        let at = |token: &str, entries: Vec<Entry>| (token.to_owned(), Ok(entries));
        let member = |own: Entry| Member {
            member: devops::Member {
                descriptor: String::new(),
                storage_key: String::new(),
                name: String::new(),
                client_id: None,
                is_managed_identity: true,
            },
            entitlement: Ok(None),
            groups: Ok(Vec::new()),
            entries: [at("near", vec![own, entry(Some("g"), 0, 0, 0b100)]), at("far", vec![entry(None, 0b1000, 0, 0)])]
                .into(),
        };
        let tokens = ["near".to_owned(), "far".to_owned()];
        let rights = |own| rights_at(&member(own), &tokens);
        assert_eq!(rights(entry(None, 1, 0, 0b11)), Ok(Rights { allow: 0b1011, deny: 0 }));
        assert_eq!(rights(entry(None, 1, 2, 0b11)), Ok(Rights { allow: 0b1001, deny: 2 }));
        assert!(rights_at(&member(entry(None, 0, 0, 0)), &["unseen".to_owned()]).is_err());
    }
}
