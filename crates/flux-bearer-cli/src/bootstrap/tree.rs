//! Which part of the repository is the cluster's.

use crate::args;
use crate::exit::Trouble;

/// A folder of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The branch that Flux pulls.
    pub branch: String,
    /// The folder that it applies; empty at the repository's root.
    folder: String,
}

impl Tree {
    /// Reads the flags.
    ///
    /// # Errors
    /// A name that no branch can have, or a folder outside of the repository.
    pub fn of(flags: &args::Tree) -> Result<Self, Trouble> {
        let branch = flags.branch.as_deref().unwrap_or("main");
        if !is_branch(branch) {
            let cause = format!("--branch: {branch:?} can't be the name of a branch");
            return Err(Trouble::usage(cause, "write it as git branch does, for example --branch main"));
        }
        let path = flags.path.as_deref().unwrap_or_default();
        let folder = folder(path).ok_or_else(|| {
            let cause = format!("--path: {path:?} is no folder inside the repository");
            Trouble::usage(cause, "write it from the repository's root, for example --path clusters/production")
        })?;
        Ok(Self { branch: branch.to_owned(), folder })
    }

    /// The folder as Flux writes it: `./clusters/production`.
    pub fn path(&self) -> String {
        format!("./{}", self.folder)
    }

    /// Whether a Kustomization's path is this folder.
    pub fn is(&self, path: &str) -> bool {
        !path.is_empty() && folder(path).is_some_and(|folder| folder == self.folder)
    }

    /// A file in it, from the repository's root.
    pub fn file(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }
}

/// The folder, without what says nothing; `None` where it leads out of the repository or can't be written down.
fn folder(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let fits = |part: &&str| *part != ".." && *part != ".git" && !part.contains(|letter: char| is_odd(letter));
    parts.iter().all(fits).then(|| parts.join("/")).filter(|_| !path.starts_with('/'))
}

fn is_odd(letter: char) -> bool {
    letter.is_control() || letter == '"' || letter == '\\'
}

/// What `git check-ref-format --branch` takes, or less.
fn is_branch(name: &str) -> bool {
    let forbidden = |letter: char| letter.is_control() || " ~^:?*[\\".contains(letter);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
    !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(forbidden)
        && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

    use super::*;

    fn tree(branch: &str, path: &str) -> Result<Tree, Trouble> {
        Tree::of(&args::Tree { branch: Some(branch.to_owned()), path: Some(path.to_owned()) })
    }

    #[test]
    fn a_folder_has_one_way_to_be_written() {
        for path in ["clusters/eu", "./clusters/eu", "clusters//eu/", "./clusters/./eu/"] {
            let tree = tree("main", path).unwrap();
            assert_eq!((tree.path().as_str(), tree.file("x").as_str()), ("./clusters/eu", "clusters/eu/x"), "{path}");
            assert!(tree.is("./clusters/eu") && tree.is("clusters/eu/") && !tree.is("./clusters") && !tree.is(""));
        }
        let root = tree("main", "").unwrap();
        assert_eq!((root.path().as_str(), root.file("x").as_str()), ("./", "x"));
        assert!(root.is("./") && root.is("."));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for path in ["..", "clusters/../..", "/etc", "a\nb", "a\"b", ".git/hooks", "a\\b"] {
            assert!(tree("main", path).is_err(), "{path:?}");
        }
        for branch in ["", "-f", "a b", "a..b", "a:b", "/a", "a/", "a.lock", "a.", ".a", "a\nb", "a@{1}", "x/.y"] {
            assert!(tree(branch, "").is_err(), "{branch:?}");
        }
        for branch in ["main", "feature/x-1", "release_2.0"] {
            assert!(tree(branch, "").is_ok(), "{branch:?}");
        }
    }
}
