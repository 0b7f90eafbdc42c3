//! From an HTTP request to its answer.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::Kube;
use super::check::check_namespace_matches;
use super::object::Object;
use super::refusal::{Answer, Cause, Refusal};
use super::render::View;
use super::request::{self, Query, RequestInfo, Verb};
use super::resource::ServedResource;
use super::store::Store;
use super::write::{Author, Part, Writer};
use super::{read, watch};

/// The media types that PATCH takes here.
const PATCHES: &str = "application/merge-patch+json, application/apply-patch+yaml";

/// Everything about a request that its handling needs.
struct Call {
    info: RequestInfo,
    query: Query,
    view: View,
    content_type: String,
    body: Bytes,
}

/// A body, ready to send.
struct Reply {
    code: u16,
    body: Body,
}

/// Answers a request.
pub(super) async fn answer(kube: Kube, request: Request<Body>) -> Response {
    let time = kube.clock().now();
    let mut response = match RequestInfo::of(&request, time) {
        Some(info) => answer_resource(&kube, info, request).await,
        None => answer_other(&kube, request.method(), request.uri().path()),
    };
    crate::service::date(&mut response, time);
    response
}

async fn answer_resource(kube: &Kube, info: RequestInfo, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let call = Call {
        info,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        view: View::of(&parts.headers),
        content_type: request::text(&parts.headers, "content-type").to_owned(),
        body: body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    };
    let Some(resource) = served(kube, &call.info) else { return page_not_found() };
    match dispatch(kube, &resource, &call) {
        Ok(reply) => respond(reply.code, "application/json", reply.body),
        Err(refusal) => respond(refusal.code, "application/json", json_body(&refusal.status())),
    }
}

/// The resource of a request, if it is served under that version and scope.
fn served(kube: &Kube, info: &RequestInfo) -> Option<Arc<ServedResource>> {
    let store = kube.store();
    let resource = store.collection(&info.qualified_resource())?.resource.clone();
    let scoped = resource.namespaced || info.namespace.is_empty();
    (resource.version == info.version && scoped).then_some(resource)
}

fn dispatch(kube: &Kube, resource: &Arc<ServedResource>, call: &Call) -> Answer<Reply> {
    let info = &call.info;
    authorise(kube, resource, info)?;
    if info.subresource == "token" && resource.kind == "ServiceAccount" && info.verb == Verb::Create {
        return issue_token(kube, resource, call);
    }
    if resource.kind == "SelfSubjectAccessReview" {
        return review_access(kube, call);
    }
    let known = info.subresource.is_empty() || (info.subresource == "status" && resource.status);
    if !known {
        return Err(Refusal::no_such_path());
    }
    match info.verb {
        Verb::Get | Verb::List | Verb::Watch => look(kube, resource, call),
        Verb::DeleteCollection => Err(Refusal::method_not_allowed()),
        Verb::Create if !info.name.is_empty() => Err(Refusal::method_not_allowed()),
        _ => kube.change(|store| change(kube, store, resource, call)),
    }
}

fn authorise(kube: &Kube, resource: &ServedResource, info: &RequestInfo) -> Answer<()> {
    if kube.allows(info) { Ok(()) } else { Err(Refusal::forbidden(resource, &info.name, &info.why_forbidden())) }
}

fn look(kube: &Kube, resource: &ServedResource, call: &Call) -> Answer<Reply> {
    let store = kube.store();
    let (info, query) = (&call.info, &call.query);
    let objects = store.collection(&resource.qualified()).ok_or_else(Refusal::no_such_path)?;
    let body = match info.verb {
        Verb::Watch => watch::start(kube, &store, objects, info, query, call.view)?,
        Verb::List => read::list(&store, objects, info, query, call.view)?.into(),
        _ => {
            let found = store.get(resource, &info.namespace, &info.name);
            let found = found.ok_or_else(|| Refusal::not_found(resource, &info.name))?;
            call.view.json(&found).into()
        }
    };
    Ok(Reply { code: 200, body })
}

fn change(kube: &Kube, store: &mut Store, resource: &ServedResource, call: &Call) -> Answer<Reply> {
    let info = &call.info;
    let mut writer = Writer { store, resource, namespace: &info.namespace, name: &info.name, author: author(call) };
    let before = writer.live();
    let object = match info.verb {
        Verb::Create => writer.create(call.object(resource)?)?,
        Verb::Update => writer.replace(call.object(resource)?)?,
        Verb::Apply => {
            let config = call.applied(resource)?;
            if before.is_none() {
                authorise(kube, resource, &RequestInfo { verb: Verb::Create, ..info.clone() })?;
            }
            writer.apply(config, call.query.force)?
        }
        Verb::Patch => writer.merge_patch(&call.patch()?)?,
        _ => Arc::new(writer.delete(&call.options()?)?),
    };
    let created = before.is_none() && matches!(info.verb, Verb::Create | Verb::Apply);
    Ok(Reply { code: if created { 201 } else { 200 }, body: call.view.json(&object).into() })
}

/// Without a `fieldManager` the real server takes the product of the `User-Agent`.
fn author(call: &Call) -> Author {
    let info = &call.info;
    let product = info.user_agent.split('/').next().filter(|product| !product.is_empty()).unwrap_or("unknown");
    let manager = if info.field_manager.is_empty() { product } else { &info.field_manager };
    Author {
        manager: manager.to_owned(),
        part: if info.subresource == "status" { Part::Status } else { Part::Main },
        now: info.time,
        dry_run: call.query.dry_run,
    }
}

impl Call {
    fn json(&self) -> Answer<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
    }

    /// The object of a POST or PUT.
    fn object(&self, resource: &ServedResource) -> Answer<Object> {
        let object = self.json()?;
        for (key, wanted) in [("kind", resource.kind.clone()), ("apiVersion", resource.api_version())] {
            let told = object.get(key).and_then(Value::as_str);
            if told.is_some_and(|told| told != wanted) || (told.is_none() && resource.custom) {
                return Err(wrong_type(resource, &object));
            }
        }
        check_namespace_matches(&object, &self.info.namespace)?;
        Ok(super::object::thaw(&object))
    }

    /// The object of an apply, which may be YAML and must name its type.
    fn applied(&self, resource: &ServedResource) -> Answer<Object> {
        if self.query.field_manager.is_empty() {
            return Err(Refusal::invalid_options(&[Cause::required("fieldManager", "is required for apply patch")]));
        }
        let object: Value = serde_json::from_slice(&self.body).or_else(|_| {
            serde_saphyr::from_slice(&self.body)
                .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")))
        })?;
        let typed = object.get("kind").and_then(Value::as_str) == Some(&resource.kind)
            && object.get("apiVersion").and_then(Value::as_str) == Some(&resource.api_version());
        if !typed {
            return Err(wrong_type(resource, &object));
        }
        let mut object = super::object::thaw(&object);
        let name = self.info.name.clone();
        super::object::edit(&mut object, "metadata", |metadata| {
            metadata.entry("name").or_insert_with(|| name.into());
        });
        Ok(object)
    }

    fn patch(&self) -> Answer<Value> {
        if !self.content_type.starts_with("application/merge-patch+json") {
            return Err(Refusal::unsupported_media_type(PATCHES));
        }
        if self.query.force {
            let why = Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(Refusal::invalid_options(&[why]));
        }
        self.json()
    }

    /// The `DeleteOptions`, which may be left out.
    fn options(&self) -> Answer<Value> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.json() }
    }
}

fn wrong_type(resource: &ServedResource, object: &Value) -> Refusal {
    let told = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (told("kind"), told("apiVersion"));
    if kind.is_empty() {
        return Refusal::bad_request("Object 'Kind' is missing in the body");
    }
    let wanted = (resource.kind.as_str(), resource.api_version());
    let why = format!("{kind} in version {version:?} cannot be handled as a {} of {:?}", wanted.0, wanted.1);
    Refusal::bad_request(why)
}

/// `TokenRequest`: what a pod's kubelet, and flux-bearer for another service account, asks for.
fn issue_token(kube: &Kube, resource: &ServedResource, call: &Call) -> Answer<Reply> {
    let info = &call.info;
    if kube.store().get(resource, &info.namespace, &info.name).is_none() {
        return Err(Refusal::not_found(resource, &info.name));
    }
    let mut review = super::object::thaw(&call.json()?);
    let spec = review.get("spec").cloned().unwrap_or_default();
    let status = kube.issue_token(&info.namespace, &info.name, &spec)?;
    review.insert("status".to_owned(), status);
    Ok(Reply { code: 201, body: json_body(&Value::Object(review)) })
}

/// `SelfSubjectAccessReview`: whether whoever asks may do what the review names. Nothing is stored.
fn review_access(kube: &Kube, call: &Call) -> Answer<Reply> {
    if call.info.verb != Verb::Create {
        return Err(Refusal::method_not_allowed());
    }
    let mut review = super::object::thaw(&call.json()?);
    let text = |name: &str| {
        let attributes = review.get("spec").and_then(|spec| spec.get("resourceAttributes"));
        attributes.and_then(|found| found.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let verb = Verb::of_rbac(&text("verb")).ok_or_else(|| Refusal::bad_request("verb: none that is known here"))?;
    let asked = RequestInfo {
        verb,
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        ..call.info.clone()
    };
    let allowed = kube.allows(&asked);
    review.insert("status".to_owned(), json!({"allowed": allowed}));
    Ok(Reply { code: 201, body: json_body(&Value::Object(review)) })
}

/// Paths that are no resource's: the version and the two lists that a client finds resources with.
fn answer_other(kube: &Kube, method: &Method, path: &str) -> Response {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // What a test publishes stands before what is answered by itself.
    let found = kube.document(path).filter(|_| method == Method::GET).or_else(|| match parts.as_slice() {
        _ if method != Method::GET => None,
        ["version"] => Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64"})),
        ["api", version] => resource_list(kube, "", version),
        ["apis", group, version] => resource_list(kube, group, version),
        _ => None,
    });
    found.map_or_else(page_not_found, |found| respond(200, "application/json", json_body(&found)))
}

fn resource_list(kube: &Kube, group: &str, version: &str) -> Option<Value> {
    let store = kube.store();
    let here = store.resources().filter(|served| served.group == group && served.version == version);
    let resources: Vec<Value> = here
        .map(|served| {
            let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
            json!({"name": served.plural, "singularName": served.kind.to_lowercase(), "kind": served.kind,
                "namespaced": served.namespaced, "verbs": verbs})
        })
        .collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let list =
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources});
    (!resources.is_empty()).then_some(list)
}

fn json_body(value: &Value) -> Body {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// What the real server says of a path that nobody serves: not a `Status`.
fn page_not_found() -> Response {
    respond(404, "text/plain; charset=utf-8", Body::from("404 page not found\n"))
}

fn respond(code: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
