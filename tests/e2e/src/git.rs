//! The repository that Flux pulls: a bare one, which the simulator serves as Azure DevOps, and a clone to commit from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

/// A bare repository, and a clone of it that pushes by path: as somebody else's laptop would over HTTPS.
pub(crate) struct Repository {
    clone: PathBuf,
    /// Sent with all that is asked over HTTPS. Given to git in its environment: arguments can be read by everybody, and a
    /// configuration stays.
    header: Option<String>,
}

impl Repository {
    /// Makes both anew, without a commit.
    pub(crate) async fn create(bare: &Path, clone: PathBuf) -> anyhow::Result<Self> {
        for folder in [bare, &clone] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))?;
            }
            std::fs::create_dir_all(folder)?;
        }
        let repository = Self { clone, header: None };
        let bare = bare.to_str().context("the folder's name is no UTF-8")?;
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", bare]).await?;
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await?;
        repository.git(&["remote", "add", "origin", bare]).await?;
        Ok(repository)
    }

    /// Lists the branches of the repository at `url`, with this header.
    pub(crate) async fn look(&self, url: &str, header: &str) -> anyhow::Result<()> {
        self.sending(header).git(&["ls-remote", "--exit-code", url, "main"]).await
    }

    /// Clones the repository at `url` into `folder`; the clone sends this header with all that it asks there, also to push.
    pub(crate) async fn clone_over(&self, url: &str, header: &str, folder: PathBuf) -> anyhow::Result<Self> {
        let path = folder.to_str().context("the folder's name is no UTF-8")?;
        let there = self.sending(header);
        there.git(&["clone", "--quiet", url, path]).await?;
        Ok(Self { clone: folder, ..there })
    }

    fn sending(&self, header: &str) -> Self {
        Self { clone: self.clone.clone(), header: Some(header.to_owned()) }
    }

    /// The clone.
    pub(crate) fn clone_folder(&self) -> &Path {
        &self.clone
    }

    /// Commits a `ConfigMap` named `fleet` whose key `commit` has this value, and pushes it to main.
    pub(crate) async fn commit(&self, value: &str) -> anyhow::Result<()> {
        self.commit_in("", value).await
    }

    /// The same in a folder that is there.
    pub(crate) async fn commit_in(&self, folder: &str, value: &str) -> anyhow::Result<()> {
        let manifest = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: fleet\n  namespace: flux-system\ndata:\n  commit: \"{value}\"\n"
        );
        self.write(&format!("{folder}fleet.yaml"), &manifest)?;
        self.push(value).await
    }

    /// Takes what others have pushed to main; returns the id of its newest commit.
    pub(crate) async fn pull(&self) -> anyhow::Result<String> {
        self.git(&["pull", "--quiet", "origin", "main"]).await?;
        Ok(std::fs::read_to_string(self.clone.join(".git/refs/heads/main"))?.trim().to_owned())
    }

    /// Writes a file of the next commit.
    pub(crate) fn write(&self, file: &str, content: &str) -> anyhow::Result<()> {
        std::fs::write(self.clone.join(file), content).with_context(|| format!("can't write {file}"))
    }

    /// Removes a file from the next commit.
    pub(crate) fn remove(&self, file: &str) -> anyhow::Result<()> {
        std::fs::remove_file(self.clone.join(file)).with_context(|| format!("can't remove {file}"))
    }

    async fn push(&self, message: &str) -> anyhow::Result<()> {
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--message", message]).await?;
        self.git(&["push", "--quiet", "origin", "main"]).await
    }

    async fn git(&self, words: &[&str]) -> anyhow::Result<()> {
        let person = ["-c", "user.name=A person", "-c", "user.email=person@contoso.example"];
        let mut git = Command::new("git");
        git.current_dir(&self.clone).args(person).args(words);
        if let Some(header) = &self.header {
            let setting = [("COUNT", "1"), ("KEY_0", "http.extraHeader"), ("VALUE_0", header)];
            git.envs(setting.map(|(name, value)| (format!("GIT_CONFIG_{name}"), value)));
        }
        let done = git.output().await.context("can't run git")?;
        if !done.status.success() {
            let verb = words.iter().find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(&"");
            bail!("git {verb} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }
}
