//! Removes what runs have made. It keeps no list: what is there is found by its tag and its name, so it makes no
//! difference whether a run ended well, failed, or was killed.

use std::time::Duration;

use anyhow::Context;
use flux_bearer_azure::devops::{Namespace, project_token, repository_token};
use flux_bearer_azure::operator::Resource;
use serde_json::Value;
use tokio::time::sleep;

use crate::azure::{Azure, url};

/// The tag on every resource group of a run; its value is the run's id.
pub const TAG: &str = "flux-bearer-live";

/// What every name that a run gives begins with; the run's id follows. Members of an organisation have no tags.
pub const PREFIX: &str = "flux-bearer-live-";

/// The step under which its answers are.
pub const STEP: &str = "clean";

/// Between two looks at whether a resource group is gone, and how often it is looked.
const LOOK: Duration = Duration::from_secs(10);
const LOOKS: u32 = 90;

/// Whose things are meant.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Those of one run, and of it the member with this storage key, which lists may not show yet.
    Run(&'a str, Option<&'a str>),
    /// Those of every run there ever was.
    Any,
}

impl Whose<'_> {
    fn owns(self, run: &str) -> bool {
        match self {
            Self::Run(id, _) => id == run,
            Self::Any => true,
        }
    }
}

/// Removes them, members first: without their identity they could no longer be told from others. Goes on after a
/// failure, and gives the names of what is gone.
///
/// # Errors
/// What could not be removed: every failure, in the end.
pub async fn clean(azure: &Azure, whose: Whose<'_>) -> anyhow::Result<Vec<String>> {
    azure.recorder.step(STEP);
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    let mut keep = |what: String, done: anyhow::Result<()>| match done {
        Ok(()) => gone.push(what),
        Err(failure) => failures.push(format!("{what}: {failure:#}")),
    };
    match members(azure, whose).await {
        Ok(members) => {
            for (name, object_id) in members {
                keep(format!("member {name}"), remove_member(azure, &object_id).await);
            }
        }
        Err(failure) => keep("the members of the organisation".to_owned(), Err(failure)),
    }
    if let Whose::Run(id, Some(key)) = whose {
        let deleted = azure.devops.delete_entitlement(key).await.map_err(Into::into);
        keep(format!("entitlement of {PREFIX}{id}"), deleted);
    }
    match groups(azure, whose).await {
        Ok(groups) => {
            for name in groups {
                keep(format!("resource group {name}"), remove_group(azure, &name).await);
            }
        }
        Err(failure) => keep("the resource groups".to_owned(), Err(failure)),
    }
    anyhow::ensure!(failures.is_empty(), "not removed: {}", failures.join("; "));
    Ok(gone)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Name and object id of each member that a run has added.
async fn members(azure: &Azure, whose: Whose<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let segments = [&azure.settings.organization, "_apis", "graph", "serviceprincipals"];
    let url = url("vssps.dev.azure.com", &segments, &[("api-version", "7.1-preview.1")])?;
    let all = azure.list(Resource::AzureDevOps, &url).await?;
    let ours =
        all.iter().filter(|one| text(one, "/displayName").strip_prefix(PREFIX).is_some_and(|run| whose.owns(run)));
    Ok(ours.map(|one| (text(one, "/displayName").to_owned(), text(one, "/originId").to_owned())).collect())
}

/// Takes back a member's rights and its licence. Entries outlive the member they are of.
async fn remove_member(azure: &Azure, object_id: &str) -> anyhow::Result<()> {
    let devops = &azure.devops;
    let Some(member) = devops.service_principal(object_id).await? else { return Ok(()) };
    if let Some(identity) = devops.identity_descriptor(&member.descriptor).await? {
        for (namespace, token) in tokens(azure).await? {
            devops.revoke(namespace, &token, &identity).await?;
        }
    }
    Ok(devops.delete_entitlement(&member.storage_key).await?)
}

/// Where a run gives rights: the project and the repository.
///
/// # Errors
/// That they are not there, or may not be seen.
pub async fn tokens(azure: &Azure) -> anyhow::Result<[(Namespace, String); 2]> {
    let (project, repository) = (&azure.settings.project, &azure.settings.repository);
    let found = azure.devops.repository(project, repository).await?;
    let repository = found.with_context(|| format!("there is no repository {repository} in project {project}"))?;
    Ok([
        (Namespace::PROJECT, project_token(&repository.project.id)),
        (Namespace::GIT_REPOSITORIES, repository_token(&repository.project.id, &repository.id)),
    ])
}

/// Names of the resource groups that a run has made: both tag and name have to say so.
async fn groups(azure: &Azure, whose: Whose<'_>) -> anyhow::Result<Vec<String>> {
    let segments = ["subscriptions", &azure.settings.subscription, "resourcegroups"];
    // Whatever else the subscription has is nobody's business.
    let filter = format!("tagName eq '{TAG}'");
    let url = url("management.azure.com", &segments, &[("$filter", &filter), ("api-version", "2025-04-01")])?;
    let all = azure.list(Resource::Arm, &url).await?;
    let is_ours = |group: &&Value| {
        let run = text(group, "/tags/flux-bearer-live");
        !run.is_empty() && whose.owns(run) && text(group, "/name").strip_prefix(PREFIX) == Some(run)
    };
    Ok(all.iter().filter(is_ours).map(|group| text(group, "/name").to_owned()).collect())
}

/// Deletes a resource group with the identity in it, and waits until it is gone.
async fn remove_group(azure: &Azure, name: &str) -> anyhow::Result<()> {
    azure.arm.delete_resource_group(name).await?;
    for _ in 0..LOOKS {
        if azure.arm.resource_group(name).await?.is_none() {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    anyhow::bail!("still there")
}
