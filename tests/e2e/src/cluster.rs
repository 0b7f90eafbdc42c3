//! A Kubernetes cluster without nodes: etcd, kube-apiserver and kube-controller-manager.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use http::Request;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt, discovery};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::http_client;
use crate::kubelet::Signal;
use crate::pki::Pki;
use crate::process::Process;
use crate::tools::Tools;
use crate::wait::wait_for;

const ETCD: &str = "http://127.0.0.1:12379";
const SERVER: &str = "https://127.0.0.1:6443";
const AUDIT_POLICY: &str = include_str!("../manifests/audit.yaml");

/// Encrypts Secrets and nothing else, so that no credential may be in what etcd stores.
const ENCRYPTION: &str = include_str!("../manifests/encryption.yaml");

/// The controllers that run: those that what is shipped relies on, and Flux's own manifests.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,disruption-controller,garbage-collector-controller,\
    namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,\
    clusterrole-aggregation-controller,resourcequota-controller";

/// What the last of them to be of use makes in every namespace: without it no Pod can trust the API server.
const ROOT_CA: &str = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";

/// Time for one command of kubectl.
const KUBECTL: Duration = Duration::from_secs(20);

/// Namespace of everything.
pub(crate) const NAMESPACE: &str = "flux-system";

/// A running cluster. Dropped, it is gone.
pub(crate) struct Cluster {
    client: Client,
    folder: PathBuf,
    pki: Pki,
    tools: Tools,
    etcd: Process,
    server: Process,
    controllers: Process,
}

impl Cluster {
    /// Starts an empty cluster with its files in `folder`.
    pub(crate) async fn start(tools: &Tools, pki: &Pki, folder: &Path) -> anyhow::Result<Self> {
        let etcd = etcd(tools, folder).await?;
        std::fs::write(folder.join("audit.yaml"), AUDIT_POLICY)?;
        std::fs::write(folder.join("encryption.yaml"), ENCRYPTION)?;
        let text = kubeconfig(pki);
        std::fs::write(admin(folder), &text)?;
        let client = client(&text).await?;
        let server = server(tools, pki, folder, &client).await?;
        let controllers = controllers(tools, pki, folder, &client).await?;
        let (folder, pki, tools) = (folder.to_owned(), pki.clone(), tools.clone());
        Ok(Self { client, folder, pki, tools, etcd, server, controllers })
    }

    /// Ends the API server with SIGKILL. etcd goes on.
    pub(crate) async fn kill_server(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Sends a signal to the API server's process.
    pub(crate) async fn signal_server(&self, signal: Signal) -> anyhow::Result<()> {
        signal.send(self.server.id().context("kube-apiserver has ended")?).await.context("to kube-apiserver")
    }

    /// Starts the API server again, and waits until it is ready.
    pub(crate) async fn start_server(&mut self) -> anyhow::Result<()> {
        self.server = server(&self.tools, &self.pki, &self.folder, &self.client).await?;
        Ok(())
    }

    /// Ends etcd with SIGKILL and starts it again on what it had stored.
    pub(crate) async fn restart_etcd(&mut self) -> anyhow::Result<()> {
        self.etcd.kill().await?;
        self.etcd = etcd(&self.tools, &self.folder).await?;
        Ok(())
    }

    /// Ends kube-controller-manager with SIGKILL and starts it again.
    pub(crate) async fn restart_controllers(&mut self) -> anyhow::Result<()> {
        self.controllers.kill().await?;
        self.controllers = controllers(&self.tools, &self.pki, &self.folder, &self.client).await?;
        Ok(())
    }

    /// The administrator's client.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        admin(&self.folder)
    }

    /// Runs kubectl as the administrator, with `input`; returns what it prints.
    pub(crate) async fn kubectl(&self, words: &[&str], input: &str) -> anyhow::Result<String> {
        let mut kubectl = Command::new(&self.tools.kubectl);
        kubectl.args(words).env("KUBECONFIG", self.kubeconfig()).kill_on_drop(true);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let done = timeout(KUBECTL, child.wait_with_output()).await.context("kubectl does not end")??;
        ensure!(done.status.success(), "kubectl {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Applies the documents of a YAML text, in their order.
    pub(crate) async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml).context("the manifest can't be read")?;
        for object in objects {
            self.apply_object(&object).await?;
        }
        Ok(())
    }

    /// Applies one object.
    pub(crate) async fn apply_object(&self, object: &DynamicObject) -> anyhow::Result<()> {
        self.apply_one(object).await.with_context(|| format!("can't apply {}", object.name_any()))
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
    pub(crate) async fn apply_crd(&self, definition: &DynamicObject) -> anyhow::Result<()> {
        self.apply_object(definition).await?;
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", definition.name_any());
        wait_for(&format!("{} to be served", definition.name_any()), Duration::from_secs(20), async || {
            let stored = self.get(&path).await?;
            condition(&stored, "Established")
        })
        .await
    }

    /// The object at this path of the API.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        get(&self.client, path).await
    }

    /// Sends a merge patch to the object at this path of the API.
    pub(crate) async fn merge(&self, path: &str, change: &Value) -> anyhow::Result<Value> {
        let request = Request::patch(path).header("Content-Type", "application/merge-patch+json");
        let request = request.body(change.to_string().into_bytes())?;
        self.client.request(request).await.map_err(|error| anyhow!("PATCH {path}: {error}"))
    }

    /// Deletes the object at this path of the API.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let request = Request::delete(path).body(Vec::new())?;
        self.client.request_text(request).await.map(drop).map_err(|error| anyhow!("DELETE {path}: {error}"))
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

/// One condition of an object, in words.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// `True`, `False` or `Unknown`; empty where there is no such condition.
    pub(crate) status: String,
    /// Why, in one word.
    pub(crate) reason: String,
    /// Why, for people.
    pub(crate) message: String,
}

impl Condition {
    /// The condition of this type.
    pub(crate) fn of(object: &Value, name: &str) -> Self {
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let found = conditions.into_iter().flatten().find(|condition| condition.get("type") == Some(&json!(name)));
        let part = |key: &str| found.and_then(|found| found.get(key)?.as_str()).unwrap_or_default().to_owned();
        Self { status: part("status"), reason: part("reason"), message: part("message") }
    }
}

/// Whether an object has this condition, with the status True; what it has instead.
fn condition(object: &Value, name: &str) -> anyhow::Result<()> {
    let Condition { status, reason, message } = Condition::of(object, name);
    match status.as_str() {
        "True" => Ok(()),
        "" => Err(anyhow!("it has no condition {name}")),
        status => Err(anyhow!("{name} is {status}, {reason}: {message}")),
    }
}

async fn etcd(tools: &Tools, folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(&tools.etcd);
    command
        .arg(with("--data-dir=", &folder.join("etcd")))
        .arg(format!("--listen-client-urls={ETCD}"))
        .arg(format!("--advertise-client-urls={ETCD}"))
        .args(["--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync=true"])
        // The API server's own compaction comes after five minutes of its life, which one that is killed may never have.
        .args(["--auto-compaction-mode=periodic", "--auto-compaction-retention=1m"]);
    let mut etcd = Process::start("etcd", &mut command, &folder.join("logs"))?;
    etcd.ready(async || http_client::get(&format!("{ETCD}/health")).await.map(drop)).await?;
    Ok(etcd)
}

async fn server(tools: &Tools, pki: &Pki, folder: &Path, client: &Client) -> anyhow::Result<Process> {
    let mut command = Command::new(&tools.kube_apiserver);
    command.args(server_flags(pki, folder));
    let mut server = Process::start("kube-apiserver", &mut command, &folder.join("logs"))?;
    server.ready(async || ready(client).await).await?;
    Ok(server)
}

async fn controllers(tools: &Tools, pki: &Pki, folder: &Path, client: &Client) -> anyhow::Result<Process> {
    let mut command = Command::new(&tools.kube_controller_manager);
    command
        .arg(with("--kubeconfig=", &admin(folder)))
        .arg(with("--service-account-private-key-file=", &pki.file("sa.key")))
        .arg(with("--root-ca-file=", &pki.file("ca.crt")))
        .arg(format!("--controllers={CONTROLLERS}"))
        .args(["--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"]);
    let mut controllers = Process::start("kube-controller-manager", &mut command, &folder.join("logs"))?;
    controllers.ready(async || get(client, ROOT_CA).await.map(drop)).await?;
    Ok(controllers)
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
        ("--encryption-provider-config=", folder.join("encryption.yaml")),
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

fn admin(folder: &Path) -> PathBuf {
    folder.join("admin.kubeconfig")
}

/// The administrator's kubeconfig. JSON is YAML.
fn kubeconfig(pki: &Pki) -> String {
    let user = json!({"client-certificate": pki.file("admin.crt"), "client-key": pki.file("admin.key")});
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
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    // A test is told what the API server says at first, not what it says in the end.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn get(client: &Client, path: &str) -> anyhow::Result<Value> {
    let request = Request::get(path).body(Vec::new())?;
    client.request(request).await.map_err(|error| anyhow!("GET {path}: {error}"))
}

async fn ready(client: &Client) -> anyhow::Result<()> {
    let said = client.request_text(Request::get("/readyz").body(Vec::new())?).await?;
    if said == "ok" { Ok(()) } else { Err(anyhow!("/readyz: {said}")) }
}
