//! Graph, Identities and Profile: the members and groups of an organisation, and who is in which.

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::answer::{ErrorType, json, no_such_page};
use super::call::Call;
use super::caller::Identity;
use super::groups::Group;
use super::principals::{Principal, descriptor};
use super::rest::{list, method_not_allowed};
use super::{Denied, Exchange, Served, organization_mut};
use crate::state::{Licence, Member, holds};

/// Entries on a page.
const PAGE: usize = 100;

impl Exchange<'_> {
    /// Everything of `vssps`.
    pub(super) fn directory(&self, identity: &Identity, lower: &[&str], path: &[String], call: &Call) -> Served {
        match (lower, path) {
            (["graph", lower @ ..], [_, names @ ..]) => self.graph(identity, lower, names, call),
            (["identities"], _) if call.method == Method::GET => self.identities(call),
            (["identities", _], [_, id]) if call.method == Method::GET => {
                let found = self.identity_named(id).ok_or_else(|| self.no_identity(id))?;
                Ok(json(StatusCode::OK, &found))
            }
            (["profile", "profiles", _], [.., id]) if call.method == Method::GET => self.profile(identity, id),
            (["identities" | "profile", ..], _) => Ok(method_not_allowed()),
            _ => Ok(no_such_page()),
        }
    }

    fn graph(&self, identity: &Identity, lower: &[&str], names: &[String], call: &Call) -> Served {
        // The two look-ups are released, the rest is under preview.
        let is_preview = !matches!(lower, ["descriptors" | "storagekeys", ..]);
        self.check_version(call, is_preview)?;
        let name = names.get(1).map(String::as_str).unwrap_or_default();
        match (&call.method, lower) {
            (&Method::GET, ["serviceprincipals"]) => Ok(self.list_members(call, true)),
            (&Method::GET, ["users"]) => Ok(self.list_members(call, false)),
            (&Method::POST, ["serviceprincipals"]) => self.add_member(identity, call),
            (&Method::GET, ["serviceprincipals", _]) => self.one_member(name, true),
            (&Method::GET, ["users", _]) => self.one_member(name, false),
            (&Method::DELETE, ["serviceprincipals" | "users", _]) => self.remove_member(identity, name),
            (&Method::GET, ["groups"]) => self.list_groups(call),
            (&Method::GET, ["groups", _]) => {
                let found = Group::by_descriptor(self.organization, name).ok_or_else(|| self.no_subject(name))?;
                Ok(json(StatusCode::OK, &found.graph(self.organization)))
            }
            (&Method::GET, ["descriptors", _]) => self.descriptor_of(name),
            (&Method::GET, ["storagekeys", _]) => self.storage_key_of(name),
            (&Method::GET, ["membershipstates", _]) => {
                self.subject_named(name).ok_or_else(|| self.no_subject(name))?;
                Ok(json(StatusCode::OK, &json!({"active": true})))
            }
            (&Method::GET, ["memberships", _]) => self.memberships(name, call),
            (_, ["memberships", _, _]) => {
                let container = names.get(2).map(String::as_str).unwrap_or_default();
                self.membership(identity, name, container, call)
            }
            (&Method::POST, ["subjectlookup"]) => self.look_up(call),
            (&Method::POST, ["subjectquery"]) => self.search(call),
            _ => Ok(method_not_allowed()),
        }
    }

    /// The members that the lists show by now.
    fn shown(&self, service_principals: bool) -> impl Iterator<Item = Principal<'_>> {
        let delay = SignedDuration::from_secs(i64::from(self.organization.principal_delay_seconds));
        let now = self.world.clock().now();
        let old_enough = move |one: &Principal<'_>| {
            let since = one.organization.member(one.object_id).and_then(|member| member.since);
            since.is_none_or(|since| since + delay <= now)
        };
        let of_kind = move |one: &Principal<'_>| one.application().is_some() == service_principals;
        Principal::all(self.state, self.organization).filter(of_kind).filter(old_enough)
    }

    fn list_members(&self, call: &Call, service_principals: bool) -> Response<Body> {
        let skip = call.query("continuationToken").and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
        let mut rest = self.shown(service_principals).skip(skip);
        let page: Vec<Value> = rest.by_ref().take(PAGE).map(Principal::graph).collect();
        let mut response = json(StatusCode::OK, &list(&page));
        if rest.next().is_some() {
            let next = HeaderValue::from(skip.saturating_add(PAGE));
            response.headers_mut().insert("x-ms-continuationtoken", next);
        }
        response
    }

    fn one_member(&self, name: &str, is_service_principal: bool) -> Served {
        let found = self.principal_named(name).filter(|one| one.application().is_some() == is_service_principal);
        let found = found.ok_or_else(|| self.no_subject(name))?;
        Ok(json(StatusCode::OK, &found.graph()))
    }

    /// `POST graph/serviceprincipals`: membership without a licence.
    fn add_member(&self, identity: &Identity, call: &Call) -> Served {
        self.check_administers(identity)?;
        let body = self.body(call)?;
        let origin_id = body.get("originId").and_then(Value::as_str).unwrap_or_default();
        let tenant = self.state.tenant(&self.organization.tenant_id);
        let mut applications = tenant.iter().flat_map(|tenant| &tenant.applications);
        let known = applications.find(|one| one.object_id.eq_ignore_ascii_case(origin_id));
        let object_id = &known.ok_or_else(|| self.no_identity(origin_id))?.object_id;
        let groups = call.list("groupDescriptors").unwrap_or_default().into_iter();
        let groups = groups.filter_map(|name| Group::by_descriptor(self.organization, name)).map(Group::list);
        let groups: Vec<_> = groups.collect();
        self.change(|state, organization| {
            let members = &mut organization_mut(state, organization)?.members;
            if !members.iter().any(|member| member.object_id.eq_ignore_ascii_case(object_id)) {
                members.push(Member { object_id: object_id.clone(), licence: Licence::None, ..Member::default() });
            }
            for group in &groups {
                group.add(state, object_id);
            }
            Ok(())
        })?;
        let principal = Principal::new(self.state, self.organization, object_id);
        Ok(json(StatusCode::CREATED, &principal.graph()))
    }

    fn remove_member(&self, identity: &Identity, name: &str) -> Served {
        self.check_administers(identity)?;
        let principal = self.principal_named(name).ok_or_else(|| self.no_subject(name))?;
        self.expel(principal.object_id)?;
        Ok(no_content())
    }

    /// `GET graph/groups[?scopeDescriptor=scp.…]`.
    fn list_groups(&self, call: &Call) -> Served {
        let scope = call.query("scopeDescriptor");
        let mut projects = self.organization.projects.iter();
        let project = scope.map(|scope| {
            let named = projects.find(|one| descriptor("scp", &self.organization.project_id(one)) == scope);
            named.ok_or_else(|| self.no_subject(scope))
        });
        let groups: Vec<Value> = match project.transpose()? {
            Some(project) => {
                Group::of_project(self.organization, project).map(|one| one.graph(self.organization)).to_vec()
            }
            None => Group::all(self.organization).map(|one| one.graph(self.organization)).collect(),
        };
        Ok(json(StatusCode::OK, &list(&groups)))
    }

    /// `GET graph/descriptors/{storage key}`, of members, groups and projects.
    fn descriptor_of(&self, key: &str) -> Served {
        let member = self.principal_named(key).map(Principal::subject_descriptor);
        let group = || Group::by_id(self.organization, key).map(Group::subject_descriptor);
        let project = || {
            let known = self.organization.projects.iter().map(|one| self.organization.project_id(one));
            known.into_iter().find(|id| id.eq_ignore_ascii_case(key)).map(|id| descriptor("scp", &id))
        };
        let found = member.or_else(group).or_else(project).ok_or_else(|| self.no_identity(key))?;
        Ok(json(StatusCode::OK, &json!({"value": found, "_links": {}})))
    }

    /// `GET graph/storagekeys/{descriptor}`.
    fn storage_key_of(&self, name: &str) -> Served {
        let member = self.principal_named(name).map(Principal::storage_key);
        let group = || Group::by_descriptor(self.organization, name).map(Group::id);
        let found = member.or_else(group).ok_or_else(|| self.no_subject(name))?;
        Ok(json(StatusCode::OK, &json!({"value": found, "_links": {}})))
    }

    /// `GET graph/memberships/{descriptor}?direction=up|down`.
    fn memberships(&self, name: &str, call: &Call) -> Served {
        let edge =
            |member: &str, container: &str| json!({"containerDescriptor": container, "memberDescriptor": member});
        let is_down = call.query("direction").is_some_and(|direction| direction.eq_ignore_ascii_case("down"));
        let edges: Vec<Value> = if is_down {
            let group = Group::by_descriptor(self.organization, name).ok_or_else(|| self.no_subject(name))?;
            let members = Principal::all(self.state, self.organization);
            let members = members.filter(|one| holds(group.members(), one.object_id));
            members.map(|one| edge(&one.subject_descriptor(), name)).collect()
        } else {
            let id = self.subject_named(name).ok_or_else(|| self.no_subject(name))?;
            let groups = Group::all(self.organization).filter(|group| holds(group.members(), &id));
            groups.map(|group| edge(name, &group.subject_descriptor())).collect()
        };
        Ok(json(StatusCode::OK, &list(&edges)))
    }

    /// `PUT`, `HEAD`, `GET` and `DELETE graph/memberships/{member}/{group}`.
    fn membership(&self, identity: &Identity, member: &str, container: &str, call: &Call) -> Served {
        let principal = self.principal_named(member).ok_or_else(|| self.no_subject(member))?;
        let group = Group::by_descriptor(self.organization, container).ok_or_else(|| self.no_subject(container))?;
        let is_member = holds(group.members(), principal.object_id);
        let edge = json!({"containerDescriptor": container, "memberDescriptor": member, "_links": {}});
        let missing = || {
            let kind = ErrorType("Microsoft.VisualStudio.Services.Graph", "GraphMembershipNotFoundException");
            let message = format!("VS403339: '{member}' is no member of '{container}'.");
            self.fail(StatusCode::NOT_FOUND, &message, &kind)
        };
        match call.method {
            Method::HEAD | Method::GET if is_member => Ok(json(StatusCode::OK, &edge)),
            Method::HEAD | Method::GET => Err(missing()),
            Method::PUT | Method::DELETE => {
                self.check_manages_group(identity, group)?;
                let (list, is_put) = (group.list(), call.method == Method::PUT);
                self.change(|state, _| {
                    if is_put {
                        list.add(state, principal.object_id);
                    } else {
                        list.remove(state, principal.object_id);
                    }
                    Ok(())
                })?;
                Ok(if is_put { json(StatusCode::CREATED, &edge) } else { json(StatusCode::OK, &Value::Null) })
            }
            _ => Ok(method_not_allowed()),
        }
    }

    fn check_manages_group(&self, identity: &Identity, group: Group<'_>) -> Result<(), Denied> {
        let is_own = group.project().is_some_and(|project| holds(&project.administrators, &identity.object_id));
        if is_own || self.access().is_administrator(&identity.object_id) {
            return Ok(());
        }
        Err(self.forbidden(&identity.object_id, "Manage group membership"))
    }

    /// `POST graph/subjectlookup`: an object by descriptor, where there is one.
    fn look_up(&self, call: &Call) -> Served {
        let body = self.body(call)?;
        let keys = body.get("lookupKeys").and_then(Value::as_array).into_iter().flatten();
        let names = keys.filter_map(|key| key.get("descriptor")?.as_str());
        let found = names.filter_map(|name| Some((name.to_owned(), self.subject(name)?)));
        let found: Map<String, Value> = found.collect();
        Ok(json(StatusCode::OK, &json!({"count": found.len(), "value": found})))
    }

    fn subject(&self, name: &str) -> Option<Value> {
        let group = || Some(Group::by_descriptor(self.organization, name)?.graph(self.organization));
        self.principal_named(name).map(Principal::graph).or_else(group)
    }

    /// `POST graph/subjectquery`: by the beginning of a name, or by object id. Service principals are found as users are.
    fn search(&self, call: &Call) -> Served {
        let body = self.body(call)?;
        let wanted = body.get("query").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        let kinds = body.get("subjectKind").and_then(Value::as_array).into_iter().flatten();
        let kinds: Vec<&str> = kinds.filter_map(Value::as_str).collect();
        let is_asked = |kind: &str| kinds.is_empty() || kinds.iter().any(|asked| asked.eq_ignore_ascii_case(kind));
        let begins = |name: &str| name.to_lowercase().starts_with(&wanted);
        let members = self.shown(true).chain(self.shown(false)).filter(|_| is_asked("User"));
        let members = members.filter(|one| begins(one.name()) || begins(one.object_id)).map(Principal::graph);
        let groups = Group::all(self.organization).filter(|one| is_asked("Group") && begins(one.name()));
        let groups = groups.map(|one| one.graph(self.organization));
        Ok(json(StatusCode::OK, &list(&members.chain(groups).collect::<Vec<_>>())))
    }

    /// `GET identities?…`: in the order that was asked for, with `null` for what is not found.
    fn identities(&self, call: &Call) -> Served {
        let asked = ["subjectDescriptors", "descriptors", "identityIds"].into_iter().find_map(|one| call.list(one));
        let found: Vec<Value> = match (asked, call.query("filterValue")) {
            (Some(names), _) => names.into_iter().map(|name| self.identity_named(name).unwrap_or_default()).collect(),
            (None, Some(wanted)) => self.identities_like(wanted),
            (None, None) => return Err(self.bad_request("The query names no identity and no search filter.")),
        };
        Ok(json(StatusCode::OK, &list(&found)))
    }

    /// Those whose name, account or object id this is, case apart.
    fn identities_like(&self, wanted: &str) -> Vec<Value> {
        let members = Principal::all(self.state, self.organization).filter(|one| {
            let names = [one.name(), one.object_id];
            let is_account = one.descriptor().to_lowercase().ends_with(&format!("\\{}", wanted.to_lowercase()));
            is_account || names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
        });
        let groups = Group::all(self.organization).filter(|group| {
            group.name().eq_ignore_ascii_case(wanted) || group.principal_name().eq_ignore_ascii_case(wanted)
        });
        members.map(Principal::identity).chain(groups.map(Group::identity)).collect()
    }

    fn identity_named(&self, name: &str) -> Option<Value> {
        let group = || {
            let by_descriptor = Group::by_descriptor(self.organization, name);
            by_descriptor.or_else(|| Group::by_id(self.organization, name)).map(Group::identity)
        };
        self.principal_named(name).map(Principal::identity).or_else(group)
    }

    /// `GET profile/profiles/{id}`, of which `me` is the caller.
    fn profile(&self, identity: &Identity, id: &str) -> Served {
        let found = match id {
            "me" => Some(Principal::new(self.state, self.organization, &identity.object_id)),
            _ => self.principal_named(id),
        };
        let found = found.ok_or_else(|| self.no_identity(id))?;
        let key = found.storage_key();
        Ok(json(
            StatusCode::OK,
            &json!({
                "displayName": found.name(),
                "publicAlias": key,
                "emailAddress": found.mail_address(),
                "coreRevision": 1,
                "timeStamp": "2026-01-01T00:00:00Z",
                "id": key,
                "revision": 1,
            }),
        ))
    }

    /// 404 for a subject that is not there (wording unconfirmed).
    fn no_subject(&self, name: &str) -> Denied {
        let kind = ErrorType("Microsoft.VisualStudio.Services.Graph", "GraphSubjectNotFoundException");
        let message = format!("VS860021: The subject with descriptor '{name}' could not be found.");
        self.fail(StatusCode::NOT_FOUND, &message, &kind)
    }
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
