//! Limits what calls in progress hold, for each user and in total, so that no user can exhaust what others need. Pure accounting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What calls hold until they are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// How many calls.
    pub(super) calls: usize,
    /// The bytes of their messages.
    pub(super) bytes: usize,
    /// The file descriptors that came with them.
    pub(super) descriptors: usize,
}

/// The maximum that the calls of one user hold.
const USER: Load = Load { calls: 256, bytes: 2 << 20, descriptors: 16 };
/// The maximum that the calls of all users together hold, without root's.
const USERS: Load = Load { calls: 1024, bytes: 6 << 20, descriptors: 64 };
/// The maximum that root's calls hold.
const ROOT: Load = Load { calls: 4096, bytes: 16 << 20, descriptors: 64 };

impl Load {
    fn plus(self, more: Self) -> Self {
        Self {
            calls: self.calls + more.calls,
            bytes: self.bytes + more.bytes,
            descriptors: self.descriptors + more.descriptors,
        }
    }

    fn minus(self, less: Self) -> Self {
        Self {
            calls: self.calls - less.calls,
            bytes: self.bytes - less.bytes,
            descriptors: self.descriptors - less.descriptors,
        }
    }

    fn is_within(self, limit: Self) -> bool {
        self.calls <= limit.calls && self.bytes <= limit.bytes && self.descriptors <= limit.descriptors
    }
}

/// The calls in progress.
#[derive(Debug, Default)]
pub(super) struct Admission(Mutex<Totals>);

#[derive(Debug, Default)]
struct Totals {
    by_user: HashMap<u32, Load>,
    /// Of all users but root.
    users: Load,
}

impl Totals {
    /// Adds a call, if it is within all limits.
    fn add(&mut self, uid: u32, load: Load) -> bool {
        let of_user = self.by_user.get(&uid).copied().unwrap_or_default().plus(load);
        let users = if uid == 0 { self.users } else { self.users.plus(load) };
        let fits = of_user.is_within(if uid == 0 { ROOT } else { USER }) && users.is_within(USERS);
        if fits {
            self.by_user.insert(uid, of_user);
            self.users = users;
        }
        fits
    }

    fn remove(&mut self, uid: u32, load: Load) {
        let Some(of_user) = self.by_user.get_mut(&uid) else { return };
        *of_user = of_user.minus(load);
        if *of_user == Load::default() {
            self.by_user.remove(&uid);
        }
        if uid != 0 {
            self.users = self.users.minus(load);
        }
    }
}

impl Admission {
    /// Admits a call of a user, if it is within all limits. It counts until the permit is dropped.
    pub(super) fn admit(self: &Arc<Self>, uid: u32, load: Load) -> Option<Permit> {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.add(uid, load).then(|| Permit { admission: Arc::clone(self), uid, load })
    }
}

/// An admitted call.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    uid: u32,
    load: Load,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut totals = self.admission.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.remove(self.uid, self.load);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(calls: usize, bytes: usize, descriptors: usize) -> Load {
        Load { calls, bytes, descriptors }
    }

    #[test]
    fn no_user_exceeds_its_limit_nor_all_users_theirs() {
        const MIB: usize = 1 << 20;
        // who calls how often with what; how many of these calls are admitted
        for (what, calls, expected) in [
            ("calls of one user", vec![(998, 300, load(1, 100, 0))], vec![256]),
            ("bytes of one user", vec![(998, 5, load(1, MIB, 0))], vec![2]),
            ("descriptors of one user", vec![(998, 20, load(1, 100, 1))], vec![16]),
            (
                "bytes of several users",
                vec![
                    (998, 5, load(1, MIB, 0)),
                    (997, 5, load(1, MIB, 0)),
                    (996, 5, load(1, MIB, 0)),
                    (995, 5, load(1, MIB, 0)),
                    (0, 20, load(1, MIB, 0)),
                ],
                vec![2, 2, 2, 0, 16],
            ),
            (
                "another user's calls",
                vec![(998, 300, load(1, 1, 0)), (997, 3, load(1, 1, 0)), (0, 5000, load(1, 1, 0))],
                vec![256, 3, 4096],
            ),
        ] {
            let admission = Arc::new(Admission::default());
            let mut permits = Vec::new();
            let admitted = calls.iter().map(|&(uid, count, load)| {
                let before = permits.len();
                permits.extend((0..count).filter_map(|_| admission.admit(uid, load)));
                permits.len() - before
            });
            assert_eq!(admitted.collect::<Vec<_>>(), expected, "{what}");
            permits.clear();
            let totals = admission.0.lock().unwrap();
            assert!(totals.by_user.is_empty() && totals.users == Load::default(), "{what}: {totals:?}");
        }
    }

    #[test]
    fn a_call_that_is_not_admitted_counts_nothing() {
        let admission = Arc::new(Admission::default());
        assert!(admission.admit(998, load(1, USER.bytes + 1, 0)).is_none());
        assert!(admission.admit(998, load(1, USER.bytes, 0)).is_some());
    }
}
