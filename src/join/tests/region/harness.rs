//! Agents that join each other over a network in memory or over QUIC, with a region whose state is the real one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use join::{
    Abroad, Config, Files, HandedKeys, JoinError, Joined, Joiner, Kept, Lifetimes, NewToken, Occupant,
    RegionKey, Registry, Retry, Server, Service, Settings, Token, TokenUsage, TrustRegionError, TrustWish,
    UseTokenError,
};
use model::{JoinRole, JoinToken, Timestamp, TrustedRegion};
use protocol::{Command, Named};
use runtime::{Env, Shutdown, WallClock};
use state::Store;
use tempfile::TempDir;
use transport::{
    Boot, Bound, ClusterId, Credentials, EndpointSecret, Host, Identity, Incoming, NodeId, Opened, Plane,
    RawConfig, Region, Role, TokioHost, Transport, ca::Authority, memory, quic::Quic,
};
use uuid::Uuid;

pub const HOUR: Duration = Duration::from_secs(3_600);

/// Where agents live.
#[derive(Clone)]
pub enum Net {
    Memory(memory::Network),
    Quic,
}

impl Net {
    pub fn memory() -> Self {
        let links = memory::Switchboard::new(Duration::from_millis(1));
        Self::Memory(memory::Network::new(Arc::new(links), Arc::new(TokioHost)))
    }

    pub fn bind(&self, credentials: &Credentials, boot: u64) -> Bound<dyn Transport> {
        let NodeId(id) = credentials.identity().node_id;
        let secret = EndpointSecret::from_bytes([id[0]; 32]);
        let config =
            transport::Config::check(([127, 0, 0, 1], 0).into(), secret, &RawConfig::default()).unwrap();
        match self {
            Self::Memory(network) => network.bind(config, credentials, Boot(boot)).erase(),
            Self::Quic => Quic::bind(config, credentials, Boot(boot), Arc::new(TokioHost)).unwrap().erase(),
        }
    }
}

pub fn region(name: &str) -> Region {
    Region::new(name).unwrap()
}

pub fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

pub fn identity(role: Role, number: u8) -> Identity {
    Identity { role, region: region("here"), node_id: node(number), name: format!("a{number}") }
}

/// An agent before it starts.
pub struct Plan {
    pub identity: Identity,
    pub expect: u32,
    pub key: Option<RegionKey>,
    pub token: Option<Token>,
    pub require_token: bool,
    pub lifetime: Duration,
    pub retry_max: u32,
}

impl Plan {
    pub fn new(role: Role, number: u8) -> Self {
        Self {
            identity: identity(role, number),
            expect: 0,
            key: None,
            token: None,
            require_token: false,
            lifetime: HOUR,
            retry_max: 0,
        }
    }

    pub fn expecting(self, expect: u32) -> Self {
        Self { expect, ..self }
    }

    pub fn with_key(self, key: &RegionKey) -> Self {
        Self { key: Some(key.clone()), ..self }
    }

    pub fn with_token(self, token: &Token) -> Self {
        Self { token: Some(token.clone()), retry_max: 2, ..self }
    }

    /// Gives up after two rounds.
    pub fn briefly(self) -> Self {
        Self { retry_max: 2, ..self }
    }
}

/// An agent that runs.
pub struct Agent {
    pub env: Env,
    pub config: Arc<Config>,
    pub transport: Arc<dyn Transport>,
    pub service: Service,
    pub files: Files,
    pub dir: Arc<TempDir>,
    pub addr: SocketAddr,
}

impl Agent {
    pub fn start(net: &Net, plan: Plan) -> Self {
        Self::start_in(net, plan, Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn start_in(net: &Net, plan: Plan, dir: Arc<TempDir>) -> Self {
        let shutdown = Shutdown::new();
        let epoch = i64::try_from(TokioHost.unix_time().as_nanos()).unwrap();
        let seed = u64::from(plan.identity.node_id.0[0]);
        let wall = match net {
            Net::Memory(_) => WallClock::simulated(epoch, runtime::Skew::default()),
            Net::Quic => WallClock::System,
        };
        let env = Env::with(wall, seed, shutdown);
        let credentials = Credentials::provisional(plan.identity.clone(), &TokioHost).unwrap();
        let bound = net.bind(&credentials, 1);
        let addr = bound.transport.local_addr();
        let config = Arc::new(Config {
            identity: plan.identity,
            rpc: addr,
            gossip: SocketAddr::new(addr.ip(), addr.port() ^ 0x4000),
            expect: plan.expect,
            life: 1,
            key: plan.key,
            token: plan.token,
            require_token: plan.require_token,
            lifetimes: Lifetimes { certificate: plan.lifetime, authority: 100 * HOUR },
            retry: Retry { interval: Duration::from_secs(2), max: plan.retry_max },
        });
        let service = Service::new(env.clone(), config.clone());
        let Bound { transport, mut acceptor } = bound;
        let answers = service.clone();
        env.spawn("accept", async move {
            while let Some(opened) = acceptor.accept().await {
                accept(&answers, opened);
            }
        });
        let files = Files::open(dir.path()).unwrap();
        Self { env, config, transport, service, files, dir, addr }
    }

    pub fn joiner(&self) -> Joiner {
        let (env, config, transport) = (self.env.clone(), self.config.clone(), self.transport.clone());
        Joiner::new(env, config, transport, self.service.clone(), self.files.clone(), None)
    }

    pub async fn join(&self, addrs: &[SocketAddr]) -> Result<Joined, JoinError> {
        self.joiner().run(addrs.iter().map(ToString::to_string).collect()).await
    }

    /// Joins and serves the region from then on, as the agent's own server would.
    pub async fn become_part(&self, addrs: &[SocketAddr]) -> Result<(Joined, Arc<Home>), JoinError> {
        let joined = self.join(addrs).await?;
        let home = self.open(&joined.kept);
        Ok((joined, home))
    }

    pub fn open(&self, kept: &Kept) -> Arc<Home> {
        let home = Arc::new(Home::of(self, kept));
        self.service.open(home.clone());
        home
    }

    pub async fn dials(&self, other: &Agent, plane: Plane) -> Result<Opened, transport::DialError> {
        let expect = transport::Expect::Node(other.config.identity.node_id);
        self.transport.dial(other.addr, plane, expect).await
    }
}

fn accept(service: &Service, opened: Opened) {
    if opened.connection.plane() == Plane::Join {
        return service.serve(opened);
    }
    let service = service.clone();
    let task = async move {
        let Opened { connection, mut inbound } = opened;
        while let Some(incoming) = inbound.next().await {
            if let Incoming::Request(request) = incoming
                && Service::takes(&request.body)
            {
                service.answer(&connection, request).await;
            }
        }
    };
    TokioHost.spawn("serve", Box::pin(task));
}

/// The region as one agent has it. Its state is that of a single server.
pub struct Home {
    pub cluster: ClusterId,
    pub authority: Option<Arc<Authority>>,
    pub keys: Mutex<HandedKeys>,
    pub servers: Mutex<Vec<Server>>,
    pub store: Mutex<Store>,
    pub occupants: Mutex<Vec<(NodeId, Occupant)>>,
    /// The next answer of the region about a token is lost after it was committed.
    pub lose_answer: Mutex<bool>,
    /// What other regions said of themselves.
    pub met: Mutex<Vec<Abroad>>,
}

impl Home {
    fn of(agent: &Agent, kept: &Kept) -> Self {
        let own = Server {
            node_id: agent.config.identity.node_id,
            name: agent.config.identity.name.clone(),
            rpc: agent.addr,
            gossip: agent.config.gossip,
        };
        let servers =
            if agent.config.identity.role == Role::Server { vec![own] } else { kept.servers.clone() };
        Self {
            cluster: kept.cluster,
            authority: kept.authority.clone(),
            keys: Mutex::new(kept.keys.clone()),
            servers: Mutex::new(servers),
            store: Mutex::default(),
            occupants: Mutex::default(),
            lose_answer: Mutex::default(),
            met: Mutex::default(),
        }
    }

    pub fn apply(&self, command: &Command) -> Result<(), state::Refusal> {
        let mut store = self.store.lock().unwrap();
        let index = store.index() + 1;
        store.apply(index, command).map(drop)
    }

    pub fn require_token(&self) {
        self.apply(&Command::SetJoinSettings { require_token: true }).unwrap();
    }

    pub fn token(&self, env: &Env, role: JoinRole, lifetime: Duration) -> (Token, JoinToken) {
        let authority = self.authority.as_ref().unwrap();
        let new = NewToken {
            authority: authority.fingerprint(),
            role,
            region: authority.region().clone(),
            description: String::new(),
            lifetime,
            now: Timestamp(env.wall()),
            accessor: Uuid::from_u128(env.random_u128()),
        };
        let (token, row) = Token::create(new).unwrap();
        self.apply(&Command::CreateJoinToken { token: Named(row.clone()) }).unwrap();
        (token, row)
    }

    pub fn hash(&self) -> state::Hash {
        self.store.lock().unwrap().content_hash()
    }
}

impl Registry for Home {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn settings(&self) -> Settings {
        Settings { require_token: self.store.lock().unwrap().state().join_settings().require_token }
    }

    fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.clone()
    }

    fn keys(&self) -> HandedKeys {
        self.keys.lock().unwrap().clone()
    }

    fn servers(&self) -> Vec<Server> {
        self.servers.lock().unwrap().clone()
    }

    fn regions(&self) -> Vec<(Region, String)> {
        let store = self.store.lock().unwrap();
        let rows = store.state().trusted_regions();
        rows.map(|row| (region(&row.name), row.authorities.clone())).collect()
    }

    fn occupant(&self, node: NodeId) -> Occupant {
        let known = self.occupants.lock().unwrap();
        known.iter().find(|(id, _)| *id == node).map_or(Occupant::Nobody, |(_, occupant)| *occupant)
    }

    fn use_token(&self, usage: TokenUsage) -> BoxFuture<'_, Result<(), UseTokenError>> {
        let TokenUsage { secret_hash, role, used } = usage;
        let result = self.apply(&Command::UseJoinToken { secret_hash, role, used });
        let lost = std::mem::take(&mut *self.lose_answer.lock().unwrap());
        Box::pin(async move {
            match result {
                _ if lost => Err(UseTokenError::Unavailable { reason: "the leader is gone".into() }),
                Ok(()) => Ok(()),
                Err(refusal) => Err(UseTokenError::Refused { reason: refusal.to_string() }),
            }
        })
    }

    fn meet(&self, abroad: Abroad) {
        self.met.lock().unwrap().push(abroad);
    }

    fn trust_region(&self, wish: TrustWish) -> BoxFuture<'_, Result<(), TrustRegionError>> {
        let TrustWish { region, authority_pem, servers } = wish;
        let row = TrustedRegion {
            name: region.as_str().into(),
            authorities: authority_pem.unwrap_or_default(),
            servers,
            create_index: 0,
            modify_index: 0,
        };
        let result = self.apply(&Command::TrustRegion { region: Named(row) });
        Box::pin(
            async move { result.map_err(|error| TrustRegionError { region, reason: error.to_string() }) },
        )
    }
}

/// A region of one server.
pub async fn single(net: &Net, plan: Plan) -> (Agent, Arc<Home>) {
    let agent = Agent::start(net, plan.expecting(1));
    let (joined, home) = agent.become_part(&[]).await.unwrap();
    assert!(joined.found.is_some());
    (agent, home)
}
