//! The world on real sockets, under Azure's real host names: TLS with a CA of its own, a namespace or a proxy to lead
//! clients there, and real `git http-backend` behind the repositories.
//!
//! Everything else in this crate is a service in process; sockets, files, child processes, signals, the environment and
//! the machine's clock are met here and nowhere else.

pub mod backend;
pub mod cgi;
pub mod cli;
mod flushed;
pub mod folder;
pub mod hosts;
pub mod issuer_client;
pub mod listen;
pub mod namespace;
pub mod serve;
pub mod tls;
pub mod trust;
pub mod wiring;

pub use cli::Arguments;
