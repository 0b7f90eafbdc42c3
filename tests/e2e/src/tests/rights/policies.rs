//! The admission policies: what they refuse, what they let pass, and what they say.

use anyhow::{Context, anyhow, bail, ensure};
use flux_bearer::repository::Repository;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::account::Account;
use super::{EFFECT, TENANT};
use crate::cluster::NAMESPACE;
use crate::controller::{self, AUDIENCE};
use crate::wait::wait_for;
use crate::world::World;

/// URLs that may not get our token.
const FOREIGN: &[&str] = &[
    "https://evil.example/contoso/platform/_git/fleet",
    "https://dev.azure.com.evil.example/contoso/platform/_git/fleet",
    "https://dev.azure.com@evil.example/contoso/platform/_git/fleet",
    "https://dev.azure.com:443@evil.example/contoso/platform/_git/fleet",
    "https://dev.azure.com%2F@evil.example/contoso/platform/_git/fleet",
    "https://evil.example?@dev.azure.com/contoso/platform/_git/fleet",
    "https://evil.example#@dev.azure.com/contoso/platform/_git/fleet",
    r"https://evil.example\@dev.azure.com/contoso/platform/_git/fleet",
    r"https://dev.azure.com\@evil.example/contoso/platform/_git/fleet",
    r"https://dev.azure.com\.evil.example/contoso/platform/_git/fleet",
    "https://evil.example/@dev.azure.com/contoso/platform/_git/fleet",
    "https://a@b@dev.azure.com/contoso/platform/_git/fleet",
    "https:///dev.azure.com/contoso/platform/_git/fleet",
    "https://dev.azure.com./contoso/platform/_git/fleet",
    "https://dev.azure.com:8443/contoso/platform/_git/fleet",
    "https://dev.azure.com:443/contoso/platform/_git/fleet",
    "https://devXazure.com/contoso/platform/_git/fleet",
    "https://ssh.dev.azure.com/contoso/platform/_git/fleet",
    "https://vssps.dev.azure.com/contoso/platform/_git/fleet",
    "https://visualstudio.com/platform/_git/fleet",
    "https://.visualstudio.com/platform/_git/fleet",
    "https://a.b.visualstudio.com/platform/_git/fleet",
    "https://contoso.visualstudio.com.evil.example/platform/_git/fleet",
    "https://evil.example/contoso.visualstudio.com/platform/_git/fleet",
    "https://cont_oso.visualstudio.com/platform/_git/fleet",
    "https://169.254.169.254/contoso/platform/_git/fleet",
    "https://[::1]/contoso/platform/_git/fleet",
    "http://dev.azure.com/contoso/platform/_git/fleet",
    "ssh://git@ssh.dev.azure.com/v3/contoso/platform/fleet",
    "ssh://dev.azure.com/contoso/platform/_git/fleet",
    "https://dev.azure.com",
    "https://dev.azure.com/contoso/platform/fleet",
    "https://dev.azure.com/contoso/platform/_git/fleet?x=1",
    "https://dev.azure.com/contoso/platform/_git/fleet#x",
    "https://dev.azure.com/contoso/../platform/_git/fleet",
    "https://dev.azure.com/contoso/%2e%2e/_git/fleet",
    "https://dev.azure.com/contoso/platform/_git/a%2Fb",
    r"https://dev.azure.com/contoso/platform/_git/a\b",
    "https://dev.azure.com/contoso/my platform/_git/fleet",
];

/// URLs that may.
const OURS: &[&str] = &[
    "https://dev.azure.com/contoso/platform/_git/fleet",
    "https://dev.azure.com/contoso/platform/_git/fleet/",
    "https://dev.azure.com/contoso/_git/fleet",
    "https://dev.azure.com/contoso/DefaultCollection/platform/_git/fleet",
    "https://dev.azure.com/contoso/My%20Platform/_git/my%20fleet",
    "https://dev.azure.com/contoso/plattform-größe/_git/fleet",
    "https://dev.azure.com/contoso/platform/_git/fleet..v2.git",
    "https://DEV.Azure.com/contoso/platform/_git/fleet",
    "https://contoso@dev.azure.com/contoso/platform/_git/fleet",
    "https://user:word@dev.azure.com/contoso/platform/_git/fleet",
    "https://contoso.visualstudio.com/platform/_git/fleet",
    "https://contoso.visualstudio.com/_git/fleet",
    "https://Contoso-1.visualstudio.com/DefaultCollection/platform/_git/fleet",
];

/// A host that is not Azure DevOps.
const EVIL: &str = "https://evil.example/contoso/platform/_git/fleet";

const HOST: &str = "flux-bearer-gitrepository-host";
const METADATA: &str = "flux-bearer-gitrepository-metadata";
const AUDIENCES: &str = "flux-bearer-tokenrequest-audience";

pub(super) async fn check(world: &World<'_>, account: &Account) -> anyhow::Result<()> {
    hosts(world).await?;
    secrets(world).await?;
    ratchet(world).await?;
    readers(world).await?;
    metadata(world, account).await?;
    audiences(world, account).await
}

/// Which URLs a GitRepository with our Secret may have.
async fn hosts(world: &World<'_>) -> anyhow::Result<()> {
    bearer_token(world, "policed", json!({})).await?;
    wait_for("the host policy", EFFECT, async || refused(HOST, create(world, NAMESPACE, EVIL, "policed").await))
        .await?;
    for url in FOREIGN {
        refused(HOST, create(world, NAMESPACE, url, "policed").await).with_context(|| format!("{url:?}"))?;
    }
    for url in OURS {
        create(world, NAMESPACE, url, "policed").await.with_context(|| format!("{url:?}"))?;
        Repository::parse(url).map_err(|failure| anyhow!("the controller refuses {url:?}: {failure}"))?;
    }
    world.story.tell(&format!("{HOST}: {} URLs are refused, {} are taken", FOREIGN.len(), OURS.len()));
    Ok(())
}

/// Which Secrets are ours.
async fn secrets(world: &World<'_>) -> anyhow::Result<()> {
    bearer_token(world, "renamed", json!({"secret": {"name": "apps"}})).await?;
    bearer_token(world, "nulled", json!({"secret": {"name": null}})).await?;
    wait_for("the BearerTokens to be known", EFFECT, async || {
        refused(HOST, create(world, NAMESPACE, EVIL, "apps").await)?;
        refused(HOST, create(world, NAMESPACE, EVIL, "nulled").await)
    })
    .await?;
    for (namespace, secret) in [(NAMESPACE, "renamed"), (NAMESPACE, "unrelated"), (TENANT, "policed")] {
        create(world, namespace, EVIL, secret).await.with_context(|| format!("Secret {namespace}/{secret}"))?;
    }
    world.story.tell(&format!("{HOST}: only the Secrets of BearerTokens of the namespace are guarded"));
    Ok(())
}

/// A GitRepository that was there first keeps what it has, can be finished and can be mended, but gets no worse.
async fn ratchet(world: &World<'_>) -> anyhow::Result<()> {
    world.cluster.apply(&repository(NAMESPACE, "early", EVIL, "late").to_string()).await?;
    bearer_token(world, "late", json!({})).await?;
    wait_for("the BearerToken to be known", EFFECT, async || {
        refused(HOST, create(world, NAMESPACE, EVIL, "late").await)
    })
    .await?;
    let early = path(NAMESPACE, "early");
    let patch = async |patch: Value| world.cluster.merge(&early, &patch).await.map(drop);
    patch(json!({"metadata": {"finalizers": ["finalizers.fluxcd.io"]}})).await?;
    patch(json!({"metadata": {"finalizers": null}})).await?;
    patch(json!({"spec": {"suspend": true}})).await?;
    refused(HOST, patch(json!({"spec": {"url": format!("{EVIL}-2")}})).await)?;
    refused(HOST, patch(json!({"spec": {"secretRef": {"name": "policed"}}})).await)?;
    patch(json!({"spec": {"url": OURS.first()}})).await?;
    refused(HOST, patch(json!({"spec": {"url": EVIL}})).await)?;
    world.story.tell(&format!("{HOST}: one that was there first can be finished and mended"));
    Ok(())
}

/// What else reads a Secret of ours, as version, kind and path. Only the first is there by Flux's own definition; the others
/// have as much of theirs as the policy looks at.
const READERS: [(&str, &str, &str); 3] = [
    ("source.toolkit.fluxcd.io/v1", "HelmRepository", "helmrepositories"),
    ("notification.toolkit.fluxcd.io/v1beta3", "Provider", "providers"),
    ("fluxcd.controlplane.io/v1", "ResourceSetInputProvider", "resourcesetinputproviders"),
];

/// Where the other readers of our Secret may send it.
async fn readers(world: &World<'_>) -> anyhow::Result<()> {
    for definition in include_str!("../../../manifests/readers.yaml").split("\n---\n") {
        world.cluster.apply_crd(&serde_saphyr::from_str(definition)?).await?;
    }
    let tried = async |reader: &(&str, &str, &str), spec: &Value| {
        let (version, kind, plural) = reader;
        let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "tried", "namespace": NAMESPACE}, "spec": spec});
        let path = format!("/apis/{version}/namespaces/{NAMESPACE}/{plural}?dryRun=All");
        let request = request(Method::POST, &path, &body)?.map(String::into_bytes);
        world.cluster.client().request::<Value>(request).await?;
        Ok(())
    };
    let ours = OURS.first().context("no URL")?;
    for reader in &READERS {
        let spec = |kind: &str, url: &str, secret: &str| {
            let field = if reader.1 == "Provider" { "address" } else { "url" };
            // A HelmRepository has other types.
            let kind = if reader.1 == "HelmRepository" { "default" } else { kind };
            json!({"interval": "1m", "type": kind, field: url, "secretRef": {"name": secret}})
        };
        let forbidden = spec("azuredevops", EVIL, "policed");
        wait_for(&format!("the host policy on {}", reader.1), EFFECT, async || {
            refused(HOST, tried(reader, &forbidden).await)
        })
        .await?;
        for url in FOREIGN.iter().filter(|url| reader.1 != "HelmRepository" || url.starts_with("http")) {
            refused(HOST, tried(reader, &spec("azuredevops", url, "policed")).await)
                .with_context(|| format!("{url:?}"))?;
        }
        tried(reader, &spec("azuredevops", ours, "policed")).await?;
        tried(reader, &spec("generic", EVIL, "unrelated")).await?;
    }
    let [_, provider, _] = &READERS;
    for kind in ["generic", "telegram", "github"] {
        let spec = json!({"type": kind, "address": ours, "secretRef": {"name": "policed"}});
        refused(HOST, tried(provider, &spec).await).with_context(|| kind.to_owned())?;
    }
    let without = json!({"type": "azuredevops", "secretRef": {"name": "policed"}});
    refused(HOST, tried(provider, &without).await)?;
    changed(world, ours).await?;
    world
        .story
        .tell(&format!("{HOST}: HelmRepository, Provider and ResourceSetInputProvider send our token nowhere else"));
    Ok(())
}

/// A Provider gets no worse by a change.
async fn changed(world: &World<'_>, ours: &str) -> anyhow::Result<()> {
    let provider = json!({
        "apiVersion": "notification.toolkit.fluxcd.io/v1beta3", "kind": "Provider",
        "metadata": {"name": "status", "namespace": NAMESPACE},
        "spec": {"type": "azuredevops", "address": ours, "secretRef": {"name": "policed"}},
    });
    world.cluster.apply(&provider.to_string()).await?;
    let path = format!("/apis/notification.toolkit.fluxcd.io/v1beta3/namespaces/{NAMESPACE}/providers/status");
    let change = async |spec: Value| world.cluster.merge(&path, &json!({"spec": spec})).await.map(drop);
    change(json!({"channel": "main"})).await?;
    refused(HOST, change(json!({"type": "generic"})).await)?;
    refused(HOST, change(json!({"address": EVIL})).await)?;
    change(json!({"address": EVIL, "secretRef": {"name": "unrelated"}})).await?;
    refused(HOST, change(json!({"secretRef": {"name": "policed"}})).await)
}

/// What the controller may change of a GitRepository.
async fn metadata(world: &World<'_>, account: &Account) -> anyhow::Result<()> {
    let watched = path(NAMESPACE, "watched");
    let url = OURS.first().context("no URL")?;
    world.cluster.apply(&repository(NAMESPACE, "watched", url, "policed").to_string()).await?;
    world.cluster.merge(&watched, &json!({"metadata": {"annotations": {"kept": "as it is"}}})).await?;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"});
    let forbidden = [
        json!({"spec": {"url": "https://dev.azure.com/contoso/platform/_git/other"}}),
        json!({"spec": {"ref": {"branch": "other"}}}),
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"secretRef": null}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"finalizers": ["a/b"]}}),
        json!({"metadata": {"ownerReferences": [owner]}}),
        json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}}}),
        json!({"metadata": {"annotations": {"kept": "no longer"}}}),
        json!({"metadata": {"annotations": {"kept": null}}}),
        json!({"metadata": {"annotations": null}}),
        json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "1", "and": "more"}}}),
    ];
    let patch = async |patch: &Value| as_controller(account, Method::PATCH, &watched, patch).await;
    for body in &forbidden {
        refused(METADATA, patch(body).await).with_context(|| body.to_string())?;
    }
    let allowed = [
        json!({}),
        json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "1"}}}),
        json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "2"}}}),
        json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": null}}}),
        json!({"metadata": {"labels": {}}}),
    ];
    for body in &allowed {
        patch(body).await.with_context(|| body.to_string())?;
    }
    world.story.tell(&format!("{METADATA}: {} patches are refused, {} are taken", forbidden.len(), allowed.len()));
    Ok(())
}

/// For whom the controller may ask for tokens, were it ever allowed to ask.
async fn audiences(world: &World<'_>, account: &Account) -> anyhow::Result<()> {
    world.cluster.apply(include_str!("../../../manifests/token-request.yaml")).await?;
    let path = format!("/api/v1/namespaces/{TENANT}/serviceaccounts/app/token");
    let ask = async |audiences: &[&str]| {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": audiences},
        });
        as_controller(account, Method::POST, &path, &request).await
    };
    wait_for("the right to ask", EFFECT, async || ask(&[AUDIENCE]).await).await?;
    let forbidden: [&[&str]; 6] = [
        &[],
        &["https://127.0.0.1:6443"],
        &["https://management.azure.com"],
        &[AUDIENCE, "https://127.0.0.1:6443"],
        &[AUDIENCE, AUDIENCE],
        &["api://azureadtokenexchange"],
    ];
    for audiences in forbidden {
        refused(AUDIENCES, ask(audiences).await).with_context(|| format!("{audiences:?}"))?;
    }
    world.story.tell(&format!("{AUDIENCES}: {} audiences are refused, one is not", forbidden.len()));
    Ok(())
}

async fn bearer_token(world: &World<'_>, name: &str, spec: Value) -> anyhow::Result<()> {
    world.cluster.apply(&controller::bearer_token(NAMESPACE, name, &spec).to_string()).await
}

fn repository(namespace: &str, name: &str, url: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "1m", "url": url, "secretRef": {"name": secret}},
    })
}

/// The path of a GitRepository.
fn path(namespace: &str, name: &str) -> String {
    format!("/apis/source.toolkit.fluxcd.io/v1/namespaces/{namespace}/gitrepositories/{name}")
}

/// Creates a GitRepository as the administrator, without keeping it.
async fn create(world: &World<'_>, namespace: &str, url: &str, secret: &str) -> anyhow::Result<()> {
    let all = path(namespace, "");
    let body = repository(namespace, "tried", url, secret);
    let request = request(Method::POST, &format!("{}?dryRun=All", all.trim_end_matches('/')), &body)?;
    world.cluster.client().request::<Value>(request.map(String::into_bytes)).await?;
    Ok(())
}

async fn as_controller(account: &Account, method: Method, path: &str, body: &Value) -> anyhow::Result<()> {
    let (status, text) = account.send(request(method, path, body)?).await?;
    if status.is_success() { Ok(()) } else { Err(anyhow!("{status}: {text}")) }
}

fn request(method: Method, path: &str, body: &Value) -> http::Result<Request<String>> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind).body(body.to_string())
}

/// Whether this policy has refused it, as forbidden and with the fix.
fn refused(policy: &str, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    let Err(error) = outcome else { bail!("{policy} let it pass") };
    let said = format!("{error:#}");
    ensure!(said.contains(&format!("ValidatingAdmissionPolicy '{policy}'")), "{policy} did not refuse it: {said}");
    ensure!(said.contains("denied request: ") && said.contains("orbidden"), "{policy} is not in order: {said}");
    Ok(())
}
