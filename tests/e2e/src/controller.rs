//! Our controller: its release binary, with the rights and the credential that it has in a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::azure::{CLIENT_ID, TENANT_ID};
use crate::cluster::{Cluster, NAMESPACE};
use crate::http_client;
use crate::process::Process;
use crate::tools::Tools;

/// The audience that Entra ID asks of an assertion.
pub(crate) const AUDIENCE: &str = "api://AzureADTokenExchange";

/// API path of what `manifests/bearertoken.yaml` has.
pub(crate) const BEARER_TOKEN: &str = "/apis/flux-bearer.dev/v1alpha1/namespaces/flux-system/bearertokens/fleet";

/// A BearerToken for the Secret `fleet`.
pub(crate) const MANIFEST: &str = include_str!("../manifests/bearertoken.yaml");

const INSTALL: &str = include_str!("../manifests/controller.yaml");
const DEFINITION: &str = include_str!("../../../deploy/crd/bearertokens.yaml");
const SERVICE_ACCOUNT: &str = "flux-bearer-controller";
const HEALTH: &str = "127.0.0.1:19442";
const METRICS: &str = "127.0.0.1:19443";

/// Life of the projected token: what the kubelet asks for.
const ASSERTION_LIFE: i64 = 3600;
/// The kubelet replaces it at 80 % of that.
const ASSERTION_RENEWAL: Duration = Duration::from_secs(2880);
/// Life of the token for the API server itself: longer than any run, because a kubeconfig can't be renewed.
const KUBECONFIG_LIFE: i64 = 24 * 3600;

/// What the controller needs in the cluster: applied once.
pub(crate) async fn install(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply_crd(DEFINITION).await?;
    cluster.apply(INSTALL).await
}

/// The running controller.
pub(crate) struct Controller {
    process: Process,
    renewal: JoinHandle<()>,
}

impl Controller {
    /// Starts it and waits until it is ready. `flags` come after what every test needs.
    pub(crate) async fn start(tools: &Tools, cluster: &Cluster, folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let kubeconfig = folder.join("controller.kubeconfig");
        cluster.write_kubeconfig(&kubeconfig, &token(cluster.client(), &[], KUBECONFIG_LIFE).await?)?;
        let assertion = folder.join("azure-identity-token");
        write_assertion(cluster.client(), &assertion).await?;
        let mut command = Command::new(&tools.flux_bearer_controller);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("RUNTIME_NAMESPACE", NAMESPACE)
            .env("AZURE_TENANT_ID", TENANT_ID)
            .env("AZURE_CLIENT_ID", CLIENT_ID)
            .env("AZURE_FEDERATED_TOKEN_FILE", &assertion)
            .arg(format!("--health-addr={HEALTH}"))
            .arg(format!("--metrics-addr={METRICS}"))
            .arg("--log-level=debug")
            .args(flags);
        let mut process = Process::start("flux-bearer-controller", &mut command, &folder.join("logs"))?;
        process.ready(async || http_client::get(&format!("http://{HEALTH}/readyz")).await.map(drop)).await?;
        let renewal = tokio::spawn(renew(cluster.client(), assertion));
        Ok(Self { process, renewal })
    }

    /// One line of its metrics: the first that begins with `name`.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<String> {
        let text = http_client::get(&format!("http://{METRICS}/metrics")).await?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| line.starts_with(name));
        Ok(line.with_context(|| format!("there is no metric {name}"))?.to_owned())
    }

    /// Its resident memory, in MiB.
    pub(crate) fn resident_memory(&self) -> anyhow::Result<f64> {
        self.process.resident_memory()
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// A token of the controller's service account; without audiences, for the API server.
async fn token(client: Client, audiences: &[&str], seconds: i64) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, NAMESPACE);
    let spec = TokenRequestSpec {
        audiences: audiences.iter().map(ToString::to_string).collect(),
        expiration_seconds: Some(seconds),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(SERVICE_ACCOUNT, &PostParams::default(), &request).await?;
    Ok(answer.status.context("the TokenRequest was answered without a token")?.token)
}

/// Puts a new assertion where the controller reads it, in one step, as the kubelet does.
async fn write_assertion(client: Client, file: &Path) -> anyhow::Result<()> {
    let token = token(client, &[AUDIENCE], ASSERTION_LIFE).await?;
    let next = file.with_extension("next");
    std::fs::write(&next, token)?;
    Ok(std::fs::rename(next, file)?)
}

async fn renew(client: Client, file: PathBuf) {
    loop {
        sleep(ASSERTION_RENEWAL).await;
        if let Err(error) = write_assertion(client.clone(), &file).await {
            eprintln!("the controller's assertion was not renewed: {error:#}");
        }
    }
}
