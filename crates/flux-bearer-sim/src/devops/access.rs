//! Who may do what in an organisation: security namespaces, the entries that apply at a token, and what follows.
//!
//! At one token a denial wins over an allowance, whether it is the identity's own or that of a group it is in; what
//! neither allows nor denies is inherited from the token above. Groups and the short lists of the state (`readers`,
//! `contributors`, `administrators`) count as entries like those that were written.

use std::cell::LazyCell;

use jiff::{SignedDuration, Timestamp};

use super::groups::Group;
use crate::state::{AccessControlEntry, Namespace, Organization, Project, Repository, holds};

/// Bits of the namespace of Git repositories.
pub(super) mod git {
    pub(in crate::devops) const READ: u32 = 2;
    pub(in crate::devops) const CONTRIBUTE: u32 = 4;
    pub(in crate::devops) const CREATE_BRANCH: u32 = 16;
    pub(in crate::devops) const CREATE_REPOSITORY: u32 = 256;
    pub(in crate::devops) const DELETE_REPOSITORY: u32 = 512;
    pub(in crate::devops) const MANAGE_PERMISSIONS: u32 = 8192;
    /// What Contributors have: also tags, notes and pull requests.
    pub(super) const CONTRIBUTORS: u32 = READ | CONTRIBUTE | CREATE_BRANCH | 32 | 64 | 16384;
    /// Every bit that is documented, up to those of Advanced Security.
    pub(super) const ALL: u32 = (1 << 18) - 1;
}

/// Bits of the namespace of projects.
pub(super) mod project {
    pub(in crate::devops) const READ: u32 = 1;
    pub(in crate::devops) const WRITE: u32 = 2;
    pub(super) const ALL: u32 = ((1 << 25) - 1) & !(1 << 10);
}

/// Bits of the namespace of the organisation.
pub(super) mod collection {
    pub(super) const READ: u32 = 1;
    pub(in crate::devops) const CREATE_PROJECTS: u32 = 4;
    pub(super) const ALL: u32 = 7;
}

/// Allowed and denied bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) allow: u32,
    pub(super) deny: u32,
}

impl Masks {
    fn allowing(allow: u32) -> Self {
        Self { allow, deny: 0 }
    }

    fn with(self, other: Self) -> Self {
        Self { allow: self.allow | other.allow, deny: self.deny | other.deny }
    }

    fn allows(self, bits: u32) -> bool {
        self.allow & bits == bits
    }

    /// These, where they say something, else what is inherited.
    fn over(self, inherited: Self) -> Self {
        let allow = self.allow & !self.deny;
        let open = !(allow | self.deny);
        Self { allow: allow | (inherited.allow & open), deny: self.deny | (inherited.deny & open) }
    }
}

/// A token, and what of the organisation it stands for.
#[derive(Clone, Debug)]
pub(super) struct Level<'a> {
    pub(super) namespace: Namespace,
    pub(super) token: String,
    project: Option<&'a Project>,
    repository: Option<&'a Repository>,
}

impl Level<'_> {
    /// The token above all others.
    fn root(namespace: Namespace) -> Self {
        Self { namespace, token: namespace.root().to_owned(), project: None, repository: None }
    }

    fn is_root(&self) -> bool {
        self.token == self.namespace.root()
    }
}

/// Whoever an entry can be of.
#[derive(Clone, Copy)]
enum Holder<'a> {
    /// An object id.
    Identity(&'a str),
    Group(Group<'a>),
}

impl Holder<'_> {
    fn id(self) -> String {
        match self {
            Self::Identity(object_id) => object_id.to_owned(),
            Self::Group(group) => group.id(),
        }
    }
}

/// The rights in an organisation at a time.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    organization: &'a Organization,
    /// Entries that were written later are not seen.
    until: Timestamp,
}

impl<'a> Access<'a> {
    /// The rights that are in force now.
    pub(super) fn new(organization: &'a Organization, now: Timestamp) -> Self {
        let delay = SignedDuration::from_secs(i64::from(organization.acl_delay_seconds));
        Self { organization, until: now.saturating_sub(delay).unwrap_or(now) }
    }

    /// The rights as they are stored, in force or not yet.
    pub(super) fn stored(organization: &'a Organization) -> Self {
        Self { organization, until: Timestamp::MAX }
    }

    /// Whether the identity may see the project.
    pub(super) fn sees(self, object_id: &str, project: &'a Project) -> bool {
        let token = project_token(&self.organization.project_id(project));
        let own = Level { namespace: Namespace::Project, token, project: Some(project), repository: None };
        let levels = [own, Level::root(Namespace::Project)];
        self.granted(&self.holders(object_id), &levels).allows(project::READ)
    }

    /// Whether the identity has all of these bits at this repository.
    pub(super) fn may(self, object_id: &str, project: &'a Project, repository: &'a Repository, bits: u32) -> bool {
        let above = format!("repoV2/{}", self.organization.project_id(project));
        let token = format!("{above}/{}", self.organization.repository_id(project, repository));
        let level = |token, repository| Level { namespace: Namespace::Git, token, project: Some(project), repository };
        let levels = [level(token, Some(repository)), level(above, None), Level::root(Namespace::Git)];
        self.granted(&self.holders(object_id), &levels).allows(bits)
    }

    /// Whether the identity has all of these bits at this token.
    pub(super) fn allows(self, object_id: &str, namespace: Namespace, token: &str, bits: u32) -> bool {
        self.granted(&self.holders(object_id), &self.levels(namespace, token)).allows(bits)
    }

    /// Whether the identity is a Project Collection Administrator.
    pub(super) fn is_administrator(self, object_id: &str) -> bool {
        holds(&self.organization.administrators, object_id)
    }

    /// Whether the identity may change the entries at this token.
    pub(super) fn manages(self, object_id: &str, namespace: Namespace, token: &str) -> bool {
        let bits = match namespace {
            Namespace::Git => git::MANAGE_PERMISSIONS,
            Namespace::Project => project::WRITE,
            Namespace::Collection => return self.is_administrator(object_id),
        };
        self.is_administrator(object_id) || self.allows(object_id, namespace, token, bits)
    }

    /// What follows for an identity or group at this token, inherited rights included.
    pub(super) fn effective(self, id: &str, namespace: Namespace, token: &str) -> Masks {
        self.granted(&self.holders_named(id), &self.levels(namespace, token))
    }

    /// What an identity or group inherits at this token.
    pub(super) fn inherited(self, id: &str, namespace: Namespace, token: &str) -> Masks {
        self.granted(&self.holders_named(id), self.levels(namespace, token).get(1..).unwrap_or_default())
    }

    fn granted(self, holders: &[Holder<'_>], levels: &[Level<'a>]) -> Masks {
        levels.iter().rev().fold(Masks::default(), |inherited, level| {
            let own = holders.iter().map(|holder| self.own_of(level, *holder));
            own.fold(Masks::default(), Masks::with).over(inherited)
        })
    }

    /// The identity and the groups that it is in.
    fn holders<'b>(self, object_id: &'b str) -> Vec<Holder<'b>>
    where
        'a: 'b,
    {
        let is_member = self.organization.member(object_id).is_some();
        let groups = Group::all(self.organization)
            .filter(|group| holds(group.members(), object_id) || (is_member && matches!(group, Group::ValidUsers(_))));
        std::iter::once(Holder::Identity(object_id)).chain(groups.map(Holder::Group)).collect()
    }

    /// The same of an object id, or the group of a GUID alone.
    fn holders_named<'b>(self, id: &'b str) -> Vec<Holder<'b>>
    where
        'a: 'b,
    {
        match Group::by_id(self.organization, id) {
            Some(group) => vec![Holder::Group(group)],
            None => self.holders(id),
        }
    }

    /// The token and those above it, most specific first.
    pub(super) fn levels(self, namespace: Namespace, token: &str) -> Vec<Level<'a>> {
        let token = token.trim_end_matches('/');
        let level = |token: &str| {
            let (project, repository) = self.place(namespace, token);
            Level { namespace, token: token.to_owned(), project, repository }
        };
        let root = Level::root(namespace);
        let tokens = match namespace {
            Namespace::Git => token.match_indices('/').map(|(at, _)| at).chain([token.len()]).collect(),
            Namespace::Project | Namespace::Collection => vec![token.len()],
        };
        let tokens = tokens.into_iter().rev().filter_map(|end| token.get(..end));
        let own: Vec<_> = tokens.filter(|token| !token.eq_ignore_ascii_case(&root.token)).map(level).collect();
        own.into_iter().chain([root]).collect()
    }

    /// The project and repository that a token stands for.
    fn place(self, namespace: Namespace, token: &str) -> (Option<&'a Project>, Option<&'a Repository>) {
        let organization = self.organization;
        let by_id =
            |id: &str| organization.projects.iter().find(|one| organization.project_id(one).eq_ignore_ascii_case(id));
        match namespace {
            Namespace::Collection => (None, None),
            Namespace::Project => (token.rsplit_once('/').and_then(|(_, id)| by_id(id)), None),
            Namespace::Git => {
                let mut parts = token.split('/').skip(1);
                let project = parts.next().and_then(by_id);
                let repository = parts.next().zip(project).and_then(|(id, project)| {
                    let mut all = project.repositories.iter();
                    all.find(|one| organization.repository_id(project, one).eq_ignore_ascii_case(id))
                });
                match parts.next() {
                    None => (project, repository),
                    // What is below a repository has entries of its own only.
                    Some(_) => (None, None),
                }
            }
        }
    }

    /// Where in the state the project and repository are that a token stands for.
    pub(super) fn place_of(self, namespace: Namespace, token: &str) -> (Option<usize>, Option<usize>) {
        let (project, repository) = self.place(namespace, token.trim_end_matches('/'));
        let at = project.and_then(|own| self.organization.projects.iter().position(|one| std::ptr::eq(own, one)));
        let within = project.zip(repository);
        let position =
            within.and_then(|(project, own)| project.repositories.iter().position(|one| std::ptr::eq(own, one)));
        (at, position)
    }

    /// What the entries of one identity or group at one token say.
    pub(super) fn own(self, level: &Level<'a>, id: &str) -> Masks {
        let group = Group::by_id(self.organization, id).map(Holder::Group);
        self.own_of(level, group.unwrap_or(Holder::Identity(id)))
    }

    fn own_of(self, level: &Level<'a>, holder: Holder<'_>) -> Masks {
        // The GUID of a group takes a digest, and most organisations have no written entry to compare it with.
        let id = LazyCell::new(|| holder.id());
        let written = self.written(level).filter(|entry| entry.object_id.eq_ignore_ascii_case(&id));
        let written = written.map(|entry| Masks { allow: entry.allow, deny: entry.deny });
        written.fold(Masks::allowing(implied(level, holder)), Masks::with)
    }

    /// The written entries at a token that are old enough to be seen.
    fn written(self, level: &Level<'a>) -> impl Iterator<Item = &'a AccessControlEntry> {
        let (namespace, token, until) = (level.namespace, level.token.clone(), self.until);
        let at =
            self.organization.access_control.iter().filter(move |entry| entry.is(namespace, &token, &entry.object_id));
        at.filter(move |entry| entry.since.is_none_or(|since| since <= until))
    }

    /// Everyone who has an entry at this token, with what it says.
    pub(super) fn entries(self, level: &Level<'a>) -> Vec<(String, Masks)> {
        let groups = Group::all(self.organization).map(Group::id);
        let readers = level.project.filter(|_| level.namespace == Namespace::Project).map(|one| one.readers.iter());
        let listed = level.repository.map(|one| one.readers.iter().chain(&one.contributors));
        let written = self.written(level).map(|entry| entry.object_id.clone());
        let ids = groups
            .chain(readers.into_iter().flatten().cloned())
            .chain(listed.into_iter().flatten().cloned())
            .chain(written);
        let mut entries: Vec<(String, Masks)> = Vec::new();
        for id in ids {
            let masks = self.own(level, &id);
            let is_known = entries.iter().any(|(known, _)| known.eq_ignore_ascii_case(&id));
            if !is_known && masks != Masks::default() {
                entries.push((id, masks));
            }
        }
        entries
    }

    /// This token and those below it; below none are all.
    pub(super) fn below(self, namespace: Namespace, token: &str) -> Vec<Level<'a>> {
        let organization = self.organization;
        let known = organization.projects.iter().flat_map(|project| {
            let id = organization.project_id(project);
            let repositories = project.repositories.iter();
            let repositories =
                repositories.map(|one| format!("repoV2/{id}/{}", organization.repository_id(project, one)));
            match namespace {
                Namespace::Git => [format!("repoV2/{id}")].into_iter().chain(repositories).collect(),
                Namespace::Project => vec![project_token(&id)],
                Namespace::Collection => Vec::new(),
            }
        });
        let written = organization.access_control.iter().filter(|entry| entry.namespace == namespace);
        let mut tokens: Vec<String> = Vec::new();
        let root = [namespace.root().to_owned()];
        for token in
            root.into_iter().chain(known).chain(written.map(|entry| entry.token.trim_end_matches('/').to_owned()))
        {
            if !tokens.iter().any(|other| other.eq_ignore_ascii_case(&token)) {
                tokens.push(token);
            }
        }
        let separators = ['/', ':'];
        let above = token.trim_end_matches('/').to_lowercase();
        let is_below = |one: &String| {
            let one = one.to_lowercase();
            let rest = one.strip_prefix(&above);
            rest.is_some_and(|rest| above.is_empty() || rest.is_empty() || rest.starts_with(separators))
        };
        let chosen = tokens.iter().filter(|one| is_below(one));
        chosen.filter_map(|token| self.levels(namespace, token).into_iter().next()).collect()
    }
}

/// What the short lists and the groups of the organisation amount to.
fn implied(level: &Level<'_>, holder: Holder<'_>) -> u32 {
    match (level.namespace, holder, level.project, level.repository) {
        (namespace, Holder::Group(Group::CollectionAdministrators(_)), None, None) if level.is_root() => {
            match namespace {
                Namespace::Git => git::ALL,
                Namespace::Project => project::ALL,
                Namespace::Collection => collection::ALL,
            }
        }
        (Namespace::Collection, Holder::Group(Group::ValidUsers(_)), ..) if level.is_root() => collection::READ,
        (Namespace::Git, Holder::Group(group), Some(project), None) if group.is_of(project) => match group {
            Group::ProjectAdministrators(..) => git::ALL,
            Group::Contributors(..) => git::CONTRIBUTORS,
            _ => git::READ,
        },
        (Namespace::Project, Holder::Group(group), Some(project), _) if group.is_of(project) => match group {
            Group::ProjectAdministrators(..) => project::ALL,
            _ => project::READ,
        },
        (Namespace::Project, Holder::Identity(id), Some(project), _) if holds(&project.readers, id) => project::READ,
        (Namespace::Git, Holder::Identity(id), _, Some(repository)) => listed(repository, id),
        _ => 0,
    }
}

/// What the short lists of a repository say of an identity.
fn listed(repository: &Repository, object_id: &str) -> u32 {
    if holds(&repository.contributors, object_id) {
        git::READ | git::CONTRIBUTE | git::CREATE_BRANCH
    } else if holds(&repository.readers, object_id) {
        git::READ
    } else {
        0
    }
}

/// The token of a project in the namespace of projects.
pub(super) fn project_token(id: &str) -> String {
    format!("$PROJECT:vstfs:///Classification/TeamProject/{id}")
}

impl Namespace {
    /// The namespace of this GUID.
    pub(super) fn of_id(id: &str) -> Option<Self> {
        [Self::Git, Self::Project, Self::Collection].into_iter().find(|one| one.id().eq_ignore_ascii_case(id))
    }

    /// The token above all others.
    fn root(self) -> &'static str {
        match self {
            Self::Git => "repoV2",
            Self::Project => "$PROJECT",
            Self::Collection => "NAMESPACE:",
        }
    }

    /// Its GUID.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Git => "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87",
            Self::Project => "52d39943-cb85-4d7f-8fa8-c6baac873819",
            Self::Collection => "3e65f728-f8bc-4ecd-8764-7e378b19bfa7",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_overrides_what_it_inherits_and_a_denial_wins_at_its_own() {
        let masks = |allow, deny| Masks { allow, deny };
        let inherited = masks(0b011, 0b100);
        assert_eq!(masks(0, 0).over(inherited), inherited);
        assert_eq!(masks(0b100, 0).over(inherited), masks(0b111, 0));
        assert_eq!(masks(0, 0b001).over(inherited), masks(0b010, 0b101));
        assert_eq!(masks(0b001, 0b001).over(inherited), masks(0b010, 0b101));
    }
}
