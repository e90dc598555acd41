//! A systemd credential provider for 1Password.
pub mod cli;
pub mod clock;
pub mod config;
pub mod name;
pub mod policy;
pub mod provider;
pub mod reference;
pub mod resolver;
pub mod secret;
pub mod systemd;
pub mod wire;

mod sys;
