//! Whether a token opens a repository: asks what Git asks first.

use std::time::Duration;

use bytes::Bytes;
use flux_bearer::failure::{Failure, devops};
use flux_bearer::repository::Repository;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use secrecy::SecretString;

use crate::http::headers::{media_type, retry_after, text};
use crate::http::{AGENT, Http, bearer, is_html, unsendable};

/// How long the opening of the answer may take. A repository with a hundred thousand refs keeps Azure DevOps busy for
/// some seconds before the first byte.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How much of the answer is read, in bytes. The advertisement of a big repository has megabytes, and its first line
/// says all there is to know.
pub const OPENING: usize = 512;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const SERVICE: &[u8] = b"# service=git-upload-pack";

/// Asks Azure DevOps for the branches of `repository` with `token`. Succeeds only when a Git server answers.
///
/// # Errors
/// What the answer means by [`flux_bearer::failure::devops`], or what kept it from arriving.
pub async fn probe(http: &Http, repository: &Repository, token: &SecretString) -> Result<(), Failure> {
    let answer = http.opening(request(repository, token)?, DEADLINE, OPENING).await;
    let answer = answer.map_err(|unreachable| unreachable.failure("AzureDevOpsUnavailable", "Azure DevOps"))?;
    if is_advertisement(&answer) { Ok(()) } else { Err(refusal(&answer)) }
}

/// The request that Git sends first. `X-TFS-FedAuthRedirect: Suppress` asks for a 401 instead of the sign-in page.
///
/// # Errors
/// A token that no header takes.
pub fn request(repository: &Repository, token: &SecretString) -> Result<Request<Full<Bytes>>, Failure> {
    Request::get(repository.info_refs())
        .header(AUTHORIZATION, bearer(token)?)
        .header(USER_AGENT, AGENT)
        .header("X-TFS-FedAuthRedirect", "Suppress")
        .body(Full::default())
        .map_err(|_| unsendable())
}

fn is_advertisement(answer: &Response<Bytes>) -> bool {
    answer.status() == StatusCode::OK
        && media_type(answer.headers()) == ADVERTISEMENT
        && first_line(answer.body()).is_some_and(|line| line.trim_ascii_end() == SERVICE)
}

fn refusal(answer: &Response<Bytes>) -> Failure {
    let failure = devops::from_answer(answer.status().as_u16(), is_html(answer), retry_after(answer.headers()));
    failure.trace(text(answer.headers(), "activityid"))
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
    fn a_first_line_is_cut_by_its_length() {
        assert_eq!(first_line(b"001e# service=git-upload-pack\n0000"), Some(&b"# service=git-upload-pack\n"[..]));
        for odd in [&b""[..], b"001", b"0000", b"0003", b"zzzz", b"+01e# s", b"001e# service=git", b"\xff\xff\xff\xff"]
        {
            assert_eq!(first_line(odd), None, "{odd:?}");
        }
        assert_eq!(first_line(b"0004"), Some(&b""[..]));
    }
}
