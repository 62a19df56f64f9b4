//! One connection per peer and plane, shared by all who ask there.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Shared};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    connection::{Connection, Inbound},
    error::{CloseCode, DialError, RequestError},
    host::Host,
    identity::NodeId,
    plane::Plane,
    transport::{Expect, Transport},
};

/// What the cache keeps and how soon it tries again.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Connections kept; the one unused for longest gives way, and ends once nobody uses it.
    pub connections_max: usize,
    /// A peer that could not be reached is not dialled again for this long; who asks meanwhile gets the same error.
    pub redial_pause: Duration,
}

/// Takes what a peer asks on a connection that we have dialled.
pub type OnOpened = Arc<dyn Fn(&Connection, Inbound) + Send + Sync>;

/// Dials on demand and keeps the connection. Cheap to clone.
///
/// Callers that ask for the same peer at once share one dial. A connection that has ended is replaced on the next call.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<dyn Transport>,
    host: Arc<dyn Host>,
    config: Config,
    on_opened: OnOpened,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    slots: BTreeMap<Key, Slot>,
    clock: u64,
}

type Key = (SocketAddr, Plane, Expect);
type Dialling = Shared<oneshot::Receiver<Result<Connection, DialError>>>;

struct Slot {
    state: State,
    used: u64,
}

enum State {
    Dialling(Dialling),
    Ready(Connection),
    Failed { error: DialError, until: Instant },
}

impl Peers {
    /// Makes an empty cache. `on_opened` gets what peers ask on the connections that are dialled; it may drop it.
    pub fn new(
        transport: Arc<dyn Transport>,
        host: Arc<dyn Host>,
        config: Config,
        on_opened: OnOpened,
    ) -> Self {
        Self { inner: Arc::new(Inner { transport, host, config, on_opened, table: Mutex::default() }) }
    }

    /// Returns the connection to a peer, dialling if there is none.
    ///
    /// # Errors
    ///
    /// When the peer can not be reached, or could not a moment ago, or not before `deadline`.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        plane: Plane,
        expect: Expect,
        deadline: Instant,
    ) -> Result<Connection, DialError> {
        let asked = Instant::now();
        let dialling = match self.find_or_dial((addr, plane, expect)) {
            Found::Ready(connection) => return Ok(connection),
            Found::Failed(error) => return Err(error),
            Found::Dialling(dialling) => dialling,
        };
        match timeout_at(deadline, dialling).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(DialError::Start("the agent is shutting down".into())),
            Err(_) => Err(DialError::TimedOut { after: deadline.saturating_duration_since(asked) }),
        }
    }

    /// Asks a peer. A request is sent again, once, only if the kept connection turned out to have ended before it was
    /// sent.
    ///
    /// # Errors
    ///
    /// When the peer can not be reached or does not answer.
    pub async fn request(
        &self,
        addr: SocketAddr,
        plane: Plane,
        expect: Expect,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, AskError> {
        let connection = self.connect(addr, plane, expect, deadline).await?;
        match connection.request(body.clone(), deadline).await {
            Err(RequestError::Ended(_)) => {
                let connection = self.connect(addr, plane, expect, deadline).await?;
                Ok(connection.request(body, deadline).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Looks at a connection that a peer has opened here. What is kept to an earlier run of that peer is closed: the peer
    /// has forgotten it.
    pub fn observe(&self, accepted: &Connection) {
        let Some(identity) = accepted.peer().identity() else {
            return;
        };
        let boot = accepted.peer_boot();
        let stale =
            |connection: &Connection| is_node(connection, identity.node_id) && connection.peer_boot() != boot;
        self.close_where(stale, CloseCode::Superseded, "the peer was restarted");
    }

    /// Closes what is kept to a node that is gone. Requests under way fail at once.
    pub fn forget(&self, node_id: NodeId, reason: &str) {
        self.close_where(|connection| is_node(connection, node_id), CloseCode::Done, reason);
    }

    /// How many connections are kept or being made.
    pub fn len(&self) -> usize {
        self.inner.lock().slots.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn close_where(&self, stale: impl Fn(&Connection) -> bool, code: CloseCode, reason: &str) {
        let closing: Vec<Connection> = {
            let mut table = self.inner.lock();
            let is_stale = |slot: &mut Slot| matches!(&slot.state, State::Ready(found) if stale(found));
            table
                .slots
                .extract_if(.., |_, slot| is_stale(slot))
                .filter_map(|(_, slot)| slot.into_ready())
                .collect()
        };
        for connection in closing {
            connection.close(code, reason);
        }
    }

    fn find_or_dial(&self, key: Key) -> Found {
        let mut dropped = Vec::new();
        let (done, dialling) = {
            let mut table = self.inner.lock();
            table.clock += 1;
            let used = table.clock;
            if let Some(slot) = table.slots.get_mut(&key) {
                slot.used = used;
                match &slot.state {
                    State::Ready(connection) if connection.close_reason().is_none() => {
                        return Found::Ready(connection.clone());
                    }
                    State::Dialling(dialling) => return Found::Dialling(dialling.clone()),
                    State::Failed { error, until } if *until > Instant::now() => {
                        return Found::Failed(error.clone());
                    }
                    State::Ready(_) | State::Failed { .. } => {}
                }
            }
            dropped.extend(table.slots.remove(&key));
            if table.slots.len() >= self.inner.config.connections_max {
                match table.evict() {
                    Some(slot) => dropped.push(slot),
                    None => return Found::Failed(DialError::Start("too many dials are under way".into())),
                }
            }
            let (done, dialling) = oneshot::channel();
            let dialling = dialling.shared();
            table.slots.insert(key, Slot { state: State::Dialling(dialling.clone()), used });
            (done, dialling)
        };
        // Dropping a connection may close it; not under the lock.
        drop(dropped);
        let dial = self.inner.clone().dial(key, done);
        self.inner.host.spawn("transport-dial", Box::pin(dial));
        Found::Dialling(dialling)
    }
}

fn is_node(connection: &Connection, node_id: NodeId) -> bool {
    connection.peer().identity().is_some_and(|identity| identity.node_id == node_id)
}

enum Found {
    Ready(Connection),
    Dialling(Dialling),
    Failed(DialError),
}

impl Inner {
    /// No code that holds this lock can panic, so a poisoned one still guards whole values.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(self: Arc<Self>, key: Key, done: oneshot::Sender<Result<Connection, DialError>>) {
        let (addr, plane, expect) = key;
        let (state, result) = match self.transport.dial(addr, plane, expect).await {
            Ok(opened) => {
                (self.on_opened)(&opened.connection, opened.inbound);
                (State::Ready(opened.connection.clone()), Ok(opened.connection))
            }
            Err(error) => {
                let until = Instant::now() + self.config.redial_pause;
                (State::Failed { error: error.clone(), until }, Err(error))
            }
        };
        {
            let mut table = self.lock();
            // A slot that is being dialled is neither evicted nor dialled twice, so it is ours.
            let used = table.slots.get(&key).map_or(table.clock, |slot| slot.used);
            table.slots.insert(key, Slot { state, used });
        }
        // Callers may have given up.
        let _ = done.send(result);
    }
}

impl Table {
    /// Takes out the slot unused for longest, unless it is being dialled.
    fn evict(&mut self) -> Option<Slot> {
        let idle = self.slots.iter().filter(|(_, slot)| !matches!(slot.state, State::Dialling(_)));
        let key = *idle.min_by_key(|(_, slot)| slot.used)?.0;
        self.slots.remove(&key)
    }
}

impl Slot {
    fn into_ready(self) -> Option<Connection> {
        match self.state {
            State::Ready(connection) => Some(connection),
            State::Dialling(_) | State::Failed { .. } => None,
        }
    }
}

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection; the request did not run.
    #[error("could not reach the peer")]
    Dial(#[from] DialError),
    /// No answer; see [`RequestError::may_have_run`].
    #[error("the peer did not answer")]
    Request(#[from] RequestError),
}

impl AskError {
    /// Tells whether the peer may have run the request.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Dial(_) => false,
            Self::Request(error) => error.may_have_run(),
        }
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("transport", &self.inner.transport).finish_non_exhaustive()
    }
}
