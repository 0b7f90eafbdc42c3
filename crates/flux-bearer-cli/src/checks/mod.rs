//! The checks: each one thing that can be wrong, with its evidence, the command that fixes it, and a page that explains it.
//!
//! [`facts`] gathers what exists, once; each check then judges these facts and nothing else. So a check is a pure
//! function, a world can be written down for each in a test, and two checks never see two different clusters.

mod azure;
pub mod cloud;
mod cluster;
mod controller;
mod devops;
pub mod facts;
mod flux;
mod identities;
mod rights;
mod secret;
mod token;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

pub(crate) use self::controller::tag;
use self::facts::Facts;
pub(crate) use self::rights::Deed;
pub(crate) use self::secret::{CREDENTIALS, SSA, owners};
use crate::exit::{Exit, Trouble};
use crate::kinds::Kind;

/// One thing that can be wrong.
pub struct Check {
    /// Stable: scripts and pages go by it. Its first word is the category.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is so where nothing is wrong.
    pub says: &'static str,
    /// Ids of the checks without which this one says nothing.
    pub needs: &'static [&'static str],
    /// Markdown: what it says, why it matters, an example, the fix.
    pub page: &'static str,
    judge: fn(&Facts) -> Verdict,
}

impl Check {
    /// Whether somebody has to be signed in to Azure.
    pub fn needs_sign_in(&self) -> bool {
        SIGNED_IN.contains(&self.category())
    }

    /// What it is about: the first word of its id.
    pub fn category(&self) -> &'static str {
        self.id.split('-').next().unwrap_or(self.id)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.id)
    }
}

/// How bad it is if something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Flux can't pull, or won't in an hour.
    Fail,
    /// It works, and somebody should look.
    Warn,
}

/// What a check finds: nothing, each thing that is wrong, or why that can't be known.
type Verdict = Result<Vec<Wrong>, String>;

/// What is wrong, each once, where it is known of anything that something is wrong; else why it is not known of all.
fn verdict(found: impl IntoIterator<Item = Result<Option<Wrong>, String>>) -> Verdict {
    let (mut all, mut unknown) = (Vec::new(), None);
    for one in found {
        match one {
            Ok(wrong) => all.extend(wrong.filter(|wrong| !all.contains(wrong))),
            Err(why) => drop(unknown.get_or_insert(why)),
        }
    }
    match unknown {
        Some(why) if all.is_empty() => Err(why),
        _ => Ok(all),
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Names and numbers, never a token or an answer's text.
    pub evidence: String,
    /// What to do about it.
    pub fix: Fix,
}

/// What to do about something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fix {
    /// A command to run as it stands.
    Run(String),
    /// A command that takes nothing from anybody and can be repeated, and what `--fix` does in its place.
    Safe(String, Vec<Repair>),
    /// What only a person can do.
    Do(String),
}

impl Fix {
    /// As it is shown.
    pub fn text(&self) -> &str {
        let (Self::Run(text) | Self::Safe(text, _) | Self::Do(text)) = self;
        text
    }
}

/// A write that does what a safe command would.
#[derive(Clone, Debug, PartialEq)]
pub enum Repair {
    /// A server-side apply.
    Apply(Value),
    /// An annotation that is set, or removed.
    Annotate {
        /// Kind of the object.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The annotation.
        annotation: &'static str,
        /// Its value; nothing removes it.
        value: Option<String>,
    },
}

/// What became of one check.
#[derive(Debug)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// What it found.
    pub outcome: Outcome,
}

/// What a check found.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Nothing is wrong.
    Fine,
    /// These things are.
    Wrong(Vec<Wrong>),
    /// It was not judged: why.
    Skipped(String),
}

impl Finding {
    /// Whether something is wrong that is this bad.
    pub fn is(&self, severity: Severity) -> bool {
        self.check.severity == severity && matches!(self.outcome, Outcome::Wrong(_))
    }

    /// One word for machines.
    pub fn result(&self) -> &'static str {
        match (&self.outcome, self.check.severity) {
            (Outcome::Fine, _) => "ok",
            (Outcome::Wrong(_), Severity::Fail) => "fail",
            (Outcome::Wrong(_), Severity::Warn) => "warn",
            (Outcome::Skipped(_), _) => "skip",
        }
    }
}

/// A check, with the page that its id names.
macro_rules! check {
    ($id:literal, $severity:ident, $says:literal, $needs:expr, $judge:expr) => {
        $crate::checks::Check {
            id: $id,
            severity: $crate::checks::Severity::$severity,
            says: $says,
            needs: &$needs,
            page: include_str!(concat!("pages/", $id, ".md")),
            judge: $judge,
        }
    };
}
use check;

/// The categories, in the order in which they build on each other.
pub const CATEGORIES: [&str; 8] = ["cluster", "rights", "controller", "token", "secret", "flux", "azure", "devops"];

/// What has to be so before anything is installed, Flux included: a bootstrap brings it.
const BEFORE: [&str; 2] = ["cluster", "rights"];

/// What only somebody who is signed in to Azure can look at.
const SIGNED_IN: [&str; 2] = ["azure", "devops"];

/// Every check, by category; what a check needs comes before it.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let cluster = [cluster::CHECKS, controller::CHECKS, token::CHECKS, secret::CHECKS, flux::CHECKS];
    cluster.into_iter().chain([azure::CHECKS, devops::CHECKS]).flatten()
}

/// The check of this id.
///
/// # Errors
/// That there is none, with the one that was probably meant.
pub fn named(id: &str) -> Result<&'static Check, Trouble> {
    all().find(|check| check.id == id).ok_or_else(|| unknown(id, all().map(|check| check.id)))
}

/// Which checks are wanted: these ids and categories; without any, those that fit the moment.
pub fn chosen(names: &[String], before: bool) -> Result<Vec<&'static Check>, Trouble> {
    let known = |name: &String| all().any(|check| fits(check, name));
    if let Some(odd) = names.iter().find(|name| !known(name)) {
        return Err(unknown(odd, CATEGORIES.into_iter().chain(all().map(|check| check.id))));
    }
    // Who only looks need not be allowed to install.
    let usual = |check: &Check| if before { BEFORE.contains(&check.category()) } else { check.category() != "rights" };
    let wanted = |check: &&'static Check| match names {
        [] => usual(check),
        names => names.iter().any(|name| fits(check, name)),
    };
    Ok(all().filter(wanted).collect())
}

/// Whether a name means this check: by its id, or by its category, which may also stand in the plural.
fn fits(check: &Check, name: &str) -> bool {
    check.id == name || check.category() == name || name.strip_suffix('s') == Some(check.category())
}

fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> Trouble {
    let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or_default();
    let cause = format!("there is no check {name:?}; did you mean {nearest}?");
    Trouble::new(Exit::NotFound, cause, "flux-bearer explain lists all of them")
}

/// Judges every check on the same facts. One whose ground is missing is skipped, and so is what builds on it, for the
/// same reason.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut unsound: BTreeMap<&str, String> = BTreeMap::new();
    let judged = all().map(|check| {
        let outcome = match check.needs.iter().find_map(|id| unsound.get(*id)) {
            Some(why) => Outcome::Skipped(why.clone()),
            None => match (check.judge)(facts) {
                Ok(wrong) if wrong.is_empty() => Outcome::Fine,
                Ok(wrong) => Outcome::Wrong(wrong),
                Err(why) => Outcome::Skipped(why),
            },
        };
        match &outcome {
            Outcome::Fine => {}
            Outcome::Wrong(_) => drop(unsound.insert(check.id, format!("needs {}", check.id))),
            Outcome::Skipped(why) => drop(unsound.insert(check.id, why.clone())),
        }
        Finding { check, outcome }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_a_page_of_its_own_and_every_page_a_check() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checks/pages");
        let pages: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let ids: BTreeSet<String> = all().map(|check| format!("{}.md", check.id)).collect();
        assert_eq!(pages, ids);
        for check in all() {
            assert!(check.page.starts_with(&format!("# {}\n", check.id)), "{}", check.id);
            for part in ["## Why it matters", "## Example", "## Fix"] {
                assert!(check.page.contains(part), "{} has no {part}", check.id);
            }
        }
    }

    #[test]
    fn ids_are_unique_begin_with_their_category_and_build_on_earlier_ones() {
        let mut before = BTreeSet::new();
        for check in all() {
            assert!(CATEGORIES.contains(&check.category()), "{}", check.id);
            for need in check.needs {
                assert!(before.contains(need), "{} needs {need}, which is not judged before it", check.id);
            }
            assert!(before.insert(check.id), "{} twice", check.id);
        }
        assert!(before.len() >= 30);
    }

    #[test]
    fn a_check_is_found_by_id_category_and_plural_and_a_wrong_name_gets_the_nearest() {
        let ids = |name: &str| chosen(&[name.to_owned()], false).map(|found| found.len());
        assert_eq!(ids("cluster-version"), Ok(1));
        assert_eq!(ids("secrets"), ids("secret"));
        assert!(ids("flux").unwrap() > 10);
        let odd = ids("cluster-vesion").unwrap_err();
        assert_eq!((odd.exit, odd.cause.contains("did you mean cluster-version?")), (Exit::NotFound, true));
        let before = chosen(&[], true).unwrap();
        assert!(before.iter().any(|check| check.id == "rights-install"));
        assert!(before.iter().all(|check| BEFORE.contains(&check.category())));
        assert!(chosen(&[], false).unwrap().iter().all(|check| check.category() != "rights"));
    }
}
