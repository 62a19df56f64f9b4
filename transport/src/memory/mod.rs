//! A network in memory, message by message: the same connections, greetings and refusals as over QUIC, on links whose
//! delays and losses a [`Links`] policy decides. For tests, and for the simulation on paused time.
//!
//! What is modelled: delay, loss, cut links (streams stall and then time out, datagrams vanish), crashes without a word,
//! restarts that peers notice on contact. What is not: TLS (authorities are compared by fingerprint or label, certificates
//! do not expire), bandwidth, congestion.

mod end;
mod links;
mod pipe;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

pub use self::links::{Carry, Direct, Links, Parcel, Switchboard};
use self::{
    end::{End, watch},
    pipe::RETRY,
};
use crate::{
    ca::Fingerprint,
    config::Config,
    connection::Opened,
    credentials::{Credentials, Scope},
    error::{CloseCode, Closed, DialError, ReloadError},
    greeting::{self, Local},
    host::Host,
    identity::{Boot, CertifiedName, ClusterId, Identity, Region},
    plane::{self, Plane},
    transport::{Acceptor, Bound, Expect, Transport},
};

/// Connections that wait for an acceptor, as over QUIC.
const ACCEPTED_MAX: usize = 64;
/// Ports given to agents that ask for any.
const FIRST_FREE_PORT: u16 = 20_000;

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    links: Arc<dyn Links>,
    host: Arc<dyn Host>,
    state: Mutex<State>,
}

struct State {
    agents: BTreeMap<SocketAddr, Attached>,
    attached: u64,
    connections: u64,
    free_port: u16,
}

struct Attached {
    serial: u64,
    local: Arc<Local>,
    shows: Shows,
    accepted: mpsc::Sender<Opened>,
    ends: Vec<Weak<End>>,
}

/// What stands for an agent's certificates.
#[derive(Clone, Debug)]
struct Shows {
    /// The authority behind its certificate; none while it is provisional.
    issuer: Option<Fingerprint>,
    /// The authorities that it trusts.
    trusts: Vec<(Scope, Fingerprint)>,
}

impl Shows {
    fn of(credentials: &Credentials) -> Self {
        let trusts = credentials.authorities.iter();
        let trusts = trusts.map(|(scope, der)| (scope.clone(), Fingerprint::of(der))).collect();
        Self { issuer: credentials.issuer(), trusts }
    }

    /// Judges a certificate of `issuer` that names an agent of `region`.
    fn accepts(&self, issuer: Option<Fingerprint>, region: &Region) -> bool {
        let fits = |(scope, trusted): &(Scope, Fingerprint)| issuer == Some(*trusted) && scope.covers(region);
        self.trusts.iter().any(fits)
    }
}

/// One agent to attach.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Who it is.
    pub identity: Identity,
    /// The name of the authority behind its certificate, which is also the only one that it trusts.
    pub authority: String,
    /// Which run of it this is.
    pub boot: Boot,
    /// Its settings; it is reached at `config.bind`.
    pub config: Config,
}

/// The fingerprint of the authority with this label, for [`Expect::Authority`].
pub fn authority_fingerprint(label: &str) -> Fingerprint {
    Fingerprint::of(label.as_bytes())
}

impl Network {
    /// Makes a network whose links behave as `links` says.
    pub fn new(links: Arc<dyn Links>, host: Arc<dyn Host>) -> Self {
        let state =
            State { agents: BTreeMap::new(), attached: 0, connections: 0, free_port: FIRST_FREE_PORT };
        Self { shared: Arc::new(Shared { links, host, state: Mutex::new(state) }) }
    }

    /// Attaches an agent. One that is there already is replaced as if it had been killed and started again.
    pub fn attach(&self, agent: Agent) -> Bound<Memory> {
        let Agent { identity, authority, boot, config } = agent;
        let authority = authority_fingerprint(&authority);
        let shows = Shows { issuer: Some(authority), trusts: vec![(Scope::AnyRegion, authority)] };
        self.attach_as(identity, shows, boot, config)
    }

    /// Attaches an agent with credentials of its own, as [`Quic::bind`](crate::quic::Quic::bind) does.
    pub fn bind(&self, config: Config, credentials: &Credentials, boot: Boot) -> Bound<Memory> {
        self.attach_as(credentials.identity.clone(), Shows::of(credentials), boot, config)
    }

    fn attach_as(&self, identity: Identity, shows: Shows, boot: Boot, config: Config) -> Bound<Memory> {
        let mut addr = config.bind;
        let local = Arc::new(Local::new(identity, boot, config, self.shared.host.clone()));
        let (accepted, acceptor) = mpsc::channel(ACCEPTED_MAX);
        let (serial, before) = {
            let mut state = self.shared.lock();
            if addr.port() == 0 {
                addr.set_port(state.free_port);
                state.free_port += 1;
            }
            state.attached += 1;
            let serial = state.attached;
            let attached = Attached { serial, local: local.clone(), shows, accepted, ends: Vec::new() };
            (serial, state.agents.insert(addr, attached))
        };
        if let Some(before) = before {
            before.crash();
        }
        let transport = Memory { shared: self.shared.clone(), local, addr, serial };
        Bound { transport: Arc::new(transport), acceptor: Acceptor::new(acceptor) }
    }

    /// Kills the agent at `addr`: its connections are gone and nobody is told.
    pub fn crash(&self, addr: SocketAddr) {
        let gone = self.shared.lock().agents.remove(&addr);
        if let Some(gone) = gone {
            gone.crash();
        }
    }
}

impl Attached {
    fn crash(self) {
        for end in self.ends.iter().filter_map(Weak::upgrade) {
            end.end(Closed::ByUs { code: CloseCode::Shutdown, reason: "crashed".into() });
        }
    }
}

impl Shared {
    /// No code that holds this lock can panic, so a poisoned one still guards whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some agent, perhaps a later one, answers at `addr`.
    fn answers(&self, addr: SocketAddr) -> bool {
        self.lock().agents.contains_key(&addr)
    }

    fn attached(&self, addr: SocketAddr, serial: u64) -> bool {
        self.lock().agents.get(&addr).is_some_and(|agent| agent.serial == serial)
    }

    /// Waits for one message there and one back, as long as the link takes none.
    async fn round_trip(&self, from: SocketAddr, to: SocketAddr, plane: Plane) {
        loop {
            let there = self.links.carry(from, to, plane, Parcel::Reliable { len: 0 });
            let back = self.links.carry(to, from, plane, Parcel::Reliable { len: 0 });
            match (there, back) {
                (Carry::After(there), Carry::After(back)) => return sleep(there + back).await,
                (Carry::Lost, _) | (_, Carry::Lost) => sleep(RETRY).await,
            }
        }
    }
}

/// One agent's way into the network.
pub struct Memory {
    shared: Arc<Shared>,
    local: Arc<Local>,
    addr: SocketAddr,
    serial: u64,
}

impl Memory {
    async fn dial_now(&self, to: SocketAddr, plane: Plane, expect: Expect) -> Result<Opened, DialError> {
        let own = self.own().ok_or_else(|| DialError::Start("this endpoint is closed".into()))?;
        plane::check_dial(plane, expect, own.issuer.is_none())?;
        self.shared.round_trip(self.addr, to, plane).await;
        let Some(callee) = self.callee(to) else {
            // Nobody there: nothing answers, and the caller's timeout decides.
            return std::future::pending().await;
        };
        let their_region = &callee.local.identity.region;
        let trusted = match expect {
            Expect::Admitted | Expect::Node(_) => own.accepts(callee.shows.issuer, their_region),
            Expect::Authority(fingerprint) => callee.shows.issuer == Some(fingerprint),
            Expect::FirstContact => true,
        };
        if !trusted {
            return Err(DialError::Handshake("the server's certificate is of an unknown authority".into()));
        }
        if !plane::served(callee.local.identity.role, callee.shows.issuer.is_none()).contains(&plane) {
            return Err(DialError::Handshake(format!("the peer does not serve the {plane} plane")));
        }
        let server = CertifiedName::of(&callee.local.identity);
        plane::admit_listener(plane, &self.local.identity, &server).map_err(DialError::Unacceptable)?;
        let certified = (expect != Expect::FirstContact).then_some(server);
        let (ours, theirs) = self.connect(to, plane, &callee)?;
        let shown = (plane != Plane::Join).then(|| CertifiedName::of(&self.local.identity));
        if shown.is_some() && !callee.shows.accepts(own.issuer, &self.local.identity.region) {
            return Err(DialError::Handshake(
                "our certificate is of an authority unknown to the server".into(),
            ));
        }
        let host = &self.shared.host;
        host.spawn(
            "memory-admit",
            Box::pin(greeting::admit(callee.local, Arc::new(theirs), plane, shown, callee.accepted)),
        );
        greeting::greet_listener(&self.local, Arc::new(ours), plane, certified, expect).await
    }

    fn own(&self) -> Option<Shows> {
        let state = self.shared.lock();
        state.agents.get(&self.addr).filter(|own| own.serial == self.serial).map(|own| own.shows.clone())
    }

    fn callee(&self, addr: SocketAddr) -> Option<Callee> {
        let state = self.shared.lock();
        let agent = state.agents.get(&addr)?;
        let (local, accepted) = (agent.local.clone(), agent.accepted.clone());
        Some(Callee { local, shows: agent.shows.clone(), accepted })
    }

    /// Makes the two ends of a connection and lets each watch over its link.
    fn connect(
        &self,
        to: SocketAddr,
        plane: Plane,
        callee: &Callee,
    ) -> Result<(Arc<End>, Arc<End>), DialError> {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.connections += 1;
        let number = state.connections;
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let make = |local, remote, config: &Config| {
            Arc::new(End::new(shared.clone(), local, remote, plane, config.streams_max + 1, secret))
        };
        let ours = make(self.addr, to, &callee.local.config);
        let theirs = make(to, self.addr, &self.local.config);
        End::join(&ours, &theirs);
        for (addr, end) in [(self.addr, &ours), (to, &theirs)] {
            let gone = || DialError::Start("this endpoint is closed".into());
            let agent = state.agents.get_mut(&addr).ok_or_else(gone)?;
            agent.ends.retain(|end| end.strong_count() > 0);
            agent.ends.push(Arc::downgrade(end));
        }
        drop(state);
        for (end, local) in [(&ours, &self.local), (&theirs, &callee.local)] {
            let (idle, keepalive) = (local.config.idle_timeout, local.config.keepalive);
            shared.host.spawn("memory-watch", Box::pin(watch(end.clone(), idle, keepalive)));
        }
        Ok((ours, theirs))
    }
}

struct Callee {
    local: Arc<Local>,
    shows: Shows,
    accepted: mpsc::Sender<Opened>,
}

impl Transport for Memory {
    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn identity(&self) -> Identity {
        self.local.identity.clone()
    }

    fn dial(
        &self,
        addr: SocketAddr,
        plane: Plane,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Opened, DialError>> {
        let after = self.local.config.handshake_timeout;
        Box::pin(async move {
            timeout(after, self.dial_now(addr, plane, expect))
                .await
                .unwrap_or(Err(DialError::TimedOut { after }))
        })
    }

    fn reload(&self, credentials: &Credentials) -> Result<(), ReloadError> {
        credentials.check_same_agent(&self.local.identity)?;
        let mut state = self.shared.lock();
        if let Some(own) = state.agents.get_mut(&self.addr).filter(|own| own.serial == self.serial) {
            own.shows = Shows::of(credentials);
        }
        Ok(())
    }

    fn set_cluster(&self, cluster: ClusterId) {
        self.local.set_cluster(cluster);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.shared.attached(self.addr, self.serial) {
                return;
            }
            let gone = self.shared.lock().agents.remove(&self.addr);
            for end in gone.iter().flat_map(|agent| &agent.ends).filter_map(Weak::upgrade) {
                end.close_with_notice(CloseCode::Shutdown, "agent is shutting down");
            }
        })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("addr", &self.addr).field("local", &self.local).finish_non_exhaustive()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}
