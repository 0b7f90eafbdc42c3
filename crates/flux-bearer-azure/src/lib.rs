//! The wire of flux-bearer: Azure over one HTTP seam.
//!
//! What may be in this crate: requests to Azure, the reading of their answers, and the limits that Azure sets to its
//! clients. No Kubernetes, no file, no environment, no wall clock: credentials and settings come in as values, and time
//! passes only through [`tokio::time`], so that a paused clock and a router in process are a whole Azure for a test.
//!
//! Everything that fails here is a [`flux_bearer::failure::Failure`]: codes and words of ours, never a server's text.
//!
//! [`mint::Azure::mint`] gets a token, [`probe::probe`] asks Git whether it opens a repository, and both send through
//! [`http::Http`]. Nothing here decides when: retries belong to the rules, except the ones that IMDS itself documents.

pub mod entra;
mod grant;
pub mod http;
pub mod imds;
pub mod mint;
pub mod probe;
pub mod secret;
pub mod workload;
