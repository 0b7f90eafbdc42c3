//! The parts of CGI/1.1 (RFC 3875) that `git http-backend` needs: the request's variables and the head of its answer.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Longest head that is read before a program is taken for broken. `git http-backend` writes about 200 bytes.
pub const LONGEST_HEAD: usize = 16 * 1024;

/// Why an answer's head can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The program ended, or wrote too much, before the empty line.
    #[error("the CGI program sent no complete head")]
    Incomplete,
    /// A line is no header, or the status no number.
    #[error("the CGI program sent a malformed head")]
    Malformed,
}

/// What a program wrote before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// From the `Status` header; 200 where there is none.
    pub status: StatusCode,
    /// The other headers.
    pub headers: HeaderMap,
}

/// Splits what a program has written so far into head and first bytes of the body; none while the head goes on.
///
/// Lines end with CRLF or with LF alone, as RFC 3875 lets programs write them.
pub fn split(written: &[u8]) -> Option<(&[u8], &[u8])> {
    let end_of_line = |at: &usize| written.get(*at) == Some(&b'\n');
    for at in (0..written.len()).filter(end_of_line) {
        let rest = written.get(at + 1..)?;
        let body = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"));
        if let Some(body) = body {
            return Some((written.get(..=at)?, body));
        }
    }
    None
}

/// Reads the lines of a head.
pub fn parse(head: &[u8]) -> Result<Head, HeadError> {
    let mut parsed = Head { status: StatusCode::OK, headers: HeaderMap::new() };
    for line in head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadError::Malformed)?;
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"status") {
            parsed.status = status(value)?;
        } else {
            let name = HeaderName::from_bytes(name).map_err(|_| HeadError::Malformed)?;
            parsed.headers.append(name, HeaderValue::from_bytes(value).map_err(|_| HeadError::Malformed)?);
        }
    }
    Ok(parsed)
}

/// The status of `404 Not Found`.
fn status(value: &[u8]) -> Result<StatusCode, HeadError> {
    let code = value.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    StatusCode::from_bytes(code).map_err(|_| HeadError::Malformed)
}

/// The variables that describe a request. Without `Content-Length` (a chunked body) the program reads to the end of its
/// input.
pub fn variables(request: &Parts) -> Vec<(&'static str, String)> {
    const FROM_HEADERS: [(&str, HeaderName); 4] = [
        ("CONTENT_TYPE", CONTENT_TYPE),
        ("CONTENT_LENGTH", CONTENT_LENGTH),
        ("HTTP_CONTENT_ENCODING", CONTENT_ENCODING),
        ("GIT_PROTOCOL", HeaderName::from_static("git-protocol")),
    ];
    let mut variables = vec![
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_PROTOCOL", "HTTP/1.1".to_owned()),
        ("REMOTE_ADDR", "127.0.0.1".to_owned()),
        ("REQUEST_METHOD", request.method.to_string()),
        ("QUERY_STRING", request.uri.query().unwrap_or_default().to_owned()),
    ];
    for (variable, header) in FROM_HEADERS {
        if let Some(value) = request.headers.get(header).and_then(|value| value.to_str().ok()) {
            variables.push((variable, value.to_owned()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        let written = b"Content-Type: a/b\r\nX: y\r\n\r\nbody\r\n\r\nmore";
        assert_eq!(split(written), Some((&b"Content-Type: a/b\r\nX: y\r\n"[..], &b"body\r\n\r\nmore"[..])));
        assert_eq!(split(b"A: b\n\nbody"), Some((&b"A: b\n"[..], &b"body"[..])));
        assert_eq!(split(b"A: b\r\n\r"), None);
        assert_eq!(split(b""), None);
    }

    #[test]
    fn a_head_without_status_is_200() {
        let head = parse(b"Content-Type: application/x-git-upload-pack-advertisement\r\nCache-Control: no-cache\r\n");
        let head = head.unwrap();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/x-git-upload-pack-advertisement");
        assert_eq!(head.headers.len(), 2);
    }

    #[test]
    fn the_status_header_becomes_the_status_and_is_not_sent() {
        let head = parse(b"Status: 404 Not Found\r\nPragma: no-cache\r\n").unwrap();
        assert_eq!(head.status, StatusCode::NOT_FOUND);
        assert!(!head.headers.contains_key("status"));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert_eq!(parse(b"no colon here\r\n"), Err(HeadError::Malformed));
        assert_eq!(parse(b"Status: fine\r\n"), Err(HeadError::Malformed));
        assert_eq!(parse(b"bad name: x\r\n"), Err(HeadError::Malformed));
    }

    #[test]
    fn a_request_becomes_variables() {
        let request = Request::post("https://dev.azure.com/o/p/_git/r/git-upload-pack?a=b")
            .header("content-type", "application/x-git-upload-pack-request")
            .header("content-encoding", "gzip")
            .header("git-protocol", "version=2")
            .body(())
            .unwrap();
        let variables = variables(&request.into_parts().0);
        let value = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
        assert_eq!(value("REQUEST_METHOD"), Some("POST"));
        assert_eq!(value("QUERY_STRING"), Some("a=b"));
        assert_eq!(value("CONTENT_TYPE"), Some("application/x-git-upload-pack-request"));
        assert_eq!(value("HTTP_CONTENT_ENCODING"), Some("gzip"));
        assert_eq!(value("GIT_PROTOCOL"), Some("version=2"));
        assert_eq!(value("CONTENT_LENGTH"), None);
    }
}
