//! The simulator held against a real Azure: one scenario is played to both, and what is compared are the answers.
//!
//! Opt-in and never in CI: it makes things in a subscription and an organisation of whoever runs it, all of them named
//! `flux-bearer-live-RUN`, and removes them, see `docs/live.md`. Its own logic is tested with a simulator in Azure's
//! place.
//!
//! [`scenario`] asks, [`record`] keeps the answers, [`redact`] takes out what is nobody's business, [`compare`] finds
//! the differences, [`clean`] removes what was made.

pub mod azure;
pub mod clean;
pub mod compare;
pub mod hold;
pub mod record;
pub mod redact;
pub mod scenario;
pub mod settings;
pub mod simulated;
