//! How much memory the provider needs, and whether that fits this machine. Pure.

use super::Limits;

const MIB: u64 = 1 << 20;

/// The memory for values that are being sent, in bytes. Socket buffers are apart.
pub(crate) const VALUES: u64 = 80 * MIB;
/// The memory for a connection's socket buffer, in bytes.
pub(crate) const BUFFER: u64 = 128 << 10;
/// The memory for values that callers of D-Bus have open, in bytes.
pub(crate) const HANDED_OUT: u64 = 48 * MIB;
/// The memory for everything else, in bytes: the process itself, messages of D-Bus, and journal lines.
const REST: u64 = 64 * MIB;

impl Limits {
    /// The memory that the provider needs, in bytes. The store and the published files may be larger than
    /// their limits, if these were lowered.
    pub fn memory(&self, stored: u64, published: u64) -> u64 {
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        let parts = [
            self.store_bytes.max(stored),
            self.store_bytes.max(published),
            VALUES,
            connections.saturating_mul(BUFFER),
            HANDED_OUT,
            REST,
        ];
        parts.into_iter().fold(0, u64::saturating_add).div_ceil(MIB).saturating_mul(MIB)
    }

    /// What is wrong if the provider needs more than this machine has, and the remedy.
    pub(super) fn misfit(&self, available: u64) -> Option<(String, String)> {
        let needed = self.memory(0, 0);
        if needed <= available {
            return None;
        }
        let without = needed - 2 * self.store_bytes;
        let most = available.saturating_sub(without) / 2 / MIB;
        let what = format!(
            "a store of {} MiB does not fit: with it onecred may need {} MiB, and this machine has {} MiB",
            self.store_bytes / MIB,
            needed / MIB,
            available / MIB
        );
        let remedy = match most {
            0 => "lower \"connections\" too, or leave out \"storeSize\"".to_owned(),
            _ => format!("lower it to at most {most}MiB"),
        };
        Some((what, remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(store: u64, connections: usize) -> Limits {
        Limits { store_bytes: store * MIB, connections }
    }

    #[test]
    fn each_part_counts() {
        assert_eq!(Limits::default().memory(0, 0), 384 * MIB, "the value in onecred.service");
        // the limits, what is stored and published in MiB; the sum in MiB
        for (limits, stored, published, sum) in [
            (limits(64, 512), 64, 64, 384),
            (limits(128, 512), 0, 0, 512),
            (limits(64, 8), 0, 0, 321),
            (limits(64, 512), 100, 0, 420),
            (limits(64, 512), 0, 100, 420),
            (limits(1, 1), 0, 0, 195),
        ] {
            assert_eq!(limits.memory(stored * MIB, published * MIB), sum * MIB, "{limits:?}");
        }
        assert_eq!(limits(1, usize::MAX).memory(u64::MAX, 0), u64::MAX, "no overflow");
    }

    #[test]
    fn a_store_that_does_not_fit_is_an_error_with_the_largest_that_does() {
        for (store, available, remedy) in [
            (64, 384, None),
            (64, 383, Some("at most 63MiB")),
            (1024, 1000, Some("at most 372MiB")),
            (4096, 100_000, None),
            (64, 200, Some("lower \"connections\"")),
        ] {
            let misfit = limits(store, 512).misfit(available * MIB);
            let fits = match (&misfit, remedy) {
                (Some((what, said)), Some(words)) => {
                    said.contains(words) && what.contains(&format!("{available} MiB"))
                }
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{store} in {available}: {misfit:?}");
        }
    }
}
