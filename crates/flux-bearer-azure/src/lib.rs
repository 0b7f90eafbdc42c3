//! The wire of flux-bearer: Azure over one HTTP seam.
//!
//! What may be in this crate: requests to Azure, the reading of their answers, and the limits that Azure sets to its
//! clients. No Kubernetes, no file, no environment, no wall clock: credentials and settings come in as values, and time
//! passes only through [`tokio::time`], so that a paused clock and a router in process are a whole Azure for a test.
//!
//! Everything that fails here is a [`flux_bearer::failure::Failure`]: codes and words of ours, never a server's text.
//!
//! For the controller: [`mint::Azure::mint`] gets a token, [`probe::probe`] asks Git whether it opens a repository.
//! Nothing there decides when: retries belong to the rules, except the ones that IMDS itself documents.
//!
//! For the set-up: [`operator::Session`] is whoever does it, signed in; [`arm::Arm`] is a subscription and
//! [`devops::DevOps`] an organisation, each seen by them. A person looks on, so what passes by itself is
//! tried again at once, a few times; what takes minutes is the caller's to wait for.
//!
//! All of it sends through [`http::Http`].

pub mod arm;
pub mod binding;
pub mod certificate;
pub mod devops;
pub mod entra;
mod field;
mod grant;
pub mod http;
pub mod imds;
pub mod mint;
pub mod operator;
pub mod probe;
pub mod resource;
mod rest;
mod retry;
pub mod secret;
pub mod workload;
