//! What systemd gives and wants: sockets that it listens on for us, its notifications, its journal, its units.

pub mod activation;
pub mod invocation;
pub mod journal;
pub mod manager;
pub mod message_id;
pub mod notify;
pub mod unit_type;
