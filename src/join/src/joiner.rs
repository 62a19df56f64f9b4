use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use runtime::{Backoff, Env};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};
use transport::{
    ClusterId, Credentials, DialError, Expect, NodeId, Opened, Peer, Plane, ReloadError, Role, Transport,
    ca::{Authority, AuthorityError, Fingerprint, LeafKey},
};

use crate::{
    AuthMode, Config, Files, FilesError, HandedKeys, Kept, KeyRing, Refusal, RegionKey, Server, Service,
    ask::{ASK_TIMEOUT, AskError, ask},
    files::{Given, Proof},
    founding::{Driver, DriverEvent, DriverHandle, Found},
    service::{issue, unix_time},
    wire::{Answer, Ask, Enrol, Enrolled, Greeting, LIST_MAX},
};

/// The first rounds follow each other so fast, and then ever slower until the configured interval.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Ports that Nomad's configurations mean when they name none: that of gossip.
const DEFAULT_GOSSIP_PORT: u16 = 4648;
/// A gossip port that does not answer within this is not one.
const LOCATE_TIMEOUT: Duration = Duration::from_secs(2);
/// An agent that is reached says at once who it is.
const GREET_TIMEOUT: Duration = Duration::from_secs(5);
/// A name that is not resolved within this is tried in the next round.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses in one round: those of the user, and those that agents named.
const TARGETS_MAX: usize = 2 * LIST_MAX;

/// Asks a gossip port where its agent's transport is.
pub type Locate = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, Option<SocketAddr>> + Send + Sync>;
/// Finds the addresses of `host:port`.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Asks the operating system's resolver.
pub fn system_resolver() -> Resolve {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) }))
}

/// Makes an agent part of a region: joins the one that it finds, or founds it with others.
///
/// The endpoint is open already, with provisional credentials or the user's; afterwards it has those of the region, without
/// having been closed.
pub struct Joiner {
    env: Env,
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    service: Service,
    files: Files,
    /// What the user gave (`tls` block); taken when the agent has joined.
    own: Option<Credentials>,
    resolve: Resolve,
    locate: Option<Locate>,
    /// Complaints made, so that each is made once as an error and then as a debug line.
    complaints: BTreeSet<String>,
}

/// An agent that is part of a region.
#[derive(Debug)]
pub struct Joined {
    /// What it keeps of it; written down, and in place on the endpoint.
    pub kept: Kept,
    /// Present if this server has founded the region: Raft begins here, with these servers as voters.
    pub found: Option<Found>,
}

impl Joined {
    /// Where gossip finds its first peers.
    pub fn gossip_peers(&self) -> BTreeSet<SocketAddr> {
        let members = self.found.iter().flat_map(|found| &found.members).map(|member| member.gossip);
        self.kept.servers.iter().map(|server| server.gossip).chain(members).collect()
    }
}

impl Joiner {
    /// Makes a joiner. `own` are the credentials that the endpoint was opened with, if they are the user's.
    pub fn new(
        env: Env,
        config: Arc<Config>,
        transport: Arc<dyn Transport>,
        service: Service,
        files: Files,
        own: Option<Credentials>,
    ) -> Self {
        let resolve = system_resolver();
        let complaints = BTreeSet::new();
        Self { env, config, transport, service, files, own, resolve, locate: None, complaints }
    }

    /// Resolves names otherwise.
    #[must_use]
    pub fn with_resolve(self, resolve: Resolve) -> Self {
        Self { resolve, ..self }
    }

    /// Tries addresses as those of gossip as well.
    #[must_use]
    pub fn with_locate(self, locate: Locate) -> Self {
        Self { locate: Some(locate), ..self }
    }

    /// Joins or founds. Each address is `host`, `host:port` or a bare IP address, of any agent. Ends with the agent's
    /// shutdown at the latest.
    ///
    /// # Errors
    ///
    /// When the rounds are used up, a token is refused for good, or files can not be written. What was promised stays promised.
    pub async fn run(mut self, addresses: Vec<String>) -> Result<Joined, JoinError> {
        self.say_what_is_not_authenticated(&addresses);
        let founding = self.start_founding()?;
        let result = self.rounds(&addresses, founding.as_ref()).await;
        self.service.end_founding();
        result
    }

    fn start_founding(&self) -> Result<Option<DriverHandle>, JoinError> {
        // A server that has a cluster never founds one; one that stopped right after it had founded goes on from its record.
        if self.files.cluster()?.is_some() {
            return Ok(None);
        }
        let record = self.files.founding()?;
        if self.config.identity.role != Role::Server || (self.config.expect == 0 && record.promise.is_none())
        {
            return Ok(None);
        }
        let plane = if self.own.is_some() { Plane::Rpc } else { Plane::Join };
        let (env, config) = (self.env.clone(), self.config.clone());
        let (transport, files) = (self.transport.clone(), self.files.clone());
        Ok(Some(Driver::start(env, config, transport, files, self.service.clone(), plane, record)))
    }

    async fn rounds(
        &mut self,
        addresses: &[String],
        founding: Option<&DriverHandle>,
    ) -> Result<Joined, JoinError> {
        let (interval, max) = (self.config.retry.interval, self.config.retry.max);
        let mut backoff = Backoff::new(FIRST_RETRY.min(interval), interval);
        let mut rng = self.env.rng();
        let mut round = 0_u32;
        if addresses.is_empty() && founding.is_none() {
            return Err(JoinError::NoAddresses);
        }
        loop {
            round = round.saturating_add(1);
            let seen = founding.and_then(|founding| founding.verdict.borrow().join);
            if let Some(joined) = self.round(addresses, founding).await? {
                return Ok(joined);
            }
            if let Some(founding) = founding {
                // A driver that has ended says so in its verdict.
                let _ = founding.events.send(DriverEvent::Surveyed).await;
            }
            if max > 0 && round >= max && !addresses.is_empty() {
                return Err(JoinError::GivenUp { rounds: round });
            }
            let founded = founding.is_some_and(|founding| founding.verdict.borrow().join.is_some());
            // A region that has just been founded admits its servers in a moment.
            let wait = if founded { FIRST_RETRY } else { backoff.next_wait(&mut rng) };
            tokio::select! {
                biased;
                () = self.env.shutdown().wait() => return Err(JoinError::Shutdown),
                () = self.env.sleep(wait) => {}
                () = decided(founding, seen) => {}
            }
        }
    }

    /// Tries every address once, those of the user and those that agents name, all at the same time: one that is silent
    /// delays no other.
    async fn round(
        &mut self,
        addresses: &[String],
        founding: Option<&DriverHandle>,
    ) -> Result<Option<Joined>, JoinError> {
        let mut waiting = self.resolve_all(addresses).await;
        let (mut tried, mut meetings) = (BTreeSet::new(), FuturesUnordered::new());
        if let Some(founding) = founding {
            let verdict = founding.verdict.borrow().clone();
            if let Some(found) = verdict.found {
                return self.begin(found).await.map(Some);
            }
            if let Some(reason) = verdict.failed {
                return Err(JoinError::Founding { reason });
            }
            // Candidates are looked after by the driver; they are asked here once there is a region.
            if verdict.join.is_some() {
                waiting.extend(verdict.addresses);
            }
        }
        loop {
            while let Some(addr) = waiting.pop_first() {
                if tried.len() < TARGETS_MAX && tried.insert(addr) {
                    meetings.push(self.acquaintance().meet(addr));
                }
            }
            let Some((addr, met)) = meetings.next().await else { return Ok(None) };
            let visited = match met {
                Ok((opened, greeting)) => self.visit(&opened, &greeting, founding, &mut waiting).await,
                Err(error) => Err(error.into()),
            };
            match visited {
                Ok(Some(joined)) => return Ok(Some(joined)),
                Ok(None) => {}
                Err(VisitError::Fatal(error)) => return Err(error),
                Err(VisitError::Ask(error)) => self.complain(addr, &error),
            }
        }
    }

    async fn resolve_all(&mut self, addresses: &[String]) -> BTreeSet<SocketAddr> {
        let mut found = BTreeSet::new();
        for address in addresses {
            let name = with_port(address);
            match tokio::time::timeout(RESOLVE_TIMEOUT, (self.resolve)(name)).await {
                Ok(Ok(addrs)) => found.extend(addrs),
                Ok(Err(error)) => warn!(address, %error, "address to join can not be resolved"),
                Err(_) => warn!(address, "address to join is not resolved in time"),
            }
        }
        found
    }

    fn acquaintance(&self) -> Acquaintance {
        Acquaintance {
            env: self.env.clone(),
            config: self.config.clone(),
            transport: self.transport.clone(),
            locate: self.locate.clone(),
            certified: self.own.is_some(),
        }
    }

    /// Takes what an agent said of itself, and asks it to be admitted if it can.
    async fn visit(
        &mut self,
        opened: &Opened,
        greeting: &Greeting,
        founding: Option<&DriverHandle>,
        waiting: &mut BTreeSet<SocketAddr>,
    ) -> Result<Option<Joined>, VisitError> {
        let own = &self.config.identity;
        if greeting.node_id == own.node_id {
            return Ok(None);
        }
        match own.role {
            _ if greeting.region == own.region => {}
            // Whoever configured that means both regions to be joined, which takes being part of one.
            Role::Server => {
                debug!(agent = greeting.name, region = %greeting.region, "met a server of another region");
                return Ok(None);
            }
            Role::Client => {
                return Err(
                    AskError::Refused(Refusal::WrongRegion { region: greeting.region.clone() }).into()
                );
            }
        }
        let founded = greeting.cluster.is_some();
        debug!(agent = greeting.name, role = %greeting.role, founded, "met");
        waiting.extend(greeting.servers.iter().take(LIST_MAX).map(|server| server.rpc));
        if let Some(founding) = founding
            && !greeting.candidates.is_empty()
        {
            let mut candidates = greeting.candidates.clone();
            candidates.truncate(LIST_MAX);
            // A driver that has ended says so in its verdict.
            let _ = founding.events.send(DriverEvent::Told(candidates)).await;
        }
        let Some(cluster) = greeting.cluster.filter(|_| greeting.role == Role::Server) else {
            return Ok(None);
        };
        if self.files.cluster()?.is_some_and(|own| own != cluster) {
            return Err(AskError::OtherCluster.into());
        }
        if !may_join(founding, greeting.node_id, cluster).await {
            return Ok(None);
        }
        self.enrol(opened, greeting, cluster).await.map(Some)
    }

    fn key(&self) -> Option<&RegionKey> {
        key_of(&self.config, self.own.is_some())
    }

    async fn enrol(
        &mut self,
        opened: &Opened,
        greeting: &Greeting,
        cluster: ClusterId,
    ) -> Result<Joined, VisitError> {
        let token = self.config.token.as_ref();
        // A client under the right authority could keep the secret for itself.
        let certified = opened.connection.peer();
        if token.is_some() && self.own.is_none() && !is_server(certified) {
            return Err(AskError::Unproven.into());
        }
        let key = match self.own {
            Some(_) => None,
            None => {
                let files = self.files.clone();
                Some(self.blocking(move || files.joining_key()).await??)
            }
        };
        let own = &self.config.identity;
        let question = Ask::Enrol(Enrol {
            role: own.role,
            region: own.region.clone(),
            node_id: own.node_id,
            name: own.name.clone(),
            public_key: key.as_ref().map(|key| key.public().as_bytes().to_vec()),
            secret: token.filter(|_| key.is_some()).map(|token| token.expose_secret().to_vec()),
        });
        let deadline = self.env.now() + ASK_TIMEOUT;
        let answer = match ask(&opened.connection, &question, self.key(), deadline).await {
            Err(AskError::Refused(Refusal::Token { reason })) => {
                return Err(VisitError::Fatal(JoinError::Token { reason }));
            }
            answer => answer?,
        };
        let Answer::Enrolled(enrolled) = answer else { return Err(AskError::Unexpected.into()) };
        let given = self.given(*enrolled, key, cluster)?;
        let (files, identity) = (self.files.clone(), own.clone());
        let now = unix_time(&self.env);
        let kept = self.blocking(move || files.keep(&identity, given, now)).await??;
        let auth = kept.auth;
        self.take_effect(&kept)?;
        if auth == AuthMode::Trust {
            warn!(server = greeting.name, addr = %opened.connection.remote_addr(),
                "joined a region on trust: nothing proves that it is the right one");
        } else {
            info!(server = greeting.name, %auth, "joined the region");
        }
        Ok(Joined { kept, found: None })
    }

    /// Checks that an answer is what was asked for, and nothing less.
    fn given(
        &self,
        enrolled: Enrolled,
        key: Option<LeafKey>,
        cluster: ClusterId,
    ) -> Result<Given, VisitError> {
        let Enrolled { cluster: named, issued, keys, servers, regions, auth } = enrolled;
        if named != cluster {
            return Err(AskError::Unexpected.into());
        }
        let proof = match (issued, key, &self.own) {
            (Some(issued), Some(key), None) => {
                if let Some(token) = &self.config.token
                    && Fingerprint::of_pem(&issued.authority_pem).map_err(AskError::from)?
                        != token.authority()
                {
                    return Err(AskError::Unproven.into());
                }
                Proof::Issued { issued, key_pem: key.expose_pem() }
            }
            (None, None, Some(own)) => Proof::Own(own.clone()),
            _ => return Err(AskError::Unexpected.into()),
        };
        // How the agent joined is its own knowledge: an answer can not make more of it.
        let auth = match (&self.own, &self.config.token, &self.config.key) {
            (Some(_), _, _) => AuthMode::Tls,
            (None, Some(_), _) => AuthMode::Token,
            (None, None, Some(_)) if auth == AuthMode::Key => AuthMode::Key,
            (None, None, _) => AuthMode::Trust,
        };
        Ok(Given { proof, auth, cluster, keys, regions, servers })
    }

    /// Begins the region that this server has founded: its authority, its first certificate, its key.
    async fn begin(&mut self, found: Found) -> Result<Joined, JoinError> {
        let (own, now) = (&self.config.identity, unix_time(&self.env));
        let ring = KeyRing::first(self.config.key.as_ref());
        let proof = match &self.own {
            Some(own) => Proof::Own(own.clone()),
            None => {
                let lifetimes = self.config.lifetimes;
                let authority = Authority::make(own.region.clone(), lifetimes.authority, now)?;
                let key = LeafKey::generate()?;
                let issued = issue(&authority, own.clone(), &key.public(), lifetimes.certificate, now)?;
                Proof::Issued { issued, key_pem: key.expose_pem() }
            }
        };
        let servers = found.members.iter().map(|member| Server {
            node_id: member.node_id,
            name: member.name.clone(),
            rpc: member.rpc,
            gossip: member.gossip,
        });
        let given = Given {
            proof,
            auth: if self.own.is_some() { AuthMode::Tls } else { AuthMode::Founder },
            cluster: found.cluster,
            keys: HandedKeys::Server(ring),
            regions: Vec::new(),
            servers: servers.collect(),
        };
        let (files, identity) = (self.files.clone(), own.clone());
        let kept = self.blocking(move || files.keep(&identity, given, now)).await??;
        self.take_effect(&kept)?;
        self.service.expect_members(found.members.iter().map(|member| member.node_id));
        Ok(Joined { kept, found: Some(found) })
    }

    fn take_effect(&self, kept: &Kept) -> Result<(), JoinError> {
        self.transport.reload(&kept.credentials)?;
        self.transport.set_cluster(kept.cluster);
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.env.spawn_blocking(work).await.map_err(|_| JoinError::Shutdown)
    }

    fn say_what_is_not_authenticated(&self, addresses: &[String]) {
        let config = &self.config;
        if self.own.is_some() || config.token.is_some() || config.key.is_some() {
            return;
        }
        if !addresses.is_empty() || config.expect > 1 {
            warn!(
                "no certificate, token or gossip key is configured: this agent trusts the first agents that it meets; \
                 set 'encrypt' on all servers or join with a token"
            );
        }
    }

    fn complain(&mut self, addr: SocketAddr, error: &AskError) {
        let first = self.complaints.len() < TARGETS_MAX && self.complaints.insert(format!("{addr} {error}"));
        let grave = matches!(error, AskError::Unproven)
            || matches!(error, AskError::Refused(refusal) if !refusal.passes());
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        match (first, grave) {
            (true, true) => error!(%addr, reason = %error, "could not join"),
            (true, false) => info!(%addr, reason = %error, source, "could not join, trying again"),
            (false, _) => debug!(%addr, reason = %error, source, "could not join, trying again"),
        }
    }
}

/// The key by which agents prove themselves to each other, where there is nothing better.
fn key_of(config: &Config, certified: bool) -> Option<&RegionKey> {
    config.key.as_ref().filter(|_| config.token.is_none() && !certified)
}

/// What is needed to ask an agent who it is.
struct Acquaintance {
    env: Env,
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    locate: Option<Locate>,
    /// Whether the agent has a certificate of the user's.
    certified: bool,
}

impl Acquaintance {
    async fn meet(self, addr: SocketAddr) -> (SocketAddr, Result<(Opened, Greeting), AskError>) {
        (addr, self.greet(addr).await)
    }

    async fn greet(&self, addr: SocketAddr) -> Result<(Opened, Greeting), AskError> {
        let opened = self.reach(addr).await?;
        let deadline = self.env.now() + GREET_TIMEOUT;
        let key = key_of(&self.config, self.certified);
        match ask(&opened.connection, &Ask::Greet, key, deadline).await? {
            Answer::Greeting(greeting) => Ok((opened, greeting)),
            _ => Err(AskError::Unexpected),
        }
    }

    /// Takes the address for the transport's and for gossip's at once: a port that belongs to the other is silent, and
    /// waiting for that takes seconds.
    async fn reach(&self, addr: SocketAddr) -> Result<Opened, AskError> {
        let direct = self.dial(addr);
        let Some(locate) = &self.locate else { return Ok(direct.await?) };
        let located = async {
            match tokio::time::timeout(LOCATE_TIMEOUT, locate(addr)).await {
                Ok(Some(located)) if located != addr => Some(self.dial(located).await),
                Ok(_) | Err(_) => None,
            }
        };
        let (mut direct, mut located) = (std::pin::pin!(direct), std::pin::pin!(located));
        tokio::select! {
            opened = &mut direct => match opened {
                Ok(opened) => Ok(opened),
                Err(failed) => match located.await {
                    Some(opened) => Ok(opened?),
                    None => Err(failed.into()),
                },
            },
            opened = &mut located => match opened {
                Some(Ok(opened)) => Ok(opened),
                Some(Err(_)) | None => Ok(direct.await?),
            },
        }
    }

    async fn dial(&self, addr: SocketAddr) -> Result<Opened, DialError> {
        let (plane, expect) = match &self.config.token {
            _ if self.certified => (Plane::Rpc, Expect::Admitted),
            Some(token) => (Plane::Join, Expect::Authority(token.authority())),
            None => (Plane::Join, Expect::FirstContact),
        };
        self.transport.dial(addr, plane, expect).await
    }
}

/// Waits until founding has decided something that was not seen yet.
async fn decided(founding: Option<&DriverHandle>, seen: Option<ClusterId>) {
    let Some(founding) = founding else { return std::future::pending().await };
    let mut verdict = founding.verdict.clone();
    let news = verdict.wait_for(|verdict| {
        verdict.found.is_some()
            || verdict.failed.is_some()
            || (verdict.join.is_some() && verdict.join != seen)
    });
    if news.await.is_err() {
        std::future::pending().await
    }
}

async fn may_join(founding: Option<&DriverHandle>, from: NodeId, cluster: ClusterId) -> bool {
    let Some(founding) = founding else { return true };
    let (reply, answer) = oneshot::channel();
    let asked = founding.events.send(DriverEvent::MayJoin { from, cluster, reply }).await;
    asked.is_ok() && answer.await.unwrap_or(false)
}

fn is_server(peer: &Peer) -> bool {
    peer.identity().is_some_and(|identity| identity.role == Role::Server)
}

/// Adds the port that Nomad's configurations leave out.
fn with_port(address: &str) -> String {
    let address = address.trim();
    if let Ok(ip) = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return SocketAddr::new(ip, DEFAULT_GOSSIP_PORT).to_string();
    }
    match address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
        Some(_) | None => format!("{address}:{DEFAULT_GOSSIP_PORT}"),
    }
}

/// How a visit ended, unless well.
enum VisitError {
    /// Others, or a later round, may do better.
    Ask(AskError),
    /// Nothing will.
    Fatal(JoinError),
}

impl From<AskError> for VisitError {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
    }
}

impl From<JoinError> for VisitError {
    fn from(error: JoinError) -> Self {
        Self::Fatal(error)
    }
}

impl From<FilesError> for VisitError {
    fn from(error: FilesError) -> Self {
        match error {
            // An answer that is no good is the other end's fault.
            FilesError::NotKept(error) => Self::Ask(AskError::Unreadable { what: error.to_string() }),
            error => Self::Fatal(error.into()),
        }
    }
}

/// Why an agent is not part of a region. It may try again, with what it has promised still promised.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody to ask.
    #[error("no address to join was given: use -join, retry_join or client.servers, or set bootstrap_expect")]
    NoAddresses,
    /// As often as was allowed.
    #[error("no region was joined in {rounds} rounds over all addresses (retry_max)")]
    GivenUp {
        /// How often.
        rounds: u32,
    },
    /// The token is no good, and no other address will say otherwise.
    #[error("the join token was refused: {reason}")]
    Token {
        /// In the region's words.
        reason: String,
    },
    /// Promises can not be written down.
    #[error("this server can not take part in founding a region: {reason}")]
    Founding {
        /// Why.
        reason: String,
    },
    /// Files can not be read or written.
    #[error("the files under <data_dir>/tls can not be used")]
    Files(#[from] FilesError),
    /// Keys can not be made.
    #[error("could not make a key or certificate")]
    Make(#[from] AuthorityError),
    /// The endpoint does not take the certificate.
    #[error("the certificate was not put in place")]
    Reload(#[from] ReloadError),
    /// The agent ends.
    #[error("the agent is shutting down")]
    Shutdown,
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn the_port_of_gossip_is_meant_where_none_is_named() {
        for (given, meant) in [
            ("10.0.0.1", "10.0.0.1:4648"),
            ("10.0.0.1:4647", "10.0.0.1:4647"),
            ("server.example", "server.example:4648"),
            (" server.example:7 ", "server.example:7"),
            ("::1", "[::1]:4648"),
            ("[::1]", "[::1]:4648"),
            ("[::1]:4647", "[::1]:4647"),
        ] {
            assert_eq!(with_port(given), meant);
        }
    }
}
