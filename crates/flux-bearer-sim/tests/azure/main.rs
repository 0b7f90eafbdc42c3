//! The simulated Azure services, asked as a client asks them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod arm;
mod certificate;
mod devops;
mod entra;
mod faults;
mod imds;
mod person;
mod setup;
mod support;
mod token_proxy;
