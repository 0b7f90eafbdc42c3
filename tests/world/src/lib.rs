//! The controller in the simulated world, in process on one clock: what the simulation tests and the demo share.
//!
//! What may be in this crate: building a world, running the controller in it, and asking what became of it. It exists
//! because rules, loop and world meet nowhere else.

pub mod identities;
pub mod stage;
