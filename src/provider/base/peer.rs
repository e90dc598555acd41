//! The attested peer of a connection.

use super::process_id::ProcessId;
use crate::domain::name::Claim;

/// An attested peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The unit and the credential that it asks for.
    pub claim: Claim,
    /// The process that asks.
    pub process: ProcessId,
}
