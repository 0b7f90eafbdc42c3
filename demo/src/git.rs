//! The git program: a repository to serve, and clones of it with a token.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;

use crate::proxy::Proxy;

/// What is cloned.
pub(crate) const URL: &str = "https://dev.azure.com/contoso/platform/_git/fleet";

/// Who git says made the only commit.
const AUTHOR: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "flux-bearer-demo"),
    ("GIT_AUTHOR_EMAIL", "demo@flux-bearer.dev"),
    ("GIT_COMMITTER_NAME", "flux-bearer-demo"),
    ("GIT_COMMITTER_EMAIL", "demo@flux-bearer.dev"),
];

/// How a clone ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cloned {
    /// The files are there.
    Yes,
    /// The server did not take the token; what git said of it.
    Refused(String),
    /// It failed for another reason.
    Failed(String),
}

/// git on this machine, in a folder of its own, and none of its user's settings.
#[derive(Debug)]
pub(crate) struct Git {
    path: OsString,
    folder: PathBuf,
    clones: AtomicU32,
}

impl Git {
    /// git as found in `path` (the variable `PATH`).
    ///
    /// # Errors
    /// There is no git, or none that can serve over HTTP.
    pub(crate) async fn find(path: OsString, folder: &Path) -> anyhow::Result<Self> {
        let git = Self { path, folder: folder.to_owned(), clones: AtomicU32::new(0) };
        let programs = git.run(folder, ["--exec-path"]).await.context(
            "git is missing, and it is all that the demo needs beside itself: install it, or put it on the PATH",
        )?;
        if !Path::new(programs.trim()).join("git-http-backend").exists() {
            bail!("this git can't serve over HTTP: install the package with git-http-backend (on Alpine: git-daemon)");
        }
        Ok(git)
    }

    /// Where the program is looked for.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }

    /// A bare repository with one commit.
    pub(crate) async fn repository(&self) -> anyhow::Result<PathBuf> {
        let (work, bare) = (self.folder.join("work"), self.folder.join("fleet.git"));
        self.run(&self.folder, ["init", "--quiet", "--initial-branch=main", "work"]).await?;
        tokio::fs::write(work.join("kustomization.yaml"), "apiVersion: kustomize.config.k8s.io/v1beta1\n").await?;
        self.run(&work, ["add", "."]).await?;
        self.run(&work, ["commit", "--quiet", "--message=Everything that the cluster runs"]).await?;
        self.run(&self.folder, ["clone", "--quiet", "--bare", "work", "fleet.git"]).await?;
        Ok(bare)
    }

    /// Clones [`URL`] through `proxy` into a fresh folder, which is gone afterwards.
    pub(crate) async fn clone_with(&self, token: &SecretString, proxy: &Proxy, ca: &Path) -> Cloned {
        let name = format!("clone-{}", self.clones.fetch_add(1, Ordering::Relaxed));
        let mut git = self.command(&self.folder, ["clone", "--quiet", URL, &name]);
        git.env("HTTPS_PROXY", format!("http://{}", proxy.address)).env("GIT_SSL_CAINFO", ca);
        // By environment: a command line can be read by everybody on the machine.
        git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
        git.env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {}", token.expose_secret()));
        let ended = git.output().await;
        let there = tokio::fs::try_exists(self.folder.join(&name).join("kustomization.yaml")).await.unwrap_or_default();
        // A folder that stays goes with the demo's own.
        tokio::fs::remove_dir_all(self.folder.join(&name)).await.ok();
        match ended {
            Ok(ended) if ended.status.success() && there => Cloned::Yes,
            Ok(ended) => failed(&String::from_utf8_lossy(&ended.stderr)),
            Err(error) => Cloned::Failed(error.to_string()),
        }
    }

    async fn run<const N: usize>(&self, folder: &Path, arguments: [&str; N]) -> anyhow::Result<String> {
        let ended = self.command(folder, arguments).output().await.context("can't run git")?;
        if !ended.status.success() {
            bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&ended.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    fn command<const N: usize>(&self, folder: &Path, arguments: [&str; N]) -> Command {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(folder).env_clear().env("PATH", &self.path).env("HOME", &self.folder);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        git.envs(AUTHOR).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        git
    }
}

/// What git's last words mean: without a terminal it can't ask for another credential, which is how a 401 ends.
fn failed(stderr: &str) -> Cloned {
    const REFUSALS: [&str; 2] = ["could not read Username", "Authentication failed"];
    let last = stderr.lines().last().unwrap_or("git said nothing").trim().to_owned();
    if REFUSALS.iter().any(|words| stderr.contains(words)) { Cloned::Refused(last) } else { Cloned::Failed(last) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_another_failure() {
        let refused = "Cloning into 'x'...\nfatal: could not read Username for 'https://dev.azure.com': terminal prompts disabled\n";
        assert!(matches!(failed(refused), Cloned::Refused(words) if words.starts_with("fatal: could not read")));
        let other = "fatal: unable to access 'https://dev.azure.com/': Could not resolve proxy\n";
        assert!(matches!(failed(other), Cloned::Failed(_)));
        assert!(matches!(failed(""), Cloned::Failed(_)));
    }
}
