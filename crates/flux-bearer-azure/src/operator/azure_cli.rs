//! The account that Azure CLI is signed in with: asks `az` for tokens, and reads what it prints.

use std::io;
use std::sync::Arc;

use flux_bearer::failure::Failure;
use flux_bearer::failure::operator::{Asked, azure_cli, azure_cli_missing, azure_cli_stuck, azure_cli_unreadable};
use flux_bearer::identity::is_tenant;
use flux_bearer::token::Grant;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Resource, SignIn};
use crate::grant::epoch;
use crate::http::{MAX_TOKEN_ANSWER, unsendable};

/// How many objects are looked at in what `az` printed. The token's is the first unless a plug-in talks before it.
const MAX_OBJECTS: usize = 16;

/// The program `az`: a process at the edge, anything in a test.
pub trait AzureCliProgram: Send + Sync {
    /// Runs it once with `args`, without input, to its end or for half a minute: it starts slowly.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a machine without it; anything else for one that can't be run or doesn't end.
    fn run(&self, args: Vec<String>) -> BoxFuture<'_, io::Result<Output>>;
}

/// What a run of `az` left.
pub struct Output {
    /// Its exit status; none of a process that was killed.
    pub status: Option<i32>,
    /// What it printed: the token is in it.
    pub stdout: SecretString,
    /// What it complained of. It is compared with known texts and never repeated.
    pub stderr: String,
}

/// Signs in as whoever Azure CLI is signed in as.
pub struct AzureCli {
    program: Arc<dyn AzureCliProgram>,
}

impl AzureCli {
    /// Asks `program`.
    pub fn new(program: Arc<dyn AzureCliProgram>) -> Self {
        Self { program }
    }

    async fn ask(&self, scope: &str, tenant: Option<&str>) -> Result<Grant, Failure> {
        let asked = Asked { tenant, scope };
        let output = self.program.run(arguments(scope, tenant)?).await.map_err(|error| unrun(&error))?;
        if output.status != Some(0) {
            return Err(azure_cli(output.status, &output.stderr, asked));
        }
        printed(output.stdout.expose_secret()).ok_or_else(|| azure_cli_unreadable(asked))
    }
}

impl SignIn for AzureCli {
    fn token<'a>(&'a self, resource: Resource, tenant: Option<&'a str>) -> BoxFuture<'a, Result<Grant, Failure>> {
        async move { self.ask(&resource.scope(), tenant).await }.boxed()
    }

    fn describe(&self) -> String {
        "the account of Azure CLI".to_owned()
    }
}

fn arguments(scope: &str, tenant: Option<&str>) -> Result<Vec<String>, Failure> {
    let mut arguments = vec!["account", "get-access-token", "--output", "json", "--scope", scope];
    if let Some(tenant) = tenant {
        // It becomes an argument of a program, on some systems through a shell.
        if !is_tenant(tenant) {
            return Err(unsendable());
        }
        arguments.extend(["--tenant", tenant]);
    }
    Ok(arguments.into_iter().map(str::to_owned).collect())
}

fn unrun(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound { azure_cli_missing() } else { azure_cli_stuck() }
}

#[derive(Deserialize)]
struct Printed {
    #[serde(rename = "accessToken")]
    access_token: SecretString,
    /// Since 1970. Its older twin `expiresOn` is local time without a zone, and says nothing.
    expires_on: Value,
}

/// The token in what `az` printed, whatever is printed around it.
fn printed(stdout: &str) -> Option<Grant> {
    if stdout.len() > MAX_TOKEN_ANSWER {
        return None;
    }
    let mut objects = stdout.match_indices('{').take(MAX_OBJECTS).filter_map(|(at, _)| stdout.get(at..));
    let read = |text| serde_json::Deserializer::from_str(text).into_iter::<Printed>().next()?.ok();
    let printed = objects.find_map(read)?;
    Some(Grant {
        secret: printed.access_token,
        expires_in: None,
        expires_on: Some(epoch(&printed.expires_on)?),
        refresh_in: None,
        // By this machine's clock, as az compared it.
        server_time: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = r#"{
      "accessToken": "the-token", "expiresOn": "2026-11-22 15:04:05.000000", "expires_on": 1795356245,
      "subscription": "s", "tenant": "t", "tokenType": "Bearer"
    }"#;

    #[test]
    fn the_token_is_found_in_whatever_is_printed_around_it() {
        for text in [TOKEN.to_owned(), format!("WARNING: {{beta}} {{\"a\": 1}}\r\n\u{feff}{TOKEN}\u{1b}[0m\nbye}}")] {
            let grant = printed(&text).unwrap();
            assert_eq!(grant.secret.expose_secret(), "the-token");
            assert_eq!(grant.expires_on.map(jiff::Timestamp::as_second), Some(1_795_356_245));
            assert_eq!((grant.expires_in, grant.server_time), (None, None));
        }
    }

    #[test]
    fn what_names_no_expiry_is_no_token() {
        let old = TOKEN.replace("expires_on", "x");
        let soon = TOKEN.replace("1795356245", "\"soon\"");
        let late = format!("{}{TOKEN}", "{".repeat(MAX_OBJECTS));
        let long = format!("{}{TOKEN}", " ".repeat(MAX_TOKEN_ANSWER));
        for text in [&old, &soon, &late, &long, "", "{", "[]", "{}", &TOKEN.replace('}', "")] {
            assert!(printed(text).is_none(), "{text:.80}");
        }
    }

    #[test]
    fn only_a_tenant_becomes_an_argument() {
        let plain = arguments("s/.default", None).unwrap();
        assert_eq!(plain, ["account", "get-access-token", "--output", "json", "--scope", "s/.default"]);
        assert_eq!(arguments("s", Some("example.org")).unwrap()[6..], ["--tenant", "example.org"]);
        for tenant in ["", "--debug", "a b", "a;b", "$(a)", "a\"b", "a&b"] {
            assert!(arguments("s", Some(tenant)).is_err(), "{tenant}");
        }
    }
}
