//! A caller whose claim was proven.

use super::process_id::ProcessId;
use crate::domain::name::Claim;

/// A caller whose claim was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The unit and the credential that it asks for.
    pub claim: Claim,
    /// The process that asks.
    pub process: ProcessId,
}
