//! Flux: source-controller and kustomize-controller, as they are released.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

use crate::clients::Variables;
use crate::cluster::{Cluster, NAMESPACE};
use crate::http_client;
use crate::process::Process;
use crate::tools::Tools;

/// Where source-controller serves what it has fetched.
const STORAGE: &str = "127.0.0.1:19090";

/// API paths of what `manifests/flux.yaml` has.
pub(crate) const GIT_REPOSITORY: &str =
    "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/fleet";
pub(crate) const KUSTOMIZATION: &str =
    "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/fleet";

/// The repository of `manifests/flux.yaml`.
pub(crate) const URL: &str = "https://dev.azure.com/contoso/platform/_git/fleet";

/// A GitRepository of the simulated Azure DevOps, and the Kustomization that applies it.
pub(crate) const MANIFEST: &str = include_str!("../manifests/flux.yaml");

/// What both take beside their own.
const FLAGS: [&str; 4] = ["--events-addr=", "--enable-leader-election=false", "--metrics-addr=0", "--log-level=debug"];

/// How soon they try again what failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retries {
    /// At once: a test need not wait for Flux.
    Quick,
    /// As Flux does by itself: after 750 ms, then twice as late each time.
    Usual,
}

impl Retries {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Quick => &["--min-retry-delay=200ms", "--max-retry-delay=2s"],
            Self::Usual => &[],
        }
    }
}

/// Both controllers, running.
pub(crate) struct Flux {
    source: Process,
    _kustomize: Process,
}

impl Flux {
    /// Applies Flux's resources and starts the controllers, source-controller with these variables.
    pub(crate) async fn start(
        tools: &Tools,
        cluster: &Cluster,
        folder: &Path,
        retries: Retries,
        variables: &Variables<'_>,
    ) -> anyhow::Result<Self> {
        define(tools, cluster).await?;
        let mut source = source_controller(tools, cluster, folder, retries, variables)?;
        let mut kustomize = kustomize_controller(tools, cluster, folder)?;
        source.ready(async || http_client::get("http://127.0.0.1:19440/readyz").await.map(drop)).await?;
        kustomize.ready(async || http_client::get("http://127.0.0.1:19441/readyz").await.map(drop)).await?;
        Ok(Self { source, _kustomize: kustomize })
    }

    /// What source-controller has logged as an error so far: every failed fetch is one.
    pub(crate) fn failures(&self) -> anyhow::Result<Vec<String>> {
        let log = std::fs::read_to_string(self.source.log())?;
        Ok(log.lines().filter(|line| is_error(line)).map(str::to_owned).collect())
    }
}

/// Applies Flux's resources.
pub(crate) async fn define(tools: &Tools, cluster: &Cluster) -> anyhow::Result<()> {
    for definition in definitions(&tools.flux_crds)? {
        cluster.apply_crd(&serde_saphyr::from_str(&std::fs::read_to_string(definition)?)?).await?;
    }
    Ok(())
}

fn is_error(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|line| line.get("level").is_some_and(|level| level == "error"))
}

fn definitions(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn source_controller(
    tools: &Tools,
    cluster: &Cluster,
    folder: &Path,
    retries: Retries,
    variables: &Variables<'_>,
) -> anyhow::Result<Process> {
    let (data, tuf) = (folder.join("artifacts"), folder.join("tuf"));
    std::fs::create_dir_all(&data)?;
    std::fs::create_dir_all(&tuf)?;
    let mut command = Command::new(&tools.source_controller);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("RUNTIME_NAMESPACE", NAMESPACE).env("TUF_ROOT", tuf);
    command.envs(variables.iter().copied());
    command.arg(format!("--storage-path={}", data.display()));
    command.arg(format!("--storage-addr={STORAGE}")).arg(format!("--storage-adv-addr={STORAGE}"));
    command.args(FLAGS).args(retries.flags()).arg("--health-addr=127.0.0.1:19440");
    Process::start("source-controller", &mut command, &folder.join("logs"))
}

fn kustomize_controller(tools: &Tools, cluster: &Cluster, folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(&tools.kustomize_controller);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("RUNTIME_NAMESPACE", NAMESPACE);
    command.env("SOURCE_CONTROLLER_LOCALHOST", STORAGE);
    command.args(FLAGS).args(Retries::Quick.flags()).arg("--health-addr=127.0.0.1:19441");
    Process::start("kustomize-controller", &mut command, &folder.join("logs"))
}
