//! Bad input, one kind a test. Each shows a reason and what fixes it in a condition, that nothing was written, and that
//! a good BearerToken beside it is served as always.

#[path = "../support/mod.rs"]
mod support;

mod kubernetes;
mod replies;
mod secrets;
mod specs;
mod tokens;
