//! What is asked for: the flags, read and checked before anything is looked at.

use flux_bearer::repository::Repository;
use flux_bearer::resource::Format;

use crate::args::{Access, FluxMode, Global, Place, Setup};
use crate::bootstrap::{Tree, check_more};
use crate::exit::Trouble;
use crate::manifests::Installation;

/// What the identity may do with the repository, as bits of Azure DevOps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Fetch.
    Read,
    /// Fetch, push, and make branches: what image automation and commit statuses need.
    Contribute,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The repository that Flux pulls from.
    pub repository: Repository,
    /// What the identity may do with it.
    pub level: Level,
    /// Resource group of the identity.
    pub group: String,
    /// Where a new group or identity is to be.
    pub location: Option<String>,
    /// Name of the identity.
    pub identity: String,
    /// Issuer of the cluster's service account tokens, where it can't be reached from here but by Entra ID.
    pub issuer: Option<String>,
    /// Namespace of everything in the cluster.
    pub namespace: String,
    /// Name of the BearerToken.
    pub name: String,
    /// Name of its Secret.
    pub secret: String,
    /// Where Flux is bootstrapped from; nothing where it is left to others.
    pub tree: Option<Tree>,
    /// More arguments for `flux`.
    pub more: Vec<String>,
    /// Whether a Secret that somebody else made may be taken over.
    pub adopt: bool,
    /// Which Flux is to read the Secret; nothing means the one there is, if any.
    pub flux: Option<FluxMode>,
    /// Image of the controller; nothing means the release's own.
    pub image: Option<String>,
}

impl Wanted {
    /// What these flags ask for.
    ///
    /// # Errors
    /// The flag that is wrong, what is wrong with it, and what it should be.
    pub fn of(flags: &Setup, global: &Global) -> Result<Self, Trouble> {
        let secret = flags.secret.as_deref();
        Ok(Self {
            level: match flags.access {
                Access::Read => Level::Read,
                Access::Contribute => Level::Contribute,
            },
            location: flags.location.clone(),
            issuer: flags.issuer.clone(),
            tree: tree(flags)?,
            more: flags.more.clone(),
            adopt: flags.adopt,
            flux: flags.flux,
            image: flags.image.clone(),
            ..Self::named(&flags.repository, &flags.name, secret, &flags.place, global)?
        })
    }

    /// The least that a set-up is known by: its names.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn named(
        repository: &str,
        name: &str,
        secret: Option<&str>,
        place: &Place,
        global: &Global,
    ) -> Result<Self, Trouble> {
        let repository = Repository::parse(repository)
            .map_err(|failure| Trouble::usage(format!("--repository: {}", failure.cause), failure.fix.into_owned()))?;
        repository.check_formats(&[Format::Bearer]).map_err(|_| {
            let fix = format!("write --repository {repository}");
            Trouble::usage("--repository: it holds a user (org@), which Flux refuses beside a bearer token", fix)
        })?;
        check_azure_name("--identity", &place.identity, 3..=128, "-_")?;
        check_azure_name("--resource-group", &place.resource_group, 1..=90, "-_.()")?;
        let secret = secret.unwrap_or(name);
        for (flag, name) in [("--name", name), ("--namespace", &global.namespace), ("--secret", secret)] {
            check_kubernetes_name(flag, name)?;
        }
        Ok(Self {
            repository,
            level: Level::Read,
            group: place.resource_group.clone(),
            location: None,
            identity: place.identity.clone(),
            issuer: None,
            tree: None,
            more: Vec::new(),
            namespace: global.namespace.clone(),
            name: name.to_owned(),
            secret: secret.to_owned(),
            adopt: false,
            flux: None,
            image: None,
        })
    }

    /// The subject of the controller's service account tokens. Its case counts: Entra ID compares it byte by byte.
    pub fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, crate::manifests::CONTROLLER)
    }

    /// What the cluster is to run.
    pub fn installation(&self) -> Installation {
        Installation { namespace: self.namespace.clone(), secret: self.secret.clone(), image: self.image.clone() }
    }
}

/// Where Flux is bootstrapped from, if it is to be.
fn tree(flags: &Setup) -> Result<Option<Tree>, Trouble> {
    let refused = |cause: &str, fix: &str| Err(Trouble::usage(cause, fix));
    match flags.flux {
        Some(FluxMode::Bootstrap) if flags.export => {
            refused("--flux bootstrap commits what --export prints", "leave one of them out")
        }
        Some(FluxMode::Bootstrap) => {
            check_more(&flags.more)?;
            Tree::of(&flags.tree).map(Some)
        }
        _ if flags.tree.branch.is_some() || flags.tree.path.is_some() || !flags.more.is_empty() => {
            let cause = "--branch, --path and what follows -- are for a Flux that is bootstrapped";
            refused(cause, "add --flux bootstrap, or leave them out")
        }
        _ => Ok(None),
    }
}

fn check_azure_name(
    flag: &str,
    name: &str,
    lengths: std::ops::RangeInclusive<usize>,
    besides: &str,
) -> Result<(), Trouble> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || besides.contains(letter);
    if lengths.contains(&name.len())
        && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.chars().all(good)
    {
        return Ok(());
    }
    let (least, most) = lengths.into_inner();
    let fix = format!("write {least} to {most} letters, digits and {besides}, beginning with a letter or digit");
    Err(Trouble::usage(format!("{flag}: {name:?} is no name that Azure takes"), fix))
}

fn check_kubernetes_name(flag: &str, name: &str) -> Result<(), Trouble> {
    let good = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
    let ends = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    if name.len() <= 253 && name.chars().all(good) && ends(name.chars().next()) && ends(name.chars().last()) {
        return Ok(());
    }
    let fix = "write small letters, digits, - and ., beginning and ending with a letter or digit";
    Err(Trouble::usage(format!("{flag}: {name:?} is no name that Kubernetes takes"), fix))
}
