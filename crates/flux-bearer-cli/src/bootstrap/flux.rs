//! The program `flux`.

use flux_bearer_azure::probe::Proof;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Job;
use super::git::refusal;
use crate::cluster::Cluster;
use crate::edge::{Call, Edge};
use crate::exit::{Exit, Trouble};

/// The least `flux` that takes a bearer token.
const LEAST: (u64, u64) = (2, 3);

/// Flags of `flux` that this program gives it: a second one would contradict what was checked.
const OURS: [&str; 15] = [
    "--url",
    "--branch",
    "--path",
    "--namespace",
    "-n",
    "--secret-name",
    "--username",
    "-u",
    "--password",
    "-p",
    "--token-auth",
    "--with-bearer-token",
    "--timeout",
    "--kubeconfig",
    "--context",
];

/// Refuses arguments for `flux` that this program gives itself.
pub(crate) fn check_more(more: &[String]) -> Result<(), Trouble> {
    let flag = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    match more.iter().map(flag).find(|flag| OURS.contains(&flag.as_str())) {
        Some(flag) => {
            let fix = "leave it out; the flags before -- say the same: flux-bearer bootstrap --help";
            Err(Trouble::usage(format!("{flag} after -- is for flux-bearer to give"), fix))
        }
        None => Ok(()),
    }
}

/// A `flux` that is there and takes bearer tokens.
pub(super) async fn check(edge: &Edge) -> Result<(), Trouble> {
    let arguments = ["version", "--client", "-o", "json"].map(str::to_owned).to_vec();
    let ended = edge.programs.run(Call { program: "flux", arguments, ..Call::default() }).await.map_err(|_| none())?;
    let version = serde_json::from_str::<Value>(ended.stdout.expose_secret()).ok();
    let version = version.as_ref().and_then(|found| found.get("flux")?.as_str());
    match version.and_then(numbers) {
        Some(numbers) if numbers >= LEAST => Ok(()),
        Some((major, minor)) => Err(unfit(&format!("flux is v{major}.{minor}, and bearer tokens need v2.3 or later"))),
        None => Err(unfit("flux does not say which version it is")),
    }
}

/// Major and minor of `v2.9.5`.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn none() -> Trouble {
    unfit("the program flux is not on PATH")
}

fn unfit(cause: &str) -> Trouble {
    Trouble::new(Exit::NotFound, cause, "install Flux's command line: https://fluxcd.io/flux/installation/")
}

/// Runs `flux bootstrap git`; what it tells is shown as it comes.
pub(super) async fn bootstrap(job: &Job<'_>, proof: &Proof, cluster: &Cluster, edge: &Edge) -> Result<(), Trouble> {
    edge.out.action(&format!("bootstrapping Flux into {} ({})", cluster.context, cluster.server));
    let arguments = arguments(job, proof);
    let environment = environment(job, proof);
    let call = Call { program: "flux", arguments, environment, shown: true, ..Call::default() };
    let ended = edge.programs.run(call).await.map_err(|_| none())?;
    if ended.status == Some(0) {
        return Ok(());
    }
    Err(refusal(&ended.stderr, job).unwrap_or_else(|| {
        let fix = "put right what its own lines say, then run this again: what is done already is found";
        Trouble::new(Exit::Failed, "flux bootstrap failed", fix)
    }))
}

fn arguments(job: &Job<'_>, proof: &Proof) -> Vec<String> {
    let mut all = vec!["bootstrap".to_owned(), "git".to_owned()];
    let mut add = |flag: &str, value: &str| all.push(format!("--{flag}={value}"));
    add("url", &job.repository.to_string());
    add("branch", &job.tree.branch);
    add("path", &job.tree.path());
    add("namespace", &job.global.namespace);
    add("secret-name", job.secret);
    add("timeout", &format!("{}s", job.limit().as_secs()));
    if let Some(context) = &job.global.context {
        add("context", context);
    }
    all.push("--silent".to_owned());
    all.push(match proof {
        Proof::Bearer(_) => "--with-bearer-token".to_owned(),
        Proof::Pat(_) => "--token-auth".to_owned(),
    });
    all.extend(job.more.iter().cloned());
    all
}

fn environment(job: &Job<'_>, proof: &Proof) -> Vec<(&'static str, SecretString)> {
    let mut all = vec![("GIT_PASSWORD", proof.secret().clone())];
    // Not by its flag: that takes one file, and this may be a list.
    let kubeconfig = job.global.kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned());
    all.extend(kubeconfig.map(|path| ("KUBECONFIG", SecretString::from(path))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(numbers("v2.9.5"), Some((2, 9)));
        assert_eq!(numbers("2.10.0-rc.1"), Some((2, 10)));
        assert!(numbers("v2.10.0") > numbers("v2.9.5"));
        assert_eq!((numbers(""), numbers("v2"), numbers("latest")), (None, None, None));
    }

    #[test]
    fn what_was_checked_is_not_contradicted_after_the_dashes() {
        let check =
            |words: &[&str]| check_more(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).is_ok();
        assert!(check(&["--components=source-controller,kustomize-controller", "--network-policy=false", "--force"]));
        for words in [&["--password=x"][..], &["--force", "--path", "x"], &["-n", "x"], &["--with-bearer-token=false"]]
        {
            assert!(!check(words), "{words:?}");
        }
    }
}
