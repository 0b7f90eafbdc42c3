//! Whether a token opens a repository, for fetching or for pushing: asks what Git asks first.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flux_bearer::failure::{Failure, devops};
use flux_bearer::repository::Repository;
use http::header::{AUTHORIZATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::http::headers::{media_type, retry_after, text};
use crate::http::{AGENT, Http, bearer, hidden, is_html, unsendable};

/// How long the opening of the answer may take. A repository with a hundred thousand refs keeps Azure DevOps busy for
/// some seconds before the first byte.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How much of the answer is read, in bytes. The advertisement of a big repository has megabytes, and its first line
/// says all there is to know.
pub const OPENING: usize = 512;

/// The service that fetches.
const FETCH: &str = "git-upload-pack";

/// The service that pushes.
const PUSH: &str = "git-receive-pack";

/// What Azure DevOps is shown by whoever pushes.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A token of Entra ID.
    Bearer(SecretString),
    /// A personal access token (PAT). It is taken as a Basic password only, with any user or none.
    Pat(SecretString),
}

impl Proof {
    /// The token itself.
    pub fn secret(&self) -> &SecretString {
        match self {
            Self::Bearer(token) | Self::Pat(token) => token,
        }
    }

    /// The value of the header `Authorization`.
    pub fn authorization(&self) -> SecretString {
        match self {
            Self::Bearer(token) => SecretString::from(format!("Bearer {}", token.expose_secret())),
            Self::Pat(token) => {
                let pair = Zeroizing::new(format!(":{}", token.expose_secret()));
                SecretString::from(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
            }
        }
    }
}

/// Asks Azure DevOps for the branches of `repository` with `token`. Succeeds only when a Git server answers.
///
/// # Errors
/// What the answer means by [`flux_bearer::failure::devops`], or what kept it from arriving.
pub async fn probe(http: &Http, repository: &Repository, token: &SecretString) -> Result<(), Failure> {
    ask(http, request(repository, token)?, FETCH).await
}

/// Asks whether whoever shows `proof` may push to `repository`. What a branch's own policies say is not known before a push.
///
/// # Errors
/// As [`probe`]; `AccessDenied` where it may fetch alone.
pub async fn may_push(http: &Http, repository: &Repository, proof: &Proof) -> Result<(), Failure> {
    ask(http, question(repository, PUSH, hidden(&proof.authorization())?)?, PUSH).await
}

/// The request that Git sends first. `X-TFS-FedAuthRedirect: Suppress` asks for a 401 instead of the sign-in page.
///
/// # Errors
/// A token that no header takes.
pub fn request(repository: &Repository, token: &SecretString) -> Result<Request<Full<Bytes>>, Failure> {
    question(repository, FETCH, bearer(token)?)
}

fn question(
    repository: &Repository,
    service: &str,
    authorization: HeaderValue,
) -> Result<Request<Full<Bytes>>, Failure> {
    Request::get(repository.info_refs(service))
        .header(AUTHORIZATION, authorization)
        .header(USER_AGENT, AGENT)
        .header("X-TFS-FedAuthRedirect", "Suppress")
        .body(Full::default())
        .map_err(|_| unsendable())
}

async fn ask(http: &Http, question: Request<Full<Bytes>>, service: &str) -> Result<(), Failure> {
    let answer = http.opening(question, DEADLINE, OPENING).await;
    let answer = answer.map_err(|unreachable| unreachable.failure("AzureDevOpsUnavailable", "Azure DevOps"))?;
    if is_advertisement(&answer, service) { Ok(()) } else { Err(refusal(&answer, service)) }
}

fn is_advertisement(answer: &Response<Bytes>, service: &str) -> bool {
    let line = || first_line(answer.body()).and_then(|line| line.trim_ascii_end().strip_prefix(b"# service="));
    answer.status() == StatusCode::OK
        && media_type(answer.headers()) == format!("application/x-{service}-advertisement")
        && line() == Some(service.as_bytes())
}

fn refusal(answer: &Response<Bytes>, service: &str) -> Failure {
    let failure = match (service, answer.status()) {
        (PUSH, StatusCode::FORBIDDEN) => devops::no_push(),
        (_, StatusCode::UNAUTHORIZED) if wants_newer(answer.headers()) => devops::outdated(),
        (_, status) => devops::from_answer(status.as_u16(), is_html(answer), retry_after(answer.headers())),
    };
    failure.trace(text(answer.headers(), "activityid"))
}

/// Whether a challenge is that of continuous access evaluation. What it says beside (`claims`) would go with the next request
/// for a token only if we had said that we know what to do with it (`xms_cc` CP1), and that would bring tokens of a day.
///
/// Form: <https://learn.microsoft.com/entra/identity-platform/claims-challenge>.
fn wants_newer(headers: &HeaderMap) -> bool {
    let mut challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    challenges.any(|challenge| {
        let words = || challenge.split([' ', ',']);
        let mut after_bearer = words().skip_while(|word| !word.eq_ignore_ascii_case("bearer"));
        after_bearer.any(|word| matches!(word, "error=\"insufficient_claims\"" | "error=insufficient_claims"))
    })
}

/// The payload of the first pkt-line: four hex digits of its length, themselves included, then that many bytes.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    bytes.get(4..usize::from_str_radix(digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claims_challenge_is_known_among_others() {
        let wants = |values: &[&str]| {
            let headers = values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()));
            wants_newer(&headers.collect())
        };
        let entra = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
                     error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnt9fQ==\"";
        assert!(
            wants(&["Basic realm=\"x\"", entra]) && wants(&["Basic realm=\"x\", bearer error=insufficient_claims"])
        );
        let plain = "Bearer authorization_uri=https://login.microsoftonline.com/t";
        for others in [
            &[plain, "TFS-Federated"][..],
            &["Bearer error=\"invalid_token\""],
            &["Basic error=insufficient_claims"],
            &[],
        ] {
            assert!(!wants(others), "{others:?}");
        }
    }

    #[test]
    fn a_first_line_is_cut_by_its_length() {
        assert_eq!(first_line(b"001e# service=git-upload-pack\n0000"), Some(&b"# service=git-upload-pack\n"[..]));
        for odd in [&b""[..], b"001", b"0000", b"0003", b"zzzz", b"+01e# s", b"001e# service=git", b"\xff\xff\xff\xff"]
        {
            assert_eq!(first_line(odd), None, "{odd:?}");
        }
        assert_eq!(first_line(b"0004"), Some(&b""[..]));
    }
}
