//! Watches the keeper. Without a keeper, the provider ends only when no connection is open, because a connection that it leaves would deliver an empty or incomplete value.
//!
//! Until then it serves requests, even after a stop was requested, and however slowly a peer reads. The next provider starts a new keeper.

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

/// How often to check whether connections are open.
const LOOK: Duration = Duration::from_millis(50);
/// By how long each notification extends the timeout of a stop; notifications are sent more often.
pub(super) const EXTENSION: Duration = Duration::from_secs(60);

/// Watches the keeper for the provider's main loop.
pub(super) struct Guard {
    keeper: AsyncFd<OwnedFd>,
    is_lost: bool,
    /// Set when a stop was requested: the units whose start waited for other units at that time, each with the units that it needs.
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

    /// Handles a request to stop. Returns whether the provider can stop accepting connections now.
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

    /// Notifies the watchdog.
    pub(super) fn alive(&self) {
        notify::alive();
        if self.stops.is_some() {
            notify::extend_timeout(EXTENSION);
        }
    }

    /// Whether the provider may end for a reason other than a stop.
    pub(super) fn may_end(&self) -> bool {
        !self.is_lost
    }

    /// Without a keeper: waits until the provider can end.
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

    /// Without a keeper: the result of the provider.
    pub(super) fn end(&mut self, Served { context, .. }: &Served) -> Result<(), Fatal> {
        let queued = self.stops.take().ok_or(Fatal::KeeperGone)?;
        context.recovery.note_queued(queued);
        Ok(())
    }

    /// Whether the keeper has ended.
    pub(super) fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.keeper.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}
