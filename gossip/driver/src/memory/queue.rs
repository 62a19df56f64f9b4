//! Datagrams on their way to one socket, by the time at which they arrive.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

/// Datagrams under way or unread; a further one is dropped, as by a full receive buffer.
const QUEUE_MAX: usize = 4_096;

/// What is on its way to one socket.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    // The number keeps the order of what arrives at one moment, and so a run repeatable.
    waiting: BinaryHeap<Reverse<(Instant, u64, SocketAddr, Bytes)>>,
    sleep: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

impl Queue {
    pub(super) fn push(&self, at: Instant, from: SocketAddr, bytes: Bytes) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() >= QUEUE_MAX {
            return;
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push(Reverse((at, number, from, bytes)));
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let at = match state.waiting.peek() {
                None => break,
                Some(Reverse((at, ..))) => *at,
            };
            if at <= Instant::now() {
                let Some(Reverse((_, _, from, bytes))) = state.waiting.pop() else { break };
                return Poll::Ready((from, bytes));
            }
            let sleep = state.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}
