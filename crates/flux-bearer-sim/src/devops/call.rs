//! A REST request, read, and what its api-version must say.

use std::collections::HashMap;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use url::form_urlencoded;

use super::answer::ErrorType;
use super::{Denied, Exchange};

/// Bytes that a request may have.
const LARGEST: usize = 1 << 20;

const WEB_API: &str = "Microsoft.VisualStudio.Services.WebApi";

/// A REST request.
pub(super) struct Call {
    pub(super) method: Method,
    /// By name in lower case.
    query: HashMap<String, String>,
    /// The api-version of the query, else of the `Accept` header.
    version: Option<String>,
    body: Bytes,
}

impl Call {
    pub(super) async fn read(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
        let query: HashMap<String, String> = pairs.map(|(name, value)| (name.to_lowercase(), value)).collect();
        let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let accepted = accept.split(';').find_map(|part| part.trim().strip_prefix("api-version="));
        let version = query.get("api-version").cloned().or_else(|| accepted.map(ToOwned::to_owned));
        let body = axum::body::to_bytes(body, LARGEST).await.unwrap_or_default();
        Self { method: parts.method, query, version, body }
    }

    /// A parameter of the query, whose names compare without regard to case.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(&name.to_lowercase()).map(String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The values of a parameter that lists them between commas.
    pub(super) fn list(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.query(name)?.split(',').map(str::trim).collect())
    }
}

impl Exchange<'_> {
    /// Demands an api-version of whatever writes, and of what is under preview that it says so.
    pub(super) fn check_version(&self, call: &Call, is_preview: bool) -> Result<(), Denied> {
        let is_read = matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS);
        match call.version.as_deref() {
            None if is_read => Ok(()),
            None => {
                let message = format!(
                    "No api-version was supplied for the \"{}\" request. The version must be supplied either as part \
                     of the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \
                     \"?api-version=1.0\").",
                    call.method
                );
                Err(self.fail(
                    StatusCode::BAD_REQUEST,
                    &message,
                    &ErrorType(WEB_API, "VssVersionNotSpecifiedException"),
                ))
            }
            Some(version) if is_preview && !version.contains("-preview") => {
                let message = format!(
                    "The requested version \"{version}\" of the resource is under preview. The -preview flag must be \
                     supplied in the api-version for such requests. For example: \"{version}-preview\""
                );
                let kind = ErrorType(WEB_API, "VssInvalidPreviewVersionException");
                Err(self.fail(StatusCode::BAD_REQUEST, &message, &kind))
            }
            Some(_) => Ok(()),
        }
    }

    /// The body as JSON (whose wording of errors could not be confirmed).
    pub(super) fn body(&self, call: &Call) -> Result<Value, Denied> {
        serde_json::from_slice(&call.body)
            .map_err(|_| self.bad_request("The request body is no JSON of the expected form."))
    }

    /// 400 with this message.
    pub(super) fn bad_request(&self, message: &str) -> Denied {
        let kind = ErrorType("Microsoft.VisualStudio.Services.Common", "VssPropertyValidationException");
        self.fail(StatusCode::BAD_REQUEST, message, &kind)
    }

    /// 404 for an identity that is not there (wording unconfirmed).
    pub(super) fn no_identity(&self, name: &str) -> Denied {
        let message = format!("TF14045: The identity with type '' and identifier '{name}' could not be found.");
        let kind = ErrorType("Microsoft.VisualStudio.Services.Identity", "IdentityNotFoundException");
        self.fail(StatusCode::NOT_FOUND, &message, &kind)
    }

    /// 403 for want of a permission. The object has the shape of the other errors; its key and wording vary from area to
    /// area in Azure DevOps and could not be confirmed.
    pub(super) fn forbidden(&self, object_id: &str, permission: &str) -> Denied {
        let message = format!(
            "TF50309: The following account does not have sufficient permissions to complete the operation: \
             {object_id}. The following permissions are needed to perform this operation: {permission}."
        );
        let kind = ErrorType("Microsoft.TeamFoundation.Framework.Server", "AccessDeniedException");
        Denied::no_right(self.answers.error(StatusCode::FORBIDDEN, &message, &kind))
    }

    /// An error that is not about rights.
    pub(super) fn fail(&self, status: StatusCode, message: &str, kind: &ErrorType) -> Denied {
        Denied::new(crate::journal::TokenVerdict::Valid, self.answers.error(status, message, kind))
    }
}
