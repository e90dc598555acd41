//! Watches the keeper. Without one, the provider ends only when no connection is open, since a connection that it left would be an empty or cut value.
//!
//! Until then it serves as before, however long a frozen reader takes, also after a stop was requested. Then it ends, and the next provider has
//! a keeper.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use super::{Fatal, Served};
use crate::host::sys;
use crate::host::systemd::notify;
use crate::provider::base::keeper_state;
use crate::provider::request::keeper::Keeper;
use crate::provider::request::listener::Listener;

/// How often it is looked whether connections are open. Events would not be seen sooner between two connections.
const LOOK: Duration = Duration::from_millis(50);
/// How long systemd is to wait for the next sign of life during a stop; these come more often.
pub(super) const EXTENSION: Duration = Duration::from_secs(60);

/// The keeper, as the provider's main loop sees it.
pub(super) struct Guard {
    keeper: AsyncFd<OwnedFd>,
    is_lost: bool,
    /// A stop is requested, and these starts waited for others then, each with what it needs.
    stops: Option<Vec<(String, Vec<String>)>>,
}

impl Guard {
    pub(super) fn new(keeper: &Keeper) -> io::Result<Self> {
        let keeper = sys::register(keeper.ended().try_clone_to_owned()?)?;
        Ok(Self { keeper, is_lost: false, stops: None })
    }

    /// Waits until the keeper has ended, once.
    pub(super) async fn loses_keeper(&self) {
        if self.is_lost {
            return std::future::pending().await;
        }
        let _ = self.keeper.ready(Interest::READABLE).await;
    }

    /// The keeper has ended.
    pub(super) fn lost_keeper(&mut self, Served { context, listener, .. }: &Served) {
        self.is_lost = true;
        context.keeper.set(keeper_state::Keeper::Gone);
        tracing::error!("{}; connections that are open: {}", Fatal::KeeperGone, listener.connections());
    }

    /// A stop is requested: whether the provider can stop accepting connections now.
    pub(super) async fn stop(&mut self, Served { context, handler, .. }: &Served) -> bool {
        if !self.is_lost {
            return true;
        }
        notify::stopping("waiting until all connections are closed, because no keeper could refuse them");
        notify::extend_timeout(EXTENSION);
        self.stops = Some(context.recovery.queued().await);
        handler.refuse_waiting();
        false
    }

    /// A sign of life is due.
    pub(super) fn alive(&self) {
        notify::alive();
        if self.stops.is_some() {
            notify::extend_timeout(EXTENSION);
        }
    }

    /// Whether the provider may end for another reason than a stop.
    pub(super) fn may_end(&self) -> bool {
        !self.is_lost
    }

    /// Waits until the provider without a keeper can end.
    pub(super) async fn can_end(&self, listener: &Listener) {
        if !self.is_lost {
            return std::future::pending().await;
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while listener.connections() > 0 {
            look.tick().await;
        }
    }

    /// How the provider without a keeper ends.
    pub(super) fn end(&mut self, Served { context, .. }: &Served) -> Result<(), Fatal> {
        let queued = self.stops.take().ok_or(Fatal::KeeperGone)?;
        context.recovery.note_queued(queued);
        Ok(())
    }

    /// Whether the keeper has ended. It can do so at any time.
    pub(super) fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.keeper.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}
