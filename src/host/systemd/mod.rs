//! Interfaces of systemd: socket activation, notifications, the journal and the service manager.

pub mod activation;
pub mod invocation;
pub mod journal;
pub mod manager;
pub mod message_id;
pub mod notify;
pub mod private;
pub mod unit_type;
