//! Azure CLI: what it is asked, and what comes of each way in which it ends.

use std::io;
use std::sync::{Arc, Mutex};

use flux_bearer::failure::{Class, Failure};
use flux_bearer::token::Grant;
use flux_bearer_azure::operator::{AzureCli, AzureCliProgram, Output, Resource, SignIn};
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::ExposeSecret;

use crate::server::{CANARY, TENANT, assert_own_words};

type End = fn() -> io::Result<Output>;

/// A program that always ends in the same way, and remembers its arguments.
struct Program {
    end: End,
    asked: Mutex<Vec<Vec<String>>>,
}

impl AzureCliProgram for Program {
    fn run(&self, args: Vec<String>) -> BoxFuture<'_, io::Result<Output>> {
        self.asked.lock().unwrap().push(args);
        std::future::ready((self.end)()).boxed()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is one way to end, beside errors")]
fn ended(status: i32, stdout: &str, stderr: &str) -> io::Result<Output> {
    Ok(Output { status: Some(status), stdout: stdout.into(), stderr: stderr.into() })
}

async fn ask(end: End) -> (Result<Grant, Failure>, Vec<Vec<String>>) {
    let program = Arc::new(Program { end, asked: Mutex::default() });
    let granted = AzureCli::new(program.clone()).token(Resource::Arm, Some(TENANT)).await;
    let asked = program.asked.lock().unwrap().clone();
    (granted, asked)
}

#[tokio::test(start_paused = true)]
async fn it_is_asked_for_a_scope_and_a_tenant() {
    let (granted, asked) = ask(|| ended(0, r#"{"accessToken":"the-token","expires_on":1795446000}"#, "")).await;
    assert_eq!(granted.unwrap().secret.expose_secret(), "the-token");
    let scope = "https://management.azure.com/.default";
    assert_eq!(asked, [["account", "get-access-token", "--output", "json", "--scope", scope, "--tenant", TENANT]]);
}

#[tokio::test(start_paused = true)]
async fn however_it_ends_it_is_told_in_our_words() {
    let cases: &[(End, &str, Class)] = &[
        (|| Err(io::ErrorKind::NotFound.into()), "AzureCliMissing", Class::Permanent),
        (|| Err(io::ErrorKind::TimedOut.into()), "AzureCliStuck", Class::Transient),
        (|| Err(io::Error::other(CANARY)), "AzureCliStuck", Class::Transient),
        (|| ended(127, "", CANARY), "AzureCliMissing", Class::Permanent),
        (|| ended(1, CANARY, "Please run 'az login' to setup account. canary"), "NotLoggedIn", Class::Permanent),
        (|| ended(1, "", "ERROR: AADSTS50076: canary"), "AADSTS50076", Class::Permanent),
        (|| ended(1, CANARY, CANARY), "az: exit 1", Class::Permanent),
        (|| ended(0, CANARY, CANARY), "AzureCliUnreadable", Class::Permanent),
        (|| ended(0, r#"{"accessToken":"canary","expiresOn":"x"}"#, ""), "AzureCliUnreadable", Class::Permanent),
        (|| ended(1, r#"{"accessToken":"canary","expires_on":1795446000}"#, ""), "az: exit 1", Class::Permanent),
    ];
    for (end, code, class) in cases {
        let failure = ask(*end).await.0.unwrap_err();
        assert_eq!((&*failure.code, failure.class), (*code, *class));
        assert_own_words(&failure, code);
    }
}
