//! Files of CA certificates, taken anew when they change: trust bundles rotate, and nobody restarts a pod for that.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use flux_bearer_azure::http::{Http, MAX_CA_BYTES, NetworkError};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::metrics::Metrics;

/// How often the file is looked at. A mounted `ConfigMap` takes a minute or two to arrive, so this adds little; and a read
/// of a file that is in the page cache costs nothing.
const AGAIN: Duration = Duration::from_secs(30);

/// The way that certificates in PEM lead.
type Way = Box<dyn Fn(Vec<u8>) -> Result<Http, NetworkError> + Send>;

/// A way that trusts what a file holds, also after it has changed.
///
/// Guarantees: what was trusted stays trusted until a file that can be used takes its place; a broken one is told once, and
/// looked at again. The file is opened by its path each time, for a mounted volume is swapped by its symbolic link.
pub struct CaFile {
    /// What names the file: a flag or a variable.
    setting: &'static str,
    path: PathBuf,
    build: Way,
    /// What it held when it was taken.
    pem: Vec<u8>,
    way: watch::Sender<Http>,
    /// What is wrong with the file as it is now, as it was told.
    told: Option<String>,
    metrics: Metrics,
}

impl CaFile {
    /// Reads the file at `path`, which `setting` names, the first time; `build` makes the way of what it holds.
    ///
    /// # Errors
    /// A file or a network that can't be used: at the start there is nothing to go on with.
    pub async fn open(
        setting: &'static str,
        path: PathBuf,
        build: impl Fn(Vec<u8>) -> Result<Http, NetworkError> + Send + 'static,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let pem = read(&path).await.context(setting)?;
        let (way, _) = watch::channel(build(pem.clone()).context(setting)?);
        metrics.ca_file_stale(setting, false);
        Ok(Self { setting, path, build: Box::new(build), pem, way, told: None, metrics })
    }

    /// The way, which is another one after each change of the file.
    pub fn http(&self) -> Http {
        Http::latest(self.way.subscribe())
    }

    /// Looks at the file for ever.
    pub async fn watch(mut self) {
        loop {
            sleep(AGAIN).await;
            self.look().await;
        }
    }

    /// Takes the file as it is now, or keeps what there is and says why.
    async fn look(&mut self) {
        let fault = self.take().await.err().map(|error| format!("{error:#}"));
        self.metrics.ca_file_stale(self.setting, fault.is_some());
        if let Some(fault) = fault.as_ref().filter(|fault| self.told.as_ref() != Some(fault)) {
            tracing::warn!(
                reason = "CaFileUnusable",
                "{}: {fault}. What it held before is trusted until it can be read",
                self.setting
            );
        }
        self.told = fault;
    }

    async fn take(&mut self) -> anyhow::Result<()> {
        let pem = read(&self.path).await?;
        if pem == self.pem {
            return Ok(());
        }
        self.way.send_replace((self.build)(pem.clone())?);
        self.pem = pem;
        tracing::info!("the file of {} has changed and is trusted as it is now", self.setting);
        Ok(())
    }
}

/// At most one byte more than [`Network`] takes, which tells that there is more.
async fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let mut pem = Vec::new();
    let file = tokio::fs::File::open(path).await.with_context(|| path.display().to_string())?;
    let limit = u64::try_from(MAX_CA_BYTES)?.saturating_add(1);
    file.take(limit).read_to_end(&mut pem).await.with_context(|| path.display().to_string())?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use flux_bearer_azure::http::Network;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// A mounted `ConfigMap`: `ca.crt` leads through `..data` to a folder of its own for each version.
    struct Volume(PathBuf);

    impl Volume {
        fn holding(name: &str, pem: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("flux-bearer-ca-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let volume = Self(folder);
            volume.swap("1", pem);
            symlink("..data/ca.crt", volume.file()).unwrap();
            volume
        }

        fn file(&self) -> PathBuf {
            self.0.join("ca.crt")
        }

        /// As the kubelet does it: the new version beside the old one, then one rename.
        fn swap(&self, version: &str, pem: &str) {
            fs::create_dir(self.0.join(version)).unwrap();
            fs::write(self.0.join(version).join("ca.crt"), pem).unwrap();
            symlink(version, self.0.join("..tmp")).unwrap();
            fs::rename(self.0.join("..tmp"), self.0.join("..data")).unwrap();
        }

        fn lose(&self) {
            fs::remove_file(self.0.join("..data")).unwrap();
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn authority() -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    async fn open(path: &Path) -> anyhow::Result<(CaFile, Registry)> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let build = |pem| Http::network(&Network { extra_ca_pem: Some(pem), ..Network::default() });
        Ok((CaFile::open("--ca-file", path.to_owned(), build, metrics).await?, registry))
    }

    fn stale(registry: &Registry) -> bool {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text.contains("flux_bearer_ca_file_stale{setting=\"--ca-file\"} 1\n")
    }

    #[tokio::test]
    async fn a_changed_file_is_another_way_and_an_unchanged_one_is_not() {
        let volume = Volume::holding("changed", &authority());
        let (mut file, registry) = open(&volume.file()).await.unwrap();
        let mut way = file.way.subscribe();
        file.look().await;
        assert!(!way.has_changed().unwrap());
        let (one, other) = (authority(), authority());
        volume.swap("2", &format!("{one}{other}"));
        file.look().await;
        assert!(way.has_changed().unwrap());
        way.mark_unchanged();
        file.look().await;
        assert!(!way.has_changed().unwrap() && !stale(&registry));
    }

    #[tokio::test]
    async fn a_broken_or_missing_file_leaves_the_way_as_it_is_until_it_is_mended() {
        let volume = Volume::holding("broken", &authority());
        let (mut file, registry) = open(&volume.file()).await.unwrap();
        let mut way = file.way.subscribe();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let long = " ".repeat(MAX_CA_BYTES + 1);
        for (version, content, fault) in [
            ("empty", "", "list of certificates"),
            ("entry", &*format!("{}{broken}", authority()), "entry 2"),
            ("long", &long, "256 KiB"),
        ] {
            volume.swap(version, content);
            file.look().await;
            assert!(!way.has_changed().unwrap() && stale(&registry), "{version}");
            let told = file.told.as_deref().unwrap();
            assert!(told.contains(fault) && !told.contains("AAAA"), "{told}");
        }
        volume.lose();
        file.look().await;
        assert!(!way.has_changed().unwrap() && stale(&registry), "missing");
        volume.swap("mended", &authority());
        file.look().await;
        assert!(way.has_changed().unwrap() && !stale(&registry));
        way.mark_unchanged();
    }

    #[tokio::test]
    async fn the_file_of_before_that_comes_back_ends_the_complaint() {
        let (kept, volume_name) = (authority(), "back");
        let volume = Volume::holding(volume_name, &kept);
        let (mut file, registry) = open(&volume.file()).await.unwrap();
        volume.swap("2", "none");
        file.look().await;
        assert!(stale(&registry));
        volume.swap("3", &kept);
        file.look().await;
        assert!(!stale(&registry) && file.told.is_none());
    }

    #[tokio::test]
    async fn a_start_with_a_broken_or_missing_file_is_refused_and_names_it() {
        let volume = Volume::holding("start", "none");
        let refusal = |refused: anyhow::Result<_>| format!("{:#}", refused.map(drop).unwrap_err());
        let broken = refusal(open(&volume.file()).await);
        assert!(broken.starts_with("--ca-file: ") && broken.contains("list of certificates"), "{broken}");
        let missing = refusal(open(&volume.0.join("missing")).await);
        assert!(missing.starts_with("--ca-file: ") && missing.contains("/missing: "), "{missing}");
    }
}
