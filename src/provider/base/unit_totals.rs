//! Counts the bytes that were sent to each process that sets up a unit's credentials. systemd accepts 1 MiB
//! for all credentials of a unit together. Above that, the unit fails without a reason. Because the process
//! requests one credential after another, the one that does not fit can be refused.
//!
//! If systemd keeps credentials in a tmpfs (since 254, on kernels with `noswap`), that tmpfs also has 1 MiB,
//! and whole pages count.
//!
//! Credentials from elsewhere (`SetCredential=`, files) are not visible here, although systemd counts them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::name::{Claim, CredentialId, UnitName};
use crate::host::clock::BootTime;
use crate::provider::base::limits::UNIT_TOTAL;
use crate::provider::base::process_id::ProcessId;

/// The maximum number of processes that are remembered. Values for further ones are sent without counting,
/// and systemd fails their unit without a reason.
const MOST: usize = 10_000;
/// The size of a page in bytes. On machines with larger pages fewer values fit, and systemd fails the unit.
const PAGE: usize = 4096;
/// The maximum number of credentials per process that are remembered.
const MOST_CREDENTIALS: usize = 256;
/// How long after its last request a process is remembered, even if it still runs.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Ended processes are dropped when the number of processes is at least this, and twice the number that
/// remained after the last time.
const FEW: usize = 1024;
/// How many of the other credentials a refusal names.
const NAMED: usize = 3;

/// The values that were sent to each process.
#[derive(Debug, Default)]
pub struct UnitTotals(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The key includes the unit, because the service manager itself could ask for several units.
    processes: HashMap<(ProcessId, UnitName), Sent>,
    /// The number of processes at which ended ones are dropped.
    look_at: usize,
}

#[derive(Debug)]
struct Sent {
    touched: BootTime,
    /// Credential IDs and the sizes of their values in bytes.
    credentials: Vec<(CredentialId, usize)>,
}

/// The credentials that a process received before one that does not fit, the largest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Others(Vec<(CredentialId, usize)>);

impl UnitTotals {
    /// Counts a value that is about to be sent. Fails if it and the process's other credentials exceed the
    /// total that systemd accepts. A repeated request for a credential replaces its earlier size.
    pub fn add(&self, process: ProcessId, claim: &Claim, size: usize, now: BootTime) -> Result<(), Others> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (process, claim.unit.clone());
        if !inner.processes.contains_key(&key) {
            if inner.processes.len() >= inner.look_at.max(FEW) {
                inner.drop_ended(now, ProcessId::is_running);
            }
            if inner.processes.len() >= MOST {
                return Ok(());
            }
        }
        let sent =
            inner.processes.entry(key).or_insert_with(|| Sent { touched: now, credentials: Vec::new() });
        sent.touched = now;
        sent.add(&claim.credential, size, in_tmpfs)
    }

    /// Drops processes that have ended, and those without recent requests. Call it periodically.
    pub fn sweep(&self, now: BootTime) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.drop_ended(now, ProcessId::is_running);
    }
}

impl Inner {
    fn drop_ended(&mut self, now: BootTime, is_running: impl Fn(ProcessId) -> bool) {
        self.processes
            .retain(|(process, _), sent| sent.touched.age(now) < REMEMBERED && is_running(*process));
        self.look_at = 2 * self.processes.len();
        if self.processes.capacity() > 4 * self.look_at.max(FEW) {
            self.processes.shrink_to(self.look_at);
        }
    }
}

impl Sent {
    fn add(&mut self, id: &CredentialId, size: usize, in_tmpfs: impl Fn() -> bool) -> Result<(), Others> {
        let exceeds = |count: Count| exceeds(&self.credentials, id, size, count);
        if exceeds(Count::Bytes) || exceeds(Count::Pages) && in_tmpfs() {
            let mut others: Vec<_> =
                self.credentials.iter().filter(|(other, _)| other != id).cloned().collect();
            others.sort_by_key(|(_, size)| Reverse(*size));
            return Err(Others(others));
        }
        match self.credentials.iter().position(|(other, _)| other == id) {
            Some(at) => self.credentials[at].1 = size,
            None if self.credentials.len() < MOST_CREDENTIALS => self.credentials.push((id.clone(), size)),
            None => {}
        }
        Ok(())
    }
}

/// What counts of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// The value and the ID, as systemd counts.
    Bytes,
    /// The pages of its file.
    Pages,
}

impl Count {
    fn of(self, id: &CredentialId, size: usize) -> usize {
        self.of_bytes(id.as_str().len(), size)
    }

    fn of_bytes(self, id: usize, size: usize) -> usize {
        match self {
            Self::Bytes => size.saturating_add(id),
            Self::Pages => size.div_ceil(PAGE).saturating_mul(PAGE),
        }
    }
}

/// Whether systemd keeps credentials in a tmpfs on this machine, judged by the units that run now. Without
/// such units the answer is unknown, and the result is false.
pub fn in_tmpfs() -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| has_tmpfs_of_credentials(&mounts))
}

fn has_tmpfs_of_credentials(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let Some((mount, superblock)) = line.split_once(" - ") else { return false };
        let point = mount.split(' ').nth(4).unwrap_or_default();
        point.starts_with("/run/credentials/") && superblock.starts_with("tmpfs ")
    })
}

/// Whether credentials with these IDs and sizes in bytes exceed the total that systemd accepts.
pub fn exceed(credentials: &[(String, usize)], in_tmpfs: bool) -> bool {
    let total = |count: Count| {
        credentials
            .iter()
            .fold(0, |sum: usize, (id, size)| sum.saturating_add(count.of_bytes(id.len(), *size)))
    };
    total(Count::Bytes) > UNIT_TOTAL || in_tmpfs && total(Count::Pages) > UNIT_TOTAL
}

/// Whether a value and the other credentials of the same process exceed the total that systemd accepts.
fn exceeds(sent: &[(CredentialId, usize)], id: &CredentialId, size: usize, count: Count) -> bool {
    let others = sent.iter().filter(|(other, _)| other != id);
    let before = others.fold(0, |sum: usize, (id, size)| sum.saturating_add(count.of(id, *size)));
    before.saturating_add(count.of(id, size)) > UNIT_TOTAL
}

impl fmt::Display for Others {
    /// Writes `a (600000 bytes), b (1 byte) and 2 more (20 bytes)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, rest) = self.0.split_at(self.0.len().min(NAMED));
        let named: Vec<_> = named.iter().map(|(id, size)| format!("{id} ({})", bytes(*size))).collect();
        f.write_str(&named.join(", "))?;
        if !rest.is_empty() {
            let together: usize = rest.iter().map(|(_, size)| size).sum();
            write!(f, " and {} more ({})", rest.len(), bytes(together))?;
        }
        Ok(())
    }
}

fn bytes(size: usize) -> String {
    format!("{size} byte{}", if size == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(unit: &str, id: &str) -> Claim {
        let (unit, credential) = (UnitName::parse_lenient(unit).unwrap(), CredentialId::parse(id).unwrap());
        Claim { unit, credential }
    }

    /// Requests each credential in turn from one process; returns the refusal of the last one.
    fn ask(all: &[(&str, usize)]) -> Option<String> {
        let (totals, now) = (UnitTotals::default(), BootTime::now());
        let add = |(id, size): &(&str, usize)| {
            totals
                .add(ProcessId::testing(1), &claim("app", id), *size, now)
                .err()
                .map(|others| others.to_string())
        };
        all.iter().map(add).last().flatten()
    }

    #[test]
    fn the_one_that_does_not_fit_is_refused() {
        let half = UNIT_TOTAL / 2;
        for (case, refused) in [
            (&[("a", UNIT_TOTAL - 1)][..], None),
            (&[("a", half - 4096), ("b", half - 1)], None),
            (&[("a", half - 1), ("b", half)], Some("a (524287 bytes)")),
            (&[("a", half - 1), ("bb", half - 1)], Some("a (524287 bytes)")),
            (&[("a", half), ("b", half), ("c", 10)], None),
            (&[("a", 600_000), ("a", 600_000)], None),
            (&[("a", 600_000), ("a", 10), ("b", 600_000)], None),
            (
                &[("a", 1), ("b", 2), ("c", 300), ("d", 4), ("e", 5), ("f", UNIT_TOTAL - 200)],
                Some("c (300 bytes), e (5 bytes), d (4 bytes) and 2 more (3 bytes)"),
            ),
        ] {
            assert_eq!(ask(case).as_deref(), refused, "{case:?}");
        }
    }

    #[test]
    fn whole_pages_count_in_a_tmpfs() {
        let id = |text: &str| CredentialId::parse(text).unwrap();
        for (one, other, in_tmpfs, fits) in [
            (147 * PAGE, 109 * PAGE - 12, true, true),
            (147 * PAGE - 100, 109 * PAGE - 12, true, true),
            (147 * PAGE - 100, 109 * PAGE + 1, false, true),
            (147 * PAGE - 100, 109 * PAGE + 1, true, false),
        ] {
            let mut sent = Sent { touched: BootTime::now(), credentials: vec![(id("a"), one)] };
            assert_eq!(sent.add(&id("b"), other, || in_tmpfs).is_ok(), fits, "{one} {other} {in_tmpfs}");
        }
        let mounts = |kind| {
            format!(
                "22 1 0:5 / / rw - ext4 /dev/x rw\n99 22 0:33 / /run/credentials/systemd-journald.service ro,nosuid - {kind} {kind} rw,noswap\n"
            )
        };
        assert!(has_tmpfs_of_credentials(&mounts("tmpfs")));
        assert!(!has_tmpfs_of_credentials(&mounts("ramfs")));
        assert!(!has_tmpfs_of_credentials("1 2 0:1 / /run rw - tmpfs tmpfs rw\n"));
    }

    #[test]
    fn each_process_and_unit_has_its_own_total() {
        let (totals, now, size) = (UnitTotals::default(), BootTime::now(), 600_000);
        let add =
            |process, unit, id| totals.add(ProcessId::testing(process), &claim(unit, id), size, now).is_ok();
        assert!(add(1, "app", "a") && add(2, "app", "b") && add(1, "web", "b"));
        assert!(!add(1, "app", "b"));
    }

    #[test]
    fn a_process_is_dropped_when_it_ended_or_after_a_time() {
        let (totals, now) = (UnitTotals::default(), BootTime::now());
        for process in 0..3 {
            totals.add(ProcessId::testing(process), &claim("app", "a"), 1, now).unwrap();
        }
        let mut inner = totals.0.lock().unwrap();
        inner.drop_ended(now, |process| process != ProcessId::testing(1));
        assert_eq!(inner.processes.len(), 2);
        inner.drop_ended(now.after(REMEMBERED - Duration::from_secs(1)), |_| true);
        assert_eq!(inner.processes.len(), 2);
        inner.drop_ended(now.after(REMEMBERED), |_| true);
        assert_eq!(inner.processes.len(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (totals, now) = (UnitTotals::default(), BootTime::now());
        for process in 0..=MOST as u64 {
            totals.add(ProcessId::testing(process), &claim("app", "a"), 1, now).unwrap();
        }
        for n in 0..=MOST_CREDENTIALS {
            totals.add(ProcessId::testing(0), &claim("app", &format!("n{n}")), 1, now).unwrap();
        }
        let inner = totals.0.lock().unwrap();
        assert_eq!(inner.processes.len(), MOST);
        let (_, most) = inner.processes.iter().max_by_key(|(_, sent)| sent.credentials.len()).unwrap();
        assert_eq!(most.credentials.len(), MOST_CREDENTIALS);
    }
}
