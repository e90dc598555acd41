//! A limit on the number of calls to 1Password, for runs that must not exceed it, such as
//! integration/real/run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ipc::{Class, Failure};

/// The number of calls that remain. Clones share one counter. The default has no limit.
#[derive(Debug, Clone, Default)]
pub struct CallLimit(Option<Arc<AtomicU32>>);

impl CallLimit {
    /// Allows this many calls.
    pub fn of(calls: u32) -> Self {
        Self(Some(Arc::new(AtomicU32::new(calls))))
    }

    /// Takes calls before they are made.
    ///
    /// # Errors
    ///
    /// Fewer calls remain; in this case none is taken.
    pub fn take(&self, calls: u32) -> Result<(), Failure> {
        let Some(left) = &self.0 else { return Ok(()) };
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(calls));
        taken.map(drop).map_err(|left| {
            let cause =
                format!("the limit of this run is reached: {left} calls are left, {calls} are needed");
            Failure::new(Class::Limited, cause, "run it again with a higher limit")
        })
    }

    /// The number of calls that remain, if there is a limit.
    pub fn left(&self) -> Option<u32> {
        self.0.as_ref().map(|left| left.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_there_are() {
        let limit = CallLimit::of(6);
        let shared = limit.clone();
        assert!(limit.take(5).is_ok());
        assert_eq!(shared.take(2).unwrap_err().class, Class::Limited);
        assert_eq!(limit.left(), Some(1), "a refused call takes nothing");
        assert!(shared.take(1).is_ok() && limit.take(1).is_err());
    }

    #[test]
    fn without_a_limit_there_are_always_enough() {
        let none = CallLimit::default();
        assert!(none.take(u32::MAX).is_ok() && none.take(1).is_ok());
        assert_eq!(none.left(), None);
    }
}
