//! The way to the region's other servers, over the transport.
//!
//! One connection per server carries what Raft says to it: entries on one stream that stays open, signs of life and
//! votes as requests, which do not wait behind entries, and each snapshot on a stream of its own. The connections to all
//! members are kept open, so that an election meets no handshake. Requests of servers to each other go over the RPC
//! plane.

mod accept;
mod frame;
mod lane;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Network, NetworkError, Peer, RpcKind, SnapshotStream};
use runtime::Env;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};
use transport::{Connection, Expect, Host, NodeId, Plane, Transport};

use self::{
    frame::{SNAPSHOT_HEADER, request_body, split_answer},
    lane::Lane,
};
use crate::{Replica, members::Servers};

pub(crate) use self::accept::serve;

/// Servers to which connections are kept: the members, and those of the past until they are swept out.
const LANES_MAX: usize = 64;
/// Connections on the RPC plane that are kept.
const RPC_CONNECTIONS_MAX: usize = 64;
/// A server that could not be reached is not dialled again for this long.
const RPC_REDIAL_PAUSE: Duration = Duration::from_millis(100);
/// How long a snapshot's stream may take to be opened, and its answer to come after the last byte: the receiver checks
/// and installs what may be hundreds of megabytes.
const SNAPSHOT_OPEN: Duration = Duration::from_secs(5);
const SNAPSHOT_INSTALL: Duration = Duration::from_secs(300);
/// Largest answer to a snapshot: a vote.
const SNAPSHOT_ANSWER_MAX: u64 = 64 << 10;

/// The way to the other servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    transport: Arc<dyn Transport>,
    servers: OnceLock<watch::Receiver<Servers>>,
    lanes: Mutex<BTreeMap<u64, Arc<Lane>>>,
    rpc: transport::Peers,
}

impl Peers {
    pub fn new(env: &Env, transport: Arc<dyn Transport>, servers: watch::Receiver<Servers>) -> Self {
        let config =
            transport::peers::Config { connections_max: RPC_CONNECTIONS_MAX, redial_pause: RPC_REDIAL_PAUSE };
        let host: Arc<dyn Host> = Arc::new(Tasks(env.clone()));
        // Servers ask on connections that they have dialled themselves.
        let unused = Arc::new(|_: &Connection, _| {});
        let rpc = transport::Peers::new(transport.clone(), host, config, unused);
        let lanes = Mutex::default();
        let servers = OnceLock::from(servers);
        Self { shared: Arc::new(Shared { env: env.clone(), transport, servers, lanes, rpc }) }
    }

    /// The transport underneath.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.transport
    }

    /// Keeps connections to exactly these members.
    pub fn keep(&self, members: &BTreeMap<u64, Peer>, me: u64) {
        let others = members.values().filter(|peer| peer.id != me);
        for replica in others.filter_map(Replica::from_peer) {
            self.lane(&replica);
        }
        self.shared.lanes.lock().retain(|id, _| members.contains_key(id));
    }

    /// Looks at a connection that a server has opened here: it is there, perhaps anew.
    pub fn observe(&self, accepted: &Connection) {
        self.shared.rpc.observe(accepted);
        let Some(identity) = accepted.peer().identity() else { return };
        for lane in self.shared.lanes.lock().values() {
            if lane.node_id() == identity.node_id {
                lane.seen(accepted.peer_boot());
            }
        }
    }

    /// Asks another server on the RPC plane.
    pub async fn ask(
        &self,
        peer: &Peer,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, transport::peers::AskError> {
        let unknown = || transport::DialError::Start(format!("{peer} has no address that servers use"));
        let replica = Replica::from_peer(peer).ok_or_else(unknown)?;
        let addr = self.shared.newest(&replica);
        let until = self.shared.env.now() + deadline;
        self.shared.rpc.request(addr, Plane::Rpc, Expect::Node(replica.node_id), body, until).await
    }

    /// Where a server is, as far as is known.
    pub fn newest(&self, replica: &Replica) -> std::net::SocketAddr {
        self.shared.newest(replica)
    }

    fn lane(&self, replica: &Replica) -> Option<Arc<Lane>> {
        let mut lanes = self.shared.lanes.lock();
        if let Some(lane) = lanes.get(&replica.raft_id()) {
            return Some(lane.clone());
        }
        if lanes.len() >= LANES_MAX {
            return None;
        }
        let lane = Lane::start(&self.shared.env, self.shared.clone(), replica.clone());
        lanes.insert(replica.raft_id(), lane.clone());
        Some(lane)
    }

    fn lane_to(&self, target: &Peer) -> Result<Arc<Lane>, NetworkError> {
        let unknown = || NetworkError::Unreachable(format!("{target} has no address that servers use"));
        let replica = Replica::from_peer(target).ok_or_else(unknown)?;
        let full = || NetworkError::Unreachable("too many servers are known".to_owned());
        self.lane(&replica).ok_or_else(full)
    }
}

impl Shared {
    /// Where a server is: as gossip says, for it moves faster than the group's record; else as the record says.
    fn newest(&self, replica: &Replica) -> std::net::SocketAddr {
        let servers = self.servers.get().map(|servers| servers.borrow().clone()).unwrap_or_default();
        servers.get(&replica.node_id).map_or(replica.rpc_addr, |server| server.replica.rpc_addr)
    }
}

impl Network for Peers {
    async fn call(
        &self,
        target: &Peer,
        kind: RpcKind,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, NetworkError> {
        let lane = self.lane_to(target)?;
        if kind == RpcKind::Append {
            return lane.append(payload).await;
        }
        let until = self.shared.env.now() + deadline;
        let connection = lane.connection(until).await?;
        let answer = connection.request(request_body(kind, &payload), until).await;
        match answer {
            Ok(answer) => split_answer(answer),
            Err(transport::RequestError::DeadlineExceeded) => Err(NetworkError::Timeout),
            Err(error) if !error.may_have_run() => Err(NetworkError::Unreachable(error.to_string())),
            Err(error) => Err(NetworkError::Failed(error.to_string())),
        }
    }

    async fn send_snapshot(
        &self,
        target: &Peer,
        meta: Bytes,
        mut snapshot: SnapshotStream,
    ) -> Result<Bytes, NetworkError> {
        let lane = self.lane_to(target)?;
        let until = self.shared.env.now() + SNAPSHOT_OPEN;
        let connection = lane.connection(until).await?;
        let mut header = SNAPSHOT_HEADER.to_vec();
        header.extend_from_slice(&meta);
        let failed = |error: &dyn std::error::Error| NetworkError::Failed(error.to_string());
        let stream = connection.open_stream(header.into(), until).await.map_err(|error| failed(&error))?;
        let (reader, mut writer) = stream.into_split();
        let sent = async {
            tokio::io::copy(&mut snapshot, &mut writer).await?;
            writer.shutdown().await
        };
        // A receiver that refuses stops reading; then its answer tells more than the broken write.
        let sent = sent.await;
        let mut answer = Vec::new();
        let mut limited = reader.take(SNAPSHOT_ANSWER_MAX);
        let read = tokio::time::timeout(SNAPSHOT_INSTALL, limited.read_to_end(&mut answer)).await;
        match (read, sent) {
            (Ok(Ok(_)), _) if !answer.is_empty() => split_answer(answer.into()),
            (_, Err(error)) => Err(failed(&error)),
            (Ok(Err(error)), Ok(())) => Err(failed(&error)),
            (Ok(Ok(_)), Ok(())) => Err(NetworkError::Failed("the receiver gave no answer".to_owned())),
            (Err(_), Ok(())) => Err(NetworkError::Timeout),
        }
    }
}

/// What the transport takes from outside, from this agent.
#[derive(Debug)]
struct Tasks(Env);

impl Host for Tasks {
    fn spawn(&self, name: &'static str, task: futures_util::future::BoxFuture<'static, ()>) {
        self.0.spawn(name, task);
    }

    fn unix_time(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.wall()).unwrap_or_default())
    }
}

/// Tells whether a connection is to this node.
fn is_node(connection: &Connection, node_id: NodeId) -> bool {
    connection.peer().identity().is_some_and(|identity| identity.node_id == node_id)
}
