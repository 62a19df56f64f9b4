use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use transport::{
    Boot, Bound, Config, Credentials, EndpointSecret, Host, Identity, NodeId, RawConfig, Region, Role, Scope,
    TokioHost, Transport,
    ca::{Authority, Fingerprint},
    memory, quic,
};

/// A place where agents can be started. Authorities are made by name on first use.
pub trait Net {
    fn start(&self, agent: &Agent) -> Bound<dyn Transport>;
    /// Starts an agent that has no certificate yet.
    fn start_provisional(&self, agent: &Agent) -> Bound<dyn Transport>;
    /// Starts an agent with these credentials.
    fn start_with(&self, agent: &Agent, credentials: &Credentials) -> Bound<dyn Transport>;
    fn fingerprint(&self, authority: &str) -> Fingerprint;
}

#[derive(Clone)]
pub struct Agent {
    pub identity: Identity,
    /// Whose certificate it shows.
    pub authority: &'static str,
    /// Whom it trusts beside its own authority.
    pub trusts: Vec<(&'static str, &'static str)>,
    pub boot: u64,
    pub addr: SocketAddr,
    pub raw: RawConfig,
}

impl Agent {
    pub fn server(number: u8) -> Self {
        Self::new(Role::Server, number, "here")
    }

    pub fn client(number: u8) -> Self {
        Self::new(Role::Client, number, "here")
    }

    pub fn new(role: Role, number: u8, region: &str) -> Self {
        let region = Region::new(region).unwrap();
        let identity =
            Identity { role, region, node_id: NodeId([number; 16]), name: format!("agent-{number}") };
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { identity, authority: "ours", trusts: Vec::new(), boot: 1, addr, raw: RawConfig::default() }
    }
}

fn config(agent: &Agent) -> Config {
    let NodeId(id) = agent.identity.node_id;
    Config::check(agent.addr, EndpointSecret::from_bytes([id[0]; 32]), &agent.raw).unwrap()
}

pub struct Quic {
    authorities: Mutex<BTreeMap<(String, Region), Arc<Authority>>>,
}

impl Quic {
    pub fn new() -> Self {
        Self { authorities: Mutex::default() }
    }

    fn authority(&self, name: &str, region: &Region) -> Arc<Authority> {
        let make = || {
            let year = Duration::from_secs(365 * 86_400);
            Arc::new(Authority::make(region.clone(), year, TokioHost.unix_time()).unwrap())
        };
        let key = (name.to_owned(), region.clone());
        self.authorities.lock().unwrap().entry(key).or_insert_with(make).clone()
    }
}

/// An authority that no other test knows, and credentials that it issues.
pub fn authority() -> Authority {
    let year = Duration::from_secs(365 * 86_400);
    Authority::make(Region::new("here").unwrap(), year, TokioHost.unix_time()).unwrap()
}

pub fn issued(authority: &Authority, agent: &Agent) -> Credentials {
    let hour = Duration::from_secs(3_600);
    Credentials::issued_by(authority, agent.identity.clone(), hour, &TokioHost).unwrap()
}

impl Net for Quic {
    fn start_provisional(&self, agent: &Agent) -> Bound<dyn Transport> {
        self.start_with(agent, &Credentials::provisional(agent.identity.clone(), &TokioHost).unwrap())
    }

    fn start_with(&self, agent: &Agent, credentials: &Credentials) -> Bound<dyn Transport> {
        quic::Quic::bind(config(agent), credentials, Boot(agent.boot), Arc::new(TokioHost)).unwrap().erase()
    }

    fn start(&self, agent: &Agent) -> Bound<dyn Transport> {
        let host: Arc<dyn Host> = Arc::new(TokioHost);
        let authority = self.authority(agent.authority, &agent.identity.region);
        let hour = Duration::from_secs(3_600);
        let mut credentials =
            Credentials::issued_by(&authority, agent.identity.clone(), hour, &*host).unwrap();
        for (name, region) in &agent.trusts {
            let region = Region::new(*region).unwrap();
            let other = self.authority(name, &region);
            credentials = credentials.trusting(Scope::Region(region), other.certificate_pem()).unwrap();
        }
        quic::Quic::bind(config(agent), &credentials, Boot(agent.boot), host).unwrap().erase()
    }

    fn fingerprint(&self, authority: &str) -> Fingerprint {
        self.authority(authority, &Region::new("here").unwrap()).fingerprint()
    }
}

pub struct Memory {
    network: memory::Network,
}

impl Memory {
    pub fn new() -> Self {
        let links = memory::Switchboard::new(Duration::from_millis(1));
        Self { network: memory::Network::new(Arc::new(links), Arc::new(TokioHost)) }
    }
}

impl Net for Memory {
    fn start_provisional(&self, agent: &Agent) -> Bound<dyn Transport> {
        self.start_with(agent, &Credentials::provisional(agent.identity.clone(), &TokioHost).unwrap())
    }

    fn start_with(&self, agent: &Agent, credentials: &Credentials) -> Bound<dyn Transport> {
        self.network.bind(config(agent), credentials, Boot(agent.boot)).erase()
    }

    fn start(&self, agent: &Agent) -> Bound<dyn Transport> {
        let Agent { identity, authority, boot, .. } = agent.clone();
        let agent = memory::Agent {
            identity,
            authority: authority.to_owned(),
            boot: Boot(boot),
            config: config(agent),
        };
        self.network.attach(agent).erase()
    }

    fn fingerprint(&self, authority: &str) -> Fingerprint {
        memory::authority_fingerprint(authority)
    }
}
