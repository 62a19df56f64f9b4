use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use super::links::{Carry, Links, Parcel};
use crate::plane::Plane;

/// How soon what a link lost is sent again.
pub(super) const RETRY: Duration = Duration::from_millis(50);
/// Bytes on their way in one stream; then the writer waits.
const PIPE_BYTES_MAX: usize = 512 * 1024;
/// Bytes in one message.
const PARCEL_LEN_MAX: usize = 64 * 1024;

/// One direction of a stream: what was written and has not been read, and when it arrives.
pub(super) struct Pipe {
    route: Route,
    state: Mutex<State>,
}

/// From where to where, over which links.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) links: Arc<dyn Links>,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) plane: Plane,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<Item>,
    bytes: usize,
    last_due: Option<Instant>,
    reader_gone: bool,
    reader_broken: Option<io::ErrorKind>,
    writer_broken: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Item {
    content: Content,
    /// `None` while the link has not taken it.
    due: Option<Instant>,
}

enum Content {
    Bytes(Bytes),
    Finish,
    Break,
}

/// Which half of a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Half {
    Reader,
    Writer,
}

impl Pipe {
    pub(super) fn new(route: Route) -> Arc<Self> {
        Arc::new(Self { route, state: Mutex::new(State::default()) })
    }

    /// Makes the two halves. The writer holds `permit` until it is dropped.
    pub(super) fn halves(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> (PipeReader, PipeWriter) {
        let reader = PipeReader { pipe: self.clone(), wait: None };
        (reader, PipeWriter { pipe: self.clone(), finished: false, _permit: permit })
    }

    /// Ends one half because its connection has ended. The other half is not told: that is for the link to do.
    pub(super) fn sever(&self, half: Half, kind: io::ErrorKind) {
        let waker = {
            let mut state = self.lock();
            match half {
                Half::Reader => {
                    state.reader_broken = Some(kind);
                    state.reader.take()
                }
                Half::Writer => {
                    state.writer_broken = Some(kind);
                    state.writer.take()
                }
            }
        };
        wake(waker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State, content: Content) {
        state.parcels.push_back(Item { content, due: None });
        self.dispatch(state);
    }

    /// Offers to the link what it has not taken yet, in order.
    fn dispatch(&self, state: &mut State) {
        let Route { links, from, to, plane } = &self.route;
        let now = Instant::now();
        for item in state.parcels.iter_mut().filter(|item| item.due.is_none()) {
            let len = if let Content::Bytes(bytes) = &item.content { bytes.len() } else { 0 };
            match links.carry(*from, *to, *plane, Parcel::Reliable { len }) {
                Carry::After(delay) => {
                    let due = state.last_due.map_or(now + delay, |last| last.max(now + delay));
                    item.due = Some(due);
                    state.last_due = Some(due);
                }
                Carry::Lost => return,
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

pub(super) struct PipeReader {
    pipe: Arc<Pipe>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl PipeReader {
    /// Waits until something can be read: bytes, the end, or an error.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let wake_at = {
                let mut state = self.pipe.lock();
                if state.reader_broken.is_some() {
                    return Poll::Ready(());
                }
                self.pipe.dispatch(&mut state);
                state.reader = Some(cx.waker().clone());
                let now = Instant::now();
                match state.parcels.front() {
                    None => return Poll::Pending,
                    Some(Item { due: Some(due), .. }) if *due <= now => return Poll::Ready(()),
                    Some(Item { due, .. }) => due.unwrap_or(now + RETRY),
                }
            };
            let wait = self.wait.insert(Box::pin(sleep_until(wake_at)));
            if wait.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let writer = {
            let mut state = self.pipe.lock();
            let state = &mut *state;
            if let Some(kind) = state.reader_broken {
                return Poll::Ready(Err(kind.into()));
            }
            let Some(item) = state.parcels.front_mut() else {
                return Poll::Pending;
            };
            match &mut item.content {
                // The end stays at the front: reading again tells it again.
                Content::Finish => return Poll::Ready(Ok(())),
                Content::Break => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Content::Bytes(bytes) => {
                    let len = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..len]);
                    bytes.advance(len);
                    state.bytes -= len;
                    if bytes.is_empty() {
                        state.parcels.pop_front();
                    }
                }
            }
            state.writer.take()
        };
        wake(writer);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.pipe.lock();
            if state.reader_broken.is_some() {
                return;
            }
            state.reader_gone = true;
            state.parcels.clear();
            state.writer.take()
        };
        wake(waker);
    }
}

pub(super) struct PipeWriter {
    pipe: Arc<Pipe>,
    finished: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl PipeWriter {
    fn end(&mut self, content: Content) {
        self.finished = true;
        let waker = {
            let mut state = self.pipe.lock();
            if state.writer_broken.is_some() || state.reader_gone {
                return;
            }
            self.pipe.push(&mut state, content);
            state.reader.take()
        };
        wake(waker);
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (len, waker) = {
            let mut state = self.pipe.lock();
            if let Some(kind) = state.writer_broken {
                return Poll::Ready(Err(kind.into()));
            }
            if self.finished || state.reader_gone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if state.bytes >= PIPE_BYTES_MAX {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let len = bytes.len().min(PARCEL_LEN_MAX);
            state.bytes += len;
            if len > 0 {
                self.pipe.push(&mut state, Content::Bytes(Bytes::copy_from_slice(&bytes[..len])));
            }
            (len, state.reader.take())
        };
        wake(waker);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.end(Content::Finish);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.end(Content::Break);
        }
    }
}
