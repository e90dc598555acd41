//! For whom the present question is answered, known wherever one of its calls is paid for.

use std::cell::Cell;
use std::future::Future;

use crate::ipc::{Asker, Purpose};

tokio::task_local! {
    static PRESENT: Payer;
}

/// For whom calls are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Payer {
    asker: Asker,
    is_check: bool,
    /// Calls that were paid for.
    calls: Cell<u32>,
}

/// A call that is to be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cause {
    /// For whom it is made.
    pub(super) asker: Asker,
    /// Whether versions are compared, which may be left out for a while.
    pub(super) is_check: bool,
    /// Whether it is the first call of its question.
    pub(super) is_first: bool,
}

impl Payer {
    /// Of a question for values.
    pub(super) fn of_fetch(asker: Asker) -> Self {
        Self { asker, ..Self::default() }
    }

    /// Of a question for changes.
    pub(super) fn of_check(asker: Asker) -> Self {
        Self { asker, is_check: true, ..Self::default() }
    }

    /// Answers a question for it.
    pub(super) async fn scope<T>(self, answer: impl Future<Output = T>) -> T {
        PRESENT.scope(self, answer).await
    }
}

/// The cause of the calls that are made now. Without a question they are onecred's own.
pub(super) fn present() -> Cause {
    let of = |payer: &Payer| Cause {
        asker: payer.asker,
        is_check: payer.is_check,
        is_first: payer.calls.get() == 0,
    };
    PRESENT.try_with(of).unwrap_or(Cause { is_first: true, ..Cause::default() })
}

/// The same, for a call that is paid for.
pub(super) fn paid() -> Cause {
    let cause = present();
    let _ = PRESENT.try_with(|payer| payer.calls.set(payer.calls.get().saturating_add(1)));
    cause
}

/// For whom the present question is answered.
pub(super) fn asker() -> Asker {
    present().asker
}

impl Cause {
    /// Whether it comes out of its asker's share. Checks are for all units, and have a limit of their own.
    pub(super) fn has_share(&self) -> bool {
        let is_shared = match self.asker.class {
            Purpose::FirstStart | Purpose::Background => false,
            Purpose::Start => !self.is_check,
            Purpose::Bus => true,
        };
        is_shared && self.asker.share != 0
    }
}
