//! The Kubernetes API, as far as the set-up calls it.
//!
//! Of Secrets only metadata is read. Writes are server-side applies under [`MANAGER`], so that what others own stays
//! theirs and an apply that would change nothing can be told beforehand.

use flux_bearer::token_request;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Request, header};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{PartialObjectMeta, Status};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::exit::{Exit, Trouble};
use crate::kinds::{Kind, SECRET, SERVICE_ACCOUNT};

/// The field manager of everything that the set-up writes.
pub const MANAGER: &str = "flux-bearer-cli";

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// Longest part of the API server's own words that is shown.
const MAX_WORDS: usize = 400;

/// A cluster and the way to it.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// Name of the kubeconfig's context, to be shown before anything is changed.
    pub context: String,
    /// Address of the API server, to be shown with it.
    pub server: String,
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for objects of the cluster.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace {
            "" => write!(out, "{} {}", self.kind.kind, self.name),
            namespace => write!(out, "{} {namespace}/{}", self.kind.kind, self.name),
        }
    }
}

impl<'a> At<'a> {
    /// Where the object of this manifest is; `None` where a part is missing or the kind is none of ours.
    pub fn of(manifest: &'a Value) -> Option<Self> {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str);
        let kind = Kind::of(text("/apiVersion")?, text("/kind")?)?;
        Some(Self { kind, namespace: text("/metadata/namespace").unwrap_or_default(), name: text("/metadata/name")? })
    }
}

impl Cluster {
    /// An object, or nothing where there is none, or no such kind.
    pub async fn get(&self, at: At<'_>) -> Result<Option<DynamicObject>, Trouble> {
        let found = present(self.api(at.kind, Some(at.namespace)).get(at.name).await);
        found.map_err(|error| self.trouble(&error, "get", at))
    }

    /// The metadata of an object: all that is ever read of a Secret.
    pub async fn metadata(&self, at: At<'_>) -> Result<Option<PartialObjectMeta<DynamicObject>>, Trouble> {
        let found = present(self.api(at.kind, Some(at.namespace)).get_metadata(at.name).await);
        found.map_err(|error| self.trouble(&error, "get", at))
    }

    /// Whether there is a Secret of this type: metadata doesn't tell it, a selector does.
    pub async fn is_of_type(&self, at: At<'_>, kind: &str) -> Result<bool, Trouble> {
        let wanted = ListParams::default().fields(&format!("metadata.name={},type={kind}", at.name));
        let found = self.api(at.kind, Some(at.namespace)).list_metadata(&wanted).await;
        found.map(|found| !found.items.is_empty()).map_err(|error| self.trouble(&error, "list", at))
    }

    /// The objects of a kind, in one namespace or in all; nothing where there is no such kind.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<DynamicObject>, Trouble> {
        self.list_labelled(kind, namespace, None).await
    }

    /// The same, of objects with these labels alone: a selector as kubectl's `-l` takes it.
    pub async fn list_labelled(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<DynamicObject>, Trouble> {
        let api = self.api(kind, namespace);
        let mut found = Vec::new();
        let mut pages = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default().limit(PAGE) };
        loop {
            let page = match api.list(&pages).await {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(found),
                Err(error) => {
                    let at = At { kind, namespace: namespace.unwrap_or_default(), name: "" };
                    return Err(self.trouble(&error, "list", at));
                }
            };
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => pages = pages.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Applies a manifest; with `dry_run` it only answers what the object would be.
    pub async fn apply(&self, manifest: &Value, dry_run: bool) -> Result<DynamicObject, Trouble> {
        let at = At::of(manifest).ok_or_else(|| {
            Trouble::new(
                Exit::Failed,
                "a manifest has no kind or name that is known here",
                "use the release's own files",
            )
        })?;
        let params = PatchParams { dry_run, force: true, ..PatchParams::apply(MANAGER) };
        let done = self.api(at.kind, Some(at.namespace)).patch(at.name, &params, &Patch::Apply(manifest)).await;
        done.map_err(|error| self.trouble(&error, "patch", at))
    }

    /// Applies a Secret under a field manager of its own; only metadata comes back.
    pub async fn apply_secret(&self, at: At<'_>, manager: &str, body: &SecretString) -> Result<(), Trouble> {
        let manager = manager.replace('/', "%2F");
        let path = format!("/api/v1/namespaces/{}/secrets/{}?fieldManager={manager}&force=true", at.namespace, at.name);
        let request = Request::patch(path)
            .header(header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(body.expose_secret().as_bytes().to_vec())
            .map_err(|_| unreachable_server(self))?;
        // As text: kube's client would log a reply that it can't parse.
        self.client.request_text(request).await.map(drop).map_err(|error| self.trouble(&error, "patch", at))
    }

    /// A token of a service account for this audience, as a Pod of it would be given one.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audience: &str,
    ) -> Result<SecretString, Trouble> {
        let at = At { kind: SERVICE_ACCOUNT, namespace, name };
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(token_request::body(audience))
            .map_err(|_| unreachable_server(self))?;
        let answer = self.client.request_text(request).await.map(SecretString::from);
        let answer = answer.map_err(|error| self.trouble(&error, "create token of", at))?;
        token_request::token(answer.expose_secret().as_bytes()).ok_or_else(|| unreachable_server(self))
    }

    /// Changes an object that exists by a JSON merge patch. An apply would make one that is gone anew.
    pub async fn merge(&self, at: At<'_>, patch: &Value) -> Result<DynamicObject, Trouble> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let done = self.api(at.kind, Some(at.namespace)).patch(at.name, &params, &Patch::Merge(patch)).await;
        done.map_err(|error| self.trouble(&error, "patch", at))
    }

    /// Changes a Secret that exists by a JSON merge patch; only metadata comes back.
    pub async fn merge_secret(&self, at: At<'_>, patch: &Value) -> Result<(), Trouble> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let done = self.api(at.kind, Some(at.namespace)).patch_metadata(at.name, &params, &Patch::Merge(patch)).await;
        done.map(drop).map_err(|error| self.trouble(&error, "patch", at))
    }

    /// Each state of an object after the one of this resourceVersion; nothing once it is gone. The stream may end at any
    /// moment: then the object has to be looked at anew.
    pub async fn changes(
        &self,
        at: At<'_>,
        version: &str,
    ) -> Result<BoxStream<'static, Option<DynamicObject>>, Trouble> {
        let this = WatchParams::default().fields(&format!("metadata.name={}", at.name));
        let watched = self.api(at.kind, Some(at.namespace)).watch(&this, version).await;
        let events = watched.map_err(|error| self.trouble(&error, "watch", at))?;
        let states = events.take_while(|event| {
            let goes_on = matches!(event, Ok(event) if !matches!(event, WatchEvent::Error(_)));
            std::future::ready(goes_on)
        });
        let states = states.filter_map(|event| {
            std::future::ready(match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(Some(object)),
                Ok(WatchEvent::Deleted(_)) => Some(None),
                _ => None,
            })
        });
        Ok(states.boxed())
    }

    /// Sets an annotation of an object that exists, or removes it; returns the object's new resourceVersion. Only metadata
    /// comes back, also of a Secret.
    pub async fn annotate(&self, at: At<'_>, annotation: &str, value: Option<&str>) -> Result<String, Trouble> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let done = self.api(at.kind, Some(at.namespace)).patch_metadata(at.name, &params, &patch).await;
        let done = done.map_err(|error| self.trouble(&error, "patch", at))?;
        Ok(done.metadata.resource_version.unwrap_or_default())
    }

    /// Deletes an object; returns whether it was there.
    pub async fn delete(&self, at: At<'_>) -> Result<bool, Trouble> {
        match self.api(at.kind, Some(at.namespace)).delete(at.name, &DeleteParams::default()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(self.trouble(&error, "delete", at)),
        }
    }

    /// A JSON document of the API server that is no object, for example `/version`.
    pub async fn document(&self, path: &str) -> Result<Value, Trouble> {
        let request = Request::get(path).header(header::ACCEPT, "application/json").body(Vec::new());
        let request = request.map_err(|_| unreachable_server(self))?;
        let text = self.client.request_text(request).await.map_err(|error| self.document_trouble(&error, path))?;
        serde_json::from_str(&text).map_err(|_| unreachable_server(self))
    }

    /// Whether we may do this. `at.name` may be empty: any.
    pub async fn may(&self, verb: &str, at: At<'_>) -> Result<bool, Trouble> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let attributes = ResourceAttributes {
            verb: some(verb),
            group: Some(at.kind.group.to_owned()),
            version: some(at.kind.version),
            resource: some(at.kind.plural),
            namespace: some(at.namespace),
            name: some(at.name),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let answer: SelfSubjectAccessReview = answer.map_err(|error| self.trouble(&error, verb, at))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|namespace| kind.namespaced && !namespace.is_empty()) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource()),
            None => Api::all_with(self.client.clone(), &kind.resource()),
        }
    }

    fn trouble(&self, error: &kube::Error, verb: &str, at: At<'_>) -> Trouble {
        match error {
            kube::Error::Api(status) => refusal(status, verb, at),
            _ => unreachable_server(self),
        }
    }

    fn document_trouble(&self, error: &kube::Error, path: &str) -> Trouble {
        match error {
            kube::Error::Api(status) => {
                let cause = format!("the API server answers {} for {path}", status.code);
                Trouble::new(
                    Exit::Right,
                    cause,
                    format!("ask for the right to get {path}: ClusterRole system:discovery"),
                )
            }
            _ => unreachable_server(self),
        }
    }
}

/// Whether nobody but us has made an object what it is. What Kubernetes itself adds doesn't count.
pub(crate) fn is_ours(metadata: &ObjectMeta) -> bool {
    let entries =
        metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.as_deref().unwrap_or("").is_empty());
    let managers: Vec<&str> = entries.filter_map(|entry| entry.manager.as_deref()).collect();
    managers.contains(&MANAGER) && managers.iter().all(|manager| *manager == MANAGER || manager.starts_with("kube-"))
}

/// What was found. An API server says 404 in words of its own for an object, and in plain text for a kind: neither is there.
fn present<T>(found: kube::Result<T>) -> kube::Result<Option<T>> {
    match found {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        found => found.map(Some),
    }
}

/// What a refusal of the API server means. Its own words are shown, but never about a Secret, which they may quote.
fn refusal(status: &Status, verb: &str, at: At<'_>) -> Trouble {
    let words: String = if at.kind == SECRET {
        status.reason.clone()
    } else if status.is_own() {
        status.message.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
    } else {
        "no words of its own".to_owned()
    };
    match status.code {
        401 => Trouble::new(
            Exit::SignIn,
            "the API server does not accept the kubeconfig's credential",
            "sign in to the cluster again, for example with az aks get-credentials",
        ),
        403 => Trouble::new(
            Exit::Right,
            format!("not allowed to {verb} {at}: {words}"),
            format!("kubectl auth can-i {verb} {} must say yes: ask a cluster administrator", at.kind.qualified()),
        ),
        404 if !status.is_own() => Trouble::new(
            Exit::NotFound,
            format!("the cluster has no {}", at.kind.qualified()),
            "install what brings that kind, or choose another cluster with --context",
        ),
        404 if status.is_about("namespaces") && at.kind != crate::kinds::NAMESPACE => Trouble::new(
            Exit::NotFound,
            format!("namespace {} does not exist", at.namespace),
            format!("kubectl create namespace {}, or name another one with -n", at.namespace),
        ),
        404 => Trouble::new(Exit::NotFound, format!("{at} does not exist"), String::new()),
        409 => Trouble::new(Exit::Taken, format!("{at} is being changed by somebody else: {words}"), "run it again"),
        code => Trouble::new(
            Exit::Failed,
            format!("the API server answers {code} to {verb} {at}: {words}"),
            "see the API server's words; run it again if it was starting",
        ),
    }
}

/// What the API server's answer is about.
trait Says {
    /// Whether it is the API server's own: something in between, and a path that nobody serves, answer with a page.
    fn is_own(&self) -> bool;

    /// Whether it is about objects of this plural.
    fn is_about(&self, plural: &str) -> bool;
}

impl Says for Status {
    fn is_own(&self) -> bool {
        self.reason != "Failed to parse error data"
    }

    fn is_about(&self, plural: &str) -> bool {
        self.details.as_ref().is_some_and(|details| details.kind == plural)
    }
}

fn unreachable_server(cluster: &Cluster) -> Trouble {
    Trouble::new(
        Exit::Network,
        format!("the API server of context {} ({}) can't be reached", cluster.context, cluster.server),
        "check the address, the network and HTTPS_PROXY, or choose another cluster with --context",
    )
}
