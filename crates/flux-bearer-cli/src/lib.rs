//! The set-up of flux-bearer, for people: one file a verb, and nothing that renews a token by itself.
//!
//! A verb gathers what exists, decides, and acts; all that is outside (Azure, the cluster, programs, the terminal, the
//! environment, the clock) comes in through [`edge::Edge`], so every verb runs in a test as it runs in a shell. It uses
//! the rules (`flux-bearer`) and the wire (`flux-bearer-azure`) and is used by no other crate.
//!
//! Data goes to standard output, progress to standard error. A token is never printed, never an argument of a program
//! and never in a file.

pub mod age;
pub mod args;
pub mod bootstrap;
pub mod checks;
pub mod cluster;
mod cron_job;
pub mod edge;
pub mod exit;
pub mod flux;
mod identity_token;
pub mod issuer;
pub mod kinds;
pub mod manifests;
mod migrate;
mod object;
pub mod out;
pub mod real;
pub mod setup;
pub mod sign_in;
pub mod sources;
pub mod tokens;
pub mod verbs;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;
use tokio::time::timeout;

use crate::args::{Arguments, name_of};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

/// Runs one command line; `words` begins with the name that the program was called by.
pub async fn run(words: Vec<OsString>, edge: &Edge) -> Exit {
    let mut arguments = match Arguments::try_parse_from(parsed(&words)) {
        Ok(arguments) => arguments,
        Err(error) => return edge.out.usage(&error),
    };
    arguments.global.program = called(&words);
    let limit = arguments.global.timeout;
    // On the heap: the state of the largest verb is 16 KiB.
    let verb = Box::pin(verbs::run(&arguments, edge));
    let done = match () {
        () if arguments.verb.keeps_time() => verb.await,
        () => timeout(limit, verb).await.unwrap_or_else(|_| Err(timed_out(limit))),
    };
    match done {
        Ok(exit) => exit,
        Err(trouble) => edge.out.trouble(&trouble),
    }
}

/// The words as they are parsed. What Cobra's `__complete` is given is no command line yet, so no flag of it counts.
fn parsed(words: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.iter().map(|word| name_of(word)).collect();
    if words.get(1).is_some_and(|verb| verb == "__complete") {
        words.insert(2, "--".into());
    }
    words
}

/// The program's own name, as it was called.
fn called(words: &[OsString]) -> String {
    let name = words.first().and_then(|word| Path::new(word).file_name()).unwrap_or(OsStr::new("flux-bearer"));
    name.to_string_lossy().into_owned()
}

fn timed_out(limit: std::time::Duration) -> Trouble {
    let cause = format!("not done within {} s; what was done so far stays valid", limit.as_secs());
    Trouble::new(Exit::TimedOut, cause, "flux-bearer check says what is in the way; or give it longer with --timeout")
}
