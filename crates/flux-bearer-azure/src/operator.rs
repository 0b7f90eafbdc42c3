//! Who does the set-up: a person or a pipeline, signed in in one of several ways.
//!
//! A [`SignIn`] gets tokens, a [`Session`] keeps them until shortly before their end. Nothing of it is for Flux: the
//! controller's own identities are in [`crate::mint`].

mod azure_cli;
mod device_code;
mod principal;
mod session;

use flux_bearer::failure::Failure;
use flux_bearer::token::Grant;
use futures::future::BoxFuture;

pub use azure_cli::{AzureCli, AzureCliProgram, Output};
pub use device_code::{DeviceCode, Prompt};
pub use flux_bearer::token::access::{AccessToken, Holder};
pub use principal::{ClientSecret, ManagedIdentity, Workload};
pub use session::{RENEW_BEFORE, Session};

pub use crate::resource::Resource;

/// A way to sign in.
pub trait SignIn: Send + Sync {
    /// A new token for `resource`, of `tenant` where one is named and else of the one that the way knows.
    ///
    /// It knows no time: what the issuer said of the token's life is in the grant, and [`Session`] reads it.
    ///
    /// # Errors
    /// Why there is none, in words for whoever signs in.
    fn token<'a>(&'a self, resource: Resource, tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>>;

    /// The way in words, for example `service principal 1111…`.
    fn describe(&self) -> String;
}
