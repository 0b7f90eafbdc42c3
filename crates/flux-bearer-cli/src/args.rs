//! The command line: kubectl's flags, and one subcommand a verb.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use flux_bearer::resource::{DeletionPolicy, Format as Keys, IdentityKind};

use crate::edge::Which;
use crate::exit::Trouble;

/// Gives Flux a credential for Azure Repos that no person owns and nobody rotates.
///
/// Exit status: 0 done; 1 failed; 2 usage; 3 warnings (with --strict); 4 there is something to change (with --dry-run);
/// 5 not signed in; 6 a right or licence is missing; 7 not found; 8 forbidden by a policy; 9 taken by somebody else;
/// 10 no network; 124 not done in time; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "flux-bearer", version, max_term_width = 100)]
pub struct Arguments {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// What the program was called by.
    #[arg(skip)]
    pub program: String,

    /// File with the cluster's address and credential
    #[arg(long, global = true, env = "KUBECONFIG", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,

    /// Namespace of the BearerToken and its Secret
    #[arg(short, long, global = true, env = "FLUX_SYSTEM_NAMESPACE", default_value = "flux-system")]
    pub namespace: String,

    /// How long the whole run may take
    #[arg(long, global = true, default_value = "10m", value_parser = duration)]
    pub timeout: Duration,

    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Format,
}

impl Global {
    /// Which cluster is meant.
    pub fn which(&self) -> Which {
        Which { kubeconfig: self.kubeconfig.clone(), context: self.context.clone(), timeout: None }
    }
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide screens.
    Wide,
    /// What needs a look, alone.
    Short,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// What to do.
///
/// The value name of an argument says what can stand there, also to completion: `BEARERTOKEN`, `GITREPOSITORY`,
/// `CHECK`, `NAMESPACE` and `CONTEXT` are the names of what there is; see `verbs/complete.rs`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make everything from the managed identity to a Flux that pulls; again changes nothing
    Setup(Box<Setup>),
    /// Replace the PAT, CronJob or `provider: azure` that Flux pulls with, without a failed pull in between
    Migrate(Migrate),
    /// Take back what `setup` made
    Uninstall(Box<Uninstall>),
    /// Bootstrap Flux from the repository, by a token that pushes once and does not stay
    Bootstrap(Bootstrap),
    /// Write a fresh token into the Secret from here, when neither controller nor Git can
    Rescue(Rescue),
    /// Show BearerTokens and how long their tokens still live
    Get(Get),
    /// Have a fresh token put into the Secret now
    Refresh(Refresh),
    /// Stop renewing tokens
    Suspend(Targets),
    /// Renew tokens again
    Resume(Resume),
    /// Make or change a BearerToken
    #[command(subcommand)]
    Create(Create),
    /// Look for everything that can be wrong, and say how to fix it
    Check(Check),
    /// Print the page of a check, or list all checks
    Explain(Explain),
    /// Print the script that completes this command line in a shell
    Completion(Completion),
    /// What could stand in place of the last word, in Cobra's protocol
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete(Complete),
    /// Print the version of this program and of the controller in the cluster
    Version(Version),
}

/// How the operator signs in to Azure and Azure DevOps.
#[derive(Args, Clone, Debug)]
pub struct Operator {
    /// How to sign in; without it by the environment's credential where there is one, else by Azure CLI
    #[arg(long, value_enum)]
    pub sign_in: Option<Way>,

    /// Tenant to sign in to; without it that of the organisation
    #[arg(long)]
    pub tenant: Option<String>,
}

/// A way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// As whoever `az login` signed in.
    Cli,
    /// `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` or `AZURE_FEDERATED_TOKEN_FILE`.
    Environment,
    /// A managed identity of this machine; `AZURE_CLIENT_ID` chooses one.
    ManagedIdentity,
    /// A code that is entered in a browser, on any machine.
    DeviceCode,
}

/// What the identity may do with the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// Fetch: all that Flux needs to reconcile.
    Read,
    /// Fetch, push and make branches: for image automation and commit statuses.
    Contribute,
}

/// What `setup` takes.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct Setup {
    /// Repository that Flux pulls from: `https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY`
    #[arg(long)]
    pub repository: String,

    /// What the identity may do with the repository
    #[arg(long, value_enum, default_value = "read")]
    pub access: Access,

    /// Region of a new resource group or identity
    #[arg(long)]
    pub location: Option<String>,

    /// Issuer of the cluster's service account tokens, where it can't be reached from here but by Entra ID
    #[arg(long)]
    pub issuer: Option<String>,

    /// Name of the BearerToken
    #[arg(long, default_value = "flux-system")]
    pub name: String,

    /// Name of the Secret that Flux reads; without it that of the BearerToken
    #[arg(long)]
    pub secret: Option<String>,

    /// Take over a Secret that somebody else made
    #[arg(long)]
    pub adopt: bool,

    /// Which Flux reads the Secret; without it the one that is installed, if there is one
    #[arg(long, value_enum)]
    pub flux: Option<FluxMode>,

    /// Image of the controller
    #[arg(long)]
    pub image: Option<String>,

    /// Which part of the repository is the cluster's, with --flux bootstrap.
    #[command(flatten)]
    pub tree: Tree,

    /// Make the changes without asking
    #[arg(short, long)]
    pub yes: bool,

    /// Show the plan and change nothing; exit status 4 if there is something to change
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Print the controller and the BearerToken as YAML, for Git, and change nothing
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    pub export: bool,

    /// Where the identity is.
    #[command(flatten)]
    pub place: Place,

    /// More arguments for `flux bootstrap git`, with --flux bootstrap
    #[arg(last = true, value_name = "ARGUMENT")]
    pub more: Vec<String>,
}

/// Which Flux is to read the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FluxMode {
    /// The one that is installed. Nothing of it is changed but the Secret.
    Existing,
    /// One that is made as the last step, by `flux bootstrap git`.
    Bootstrap,
}

/// Which part of the repository is the cluster's.
#[derive(Args, Clone, Debug)]
pub struct Tree {
    /// Branch that Flux pulls; without it main
    #[arg(long)]
    pub branch: Option<String>,

    /// Folder that Flux applies, from the repository's root, for example clusters/production; without it the root
    #[arg(long)]
    pub path: Option<String>,
}

/// What `bootstrap` takes.
#[derive(Args, Debug)]
pub struct Bootstrap {
    /// Repository that Flux pulls from: `https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY`
    #[arg(long)]
    pub repository: String,

    /// Which part of it is the cluster's.
    #[command(flatten)]
    pub tree: Tree,

    /// Name of the BearerToken whose Secret Flux pulls with
    #[arg(long, default_value = "flux-system")]
    pub name: String,

    /// Whose token pushes: your own, or the identity's, which needs Contribute for it
    #[arg(long = "as", value_enum, default_value = "operator")]
    pub whose: Whose,

    /// Push with a personal access token (PAT) from standard input, in place of a token of Entra ID. Its scope is
    /// Code (read & write): Azure DevOps has none for one repository, so it should be of a user with few rights
    #[arg(long, conflicts_with = "whose")]
    pub pat_stdin: bool,

    /// Leave the controller's manifests out of the repository
    #[arg(long)]
    pub without_controller: bool,

    /// How to sign in.
    #[command(flatten)]
    pub operator: Operator,

    /// More arguments for `flux bootstrap git`
    #[arg(last = true, value_name = "ARGUMENT")]
    pub more: Vec<String>,
}

/// What `migrate` takes.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Names of GitRepositories; without any, all of the namespace
    #[arg(value_name = "GITREPOSITORY")]
    pub names: Vec<String>,

    /// Tenant of the identity; without it that of the namespace's BearerTokens, or of the controller's pod
    #[arg(long, requires = "client_id")]
    pub tenant_id: Option<String>,

    /// Client (application) id of the identity; without it as for the tenant
    #[arg(long, requires = "tenant_id")]
    pub client_id: Option<String>,

    /// CronJob that fills the Secret, where it can't be told by what it does
    #[arg(long)]
    pub cron_job: Option<String>,

    /// Make the changes without asking
    #[arg(short, long)]
    pub yes: bool,

    /// Show the plan and change nothing; exit status 4 if there is something to change
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// What `uninstall` takes.
#[derive(Args, Debug)]
pub struct Uninstall {
    /// Name of the BearerToken
    #[arg(long, default_value = "flux-system")]
    pub name: String,

    /// Repository that was set up; without it that of the BearerToken
    #[arg(long)]
    pub repository: Option<String>,

    /// Take it all back without asking
    #[arg(short, long)]
    pub yes: bool,

    /// Show what there is and change nothing; exit status 4 if there is something to take back
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,

    /// Where the identity is.
    #[command(flatten)]
    pub place: Place,
}

/// Where the identity is, and how the operator signs in there.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Subscription of the identity, by id or name; not needed where there is but one
    #[arg(long, env = "AZURE_SUBSCRIPTION_ID")]
    pub subscription: Option<String>,

    /// Resource group of the identity
    #[arg(short = 'g', long, default_value = "flux-bearer")]
    pub resource_group: String,

    /// Name of the managed identity
    #[arg(long, default_value = "flux-bearer")]
    pub identity: String,

    /// How to sign in.
    #[command(flatten)]
    pub operator: Operator,
}

/// What `rescue` takes.
#[derive(Args, Debug)]
pub struct Rescue {
    /// Name of the BearerToken
    #[arg(default_value = "flux-system")]
    pub name: String,

    /// Whose token is written: the identity's, by the controller's service account, or your own
    #[arg(long = "as", value_enum, default_value = "identity")]
    pub whose: Whose,

    /// How to sign in.
    #[command(flatten)]
    pub operator: Operator,
}

/// Whose token is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// That of the BearerToken's identity.
    Identity,
    /// Your own: it opens whatever you may open, so it should be anywhere for a short time only.
    Operator,
}

impl Verb {
    /// How the verb can write its data; the first way is the default.
    pub fn formats(&self) -> &'static [Format] {
        use Format::{Json, Name, Short, Table, Wide, Yaml};
        match self {
            Self::Get(_) => &[Table, Wide, Json, Yaml, Name],
            Self::Setup(_) | Self::Uninstall(_) | Self::Migrate(_) => &[Table, Json],
            Self::Version(_) => &[Table, Json, Yaml],
            Self::Check(_) => &[Table, Short, Json],
            Self::Explain(_) => &[Table, Json, Name],
            _ => &[Table],
        }
    }

    /// Refuses a format that the verb does not have.
    pub fn check_format(&self, format: Format) -> Result<(), Trouble> {
        if self.formats().contains(&format) {
            return Ok(());
        }
        let name = |format: &Format| format.to_possible_value().map(|value| value.get_name().to_owned());
        let known: Vec<String> = self.formats().iter().filter_map(name).collect();
        let cause = format!("this verb does not write -o {}", name(&format).unwrap_or_default());
        Err(Trouble::usage(cause, format!("leave -o out, or choose one of: {}", known.join(", "))))
    }

    /// Whether `--timeout` does not end the verb from outside: it goes on until it is interrupted, or has to put back
    /// what it has begun.
    pub fn keeps_time(&self) -> bool {
        matches!(self, Self::Migrate(_)) || matches!(self, Self::Get(wanted) if wanted.watch)
    }
}

/// What `get` takes.
#[derive(Args, Debug)]
pub struct Get {
    /// Names of BearerTokens; without any, all of the namespace
    #[arg(value_name = "BEARERTOKEN")]
    pub names: Vec<String>,

    /// Look into all namespaces
    #[arg(short = 'A', long, conflicts_with = "names")]
    pub all_namespaces: bool,

    /// Only those with these labels, for example team=platform
    #[arg(short = 'l', long, conflicts_with = "names")]
    pub selector: Option<String>,

    /// Go on, and show each one that changes
    #[arg(short, long)]
    pub watch: bool,

    /// Leave out the line of titles
    #[arg(long)]
    pub no_header: bool,
}

/// Which BearerTokens of the namespace: some by name, or all.
#[derive(Args, Debug)]
pub struct Targets {
    /// Names of BearerTokens
    #[arg(value_name = "BEARERTOKEN", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,

    /// All BearerTokens of the namespace
    #[arg(long)]
    pub all: bool,
}

/// What `refresh` takes.
#[derive(Args, Debug)]
pub struct Refresh {
    /// Which ones.
    #[command(flatten)]
    pub targets: Targets,

    /// Wait until the Secret is filled, which is the default
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,

    /// Don't wait for the controller
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
}

/// What `resume` takes.
#[derive(Args, Debug)]
pub struct Resume {
    /// Which ones.
    #[command(flatten)]
    pub targets: Targets,

    /// Don't wait for the controller
    #[arg(long)]
    pub no_wait: bool,
}

/// What can be made.
#[derive(Debug, Subcommand)]
pub enum Create {
    /// Make or change a BearerToken, or print it for Git with --export
    #[command(name = "bearertoken", visible_alias = "bt")]
    BearerToken(CreateBearerToken),
}

/// What `create bearertoken` takes: every field of the spec, none of which is needed.
#[derive(Args, Debug)]
pub struct CreateBearerToken {
    /// Name of the BearerToken, and of its Secret unless --secret says otherwise
    pub name: String,

    /// How the controller signs in
    #[arg(long, value_enum)]
    pub identity_type: Option<IdentityType>,

    /// Tenant of the identity: a GUID or a verified domain; left out, that of the ServiceAccount or the controller's pod
    #[arg(long)]
    pub tenant_id: Option<String>,

    /// Client (application) id of the identity; left out, that of the ServiceAccount, or without one the controller's pod
    #[arg(long)]
    pub client_id: Option<String>,

    /// Object (principal) id of a managed identity, in place of its client id
    #[arg(long)]
    pub object_id: Option<String>,

    /// Azure resource id of a managed identity, in place of its client id
    #[arg(long)]
    pub resource_id: Option<String>,

    /// ServiceAccount of the namespace that signs in, in place of the controller's own
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,

    /// Secret that holds a client secret (key clientSecret), or a certificate and its key (tls.crt, tls.key)
    #[arg(long)]
    pub secret_ref: Option<String>,

    /// URL of a repository that the token must open; beside those of the GitRepositories; repeatable
    #[arg(long = "repository", value_name = "URL")]
    pub repositories: Vec<String>,

    /// Secret to keep filled
    #[arg(long)]
    pub secret: Option<String>,

    /// Keys to write: bearerToken, username and password, or token; repeatable
    #[arg(long = "format", value_enum, value_delimiter = ',')]
    pub formats: Vec<KeyFormat>,

    /// Take over a Secret of somebody else once the token opens every repository
    #[arg(long)]
    pub adopt: bool,

    /// What becomes of the Secret when the BearerToken is deleted
    #[arg(long, value_enum)]
    pub deletion_policy: Option<Deletion>,

    /// Print the YAML and touch nothing
    #[arg(long)]
    pub export: bool,

    /// Don't wait for the controller
    #[arg(long)]
    pub no_wait: bool,
}

/// How the controller signs in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum IdentityType {
    /// A service account token: the pod's projected one, or one of --service-account.
    #[value(alias = "WorkloadIdentity")]
    WorkloadIdentity,
    /// A managed identity of the machine.
    #[value(alias = "ManagedIdentity")]
    ManagedIdentity,
    /// A service principal with a client secret.
    #[value(alias = "ClientSecret")]
    ClientSecret,
    /// A service principal with a certificate.
    #[value(alias = "ClientCertificate")]
    ClientCertificate,
}

impl From<IdentityType> for IdentityKind {
    fn from(kind: IdentityType) -> Self {
        match kind {
            IdentityType::WorkloadIdentity => Self::WorkloadIdentity,
            IdentityType::ManagedIdentity => Self::ManagedIdentity,
            IdentityType::ClientSecret => Self::ClientSecret,
            IdentityType::ClientCertificate => Self::ClientCertificate,
        }
    }
}

/// Keys under which the token is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeyFormat {
    /// Key `bearerToken`.
    #[value(alias = "Bearer")]
    Bearer,
    /// Keys `username` and `password`.
    #[value(alias = "Basic")]
    Basic,
    /// Key `token`.
    #[value(alias = "Token")]
    Token,
}

impl From<KeyFormat> for Keys {
    fn from(format: KeyFormat) -> Self {
        match format {
            KeyFormat::Bearer => Self::Bearer,
            KeyFormat::Basic => Self::Basic,
            KeyFormat::Token => Self::Token,
        }
    }
}

/// What becomes of the Secret.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Deletion {
    /// It stays.
    #[value(alias = "Retain")]
    Retain,
    /// It goes, as far as it is ours.
    #[value(alias = "Delete")]
    Delete,
}

impl From<Deletion> for DeletionPolicy {
    fn from(policy: Deletion) -> Self {
        match policy {
            Deletion::Retain => Self::Retain,
            Deletion::Delete => Self::Delete,
        }
    }
}

/// What `check` takes.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Check {
    /// Ids or categories of checks; without any, all that fit
    #[arg(value_name = "CHECK")]
    pub names: Vec<String>,

    /// Only what has to be so before anything is installed
    #[arg(long, conflicts_with = "names")]
    pub pre: bool,

    /// Run the fixes that are safe, each after a question
    #[arg(long)]
    pub fix: bool,

    /// Don't ask before a fix
    #[arg(long, requires = "fix")]
    pub yes: bool,

    /// Try again until nothing is wrong, or --timeout ends it
    #[arg(long)]
    pub wait: bool,

    /// End with status 3 where there are warnings
    #[arg(long)]
    pub strict: bool,

    /// Subscription of the identities, by id or name; without it every one that you see
    #[arg(long, env = "AZURE_SUBSCRIPTION_ID")]
    pub subscription: Option<String>,

    /// How to sign in to Azure and Azure DevOps; who is not signed in leaves these two out.
    #[command(flatten)]
    pub operator: Operator,
}

/// What `explain` takes.
#[derive(Args, Debug)]
pub struct Explain {
    /// Id of a check
    #[arg(value_name = "CHECK")]
    pub id: Option<String>,
}

/// What `completion` takes.
#[derive(Args, Debug)]
pub struct Completion {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// What `__complete` takes.
#[derive(Args, Debug)]
pub struct Complete {
    /// The words so far, without the program's name; the last one is not yet finished.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// What `version` takes.
#[derive(Args, Debug)]
pub struct Version {
    /// Don't ask the cluster
    #[arg(long)]
    pub client: bool,
}

/// `300ms`, `30s`, `5m`, `1h`: as Go writes durations, one unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration; write for example 30s, 5m or 1h");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(bad)
}

/// A word of the command line; the first one, the program's path, by its last part.
pub(crate) fn name_of(word: &OsStr) -> OsString {
    Path::new(word).file_name().filter(|name| is_ours(name)).unwrap_or(word).to_owned()
}

fn is_ours(name: &OsStr) -> bool {
    ["flux-bearer", "kubectl-flux_bearer"].iter().any(|ours| *name == **ours)
}
