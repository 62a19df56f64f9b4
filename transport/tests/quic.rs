//! What only real QUIC shows: certificates that are missing, forged, expired or replaced, and agents that are killed.

#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as WallInstant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    runtime::Runtime,
    time::{Instant, timeout},
};
use transport::{
    Boot, Bound, Closed, Config, Connection, Credentials, DialError, EndpointSecret, Expect, Files, Host,
    Identity, Inbound, Incoming, NodeId, Plane, RawConfig, Region, RequestError, Role, Scope, TokioHost,
    Transport,
    ca::{Authority, Leaf, LeafKey},
    quic::Quic,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn region() -> Region {
    Region::new("here").unwrap()
}

fn identity(role: Role, number: u8) -> Identity {
    Identity { role, region: region(), node_id: NodeId([number; 16]), name: format!("agent-{number}") }
}

fn authority() -> Authority {
    Authority::make(region(), HOUR * 24, TokioHost.unix_time()).unwrap()
}

fn credentials(authority: &Authority, role: Role, number: u8) -> Credentials {
    Credentials::issued_by(authority, identity(role, number), HOUR, &TokioHost).unwrap()
}

fn config(bind: SocketAddr, raw: &RawConfig) -> Config {
    Config::check(bind, EndpointSecret::from_bytes([5; 32]), raw).unwrap()
}

fn start_at(bind: SocketAddr, credentials: &Credentials, boot: u64, raw: &RawConfig) -> Bound<Quic> {
    Quic::bind(config(bind, raw), credentials, Boot(boot), Arc::new(TokioHost)).unwrap()
}

fn start(credentials: &Credentials) -> Bound<Quic> {
    start_at(SocketAddr::from(([127, 0, 0, 1], 0)), credentials, 1, &RawConfig::default())
}

async fn echo(mut inbound: Inbound) {
    while let Some(incoming) = inbound.next().await {
        if let Incoming::Request(request) = incoming {
            drop(request.reply.send(request.body).await);
        }
    }
}

fn echo_all(bound: Bound<Quic>) -> Arc<Quic> {
    let Bound { transport, mut acceptor } = bound;
    let accept = async move {
        while let Some(opened) = acceptor.accept().await {
            TokioHost.spawn("echo", Box::pin(echo(opened.inbound)));
        }
    };
    TokioHost.spawn("accept", Box::pin(accept));
    transport
}

async fn asks(connection: &Connection) -> Result<Bytes, RequestError> {
    connection.request("ping".into(), soon()).await
}

/// A server in a runtime of its own, so that it can be killed without a word.
fn server_in_its_own_runtime(
    bind: SocketAddr,
    credentials: &Credentials,
    boot: u64,
) -> (Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let addr = runtime.block_on(async {
        let transport = echo_all(start_at(bind, credentials, boot, &RawConfig::default()));
        let addr = transport.local_addr();
        let hold = async move {
            std::future::pending::<()>().await;
            drop(transport);
        };
        TokioHost.spawn("hold", Box::pin(hold));
        addr
    });
    (runtime, addr)
}

#[test]
fn a_killed_and_restarted_server_is_noticed_at_once() {
    let authority = authority();
    let server = credentials(&authority, Role::Server, 1);
    let (first, addr) = server_in_its_own_runtime(SocketAddr::from(([127, 0, 0, 1], 0)), &server, 1);
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (bound, opened) = client.block_on(async {
        let bound = start(&credentials(&authority, Role::Client, 2));
        let opened = bound.transport.dial(addr, Plane::Node, Expect::Admitted).await.unwrap();
        assert!(asks(&opened.connection).await.is_ok());
        (bound, opened)
    });
    first.shutdown_timeout(Duration::from_secs(5));
    assert!(opened.connection.close_reason().is_none(), "nothing was said");
    let (_second, again) = server_in_its_own_runtime(addr, &server, 2);
    assert_eq!(addr, again);
    client.block_on(async {
        let restarted = WallTime::start();
        let answer = asks(&opened.connection).await;
        assert_eq!(answer, Err(RequestError::Lost(Closed::Restarted)));
        let opened = bound.transport.dial(addr, Plane::Node, Expect::Admitted).await.unwrap();
        assert_eq!(opened.connection.peer_boot(), Boot(2));
        assert!(asks(&opened.connection).await.is_ok());
        assert!(restarted.elapsed() < Duration::from_secs(1), "took {:?}", restarted.elapsed());
    });
}

#[test]
fn whoever_awaits_an_answer_learns_that_the_process_is_gone() {
    let authority = authority();
    let server = credentials(&authority, Role::Server, 1);
    let (first, addr) = server_in_its_own_runtime(SocketAddr::from(([127, 0, 0, 1], 0)), &server, 1);
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_bound, asked, other) = client.block_on(async {
        let bound = start(&credentials(&authority, Role::Client, 2));
        let asked = bound.transport.dial(addr, Plane::Node, Expect::Admitted).await.unwrap();
        let other = bound.transport.dial(addr, Plane::Rpc, Expect::Admitted).await.unwrap();
        assert!(!bound.transport.is_closed(addr).await, "it listens");
        (bound, asked, other)
    });
    first.shutdown_timeout(Duration::from_secs(5));
    client.block_on(async {
        let answer = asks(&asked.connection).await;
        assert_eq!(answer, Err(RequestError::Lost(Closed::Vanished)), "long before the idle timeout");
        let closed = timeout(Duration::from_secs(5), other.connection.closed()).await.unwrap();
        assert_eq!(closed, Closed::Vanished, "the other connection to it ends with that");
    });
}

struct WallTime(WallInstant);

impl WallTime {
    fn start() -> Self {
        #[allow(clippy::disallowed_methods)]
        Self(WallInstant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[tokio::test]
async fn a_silent_peer_is_lost_after_the_idle_timeout() {
    let authority = authority();
    let server = credentials(&authority, Role::Server, 1);
    // A runtime may not be entered from within another one.
    let start_server = move || server_in_its_own_runtime(SocketAddr::from(([127, 0, 0, 1], 0)), &server, 1);
    let (runtime, addr) = tokio::task::spawn_blocking(start_server).await.unwrap();
    let raw = RawConfig { idle_timeout: Some(Duration::from_secs(1)), ..RawConfig::default() };
    let client =
        start_at(SocketAddr::from(([127, 0, 0, 1], 0)), &credentials(&authority, Role::Client, 2), 1, &raw);
    let opened = client.transport.dial(addr, Plane::Node, Expect::Admitted).await.unwrap();
    // Keepalives hold it open while the peer lives.
    assert!(timeout(Duration::from_millis(1_500), opened.connection.closed()).await.is_err());
    runtime.shutdown_background();
    let closed = timeout(Duration::from_secs(4), opened.connection.closed()).await.unwrap();
    assert_eq!(closed, Closed::TimedOut);
}

#[tokio::test]
async fn certificates_are_replaced_under_a_live_session() {
    let (old, new) = (authority(), authority());
    let trusting_both = |own: &Authority, other: &Authority, number| {
        let scope = Scope::Region(region());
        credentials(own, Role::Server, number).trusting(scope, other.certificate_pem()).unwrap()
    };
    let listener = echo_all(start(&trusting_both(&old, &new, 1)));
    let dialler = start(&trusting_both(&old, &new, 2)).transport;
    let dial = || dialler.dial(listener.local_addr(), Plane::Raft, Expect::Admitted);
    let before = dial().await.unwrap();
    let shown = before.connection.peer_certificates();

    listener.reload(&trusting_both(&new, &old, 1)).unwrap();
    assert!(asks(&before.connection).await.is_ok());
    let between = dial().await.unwrap();
    assert_ne!(between.connection.peer_certificates(), shown);

    // The old authority is dropped on both sides: whoever has not rotated is out, whoever is connected stays.
    dialler.reload(&credentials(&new, Role::Server, 2)).unwrap();
    listener.reload(&credentials(&new, Role::Server, 1)).unwrap();
    let after = dial().await.unwrap();
    for connection in [&before.connection, &between.connection, &after.connection] {
        assert!(asks(connection).await.is_ok());
    }
    let late = start(&credentials(&old, Role::Server, 3)).transport;
    assert!(late.dial(listener.local_addr(), Plane::Raft, Expect::Admitted).await.is_err());
    let other_agent = listener.reload(&credentials(&new, Role::Server, 9));
    assert!(other_agent.is_err());
}

/// A clock that is wrong by a fixed time.
#[derive(Debug)]
struct Skewed(Duration);

impl Host for Skewed {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        TokioHost.spawn(name, task);
    }

    fn unix_time(&self) -> Duration {
        TokioHost.unix_time() + self.0
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_clock_of_the_agent() {
    let authority = authority();
    let server = credentials(&authority, Role::Server, 1);
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let ahead = Arc::new(Skewed(HOUR * 2));
    let listener = Quic::bind(config(bind, &RawConfig::default()), &server, Boot(1), ahead).unwrap();
    let dialler = start(&credentials(&authority, Role::Server, 2)).transport;
    let error =
        dialler.dial(listener.transport.local_addr(), Plane::Raft, Expect::Admitted).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake(_)), "{error:?}");
    assert!(error.to_string().contains("xpired"), "{error}");
}

#[tokio::test]
async fn a_node_may_not_claim_the_id_of_another() {
    let authority = authority();
    let mut listener = start(&credentials(&authority, Role::Server, 1));
    // Only checked credentials can be built, so the lie needs a certificate of two different ids.
    let key = LeafKey::generate().unwrap();
    let leaf = Leaf::for_agent(identity(Role::Client, 2), HOUR);
    let now = TokioHost.unix_time();
    let chain = authority.issue(&leaf, &key.public(), now).unwrap();
    let trust =
        || transport::Authorities::none().trust_pem(Scope::AnyRegion, authority.certificate_pem()).unwrap();
    for lie in [identity(Role::Client, 3), identity(Role::Server, 2)] {
        assert!(Credentials::from_pem(lie, trust(), &chain, &key.expose_pem(), now).is_err());
    }
    let honest =
        Credentials::from_pem(identity(Role::Client, 2), trust(), &chain, &key.expose_pem(), now).unwrap();
    let dialler = start(&honest).transport;
    let opened = dialler.dial(listener.transport.local_addr(), Plane::Node, Expect::Admitted).await;
    assert!(opened.is_ok());
    let accepted = listener.acceptor.accept().await.unwrap();
    assert_eq!(accepted.connection.peer().identity().unwrap().node_id, NodeId([2; 16]));
}

#[tokio::test]
async fn an_authority_of_one_region_can_not_speak_for_another() {
    let (ours, theirs) = (authority(), authority());
    // Another region's authority certifies an agent as one of our region.
    let forger =
        credentials(&theirs, Role::Server, 2).trusting(Scope::AnyRegion, ours.certificate_pem()).unwrap();
    let forger = start(&forger).transport;
    let scopes = [(Scope::Region(Region::new("elsewhere").unwrap()), false), (Scope::Region(region()), true)];
    for (scope, admitted) in scopes {
        let trusting = credentials(&ours, Role::Server, 1).trusting(scope, theirs.certificate_pem()).unwrap();
        let listener = echo_all(start(&trusting));
        let dialled = forger.dial(listener.local_addr(), Plane::Raft, Expect::Admitted).await;
        assert_eq!(dialled.is_ok(), admitted, "{dialled:?}");
    }
}

#[tokio::test]
async fn users_bring_their_own_files() {
    let authority = authority();
    let key = LeafKey::generate().unwrap();
    let now = TokioHost.unix_time();
    let chain =
        authority.issue(&Leaf::for_agent(identity(Role::Server, 1), HOUR), &key.public(), now).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("ca.pem"), authority.certificate_pem()).unwrap();
    std::fs::write(path("agent.pem"), chain).unwrap();
    std::fs::write(path("agent-key.pem"), key.expose_pem()).unwrap();
    let (ca, certificate, own_key) = (path("ca.pem"), path("agent.pem"), path("agent-key.pem"));
    let files = Files { ca: &ca, certificate: &certificate, key: &own_key };
    let own = Credentials::from_files(identity(Role::Server, 1), &files, now).unwrap();
    let listener = echo_all(start(&own));
    let dialler = start(&credentials(&authority, Role::Client, 2)).transport;
    assert!(dialler.dial(listener.local_addr(), Plane::Rpc, Expect::Admitted).await.is_ok());

    let missing = Files { ca: &certificate, certificate: &path("nothing.pem"), key: &own_key };
    let error = Credentials::from_files(identity(Role::Server, 1), &missing, now).unwrap_err();
    assert!(error.to_string().contains("nothing.pem"), "{error}");
    let swapped = Files { ca: &ca, certificate: &certificate, key: &ca };
    assert!(Credentials::from_files(identity(Role::Server, 1), &swapped, now).is_err());
}

#[tokio::test]
async fn a_dev_agent_needs_no_files() {
    let own = Credentials::ephemeral(identity(Role::Server, 1), &TokioHost).unwrap();
    let agent = echo_all(start(&own));
    let opened = agent.dial(agent.local_addr(), Plane::Node, Expect::Admitted).await.unwrap();
    assert!(asks(&opened.connection).await.is_ok());
    assert!(!format!("{own:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn rubbish_on_the_port_harms_nobody() {
    let authority = authority();
    let listener = echo_all(start(&credentials(&authority, Role::Server, 1)));
    let dialler = start(&credentials(&authority, Role::Client, 2)).transport;
    let opened = dialler.dial(listener.local_addr(), Plane::Node, Expect::Admitted).await.unwrap();
    let attacker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for index in 0..2_000_u32 {
        let mut packet = vec![0xc0 | (index % 16) as u8, 0, 0, 0, 1, 8];
        packet.extend((0..index % 1_400).map(|byte| (byte * 31 + index) as u8));
        attacker.send_to(&packet, listener.local_addr()).await.unwrap();
    }
    assert!(asks(&opened.connection).await.is_ok());
    assert!(dialler.dial(listener.local_addr(), Plane::Rpc, Expect::Admitted).await.is_ok());
}
