//! The wire against servers in process on a paused clock: what goes out byte for byte, and what comes of every answer.

// The whole of this program is test code, also its helpers, which clippy's exemption for tests doesn't see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod any;
mod arm;
mod binding;
mod certificate;
mod devops;
mod entra;
mod http;
mod imds;
mod operator;
mod probe;
mod rest;
mod server;
mod signed_in;
