//! Agents on a network in memory, and how to wait for what they see.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use gossip_core::{Digest, Incarnation, Me, Member, MemberId, Role, Status};
use gossip_driver::{
    Config, Driver, GossipKey, Handle, Host, KeyRing, Located, PAYLOAD_MAX, Pool, PoolKind, Store, SyncBy,
    memory::Network,
};
use tokio::time::{Instant, sleep};

/// How long anything may take, on a clock that does not wait for it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Chance from a seed, and a time of day that runs with the paused clock.
#[derive(Debug)]
pub struct SeededHost {
    drawn: AtomicU64,
    started: Instant,
}

impl SeededHost {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { drawn: AtomicU64::new(seed), started: Instant::now() })
    }
}

impl Host for SeededHost {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        #[allow(clippy::disallowed_methods)]
        drop(tokio::spawn(task));
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.started.elapsed()
    }

    fn random(&self) -> u64 {
        let mut z = self.drawn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Remembers what was written; can be told never to finish.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub written: Arc<Mutex<Vec<Incarnation>>>,
    pub stuck: bool,
}

impl Disk {
    pub fn last(&self) -> Incarnation {
        self.written.lock().expect("no test panics with it").last().copied().unwrap_or_default()
    }
}

impl Store for Disk {
    fn persist(&self, incarnation: Incarnation) -> BoxFuture<'static, io::Result<()>> {
        let (written, stuck) = (Arc::clone(&self.written), self.stuck);
        Box::pin(async move {
            if stuck {
                std::future::pending::<()>().await;
            }
            sleep(Duration::from_millis(5)).await;
            written.lock().expect("no test panics with it").push(incarnation);
            Ok(())
        })
    }
}

/// How an agent is started. `Start::agent(n)` is a server of region `global`.
#[derive(Clone, Debug)]
pub struct Start {
    pub number: u8,
    pub port: u16,
    pub role: Role,
    pub region: &'static str,
    pub key: u8,
    pub cluster: Option<u128>,
    pub sync: SyncBy,
    pub disk: Disk,
    pub pools: &'static [PoolKind],
}

impl Start {
    pub fn agent(number: u8) -> Self {
        Self {
            number,
            port: 4_648,
            role: Role::Server,
            region: "global",
            key: 1,
            cluster: None,
            sync: SyncBy::Packets,
            disk: Disk::default(),
            pools: &[PoolKind::Region],
        }
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(addr(self.number).ip(), self.port)
    }

    pub fn pool(&self, kind: PoolKind, addr: SocketAddr, host: &dyn Host) -> Pool {
        let seed = host.random();
        let digest = Digest {
            name: format!("agent-{}", self.number),
            role: self.role,
            region: self.region.to_owned(),
            datacenter: "dc1".to_owned(),
            version: "1.0.0".to_owned(),
            ..Digest::default()
        };
        let me = Me { id: id(self.number), addr, persisted: self.disk.last(), digest };
        let config = match kind {
            PoolKind::Region => gossip_core::Config::local(1, PAYLOAD_MAX, seed),
            PoolKind::Wide => gossip_core::Config::wide(2, PAYLOAD_MAX, seed),
        };
        let (ring, store) = (KeyRing::new(key(self.key)), Arc::new(self.disk.clone()));
        Pool { kind, config, me, ring, cluster: self.cluster, store }
    }

    /// Starts it on a socket of any kind.
    pub fn on(self, socket: Arc<dyn gossip_driver::Socket>, host: Arc<dyn Host>) -> Handle {
        let located = Located { rpc_port: 4647, role: self.role, region: self.region.to_owned() };
        let config = Config { located: Some(located), sync: self.sync };
        let addr = socket.local_addr().expect("it is bound");
        let pools = self.pools.iter().map(|kind| self.pool(*kind, addr, &*host)).collect();
        Driver::start(host, config, socket, pools).expect("its settings are fine")
    }
}

/// A network, its agents' host, and nothing else.
pub struct Cluster {
    pub network: Network,
    pub host: Arc<SeededHost>,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        Self { network: Network::new(seed), host: SeededHost::new(seed) }
    }

    pub fn start(&self, start: Start) -> Handle {
        let socket = self.network.bind(start.addr()).expect("its address is free");
        start.on(socket, Arc::clone(&self.host) as Arc<dyn Host>)
    }

    /// Starts `count` agents, which join by the first one's address, and waits until all see all.
    pub async fn of(&self, count: u8, start: impl Fn(u8) -> Start) -> Vec<Handle> {
        let agents: Vec<Handle> = (1..=count).map(|number| self.start(start(number))).collect();
        for agent in &agents[1..] {
            agent.join(PoolKind::Region, vec![addr(1)]).await.expect("it is open");
        }
        let all = usize::from(count);
        until("all see all", || agents.iter().all(|agent| alive(agent) == all)).await;
        agents
    }
}

pub fn addr(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 4648).into()
}

pub fn id(number: u8) -> MemberId {
    MemberId([number; 16])
}

pub fn key(number: u8) -> GossipKey {
    GossipKey::from_bytes(&[number; 32]).expect("32 bytes are a key")
}

pub fn member(agent: &Handle, kind: PoolKind, number: u8) -> Option<Member> {
    agent.members(kind).iter().find(|member| member.id == id(number)).cloned()
}

pub fn status(agent: &Handle, number: u8) -> Option<Status> {
    member(agent, PoolKind::Region, number).map(|member| member.status)
}

pub fn statuses(agent: &Handle) -> BTreeMap<MemberId, Status> {
    agent.members(PoolKind::Region).iter().map(|member| (member.id, member.status)).collect()
}

pub fn alive_in(agent: &Handle, kind: PoolKind) -> usize {
    agent.members(kind).iter().filter(|member| member.status == Status::Alive).count()
}

pub fn alive(agent: &Handle) -> usize {
    alive_in(agent, PoolKind::Region)
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
