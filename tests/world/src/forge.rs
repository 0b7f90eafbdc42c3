//! The programs `git` and `flux` for a shell, and the repository that they push to: as much of them as `bootstrap` calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flux_bearer_cli::edge::{Call, Ended};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::company::REPOSITORY;
use crate::shell::Shell;
use crate::stage::{NAMESPACE, Stage};

/// A repository of one branch, and who has called which program with what.
#[derive(Clone, Default)]
pub struct Forge {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, String>,
    commits: usize,
    /// What `git fast-import` was given, until it is pushed.
    imported: BTreeMap<String, String>,
    calls: Vec<String>,
    refusal: Option<&'static str>,
}

impl Forge {
    /// Puts `git`, and `flux` of this version, on the path of a shell on this stage.
    #[must_use]
    pub fn serve(&self, shell: Shell, stage: &Stage, version: &'static str) -> Shell {
        let (git, flux, stage) = (self.clone(), self.clone(), stage.clone());
        let shell = shell.with("git", move |call| Ok(git.git(call)));
        shell.with("flux", move |call| Ok(flux.flux(call, &stage, version)))
    }

    /// The files of the branch.
    pub fn files(&self) -> BTreeMap<String, String> {
        self.inner().files.clone()
    }

    /// How many commits were pushed.
    pub fn commits(&self) -> usize {
        self.inner().commits
    }

    /// The command lines so far. A secret in one is a fault.
    pub fn calls(&self) -> Vec<String> {
        self.inner().calls.clone()
    }

    /// Puts a file on the branch.
    pub fn write(&self, path: &str, content: &str) {
        self.inner().files.insert(path.into(), content.into());
    }

    /// Refuses pushes, with these words of the server.
    pub fn refuse(&self, words: &'static str) {
        self.inner().refusal = Some(words);
    }

    /// Takes pushes again.
    pub fn allow(&self) {
        self.inner().refusal = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn git(&self, call: &Call) -> Ended {
        let mut inner = self.inner();
        inner.calls.push(line(call));
        let words: Vec<&str> =
            call.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
        let authorized =
            variable(call, "GIT_CONFIG_VALUE_0").is_some_and(|header| header.starts_with("Authorization: "));
        match words.as_slice() {
            ["ls-remote" | "fetch" | "push", ..] if !authorized => ended(128, "", "fatal: Authentication failed"),
            ["ls-remote", _, reference] if inner.commits > 0 => ended(0, &format!("{:040}\t{reference}\n", 7), ""),
            ["rev-parse", _] => ended(0, &format!("{:040}\n", 7), ""),
            [] | ["init"] | ["ls-remote" | "fetch", ..] => ended(0, "", ""),
            ["show", object] => match object.split_once(':').and_then(|(_, path)| inner.files.get(path)) {
                Some(content) => ended(0, content, ""),
                None => ended(128, "", "fatal: path does not exist"),
            },
            ["fast-import"] => {
                inner.imported = imported(call.input.as_ref().map(SecretString::expose_secret).unwrap_or_default());
                ended(0, "", "")
            }
            ["push", ..] => inner.push(),
            _ => ended(129, "", "usage: git"),
        }
    }

    /// `flux`: with `bootstrap` it commits its own files, fills the Secret as the real one does, and the sync is in force.
    fn flux(&self, call: &Call, stage: &Stage, version: &str) -> Ended {
        let mut inner = self.inner();
        inner.calls.push(line(call));
        let flag = |name: &str| call.arguments.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        if call.arguments.first().is_some_and(|word| word == "version") {
            return ended(0, &json!({"flux": version}).to_string(), "");
        }
        let password = variable(call, "GIT_PASSWORD").unwrap_or_default();
        let (path, secret) = (flag("--path").unwrap_or_default(), flag("--secret-name").unwrap_or_default());
        if password.is_empty() {
            return ended(1, "", "✗ could not read token\n");
        }
        let folder = format!("{path}/{NAMESPACE}").trim_start_matches("./").to_owned();
        inner.imported = ["gotk-components.yaml", "gotk-sync.yaml"]
            .into_iter()
            .map(|name| (format!("{folder}/{name}"), format!("# {name} of Flux {version}\n")))
            .filter(|(file, content)| inner.files.get(file) != Some(content))
            .collect();
        if !inner.imported.is_empty() {
            let pushed = inner.push();
            if pushed.status != Some(0) {
                return ended(1, "", &format!("✗ failed to push manifests: {}", pushed.stderr));
            }
        }
        let bearer = call.arguments.iter().any(|word| word == "--with-bearer-token");
        fill(stage, secret, &password, bearer);
        sync(stage, path, secret);
        ended(0, "", "✔ all components are healthy\n")
    }
}

impl Inner {
    fn push(&mut self) -> Ended {
        if let Some(words) = self.refusal {
            return ended(1, "", words);
        }
        let imported = std::mem::take(&mut self.imported);
        self.files.extend(imported);
        self.commits += 1;
        ended(0, "", "")
    }
}

fn ended(status: i32, stdout: &str, stderr: &str) -> Ended {
    Ended { status: Some(status), stdout: SecretString::from(stdout), stderr: stderr.into() }
}

fn line(call: &Call) -> String {
    format!("{} {}", call.program, call.arguments.join(" "))
}

fn variable(call: &Call, name: &str) -> Option<String> {
    let found = call.environment.iter().find(|(variable, _)| *variable == name);
    found.map(|(_, value)| value.expose_secret().to_owned())
}

/// The files in a stream for `git fast-import`.
fn imported(stream: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for part in stream.split("M 100644 inline ").skip(1) {
        let mut lines = part.splitn(3, '\n');
        let (path, length) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let length: usize = length.strip_prefix("data ").and_then(|text| text.parse().ok()).unwrap_or_default();
        files.insert(path.to_owned(), lines.next().and_then(|rest| rest.get(..length)).unwrap_or_default().to_owned());
    }
    files
}

/// As `ReconcileSourceSecret` of Flux 2.3 to 2.10: a Secret that is there keeps its bearer token and gets a password.
fn fill(stage: &Stage, secret: &str, password: &str, bearer: bool) {
    let found = stage.kube.get("Secret", NAMESPACE, secret);
    if found.is_some() && bearer {
        return;
    }
    let metadata = json!({"name": secret, "namespace": NAMESPACE});
    let mut object = found.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}));
    let value = |text: &str| Value::from(STANDARD.encode(text));
    let keys = if bearer { vec![("bearerToken", password)] } else { vec![("username", "git"), ("password", password)] };
    let mut data = object.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    data.extend(keys.into_iter().map(|(key, text)| (key.to_owned(), value(text))));
    if let Some(object) = object.as_object_mut() {
        object.insert("data".to_owned(), Value::Object(data));
    }
    stage.kube.apply(object);
}

fn sync(stage: &Stage, path: &str, secret: &str) {
    let metadata = json!({"name": NAMESPACE, "namespace": NAMESPACE});
    stage.kube.apply(json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": metadata,
        "spec": {"url": REPOSITORY, "ref": {"branch": "main"}, "secretRef": {"name": secret}},
    }));
    stage.kube.apply(json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": metadata,
        "spec": {"path": path}, "status": {"lastAppliedRevision": "main@sha1:7"},
    }));
    if let Some(mut controller) = stage.kube.get("Deployment", NAMESPACE, "flux-bearer-controller") {
        let labels = controller.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
        if let Some(labels) = labels {
            labels.insert("kustomize.toolkit.fluxcd.io/name".to_owned(), json!(NAMESPACE));
        }
        stage.kube.apply(controller);
    }
}
