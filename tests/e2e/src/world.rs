//! Everything that a test runs in: the simulated Azure, a repository, a cluster, Flux and our controller.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::audit;
use crate::azure::{self, Azure};
use crate::clients::Variables;
use crate::cluster::Cluster;
use crate::controller::{self, BEARER_TOKEN, Deployment};
use crate::flux::{self, Flux, GIT_REPOSITORY, KUSTOMIZATION, Retries};
use crate::git::Repository;
use crate::kubelet::{Images, Kubelet, Running};
use crate::pki::Pki;
use crate::story::Story;
use crate::tools::Tools;
use crate::wait::wait_for;

/// What the cluster has before anything is installed.
const CLUSTER: &str = include_str!("../manifests/cluster.yaml");

/// What Azure knows before a test.
pub(crate) const STATE: &str = include_str!("../state.yaml");

/// Time for one object to become Ready: seconds on an idle machine.
pub(crate) const READY: Duration = Duration::from_secs(60);

/// Time for Flux to go on by itself after the API server was away. Its watches come back after pauses that double to 30 s
/// and are drawn up to twice that, and a Kustomization that does not see its source's artifact yet looks again after 30 s.
pub(crate) const FLUX_GOES_ON: Duration = Duration::from_secs(60 + 30 + 30);

/// What all worlds of a run share.
pub(crate) struct Run {
    /// The programs.
    pub(crate) tools: Tools,
    /// The folder of everything, in which the simulator was started.
    pub(crate) folder: PathBuf,
    /// The simulated Azure.
    pub(crate) azure: Azure,
    /// Certificates and keys: the simulator knows their place.
    pub(crate) pki: Pki,
    /// The images of the controller and of Flux.
    pub(crate) images: Images,
}

/// What `flux-bearer` has said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit status.
    pub(crate) status: Option<i32>,
    /// Its data.
    pub(crate) stdout: String,
    /// Its progress.
    pub(crate) stderr: String,
}

/// A world of its own: nothing of an earlier one is left in it. Dropped, its programs are killed.
pub(crate) struct World<'a> {
    run: &'a Run,
    folder: PathBuf,
    /// What is told of it.
    pub(crate) story: Story,
    /// The repository that Flux pulls.
    pub(crate) repository: Repository,
    /// What runs our controller's Pods.
    pub(crate) kubelet: Kubelet,
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// Our controller as it is shipped, not applied yet.
    pub(crate) deployment: Deployment,
}

impl<'a> World<'a> {
    /// Starts an empty cluster beside an Azure that knows nobody, with all that an administrator installs.
    pub(crate) async fn start(run: &'a Run, name: &'static str) -> anyhow::Result<Self> {
        let world = Self::bare(run, name).await?;
        let deployment = controller::install(&run.tools.kubectl, &run.tools.install, &world.cluster).await?;
        world.story.tell("all that is shipped is applied but the Deployment");
        Ok(Self { deployment: deployment.flags(&["--log-level=trace"]), ..world })
    }

    /// The same with our controller, and with Flux that pulls with its Secret.
    pub(crate) async fn pulling(
        run: &'a Run,
        name: &'static str,
        lifetime: u32,
        flags: &[&str],
    ) -> anyhow::Result<(Self, Flux, Running)> {
        let world = Self::start(run, name).await?;
        world.repository.commit("first").await?;
        let flux = world.start_flux(Retries::Quick).await?;
        let pod = world.start_controller(flags).await?;
        world.set_up_azure(lifetime).await?;
        world.fill_secret().await?;
        world.pull().await?;
        Ok((world, flux, pod))
    }

    /// The same with nothing installed.
    pub(crate) async fn bare(run: &'a Run, name: &'static str) -> anyhow::Result<Self> {
        let (folder, story) = (run.folder.join(name), Story::begin(name));
        std::fs::create_dir_all(&folder)?;
        run.azure.reset(STATE).await?;
        let repository = Repository::create(&run.folder.join("fleet.git"), folder.join("clone")).await?;
        let cluster = Cluster::start(&run.tools, &run.pki, &folder).await?;
        cluster.apply(CLUSTER).await?;
        let deployment = Deployment::default();
        let kubelet = Kubelet::start(cluster.client(), run.images.clone(), &folder);
        story.tell("Kubernetes runs");
        Ok(Self { run, folder, story, repository, kubelet, cluster, deployment })
    }

    /// Runs `flux-bearer` with these words as the operator that Azure knows, on this cluster.
    pub(crate) async fn flux_bearer(&self, words: &[&str]) -> anyhow::Result<Said> {
        self.flux_bearer_with(words, "").await
    }

    /// The same with `input` piped in.
    pub(crate) async fn flux_bearer_with(&self, words: &[&str], input: &str) -> anyhow::Result<Said> {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't run flux-bearer")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that asks for nothing may have ended.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        let ended = child.wait_with_output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Said { status: ended.status.code(), stdout: text(&ended.stdout), stderr: text(&ended.stderr) };
        self.keep(words, &said)?;
        Ok(said)
    }

    /// The same, with Ctrl-C once a line of its progress contains `at`; returns its exit status.
    pub(crate) async fn interrupt(&self, words: &[&str], at: &str) -> anyhow::Result<Option<i32>> {
        let mut child = self.command(words).stderr(Stdio::piped()).spawn().context("can't run flux-bearer")?;
        let mut lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        loop {
            let line = lines.next_line().await?.with_context(|| format!("it ended without {at:?}"))?;
            if line.contains(at) {
                break;
            }
        }
        let process = child.id().context("it has ended")?.to_string();
        let sent = Command::new("kill").args(["-s", "INT", &process]).status().await.context("can't run kill")?;
        ensure!(sent.success(), "can't send SIGINT");
        // Read on: nobody may write into a pipe that is closed.
        while lines.next_line().await?.is_some() {}
        Ok(child.wait().await?.code())
    }

    /// Keeps what was said beside the logs.
    fn keep(&self, words: &[&str], said: &Said) -> anyhow::Result<()> {
        let mut log = File::options().create(true).append(true).open(self.folder.join("logs/flux-bearer.log"))?;
        write!(log, "$ flux-bearer {}\n{}{}", words.join(" "), said.stdout, said.stderr)?;
        Ok(())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.run.tools.flux_bearer);
        command.args(words).env("KUBECONFIG", self.cluster.kubeconfig()).envs(azure::OPERATOR);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The folder of this world's files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The simulated Azure.
    pub(crate) fn azure(&self) -> &Azure {
        &self.run.azure
    }

    /// Starts Flux.
    pub(crate) async fn start_flux(&self, retries: Retries) -> anyhow::Result<Flux> {
        self.start_flux_with(retries, &[]).await
    }

    /// The same, with these variables for source-controller.
    pub(crate) async fn start_flux_with(&self, retries: Retries, variables: &Variables<'_>) -> anyhow::Result<Flux> {
        let flux = Flux::start(&self.run.tools, &self.cluster, &self.folder, retries, variables).await?;
        self.story.tell("source-controller and kustomize-controller run");
        Ok(flux)
    }

    /// Deploys our controller with one replica, and waits until it is available.
    pub(crate) async fn start_controller(&self, flags: &[&str]) -> anyhow::Result<Running> {
        self.deployment.clone().replicas(1).flags(flags).roll_out(&self.cluster).await?;
        self.story.tell("the Deployment is available");
        self.kubelet.pod()
    }

    /// Makes the identity, lets it read the repository, and federates it with the controller's service account.
    pub(crate) async fn set_up_azure(&self, lifetime: u32) -> anyhow::Result<()> {
        self.azure().create_identity(lifetime).await?;
        self.azure().grant_read().await?;
        self.azure().federate().await?;
        self.story.tell(&format!("Azure: identity, rights and federated credential; tokens live {lifetime} s"));
        Ok(())
    }

    /// Applies the BearerToken and waits until it is Ready.
    pub(crate) async fn fill_secret(&self) -> anyhow::Result<()> {
        self.cluster.apply(controller::MANIFEST).await?;
        self.cluster.wait_ready(BEARER_TOKEN, READY).await?;
        self.story.tell("the BearerToken is Ready");
        Ok(())
    }

    /// Applies GitRepository and Kustomization and waits until they are Ready.
    pub(crate) async fn pull(&self) -> anyhow::Result<()> {
        self.cluster.apply(flux::MANIFEST).await?;
        self.cluster.wait_ready(GIT_REPOSITORY, READY).await?;
        self.story.tell("the GitRepository is Ready");
        self.cluster.wait_ready(KUSTOMIZATION, READY).await?;
        self.story.tell("the Kustomization is Ready");
        Ok(())
    }

    /// Waits for a refresh, and counts from then on.
    pub(crate) async fn refreshed(&self) -> anyhow::Result<()> {
        let mark = audit::mark(&self.cluster.audit_log())?;
        wait_for("a refresh", READY, async || {
            let asked = audit::since(&self.cluster.audit_log(), mark)?;
            ensure!(asked.secret_writes > 0 && asked.status_writes > 0, "{asked:?}");
            Ok(())
        })
        .await?;
        self.azure().forget().await
    }

    /// Asks for a refresh of the BearerToken by annotation, and waits until it was done.
    pub(crate) async fn refresh(&self, limit: Duration) -> anyhow::Result<()> {
        let asks = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
        self.cluster.merge(BEARER_TOKEN, &asks).await?;
        wait_for("a refresh on request", limit, async || {
            let stored = self.cluster.get(BEARER_TOKEN).await?;
            let handled = stored.pointer("/status/lastHandledReconcileAt").and_then(Value::as_str);
            ensure!(handled == Some("now"), "handled: {handled:?}");
            Ok(())
        })
        .await
    }

    /// Fails if a fetch of Flux's has failed so far, or if Azure was shown a token that opened nothing.
    pub(crate) async fn check_pulls(&self, flux: &Flux) -> anyhow::Result<()> {
        let (failures, seen) = (flux.failures()?, self.azure().seen().await?);
        let (failed, looks, mints) = (failures.len(), seen.looks(), seen.mints());
        self.story.tell(&format!("{failed} failed fetches of {looks}; {mints} mints"));
        ensure!(failures.is_empty(), "source-controller logged errors: {failures:#?}");
        ensure!(seen.dead_tokens_seen == 0 && seen.refused() == 0, "tokens were refused: {:?}", seen.counts.verdicts);
        Ok(())
    }

    /// Waits until the commit with this value is in the cluster.
    pub(crate) async fn wait_for_commit(&self, value: &str, limit: Duration) -> anyhow::Result<()> {
        wait_for(&format!("commit {value} to reach the cluster"), limit, async || {
            let map = self.cluster.get("/api/v1/namespaces/flux-system/configmaps/fleet").await?;
            let found = map.pointer("/data/commit").and_then(Value::as_str).unwrap_or_default();
            ensure!(found == value, "the ConfigMap is that of commit {found:?}");
            Ok(())
        })
        .await
    }
}
