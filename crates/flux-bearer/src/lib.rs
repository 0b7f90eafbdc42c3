//! The rules of flux-bearer: its types and its decisions.
//!
//! What may be in this crate: values and pure functions over them. No async, no HTTP or Kubernetes client, no clock
//! (`now` is always an argument), no environment, no file. Whoever wants to know *when* a token is replaced or *why* a
//! Secret is left alone reads [`decide`] and nothing else.

pub mod decide;
pub mod failure;
pub mod flux;
pub mod identity;
pub mod preflight;
pub mod report;
pub mod repository;
pub mod resource;
pub mod schedule;
pub mod secret;
pub mod token;
pub mod token_request;

/// The field manager, label value and controller name of flux-bearer.
pub const NAME: &str = "flux-bearer";

/// The API group, and the prefix of every annotation that flux-bearer writes.
pub const GROUP: &str = "flux-bearer.dev";
