//! The same of organisations.

use super::{Checked, guid, guids, is_zero, optional_guid, unique, wrong};
use crate::state::{Licence, Organization, Project, State};

impl Organization {
    pub(super) fn check(&self, state: &State, at: &str) -> Checked {
        let field = format!("{at}.tenantId");
        guid(&field, &self.tenant_id)?;
        if !is_zero(&self.tenant_id) && state.tenant(&self.tenant_id).is_none() {
            let fault = format!("there is no tenant `{}`", self.tenant_id);
            return Err(wrong(field, fault, "add it to `tenants`, or write the all-zero GUID for Microsoft accounts"));
        }
        unique(&format!("{at}.members"), "objectId", self.members.iter().map(|one| one.object_id.as_str()))?;
        for (index, member) in self.members.iter().enumerate() {
            guid(&format!("{at}.members[{index}].objectId"), &member.object_id)?;
        }
        self.check_members(&format!("{at}.administrators"), &self.administrators)?;
        self.check_licences(at)?;
        self.check_entries(&format!("{at}.accessControl"))?;
        self.check_tokens(state, &format!("{at}.personalAccessTokens"))?;
        unique(&format!("{at}.projects"), "name", self.projects.iter().map(|one| one.name.as_str()))?;
        for (index, project) in self.projects.iter().enumerate() {
            let at = format!("{at}.projects[{index}]");
            project.check(&at)?;
            self.check_members(&format!("{at}.administrators"), &project.administrators)?;
            self.check_members(&format!("{at}.groups.readers"), &project.groups.readers)?;
            self.check_members(&format!("{at}.groups.contributors"), &project.groups.contributors)?;
        }
        Ok(())
    }

    /// Checks that everyone in this list is a member.
    fn check_members(&self, field: &str, ids: &[String]) -> Checked {
        guids(field, ids)?;
        match ids.iter().find(|id| self.member(id).is_none()) {
            Some(id) => Err(wrong(field, format!("`{id}` is no member"), "add it to the `members`")),
            None => Ok(()),
        }
    }

    fn check_licences(&self, at: &str) -> Checked {
        let taken = self.members.iter().filter(|member| member.licence == Licence::Basic).count();
        match self.basic_licences.and_then(|most| usize::try_from(most).ok()) {
            Some(most) if most < taken => {
                let fault = format!("there are {taken} members with a Basic licence");
                Err(wrong(format!("{at}.basicLicences"), fault, "write at least as many, or leave it out"))
            }
            _ => Ok(()),
        }
    }

    fn check_entries(&self, at: &str) -> Checked {
        let keys = self.access_control.iter().map(|one| format!("{:?} {} {}", one.namespace, one.token, one.object_id));
        let keys: Vec<String> = keys.collect();
        unique(at, "objectId", keys.iter().map(String::as_str))?;
        for (index, entry) in self.access_control.iter().enumerate() {
            guid(&format!("{at}[{index}].objectId"), &entry.object_id)?;
            if entry.token.is_empty() {
                return Err(wrong(format!("{at}[{index}].token"), "it is empty", "write it"));
            }
        }
        Ok(())
    }

    fn check_tokens(&self, state: &State, at: &str) -> Checked {
        for (index, token) in self.personal_access_tokens.iter().enumerate() {
            let field = format!("{at}[{index}].objectId");
            guid(&field, &token.object_id)?;
            if state.principal(&token.object_id).is_some() {
                let fault =
                    format!("`{}` is an application, which can't have a personal access token", token.object_id);
                return Err(wrong(field, fault, "write the object id of a member that is a user"));
            }
        }
        Ok(())
    }
}

impl Project {
    fn check(&self, at: &str) -> Checked {
        optional_guid(&format!("{at}.id"), self.id.as_ref())?;
        guids(&format!("{at}.readers"), &self.readers)?;
        unique(&format!("{at}.repositories"), "name", self.repositories.iter().map(|one| one.name.as_str()))?;
        for (index, repository) in self.repositories.iter().enumerate() {
            let at = format!("{at}.repositories[{index}]");
            optional_guid(&format!("{at}.id"), repository.id.as_ref())?;
            guids(&format!("{at}.readers"), &repository.readers)?;
            guids(&format!("{at}.contributors"), &repository.contributors)?;
            check_head(&at, repository.head.as_deref())?;
        }
        Ok(())
    }
}

fn check_head(at: &str, head: Option<&str>) -> Checked {
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match head {
        Some(head) if !is_commit(head) => {
            Err(wrong(format!("{at}.head"), format!("`{head}` is no commit"), "write its 40 lower-case hex digits"))
        }
        _ => Ok(()),
    }
}
