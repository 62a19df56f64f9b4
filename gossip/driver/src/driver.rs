//! The task that owns the socket: waits for one thing at a time and does it.

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::poll_fn;
use gossip_core::{Incarnation, Input};
use tokio::{
    io::ReadBuf,
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep_until},
};
use tracing::{debug, warn};

use crate::{
    config::{Config, Pool, StartError},
    counters::Dropped,
    event::{self, Event},
    handle::{Handle, Shared},
    host::Host,
    locate::{self, Allowance, Located, Message, Token},
    pool::{Effects, Running},
    seal::{PoolKind, pool_of},
    socket::Socket,
};

/// Packets that wait for the system to take them. A member sends some tens a second; a synchronisation some hundreds at
/// once.
const OUTBOX_MAX: usize = 1_024;
/// Requests of handles that wait; whoever asks then waits too.
pub(crate) const COMMANDS_MAX: usize = 64;
/// Events that a subscriber may be behind. It then misses some and reads the members again.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// Questions to locate that wait for their answers.
const QUESTIONS_MAX: usize = 256;
/// The longest wait without anything due.
const IDLE: Duration = Duration::from_secs(60);
/// Between two steps by the timer: what is due at the same time is done in one.
const STEP_MIN: Duration = Duration::from_millis(1);
/// Errors in a row after which receiving pauses, so that a broken socket does not make the task spin.
const RECEIVE_ERRORS_MAX: u32 = 16;
/// How long it pauses.
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);
/// Larger than any datagram of ours, so that one that is longer is seen to be.
const BUFFER: usize = 2_048;

/// What a handle asks of the task.
pub(crate) type Command = Box<dyn FnOnce(&mut Driver) + Send>;

/// Sockets, timers and encryption around gossip-core. [`Driver::start`] is the way in; the rest goes through the
/// [`Handle`].
pub struct Driver {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) config: Config,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pools: [Option<Running>; 2],
    pub(crate) stopped: bool,
    socket: Arc<dyn Socket>,
    commands: mpsc::Receiver<Command>,
    writes: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    allowance: Allowance,
    questions: HashMap<Token, (SocketAddr, oneshot::Sender<Located>)>,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
    receive_errors: u32,
    receive_from: Instant,
    /// The timer was what happened last.
    ticked: bool,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A write of an incarnation ended.
type Written = (PoolKind, Incarnation, io::Result<()>);

/// The one thing that happened.
enum Happened {
    Datagram { from: SocketAddr, len: usize },
    ReceiveFailed(io::Error),
    Asked(Command),
    Written(Written),
    TimePassed,
    NobodyLeft,
}

impl Driver {
    /// Starts a driver on a bound socket. Pools may be opened later too: an agent answers where to join before it has
    /// keys. The task ends when the last handle is dropped, or by [`Handle::stop`].
    ///
    /// # Errors
    ///
    /// When a setting is wrong. Nothing was started then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(
        host: Arc<dyn Host>,
        config: Config,
        socket: Arc<dyn Socket>,
        pools: Vec<Pool>,
    ) -> Result<Handle, StartError> {
        config.check()?;
        let local_addr = socket.local_addr().map_err(StartError::Socket)?;
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::new(Shared::new());
        let now = Instant::now();
        let mut driver = Self {
            host: Arc::clone(&host),
            config,
            shared: Arc::clone(&shared),
            pools: [None, None],
            stopped: false,
            socket,
            commands,
            writes: mpsc::channel(PoolKind::ALL.len()),
            outbox: VecDeque::new(),
            allowance: Allowance::new(now),
            questions: HashMap::new(),
            started: now,
            timer: Box::pin(sleep_until(now)),
            buffer: vec![0; BUFFER].into(),
            receive_errors: 0,
            receive_from: now,
            ticked: false,
        };
        for pool in pools {
            driver.open(pool)?;
        }
        host.spawn("gossip", Box::pin(driver.run()));
        Ok(Handle::new(shared, sender, local_addr))
    }

    pub(crate) fn open(&mut self, pool: Pool) -> Result<(), StartError> {
        let kind = pool.kind;
        let place = &mut self.pools[kind.index()];
        if place.is_some() {
            return Err(StartError::Open(kind));
        }
        let shown = self.shared.members(kind);
        let now = self.started.elapsed();
        *place = Some(Running::start(pool, &self.config, &*self.host, shown, now)?);
        Ok(())
    }

    /// Time since the start, which is what gossip-core counts in.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn run(mut self) {
        while !self.stopped {
            self.settle();
            let happened = poll_fn(|cx| self.poll_happened(cx)).await;
            self.apply(happened);
            // The memory network and a flooded socket are always ready; others want to run too.
            tokio::task::coop::consume_budget().await;
        }
        debug!("gossip has stopped");
    }

    fn poll_happened(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        self.send_outbox(cx);
        // What is rare comes first, so that a flood of packets does not keep it waiting.
        if let Poll::Ready(asked) = self.commands.poll_recv(cx) {
            return Poll::Ready(asked.map_or(Happened::NobodyLeft, Happened::Asked));
        }
        if let Poll::Ready(Some(written)) = self.writes.1.poll_recv(cx) {
            return Poll::Ready(Happened::Written(written));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Happened::TimePassed);
        }
        if self.receive_errors >= RECEIVE_ERRORS_MAX && Instant::now() < self.receive_from {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        self.socket.poll_recv_from(cx, &mut buffer).map(|received| match received {
            Ok(from) => Happened::Datagram { from, len: buffer.filled().len() },
            Err(error) => Happened::ReceiveFailed(error),
        })
    }

    fn apply(&mut self, happened: Happened) {
        self.ticked = matches!(happened, Happened::TimePassed);
        match happened {
            Happened::Datagram { from, len } => {
                self.receive_errors = 0;
                self.shared.counters.received(len);
                self.datagram(from, len);
            }
            Happened::ReceiveFailed(error) => {
                self.receive_errors += 1;
                self.receive_from = Instant::now() + RECEIVE_PAUSE;
                self.drop_packet(Dropped::ReceiveFailed, None, Some(&error));
            }
            Happened::Asked(command) => command(self),
            Happened::Written((kind, value, result)) => {
                let now = self.now();
                if let Some(pool) = &mut self.pools[kind.index()] {
                    let effects = pool.written(value, &result, now);
                    self.perform(kind, effects);
                }
            }
            Happened::TimePassed => {
                let now = self.now();
                self.pools.iter_mut().flatten().for_each(|pool| pool.tick(now));
                if Instant::now() >= self.receive_from {
                    self.receive_errors = 0;
                }
            }
            Happened::NobodyLeft => self.stopped = true,
        }
    }

    fn datagram(&mut self, from: SocketAddr, len: usize) {
        let (now, at) = (self.now(), Instant::now());
        let packet = &mut self.buffer[..len];
        if locate::is_locate(packet) {
            let message = locate::read(packet);
            self.locate(from, message);
            return;
        }
        let Some(kind) = pool_of(packet) else {
            self.drop_packet(Dropped::Foreign, Some(from), None);
            return;
        };
        let taken = match &mut self.pools[kind.index()] {
            None => Err(Dropped::Pool),
            Some(pool) => pool.packet(now, at, from, packet),
        };
        if let Err(reason) = taken
            && self.drop_packet(reason, Some(from), None) == Said::Aloud
            && reason == Dropped::UnknownKey
        {
            // Nobody has to listen.
            let _ = self.shared.events.send(Event::UnknownKey { pool: kind, from });
        }
    }

    fn locate(&mut self, from: SocketAddr, message: Option<Message>) {
        match message {
            Some(Message::Question(token)) if self.config.located.is_some() => {
                if !self.allowance.permits(from, Instant::now()) {
                    self.drop_packet(Dropped::Locate, Some(from), None);
                } else if let Some(located) = &self.config.located {
                    let answer = locate::answer(token, located);
                    self.post(from, answer);
                }
            }
            Some(Message::Answer(token, located))
                if self.questions.get(&token).is_some_and(|(asked, _)| *asked == from) =>
            {
                if let Some((_, reply)) = self.questions.remove(&token) {
                    // Who asked may have given up.
                    let _ = reply.send(located);
                }
            }
            Some(_) | None => {
                self.drop_packet(Dropped::Locate, Some(from), None);
            }
        }
    }

    /// Gives an input to a pool. Returns whether it is open. Outputs are taken at once, as gossip-core wants before the
    /// next input.
    pub(crate) fn feed(&mut self, kind: PoolKind, input: Input) -> bool {
        let now = self.now();
        let Some(pool) = &mut self.pools[kind.index()] else { return false };
        pool.gossip.step(now, input);
        self.settle_pool(kind, now);
        true
    }

    /// Asks a gossip port where to join.
    pub(crate) fn ask(&mut self, addr: SocketAddr, reply: oneshot::Sender<Located>) {
        self.questions.retain(|_, (_, reply)| !reply.is_closed());
        if self.questions.len() < QUESTIONS_MAX {
            let token = self.host.random();
            self.questions.insert(token, (addr, reply));
            self.post(addr, locate::question(token));
        }
    }

    /// Takes what the pools want done, and sets the timer.
    fn settle(&mut self) {
        let now = self.now();
        for kind in PoolKind::ALL {
            self.settle_pool(kind, now);
        }
        let due = self.pools.iter().flatten().filter_map(Running::next_wake).min();
        let earliest = if self.ticked { now + STEP_MIN } else { now };
        let mut wake = self.started + due.unwrap_or(now + IDLE).clamp(earliest, now + IDLE);
        if self.receive_errors >= RECEIVE_ERRORS_MAX {
            wake = wake.min(self.receive_from);
        }
        if self.timer.deadline() != wake {
            self.timer.as_mut().reset(wake);
        }
    }

    fn settle_pool(&mut self, kind: PoolKind, now: Duration) {
        let listened = self.shared.events.receiver_count() > 0;
        let Some(pool) = &mut self.pools[kind.index()] else { return };
        let effects = pool.take_effects(&*self.host, now, listened);
        self.shared.set_health(kind, pool.gossip.counters().unwell);
        self.perform(kind, effects);
    }

    fn perform(&mut self, kind: PoolKind, effects: Effects) {
        let Effects { send, dropped, events, persist } = effects;
        if let Some((store, value)) = persist {
            let (write, done) = (store.persist(value), self.writes.0.clone());
            let write = async move {
                let result = write.await;
                // The driver may have stopped meanwhile.
                let _ = done.send((kind, value, result)).await;
            };
            self.host.spawn("gossip-incarnation", Box::pin(write));
        }
        for (to, packet) in send {
            self.post(to, packet);
        }
        for reason in dropped {
            self.drop_packet(reason, None, None);
        }
        for event in events {
            event::log(&event);
            // Nobody has to listen.
            let _ = self.shared.events.send(event);
        }
    }

    fn post(&mut self, to: SocketAddr, packet: Vec<u8>) {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back((to, packet));
        } else {
            self.drop_packet(Dropped::OutboxFull, None, None);
        }
    }

    fn send_outbox(&mut self, cx: &mut Context<'_>) {
        while let Some((to, packet)) = self.outbox.front() {
            match self.socket.poll_send_to(cx, packet, *to) {
                Poll::Pending => return,
                Poll::Ready(Ok(len)) => {
                    self.shared.counters.sent(len);
                    self.outbox.pop_front();
                }
                // No buffers, nobody there, too long for the link: all the same to gossip, which lives with loss.
                Poll::Ready(Err(error)) => {
                    let to = *to;
                    self.outbox.pop_front();
                    self.drop_packet(Dropped::SendFailed, Some(to), Some(&error));
                }
            }
        }
    }

    fn drop_packet(&self, reason: Dropped, peer: Option<SocketAddr>, error: Option<&io::Error>) -> Said {
        let Some(count) = self.shared.counters.dropped(reason, Instant::now()) else {
            return Said::Counted;
        };
        let error = error.map(tracing::field::display);
        let peer = peer.map(tracing::field::display);
        match reason {
            // Strangers, scanners, echoes and repetitions of the network; nothing that an operator has to act on.
            Dropped::Foreign
            | Dropped::Pool
            | Dropped::Own
            | Dropped::Replayed
            | Dropped::Sync
            | Dropped::Locate => {
                debug!(reason = reason.name(), peer, count, "dropped gossip packets");
            }
            Dropped::Region
            | Dropped::Cluster
            | Dropped::UnknownKey
            | Dropped::Forged
            | Dropped::OutboxFull
            | Dropped::SendFailed
            | Dropped::ReceiveFailed => {
                warn!(reason = reason.name(), peer, count, error, "dropped gossip packets");
            }
        }
        Said::Aloud
    }
}

/// Whether a dropped packet had a log line or was only counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Aloud,
    Counted,
}
