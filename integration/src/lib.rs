//! Tests onecred on a real systemd: machines, fakes, cases and benchmarks.

pub mod attempts;
#[cfg(test)]
mod changed_map;
#[cfg(test)]
mod dependencies;
pub mod fake;
pub mod fake_account;
pub mod fake_connect;
pub mod floor;
pub mod installed;
mod load;
pub mod machine;
pub mod record;
pub mod recording;
pub mod setup;
pub mod size;
pub mod stage;
pub mod table;
pub mod theme;
pub mod upstream;
