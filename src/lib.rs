//! A systemd credential provider for 1Password.
pub mod cli;
pub mod config;
pub mod name;
pub mod policy;
pub mod reference;
pub mod resolver;
pub mod secret;
pub mod wire;
