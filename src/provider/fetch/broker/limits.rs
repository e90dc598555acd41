//! Charges calls to the budget share of an asker, and handles askers whose share is used up.

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
    /// The form of an asker for the resolver.
    pub(super) fn wire(&self, asker: &Asker, field: Option<(&ItemKey, &FieldRef)>) -> ipc::ShareOwner {
        self.askers.wire(asker, |name| self.store.number(name), field)
    }

    /// Why an asker receives cached values unchecked: its share does not pay for a check.
    pub(super) fn limited(&self, order: &Order, now: BootTime) -> Option<Failure> {
        if !self.askers.is_any_limited() {
            return None;
        }
        self.askers.limited(&order.wanted.source, self.wire(&order.asker, None), now)
    }

    /// Records the answer: a field that a unit has received, or was refused for a lasting reason, no longer
    /// has priority for it.
    pub(super) fn settled(&self, order: &Order) {
        let Asker::Start(unit) = &order.asker else { return };
        let key = ItemKey::new(&order.wanted.source, &order.wanted.reference.item);
        let field = (&key, &order.wanted.reference.field);
        self.askers.answered(unit.as_str(), |name| self.store.number(name), field);
    }

    /// Records that an asker's share is used up, and logs it at a limited rate.
    pub(super) fn limit(
        self: &Arc<Self>,
        source: &SourceName,
        asker: &Asker,
        wire: ipc::ShareOwner,
        why: &Failure,
    ) {
        let now = BootTime::now();
        self.askers.limit(source, wire, why, now);
        if asker.consumer().is_some() {
            self.log_spenders(source, asker, wire, why);
        }
    }

    /// Logs the consumers with the most calls when no more calls are allowed, for one asker or for all.
    pub(super) fn log_spenders(
        self: &Arc<Self>,
        source: &SourceName,
        asker: &Asker,
        wire: ipc::ShareOwner,
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
                "onecred makes no calls to source {source} for {who} now: {why}; most calls in 24 hours: {}",
                askers::in_words(&spenders)
            );
        });
    }

    /// The units and users with the most calls to a source, each with its number of calls.
    pub fn spenders(&self, source: &SourceStatus) -> Vec<(String, u32)> {
        self.askers.named(&source.spenders)
    }
}

/// Represents all askers, if the whole budget is used up.
pub(super) const EVERYONE: ipc::ShareOwner = ipc::ShareOwner { share: 0, class: Purpose::Background };
