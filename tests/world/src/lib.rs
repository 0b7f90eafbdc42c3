//! The controller in the simulated world, in process on one clock: what the simulation tests share.
//!
//! What may be in this crate: building a world, running the controller in it, and asking what became of it. It exists
//! because rules, loop and world meet in no crate that is shipped.

pub mod accounts;
pub mod alerts;
pub mod certificates;
pub mod company;
pub mod flux;
pub mod forge;
pub mod fuzz;
pub mod gate;
pub mod holding;
pub mod identities;
pub mod life;
pub mod matrix;
pub mod outages;
pub mod seeds;
pub mod shell;
pub mod stage;
