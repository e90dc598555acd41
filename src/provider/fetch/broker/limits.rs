//! Whose share of a source's budget is used, and what becomes of an asker that has used up its own.

use std::sync::Arc;

use super::{Broker, Order};
use crate::domain::name::SourceName;
use crate::domain::reference::FieldRef;
use crate::host::clock::BootTime;
use crate::host::systemd::message_id;
use crate::ipc::{self, Failure, Purpose, SourceStatus};
use crate::provider::base::asker::Asker;
use crate::provider::base::item_key::ItemKey;
use crate::provider::fetch::askers;

impl Broker {
    /// How the resolver learns of an asker.
    pub(super) fn wire(&self, asker: &Asker, field: Option<(&ItemKey, &FieldRef)>) -> ipc::Asker {
        self.askers.wire(asker, |name| self.store.number(name), field)
    }

    /// Why values are served to an asker as they are: no comparison can be paid for it.
    pub(super) fn limited(&self, order: &Order, now: BootTime) -> Option<Failure> {
        if !self.askers.is_any_limited() {
            return None;
        }
        self.askers.limited(&order.wanted.source, self.wire(&order.asker, None), now)
    }

    /// What a unit was answered, or refused for a lasting reason, does not come first again.
    pub(super) fn settled(&self, order: &Order) {
        let Asker::Start(unit) = &order.asker else { return };
        let key = ItemKey::new(&order.wanted.source, &order.wanted.reference.item);
        let field = (&key, &order.wanted.reference.field);
        self.askers.answered(unit.as_str(), |name| self.store.number(name), field);
    }

    /// Notes that an asker's share is used up, and logs it now and then.
    pub(super) fn limit(
        self: &Arc<Self>,
        source: &SourceName,
        asker: &Asker,
        wire: ipc::Asker,
        why: &Failure,
    ) {
        let now = BootTime::now();
        self.askers.limit(source, wire, why, now);
        if asker.consumer().is_some() {
            self.log_spenders(source, asker, wire, why);
        }
    }

    /// Logs who has caused the most calls, since no more can be made: for one asker, or for all.
    pub(super) fn log_spenders(
        self: &Arc<Self>,
        source: &SourceName,
        asker: &Asker,
        wire: ipc::Asker,
        why: &Failure,
    ) {
        if !self.askers.is_to_log(source, wire, BootTime::now()) {
            return;
        }
        let (broker, source, asker, why) = (Arc::clone(self), source.clone(), asker.clone(), why.clone());
        tokio::spawn(async move {
            let status = broker.status(broker.config().declarations().clone()).await.unwrap_or_default();
            let of_source = status.sources.iter().find(|it| it.name == source);
            let spenders = of_source.map(|it| broker.spenders(it)).unwrap_or_default();
            let unit = match &asker {
                Asker::Start(unit) | Asker::BusUnit(unit) => Some(unit.as_str()),
                _ => None,
            };
            let who = asker.consumer().unwrap_or_else(|| "any unit".to_owned());
            tracing::warn!(
                message_id = message_id::SHARE_USED_UP,
                object_systemd_unit = unit,
                onecred_unit = unit,
                onecred_source = source.as_str(),
                "source {source} is not asked for {who} now: {why}; most calls in 24 hours: {}",
                askers::in_words(&spenders)
            );
        });
    }

    /// The units and users that caused the most calls to a source, each with its calls.
    pub fn spenders(&self, source: &SourceStatus) -> Vec<(String, u32)> {
        self.askers.named(&source.spenders)
    }
}

/// The asker that stands for all, where the whole budget is used up.
pub(super) const EVERYONE: ipc::Asker = ipc::Asker { share: 0, class: Purpose::Background };
