//! What a person names in the environment before anything is sent.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use flux_bearer_cli::args::Way;

/// The subscription, organisation and repository that a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Subscription, a GUID.
    pub subscription: String,
    /// Tenant of both, a GUID.
    pub tenant: String,
    /// Azure DevOps organisation.
    pub organization: String,
    /// Project in it.
    pub project: String,
    /// Repository in the project.
    pub repository: String,
    /// Location of the resource group.
    pub location: String,
    /// How to sign in; none means as whoever `az login` signed in, or as the environment says.
    pub sign_in: Option<Way>,
}

/// The variables that have to be set, and what each is for.
const NEEDED: [(&str, &str); 6] = [
    ("FLUX_BEARER_LIVE_SUBSCRIPTION", "the subscription (its id) in which a resource group with an identity is made"),
    ("FLUX_BEARER_LIVE_TENANT", "the tenant (its id) of that subscription, to which the organisation is connected too"),
    ("FLUX_BEARER_LIVE_ORGANIZATION", "the Azure DevOps organisation (its name) to which the identity is added"),
    ("FLUX_BEARER_LIVE_PROJECT", "the project (its name) that the identity is let see"),
    ("FLUX_BEARER_LIVE_REPOSITORY", "the repository (its name) that the identity is let fetch; nothing is pushed"),
    ("FLUX_BEARER_LIVE_LOCATION", "the location of the resource group, for example westeurope"),
];

const SIGN_IN: &str = "FLUX_BEARER_LIVE_SIGN_IN";

/// Why a run can't start: one line for each variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset(Vec<String>);

impl fmt::Display for Unset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "nothing was sent:\n  {}", self.0.join("\n  "))
    }
}

impl std::error::Error for Unset {}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Every variable that is missing or can't be used, with what it is for.
    pub fn read(environment: &BTreeMap<String, String>) -> Result<Self, Unset> {
        let value = |name: &str| environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let missing = NEEDED.iter().filter(|(name, _)| value(name).is_none());
        let mut faults: Vec<String> = missing.map(|(name, purpose)| format!("{name} is not set: {purpose}")).collect();
        let sign_in = value(SIGN_IN).map(|name| Way::from_str(name, true));
        if let Some(Err(fault)) = &sign_in {
            faults.push(format!("{SIGN_IN} is not a way to sign in: {fault}"));
        }
        let [subscription, tenant, organization, project, repository, location] =
            NEEDED.map(|(name, _)| value(name).unwrap_or_default().to_owned());
        let sign_in = sign_in.and_then(Result::ok);
        let read = Self { subscription, tenant, organization, project, repository, location, sign_in };
        if faults.is_empty() { Ok(read) } else { Err(Unset(faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> BTreeMap<String, String> {
        NEEDED.iter().map(|(name, _)| ((*name).to_owned(), format!("value of {name}"))).collect()
    }

    #[test]
    fn a_variable_that_is_missing_is_named_with_what_it_is_for() {
        assert!(Settings::read(&all()).is_ok());
        for (name, purpose) in NEEDED {
            for value in [None, Some(" ")] {
                let mut environment = all();
                environment.remove(name);
                environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
                let refused = Settings::read(&environment).unwrap_err().to_string();
                assert_eq!(refused, format!("nothing was sent:\n  {name} is not set: {purpose}"));
            }
        }
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let refused = Settings::read(&BTreeMap::from([(SIGN_IN.to_owned(), "magic".to_owned())])).unwrap_err();
        assert_eq!(refused.0.len(), NEEDED.len() + 1, "{refused}");
        let mut environment = all();
        environment.insert(SIGN_IN.to_owned(), "device-code".to_owned());
        assert_eq!(Settings::read(&environment).unwrap().sign_in, Some(Way::DeviceCode));
    }
}
