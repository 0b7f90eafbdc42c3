//! What a token is for.

use flux_bearer::token::AZURE_DEVOPS;

/// A service that takes tokens of Entra ID. A token is for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Azure DevOps Services: Git and REST.
    AzureDevOps,
    /// Azure Resource Manager (ARM) of the public cloud.
    Arm,
}

impl Resource {
    /// Its name at IMDS.
    pub fn id(self) -> &'static str {
        match self {
            Self::AzureDevOps => AZURE_DEVOPS,
            Self::Arm => "https://management.azure.com",
        }
    }

    /// Its name at Entra ID: everything there that the caller may do.
    pub fn scope(self) -> String {
        format!("{}/.default", self.id())
    }

    /// What its tokens may say that they are for. ARM has an older name, which some ways of signing in still use.
    pub fn audiences(self) -> &'static [&'static str] {
        match self {
            Self::AzureDevOps => &[AZURE_DEVOPS],
            Self::Arm => &["https://management.azure.com", "https://management.core.windows.net"],
        }
    }

    /// What it is called in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AzureDevOps => "Azure DevOps",
            Self::Arm => "Azure Resource Manager",
        }
    }

    /// The reason of a failure to reach it.
    pub(crate) fn unavailable(self) -> &'static str {
        match self {
            Self::AzureDevOps => "AzureDevOpsUnavailable",
            Self::Arm => "ArmUnavailable",
        }
    }
}
