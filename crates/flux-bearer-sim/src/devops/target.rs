//! What a URL of Azure DevOps names, in each of the forms that it accepts.
//!
//! `dev.azure.com/{org}/{project}/_git/{repo}`, `dev.azure.com/{org}/_git/{repo}` (the project has the same name),
//! `{org}.visualstudio.com[/DefaultCollection]/{project}/_git/{repo}`, and the same with `_apis` in place of `_git`.
//! Names are percent-encoded; user info (`org@`) never reaches a server.

use percent_encoding::percent_decode_str;

/// A host, by what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Projects, Git and their security: `dev.azure.com` and the older name of an organisation.
    Core,
    /// Graph, identities and profiles: `vssps.dev.azure.com`.
    Identities,
    /// Entitlements: `vsaex.dev.azure.com`.
    Entitlements,
}

impl Host {
    pub(super) fn of(host: &str) -> Self {
        match host {
            "vssps.dev.azure.com" | "app.vssps.visualstudio.com" => Self::Identities,
            "vsaex.dev.azure.com" => Self::Entitlements,
            _ => Self::Core,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Core => "dev.azure.com",
            Self::Identities => "vssps.dev.azure.com",
            Self::Entitlements => "vsaex.dev.azure.com",
        }
    }
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) organization: String,
    pub(super) what: What,
}

/// What of the organisation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A path within a Git repository, for example `info/refs`.
    Git {
        /// Project; none means the one named like the repository.
        project: Option<String>,
        /// Repository.
        repository: String,
        /// The rest of the path.
        path: String,
    },
    /// A REST resource.
    Rest {
        /// Project that the path is under.
        project: Option<String>,
        /// Segments after `_apis`.
        path: Vec<String>,
    },
    /// A page for people.
    Page,
}

impl Target {
    /// What this path of this host names; `None` when it names no organisation.
    pub(super) fn of(host: &str, path: &str) -> Option<Self> {
        let mut segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        let organization = match legacy_organization(host) {
            Some(organization) => {
                if segments.first().is_some_and(|first| first.eq_ignore_ascii_case("DefaultCollection")) {
                    segments.remove(0);
                }
                organization.to_owned()
            }
            None if segments.is_empty() => return None,
            None => segments.remove(0),
        };
        Some(Self { organization, what: What::of(&segments) })
    }

    pub(super) fn is_git(&self) -> bool {
        matches!(self.what, What::Git { .. })
    }
}

impl What {
    fn of(segments: &[String]) -> Self {
        let (project, rest) = match segments {
            [marker, ..] if marker.starts_with('_') => (None, segments),
            [project, rest @ ..] => (Some(project.clone()), rest),
            [] => (None, segments),
        };
        match rest {
            [git, repository, path @ ..] if git == "_git" => {
                Self::Git { project, repository: repository.clone(), path: path.join("/") }
            }
            [apis, path @ ..] if apis == "_apis" => Self::Rest { project, path: path.to_vec() },
            _ => Self::Page,
        }
    }
}

/// The organisation of a host `{org}.visualstudio.com`.
pub(super) fn legacy_organization(host: &str) -> Option<&str> {
    host.strip_suffix(".visualstudio.com").filter(|label| !label.is_empty() && !label.contains('.'))
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(organization: &str, project: Option<&str>, repository: &str, path: &str) -> Target {
        let project = project.map(ToOwned::to_owned);
        let what = What::Git { project, repository: repository.to_owned(), path: path.to_owned() };
        Target { organization: organization.to_owned(), what }
    }

    #[test]
    fn reads_every_form_of_a_git_url() {
        let table = [
            ("dev.azure.com", "/org/p/_git/r/info/refs", git("org", Some("p"), "r", "info/refs")),
            ("dev.azure.com", "/org/my%20p/_git/my%20r", git("org", Some("my p"), "my r", "")),
            ("dev.azure.com", "/org/_git/r/git-upload-pack", git("org", None, "r", "git-upload-pack")),
            ("org.visualstudio.com", "/p/_git/r", git("org", Some("p"), "r", "")),
            ("org.visualstudio.com", "/_git/r", git("org", None, "r", "")),
            ("org.visualstudio.com", "/DefaultCollection/p/_git/r", git("org", Some("p"), "r", "")),
            ("org.visualstudio.com", "/defaultcollection/_git/r", git("org", None, "r", "")),
        ];
        for (host, path, expected) in table {
            assert_eq!(Target::of(host, path), Some(expected), "{host}{path}");
        }
    }

    #[test]
    fn names_an_organisation_by_one_label_only() {
        assert_eq!(legacy_organization("org.visualstudio.com"), Some("org"));
        assert_eq!(legacy_organization("app.vssps.visualstudio.com"), None);
        assert_eq!(legacy_organization(".visualstudio.com"), None);
        assert_eq!(Target::of("dev.azure.com", "/"), None);
    }
}
