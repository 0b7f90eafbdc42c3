//! How the program ends: one number for each kind of trouble, the same in every verb.

use std::fmt;

use flux_bearer::failure::{Class, Failure};

/// What the exit status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or nothing to do.
    Done,
    /// 1: something failed that has no number of its own.
    Failed,
    /// 2: the command line can't be understood.
    Usage,
    /// 3: there are warnings, and `--strict` was given.
    Warnings,
    /// 4: `--dry-run`: there is something to change.
    Changes,
    /// 5: nobody is signed in, or the sign-in was refused.
    SignIn,
    /// 6: a right or a licence is missing.
    Right,
    /// 7: what was named does not exist, is named differently, or belongs to another tenant.
    NotFound,
    /// 8: a policy or lock of the company forbids it.
    Policy,
    /// 9: what was named is taken by somebody else, or in a state that can't be changed safely.
    Taken,
    /// 10: a service can't be reached.
    Network,
    /// 124: not done in time, as `timeout` says it.
    TimedOut,
    /// 130: stopped by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Warnings => 3,
            Self::Changes => 4,
            Self::SignIn => 5,
            Self::Right => 6,
            Self::NotFound => 7,
            Self::Policy => 8,
            Self::Taken => 9,
            Self::Network => 10,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
        }
    }
}

/// Why a verb ended early: in words, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How the program ends.
    pub exit: Exit,
    /// What happened.
    pub cause: String,
    /// What to do about it: a command where there is one.
    pub fix: String,
}

impl Trouble {
    /// A trouble with its cause and its fix.
    pub fn new(exit: Exit, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit, cause: cause.into(), fix: fix.into() }
    }

    /// What the command line has wrong.
    pub fn usage(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, cause, fix)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.cause)
    }
}

impl std::error::Error for Trouble {}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let exit = match failure.reason {
            "CredentialRejected"
            | "IdentityNotFound"
            | "SignInRequired"
            | "DeviceCodeFailed"
            | "AzureCliFailed"
            | "TokenRejected"
            | "TokenOutdated"
            | "ServiceAccountTokenUnusable" => Exit::SignIn,
            "Forbidden" | "AccessDenied" | "LicenceRefused" => Exit::Right,
            "TenantRejected"
            | "TokenMismatch"
            | "ResourceNotFound"
            | "OrganizationNotFound"
            | "RepositoryNotFound"
            | "FederatedCredentialMismatch" => Exit::NotFound,
            "BlockedByPolicy" | "LocationRejected" => Exit::Policy,
            "ResourceConflict" | "FederationRejected" => Exit::Taken,
            _ if failure.class == Class::Transient => Exit::Network,
            _ => Exit::Failed,
        };
        // The rules speak of the controller, which tries again by itself.
        let fix = failure.fix.replace("Retried by itself", "Run it again").replace("retried by itself", "run it again");
        Self { exit, cause: format!("{}: {}", failure.code, failure.cause), fix }
    }
}
