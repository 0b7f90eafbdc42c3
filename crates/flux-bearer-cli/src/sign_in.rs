//! How the operator signs in: by flag, or by what the environment and Azure CLI offer.

use std::io;
use std::sync::Arc;

use flux_bearer::failure::{Class, Failure};
use flux_bearer::identity::Selector;
use flux_bearer_azure::entra::Authority;
use flux_bearer_azure::imds::Imds;
use flux_bearer_azure::operator::{
    AzureCli, AzureCliProgram, ClientSecret, DeviceCode, ManagedIdentity, Output, Session, SignIn, Workload,
};
use flux_bearer_azure::workload::Assertion;
use futures::FutureExt;
use futures::future::BoxFuture;
use secrecy::SecretString;

use crate::args::{Operator, Way};
use crate::edge::{Call, Edge, Files, Programs};
use crate::exit::{Exit, Trouble};

/// A session of the operator in `tenant`, or in the one that the flags or the way of signing in know.
pub(crate) fn session(flags: &Operator, tenant: Option<&str>, edge: &Edge) -> Result<Session, Trouble> {
    let tenant = tenant.or(flags.tenant.as_deref()).map(str::to_owned);
    let now = Arc::clone(&edge.now);
    Ok(Session::new(edge.azure.clone(), way(flags, edge)?, tenant, move || now()))
}

/// The way of signing in that the flags name, or the environment.
///
/// # Errors
/// A variable of the environment that this way needs.
pub fn way(flags: &Operator, edge: &Edge) -> Result<Arc<dyn SignIn>, Trouble> {
    let way = flags.sign_in.unwrap_or_else(|| guess(edge));
    Ok(match way {
        Way::Cli => Arc::new(AzureCli::new(Arc::new(Az(Arc::clone(&edge.programs))))),
        Way::Environment => environment(edge)?,
        Way::ManagedIdentity => {
            let selector = edge.variable("AZURE_CLIENT_ID").map(str::to_owned);
            let selector = selector.map_or(Selector::System, Selector::ClientId);
            Arc::new(ManagedIdentity::new(Imds::new(edge.link_local.clone()), selector))
        }
        Way::DeviceCode => device_code(edge),
    })
}

/// The environment where it names a credential, as a pipeline's does; else Azure CLI.
fn guess(edge: &Edge) -> Way {
    let named = ["AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"].iter().any(|name| edge.variable(name).is_some());
    if named { Way::Environment } else { Way::Cli }
}

fn environment(edge: &Edge) -> Result<Arc<dyn SignIn>, Trouble> {
    let need = |name: &str| {
        edge.variable(name).map(str::to_owned).ok_or_else(|| {
            let fix = "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or \
                       sign in with az login";
            Trouble::new(Exit::SignIn, format!("{name} is not set"), fix)
        })
    };
    let (tenant, client) = (need("AZURE_TENANT_ID")?, need("AZURE_CLIENT_ID")?);
    let (http, authority) = (edge.azure.clone(), Authority::default());
    if let Some(file) = edge.variable("AZURE_FEDERATED_TOKEN_FILE") {
        let assertion = Arc::new(File { path: file.to_owned(), files: Arc::clone(&edge.files) });
        return Ok(Arc::new(Workload::new(http, authority, tenant, client, assertion)));
    }
    let secret = SecretString::from(need("AZURE_CLIENT_SECRET")?);
    Ok(Arc::new(ClientSecret::new(http, authority, tenant, client, secret)))
}

fn device_code(edge: &Edge) -> Arc<dyn SignIn> {
    let out = edge.out.clone();
    let show = move |prompt: &flux_bearer_azure::operator::Prompt| {
        out.waiting(&format!("open {} and enter the code {}", prompt.verification_uri, prompt.user_code));
    };
    Arc::new(DeviceCode::new(edge.azure.clone(), Authority::default(), show))
}

/// Azure CLI, as a program of the edge.
struct Az(Arc<dyn Programs>);

impl AzureCliProgram for Az {
    fn run(&self, arguments: Vec<String>) -> BoxFuture<'_, io::Result<Output>> {
        let environment = vec![("AZURE_CORE_NO_COLOR", SecretString::from("true"))];
        let ended = self.0.run(Call { program: "az", arguments, environment, ..Call::default() });
        async move {
            let ended = tokio::time::timeout(AZ_PATIENCE, ended).await.map_err(|_| io::ErrorKind::TimedOut)??;
            Ok(Output { status: ended.status, stdout: ended.stdout, stderr: ended.stderr })
        }
        .boxed()
    }
}

/// How long Azure CLI may take: it starts slowly.
const AZ_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A federated token in a file, read anew each time.
struct File {
    path: String,
    files: Arc<dyn Files>,
}

impl Assertion for File {
    fn read(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let text = self.files.secret(&self.path);
        async move { text.await.map_err(|_| unreadable(&self.path)) }.boxed()
    }
}

fn unreadable(path: &str) -> Failure {
    let cause = format!("{path}, which AZURE_FEDERATED_TOKEN_FILE names, can't be read");
    let fix = "Let it name the file of the federated token";
    Failure::new("ServiceAccountTokenUnusable", Class::Permanent, "ServiceAccountTokenUnusable", cause, fix)
}
