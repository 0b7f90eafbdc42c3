//! Bad input, one kind a test. Each shows a reason and what fixes it in a condition, that nothing was written, and that
//! a good BearerToken beside it is served as always.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod certificates;
mod kubernetes;
mod replies;
mod secrets;
mod specs;
mod tokens;
