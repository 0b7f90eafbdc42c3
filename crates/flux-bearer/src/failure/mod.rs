//! Everything that can go wrong, one pure table a service: class, cause in words, and what fixes it.
//!
//! A [`Failure`] is built from codes and statuses only. No server's text is ever part of it, so it may go to a
//! condition, an event, a log line and a metric label as it is.

pub mod arm;
pub mod devops;
pub mod devops_rest;
pub mod entra;
pub mod imds;
pub mod kubernetes;
pub mod operator;
pub mod token_proxy;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Longest `Retry-After` that is honoured, in seconds. A server that asks for more is asked again after this: a token
/// that lives 60 minutes must not be lost to one header.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What a failure means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes by itself: try again with backoff.
    Transient,
    /// It is what a change in Entra ID looks like until it has spread, for about ten minutes; permanent after that.
    Propagation,
    /// It stays until somebody changes something, unless an API server has just started: tried twice more within seconds.
    Starting,
    /// The credential was stale: read it again and try once more at once; permanent after that.
    Reread,
    /// It stays until somebody changes something.
    Permanent,
}

impl Class {
    /// The class as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Propagation => "propagation",
            Self::Starting => "starting",
            Self::Reread => "reread",
            Self::Permanent => "permanent",
        }
    }
}

/// One thing that went wrong, in words that may be shown to anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason of condition, event, log line and metric: CamelCase, from a fixed set.
    pub reason: &'static str,
    /// What it means for the next attempt.
    pub class: Class,
    /// The service's own code, for example `AADSTS700213`, `HTTP 503` or `TF401019`.
    pub code: Cow<'static, str>,
    /// What happened, in words.
    pub cause: Cow<'static, str>,
    /// What to do about it: a command where there is one.
    pub fix: Cow<'static, str>,
    /// The service's request id for a support case; only ever a GUID.
    pub trace: Option<String>,
    /// How long the service asked to be left alone, capped at [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without request id or `Retry-After`.
    pub fn new(
        reason: &'static str,
        class: Class,
        code: impl Into<Cow<'static, str>>,
        cause: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { reason, class, code: code.into(), cause: cause.into(), fix: fix.into(), trace: None, retry_after: None }
    }

    /// The same failure with the time that the service asked for, capped.
    #[must_use]
    pub fn retry_after(mut self, asked: Option<Duration>) -> Self {
        self.retry_after = asked.map(|asked| asked.min(MAX_RETRY_AFTER));
        self
    }

    /// The same failure with the service's request id; anything but a GUID is dropped.
    #[must_use]
    pub fn trace(mut self, id: Option<&str>) -> Self {
        self.trace = id.filter(|id| crate::identity::is_guid(id)).map(str::to_owned);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}. {}", self.code, self.cause, self.fix)
    }
}

impl std::error::Error for Failure {}

/// A connection that gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No connection: refused, no route, no such name.
    Connect,
    /// No complete answer within this time.
    Timeout(Duration),
    /// The proxy opened no way: it is not there, wants another password, refuses, or ends the connection.
    Proxy,
    /// TLS failed: an unknown issuer or another host's certificate.
    Tls,
    /// The connection ended in the middle of the answer.
    Cut,
    /// The answer is longer than this many bytes.
    TooLarge(usize),
    /// The answer is not what the protocol says.
    Malformed,
}

impl Unreachable {
    /// The failure of talking to `service` (its name in words) with `reason`.
    pub fn failure(self, reason: &'static str, service: &str) -> Failure {
        let (code, cause, fix): (&'static str, String, &'static str) = match self {
            Self::Connect => (
                "ConnectionFailed",
                format!("no connection to {service}"),
                "Check DNS, the firewall and, in a cluster, the NetworkPolicy on the way to it; retried by itself",
            ),
            Self::Timeout(limit) => (
                "Timeout",
                format!("{service} gave no answer within {} s", limit.as_secs_f32()),
                "Retried by itself; if it lasts, check firewall and proxy",
            ),
            Self::Proxy => (
                "ProxyFailed",
                format!("the proxy opens no way to {service}"),
                "Check HTTPS_PROXY, the user and password in it (407), and that the proxy lets this host through, or name \
                 the host in NO_PROXY; retried by itself",
            ),
            Self::Tls => (
                "TlsFailed",
                format!("the certificate of {service} is not trusted"),
                "If a proxy inspects TLS, give its CA with --ca-file",
            ),
            Self::Cut => (
                "ConnectionCut",
                format!("the connection to {service} ended in the middle of the answer"),
                "Retried by itself",
            ),
            Self::TooLarge(limit) => (
                "AnswerTooLarge",
                format!("the answer of {service} is longer than {limit} bytes"),
                "Something in between answers in its place: check the proxy",
            ),
            Self::Malformed => (
                "AnswerMalformed",
                format!("the answer of {service} can't be read"),
                "Something in between may answer in its place: check the proxy",
            ),
        };
        Failure::new(reason, Class::Transient, code, cause, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_05_a_retry_after_is_capped_at_five_minutes() {
        let failure = entra::from_status(429, Some(Duration::from_secs(86_400)));
        assert_eq!(failure.retry_after, Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn each_class_has_a_label_of_its_own() {
        let classes = [Class::Transient, Class::Propagation, Class::Starting, Class::Reread, Class::Permanent];
        assert_eq!(classes.map(Class::label), ["transient", "propagation", "starting", "reread", "permanent"]);
    }

    #[test]
    fn a_trace_that_is_no_guid_is_dropped() {
        let failure = entra::from_status(503, None);
        assert_eq!(failure.clone().trace(Some("eyJ0eXAi.secret")).trace, None);
        assert!(failure.trace(Some("0f725dc7-2eef-470a-ba1c-a02c7a149100")).trace.is_some());
    }
}
