//! What changes nothing, and is logged.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use join::{JoinError, Joined, Occupant, RegionKey, Token};
use model::JoinRole;
use runtime::Instant;
use tracing_subscriber::fmt::MakeWriter;
use transport::{Credentials, Expect, Host, Incoming, NodeId, Opened, Plane, Role, TokioHost, Transport};

use crate::harness::{Agent, HOUR, Net, Plan, identity, node, region, single};

/// What was logged on this thread while it is there; tests in memory run on one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn assert_has(&self, part: &str) {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains(part), "{part:?} is not in the log:\n{text}");
    }
}

fn assert_not_joined(result: Result<Joined, JoinError>, agent: &Agent) {
    assert!(result.is_err(), "{result:?}");
    let kept = agent.files.load(&agent.config.identity, None, TokioHost.unix_time());
    assert!(matches!(kept, Ok(None)), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_used_expired_or_of_another_role_or_region_admit_nobody() {
    let (log, _guard) = Log::start();
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    home.require_token();
    let (used, row) = home.token(&server.env, JoinRole::Client, HOUR);
    let first = Agent::start(&net, Plan::new(Role::Client, 2).with_token(&used));
    first.join(&[server.addr]).await.unwrap();
    let (short, _) = home.token(&server.env, JoinRole::Client, Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (for_server, _) = home.token(&server.env, JoinRole::Server, HOUR);
    let unknown = {
        let new = join::NewToken {
            authority: home.authority.as_ref().unwrap().fingerprint(),
            role: JoinRole::Client,
            region: region("here"),
            description: String::new(),
            lifetime: HOUR,
            now: model::Timestamp(server.env.wall()),
            accessor: row.accessor,
        };
        Token::create(new).unwrap().0
    };
    let before = home.hash();
    let cases = [
        (used, "was used already"),
        (short, "has expired"),
        (for_server.clone(), "is for a server"),
        (unknown, "is not known"),
    ];
    for (number, (token, reason)) in (20..).zip(cases) {
        let joiner = Agent::start(&net, Plan::new(Role::Client, number).with_token(&token));
        let result = joiner.join(&[server.addr]).await;
        let text = result.as_ref().map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert!(text.contains(reason), "{text}");
        assert_not_joined(result, &joiner);
        log.assert_has(reason);
    }
    let mut elsewhere = Plan::new(Role::Server, 30).with_token(&for_server);
    elsewhere.identity.region = region("elsewhere");
    let elsewhere = Agent::start(&net, elsewhere);
    assert_not_joined(elsewhere.join(&[server.addr]).await, &elsewhere);
    let bare = Agent::start(&net, Plan::new(Role::Client, 31).briefly());
    assert_not_joined(bare.join(&[server.addr]).await, &bare);
    log.assert_has("this region demands a token");
    assert_eq!(home.hash(), before, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn another_key_or_none_makes_no_server_and_what_clients_get_is_no_key() {
    let (log, _guard) = Log::start();
    let net = Net::memory();
    let key = RegionKey::generate();
    let (server, home) = single(&net, Plan::new(Role::Server, 1).with_key(&key)).await;
    let before = home.hash();
    let wrong = Agent::start(&net, Plan::new(Role::Server, 2).with_key(&RegionKey::generate()).briefly());
    assert_not_joined(wrong.join(&[server.addr]).await, &wrong);
    log.assert_has("does not prove that it knows the gossip key");
    let bare = Agent::start(&net, Plan::new(Role::Server, 3).briefly());
    assert_not_joined(bare.join(&[server.addr]).await, &bare);
    log.assert_has("servers of this region need its gossip key");

    let client = Agent::start(&net, Plan::new(Role::Client, 4));
    let (joined, _) = client.become_part(&[server.addr]).await.unwrap();
    let packet_key = joined.kept.keys.packet_keys()[0];
    let forged = RegionKey::try_from(packet_key.expose().to_vec()).unwrap();
    let forger = Agent::start(&net, Plan::new(Role::Server, 5).with_key(&forged).briefly());
    assert_not_joined(forger.join(&[server.addr]).await, &forger);
    assert_eq!(home.hash(), before);

    let right = Agent::start(&net, Plan::new(Role::Server, 6).with_key(&key));
    assert_eq!(right.join(&[server.addr]).await.unwrap().kept.auth, join::AuthMode::Key);
    // An agent that has a key does not fall back to trust where it is not known.
    let (open, _) = single(&net, Plan::new(Role::Server, 7)).await;
    let keyed = Agent::start(&net, Plan::new(Role::Client, 8).with_key(&key).briefly());
    assert_not_joined(keyed.join(&[open.addr]).await, &keyed);
}

/// Passes every question on to the region and every answer back, and writes down the questions.
fn relay(
    attacker: &Arc<dyn Transport>,
    opened: Opened,
    to: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Bytes>>>,
) {
    let transport = attacker.clone();
    let task = async move {
        let Opened { connection: _victim, mut inbound } = opened;
        let region = transport.dial(to, Plane::Join, Expect::FirstContact).await.unwrap();
        while let Some(Incoming::Request(request)) = inbound.next().await {
            seen.lock().unwrap().push(request.body.clone());
            let soon = Instant::now() + Duration::from_secs(5);
            let answer = region.connection.request(request.body, soon).await.unwrap();
            drop(request.reply.send(answer).await);
        }
    };
    TokioHost.spawn("relay", Box::pin(task));
}

fn in_between(
    net: &Net,
    credentials: &Credentials,
    to: std::net::SocketAddr,
) -> (std::net::SocketAddr, Arc<Mutex<Vec<Bytes>>>) {
    let mut bound = net.bind(credentials, 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (addr, notes) = (bound.transport.local_addr(), seen.clone());
    let task = async move {
        while let Some(opened) = bound.acceptor.accept().await {
            relay(&bound.transport, opened, to, notes.clone());
        }
    };
    TokioHost.spawn("attacker", Box::pin(task));
    (addr, seen)
}

#[tokio::test(start_paused = true)]
async fn a_man_in_the_middle_gains_nothing_from_a_key_that_he_does_not_have() {
    let net = Net::memory();
    man_in_the_middle(&net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_man_in_the_middle_gains_nothing_from_a_key_that_he_does_not_have() {
    man_in_the_middle(&Net::Quic).await;
}

async fn man_in_the_middle(net: &Net) {
    let key = RegionKey::generate();
    let (server, home) = single(net, Plan::new(Role::Server, 1).with_key(&key)).await;
    let before = home.hash();
    let own = Credentials::provisional(identity(Role::Server, 66), &TokioHost).unwrap();
    let (addr, seen) = in_between(net, &own, server.addr);
    for role in [Role::Server, Role::Client] {
        let number = if role == Role::Server { 2 } else { 3 };
        let joiner = Agent::start(net, Plan::new(role, number).with_key(&key).briefly());
        assert_not_joined(joiner.join(&[addr]).await, &joiner);
    }
    assert!(!seen.lock().unwrap().is_empty(), "he was asked");
    assert_eq!(home.hash(), before);
}

#[tokio::test(start_paused = true)]
async fn a_tokens_secret_is_shown_to_servers_under_its_authority_only() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let (token, row) = home.token(&server.env, JoinRole::Client, HOUR);
    let secret = URL_SAFE_NO_PAD.decode(token.expose().strip_prefix("wfj1.").unwrap()).unwrap();
    let secret = &secret[..24];
    let authority = home.authority.as_ref().unwrap();
    let client = Credentials::issued_by(authority, identity(Role::Client, 66), HOUR, &TokioHost).unwrap();
    let stranger = Credentials::ephemeral(identity(Role::Server, 67), &TokioHost).unwrap();
    let attempt = async |credentials: &Credentials| {
        let (addr, seen) = in_between(&net, credentials, server.addr);
        let joiner = Agent::start(&net, Plan::new(Role::Client, 2).with_token(&token));
        let result = joiner.join(&[addr]).await;
        let seen = seen.lock().unwrap();
        assert!(
            seen.iter().all(|frame| !frame.windows(24).any(|part| part == secret)),
            "the secret was shown"
        );
        (result, joiner, seen.len())
    };
    let (result, joiner, asked) = attempt(&stranger).await;
    assert_not_joined(result, &joiner);
    assert_eq!(asked, 0, "not even the first question");
    assert!(home.store.lock().unwrap().state().join_token(row.accessor).unwrap().used.is_none());
    // A client may only say where the servers are; the secret goes there directly.
    let (result, _, asked) = attempt(&client).await;
    assert!(result.is_ok() && asked > 0, "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_the_id_of_an_agent_that_is_known() {
    let (log, _guard) = Log::start();
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    home.occupants.lock().unwrap().extend([(node(2), Occupant::Gone), (node(3), Occupant::Alive)]);
    for number in [2, 3] {
        let thief = Agent::start(&net, Plan::new(Role::Client, number).briefly());
        assert_not_joined(thief.join(&[server.addr]).await, &thief);
    }
    log.assert_has("is known with another certificate");
    log.assert_has("is in use by an agent that is alive");
    let mut namesake = Plan::new(Role::Server, 4).briefly();
    namesake.identity.name = "a1".into();
    let namesake = Agent::start(&net, namesake);
    assert_not_joined(namesake.join(&[server.addr]).await, &namesake);
    log.assert_has("choose another name");
}

#[tokio::test(start_paused = true)]
async fn rubbish_and_questions_without_a_certificate_are_refused_and_the_service_lives() {
    let (log, _guard) = Log::start();
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let before = home.hash();
    let stranger = Agent::start(&net, Plan::new(Role::Client, 2));
    let opened = stranger.transport.dial(server.addr, Plane::Join, Expect::FirstContact).await.unwrap();
    let soon = || Instant::now() + Duration::from_secs(5);
    let refused = |answer: Bytes| answer.starts_with(b"wfj\x01");
    // Renew and Keys, as their numbers on the wire, then what is no message at all.
    let mut renew = b"wfj\x01\x00\x04\x41\x04".to_vec();
    renew.extend([7; 64]);
    for body in
        [renew, b"wfj\x01\x00\x05".to_vec(), b"wfj\x01\x00\xff".to_vec(), vec![0; 100_000], Vec::new()]
    {
        let answer = opened.connection.request(body.into(), soon()).await.unwrap();
        assert!(refused(answer));
    }
    log.assert_has("that takes a certificate of this region");
    log.assert_has("the question can not be read");
    assert_eq!(home.hash(), before);
    for _ in 0..400 {
        let answer = opened.connection.request(b"rubbish".as_slice().into(), soon()).await.unwrap();
        assert!(refused(answer));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(stranger.join(&[server.addr]).await.is_ok(), "the address may ask again after a while");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_the_region_makes_nobody_else_of_its_holder() {
    let (log, _guard) = Log::start();
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 2));
    let (joined, _) = client.become_part(&[server.addr]).await.unwrap();
    let before = home.hash();
    // The same endpoint, with the client's certificate, asks to be server 3.
    let mut config = (*client.config).clone();
    config.identity = identity(Role::Server, 3);
    config.retry.max = 2;
    let own = Some(joined.kept.credentials.clone());
    let files = join::Files::open(client.dir.path()).unwrap();
    let (env, transport) = (client.env.clone(), client.transport.clone());
    let joiner = join::Joiner::new(env, Arc::new(config), transport, client.service.clone(), files, own);
    let result = joiner.run(vec![server.addr.to_string()]).await;
    assert!(matches!(result, Err(JoinError::GivenUp { .. })), "{result:?}");
    log.assert_has("that takes a certificate of this region");
    assert_eq!(home.hash(), before);
    assert!(client.dials(&server, Plane::Raft).await.is_err());
    assert_ne!(client.config.identity.node_id, NodeId([3; 16]));
}
