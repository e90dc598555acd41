//! Bodies as they are sent: at once, slowly, truncated, or without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::misbehave::Delivery;

/// The body of one reply.
pub(super) struct Outgoing {
    left: Bytes,
    /// Bytes of padding after `left`.
    padding: u64,
    /// The length in the headers.
    declared: Option<u64>,
    how: How,
}

enum How {
    AtOnce,
    /// This many bytes after each pause.
    Drip {
        bytes: usize,
        pause: Duration,
        waiting: Pin<Box<Sleep>>,
    },
    /// Fails after `left` was sent, when hyper had time to send it.
    Broken {
        moment: Pin<Box<Sleep>>,
    },
}

const PADDING: Bytes = Bytes::from_static(&[b' '; 65_536]);

impl Outgoing {
    pub(super) fn new(bytes: Vec<u8>, delivery: Delivery) -> Outgoing {
        let length = bytes.len() as u64;
        let mut body = Outgoing { left: bytes.into(), padding: 0, declared: Some(length), how: How::AtOnce };
        match delivery {
            Delivery::Whole | Delivery::Cut { .. } => {}
            Delivery::Drip { bytes, ms } => {
                let pause = Duration::from_millis(ms);
                body.how = How::Drip { bytes, pause, waiting: Box::pin(sleep(pause)) };
            }
            Delivery::Truncate { at } => {
                body.left.truncate(at);
                body.how = How::Broken { moment: Box::pin(sleep(Duration::from_millis(20))) };
            }
            Delivery::Huge { bytes, declared } => {
                body.left = Bytes::from_static(b"[");
                body.padding = bytes.saturating_sub(1);
                body.declared = declared.then_some(bytes);
            }
        }
        body
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        if !body.left.is_empty() {
            let piece = match &mut body.how {
                How::AtOnce | How::Broken { .. } => std::mem::take(&mut body.left),
                How::Drip { bytes, pause, waiting } => {
                    if waiting.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    waiting.set(sleep(*pause));
                    body.left.split_to((*bytes).min(body.left.len()))
                }
            };
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if body.padding > 0 {
            let piece =
                PADDING.slice(..PADDING.len().min(usize::try_from(body.padding).unwrap_or(usize::MAX)));
            body.padding -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut body.how {
            How::Broken { moment } => {
                moment.as_mut().poll(cx).map(|()| Some(Err(io::Error::other("cut short on purpose"))))
            }
            How::AtOnce | How::Drip { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.padding == 0 && !matches!(self.how, How::Broken { .. })
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
