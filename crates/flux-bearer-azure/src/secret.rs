//! A service principal with a client secret.

use flux_bearer::failure::{Class, Failure};
use secrecy::{ExposeSecret, SecretString};

use crate::entra::Form;
use crate::resource::Resource;

/// Longest client secret that is sent, in bytes. Entra ID makes them of 40 characters.
pub const MAX_SECRET_BYTES: usize = 1024;

/// The form that asks for a token for `resource` as `client_id`, with a client secret. Blanks around it, such as the
/// newline that `echo` leaves in a Secret, are not part of it: Entra ID makes none with blanks.
///
/// # Errors
/// A secret that is empty or can't be one: nothing is worth sending then.
pub fn form(resource: Resource, client_id: &str, secret: &SecretString) -> Result<Form, Failure> {
    Ok(Form::client_credentials(resource, client_id, &[("client_secret", check(secret.expose_secret())?)]))
}

fn check(text: &str) -> Result<&str, Failure> {
    let cause = match text.trim() {
        "" => "the client secret is empty",
        long if long.len() > MAX_SECRET_BYTES => "the client secret is longer than 1 KiB",
        odd if odd.chars().any(char::is_control) => "the client secret holds control characters",
        secret => return Ok(secret),
    };
    let fix = "Put the secret's value, not its id, into the Secret under clientSecret";
    Err(Failure::new("CredentialRejected", Class::Permanent, "ClientSecretUnusable", cause, fix))
}
