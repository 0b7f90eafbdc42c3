//! URLs of Azure DevOps repositories: which ones a token may be sent to, and where Git asks.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

use crate::failure::{Class, Failure};
use crate::resource::Format;

/// What the portal leaves as it is in a part of a URL: the set of JavaScript's `encodeURIComponent`.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A repository of Azure DevOps Services. Its existence proves that its host is Azure DevOps: no token goes elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    url: String,
    user: bool,
}

struct Parts {
    organization: String,
    project: String,
    repository: String,
}

impl Repository {
    /// Reads the URL of a repository.
    ///
    /// # Errors
    /// What about it can't work, and what the URL should look like.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("git@") || text.starts_with("ssh:") {
            return Err(invalid("the repository URL is an SSH URL, and a token works over HTTPS only"));
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid("the repository URL holds a blank or a control character; write a blank as %20"));
        }
        let url = Url::parse(text).map_err(|_| invalid("the repository URL can't be read"))?;
        check_origin(&url)?;
        check_path(&url)?;
        let user = !url.username().is_empty() || url.password().is_some();
        let mut bare = url;
        // Both only fail for URLs that can't have a user, which check_origin has refused.
        if bare.set_username("").and(bare.set_password(None)).is_err() {
            return Err(invalid("the repository URL can't be read"));
        }
        Ok(Self { url: bare.as_str().trim_end_matches('/').to_owned(), user })
    }

    /// The organisation that it belongs to.
    pub fn organization(&self) -> String {
        self.parts().organization
    }

    /// The project that it is in, without percent-encoding. A URL without one means the project of the same name.
    pub fn project(&self) -> String {
        self.parts().project
    }

    /// Its own name, without percent-encoding.
    pub fn repository(&self) -> String {
        self.parts().repository
    }

    /// The one way to write it that Flux reads whatever its provider: `https://dev.azure.com/ORG/PROJECT/_git/REPO`.
    pub fn canonical(&self) -> String {
        let Parts { organization, project, repository } = self.parts();
        let [organization, project, repository] =
            [&organization, &project, &repository].map(|part| utf8_percent_encode(part, COMPONENT));
        format!("https://dev.azure.com/{organization}/{project}/_git/{repository}")
    }

    /// What the URL names. Parsing has seen that each part is there.
    fn parts(&self) -> Parts {
        let bare = self.url.strip_prefix("https://").unwrap_or(&self.url);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let mut segments = path.split('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned());
        let before: Vec<String> = segments.by_ref().take_while(|segment| segment != "_git").collect();
        let repository = segments.next().unwrap_or_default();
        let mut before = before.into_iter();
        let organization = match host.strip_suffix(".visualstudio.com") {
            Some(organization) => organization.to_owned(),
            None => before.next().unwrap_or_default(),
        };
        let project = before.rfind(|segment| !segment.eq_ignore_ascii_case("DefaultCollection"));
        Parts { organization, project: project.unwrap_or_else(|| repository.clone()), repository }
    }

    /// Where Git asks for the branches, of the service that fetches (`git-upload-pack`) or pushes (`git-receive-pack`).
    pub fn info_refs(&self, service: &str) -> String {
        format!("{}/info/refs?service={service}", self.url)
    }

    /// Whether Flux can use the Secret with this URL. Flux takes a user name out of the URL (`org@`) and refuses it beside
    /// a bearer token; a Secret with a user name of its own overrides it.
    pub fn check_formats(&self, formats: &[Format]) -> Result<(), Failure> {
        if self.user && formats.contains(&Format::Bearer) {
            return Err(invalid(
                "the repository URL holds a user (org@), which Flux refuses beside a bearer token; remove it, or set spec.secret.formats to [Basic]",
            ));
        }
        Ok(())
    }

    /// Whether a GitRepository of this URL can pull with the Secret.
    pub fn check_source(&self, formats: &[Format]) -> Result<(), Failure> {
        if formats == [Format::Token] {
            return Err(Failure::new(
                "InvalidRepository",
                Class::Permanent,
                "InvalidRepository",
                "a GitRepository reads this Secret, and never its key token",
                "Add Bearer to spec.secret.formats, or name another Secret",
            ));
        }
        self.check_formats(formats)
    }
}

/// The URL without any user: safe to show.
impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.url)
    }
}

fn check_origin(url: &Url) -> Result<(), Failure> {
    if url.scheme() != "https" {
        return Err(invalid("the repository URL is not https"));
    }
    let known = matches!(url.host(), Some(Host::Domain(name)) if is_azure_devops(name));
    if !known || url.port().is_some() {
        return Err(invalid(
            "the repository URL is not on dev.azure.com or ORG.visualstudio.com, and the token is sent nowhere else",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("the repository URL has a query or a fragment"));
    }
    Ok(())
}

/// Whether a token may be sent to this host: `dev.azure.com` and one label before `visualstudio.com`.
pub fn is_azure_devops(host: &str) -> bool {
    let label = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    host == "dev.azure.com" || host.strip_suffix(".visualstudio.com").is_some_and(label)
}

/// `[/org][/DefaultCollection][/project]/_git/repo`, each part once. Ways up (`..`, `%2e%2e`) are gone from a [`Url`].
fn check_path(url: &Url) -> Result<(), Failure> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned).ok();
    let parts: Option<Vec<String>> = url.path().trim_end_matches('/').split('/').skip(1).map(decode).collect();
    let parts = parts.ok_or_else(|| invalid("the repository URL holds bytes that are no text"))?;
    if parts.iter().any(|part| part.is_empty() || part.contains(['/', '\\', '\r', '\n', '\0'])) {
        return Err(invalid("the repository URL has an empty or forbidden path segment"));
    }
    let before = parts.iter().position(|part| part == "_git");
    let organization = usize::from(url.host_str() == Some("dev.azure.com"));
    match before {
        Some(at) if at + 2 == parts.len() && (organization..=organization + 2).contains(&at) => Ok(()),
        _ => Err(invalid("the path of the repository URL is not ORG/PROJECT/_git/REPOSITORY")),
    }
}

fn invalid(cause: &'static str) -> Failure {
    Failure::new(
        "InvalidRepository",
        Class::Permanent,
        "InvalidRepository",
        cause,
        "Use https://dev.azure.com/ORG/PROJECT/_git/REPOSITORY",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_azure_devops_is_read() {
        for url in [
            "https://dev.azure.com/org/project/_git/repo",
            "https://org@dev.azure.com/org/project/_git/repo",
            "https://dev.azure.com/org/My%20Project/_git/my%20repo",
            "https://dev.azure.com/org/_git/repo",
            "https://org.visualstudio.com/project/_git/repo",
            "https://org.visualstudio.com/_git/repo",
            "https://org.visualstudio.com/DefaultCollection/project/_git/repo",
            "https://DEV.azure.com/org/project/_git/repo/",
        ] {
            assert!(Repository::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn every_form_names_organisation_project_and_repository() {
        for (url, [organization, project, repository], canonical) in [
            ("https://dev.azure.com/org/project/_git/repo", ["org", "project", "repo"], "org/project/_git/repo"),
            ("https://org@dev.azure.com/org/project/_git/repo/", ["org", "project", "repo"], "org/project/_git/repo"),
            ("https://dev.azure.com/org/_git/repo", ["org", "repo", "repo"], "org/repo/_git/repo"),
            ("https://dev.azure.com/org/DefaultCollection/p/_git/r", ["org", "p", "r"], "org/p/_git/r"),
            ("https://org.visualstudio.com/project/_git/repo", ["org", "project", "repo"], "org/project/_git/repo"),
            ("https://org.visualstudio.com/_git/repo", ["org", "repo", "repo"], "org/repo/_git/repo"),
            ("https://org.visualstudio.com/defaultcollection/_git/r", ["org", "r", "r"], "org/r/_git/r"),
            ("https://org.visualstudio.com/DefaultCollection/p/_git/r", ["org", "p", "r"], "org/p/_git/r"),
            (
                "https://dev.azure.com/org/My%20Project%20(1)/_git/Gr%C3%BCn%20%26%20%25",
                ["org", "My Project (1)", "Grün & %"],
                "org/My%20Project%20(1)/_git/Gr%C3%BCn%20%26%20%25",
            ),
            ("https://dev.azure.com/org/grün/%5Fgit/x_git", ["org", "grün", "x_git"], "org/gr%C3%BCn/_git/x_git"),
            ("https://dev.azure.com/org/x_git/_git/_git", ["org", "x_git", "_git"], "org/x_git/_git/_git"),
        ] {
            let read = Repository::parse(url).unwrap();
            assert_eq!([read.organization(), read.project(), read.repository()], [organization, project, repository]);
            assert_eq!(read.canonical(), format!("https://dev.azure.com/{canonical}"));
            let again = Repository::parse(&read.canonical()).unwrap();
            assert_eq!((again.canonical(), again.to_string()), (read.canonical(), read.canonical()), "{url}");
        }
    }

    #[test]
    fn git_asks_beside_the_repository_without_any_user() {
        let repository = Repository::parse("https://org@dev.azure.com/org/project/_git/repo/").unwrap();
        let asked = repository.info_refs("git-upload-pack");
        assert_eq!(asked, "https://dev.azure.com/org/project/_git/repo/info/refs?service=git-upload-pack");
    }

    #[test]
    fn a_token_goes_to_no_other_host() {
        for url in [
            "https://dev.azure.com.evil.example/org/project/_git/repo",
            "https://evil.example/org/project/_git/repo",
            "https://dev.azure.com@evil.example/org/project/_git/repo",
            "https://a.b.visualstudio.com/project/_git/repo",
            "https://visualstudio.com/project/_git/repo",
            "https://.visualstudio.com/project/_git/repo",
            "https://dev.azure.com:8443/org/project/_git/repo",
            "https://dev.azure.com./org/project/_git/repo",
            "https://127.0.0.1/org/project/_git/repo",
            "http://dev.azure.com/org/project/_git/repo",
        ] {
            assert_eq!(Repository::parse(url).unwrap_err().reason, "InvalidRepository", "{url}");
        }
        for url in ["ssh://git@ssh.dev.azure.com/v3/org/project/repo", "git@ssh.dev.azure.com:v3/org/project/repo"] {
            let refusal = Repository::parse(url).unwrap_err();
            assert!(refusal.cause.contains("SSH"), "{url}: {refusal}");
        }
    }

    #[test]
    fn a_way_up_is_gone_before_anything_is_looked_at() {
        for up in ["..", "%2e%2e", ".%2E", "./.."] {
            let read = Repository::parse(&format!("https://dev.azure.com/other/{up}/org/project/_git/repo")).unwrap();
            assert_eq!(read.to_string(), "https://dev.azure.com/org/project/_git/repo", "{up}");
        }
    }

    #[test]
    fn a_path_that_is_no_repository_is_refused() {
        for url in [
            "https://dev.azure.com/org/project/repo",
            "https://dev.azure.com/org/project/_git/",
            "https://dev.azure.com/org/project/_git/repo/info",
            "https://dev.azure.com/_git/repo",
            "https://dev.azure.com/org//_git/repo",
            "https://dev.azure.com//org/project/_git/repo",
            "https://dev.azure.com/org/a/b/c/_git/repo",
            "https://dev.azure.com/org/project/_git/a%2Fb",
            "https://dev.azure.com/org/project/_git/%2e%2e",
            "https://dev.azure.com/org/my project/_git/repo",
            "https://dev.azure.com/org/project/_git/repo?x=1",
            "https://dev.azure.com/org/project/_git/repo#x",
            "https://dev.azure.com/org/project/_git/re\npo",
            "",
        ] {
            assert!(Repository::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_user_in_the_url_goes_with_basic_only() {
        let with = Repository::parse("https://org@dev.azure.com/org/project/_git/repo").unwrap();
        assert!(with.check_formats(&[Format::Bearer]).is_err());
        assert!(with.check_formats(&[Format::Bearer, Format::Basic]).is_err());
        assert!(with.check_formats(&[Format::Basic]).is_ok());
        assert_eq!(with.to_string(), "https://dev.azure.com/org/project/_git/repo");
    }

    #[test]
    fn a_git_repository_reads_every_format_but_token_alone() {
        let repository = Repository::parse("https://dev.azure.com/org/project/_git/repo").unwrap();
        for formats in [&[Format::Bearer][..], &[Format::Basic, Format::Token], &[Format::Bearer, Format::Token]] {
            assert!(repository.check_source(formats).is_ok(), "{formats:?}");
        }
        let refusal = repository.check_source(&[Format::Token]).unwrap_err();
        assert!(refusal.to_string().contains("Add Bearer to spec.secret.formats"), "{refusal}");
        let with = Repository::parse("https://org@dev.azure.com/org/project/_git/repo").unwrap();
        assert!(with.check_source(&[Format::Bearer]).is_err());
    }
}
