//! Workload identity: a service account token of Kubernetes proves the client.

use flux_bearer::failure::{Class, Failure};
use flux_bearer::token_request::MAX_BYTES;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::entra::Form;
use crate::resource::Resource;

/// Where the service account token comes from: a projected file or the `TokenRequest` API.
///
/// It is read anew for every mint, because the kubelet replaces the file long before the process ends.
pub trait Assertion: Send + Sync {
    /// The service account token as it is now.
    ///
    /// # Errors
    /// What keeps it from being read, in words that may be shown.
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>>;
}

/// The form that asks for a token for `resource` as `client_id`, with the service account token that `assertion` reads
/// now.
///
/// # Errors
/// A token that can't be read, is empty, or is no token: nothing is worth sending then.
pub async fn form(resource: Resource, client_id: &str, assertion: &dyn Assertion) -> Result<Form, Failure> {
    let token = assertion.read().await?;
    Ok(Form::asserted(resource, client_id, check(token.expose_secret())?))
}

fn check(text: &str) -> Result<&str, Failure> {
    let cause = match text.trim() {
        "" => "the projected service account token is empty",
        long if long.len() > MAX_BYTES => "the projected service account token is longer than 16 KiB",
        odd if !odd.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "the projected service account token holds blanks or control characters"
        }
        token => return Ok(token),
    };
    // Reread: the kubelet may be at work on the file; if not, only a change of the pod helps.
    Err(Failure::new(
        "ServiceAccountTokenUnusable",
        Class::Reread,
        "ServiceAccountTokenUnusable",
        cause,
        "Mount a serviceAccountToken volume as deploy/base does, and let AZURE_FEDERATED_TOKEN_FILE name its file",
    ))
}
