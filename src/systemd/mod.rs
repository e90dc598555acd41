//! What systemd gives and wants: sockets that it listens on for us, its notifications, its journal.

pub mod activation;
pub mod journal;
pub mod message_id;
pub mod notify;
