//! Rows of the fault matrix that no other file holds, and that the matrix is whole. A test names its rows: `row_08_…`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod identity;
mod process;
mod table;
