//! `__complete`: Cobra's protocol, by which `flux` completes the words of a plugin.
//!
//! `__complete ARGS… WORD` answers one candidate a line (with a tab and a description, where there is one), then a line
//! with the directive. What can stand somewhere is read from the command line's own definition; live names come from
//! the cluster.

use std::collections::HashMap;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, CommandFactory};
use tokio::time::timeout;

use crate::args::{Arguments, Complete, Global};
use crate::checks;
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::kinds::{BEARER_TOKEN, GIT_REPOSITORY, NAMESPACE};

/// How long a person waits for names after the tab key.
const PATIENCE: Duration = Duration::from_secs(3);

/// Cobra's directive "don't offer files".
const NO_FILES: u8 = 4;

/// Cobra's directive "do what the shell does", which is to offer files.
const DEFAULT: u8 = 0;

/// What could stand in place of the last word.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// These words, each with its description.
    Words(Vec<(String, String)>),
    /// The names of something that lives, after this prefix (`--namespace=`).
    Names(Living, String),
    /// A file.
    File,
}

/// What has names that only a look can tell.
#[derive(Debug, PartialEq)]
enum Living {
    BearerTokens,
    GitRepositories,
    Namespaces,
    Contexts,
}

pub(super) async fn run(given: &Complete, global: &Global, edge: &Edge) -> Result<Exit, Trouble> {
    let mut root = Arguments::command();
    root.build();
    let (last, before) = given.words.split_last().map_or(("", [].as_slice()), |(last, before)| (last.as_str(), before));
    let read = read(&root, before);
    let (candidates, directive) = match read.wanted(last) {
        Wanted::File => (Vec::new(), DEFAULT),
        Wanted::Words(words) => (words, NO_FILES),
        Wanted::Names(living, prefix) => {
            let names = names(&living, &read.global(global), edge).await;
            (names.into_iter().map(|name| (format!("{prefix}{name}"), String::new())).collect(), NO_FILES)
        }
    };
    for (word, about) in candidates.iter().filter(|(word, _)| word.starts_with(last)) {
        let tab = if about.is_empty() { "" } else { "\t" };
        edge.out.data(&format!("{word}{tab}{about}\n"));
    }
    edge.out.data(&format!(":{directive}\n"));
    Ok(Exit::Done)
}

/// The words before the last one, as far as completion has to understand them.
struct Read<'a> {
    command: &'a Command,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    /// How many words stood that are neither subcommand nor option.
    position: usize,
    /// Values of options, by id.
    values: HashMap<&'a str, String>,
}

fn read<'a>(root: &'a Command, words: &[String]) -> Read<'a> {
    let mut read = Read { command: root, pending: None, position: 0, values: HashMap::new() };
    for word in words {
        read.take(word);
    }
    read
}

impl<'a> Read<'a> {
    fn take(&mut self, word: &str) {
        if let Some(option) = self.pending.take() {
            self.values.insert(option.get_id().as_str(), word.to_owned());
        } else if word.starts_with('-') && word.len() > 1 {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let option = self.option(name).filter(|option| takes_value(option));
            match (option, value) {
                (Some(option), Some(value)) => drop(self.values.insert(option.get_id().as_str(), value.to_owned())),
                (option, _) => self.pending = option,
            }
        } else if let Some(verb) = self.command.find_subcommand(word) {
            (self.command, self.position) = (verb, 0);
        } else {
            self.position += 1;
        }
    }

    /// The option that is written like this: `--name`, or `-n`.
    fn option(&self, word: &str) -> Option<&'a Arg> {
        let is_it = |option: &&Arg| match word.strip_prefix("--") {
            Some(long) => option.get_long() == Some(long),
            None => option.get_short().is_some_and(|short| word.ends_with(short)),
        };
        self.command.get_arguments().find(is_it)
    }

    fn wanted(&self, last: &str) -> Wanted {
        if let Some(option) = self.pending {
            return values(option, "");
        }
        if let Some((name, _)) = last.split_once('=').filter(|(name, _)| name.starts_with("--")) {
            return self.option(name).map_or(Wanted::Words(Vec::new()), |option| values(option, &format!("{name}=")));
        }
        if last.starts_with('-') {
            return Wanted::Words(self.options());
        }
        let verbs = self.command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<_> = verbs.map(|verb| (verb.get_name().to_owned(), help(verb.get_about()))).collect();
        if !verbs.is_empty() {
            return Wanted::Words(verbs);
        }
        // The last one may take any number of words.
        let positionals: Vec<&Arg> = self.command.get_positionals().collect();
        let many = positionals.last().copied().filter(|last| matches!(last.get_action(), ArgAction::Append));
        let here = positionals.get(self.position).copied().or(many);
        here.map_or(Wanted::Words(Vec::new()), |positional| values(positional, ""))
    }

    fn options(&self) -> Vec<(String, String)> {
        let shown = self.command.get_arguments().filter(|option| !option.is_hide_set());
        shown.filter_map(|option| Some((format!("--{}", option.get_long()?), help(option.get_help())))).collect()
    }

    /// The flags that say where to look.
    fn global(&self, global: &Global) -> Global {
        let value = |id: &str| self.values.get(id).cloned();
        Global {
            kubeconfig: value("kubeconfig").map(Into::into).or_else(|| global.kubeconfig.clone()),
            context: value("context").or_else(|| global.context.clone()),
            namespace: value("namespace").unwrap_or_else(|| global.namespace.clone()),
            ..global.clone()
        }
    }
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

/// What can be the value of an option or positional.
fn values(of: &Arg, prefix: &str) -> Wanted {
    let name = of.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str);
    let living = match name {
        Some("BEARERTOKEN") => Some(Living::BearerTokens),
        Some("GITREPOSITORY") => Some(Living::GitRepositories),
        Some("NAMESPACE") => Some(Living::Namespaces),
        Some("CONTEXT") => Some(Living::Contexts),
        Some("CHECK") => {
            return Wanted::Words(checks::all().map(|check| (check.id.to_owned(), check.says.to_owned())).collect());
        }
        _ => None,
    };
    if let Some(living) = living {
        return Wanted::Names(living, prefix.to_owned());
    }
    if matches!(of.get_value_hint(), clap::ValueHint::FilePath) {
        return Wanted::File;
    }
    let possible = of.get_possible_values().into_iter().filter(|value| takes_value(of) && !value.is_hide_set());
    Wanted::Words(possible.map(|value| (format!("{prefix}{}", value.get_name()), help(value.get_help()))).collect())
}

fn help(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// Live names; none where nobody answers, for a tab key must not complain.
async fn names(living: &Living, global: &Global, edge: &Edge) -> Vec<String> {
    let (kind, namespace) = match living {
        Living::Contexts => return edge.clusters.contexts(&global.which()),
        Living::BearerTokens => (BEARER_TOKEN, Some(global.namespace.as_str())),
        Living::GitRepositories => (GIT_REPOSITORY, Some(global.namespace.as_str())),
        Living::Namespaces => (NAMESPACE, None),
    };
    let listed = timeout(PATIENCE, async {
        let cluster = edge.clusters.connect(&global.which()).await?;
        cluster.list(kind, namespace).await
    });
    let listed = listed.await.ok().and_then(Result::ok).unwrap_or_default();
    listed.into_iter().filter_map(|object| object.metadata.name).collect()
}
