use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, poll_fn};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    links::{Carry, Parcel},
    pipe::{Half, Pipe, PipeReader, PipeWriter, Route},
};
use crate::{
    error::{CloseCode, Closed, DatagramError},
    link::{BoxRead, BoxWrite, Link},
    plane::Plane,
};

/// Datagrams on their way or unread; the oldest give way.
const DATAGRAMS_MAX: usize = 256;
/// What fits a packet, as over QUIC without path discovery.
const DATAGRAM_LEN_MAX: usize = 1_162;

/// One end of a connection.
pub(crate) struct End {
    shared: Arc<Shared>,
    local: SocketAddr,
    remote: SocketAddr,
    plane: Plane,
    secret: [u8; 32],
    other: OnceLock<Weak<End>>,
    ended: CancellationToken,
    reason: OnceLock<Closed>,
    /// Streams that we may have open at the peer.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    datagram: Notify,
    /// Asks the watch to look at the link at once.
    poke: Notify,
}

#[derive(Default)]
struct State {
    pipes: Vec<(Weak<Pipe>, Half)>,
    offered: VecDeque<(PipeReader, PipeWriter)>,
    acceptor: Option<Waker>,
    datagrams: VecDeque<(Instant, Bytes)>,
    /// Halves that were meant for a peer whose end is gone: nobody reads them, and nobody says so.
    void: Vec<(PipeReader, PipeWriter)>,
}

impl End {
    pub(super) fn new(
        shared: Arc<Shared>,
        local: SocketAddr,
        remote: SocketAddr,
        plane: Plane,
        streams: usize,
        secret: [u8; 32],
    ) -> Self {
        Self {
            shared,
            local,
            remote,
            plane,
            secret,
            other: OnceLock::new(),
            ended: CancellationToken::new(),
            reason: OnceLock::new(),
            permits: Arc::new(Semaphore::new(streams)),
            state: Mutex::new(State::default()),
            datagram: Notify::new(),
            poke: Notify::new(),
        }
    }

    pub(super) fn join(one: &Arc<Self>, other: &Arc<Self>) {
        let fresh = "each end is joined once, when it is made";
        one.other.set(Arc::downgrade(other)).expect(fresh);
        other.other.set(Arc::downgrade(one)).expect(fresh);
    }

    fn other(&self) -> Option<Arc<Self>> {
        self.other.get().and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends this end, for the first reason given. The other end learns nothing.
    pub(super) fn end(&self, closed: Closed) {
        let kind = match &closed {
            Closed::TimedOut => io::ErrorKind::TimedOut,
            Closed::Restarted | Closed::Vanished => io::ErrorKind::ConnectionReset,
            Closed::ByUs { .. } | Closed::ByPeer { .. } | Closed::Failed(_) => {
                io::ErrorKind::ConnectionAborted
            }
        };
        if self.reason.set(closed).is_err() {
            return;
        }
        let (pipes, offered, void, acceptor) = {
            let mut state = self.lock();
            let state = &mut *state;
            let (pipes, offered) = (std::mem::take(&mut state.pipes), std::mem::take(&mut state.offered));
            (pipes, offered, std::mem::take(&mut state.void), state.acceptor.take())
        };
        for (pipe, half) in &pipes {
            if let Some(pipe) = pipe.upgrade() {
                pipe.sever(*half, kind);
            }
        }
        // Severed first, so that dropping them tells the other end nothing.
        drop((offered, void));
        self.ended.cancel();
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }

    pub(super) fn close_with_notice(&self, code: CloseCode, reason: &str) {
        if self.reason.get().is_some() {
            return;
        }
        self.end(Closed::ByUs { code, reason: reason.to_owned() });
        let Some(other) = self.other() else { return };
        let parcel = Parcel::Reliable { len: reason.len() };
        // A notice that is lost is not repeated: the other end finds out by itself.
        if let Carry::After(delay) = self.shared.links.carry(self.local, self.remote, self.plane, parcel) {
            let closed = Closed::ByPeer { code, reason: reason.to_owned() };
            let notice = async move {
                sleep(delay).await;
                other.end(closed);
            };
            self.shared.host.spawn("memory-notice", Box::pin(notice));
        }
    }

    fn why(&self) -> Closed {
        self.reason.get().cloned().unwrap_or(Closed::TimedOut)
    }

    fn route(&self, from: SocketAddr, to: SocketAddr) -> Route {
        Route { links: self.shared.links.clone(), from, to, plane: self.plane }
    }

    /// Takes part in a new pipe, which is cut when this end ends.
    fn register(&self, pipe: &Arc<Pipe>, half: Half) {
        let mut state = self.lock();
        state.pipes.retain(|(pipe, _)| pipe.strong_count() > 0);
        state.pipes.push((Arc::downgrade(pipe), half));
    }

    fn offer(&self, halves: (PipeReader, PipeWriter)) {
        let acceptor = {
            let mut state = self.lock();
            state.offered.push_back(halves);
            state.acceptor.take()
        };
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }

    /// Looks whether the other end is still there, as a packet would.
    fn probe(&self) -> Probe {
        let carry = |from, to| self.shared.links.carry(from, to, self.plane, Parcel::Reliable { len: 0 });
        let (Carry::After(there), Carry::After(back)) =
            (carry(self.local, self.remote), carry(self.remote, self.local))
        else {
            return Probe::Silence;
        };
        let gone = self.other().is_none_or(|other| other.reason.get().is_some());
        if !gone {
            Probe::Alive
        } else if self.shared.answers(self.remote) {
            Probe::Unknown { after: there + back }
        } else {
            Probe::Silence
        }
    }
}

enum Probe {
    Alive,
    Silence,
    /// Somebody answers who knows nothing of this connection.
    Unknown {
        after: Duration,
    },
}

/// Watches over the link of one end, until the end.
pub(super) async fn watch(end: Arc<End>, idle_timeout: Duration, keepalive: Duration) {
    let mut heard = Instant::now();
    loop {
        let next = (Instant::now() + keepalive).min(heard + idle_timeout);
        tokio::select! {
            biased;
            () = end.ended.cancelled() => return,
            () = end.poke.notified() => {}
            () = sleep_until(next) => {}
        }
        match end.probe() {
            Probe::Alive => heard = Instant::now(),
            Probe::Silence if heard.elapsed() >= idle_timeout => return end.end(Closed::TimedOut),
            Probe::Silence => {}
            Probe::Unknown { after } => {
                sleep(after).await;
                return end.end(Closed::Restarted);
            }
        }
    }
}

impl Link for Arc<End> {
    fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    fn rtt(&self) -> Duration {
        let carry =
            |from, to| match self.shared.links.carry(from, to, self.plane, Parcel::Reliable { len: 0 }) {
                Carry::After(delay) => delay,
                Carry::Lost => Duration::ZERO,
            };
        carry(self.local, self.remote) + carry(self.remote, self.local)
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>> {
        Box::pin(async move {
            let permit = tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(self.why()),
                permit = self.permits.clone().acquire_owned() => permit.ok(),
            };
            let there = Pipe::new(self.route(self.local, self.remote));
            let back = Pipe::new(self.route(self.remote, self.local));
            self.register(&there, Half::Writer);
            self.register(&back, Half::Reader);
            let (their_reader, our_writer) = there.halves(permit);
            let (our_reader, their_writer) = back.halves(None);
            match self.other().filter(|other| other.reason.get().is_none()) {
                Some(other) => {
                    other.register(&there, Half::Reader);
                    other.register(&back, Half::Writer);
                    other.offer((their_reader, their_writer));
                }
                None => self.lock().void.push((their_reader, their_writer)),
            }
            let our_writer = Poking { writer: our_writer, end: self.clone() };
            Ok((Box::new(our_reader) as BoxRead, Box::new(our_writer) as BoxWrite))
        })
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>> {
        Box::pin(poll_fn(move |cx| {
            if self.reason.get().is_some() {
                return Poll::Ready(Err(self.why()));
            }
            let mut state = self.lock();
            state.acceptor = Some(cx.waker().clone());
            // A stream is seen when its first bytes arrive, as over QUIC.
            match state.offered.front_mut().map(|(reader, _)| reader.poll_ready(cx)) {
                Some(Poll::Ready(())) => {}
                Some(Poll::Pending) | None => return Poll::Pending,
            }
            let Some((reader, writer)) = state.offered.pop_front() else {
                return Poll::Pending;
            };
            let writer = Poking { writer, end: self.clone() };
            Poll::Ready(Ok((Box::new(reader) as BoxRead, Box::new(writer) as BoxWrite)))
        }))
    }

    fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        if let Some(closed) = self.reason.get() {
            return Err(DatagramError::Ended(closed.clone()));
        }
        let len = datagram.len();
        if len > DATAGRAM_LEN_MAX {
            return Err(DatagramError::TooLarge { len, max: DATAGRAM_LEN_MAX });
        }
        let Some(other) = self.other() else { return Ok(()) };
        let parcel = Parcel::Datagram { len };
        if let Carry::After(delay) = self.shared.links.carry(self.local, self.remote, self.plane, parcel) {
            let mut state = other.lock();
            if state.datagrams.len() >= DATAGRAMS_MAX {
                state.datagrams.pop_front();
            }
            let due = Instant::now() + delay;
            let place = state.datagrams.partition_point(|(earlier, _)| *earlier <= due);
            state.datagrams.insert(place, (due, datagram));
            drop(state);
            other.datagram.notify_one();
        }
        Ok(())
    }

    fn read_datagram(&self) -> BoxFuture<'_, Result<Bytes, Closed>> {
        Box::pin(async move {
            loop {
                if self.reason.get().is_some() {
                    return Err(self.why());
                }
                let due = {
                    let mut state = self.lock();
                    let due = state.datagrams.front().map(|(due, _)| *due);
                    if due.is_some_and(|due| due <= Instant::now())
                        && let Some((_, datagram)) = state.datagrams.pop_front()
                    {
                        return Ok(datagram);
                    }
                    due
                };
                let arrival = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = self.ended.cancelled() => {}
                    () = self.datagram.notified() => {}
                    () = arrival => {}
                }
            }
        })
    }

    fn datagram_max(&self) -> usize {
        DATAGRAM_LEN_MAX
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.close_with_notice(code, reason);
    }

    fn closed(&self) -> BoxFuture<'_, Closed> {
        Box::pin(async move {
            self.ended.cancelled().await;
            self.why()
        })
    }

    fn channel_binding(&self) -> [u8; 32] {
        self.secret
    }

    fn peer_certificates(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// A writer that has the link looked at when the other end is gone, so that a restart is noticed on contact.
struct Poking {
    writer: PipeWriter,
    end: Arc<End>,
}

impl tokio::io::AsyncWrite for Poking {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.end.other().is_none_or(|other| other.reason.get().is_some()) {
            self.end.poke.notify_one();
        }
        std::pin::Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
