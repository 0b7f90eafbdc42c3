//! The simulated Azure services, asked as a client asks them.

mod admin;
mod devops;
mod entra;
mod faults;
mod imds;
mod support;
