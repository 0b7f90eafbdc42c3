//! The groups that every organisation and every project has.

use crate::state::{Organization, Project, State, derived_id};

/// A group.
#[derive(Clone, Copy)]
pub(super) enum Group<'a> {
    CollectionAdministrators(&'a Organization),
    /// Everybody in the organisation.
    ValidUsers(&'a Organization),
    ProjectAdministrators(&'a Organization, &'a Project),
    Contributors(&'a Organization, &'a Project),
    Readers(&'a Organization, &'a Project),
}

impl<'a> Group<'a> {
    /// Every group there is.
    pub(super) fn all(organization: &'a Organization) -> impl Iterator<Item = Self> {
        let of_projects = organization.projects.iter().flat_map(|project| Self::of_project(organization, project));
        [Self::CollectionAdministrators(organization), Self::ValidUsers(organization)].into_iter().chain(of_projects)
    }

    /// The groups of a project.
    pub(super) fn of_project(organization: &'a Organization, project: &'a Project) -> [Self; 3] {
        [
            Self::ProjectAdministrators(organization, project),
            Self::Contributors(organization, project),
            Self::Readers(organization, project),
        ]
    }

    /// The group of this GUID.
    pub(super) fn by_id(organization: &'a Organization, id: &str) -> Option<Self> {
        Self::all(organization).find(|group| group.id().eq_ignore_ascii_case(id))
    }

    /// The group of this subject descriptor (`vssgp.…`) or identity descriptor (`Microsoft.TeamFoundation.Identity;…`).
    pub(super) fn by_descriptor(organization: &'a Organization, descriptor: &str) -> Option<Self> {
        Self::all(organization).find(|group| {
            group.subject_descriptor() == descriptor || group.descriptor().eq_ignore_ascii_case(descriptor)
        })
    }

    /// The group that `groupType` of a project entitlement means.
    pub(super) fn of_type(organization: &'a Organization, project: &'a Project, group_type: &str) -> Option<Self> {
        let all = Self::of_project(organization, project);
        all.into_iter().find(|group| group.group_type().eq_ignore_ascii_case(group_type))
    }

    /// Object ids in it. Of [`Group::ValidUsers`], which holds all members, none is listed.
    pub(super) fn members(self) -> &'a [String] {
        match self {
            Self::CollectionAdministrators(organization) => &organization.administrators,
            Self::ValidUsers(_) => &[],
            Self::ProjectAdministrators(_, project) => &project.administrators,
            Self::Contributors(_, project) => &project.groups.contributors,
            Self::Readers(_, project) => &project.groups.readers,
        }
    }

    pub(super) fn project(self) -> Option<&'a Project> {
        match self {
            Self::CollectionAdministrators(_) | Self::ValidUsers(_) => None,
            Self::ProjectAdministrators(_, project) | Self::Contributors(_, project) | Self::Readers(_, project) => {
                Some(project)
            }
        }
    }

    pub(super) fn is_of(self, project: &Project) -> bool {
        self.project().is_some_and(|own| std::ptr::eq(own, project))
    }

    fn organization(self) -> &'a Organization {
        match self {
            Self::CollectionAdministrators(organization)
            | Self::ValidUsers(organization)
            | Self::ProjectAdministrators(organization, _)
            | Self::Contributors(organization, _)
            | Self::Readers(organization, _) => organization,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CollectionAdministrators(_) => "Project Collection Administrators",
            Self::ValidUsers(_) => "Project Collection Valid Users",
            Self::ProjectAdministrators(..) => "Project Administrators",
            Self::Contributors(..) => "Contributors",
            Self::Readers(..) => "Readers",
        }
    }

    /// What entitlements call it.
    pub(super) fn group_type(self) -> &'static str {
        match self {
            Self::CollectionAdministrators(_) | Self::ValidUsers(_) => "custom",
            Self::ProjectAdministrators(..) => "projectAdministrator",
            Self::Contributors(..) => "projectContributor",
            Self::Readers(..) => "projectReader",
        }
    }

    /// `[Project]\Readers`, `[organisation]\Project Collection Administrators`.
    pub(super) fn principal_name(self) -> String {
        let scope = self.project().map_or(self.organization().name.as_str(), |project| project.name.as_str());
        format!("[{scope}]\\{}", self.name())
    }

    /// The scope that it is of, as a `vstfs` URL.
    pub(super) fn domain(self) -> String {
        let organization = self.organization();
        match self.project() {
            Some(project) => format!("vstfs:///Classification/TeamProject/{}", organization.project_id(project)),
            None => format!("vstfs:///Framework/IdentityDomain/{}", organization.id()),
        }
    }

    /// Its GUID.
    pub(super) fn id(self) -> String {
        let project = self.project().map_or("", |project| project.name.as_str());
        derived_id(&[&self.organization().name, project, "group", self.name()])
    }

    /// `S-1-9-1551374245-…`: numbers that follow from its GUID.
    fn sid(self) -> String {
        let hex = self.id().replace('-', "");
        let number =
            |at: usize| hex.get(at..at + 8).and_then(|part| u32::from_str_radix(part, 16).ok()).unwrap_or_default();
        format!("S-1-9-1551374245-{}-{}-{}-{}", number(0), number(8), number(16), number(24))
    }

    /// `vssgp.…`.
    pub(super) fn subject_descriptor(self) -> String {
        super::principals::descriptor("vssgp", &self.sid())
    }

    /// `Microsoft.TeamFoundation.Identity;S-1-9-…`.
    pub(super) fn descriptor(self) -> String {
        format!("Microsoft.TeamFoundation.Identity;{}", self.sid())
    }

    /// What of the state lists its members.
    fn place(self) -> Place {
        let index = |project: &Project| {
            let mut all = self.organization().projects.iter();
            all.position(|one| std::ptr::eq(one, project)).unwrap_or(usize::MAX)
        };
        match self {
            Self::CollectionAdministrators(_) => Place::CollectionAdministrators,
            Self::ValidUsers(_) => Place::Nowhere,
            Self::ProjectAdministrators(_, project) => Place::ProjectAdministrators(index(project)),
            Self::Contributors(_, project) => Place::Contributors(index(project)),
            Self::Readers(_, project) => Place::Readers(index(project)),
        }
    }

    /// Where its members are listed, to change them once nothing is borrowed from the organisation any more.
    pub(super) fn list(self) -> List {
        List { organization: self.organization().name.clone(), place: self.place() }
    }
}

/// The list of a group's members in a state.
pub(super) struct List {
    organization: String,
    place: Place,
}

enum Place {
    CollectionAdministrators,
    ProjectAdministrators(usize),
    Contributors(usize),
    Readers(usize),
    Nowhere,
}

impl List {
    /// Adds a member, unless it is one.
    pub(super) fn add(&self, state: &mut State, object_id: &str) {
        if let Some(list) = self.of(state).filter(|list| !crate::state::holds(list, object_id)) {
            list.push(object_id.to_owned());
        }
    }

    /// Removes a member.
    pub(super) fn remove(&self, state: &mut State, object_id: &str) {
        if let Some(list) = self.of(state) {
            list.retain(|one| !one.eq_ignore_ascii_case(object_id));
        }
    }

    fn of<'a>(&self, state: &'a mut State) -> Option<&'a mut Vec<String>> {
        let organization = state.organizations.iter_mut().find(|one| one.name == self.organization)?;
        match self.place {
            Place::CollectionAdministrators => Some(&mut organization.administrators),
            Place::ProjectAdministrators(at) => Some(&mut organization.projects.get_mut(at)?.administrators),
            Place::Contributors(at) => Some(&mut organization.projects.get_mut(at)?.groups.contributors),
            Place::Readers(at) => Some(&mut organization.projects.get_mut(at)?.groups.readers),
            Place::Nowhere => None,
        }
    }
}
