//! The world that flux-bearer lives in, simulated: Entra ID, IMDS, Azure Resource Manager, Azure DevOps with its Git
//! repositories, and enough of the Kubernetes API for the controller.
//!
//! In process every part is a plain HTTP service on one [`Clock`](clock::Clock), so a test on a paused clock sees days
//! pass in milliseconds and opens no port. Under [`edge`] the same services answer real sockets under Azure's real host names.
//!
//! Nothing that is shipped depends on this crate. It knows the rules of flux-bearer nowhere: what Azure answers is
//! Azure's business, not ours.

mod access_token;
pub mod admin;
mod arm;
pub mod canary;
pub mod clock;
mod devops;
pub mod edge;
mod entra;
pub mod faults;
pub mod git;
mod imds;
pub mod issuer;
pub mod journal;
pub mod jwt;
pub mod kube;
mod random;
pub mod service;
pub mod state;
mod token_proxy;
pub mod world;
