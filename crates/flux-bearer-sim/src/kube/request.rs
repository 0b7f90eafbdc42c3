//! What a request asks for, from its method, path, query and headers.

use http::{HeaderMap, Method, Request, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::resource::qualified;
use super::selector;

/// Whose requests they are, unless they say otherwise with `Impersonate-User`.
pub const DEFAULT_USER: &str = "system:serviceaccount:flux-system:flux-bearer-controller";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// GET of a collection with `watch=true`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH, other than an apply.
    Patch,
    /// PATCH of the apply kind. Authorisation knows it as `patch`.
    Apply,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection, which is not served.
    DeleteCollection,
}

impl Verb {
    /// The verb that a Role spells like this; `patch` is that of an apply.
    pub(super) fn of_rbac(verb: &str) -> Option<Self> {
        use Verb::{Apply, Create, Delete, DeleteCollection, Get, List, Update, Watch};
        [Get, List, Watch, Create, Update, Apply, Delete, DeleteCollection].into_iter().find(|one| one.rbac() == verb)
    }

    /// The verb as a Role spells it.
    pub fn rbac(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch | Self::Apply => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// What a request asks for: what the journal keeps and the authoriser sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// When it arrived.
    pub time: Timestamp,
    /// What it does.
    pub verb: Verb,
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural of the resource.
    pub resource: String,
    /// Subresource, for example `status`; empty for the object itself.
    pub subresource: String,
    /// Namespace; empty for the cluster's objects and for all namespaces at once.
    pub namespace: String,
    /// Name; for list and watch the one that the field selector asks for. Empty where there is none.
    pub name: String,
    /// The `fieldManager` parameter, empty where there is none.
    pub field_manager: String,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Who asks.
    pub user: String,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
}

/// The parameters of a request.
#[expect(clippy::struct_excessive_bools, reason = "they are flags on the wire")]
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    pub(super) limit: usize,
    pub(super) continue_token: String,
    pub(super) resource_version: String,
    pub(super) version_match: String,
    pub(super) watch: bool,
    pub(super) bookmarks: bool,
    pub(super) send_initial_events: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) field_manager: String,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            parsed.set(&key, value.into_owned());
        }
        parsed
    }

    fn set(&mut self, key: &str, value: String) {
        let truth = value == "true" || value == "1";
        match key {
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "limit" => self.limit = value.parse().unwrap_or_default(),
            "continue" => self.continue_token = value,
            "resourceVersion" => self.resource_version = value,
            "resourceVersionMatch" => self.version_match = value,
            "watch" => self.watch = truth,
            "allowWatchBookmarks" => self.bookmarks = truth,
            "sendInitialEvents" => self.send_initial_events = truth,
            "timeoutSeconds" => self.timeout_seconds = value.parse().ok(),
            "force" => self.force = truth,
            "dryRun" => self.dry_run = value == "All",
            "fieldManager" => self.field_manager = value,
            _ => {}
        }
    }
}

impl RequestInfo {
    /// Reads a request; `None` when its path is not one of a resource.
    pub(super) fn of<B>(request: &Request<B>, time: Timestamp) -> Option<Self> {
        let path = Path::parse(request.uri().path())?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let headers = request.headers();
        let verb = verb(request.method(), &path, &query, text(headers, header::CONTENT_TYPE.as_str()))?;
        let collective = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        let selected = || selector::only_name(&query.field_selector).unwrap_or_default();
        Some(Self {
            time,
            verb,
            name: if collective { selected() } else { path.name },
            group: path.group,
            version: path.version,
            resource: path.resource,
            subresource: path.subresource,
            namespace: path.namespace,
            field_manager: query.field_manager,
            user_agent: text(headers, header::USER_AGENT.as_str()).to_owned(),
            user: Some(text(headers, "impersonate-user"))
                .filter(|user| !user.is_empty())
                .unwrap_or(DEFAULT_USER)
                .to_owned(),
            dry_run: query.dry_run,
        })
    }

    /// The resource as errors name it.
    pub(super) fn qualified_resource(&self) -> String {
        qualified(&self.resource, &self.group)
    }

    /// The words of a refusal by the authoriser.
    pub(super) fn why_forbidden(&self) -> String {
        let subresource = if self.subresource.is_empty() { String::new() } else { format!("/{}", self.subresource) };
        let scope = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource \"{}{subresource}\" in API group {:?} {scope}",
            self.user,
            self.verb.rbac(),
            self.resource,
            self.group
        )
    }
}

/// A header as text, empty where it is missing.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn verb(method: &Method, path: &Path, query: &Query, content_type: &str) -> Option<Verb> {
    Some(match (method.as_str(), path.name.is_empty()) {
        ("GET", true) if query.watch => Verb::Watch,
        ("GET", true) => Verb::List,
        ("GET", false) => Verb::Get,
        ("POST", _) => Verb::Create,
        ("PUT", false) => Verb::Update,
        ("PATCH", false) if content_type.starts_with("application/apply-patch") => Verb::Apply,
        ("PATCH", false) => Verb::Patch,
        ("DELETE", false) => Verb::Delete,
        ("DELETE", true) => Verb::DeleteCollection,
        _ => return None,
    })
}

#[derive(Debug, Default)]
struct Path {
    group: String,
    version: String,
    namespace: String,
    resource: String,
    name: String,
    subresource: String,
}

impl Path {
    /// `/api/v1/…` and `/apis/GROUP/VERSION/…`.
    fn parse(path: &str) -> Option<Self> {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["api", version, rest @ ..] => Self::below("", version, rest),
            ["apis", group, version, rest @ ..] => Self::below(group, version, rest),
            _ => None,
        }
    }

    /// A namespace is both a prefix and, in the core group, an object with two subresources of its own.
    fn below(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let (namespace, rest) = match rest {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, "", ""),
            [resource, name] => (*resource, *name, ""),
            [resource, name, subresource] => (*resource, *name, *subresource),
            _ => return None,
        };
        let owned = |part: &str| part.to_owned();
        Some(Self {
            group: owned(group),
            version: owned(version),
            namespace: owned(namespace),
            resource: owned(resource),
            name: owned(name),
            subresource: owned(subresource),
        })
    }
}
