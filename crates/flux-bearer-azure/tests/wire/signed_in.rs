//! Somebody who is signed in already.

use std::sync::Arc;
use std::time::Duration;

use flux_bearer::failure::Failure;
use flux_bearer::token::Grant;
use flux_bearer_azure::http::Http;
use flux_bearer_azure::operator::{Resource, Session, SignIn};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

/// Has a token for everything, with the resource in it.
struct SignedIn;

impl SignIn for SignedIn {
    fn token<'a>(&'a self, resource: Resource, _: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        let grant = Grant {
            secret: format!("token-for-{resource:?}").into(),
            expires_in: Some(Duration::from_hours(1)),
            expires_on: None,
            refresh_in: None,
            server_time: None,
        };
        std::future::ready(Ok(grant)).boxed()
    }

    fn describe(&self) -> String {
        "a test".to_owned()
    }
}

/// A session that sends through `http`.
pub(crate) fn session(http: Http) -> Session {
    Session::new(http, Arc::new(SignedIn), None, || Timestamp::constant(1_800_000_000, 0))
}
