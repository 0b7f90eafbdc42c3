//! The same of subscriptions.

use super::{Checked, guid, unique, wrong};
use crate::state::{Kind, ManagedCluster, State, Subscription, UserAssignedIdentity};

impl Subscription {
    pub(super) fn check(&self, state: &State, at: &str) -> Checked {
        guid(&format!("{at}.id"), &self.id)?;
        if state.tenant(&self.tenant_id).is_none() {
            let fault = format!("there is no tenant `{}`", self.tenant_id);
            return Err(wrong(format!("{at}.tenantId"), fault, "add it to `tenants`"));
        }
        if self.page_size == 0 {
            return Err(wrong(format!("{at}.pageSize"), "a page of 0 entries never ends", "write 1 or more"));
        }
        self.check_groups(at)?;
        self.check_identities(state, &format!("{at}.identities"))?;
        for (index, cluster) in self.managed_clusters.iter().enumerate() {
            cluster.check(&format!("{at}.managedClusters[{index}]"))?;
        }
        for (index, assignment) in self.role_assignments.iter().enumerate() {
            guid(&format!("{at}.roleAssignments[{index}].objectId"), &assignment.object_id)?;
        }
        let providers = self.providers.iter().map(|provider| provider.namespace.as_str());
        unique(&format!("{at}.providers"), "namespace", providers)
    }

    /// Checks the groups, and that everything is in one of them.
    fn check_groups(&self, at: &str) -> Checked {
        let names = self.resource_groups.iter().map(|group| group.name.as_str());
        unique(&format!("{at}.resourceGroups"), "name", names)?;
        let identities = self.identities.iter().map(|one| ("identities", &one.resource_group));
        let clusters = self.managed_clusters.iter().map(|one| ("managedClusters", &one.resource_group));
        let assignments = self.role_assignments.iter().filter_map(|one| one.resource_group.as_ref());
        let locks = self.locks.iter().filter_map(|one| one.resource_group.as_ref());
        let scopes = assignments.map(|group| ("roleAssignments", group)).chain(locks.map(|group| ("locks", group)));
        for (list, group) in identities.chain(clusters).chain(scopes) {
            if self.resource_group(group).is_none() {
                let fault = format!("there is no resource group `{group}`");
                return Err(wrong(format!("{at}.{list}[].resourceGroup"), fault, "add it to `resourceGroups`"));
            }
        }
        Ok(())
    }

    fn check_identities(&self, state: &State, at: &str) -> Checked {
        let ids: Vec<String> =
            self.identities.iter().map(|one| self.identity_id(&one.resource_group, &one.name)).collect();
        unique(at, "name", ids.iter().map(String::as_str))?;
        unique(at, "clientId", self.identities.iter().map(|one| one.client_id.as_str()))?;
        for (index, identity) in self.identities.iter().enumerate() {
            let at = format!("{at}[{index}]");
            identity.check(&at)?;
            let tenant = state.tenant(&self.tenant_id);
            let application = tenant.and_then(|tenant| tenant.application(&identity.client_id));
            if application.is_none_or(|application| application.kind != Kind::ManagedIdentity) {
                let fault = format!("`{}` is no managed identity of the subscription's tenant", identity.client_id);
                let fix = "write the clientId of an application of kind ManagedIdentity";
                return Err(wrong(format!("{at}.clientId"), fault, fix));
            }
        }
        Ok(())
    }
}

impl UserAssignedIdentity {
    fn check(&self, at: &str) -> Checked {
        if !Self::is_name(&self.name) {
            let fix = "use 3 to 128 letters, digits, `-` and `_`, the first a letter or digit";
            return Err(wrong(format!("{at}.name"), format!("`{}` is no name for an identity", self.name), fix));
        }
        Ok(())
    }

    /// Whether an identity may have this name.
    pub(crate) fn is_name(name: &str) -> bool {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && (3..=128).contains(&name.len())
    }
}

impl ManagedCluster {
    fn check(&self, at: &str) -> Checked {
        match &self.issuer_url {
            Some(url) if !url.starts_with("https://") => {
                let fault = format!("`{url}` is no https URL");
                Err(wrong(format!("{at}.issuerUrl"), fault, "write the claim `iss`, or leave it out"))
            }
            _ => Ok(()),
        }
    }
}
