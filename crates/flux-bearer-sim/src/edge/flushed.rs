//! A body whose failure comes only after what preceded it has reached the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;

/// Time for the bytes before a failure to be written. On loopback it takes microseconds unless the client stalls.
const FLUSH: Duration = Duration::from_millis(100);

/// A body that holds its error back for a moment.
///
/// hyper closes the connection at once when a body fails and throws away what it has not written yet, even the head: an
/// answer cut off after n bytes would reach the client as no answer at all.
pub(super) struct Flushed {
    body: Body,
    failure: Option<(axum::Error, Pin<Box<Sleep>>)>,
}

impl Flushed {
    pub(super) fn new(body: Body) -> Self {
        Self { body, failure: None }
    }
}

impl HttpBody for Flushed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.failure.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Err(error)) => self.failure = Some((error, Box::pin(tokio::time::sleep(FLUSH)))),
                frame => return Poll::Ready(frame),
            }
        }
        if let Some((_, sleep)) = &mut self.failure {
            ready!(sleep.as_mut().poll(context));
        }
        Poll::Ready(self.failure.take().map(|(error, _)| Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
