//! Security namespaces and access control entries, with each answer as api-version 7.1 gives it.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::{Access, Level, Masks};
use super::answer::{ErrorType, json};
use super::call::Call;
use super::caller::Identity;
use super::groups::Group;
use super::principals::Principal;
use super::rest::list;
use super::{Denied, Exchange, Served, organization_mut};
use crate::state::{AccessControlEntry, Namespace, Organization};

/// Actions of a namespace in the order of their bits, which are the powers of two; an empty name is a bit that is not
/// used.
const GIT: [&str; 18] = [
    "Administer",
    "GenericRead",
    "GenericContribute",
    "ForcePush",
    "CreateBranch",
    "CreateTag",
    "ManageNote",
    "PolicyExempt",
    "CreateRepository",
    "DeleteRepository",
    "RenameRepository",
    "EditPolicies",
    "RemoveOthersLocks",
    "ManagePermissions",
    "PullRequestContribute",
    "PullRequestBypassPolicy",
    "ViewAdvSecAlerts",
    "DismissAdvSecAlerts",
];
const PROJECT: [&str; 25] = [
    "GENERIC_READ",
    "GENERIC_WRITE",
    "DELETE",
    "PUBLISH_TEST_RESULTS",
    "ADMINISTER_BUILD",
    "START_BUILD",
    "EDIT_BUILD_STATUS",
    "UPDATE_BUILD",
    "DELETE_TEST_RESULTS",
    "VIEW_TEST_RESULTS",
    "",
    "MANAGE_TEST_ENVIRONMENTS",
    "MANAGE_TEST_CONFIGURATIONS",
    "WORK_ITEM_DELETE",
    "WORK_ITEM_MOVE",
    "WORK_ITEM_PERMANENTLY_DELETE",
    "RENAME",
    "MANAGE_PROPERTIES",
    "MANAGE_SYSTEM_PROPERTIES",
    "BYPASS_PROPERTY_CACHE",
    "BYPASS_RULES",
    "SUPPRESS_NOTIFICATIONS",
    "UPDATE_VISIBILITY",
    "CHANGE_PROCESS",
    "AGILETOOLS_BACKLOG",
];
const COLLECTION: [&str; 3] = ["GENERIC_READ", "GENERIC_WRITE", "CREATE_PROJECTS"];

/// Entries to be set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    token: String,
    #[serde(default)]
    merge: bool,
    access_control_entries: Vec<WantedEntry>,
}

#[derive(Deserialize)]
struct WantedEntry {
    descriptor: String,
    #[serde(default)]
    allow: u32,
    #[serde(default)]
    deny: u32,
}

/// Permissions to be evaluated.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    #[serde(default)]
    always_allow_administrators: bool,
    evaluations: Vec<Evaluation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evaluation {
    security_namespace_id: String,
    token: String,
    permissions: u32,
}

impl Exchange<'_> {
    /// `GET securitynamespaces[/{id}]`.
    pub(super) fn namespaces(&self, id: Option<&str>) -> Served {
        let one = id.filter(|id| *id != "00000000-0000-0000-0000-000000000000");
        let chosen = match one {
            None => vec![Namespace::Git, Namespace::Project, Namespace::Collection],
            Some(id) => vec![self.namespace(id)?],
        };
        Ok(json(StatusCode::OK, &list(&chosen.into_iter().map(namespace).collect::<Vec<_>>())))
    }

    fn namespace(&self, id: &str) -> Result<Namespace, Denied> {
        // Real organisations have dozens of others. What they say of an unknown one could not be confirmed.
        let missing = || {
            let kind = ErrorType("Microsoft.TeamFoundation.Framework.Server", "InvalidSecurityNamespaceException");
            let message = format!("TF400864: The security namespace {id} could not be found.");
            self.fail(StatusCode::NOT_FOUND, &message, &kind)
        };
        Namespace::of_id(id).ok_or_else(missing)
    }

    /// `POST accesscontrolentries/{namespace}`: with `merge` the bits are added to those that are there, without they
    /// take their place. Neither clears a bit of the other mask.
    pub(super) fn set_entries(&self, identity: &Identity, namespace: &str, call: &Call) -> Served {
        self.check_version(call, false)?;
        let namespace = self.namespace(namespace)?;
        let wanted: Wanted = serde_json::from_value(self.body(call)?)
            .map_err(|_| self.bad_request("The body needs 'token', 'merge' and 'accessControlEntries'."))?;
        self.check_manages(identity, namespace, &wanted.token)?;
        let stored = Access::stored(self.organization);
        let level = stored.levels(namespace, &wanted.token).into_iter().next();
        let mut set = Vec::new();
        for entry in &wanted.access_control_entries {
            let id = self.subject_named(&entry.descriptor).ok_or_else(|| self.no_identity(&entry.descriptor))?;
            let known = level.as_ref().filter(|_| wanted.merge).map(|level| stored.own(level, &id)).unwrap_or_default();
            let masks = Masks { allow: known.allow | entry.allow, deny: known.deny | entry.deny };
            set.push((entry, id, masks));
        }
        self.change(|state, organization| {
            let organization = organization_mut(state, organization)?;
            for (_, id, masks) in &set {
                if !wanted.merge {
                    forget(organization, namespace, &wanted.token, id);
                }
                write(organization, namespace, &wanted.token, id, *masks);
            }
            Ok(())
        })?;
        let answers = set.iter().map(|(entry, _, masks)| {
            json!({"descriptor": entry.descriptor, "allow": masks.allow, "deny": masks.deny, "extendedInfo": {}})
        });
        Ok(json(StatusCode::OK, &list(&answers.collect::<Vec<_>>())))
    }

    /// `DELETE accesscontrolentries/{namespace}?token=…&descriptors=…`: whether there was anything to remove.
    pub(super) fn remove_entries(&self, identity: &Identity, namespace: &str, call: &Call) -> Served {
        self.check_version(call, false)?;
        let namespace = self.namespace(namespace)?;
        let (Some(token), Some(descriptors)) = (call.query("token"), call.list("descriptors")) else {
            return Err(self.bad_request("The query needs 'token' and 'descriptors'."));
        };
        self.check_manages(identity, namespace, token)?;
        let ids = descriptors.iter().filter_map(|descriptor| {
            // Of an identity that is no member any more the descriptor still has the object id.
            let former = || Some(descriptor.rsplit_once('\\')?.1.to_owned());
            self.subject_named(descriptor).or_else(former)
        });
        let ids: Vec<String> = ids.collect();
        let removed = self.change(|state, organization| {
            let organization = organization_mut(state, organization)?;
            let removed = ids.iter().filter(|id| forget(organization, namespace, token, id)).count();
            Ok(removed > 0)
        })?;
        Ok(json(StatusCode::OK, &json!(removed)))
    }

    /// `GET accesscontrollists/{namespace}?token=…`: the entries at a token and, with `recurse`, below it.
    pub(super) fn lists(&self, namespace: &str, call: &Call) -> Served {
        let namespace = self.namespace(namespace)?;
        let access = self.access();
        let levels = match call.query("token") {
            None => access.below(namespace, ""),
            Some(token) if call.is_set("recurse") => access.below(namespace, token),
            Some(token) => access.levels(namespace, token).into_iter().take(1).collect(),
        };
        let wanted = call.list("descriptors").map(|all| all.into_iter().map(|one| self.subject_named(one)).collect());
        let extended = call.is_set("includeExtendedInfo");
        let rendered = levels.iter().filter_map(|level| self.one_list(access, level, wanted.as_ref(), extended));
        Ok(json(StatusCode::OK, &list(&rendered.collect::<Vec<_>>())))
    }

    fn one_list(
        &self,
        access: Access<'_>,
        level: &Level<'_>,
        wanted: Option<&Vec<Option<String>>>,
        extended: bool,
    ) -> Option<Value> {
        let is_wanted =
            |id: &str| wanted.is_none_or(|ids| ids.iter().flatten().any(|one| one.eq_ignore_ascii_case(id)));
        let entries = access.entries(level).into_iter().filter(|(id, _)| is_wanted(id));
        let entries = entries.map(|(id, masks)| {
            let descriptor = Group::by_id(self.organization, &id)
                .map_or_else(|| Principal::new(self.state, self.organization, &id).descriptor(), Group::descriptor);
            let info = if extended { extended_info(access, level, &id) } else { json!({}) };
            let entry = json!({
                "descriptor": descriptor,
                "allow": masks.allow,
                "deny": masks.deny,
                "extendedInfo": info,
            });
            (descriptor, entry)
        });
        let entries: Map<String, Value> = entries.collect();
        let list = json!({
            "inheritPermissions": true,
            "token": level.token,
            "acesDictionary": entries,
            "includeExtendedInfo": extended,
        });
        (!entries.is_empty()).then_some(list)
    }

    /// `GET permissions/{namespace}/{bits}?tokens=…`: what the caller has, token by token.
    pub(super) fn permissions(&self, identity: &Identity, namespace: &str, bits: &str, call: &Call) -> Served {
        let namespace = self.namespace(namespace)?;
        let bits: u32 = bits.parse().map_err(|_| self.bad_request("The permissions must be a number."))?;
        let tokens = call.query("tokens").unwrap_or_default();
        let delimiter = call.query("delimiter").filter(|text| !text.is_empty()).unwrap_or(",");
        let as_administrator = call.is_set("alwaysAllowAdministrators");
        let evaluated =
            tokens.split(delimiter).map(|token| json!(self.has(identity, namespace, token, bits, as_administrator)));
        Ok(json(StatusCode::OK, &list(&evaluated.collect::<Vec<_>>())))
    }

    /// `POST security/permissionevaluationbatch`: the same for several namespaces.
    pub(super) fn evaluate(&self, identity: &Identity, call: &Call) -> Served {
        self.check_version(call, false)?;
        let batch: Batch = serde_json::from_value(self.body(call)?)
            .map_err(|_| self.bad_request("The body needs 'evaluations' with namespace, token and permissions."))?;
        let mut evaluations = Vec::new();
        for Evaluation { security_namespace_id, token, permissions } in &batch.evaluations {
            let namespace = self.namespace(security_namespace_id)?;
            evaluations.push(json!({
                "securityNamespaceId": security_namespace_id,
                "token": token,
                "permissions": permissions,
                "value": self.has(identity, namespace, token, *permissions, batch.always_allow_administrators),
            }));
        }
        let always = batch.always_allow_administrators;
        Ok(json(StatusCode::OK, &json!({"evaluations": evaluations, "alwaysAllowAdministrators": always})))
    }

    fn has(&self, identity: &Identity, namespace: Namespace, token: &str, bits: u32, as_administrator: bool) -> bool {
        let access = self.access();
        (as_administrator && access.is_administrator(&identity.object_id))
            || access.allows(&identity.object_id, namespace, token, bits)
    }

    fn check_manages(&self, identity: &Identity, namespace: Namespace, token: &str) -> Result<(), Denied> {
        if self.access().manages(&identity.object_id, namespace, token) {
            return Ok(());
        }
        Err(self.forbidden(&identity.object_id, "Manage permissions"))
    }
}

/// Writes an entry, or removes one that would say nothing.
fn write(organization: &mut Organization, namespace: Namespace, token: &str, id: &str, masks: Masks) {
    let entries = &mut organization.access_control;
    let Masks { allow, deny } = masks;
    match entries.iter_mut().find(|entry| entry.is(namespace, token, id)) {
        Some(entry) => (entry.allow, entry.deny) = (allow, deny),
        None if masks == Masks::default() => {}
        None => entries.push(AccessControlEntry {
            namespace,
            token: token.to_owned(),
            object_id: id.to_owned(),
            allow,
            deny,
            since: None,
        }),
    }
    entries.retain(|entry| (entry.allow, entry.deny) != (0, 0));
}

/// Removes what is written of an identity at a token, in the entries and in the short lists; whether there was any.
fn forget(organization: &mut Organization, namespace: Namespace, token: &str, id: &str) -> bool {
    let before = organization.access_control.len();
    organization.access_control.retain(|entry| !entry.is(namespace, token, id));
    let mut found = organization.access_control.len() < before;
    let place = Access::stored(organization).place_of(namespace, token);
    let Some(project) = place.0.and_then(|at| organization.projects.get_mut(at)) else { return found };
    let lists = match (namespace, place.1) {
        (Namespace::Project, _) => vec![&mut project.readers],
        (Namespace::Git, Some(at)) => {
            let repository = project.repositories.get_mut(at);
            repository.map(|one| vec![&mut one.readers, &mut one.contributors]).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    for list in lists {
        let before = list.len();
        list.retain(|one| !one.eq_ignore_ascii_case(id));
        found |= list.len() < before;
    }
    found
}

fn extended_info(access: Access<'_>, level: &Level<'_>, id: &str) -> Value {
    let effective = access.effective(id, level.namespace, &level.token);
    let inherited = access.inherited(id, level.namespace, &level.token);
    json!({
        "effectiveAllow": effective.allow,
        "effectiveDeny": effective.deny,
        "inheritedAllow": inherited.allow,
        "inheritedDeny": inherited.deny,
    })
}

fn namespace(namespace: Namespace) -> Value {
    let (name, display, separator, actions): (_, _, _, &[&str]) = match namespace {
        Namespace::Git => ("Git Repositories", "Git Repositories", "/", &GIT),
        Namespace::Project => ("Project", "Project", ":", &PROJECT),
        Namespace::Collection => ("Collection", "Collection", ":", &COLLECTION),
    };
    let (read, write) = match namespace {
        Namespace::Git => (2, 8192),
        Namespace::Project | Namespace::Collection => (1, 2),
    };
    let bits = actions.iter().zip(0_u32..).filter(|(name, _)| !name.is_empty());
    let actions = bits.map(
        |(name, at)| json!({"bit": 1_u32 << at, "name": name, "displayName": name, "namespaceId": namespace.id()}),
    );
    json!({
        "namespaceId": namespace.id(),
        "name": name,
        "displayName": display,
        "separatorValue": separator,
        "elementLength": -1,
        "writePermission": write,
        "readPermission": read,
        "dataspaceCategory": if namespace == Namespace::Git { "Git" } else { "Default" },
        "actions": actions.collect::<Vec<_>>(),
        "structureValue": 1,
        "extensionType": null,
        "isRemotable": namespace == Namespace::Git,
        "useTokenTranslator": namespace == Namespace::Git,
        "systemBitMask": 0,
    })
}
