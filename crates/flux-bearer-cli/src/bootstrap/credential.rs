//! The token that pushes, and what has to be known of it before anything is changed.

use std::time::Duration;

use flux_bearer::repository::Repository;
use flux_bearer_azure::operator::{Resource, Session};
use flux_bearer_azure::probe::{Proof, may_push};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

/// How much longer than `flux` may take a token has to live: our own commit comes first.
const MARGIN: Duration = Duration::from_secs(60);

/// What a PAT must be: Azure DevOps has no scope for one repository.
const SCOPE: &str = "its scope is Code (read & write), its user should have no right but Contribute on this repository";

/// Where a person makes and revokes PATs.
pub(super) fn pats(repository: &Repository) -> String {
    format!("https://dev.azure.com/{}/_usersettings/tokens", repository.organization())
}

/// The operator's own token.
pub(super) async fn of_operator(session: &Session, limit: Duration, edge: &Edge) -> Result<Proof, Trouble> {
    let token = session.token(Resource::AzureDevOps).await?;
    check_lasts(token.expires_at, limit, edge)?;
    Ok(Proof::Bearer(token.secret.clone()))
}

/// A PAT from standard input. When it expires it does not say.
pub(super) async fn piped(repository: &Repository, edge: &Edge) -> Result<Proof, Trouble> {
    let pat: Option<SecretString> = edge.input.secret().await.ok();
    let is_one = |pat: &SecretString| {
        let text = pat.expose_secret();
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    pat.filter(is_one).map(Proof::Pat).ok_or_else(|| {
        let fix = format!("pipe in one from {}; {SCOPE}", pats(repository));
        Trouble::usage("--pat-stdin: there is no PAT on standard input", fix)
    })
}

/// Whether a token outlives `flux`, which would else fail halfway.
pub(super) fn check_lasts(expires_at: Timestamp, limit: Duration, edge: &Edge) -> Result<(), Trouble> {
    let left = expires_at.duration_since(edge.now()).as_secs();
    let needed = (limit + MARGIN).as_secs();
    if u64::try_from(left).is_ok_and(|left| left > needed) {
        return Ok(());
    }
    Err(Trouble::new(
        Exit::SignIn,
        format!("the token that pushes lives {} s more, and bootstrapping may take {needed} s", left.max(0)),
        "sign in anew (az login), or give the run less time with --timeout",
    ))
}

/// Whether it may push at all: `flux bootstrap` would find out halfway.
pub(super) async fn check_push(proof: &Proof, repository: &Repository, edge: &Edge) -> Result<(), Trouble> {
    let refused = |failure: flux_bearer::failure::Failure| {
        let fix = match (failure.reason, proof) {
            ("AccessDenied", Proof::Bearer(_)) => {
                let ask = "ask a project administrator for Contribute on the repository";
                Some(format!("{ask}, or push with another token: bootstrap --as identity or --pat-stdin"))
            }
            ("AccessDenied" | "TokenRejected", Proof::Pat(_)) => {
                Some(format!("a PAT has its user's rights: {SCOPE}; look whether it has expired: {}", pats(repository)))
            }
            _ => None,
        };
        let trouble = Trouble::from(failure);
        Trouble { cause: format!("{repository}: {}", trouble.cause), fix: fix.unwrap_or(trouble.fix), ..trouble }
    };
    may_push(&edge.azure, repository, proof).await.map_err(refused)
}
