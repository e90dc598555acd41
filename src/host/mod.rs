//! Interfaces to Linux and systemd: socket activation, notifications, the journal, the service manager,
//! clocks and system calls.

pub(crate) mod accept;
pub(crate) mod background;
pub(crate) mod calendar;
pub mod clock;
pub(crate) mod directory;
pub mod listeners;
pub(crate) mod memory;
pub(crate) mod ownership;
pub mod pause;
pub mod pauses;
pub(crate) mod sys;
pub mod systemd;
pub mod tcp_table;
