//! A token by Azure's official Rust client, unchanged:
//!
//! ```text
//! rust-clients workload | managed-identity | secret
//! ```
//!
//! It takes the variables of Azure's clients, and prints one line of JSON: `{"token": …}` or `{"error": …}`.

use std::env;
use std::error::Error;
use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde_json::json;

const SCOPE: &str = "499b84ac-1321-427f-aa17-267ca6975798/.default";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let said = match token(&env::args().nth(1).unwrap_or_default()).await {
        Ok(token) => json!({"token": token}),
        Err(error) => json!({"error": chain(&*error)}),
    };
    println!("{said}");
}

async fn token(kind: &str) -> Result<String, Box<dyn Error>> {
    // A failure comes at once: how long a client tries again is its own business.
    let client_options = ClientOptions { retry: RetryOptions::none(), ..ClientOptions::default() };
    let client = env::var("AZURE_CLIENT_ID")?;
    let credential: Arc<dyn TokenCredential> = match kind {
        "workload" => {
            let credential_options = ClientAssertionCredentialOptions { client_options };
            let options = WorkloadIdentityCredentialOptions { credential_options, ..Default::default() };
            WorkloadIdentityCredential::new(Some(options))?
        }
        "managed-identity" => {
            let user_assigned_id = Some(UserAssignedId::ClientId(client));
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions { user_assigned_id, client_options }))?
        }
        "secret" => {
            let secret = Secret::new(env::var("AZURE_CLIENT_SECRET")?);
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(&env::var("AZURE_TENANT_ID")?, client, secret, Some(options))?
        }
        _ => return Err("usage: see the head of main.rs".into()),
    };
    Ok(credential.get_token(&[SCOPE], None).await?.token.secret().to_owned())
}

/// An error with what caused it.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
