//! Servers of one region in one process, over a network in memory or over real QUIC.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use model::{AutopilotConfig, Namespace};
use protocol::{Command, Named};
use raft::{ClusterMarker, IoMode, MemoryDisk, RawConfig, Storage};
use runtime::{Env, Shutdown};
use server::{Config, Heartbeats, Life, MemberStatus, Replica, Server, ServerMember, StartError};
use transport::{
    Acceptor, Boot, Credentials, EndpointSecret, Host, Identity, Incoming, NodeId, Plane, Region, Role,
    TokioHost, Transport, ca::Authority, memory, quic,
};

pub const MARKER: ClusterMarker = ClusterMarker(0xC1);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What carries messages.
pub enum Net {
    Memory(memory::Network, Arc<memory::Switchboard>),
    Quic(Arc<Authority>),
}

impl Net {
    pub fn memory() -> Self {
        let links = Arc::new(memory::Switchboard::new(Duration::from_millis(1)));
        Self::Memory(memory::Network::new(links.clone(), Arc::new(TokioHost)), links)
    }

    pub fn quic() -> Self {
        let year = Duration::from_secs(365 * 86_400);
        let region = Region::new("global").expect("a name");
        Self::Quic(Arc::new(Authority::make(region, year, TokioHost.unix_time()).expect("it can be made")))
    }

    /// Attaches an agent.
    pub fn attach(
        &self,
        role: Role,
        number: u8,
        boot: u64,
        addr: SocketAddr,
    ) -> (Arc<dyn Transport>, Acceptor) {
        let region = Region::new("global").expect("a name");
        let identity =
            Identity { role, region, node_id: NodeId([number; 16]), name: format!("agent-{number}") };
        let secret = EndpointSecret::from_bytes([number; 32]);
        let config =
            transport::Config::check(addr, secret, &transport::RawConfig::default()).expect("it fits");
        let bound = match self {
            Self::Memory(network, _) => {
                let authority = "ours".to_owned();
                network.attach(memory::Agent { identity, authority, boot: Boot(boot), config }).erase()
            }
            Self::Quic(authority) => {
                let hour = Duration::from_secs(3_600);
                let credentials =
                    Credentials::issued_by(authority, identity, hour, &TokioHost).expect("it is issued");
                let host = Arc::new(TokioHost);
                quic::Quic::bind(config, &credentials, Boot(boot), host).expect("a free port").erase()
            }
        };
        (bound.transport, bound.acceptor)
    }
}

/// Where a server keeps its log.
#[derive(Clone)]
pub enum Disk {
    Memory(MemoryDisk),
    Directory(PathBuf),
}

/// One server that runs.
pub struct Running {
    pub server: Server,
    pub transport: Arc<dyn Transport>,
    shutdown: Shutdown,
}

/// All servers of a region.
pub struct Cluster {
    pub net: Net,
    pub running: BTreeMap<u8, Running>,
    disks: BTreeMap<u8, Disk>,
    lives: BTreeMap<u8, Life>,
    addrs: BTreeMap<u8, SocketAddr>,
    boots: u64,
    raw: RawConfig,
    expect: usize,
    statuses: BTreeMap<u8, MemberStatus>,
}

impl Cluster {
    /// Starts three servers, of which the first founds the region.
    pub async fn of_three(net: Net) -> Self {
        Self::of_three_with(net, patient()).await
    }

    /// Starts three servers with other times.
    pub async fn of_three_with(net: Net, raw: RawConfig) -> Self {
        let mut cluster = Self::empty(net, raw);
        for number in 1..=3 {
            cluster.start(number).await.expect("an empty server starts");
        }
        cluster.found(&[1, 2, 3]).await;
        cluster
    }

    pub fn empty(net: Net, raw: RawConfig) -> Self {
        Self {
            net,
            running: BTreeMap::new(),
            disks: BTreeMap::new(),
            lives: BTreeMap::new(),
            addrs: BTreeMap::new(),
            boots: 0,
            raw,
            expect: 3,
            statuses: BTreeMap::new(),
        }
    }

    pub fn keep_on_disk(&mut self, number: u8, dir: PathBuf) {
        self.disks.insert(number, Disk::Directory(dir));
    }

    /// Leaves no room on the disk of a server that keeps its log in memory.
    pub fn fill_disk(&self, number: u8) {
        let Some(Disk::Memory(disk)) = self.disks.get(&number) else { panic!("its disk is not in memory") };
        disk.fill(true);
    }

    pub fn set_life(&mut self, number: u8, life: Life) {
        self.lives.insert(number, life);
    }

    pub async fn found(&mut self, numbers: &[u8]) {
        let founders: Vec<Replica> = numbers.iter().map(|number| self.replica(*number)).collect();
        self.server(numbers[0]).found(&founders, MARKER).await.expect("nothing was founded before");
        self.gossip();
        self.leader().await;
    }

    pub fn replica(&self, number: u8) -> Replica {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        Replica {
            node_id: NodeId([number; 16]),
            life: self.lives.get(&number).copied().unwrap_or(Life::FIRST),
            name: format!("server-{number}.global"),
            rpc_addr: self.addrs.get(&number).copied().unwrap_or(nowhere),
        }
    }

    pub async fn start(&mut self, number: u8) -> Result<(), StartError> {
        let shutdown = Shutdown::new();
        let env = Env::real(shutdown.clone());
        self.boots += 1;
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let addr = self.addrs.get(&number).copied().unwrap_or(any);
        let (transport, acceptor) = self.net.attach(Role::Server, number, self.boots, addr);
        self.addrs.insert(number, transport.local_addr());
        let disk = self.disks.entry(number).or_insert_with(|| Disk::Memory(MemoryDisk::new())).clone();
        let storage = match disk {
            Disk::Memory(disk) => Storage::Memory(disk),
            Disk::Directory(dir) => Storage::Directory(dir),
        };
        let raft = raft::Config::check(&self.raw, storage, IoMode::Thread).expect("defaults fit");
        let config = Config {
            region: "global".to_owned(),
            name: format!("server-{number}"),
            datacenter: "dc1".to_owned(),
            heartbeats: Heartbeats::default(),
            bootstrap_expect: self.expect,
            autopilot: AutopilotConfig {
                server_stabilization_time: Duration::from_millis(500),
                last_contact_threshold: Duration::from_secs(2),
                ..AutopilotConfig::default()
            },
            thresholds: control::collection::Thresholds::EVERYTHING,
            gc_interval: Duration::from_secs(3_600),
            event_buffer: 100,
        };
        let started = Server::start(&env, config, raft, self.replica(number), transport.clone()).await;
        let server = match started {
            Ok(server) => server,
            Err(error) => {
                shutdown.fire();
                transport.close().await;
                return Err(error);
            }
        };
        env.spawn("accept", accept(env.clone(), server.clone(), acceptor));
        self.running.insert(number, Running { server, transport, shutdown });
        self.statuses.insert(number, MemberStatus::Alive);
        self.gossip();
        Ok(())
    }

    /// Ends a server as a crash does: nobody is told, and what was not synced is gone.
    pub async fn kill(&mut self, number: u8) {
        let Some(running) = self.running.remove(&number) else { return };
        if let Net::Memory(network, _) = &self.net {
            network.crash(running.transport.local_addr());
        }
        if let Net::Quic(_) = &self.net {
            // Its socket may outlive it by a moment, so it comes back elsewhere.
            self.addrs.remove(&number);
        }
        running.shutdown.fire();
        running.server.stop().await;
        // Closing waits for the peers to hear of it, which the time without a leader must not wait for.
        let transport = running.transport;
        let closing = Env::real(Shutdown::new()).spawn("close", async move { transport.close().await });
        if let Net::Memory(..) = &self.net {
            closing.await.expect("closing does not panic");
        }
        if let Some(Disk::Memory(disk)) = self.disks.get(&number) {
            disk.crash();
        }
    }

    pub fn say(&mut self, number: u8, status: MemberStatus) {
        self.statuses.insert(number, status);
        self.gossip();
    }

    /// Tells every server what gossip would.
    pub fn gossip(&self) {
        let now = Env::real(Shutdown::new()).now();
        let members: Vec<ServerMember> = self
            .statuses
            .iter()
            .filter(|(number, _)| self.addrs.contains_key(number))
            .map(|(number, status)| ServerMember {
                replica: self.replica(*number),
                http_addr: "127.0.0.1:4646".parse().expect("an address"),
                version: "2.0.6".to_owned(),
                status: *status,
                since: now,
            })
            .collect();
        for running in self.running.values() {
            running.server.set_servers(members.clone());
        }
    }

    pub fn server(&self, number: u8) -> &Server {
        &self.running[&number].server
    }

    /// Gives a server that is not running another address.
    pub fn move_to(&mut self, number: u8, addr: SocketAddr) {
        self.addrs.insert(number, addr);
    }

    pub fn addr(&self, number: u8) -> SocketAddr {
        self.addrs[&number]
    }

    /// Waits for a leader that may answer, and returns its number.
    pub async fn leader(&self) -> u8 {
        let mut leader = None;
        until("there is a leader", || {
            leader = self.running.iter().find(|(_, running)| running.server.is_leader()).map(|(at, _)| *at);
            leader.is_some()
        })
        .await;
        leader.expect("it was just found")
    }

    pub async fn followers(&self) -> Vec<u8> {
        let leader = self.leader().await;
        self.running.keys().copied().filter(|number| *number != leader).collect()
    }

    pub async fn stop(mut self) {
        for number in self.running.keys().copied().collect::<Vec<_>>() {
            self.kill(number).await;
        }
    }
}

async fn accept(env: Env, server: Server, mut acceptor: Acceptor) {
    while let Some(opened) = acceptor.accept().await {
        let server = server.clone();
        match opened.connection.plane() {
            Plane::Raft => drop(env.spawn("raft", async move { server.serve_raft(opened).await })),
            Plane::Node => {
                let (streams, _) = tokio::sync::mpsc::channel(1);
                env.spawn("node", async move { server.serve_node(opened, streams).await });
            }
            Plane::Rpc => {
                let tasks = env.clone();
                env.spawn("rpc", async move {
                    let mut inbound = opened.inbound;
                    let peer = opened.connection.peer().clone();
                    while let Some(incoming) = inbound.next().await {
                        let Incoming::Request(request) = incoming else { continue };
                        let (server, peer) = (server.clone(), peer.clone());
                        tasks.spawn("rpc-request", async move {
                            drop(server.serve_rpc_request(&peer, request).await);
                        });
                    }
                });
            }
            Plane::Federation | Plane::Join => {}
        }
    }
}

/// Times for a machine on which many tests run at once.
pub fn patient() -> RawConfig {
    RawConfig::default().with_multiplier(3)
}

/// A command that leaves a trace by name.
pub fn namespace(name: &str) -> Command {
    let namespace = Namespace { name: name.into(), ..Namespace::default() };
    Command::UpsertNamespaces { namespaces: vec![Named(namespace)] }
}

pub fn has(server: &Server, name: &str) -> bool {
    server.snapshot().namespace(name).is_some()
}

/// The hashes that a server remembers, by index.
pub fn hashes(server: &Server) -> BTreeMap<u64, state::Hash> {
    server.raft().with_state(|machine| machine.store().chain().window().collect())
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let env = Env::real(Shutdown::new());
    let deadline = env.now() + PATIENCE;
    while !holds() {
        assert!(env.now() < deadline, "in vain: {what}");
        env.sleep(Duration::from_millis(5)).await;
    }
}

/// What several tasks noted.
pub type Notes<T> = Arc<Mutex<Vec<T>>>;
