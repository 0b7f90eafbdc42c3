//! What Azure DevOps' REST interface says when it doesn't do what the set-up asks for.
//!
//! An error's `typeKey` is the name of an exception. Its keys are documented nowhere; those of the table were seen in
//! answers, and every other is judged by the HTTP status.

use std::time::Duration;

use super::Class::{Permanent, Propagation, Transient};
use super::{Class, Failure};

/// Everything that the set-up asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Which tenant the organisation is connected to.
    DiscoverTenant,
    /// Who the caller is.
    WhoAmI,
    /// Read a project.
    ReadProject,
    /// Read a repository.
    ReadRepository,
    /// Read the principals of the organisation.
    ReadPrincipals,
    /// Read the licence of a principal.
    ReadEntitlement,
    /// Add a principal, change its licence, or remove it.
    WriteEntitlement,
    /// Read who may do what.
    ReadAccess,
    /// Change who may do what.
    WriteAccess,
}

const COLLECTION: &str = "Project Collection Administrators (Organization settings, Permissions)";
const PROJECT: &str = "Project Administrators (Project settings, Permissions)";

impl Operation {
    /// What it does in words, and whose members may do it.
    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::DiscoverTenant => ("ask for its tenant", COLLECTION),
            Self::WhoAmI => ("use the organisation", COLLECTION),
            Self::ReadProject => ("read the project", PROJECT),
            Self::ReadRepository => ("read the repository", PROJECT),
            Self::ReadPrincipals => ("read the members of the organisation", COLLECTION),
            Self::ReadEntitlement => ("read who has which licence", COLLECTION),
            Self::WriteEntitlement => ("give licences to members", COLLECTION),
            Self::ReadAccess => ("read who may read the repository", PROJECT),
            Self::WriteAccess => ("change who may read the repository", PROJECT),
        }
    }
}

/// One row: typeKey, class, reason, cause, fix.
struct Row(&'static str, Class, &'static str, &'static str, &'static str);

const TOKEN: &str = "TokenRejected";
const REQUEST: &str = "RequestRejected";
const UNAVAILABLE: &str = "AzureDevOpsUnavailable";
const LICENCE: &str = "LicenceRefused";

const WAIT: &str = "Retried by itself; if it lasts, try again in some minutes";
const OURS: &str = "This is a fault of flux-bearer: report it with the code";
const PROJECTS: &str = "Compare its name: az devops project list --organization https://dev.azure.com/ORGANISATION";
const REPOSITORIES: &str =
    "Compare its name: az repos list --organization https://dev.azure.com/ORGANISATION --project PROJECT";

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row("ProjectDoesNotExistException", Permanent, "ProjectNotFound", "there is no such project, or who signs in may not see it", PROJECTS),
    Row("ProjectDoesNotExistWithNameException", Permanent, "ProjectNotFound", "there is no such project, or who signs in may not see it", PROJECTS),
    Row("GitRepositoryNotFoundException", Permanent, "RepositoryNotFound", "there is no such repository, or who signs in may not see it", REPOSITORIES),
    Row("IdentityNotFoundException", Propagation, "IdentityNotFound", "Azure DevOps doesn't know the identity, or not yet", "It takes minutes after the identity was added: try again"),
    Row("VssInvalidPreviewVersionException", Permanent, REQUEST, "Azure DevOps doesn't know this version of its interface any more", OURS),
    Row("VssVersionNotSpecifiedException", Permanent, REQUEST, "the request names no version of the interface", OURS),
    Row("VssVersionOutOfRangeException", Permanent, REQUEST, "Azure DevOps doesn't know this version of its interface any more", OURS),
];

/// The keys of a missing right, with any status.
const FORBIDDEN: [&str; 3] = ["AccessCheckException", "AccessDeniedException", "UnauthorizedAccessException"];

/// The keys of a project or repository that is not there, which come with 404 and in places with 400.
const ABSENT: [&str; 3] =
    ["ProjectDoesNotExistException", "ProjectDoesNotExistWithNameException", "GitRepositoryNotFoundException"];

/// Whether an answer, and one of Azure DevOps itself, says that what was asked for is not there or may not be seen.
pub fn is_absent(status: u16, type_key: &str) -> bool {
    ABSENT.contains(&type_key) || (status == 404 && !type_key.is_empty())
}

/// The failure for an error answer: HTTP status, `typeKey`, and what was asked for.
///
/// Any 203, any redirect and any HTML with 200 is the sign-in page, so a rejected token: `html` says that the body was
/// HTML. With 404 it is the page of an organisation that doesn't exist.
pub fn from_answer(
    status: u16,
    type_key: &str,
    html: bool,
    operation: Operation,
    retry_after: Option<Duration>,
) -> Failure {
    let known = TABLE.iter().find(|row| row.0 == type_key);
    let failure = match (status, known) {
        (203 | 300..=399 | 401, _) => rejected("TF400813"),
        (200..=299, _) if html => rejected("TF400813"),
        (_, Some(Row(code, class, reason, cause, fix))) => Failure::new(reason, *class, *code, *cause, *fix),
        (403, None) if type_key == "VssServiceException" => blocked(),
        (403, None) => forbidden("HTTP 403", operation),
        (404, None) if html => no_organization(),
        _ => match FORBIDDEN.into_iter().find(|key| *key == type_key) {
            Some(key) => forbidden(key, operation),
            None => from_status(status, operation),
        },
    };
    failure.retry_after(retry_after)
}

fn from_status(status: u16, operation: Operation) -> Failure {
    let code = format!("HTTP {status}");
    let (words, members) = operation.row();
    match status {
        429 => Failure::new("Throttled", Transient, code, "Azure DevOps asks for fewer requests", WAIT),
        408 | 500.. => Failure::new(UNAVAILABLE, Transient, code, "Azure DevOps is busy or not available", WAIT),
        400..=499 => Failure::new(
            REQUEST,
            Permanent,
            code,
            format!("Azure DevOps refuses to {words}"),
            format!("Try it in the organisation's settings, as a member of {members}"),
        ),
        _ => Failure::new(
            UNAVAILABLE,
            Transient,
            code,
            "the answer is not one of Azure DevOps'",
            "Something in between may answer in its place: check the proxy",
        ),
    }
}

fn rejected(code: &'static str) -> Failure {
    let fix =
        "Sign in with an account that can open the organisation in a browser, in its tenant: az login --tenant TENANT";
    Failure::new(TOKEN, Permanent, code, "Azure DevOps doesn't know who signs in", fix)
}

/// The failure of a token that Azure DevOps takes for nobody's: it may answer all the same, as to anyone.
pub fn anonymous() -> Failure {
    rejected("Anonymous")
}

fn blocked() -> Failure {
    let cause = "a Conditional Access policy of the organisation's tenant blocks who signs in";
    let fix = "Sign in from where the policy allows it, or ask the tenant's administrator";
    Failure::new("BlockedByPolicy", Permanent, "VS403463", cause, fix)
}

fn forbidden(code: &'static str, operation: Operation) -> Failure {
    let (words, members) = operation.row();
    let cause = format!("who signs in may not {words}");
    Failure::new(
        "Forbidden",
        Permanent,
        code,
        cause,
        format!("Ask to become a member of {members}, or ask one of them"),
    )
}

/// The failure of an organisation that is not there.
pub fn no_organization() -> Failure {
    let fix = "Compare its name: it is the first part of https://dev.azure.com/ORGANISATION";
    Failure::new("OrganizationNotFound", Permanent, "HTTP 404", "there is no such organisation", fix)
}

/// Why an identity got no licence. Azure DevOps says so inside an answer with status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntitlementRefused {
    /// It can't find the identity in the tenant (VS403283): it was made minutes ago, or it is of a kind that is never
    /// found.
    NotYet,
    /// No licence is left.
    NoLicence,
    /// The caller may not give licences.
    NotAllowed,
    /// Anything else, by its number.
    Other(u32),
}

impl EntitlementRefused {
    /// What the errors of an answer mean, each a number and a text. The numbers 5005 and 5032 are from field reports:
    /// microsoft/terraform-provider-azuredevops issues 1036 and 86.
    pub fn from_errors(errors: &[(u32, &str)]) -> Self {
        let meaning = |(number, text): &(u32, &str)| match *number {
            _ if text.contains("VS403283") => Some(Self::NotYet),
            5005 => Some(Self::NoLicence),
            5032 => Some(Self::NotAllowed),
            // What a full organisation says is documented nowhere.
            _ if text.to_ascii_lowercase().contains("license") => Some(Self::NoLicence),
            _ => None,
        };
        let first = errors.first().map_or(0, |(number, _)| *number);
        errors.iter().find_map(meaning).unwrap_or(Self::Other(first))
    }

    /// The failure for whoever doesn't go on in another way.
    pub fn failure(self) -> Failure {
        match self {
            Self::NotYet => Failure::new(
                "IdentityNotFound",
                Propagation,
                "VS403283",
                "Azure DevOps can't find the identity in its tenant, or not yet",
                "It takes minutes after the identity was made; if it lasts: az identity show --query principalId",
            ),
            Self::NoLicence => Failure::new(
                LICENCE,
                Permanent,
                "NoLicence",
                "the organisation has no Basic licence left, or can't assign one",
                "Buy or free one: Organization settings, Billing; Organization settings, Users",
            ),
            Self::NotAllowed => forbidden("AccessDenied", Operation::WriteEntitlement),
            Self::Other(number) => Failure::new(
                LICENCE,
                Permanent,
                format!("entitlement {number}"),
                "Azure DevOps doesn't add the identity, and says why in words that are not repeated here",
                "Add it by hand, and see: Organization settings, Users, Add users",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_their_reason() {
        let cases = [
            (401, "UnauthorizedRequestException", false, "TokenRejected", Permanent),
            (401, "AccessCheckException", false, "TokenRejected", Permanent),
            (203, "", true, "TokenRejected", Permanent),
            (302, "", false, "TokenRejected", Permanent),
            (200, "", true, "TokenRejected", Permanent),
            (404, "ProjectDoesNotExistException", false, "ProjectNotFound", Permanent),
            (400, "ProjectDoesNotExistWithNameException", false, "ProjectNotFound", Permanent),
            (404, "GitRepositoryNotFoundException", false, "RepositoryNotFound", Permanent),
            (404, "", true, "OrganizationNotFound", Permanent),
            (404, "canary", false, "RequestRejected", Permanent),
            (400, "IdentityNotFoundException", false, "IdentityNotFound", Propagation),
            (400, "VssInvalidPreviewVersionException", false, "RequestRejected", Permanent),
            (403, "VssServiceException", false, "BlockedByPolicy", Permanent),
            (400, "VssServiceException", false, "RequestRejected", Permanent),
            (403, "AccessDeniedException", false, "Forbidden", Permanent),
            (403, "canary", true, "Forbidden", Permanent),
            (400, "AccessCheckException", false, "Forbidden", Permanent),
            (429, "canary", false, "Throttled", Transient),
            (408, "", true, "AzureDevOpsUnavailable", Transient),
            (503, "", true, "AzureDevOpsUnavailable", Transient),
            (200, "", false, "AzureDevOpsUnavailable", Transient),
        ];
        for (status, type_key, html, reason, class) in cases {
            let failure = from_answer(status, type_key, html, Operation::WhoAmI, Some(Duration::from_secs(7)));
            assert_eq!((failure.reason, failure.class), (reason, class), "{status} {type_key} html: {html}");
            assert!(!failure.to_string().contains("canary"), "{failure}");
            assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn a_missing_right_is_told_with_the_group_that_has_it() {
        let failure = from_answer(403, "AccessCheckException", false, Operation::WriteAccess, None);
        assert_eq!(
            failure.to_string(),
            "HTTP 403: who signs in may not change who may read the repository. Ask to become a member of Project \
             Administrators (Project settings, Permissions), or ask one of them"
        );
        let failure = from_answer(403, "", false, Operation::WriteEntitlement, None);
        assert!(failure.fix.contains("Project Collection Administrators"), "{failure}");
    }

    #[test]
    fn only_azure_devops_itself_says_that_something_is_absent() {
        assert!(is_absent(404, "GitRepositoryNotFoundException") && is_absent(400, "ProjectDoesNotExistException"));
        assert!(is_absent(404, "AnythingException"));
        for (status, type_key) in [(404, ""), (400, "AnythingException"), (403, ""), (200, "")] {
            assert!(!is_absent(status, type_key), "{status} {type_key}");
        }
    }

    #[test]
    fn a_refused_licence_is_told_by_its_number() {
        use EntitlementRefused::{NoLicence, NotAllowed, NotYet, Other};
        let read = |errors: &[(u32, &'static str)]| EntitlementRefused::from_errors(errors);
        let cases = [
            (read(&[(5000, "VS403283: Could not add user 'canary' at this time.")]), NotYet, Propagation),
            (read(&[(5005, "Failed to assign license Account-Express to identity canary")]), NoLicence, Permanent),
            (read(&[(5005, "canary")]), NoLicence, Permanent),
            (read(&[(5000, "You have no more LICENSES, canary")]), NoLicence, Permanent),
            (read(&[(5032, "Access Denied: canary needs the following permission(s)")]), NotAllowed, Permanent),
            (read(&[(5102, "canary"), (5000, "VS403283")]), NotYet, Propagation),
            (read(&[(5102, "canary"), (5103, "canary")]), Other(5102), Permanent),
            (read(&[]), Other(0), Permanent),
        ];
        for (read, expected, class) in cases {
            assert_eq!((read, read.failure().class), (expected, class));
            assert!(!read.failure().to_string().contains("canary"));
        }
    }
}
