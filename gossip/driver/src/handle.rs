//! The way in: what the rest of the agent asks of gossip.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gossip_core::{Digest, DigestError, Input, LeavePrune, Member, MemberId, SyncError};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    config::{Config, Pool, StartError, SyncBy},
    counters::{Counters, Traffic},
    driver::{Command, Driver, EVENTS_MAX},
    event::Event,
    host::Host,
    locate::Located,
    pool::Running,
    seal::{ChangeRingError, GossipKey, KeyRing, PoolKind},
    socket::Udp,
};

/// Times a question to locate is sent: one of three arrives unless two of three packets are lost.
const QUESTIONS: u32 = 3;

/// Asks and tells one driver. Cheap to clone; the driver ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    local_addr: SocketAddr,
}

/// What the task shows without being asked.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    pub(crate) events: broadcast::Sender<Event>,
    members: [Arc<ArcSwap<Vec<Member>>>; 2],
    health: [AtomicU32; 2],
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            counters: Counters::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            members: Default::default(),
            health: Default::default(),
        }
    }

    pub(crate) fn members(&self, kind: PoolKind) -> Arc<ArcSwap<Vec<Member>>> {
        Arc::clone(&self.members[kind.index()])
    }

    pub(crate) fn set_health(&self, kind: PoolKind, unwell: u32) {
        self.health[kind.index()].store(unwell, Ordering::Relaxed);
    }
}

/// Whom to force to leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    /// The member with this id.
    Id(MemberId),
    /// Every failed or left member of this name, or every one of this name when none is gone. Nomad's `name.region` is
    /// understood.
    Name(String),
}

/// How leaving went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Departure {
    /// Others know.
    Spread,
    /// It was told, and nobody confirmed in time; they will find us gone.
    Unconfirmed,
}

/// A key of a pool as it is listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RingKey {
    /// The key; it shows its fingerprint alone.
    pub key: GossipKey,
    /// Whether we seal with it.
    pub primary: bool,
    /// When a packet was last opened with it: a key that others still seal with should not be removed.
    pub heard: Option<Instant>,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// What passed the socket.
    pub traffic: Traffic,
    /// What gossip-core counted, for each pool that is open.
    pub pools: Vec<(PoolKind, gossip_core::Counters)>,
}

/// The driver has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("gossip has stopped")]
pub struct Stopped;

/// Why a pool did not do what it was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolError<E: std::error::Error + 'static = Infallible> {
    /// The driver has ended.
    #[error("gossip has stopped")]
    Stopped,
    /// The pool is not open.
    #[error("this agent is not in the {0} pool of gossip")]
    NotOpen(PoolKind),
    /// It was refused, and nothing was changed.
    #[error(transparent)]
    Refused(E),
}

/// Why a pool could not be opened later.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The driver has ended.
    #[error("gossip has stopped")]
    Stopped,
    /// Something about the pool is wrong.
    #[error("could not take part in gossip")]
    Start(#[from] StartError),
}

/// Why an agent could not be located.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The driver has ended.
    #[error("gossip has stopped")]
    Stopped,
    /// No question was answered: nobody is there, or it is not a gossip port.
    #[error("no answer from {addr} within {patience:?}")]
    NoAnswer {
        /// Who was asked.
        addr: SocketAddr,
        /// For how long.
        patience: Duration,
    },
    /// No socket could be opened to ask with.
    #[error("could not open a socket to ask {addr}")]
    Socket {
        /// Who was to be asked.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>, local_addr: SocketAddr) -> Self {
        Self { shared, commands, local_addr }
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Everyone whom a pool remembers, ourselves included, by id: alive, suspected, failed and left. Empty while the
    /// pool is not open. A pool of more than some hundred members shows its changes some milliseconds late.
    pub fn members(&self, kind: PoolKind) -> Arc<Vec<Member>> {
        self.shared.members[kind.index()].load_full()
    }

    /// What happens from here on. Whoever reads too slowly is told that it missed something, and reads the members again.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// How unwell we are, as gossip-core judges: zero is well, more makes us slower to accuse others.
    pub fn health(&self, kind: PoolKind) -> u32 {
        self.shared.health[kind.index()].load(Ordering::Relaxed)
    }

    /// What passed the socket.
    pub fn traffic(&self) -> Traffic {
        self.shared.counters.traffic()
    }

    /// Everything that is counted.
    ///
    /// # Errors
    ///
    /// When the driver has ended.
    pub async fn stats(&self) -> Result<Stats, Stopped> {
        let traffic = self.traffic();
        self.ask(move |driver| {
            let pools = driver.pools.iter().flatten();
            Stats { traffic, pools: pools.map(|pool| (pool.kind, pool.gossip.counters())).collect() }
        })
        .await
    }

    /// Takes part in a pool from here on.
    ///
    /// # Errors
    ///
    /// When it is open already, or something about it is wrong.
    pub async fn open(&self, pool: Pool) -> Result<(), OpenError> {
        self.ask(|driver| driver.open(pool)).await.map_err(|Stopped| OpenError::Stopped)??;
        Ok(())
    }

    /// Joins by the gossip addresses of some members. They are kept and tried until one answers; [`Event::Member`]
    /// tells who came.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn join(&self, kind: PoolKind, addrs: Vec<SocketAddr>) -> Result<(), PoolError> {
        self.feed(kind, Input::Join(addrs)).await
    }

    /// Leaves on purpose, and waits until others know or `patience` is over. The driver runs on, so that it can pass the
    /// word on; [`Handle::stop`] ends it.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn leave(&self, kind: PoolKind, patience: Duration) -> Result<Departure, PoolError> {
        let (done, departed) = oneshot::channel();
        self.on(kind, |pool, now| {
            pool.leave(now, done);
            Ok(())
        })
        .await?;
        match timeout(patience, departed).await {
            Ok(Ok(())) => Ok(Departure::Spread),
            Ok(Err(_)) => Err(PoolError::Stopped),
            Err(_) => Ok(Departure::Unconfirmed),
        }
    }

    /// Declares that members left, as an operator does with ones that will not come back. Returns how many were meant;
    /// one that is alive refutes it.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn force_leave(
        &self,
        kind: PoolKind,
        whom: Whom,
        prune: LeavePrune,
    ) -> Result<usize, PoolError> {
        self.ask(move |driver| {
            let ids = match driver.pools[kind.index()].as_ref() {
                None => return Err(PoolError::NotOpen(kind)),
                Some(pool) => match whom {
                    Whom::Id(id) => pool.gossip.member(&id).map(|member| member.id).into_iter().collect(),
                    Whom::Name(name) => pool.named(&name),
                },
            };
            for id in &ids {
                driver.feed(kind, Input::ForceLeave { id: *id, prune });
            }
            Ok(ids.len())
        })
        .await
        .unwrap_or(Err(PoolError::Stopped))
    }

    /// Forgets failed and left members whose time is over.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn reap(&self, kind: PoolKind) -> Result<(), PoolError> {
        self.feed(kind, Input::Reap).await
    }

    /// Says something else about ourselves.
    ///
    /// # Errors
    ///
    /// When it is too large; the former digest stays.
    pub async fn set_digest(&self, kind: PoolKind, digest: Digest) -> Result<(), PoolError<DigestError>> {
        self.on(kind, |pool, now| pool.set_digest(now, digest)).await
    }

    /// Names the cluster, once it is founded: from here on packets of another cluster are dropped. Packets that name
    /// none are taken, so that an agent that has just been founded hears those that will be.
    ///
    /// # Errors
    ///
    /// When the driver has ended.
    pub async fn set_cluster(&self, cluster: Option<u128>) -> Result<(), Stopped> {
        self.ask(move |driver| driver.pools.iter_mut().flatten().for_each(|pool| pool.set_cluster(cluster)))
            .await
    }

    /// Replaces what is answered to who asks where to join.
    ///
    /// # Errors
    ///
    /// When the region's name is too long to be told.
    pub async fn set_located(&self, located: Option<Located>) -> Result<(), OpenError> {
        let checked = self.ask(move |driver| {
            let config = Config { located, ..driver.config.clone() };
            config.check().map(|()| driver.config = config)
        });
        checked.await.map_err(|Stopped| OpenError::Stopped)??;
        Ok(())
    }

    /// Asks an agent's gossip port where its transport listens. The answer is unproven.
    ///
    /// # Errors
    ///
    /// When no answer came in time.
    pub async fn locate(&self, addr: SocketAddr, patience: Duration) -> Result<Located, LocateError> {
        for _ in 0..QUESTIONS {
            let (reply, located) = oneshot::channel();
            self.ask(move |driver| driver.ask(addr, reply)).await.map_err(|Stopped| LocateError::Stopped)?;
            if let Ok(Ok(located)) = timeout(patience / QUESTIONS, located).await {
                return Ok(located);
            }
        }
        Err(LocateError::NoAnswer { addr, patience })
    }

    /// The keys of a pool, the primary first.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn keys(&self, kind: PoolKind) -> Result<Vec<RingKey>, PoolError> {
        self.on(kind, |pool, _| {
            let listed = pool.ring.keys().iter().enumerate().map(|(at, key)| RingKey {
                key: key.clone(),
                primary: at == 0,
                heard: pool.heard_by(key),
            });
            Ok(listed.collect())
        })
        .await
    }

    /// Adds a key that opens but does not seal yet.
    ///
    /// # Errors
    ///
    /// When the ring is full.
    pub async fn install_key(
        &self,
        kind: PoolKind,
        key: GossipKey,
    ) -> Result<(), PoolError<ChangeRingError>> {
        self.on(kind, |pool, _| pool.change_ring(|ring| ring.install(key))).await
    }

    /// Seals with a key from here on. Every agent must have it by then.
    ///
    /// # Errors
    ///
    /// When it is not in the ring.
    pub async fn use_key(&self, kind: PoolKind, key: GossipKey) -> Result<(), PoolError<ChangeRingError>> {
        self.on(kind, move |pool, _| pool.change_ring(|ring| ring.use_key(&key))).await
    }

    /// Removes a key. Whoever still seals with it is not heard any more.
    ///
    /// # Errors
    ///
    /// When it is the primary key or not in the ring.
    pub async fn remove_key(&self, kind: PoolKind, key: GossipKey) -> Result<(), PoolError<ChangeRingError>> {
        self.on(kind, move |pool, _| pool.change_ring(|ring| ring.remove(&key))).await
    }

    /// Replaces all keys, as an agent does that was away and asked a server for them.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn replace_keys(
        &self,
        kind: PoolKind,
        ring: KeyRing,
    ) -> Result<(), PoolError<ChangeRingError>> {
        self.on(kind, |pool, _| {
            pool.change_ring(|place| {
                *place = ring;
                Ok(())
            })
        })
        .await
    }

    /// The first message of a synchronisation over a stream, from whom [`Event::Sync`] asked.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn sync_request(&self, kind: PoolKind) -> Result<Bytes, PoolError> {
        self.on(kind, |pool, _| Ok(pool.gossip.sync_request())).await
    }

    /// Answers the first message.
    ///
    /// # Errors
    ///
    /// When it is no such message.
    pub async fn sync_answer(&self, kind: PoolKind, request: Bytes) -> Result<Bytes, PoolError<SyncError>> {
        self.on(kind, move |pool, _| pool.gossip.sync_answer(&request)).await
    }

    /// Takes the answer. Returns what the other side lacks, for it to [`Handle::seed`]; empty when it lacks nothing.
    ///
    /// # Errors
    ///
    /// When it is no answer.
    pub async fn sync_finish(&self, kind: PoolKind, answer: Bytes) -> Result<Bytes, PoolError<SyncError>> {
        self.seed(kind, answer.clone()).await?;
        self.on(kind, move |pool, _| pool.gossip.sync_return(&answer)).await
    }

    /// Takes the last message of a synchronisation.
    ///
    /// # Errors
    ///
    /// When the pool is not open.
    pub async fn seed(&self, kind: PoolKind, message: Bytes) -> Result<(), PoolError<SyncError>> {
        let fed = self.feed(kind, Input::Seed(message));
        fed.await.map_err(|error| match error {
            PoolError::Stopped => PoolError::Stopped,
            PoolError::NotOpen(kind) => PoolError::NotOpen(kind),
            PoolError::Refused(never) => match never {},
        })
    }

    /// Ends the driver and closes its socket. Others find us gone unless we left before.
    pub async fn stop(&self) {
        // Stopped is what was asked for.
        let _ = self.ask(|driver| driver.stopped = true).await;
    }

    async fn feed(&self, kind: PoolKind, input: Input) -> Result<(), PoolError> {
        let fed = self.ask(move |driver| driver.feed(kind, input)).await;
        if fed.map_err(|Stopped| PoolError::Stopped)? { Ok(()) } else { Err(PoolError::NotOpen(kind)) }
    }

    async fn on<T, E>(
        &self,
        kind: PoolKind,
        ask: impl FnOnce(&mut Running, Duration) -> Result<T, E> + Send + 'static,
    ) -> Result<T, PoolError<E>>
    where
        T: Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let asked = self.ask(move |driver| {
            let now = driver.now();
            let pool = driver.pools[kind.index()].as_mut().ok_or(PoolError::NotOpen(kind))?;
            ask(pool, now).map_err(PoolError::Refused)
        });
        asked.await.unwrap_or(Err(PoolError::Stopped))
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |driver| {
            // Who asked may have given up.
            let _ = reply.send(ask(driver));
        });
        self.commands.send(command).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Asks an agent's gossip port where its transport listens, with a socket of its own: for tools that do not gossip.
///
/// # Errors
///
/// When no answer came in time.
pub async fn locate(
    host: Arc<dyn Host>,
    addr: SocketAddr,
    patience: Duration,
) -> Result<Located, LocateError> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = Udp::bind(any).map_err(|source| LocateError::Socket { addr, source })?;
    let config = Config { located: None, sync: SyncBy::Packets };
    let started = Driver::start(host, config, Arc::new(socket), Vec::new());
    let handle = started.map_err(|_| LocateError::Stopped)?;
    handle.locate(addr, patience).await
}
