//! Reads method calls from the bus, and answers each in its own task.
//!
//! A call is read only after the sender of the previous call is identified, so that calls of unknown senders wait in the bus, which limits each
//! connection. The bytes and descriptors of an admitted call count towards the limits of its user; see [`Admission`].

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream as _;
use zbus::message::{Flags, Type};
use zbus::{Connection, DBusError as _, MatchRule, Message, MessageStream};

use super::Desk;
use super::admission::{Admission, Load, Permit};
use super::error::BusError;
use super::objects::Objects;

/// The maximum number of bytes of a call.
const LARGEST: usize = 1 << 20;
/// The maximum number of descriptors of a call: `Put` has one.
const DESCRIPTORS: usize = 1;

/// The calls that arrive on a connection. At most one waits here; the others wait in the bus.
pub(super) async fn calls(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder().msg_type(Type::MethodCall).build()?;
    MessageStream::for_match_rule(rule, connection, Some(NonZeroUsize::MIN)).await
}

/// Answers calls until the connection ends.
pub(super) async fn answer(objects: Arc<Objects>, mut calls: MessageStream) {
    let admission = Arc::new(Admission::default());
    while let Some(Ok(message)) = poll_fn(|context| Pin::new(&mut calls).poll_next(context)).await {
        match admit(&objects.desk, &admission, &message).await {
            Ok(permit) => {
                let objects = Arc::clone(&objects);
                tokio::spawn(async move {
                    if let Err(error) = objects.call(&message).await {
                        let reply = error.create_reply(&message.header());
                        refuse(&objects.connection, message, reply).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                let reply = error.create_reply(&message.header());
                refuse(&objects.connection, message, reply).await;
            }
        }
    }
}

/// Admits a call, if it is within the limits of its user.
async fn admit(desk: &Desk, admission: &Arc<Admission>, message: &Message) -> Result<Permit, BusError> {
    let load = Load { calls: 1, bytes: message.data().len(), descriptors: message.data().fds().len() };
    if load.bytes > LARGEST {
        return Err(BusError::InvalidArgument(format!("a call may have {LARGEST} bytes")));
    }
    if load.descriptors > DESCRIPTORS {
        return Err(BusError::InvalidArgument(format!("a call may have {DESCRIPTORS} descriptor")));
    }
    let uid = desk.callers.uid(&message.header(), &desk.link).await?;
    admission.admit(uid, load).ok_or_else(BusError::too_many)
}

/// Sends an error, if the caller waits for a reply. The call is dropped first, which frees its bytes and descriptors.
async fn refuse(connection: &Connection, message: Message, reply: zbus::Result<Message>) {
    let is_awaited = !message.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED);
    drop(message);
    let sent = match reply {
        Ok(reply) if is_awaited => connection.send(&reply).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::debug!("an error could not be sent on the bus: {error}");
    }
}
