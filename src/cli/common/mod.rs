//! Helpers that several verbs share: text that fits the terminal, tables, and problems grouped by their
//! cause.

pub(super) mod causes;
pub(super) mod creds;
pub(super) mod reach;
pub(super) mod show;
pub(super) mod sockets;
pub(super) mod state;
pub(super) mod systemd;
pub(super) mod table;
pub(super) mod text;
