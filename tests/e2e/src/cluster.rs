//! A Kubernetes cluster without nodes: etcd, kube-apiserver, the resources of Flux and ours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::Request;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt, discovery};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::http_client;
use crate::pki::Pki;
use crate::process::Process;
use crate::tools::Tools;
use crate::wait::wait_for;

const ETCD: &str = "http://127.0.0.1:12379";
const SERVER: &str = "https://127.0.0.1:6443";
const AUDIT_POLICY: &str = include_str!("../manifests/audit.yaml");

/// Namespace of everything.
pub(crate) const NAMESPACE: &str = "flux-system";

/// A running cluster. Dropped, it is gone.
pub(crate) struct Cluster {
    client: Client,
    folder: PathBuf,
    pki: Pki,
    _processes: [Process; 2],
}

impl Cluster {
    /// Starts an empty cluster with its files in `folder`.
    pub(crate) async fn start(tools: &Tools, pki: &Pki, folder: &Path) -> anyhow::Result<Self> {
        let etcd = etcd(tools, folder).await?;
        std::fs::write(folder.join("audit.yaml"), AUDIT_POLICY)?;
        let mut server = Command::new(&tools.kube_apiserver);
        server.args(server_flags(pki, folder));
        let mut server = Process::start("kube-apiserver", &mut server, &folder.join("logs"))?;
        let user = json!({"client-certificate": pki.file("admin.crt"), "client-key": pki.file("admin.key")});
        let text = kubeconfig(pki, &user);
        std::fs::write(folder.join("admin.kubeconfig"), &text)?;
        let client = client(&text).await?;
        server.ready(async || ready(&client).await).await?;
        Ok(Self { client, folder: folder.to_owned(), pki: pki.clone(), _processes: [etcd, server] })
    }

    /// The administrator's client.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig that signs in with a service account token.
    pub(crate) fn write_kubeconfig(&self, file: &Path, token: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(file, kubeconfig(&self.pki, &json!({"token": token})))?)
    }

    /// Applies the documents of a YAML text, in their order.
    pub(crate) async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml).context("the manifest can't be read")?;
        for object in objects {
            let name = object.name_any();
            self.apply_one(&object).await.with_context(|| format!("can't apply {name}"))?;
        }
        Ok(())
    }

    async fn apply_one(&self, object: &DynamicObject) -> anyhow::Result<()> {
        let kind = GroupVersionKind::try_from(object.types.as_ref().context("the manifest has no kind")?)?;
        let (resource, _) = discovery::pinned_kind(&self.client, &kind).await?;
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("e2e").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// Applies a CustomResourceDefinition, and waits until it is served.
    pub(crate) async fn apply_crd(&self, yaml: &str) -> anyhow::Result<()> {
        self.apply(yaml).await?;
        let definition: DynamicObject = serde_saphyr::from_str(yaml)?;
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", definition.name_any());
        wait_for(&format!("{} to be served", definition.name_any()), Duration::from_secs(20), async || {
            let stored = self.get(&path).await?;
            condition(&stored, "Established")
        })
        .await
    }

    /// The object at this path of the API.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(path).body(Vec::new())?;
        self.client.request(request).await.map_err(|error| anyhow!("GET {path}: {error}"))
    }

    /// Waits until the object at `path` is Ready in its latest generation.
    pub(crate) async fn wait_ready(&self, path: &str, limit: Duration) -> anyhow::Result<()> {
        wait_for(&format!("{} to be Ready", short(path)), limit, async || {
            let object = self.get(path).await?;
            let seen = object.pointer("/status/observedGeneration");
            if seen != object.pointer("/metadata/generation") {
                return Err(anyhow!("its latest generation has not been observed: {seen:?}"));
            }
            condition(&object, "Ready")
        })
        .await
    }

    /// Waits until the object at `path` is not Ready; returns what it says of that.
    pub(crate) async fn wait_not_ready(&self, path: &str, limit: Duration) -> anyhow::Result<String> {
        wait_for(&format!("{} not to be Ready", short(path)), limit, async || {
            let object = self.get(path).await?;
            let ready = condition(&object, "Ready");
            ready.err().map(|error| error.to_string()).ok_or_else(|| anyhow!("it is"))
        })
        .await
    }

    /// Where the API server notes what our controller asked of it.
    pub(crate) fn audit_log(&self) -> PathBuf {
        audit_log(&self.folder)
    }
}

/// The end of an API path: `bearertokens/fleet`.
fn short(path: &str) -> &str {
    path.rmatch_indices('/').nth(1).and_then(|(at, _)| path.get(at + 1..)).unwrap_or(path)
}

/// Whether an object has this condition, with the status True; what it has instead.
pub(crate) fn condition(object: &Value, name: &str) -> anyhow::Result<()> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| condition.get("type") == Some(&json!(name)));
    let found = found.with_context(|| format!("it has no condition {name}"))?;
    let part = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    if part("status") == "True" {
        return Ok(());
    }
    Err(anyhow!("{name} is {}, {}: {}", part("status"), part("reason"), part("message")))
}

async fn etcd(tools: &Tools, folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(&tools.etcd);
    command
        .arg(with("--data-dir=", &folder.join("etcd")))
        .arg(format!("--listen-client-urls={ETCD}"))
        .arg(format!("--advertise-client-urls={ETCD}"))
        .args(["--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync=true"]);
    let mut etcd = Process::start("etcd", &mut command, &folder.join("logs"))?;
    etcd.ready(async || http_client::get(&format!("{ETCD}/health")).await.map(drop)).await?;
    Ok(etcd)
}

fn server_flags(pki: &Pki, folder: &Path) -> Vec<OsString> {
    let files = [
        ("--cert-dir=", folder.to_owned()),
        ("--tls-cert-file=", pki.file("server.crt")),
        ("--tls-private-key-file=", pki.file("server.key")),
        ("--client-ca-file=", pki.file("ca.crt")),
        ("--service-account-key-file=", pki.file("sa.pub")),
        ("--service-account-signing-key-file=", pki.file("sa.key")),
        ("--audit-policy-file=", folder.join("audit.yaml")),
        ("--audit-log-path=", audit_log(folder)),
    ];
    let words = [
        &format!("--etcd-servers={ETCD}"),
        &format!("--service-account-issuer={SERVER}"),
        &format!("--api-audiences={SERVER}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--secure-port=6443",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true",
        // Nobody makes the default ServiceAccount that it would ask for.
        "--disable-admission-plugins=ServiceAccount",
    ];
    let files = files.iter().map(|(flag, file)| with(flag, file));
    files.chain(words.iter().map(OsString::from)).collect()
}

fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

fn with(flag: &str, file: &Path) -> OsString {
    let mut word = OsString::from(flag);
    word.push(file);
    word
}

/// A kubeconfig for this user. JSON is YAML.
fn kubeconfig(pki: &Pki, user: &Value) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {"server": SERVER, "certificate-authority": pki.file("ca.crt")}}],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e", "namespace": NAMESPACE}}],
    });
    format!("{config:#}\n")
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let config = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn ready(client: &Client) -> anyhow::Result<()> {
    let said = client.request_text(Request::get("/readyz").body(Vec::new())?).await?;
    if said == "ok" { Ok(()) } else { Err(anyhow!("/readyz: {said}")) }
}
