//! Signing in for the set-up, in every way.

mod azure_cli;
mod device_code;
mod principal;
mod session;
