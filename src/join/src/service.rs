use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use model::{JoinRole, JoinTokenUse, Timestamp};
use runtime::{Duration, Env, Instant};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{timeout, timeout_at},
};
use tracing::{info, warn};
use transport::{
    Binding, CloseCode, Connection, Identity, Incoming, NodeId, Opened, Peer, Plane, Request, Role,
    ca::{Authority, Leaf, PublicKey},
};
use uuid::Uuid;

use crate::{
    Abroad, AuthMode, Config, HandedKeys, Refusal, RegionKey, Registry, TokenUsage, TrustWish, UseTokenError,
    admission::{self, Applicant, Certificate, Host, Known, Secret},
    ask::{ASK_TIMEOUT, check_authority, own_abroad, wide_keys},
    founding::{Candidate, DriverEvent, Message},
    invite,
    rate::Rate,
    token::hash_secret,
    wire::{
        self, Answer, Ask, Direction, Enrol, Enrolled, Federate, Federated, Greeting, Invitation, Issued,
        LIST_MAX, Proven, Renewed, Speaker,
    },
};

/// Strangers' connections at a time. Each is short; a wave of joiners waits and comes again.
const CONNECTIONS_MAX: usize = 512;
/// A stranger's connection on which nothing is asked is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Answers joiners. Cheap to clone; one for an agent, from its first moment.
///
/// Before the agent is part of a region it tells who it is and takes part in founding; [`open`](Self::open) names the region
/// from then on.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    config: Arc<Config>,
    state: Mutex<State>,
    rate: Mutex<Rate>,
    connections: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    registry: Option<Arc<dyn Registry>>,
    founding: Option<mpsc::Sender<DriverEvent>>,
    candidates: Vec<Candidate>,
    promised: BTreeSet<NodeId>,
    invitations: Option<mpsc::Sender<Vec<SocketAddr>>>,
}

impl Service {
    /// Makes a service of an agent that is not part of a region yet.
    pub fn new(env: Env, config: Arc<Config>) -> Self {
        let (state, rate) = (Mutex::default(), Mutex::default());
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { inner: Arc::new(Inner { env, config, state, rate, connections }) }
    }

    /// Names the region that the agent is part of, from then on.
    pub fn open(&self, registry: Arc<dyn Registry>) {
        let mut state = self.inner.lock();
        state.registry = Some(registry);
        state.founding = None;
    }

    /// Names the servers that promised when this one founded the region. Where a token is demanded they need none, because
    /// there was nobody to make one; the gossip key they still need.
    pub fn expect_members(&self, members: impl IntoIterator<Item = NodeId>) {
        self.inner.lock().promised.extend(members);
    }

    /// Lets servers of a region ask this one to join it, for as long as the receiver is kept: it gets their addresses.
    pub fn await_invitation(&self) -> mpsc::Receiver<Vec<SocketAddr>> {
        let (sender, receiver) = mpsc::channel(1);
        self.inner.lock().invitations = Some(sender);
        receiver
    }

    pub(crate) fn start_founding(&self, events: mpsc::Sender<DriverEvent>) {
        self.inner.lock().founding = Some(events);
    }

    pub(crate) fn end_founding(&self) {
        self.inner.lock().founding = None;
    }

    pub(crate) fn set_candidates(&self, candidates: Vec<Candidate>) {
        self.inner.lock().candidates = candidates;
    }

    /// Whether a request on a plane that others use too is one of joining: then it is for [`answer`](Self::answer).
    pub fn takes(body: &[u8]) -> bool {
        wire::is_frame(body)
    }

    /// Serves a connection that was opened on the Join plane, until it ends.
    pub fn serve(&self, opened: Opened) {
        let service = self.clone();
        let Ok(permit) = self.inner.connections.clone().try_acquire_owned() else {
            opened.connection.close(CloseCode::Done, "too many joiners at once, come again");
            return;
        };
        self.inner.env.spawn("join-serve", async move {
            let Opened { connection, mut inbound } = opened;
            loop {
                match timeout(IDLE_MAX, inbound.next()).await {
                    Ok(Some(Incoming::Request(request))) => service.answer(&connection, request).await,
                    Ok(Some(Incoming::Stream(_) | Incoming::Datagram(_))) => {}
                    Ok(None) => break,
                    Err(_) => {
                        connection.close(CloseCode::Done, "nothing was asked");
                        break;
                    }
                }
            }
            drop(permit);
        });
    }

    /// Answers one request, on the Join plane or on one that took a certificate (Rpc, Federation).
    pub async fn answer(&self, connection: &Connection, request: Request) {
        let Request { body, deadline, reply } = request;
        let deadline = deadline.min(self.inner.env.now() + ASK_TIMEOUT);
        // Without an answer the asker learns that its question was abandoned.
        if let Ok(answer) = timeout_at(deadline, self.inner.answer(connection, &body)).await {
            // An asker that is gone needs no answer.
            let _ = reply.send(answer).await;
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self) -> Option<Arc<dyn Registry>> {
        self.lock().registry.clone()
    }

    /// The keys by which joiners may prove themselves.
    fn keys(&self, registry: Option<&Arc<dyn Registry>>) -> Vec<RegionKey> {
        match registry.map(|registry| registry.keys()) {
            Some(HandedKeys::Server(ring)) => ring.keys().to_vec(),
            Some(HandedKeys::Client(_)) | None => self.config.key.iter().cloned().collect(),
        }
    }

    async fn answer(&self, connection: &Connection, body: &[u8]) -> Bytes {
        let binding = connection.channel_binding();
        let source = connection.remote_addr().ip();
        let registry = self.registry();
        let stranger = matches!(connection.peer(), Peer::Stranger);
        if stranger && !self.rate(|rate, now| rate.admit(now, source)) {
            return wire::encode(&Answer::Refused(Refusal::TooMany), Direction::Answer, &binding, None);
        }
        let keys = self.keys(registry.as_ref());
        let read =
            wire::decode::<Ask>(body, Direction::Ask, &binding, &keys).map_err(|error| error.to_string());
        let (answer, key) = match read.and_then(|(ask, proven)| ask.check().map(|()| (ask, proven))) {
            Ok((ask, proven)) => {
                let answer = self.answer_read(connection, registry.as_ref(), ask, &proven).await;
                let key = if let Proven::Key(key) = proven { Some(key) } else { None };
                (answer, key)
            }
            Err(what) => (Err(Refusal::Malformed { what }), None),
        };
        let answer = answer.unwrap_or_else(|refusal| {
            self.note_refusal(connection, source, &refusal);
            Answer::Refused(refusal)
        });
        wire::encode(&answer, Direction::Answer, &binding, key.as_ref())
    }

    fn rate<T>(&self, count: impl FnOnce(&mut Rate, Instant) -> T) -> T {
        count(&mut self.rate.lock().unwrap_or_else(PoisonError::into_inner), self.env.now())
    }

    fn note_refusal(&self, connection: &Connection, source: IpAddr, refusal: &Refusal) {
        match refusal {
            // Those who come early come again; that is no cause for alarm.
            Refusal::NotFounded | Refusal::NotServer | Refusal::Unavailable { .. } => {}
            refusal => {
                warn!(addr = %connection.remote_addr(), peer = %connection.peer(), reason = %refusal, "joiner refused");
                self.rate(|rate, now| rate.note_refusal(now, source));
            }
        }
    }

    async fn answer_read(
        &self,
        connection: &Connection,
        registry: Option<&Arc<dyn Registry>>,
        ask: Ask,
        proven: &Proven,
    ) -> Result<Answer, Refusal> {
        match (ask, registry) {
            (Ask::Greet, registry) => Ok(Answer::Greeting(self.greet(registry))),
            (Ask::Founding(speaker, message), registry) => {
                self.take_part(connection, registry, speaker, message, proven).await
            }
            (Ask::Invite(invitation), None) => self.be_invited(connection, proven, invitation),
            (Ask::Invite(_), Some(_)) => {
                Err(Refusal::Unavailable { reason: "this agent is part of a region already".to_owned() })
            }
            (_, None) => Err(Refusal::NotFounded),
            (Ask::Enrol(enrol), Some(registry)) => self.enrol(connection, registry, enrol, proven).await,
            (Ask::Federate(federate), Some(registry)) => {
                self.federate(connection, registry, federate, proven).await
            }
            (Ask::Exchange(abroad), Some(registry)) => self.exchange(connection, registry, abroad),
            (Ask::Renew { public_key }, Some(registry)) => self.renew(connection, registry, &public_key),
            (Ask::Keys, Some(registry)) => {
                let (peer, _) = certified(connection, &self.config.identity)?;
                Ok(Answer::Keys(keys_for(registry.as_ref(), peer.role)?))
            }
        }
    }

    fn greet(&self, registry: Option<&Arc<dyn Registry>>) -> Greeting {
        let Identity { role, region, node_id, name } = self.config.identity.clone();
        let mut servers = registry.map(|registry| registry.servers()).unwrap_or_default();
        servers.truncate(LIST_MAX);
        let candidates = if registry.is_none() { self.lock().candidates.clone() } else { Vec::new() };
        let cluster = registry.map(|registry| registry.cluster());
        Greeting { region, role, node_id, name, cluster, servers, candidates }
    }

    fn be_invited(
        &self,
        connection: &Connection,
        proven: &Proven,
        invitation: Invitation,
    ) -> Result<Answer, Refusal> {
        invite::check(&self.config, connection, proven, &invitation)?;
        let waiting = self.lock().invitations.clone().ok_or(Refusal::NotFounded)?;
        waiting.try_send(invite::addresses(invitation)).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::TooMany,
            TrySendError::Closed(_) => Refusal::NotFounded,
        })?;
        Ok(Answer::Invited)
    }

    async fn take_part(
        &self,
        connection: &Connection,
        registry: Option<&Arc<dyn Registry>>,
        speaker: Speaker,
        message: Message,
        proven: &Proven,
    ) -> Result<Answer, Refusal> {
        let own = &self.config.identity;
        if speaker.region != own.region {
            return Err(Refusal::WrongRegion { region: own.region.clone() });
        }
        let say = |message| {
            let (region, node_id) = (own.region.clone(), own.node_id);
            Ok(Answer::Founding(Speaker { region, node_id }, message))
        };
        if let Some(registry) = registry {
            return say(Message::Founded { cluster: registry.cluster() });
        }
        match (connection.peer(), proven) {
            (Peer::Known { identity, .. }, _) if identity.node_id == speaker.node_id => {}
            (Peer::Known { .. }, _) => return Err(Refusal::CertificateRequired),
            (Peer::Stranger, Proven::Key(_)) => {}
            (Peer::Stranger, Proven::OtherKey) => return Err(Refusal::KeyWrong),
            (Peer::Stranger, Proven::Nothing) if self.config.key.is_some() => {
                return Err(Refusal::KeyRequired);
            }
            (Peer::Stranger, Proven::Nothing) if self.config.require_token => {
                return Err(Refusal::TokenRequired);
            }
            (Peer::Stranger, Proven::Nothing) => {}
        }
        let founding = self.lock().founding.clone().ok_or(Refusal::NotFounded)?;
        let (reply, answer) = oneshot::channel();
        let event = DriverEvent::Asked { from: speaker.node_id, message, reply };
        founding.try_send(event).map_err(|_| Refusal::TooMany)?;
        say(answer.await.map_err(|_| Refusal::NotFounded)?)
    }

    async fn enrol(
        &self,
        connection: &Connection,
        registry: &Arc<dyn Registry>,
        enrol: Enrol,
        proven: &Proven,
    ) -> Result<Answer, Refusal> {
        let own = &self.config.identity;
        let HandedKeys::Server(ring) = registry.keys() else { return Err(Refusal::NotServer) };
        let (authority, servers) = (registry.authority(), registry.servers());
        let certificate = certificate_of(connection, own, &enrol);
        let identity = Identity {
            role: enrol.role,
            region: enrol.region.clone(),
            node_id: enrol.node_id,
            name: enrol.name.clone(),
        };
        let applicant = Applicant {
            role: enrol.role,
            region: &enrol.region,
            node_id: enrol.node_id,
            name: &enrol.name,
            certificate,
            secret: if enrol.secret.is_some() { Secret::Shown } else { Secret::Missing },
            proven,
            promised: self.lock().promised.contains(&enrol.node_id),
        };
        let namesake = servers.iter().find(|server| server.name == enrol.name).map(|server| server.node_id);
        let host = Host {
            region: &own.region,
            require_token: registry.settings().require_token,
            origin: ring.origin,
            issues: authority.is_some(),
            occupant: registry.occupant(enrol.node_id),
            namesake,
        };
        let auth = admission::admit(&applicant, &host)?;
        let issued = match (certificate, authority) {
            (Certificate::Own, _) => None,
            (Certificate::Missing | Certificate::Other, None) => return Err(Refusal::OwnCertificates),
            (Certificate::Missing | Certificate::Other, Some(authority)) => {
                let bytes = enrol.public_key.as_deref().unwrap_or_default();
                let key = read_key(bytes)?;
                if let (AuthMode::Token, Some(secret)) = (auth, &enrol.secret) {
                    let role = if enrol.role == Role::Server { JoinRole::Server } else { JoinRole::Client };
                    self.use_token(registry, secret, role, enrol.node_id, bytes).await?;
                }
                Some(self.issue(&authority, identity.clone(), &key)?)
            }
        };
        let keys = keys_for(registry.as_ref(), enrol.role)?;
        let addr = connection.remote_addr();
        match auth {
            AuthMode::Trust => {
                warn!(agent = %identity, %addr, "agent admitted on trust: nothing proves who it is");
            }
            AuthMode::Founder | AuthMode::Tls | AuthMode::Token | AuthMode::Key => {
                info!(agent = %identity, %addr, %auth, "agent admitted");
            }
        }
        let (cluster, regions) = (registry.cluster(), registry.regions());
        Ok(Answer::Enrolled(Box::new(Enrolled { cluster, issued, keys, servers, regions, auth })))
    }

    async fn use_token(
        &self,
        registry: &Arc<dyn Registry>,
        secret: &[u8],
        role: JoinRole,
        node: NodeId,
        key: &[u8],
    ) -> Result<(), Refusal> {
        let time = Timestamp(self.env.wall());
        let used = JoinTokenUse { node: Uuid::from_bytes(node.0), key_hash: hash_secret(key), time };
        let usage = TokenUsage { secret_hash: hash_secret(secret), role, used };
        registry.use_token(usage).await.map_err(|error| match error {
            UseTokenError::Refused { reason } => Refusal::Token { reason },
            UseTokenError::Unavailable { reason } => Refusal::Unavailable { reason },
        })
    }

    fn issue(&self, authority: &Authority, identity: Identity, key: &PublicKey) -> Result<Issued, Refusal> {
        issue(authority, identity, key, self.config.lifetimes.certificate, unix_time(&self.env))
            .map_err(|error| Refusal::Unavailable { reason: error.to_string() })
    }

    async fn federate(
        &self,
        connection: &Connection,
        registry: &Arc<dyn Registry>,
        federate: Federate,
        proven: &Proven,
    ) -> Result<Answer, Refusal> {
        let own = &self.config.identity;
        let HandedKeys::Server(ring) = registry.keys() else { return Err(Refusal::NotServer) };
        if federate.region == own.region {
            return Err(Refusal::WrongRegion { region: own.region.clone() });
        }
        let certificate = match connection.peer() {
            Peer::Known { identity, .. }
                if identity.region == federate.region && identity.role == Role::Server =>
            {
                Certificate::Own
            }
            Peer::Known { .. } => return Err(Refusal::CertificateRequired),
            Peer::Stranger => Certificate::Missing,
        };
        let known = registry.regions().into_iter().find(|(region, _)| *region == federate.region);
        let known = match known {
            None => Known::Unknown,
            Some((_, pem)) if federate.authority_pem.as_ref().is_none_or(|new| *new == pem) => Known::Same,
            Some((region, _)) => Known::Otherwise(region),
        };
        let host = Host {
            region: &own.region,
            require_token: registry.settings().require_token,
            origin: ring.origin,
            issues: true,
            occupant: crate::Occupant::Nobody,
            namesake: None,
        };
        let secret = if federate.secret.is_some() { Secret::Shown } else { Secret::Missing };
        let auth = admission::admit_region(certificate, secret, proven, &host, known)?;
        if let Some(pem) = &federate.authority_pem {
            check_authority(&federate.region, pem)
                .map_err(|error| Refusal::Malformed { what: error.to_string() })?;
            if let (AuthMode::Token, Some(secret)) = (auth, &federate.secret) {
                let key = pem.as_bytes();
                self.use_token(registry, secret, JoinRole::Region, federate.node_id, key).await?;
            }
        } else if certificate == Certificate::Missing {
            return Err(Refusal::Malformed { what: "it names no authority".into() });
        }
        let Federate { region, authority_pem, wide_keys: their_keys, servers, .. } = federate;
        let trusted = registry.trust_region(TrustWish::new(&region, authority_pem, &servers)).await;
        trusted.map_err(|error| Refusal::Unavailable { reason: error.reason })?;
        registry.meet(Abroad { region: region.clone(), servers, wide_keys: their_keys });
        match auth {
            AuthMode::Trust => warn!(%region, "region trusted: nothing proves who it is"),
            AuthMode::Founder | AuthMode::Tls | AuthMode::Token | AuthMode::Key => {
                info!(%region, %auth, "region trusted");
            }
        }
        Ok(Answer::Federated(Federated {
            region: own.region.clone(),
            authority_pem: registry.authority().map(|authority| authority.certificate_pem().to_owned()),
            wide_keys: wide_keys(&ring),
            servers: registry.servers(),
            auth,
        }))
    }

    /// Takes in what a server of another region says of it. Its certificate is of an authority that this region trusts for
    /// that name, or it would have no connection of this plane.
    fn exchange(
        &self,
        connection: &Connection,
        registry: &Arc<dyn Registry>,
        abroad: Abroad,
    ) -> Result<Answer, Refusal> {
        let own = &self.config.identity.region;
        let speaks_for_it = matches!(connection.peer(), Peer::Known { identity, .. }
            if identity.role == Role::Server && identity.region == abroad.region);
        if connection.plane() != Plane::Federation || !speaks_for_it || abroad.region == *own {
            return Err(Refusal::CertificateRequired);
        }
        let answer = own_abroad(own.clone(), registry.as_ref()).map_err(|_| Refusal::NotServer)?;
        registry.meet(abroad);
        Ok(Answer::Exchanged(answer))
    }

    fn renew(
        &self,
        connection: &Connection,
        registry: &Arc<dyn Registry>,
        public_key: &[u8],
    ) -> Result<Answer, Refusal> {
        let (peer, Binding::Certificate) = certified(connection, &self.config.identity)? else {
            return Err(Refusal::CertificateRequired);
        };
        let authority = registry.authority().ok_or(Refusal::OwnCertificates)?;
        let issued = self.issue(&authority, peer.clone(), &read_key(public_key)?)?;
        info!(agent = %peer, "certificate renewed");
        let keys = keys_for(registry.as_ref(), peer.role)?;
        Ok(Answer::Renewed(Renewed { issued, keys, regions: registry.regions() }))
    }
}

/// Time since the Unix epoch.
pub(crate) fn unix_time(env: &Env) -> Duration {
    Duration::from_nanos(u64::try_from(env.wall()).unwrap_or(0))
}

/// Issues a certificate; servers get the authority's key with it.
pub(crate) fn issue(
    authority: &Authority,
    identity: Identity,
    key: &PublicKey,
    lifetime: Duration,
    now: Duration,
) -> Result<Issued, transport::ca::AuthorityError> {
    let authority_key_pem = (identity.role == Role::Server).then(|| authority.expose_key_pem());
    let chain_pem = authority.issue(&Leaf::for_agent(identity, lifetime), key, now)?;
    Ok(Issued { chain_pem, authority_pem: authority.certificate_pem().to_owned(), authority_key_pem })
}

fn read_key(bytes: &[u8]) -> Result<PublicKey, Refusal> {
    PublicKey::from_bytes(bytes).map_err(|error| Refusal::Malformed { what: error.to_string() })
}

/// The agent at the other end, if it has a certificate of this region, and how well its id is proven.
fn certified<'a>(connection: &'a Connection, own: &Identity) -> Result<(&'a Identity, Binding), Refusal> {
    match connection.peer() {
        Peer::Known { identity, binding }
            if identity.region == own.region && connection.plane() == Plane::Rpc =>
        {
            Ok((identity, *binding))
        }
        Peer::Known { .. } | Peer::Stranger => Err(Refusal::CertificateRequired),
    }
}

/// Certificates that were made for Nomad carry no id: then the agent's own claim counts, as it does in Nomad.
fn certificate_of(connection: &Connection, own: &Identity, enrol: &Enrol) -> Certificate {
    match connection.peer() {
        Peer::Stranger => Certificate::Missing,
        Peer::Known { identity, .. } => {
            let same = identity.node_id == enrol.node_id && identity.role == enrol.role;
            match same && identity.region == own.region && connection.plane() == Plane::Rpc {
                true => Certificate::Own,
                false => Certificate::Other,
            }
        }
    }
}

fn keys_for(registry: &dyn Registry, role: Role) -> Result<HandedKeys, Refusal> {
    match (registry.keys(), role) {
        (HandedKeys::Server(ring), Role::Server) => Ok(HandedKeys::Server(ring)),
        (HandedKeys::Server(ring), Role::Client) => Ok(HandedKeys::for_client(&ring)),
        (HandedKeys::Client(_), _) => Err(Refusal::NotServer),
    }
}
