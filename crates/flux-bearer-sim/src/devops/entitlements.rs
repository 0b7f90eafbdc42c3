//! Entitlements: who is a member, with which licence, and in which groups of which projects.
//!
//! The answer to an addition is 200 whether or not it worked. Adding a member again updates it (unconfirmed). Removing
//! one takes it out of every group; access control entries stay, as they name the identity and not the membership.

use http::{Method, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::answer::json;
use super::call::Call;
use super::caller::Identity;
use super::groups::{Group, List};
use super::principals::Principal;
use super::{Denied, Exchange, Served, organization_mut};
use crate::state::{Licence, Member, Organization, State};

/// Entries on a page of members.
const PAGE: usize = 100;

/// Why an entitlement could not be given: the entries of `errors`, whose keys other than 5000 are unconfirmed.
struct Failure {
    key: u32,
    text: String,
}

impl Failure {
    fn new(key: u32, text: impl Into<String>) -> Self {
        Self { key, text: text.into() }
    }
}

/// What became of one operation.
struct OperationResult {
    is_success: bool,
    body: Value,
}

impl OperationResult {
    fn succeeded(id: &str, entitlement: &Value) -> Self {
        let body = json!({"servicePrincipalId": id, "isSuccess": true, "errors": [], "result": entitlement});
        Self { is_success: true, body }
    }

    fn failed(id: Option<&str>, Failure { key, text }: &Failure) -> Self {
        let errors = json!([{"key": key, "value": text}]);
        let body = json!({"servicePrincipalId": id, "isSuccess": false, "errors": errors, "result": null});
        Self { is_success: false, body }
    }
}

/// A change of one member.
enum Change {
    Licence(Licence),
    Join(List),
    Leave(Vec<List>),
}

impl Exchange<'_> {
    /// Everything of `vsaex`.
    pub(super) fn entitlements(&self, identity: &Identity, lower: &[&str], path: &[String], call: &Call) -> Served {
        let id = path.last().map(String::as_str).unwrap_or_default();
        match (&call.method, lower) {
            (&Method::GET, ["memberentitlements"]) => self.members(call),
            (&Method::POST, ["serviceprincipalentitlements"]) => self.add(identity, call),
            (&Method::PATCH, ["serviceprincipalentitlements"]) => self.update_all(identity, call),
            (&Method::GET, ["serviceprincipalentitlements", _]) => {
                self.check_version(call, true)?;
                let principal = self.service_principal(id)?;
                Ok(json(StatusCode::OK, &self.entitlement(principal)))
            }
            (&Method::PATCH, ["serviceprincipalentitlements", _]) => self.update(identity, id, call),
            (&Method::DELETE, ["serviceprincipalentitlements", _]) => self.remove(identity, id, call),
            (_, ["serviceprincipalentitlements" | "memberentitlements", ..]) => Ok(super::rest::method_not_allowed()),
            _ => Ok(super::answer::no_such_page()),
        }
    }

    /// `POST serviceprincipalentitlements`.
    fn add(&self, identity: &Identity, call: &Call) -> Served {
        self.check_version(call, true)?;
        self.check_administers(identity)?;
        let (result, entitlement) = self.added(&self.body(call)?)?;
        let body = json!({
            "operationResult": result.body,
            "isSuccess": result.is_success,
            "servicePrincipalEntitlement": entitlement,
        });
        Ok(json(StatusCode::OK, &body))
    }

    /// What comes of the body of an addition: the result of the operation, and the entitlement.
    fn added(&self, body: &Value) -> Result<(OperationResult, Value), Denied> {
        let origin_id = text(body, "/servicePrincipal/originId");
        let changes = match self.addition(origin_id, body) {
            Err(failure) => return Ok((OperationResult::failed(None, &failure), Value::Null)),
            Ok(changes) => changes,
        };
        // The tenant's own spelling of the id, whatever the request's.
        let object_id = self.state.principal(origin_id).map_or(origin_id, |principal| &principal.object_id);
        self.apply(object_id, &changes)?;
        let (id, entitlement) = self.rendered(object_id);
        Ok((OperationResult::succeeded(&id, &entitlement), entitlement))
    }

    /// The changes that give a principal what the body says, where they can be made.
    fn addition(&self, origin_id: &str, body: &Value) -> Result<Vec<Change>, Failure> {
        let tenant = self.state.tenant(&self.organization.tenant_id);
        let mut applications = tenant.iter().flat_map(|tenant| &tenant.applications);
        let known = applications.find(|one| one.object_id.eq_ignore_ascii_case(origin_id));
        let Some(known) = known else {
            // Wording and key could not be confirmed. It is what client ids get, and ids of app registrations.
            let text = format!("Failed to create service principal with object ID '{origin_id}'.");
            return Err(Failure::new(5000, text));
        };
        let delay = SignedDuration::from_secs(i64::from(self.organization.entitlement_delay_seconds));
        if known.created_at.is_some_and(|created| self.world.clock().now() < created + delay) {
            return Err(Failure::new(5000, format!("VS403283: Could not add user '{origin_id}' at this time.")));
        }
        let mut changes = vec![self.licence(origin_id, body.get("accessLevel").unwrap_or(&Value::Null))?];
        for entry in body.get("projectEntitlements").and_then(Value::as_array).into_iter().flatten() {
            changes.push(self.joining(entry)?);
        }
        Ok(changes)
    }

    /// The licence that an access level asks for. Numbers stand for the words too.
    fn licence(&self, object_id: &str, level: &Value) -> Result<Change, Failure> {
        let is = |name: &str, word: &str, number: u64| {
            let value = level.get(name);
            value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
                || value.and_then(Value::as_u64) == Some(number)
        };
        let kind = "accountLicenseType";
        let wanted = match () {
            // Only the account's licences are given by request. What comes of any other source is unconfirmed.
            () if !is("licensingSource", "account", 1) => Licence::Stakeholder,
            () if is(kind, "none", 0) => Licence::None,
            () if is(kind, "stakeholder", 5) => Licence::Stakeholder,
            // Dearer licences open no more here than Basic does.
            () if [("express", 2), ("earlyAdopter", 1), ("professional", 3), ("advanced", 4)]
                .iter()
                .any(|(word, number)| is(kind, word, *number)) =>
            {
                Licence::Basic
            }
            () => return Err(Failure::new(5001, "The account license type is not valid.")),
        };
        let others =
            self.organization.members.iter().filter(|member| !member.object_id.eq_ignore_ascii_case(object_id));
        let taken = others.filter(|member| member.licence == Licence::Basic).count();
        let most = self.organization.basic_licences.and_then(|most| usize::try_from(most).ok());
        if wanted == Licence::Basic && most.is_some_and(|most| taken >= most) {
            return Err(Failure::new(5002, "There are no licenses of the type 'Basic' left in the organization."));
        }
        Ok(Change::Licence(wanted))
    }

    /// The group that a project entitlement names.
    fn joining(&self, entry: &Value) -> Result<Change, Failure> {
        let (project, kind) = (text(entry, "/projectRef/id"), text(entry, "/group/groupType"));
        let found = self.organization.project(project);
        let group = found.and_then(|project| Group::of_type(self.organization, project, kind));
        let missing = || Failure::new(5003, format!("There is no group '{kind}' in the project '{project}'."));
        group.map(|group| Change::Join(group.list())).ok_or_else(missing)
    }

    fn apply(&self, object_id: &str, changes: &[Change]) -> Result<(), Denied> {
        self.change(|state, organization| {
            let members = &mut organization_mut(state, organization)?.members;
            if !members.iter().any(|member| member.object_id.eq_ignore_ascii_case(object_id)) {
                let object_id = object_id.to_owned();
                members.push(Member { object_id, licence: Licence::Stakeholder, ..Member::default() });
            }
            for change in changes {
                make(state, organization, object_id, change)?;
            }
            Ok(())
        })
    }

    /// `PATCH serviceprincipalentitlements/{id}`.
    fn update(&self, identity: &Identity, id: &str, call: &Call) -> Served {
        self.check_version(call, true)?;
        self.check_administers(identity)?;
        let principal = self.service_principal(id)?;
        let body = self.body(call)?;
        let mut results = Vec::new();
        for operation in body.as_array().into_iter().flatten() {
            results.push(self.updated(principal.object_id, text(operation, "/path"), operation)?);
        }
        let (_, entitlement) = self.rendered(principal.object_id);
        let body = json!({
            "isSuccess": results.iter().all(|result| result.is_success),
            "operationResults": results.into_iter().map(|result| result.body).collect::<Vec<_>>(),
            "servicePrincipalEntitlement": entitlement,
        });
        Ok(json(StatusCode::OK, &body))
    }

    /// `PATCH serviceprincipalentitlements`: the same with the id in each path, and additions with an empty path.
    fn update_all(&self, identity: &Identity, call: &Call) -> Served {
        self.check_version(call, true)?;
        self.check_administers(identity)?;
        let body = self.body(call)?;
        let mut results = Vec::new();
        for operation in body.as_array().into_iter().flatten() {
            let path = text(operation, "/path").trim_start_matches('/');
            results.push(match path.split_once('/') {
                None if path.is_empty() => self.added(operation.get("value").unwrap_or(&Value::Null))?.0,
                None => return Err(self.no_identity(path)),
                Some((id, rest)) => {
                    self.updated(self.service_principal(id)?.object_id, &format!("/{rest}"), operation)?
                }
            });
        }
        let body = json!({
            "id": crate::random::uuid(),
            "status": "succeeded",
            "haveResultsSucceeded": results.iter().all(|result| result.is_success),
            "completed": true,
            "results": results.into_iter().map(|result| result.body).collect::<Vec<_>>(),
        });
        Ok(json(StatusCode::OK, &body))
    }

    /// The result of one operation of a patch.
    fn updated(&self, object_id: &str, path: &str, operation: &Value) -> Result<OperationResult, Denied> {
        let value = operation.get("value").unwrap_or(&Value::Null);
        let project = path.strip_prefix("/projectEntitlements/");
        let change = match (text(operation, "/op").to_lowercase().as_str(), project) {
            ("replace" | "add", None) if path.eq_ignore_ascii_case("/accessLevel") => self.licence(object_id, value),
            ("add" | "replace", Some(_)) => self.joining(value),
            ("remove", Some(project)) => Ok(Change::Leave(self.groups_of(project))),
            _ => Err(Failure::new(5004, format!("The operation on '{path}' is not supported."))),
        };
        match change {
            Err(failure) => {
                let principal = Principal::new(self.state, self.organization, object_id);
                Ok(OperationResult::failed(Some(&principal.storage_key()), &failure))
            }
            Ok(change) => {
                self.apply(object_id, &[change])?;
                let (id, entitlement) = self.rendered(object_id);
                Ok(OperationResult::succeeded(&id, &entitlement))
            }
        }
    }

    fn groups_of(&self, project: &str) -> Vec<List> {
        let project = self.organization.project(project);
        let groups = project.into_iter().flat_map(|project| Group::of_project(self.organization, project));
        groups.map(Group::list).collect()
    }

    /// `DELETE serviceprincipalentitlements/{id}`.
    fn remove(&self, identity: &Identity, id: &str, call: &Call) -> Served {
        self.check_version(call, true)?;
        self.check_administers(identity)?;
        let principal = self.service_principal(id)?;
        self.expel(principal.object_id)?;
        Ok(json(StatusCode::OK, &Value::Null))
    }

    /// Removes a member, also from every group.
    pub(super) fn expel(&self, object_id: &str) -> Result<(), Denied> {
        let lists: Vec<List> = Group::all(self.organization).map(Group::list).collect();
        self.change(|state, organization| {
            for list in &lists {
                list.remove(state, object_id);
            }
            let members = &mut organization_mut(state, organization)?.members;
            members.retain(|member| !member.object_id.eq_ignore_ascii_case(object_id));
            Ok(())
        })?;
        self.world.visitors().forget(&self.organization.name, object_id);
        Ok(())
    }

    /// `GET memberentitlements`: of `$filter` only `name eq '…'` is understood, which finds parts of names too.
    fn members(&self, call: &Call) -> Served {
        self.check_version(call, true)?;
        let filter = call.query("$filter").unwrap_or_default();
        let wanted = filter.split_once('\'').and_then(|(_, rest)| Some(rest.split_once('\'')?.0.to_lowercase()));
        let is_wanted = |one: &Principal<'_>| {
            let names = [one.name().to_lowercase(), one.object_id.to_lowercase(), one.descriptor().to_lowercase()];
            wanted.as_ref().is_none_or(|wanted| names.iter().any(|name| name.contains(wanted)))
        };
        let all: Vec<_> = Principal::all(self.state, self.organization).filter(is_wanted).collect();
        let skip = call.query("continuationToken").and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
        let page: Vec<Value> = all.iter().skip(skip).take(PAGE).map(|one| self.member_entitlement(*one)).collect();
        let next = skip.saturating_add(PAGE);
        let token = (next < all.len()).then(|| next.to_string());
        let body = json!({"members": page, "items": page, "continuationToken": token, "totalCount": all.len()});
        Ok(json(StatusCode::OK, &body))
    }

    pub(super) fn check_administers(&self, identity: &Identity) -> Result<(), Denied> {
        if self.access().is_administrator(&identity.object_id) {
            return Ok(());
        }
        Err(self.forbidden(&identity.object_id, "Edit instance-level information"))
    }

    /// The member that is a service principal of this storage key.
    fn service_principal(&self, id: &str) -> Result<Principal<'_>, Denied> {
        let found = self.principal_named(id).filter(|one| one.application().is_some());
        found.ok_or_else(|| self.no_identity(id))
    }

    /// The storage key and the entitlement of a member as it is now.
    fn rendered(&self, object_id: &str) -> (String, Value) {
        let state = self.world.snapshot();
        let organization = state.organization(&self.organization.name).unwrap_or(self.organization);
        let principal = Principal::new(&state, organization, object_id);
        (principal.storage_key(), self.entitlement(principal))
    }

    fn entitlement(&self, principal: Principal<'_>) -> Value {
        self.described(principal, "servicePrincipal")
    }

    fn member_entitlement(&self, principal: Principal<'_>) -> Value {
        self.described(principal, "member")
    }

    /// An entitlement, with the object of Graph under this name.
    fn described(&self, principal: Principal<'_>, graph: &str) -> Value {
        let member = principal.organization.member(principal.object_id);
        let came = self.world.visitors().has(&principal.organization.name, principal.object_id);
        let (kind, name) = match member.map(|member| member.licence) {
            Some(Licence::Basic) => ("express", "Basic"),
            Some(Licence::Stakeholder) => ("stakeholder", "Stakeholder"),
            Some(Licence::None) | None => ("none", "None"),
        };
        let since = member.and_then(|member| member.since);
        let status = match came {
            _ if member.is_some_and(|member| member.expired) => "expired",
            true => "active",
            false => "pending",
        };
        json!({
            graph: principal.graph(),
            "id": principal.storage_key(),
            "accessLevel": {
                "licensingSource": "account",
                "accountLicenseType": kind,
                "msdnLicenseType": "none",
                "licenseDisplayName": name,
                "status": status,
                "statusMessage": "",
                "assignmentSource": "unknown",
            },
            "lastAccessedDate": if came { self.world.clock().now().to_string() } else { "0001-01-01T00:00:00Z".to_owned() },
            "dateCreated": since.map_or_else(|| "2026-01-01T00:00:00Z".to_owned(), |since| since.to_string()),
            "projectEntitlements": project_entitlements(principal.organization, principal.object_id),
            "extensions": [],
            "groupAssignments": [],
        })
    }
}

fn make(state: &mut State, organization: &str, object_id: &str, change: &Change) -> Result<(), Denied> {
    match change {
        Change::Join(list) => list.add(state, object_id),
        Change::Leave(lists) => {
            for list in lists {
                list.remove(state, object_id);
            }
        }
        Change::Licence(licence) => {
            let members = &mut organization_mut(state, organization)?.members;
            for member in members.iter_mut().filter(|member| member.object_id.eq_ignore_ascii_case(object_id)) {
                (member.licence, member.expired) = (*licence, false);
            }
        }
    }
    Ok(())
}

fn project_entitlements(organization: &Organization, object_id: &str) -> Vec<Value> {
    let groups = Group::all(organization).filter(|group| crate::state::holds(group.members(), object_id));
    let of_projects = groups.filter_map(|group| Some((group, group.project()?)));
    let rendered = of_projects.map(|(group, project)| {
        json!({
            "group": {"groupType": group.group_type(), "displayName": group.name()},
            "projectRef": {"id": organization.project_id(project), "name": project.name},
            "assignmentSource": "unknown",
            "projectPermissionInherited": "notInherited",
            "teamRefs": [],
        })
    });
    rendered.collect()
}

/// The text at this place, or none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
