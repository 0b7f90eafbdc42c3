//! The set-up of flux-bearer, for people: one file a verb, and nothing that renews a token by itself.
//!
//! A verb gathers what exists, decides, and acts; all that is outside (Azure, the cluster, programs, the terminal, the
//! environment, the clock) comes in through [`edge::Edge`], so every verb runs in a test as it runs in a shell. It uses
//! the rules (`flux-bearer`) and the wire (`flux-bearer-azure`) and is used by no other crate.
//!
//! Data goes to standard output, progress to standard error. A token is never printed, never an argument of a program
//! and never in a file.

pub mod args;
pub mod cluster;
pub mod edge;
pub mod exit;
pub mod kinds;
pub mod manifests;
pub mod out;
pub mod real;
pub mod verbs;

use std::ffi::OsString;

use clap::Parser;

use crate::args::{Arguments, name_of};
use crate::edge::Edge;
use crate::exit::{Exit, Trouble};

/// Runs one command line; `words` begins with the name that the program was called by.
pub async fn run(words: Vec<OsString>, edge: &Edge) -> Exit {
    let arguments = match Arguments::try_parse_from(words.iter().map(|word| name_of(word))) {
        Ok(arguments) => arguments,
        Err(error) => return edge.out.usage(&error),
    };
    let done = match tokio::time::timeout(arguments.global.timeout, verbs::run(&arguments, edge)).await {
        Ok(done) => done,
        Err(_) => Err(timed_out(arguments.global.timeout)),
    };
    match done {
        Ok(exit) => exit,
        Err(trouble) => edge.out.trouble(&trouble),
    }
}

fn timed_out(limit: std::time::Duration) -> Trouble {
    let cause = format!("not done within {} s; what was done so far stays valid", limit.as_secs());
    Trouble::new(Exit::TimedOut, cause, "run it again, or give it longer with --timeout")
}
