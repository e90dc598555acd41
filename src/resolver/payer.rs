//! On whose behalf the current question is answered, available wherever a call is paid for.

use std::cell::Cell;
use std::future::Future;

use crate::ipc::{Purpose, ShareOwner};

tokio::task_local! {
    static PRESENT: Payer;
}

/// On whose behalf calls are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Payer {
    asker: ShareOwner,
    is_check: bool,
    /// The number of calls that were paid for.
    calls: Cell<u32>,
}

/// The reason for a call that must be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cause {
    /// On whose behalf it is made.
    pub(super) asker: ShareOwner,
    /// Whether it belongs to a check, which can be postponed.
    pub(super) is_check: bool,
    /// Whether it is the first call of its question.
    pub(super) is_first: bool,
}

impl Payer {
    /// For a question for values.
    pub(super) fn of_fetch(asker: ShareOwner) -> Self {
        Self { asker, ..Self::default() }
    }

    /// For a question about changes.
    pub(super) fn of_check(asker: ShareOwner) -> Self {
        Self { asker, is_check: true, ..Self::default() }
    }

    /// Answers a question on behalf of this payer.
    pub(super) async fn scope<T>(self, answer: impl Future<Output = T>) -> T {
        PRESENT.scope(self, answer).await
    }
}

/// The cause of the calls that are made now. Outside a question, they are made for onecred itself.
pub(super) fn present() -> Cause {
    let of = |payer: &Payer| Cause {
        asker: payer.asker,
        is_check: payer.is_check,
        is_first: payer.calls.get() == 0,
    };
    PRESENT.try_with(of).unwrap_or(Cause { is_first: true, ..Cause::default() })
}

/// Like [`present`], but also counts the call as paid.
pub(super) fn paid() -> Cause {
    let cause = present();
    let _ = PRESENT.try_with(|payer| payer.calls.set(payer.calls.get().saturating_add(1)));
    cause
}

/// On whose behalf the current question is answered.
pub(super) fn asker() -> ShareOwner {
    present().asker
}

impl Cause {
    /// Whether the call is charged to the asker's share. Checks serve all units and have their own limit.
    pub(super) fn has_share(&self) -> bool {
        let is_shared = match self.asker.class {
            Purpose::FirstStart | Purpose::Background => false,
            Purpose::Start => !self.is_check,
            Purpose::Bus => true,
        };
        is_shared && self.asker.share != 0
    }
}
