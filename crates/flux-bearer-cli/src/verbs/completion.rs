//! `completion`: the script that completes this command line in a shell.

use clap::CommandFactory;

use crate::args::{Arguments, Completion, Global};
use crate::edge::Edge;
use crate::exit::Exit;

pub(super) fn run(wanted: &Completion, global: &Global, edge: &Edge) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Arguments::command(), &global.program, &mut script);
    edge.out.data(&String::from_utf8_lossy(&script));
    Exit::Done
}
