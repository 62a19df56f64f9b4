//! What the network in memory adds: links that are slow or cut, and agents that crash, all on paused time.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use transport::{
    Boot, Bound, Closed, Config, DialError, EndpointSecret, Expect, Host, Identity, Inbound, Incoming,
    NodeId, Opened, Plane, RawConfig, Region, RequestError, Role, TokioHost, Transport,
    memory::{Agent, Memory, Network, Switchboard},
};

const DELAY: Duration = Duration::from_millis(10);

struct World {
    links: Arc<Switchboard>,
    network: Network,
}

impl World {
    fn new() -> Self {
        let links = Arc::new(Switchboard::new(DELAY));
        Self { network: Network::new(links.clone(), Arc::new(TokioHost)), links }
    }

    fn start(&self, number: u8, boot: u64) -> Bound<Memory> {
        let region = Region::new("here").unwrap();
        let node_id = NodeId([number; 16]);
        let identity = Identity { role: Role::Server, region, node_id, name: number.to_string() };
        let bind = SocketAddr::from(([10, 0, 0, number], 4647));
        let config =
            Config::check(bind, EndpointSecret::from_bytes([number; 32]), &RawConfig::default()).unwrap();
        self.network.attach(Agent { identity, authority: "ours".into(), boot: Boot(boot), config })
    }
}

async fn connect(one: &Bound<Memory>, other: &mut Bound<Memory>) -> (Opened, Opened) {
    let dialled =
        one.transport.dial(other.transport.local_addr(), Plane::Raft, Expect::Admitted).await.unwrap();
    (dialled, other.acceptor.accept().await.unwrap())
}

fn echo(mut inbound: Inbound) {
    let serve = async move {
        while let Some(incoming) = inbound.next().await {
            if let Incoming::Request(request) = incoming {
                drop(request.reply.send(request.body).await);
            }
        }
    };
    TokioHost.spawn("echo", Box::pin(serve));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test(start_paused = true)]
async fn messages_take_as_long_as_the_link() {
    let world = World::new();
    let (one, mut other) = (world.start(1, 1), world.start(2, 1));
    let (dialled, accepted) = connect(&one, &mut other).await;
    echo(accepted.inbound);
    let asked = Instant::now();
    dialled.connection.request("x".into(), soon()).await.unwrap();
    let took = asked.elapsed();
    assert!((DELAY * 2..DELAY * 3).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_delays_and_a_long_one_ends_the_connection() {
    let world = World::new();
    let (one, mut other) = (world.start(1, 1), world.start(2, 1));
    let (dialled, accepted) = connect(&one, &mut other).await;
    echo(accepted.inbound);
    let (here, there) = (one.transport.local_addr(), other.transport.local_addr());
    world.links.cut(here, there);
    let heal = async {
        sleep(Duration::from_secs(3)).await;
        world.links.heal();
    };
    let asked = Instant::now();
    let (answer, ()) = tokio::join!(dialled.connection.request("x".into(), soon()), heal);
    assert_eq!(answer.unwrap(), "x");
    assert!(asked.elapsed() >= Duration::from_secs(3));

    world.links.part(here, there);
    let cut = Instant::now();
    let answer = dialled.connection.request("y".into(), soon()).await;
    assert_eq!(answer, Err(RequestError::Lost(Closed::TimedOut)));
    let took = cut.elapsed();
    assert!((Duration::from_secs(6)..=Duration::from_secs(13)).contains(&took), "{took:?}");
    assert_eq!(accepted.connection.closed().await, Closed::TimedOut);
    let error = one.transport.dial(there, Plane::Raft, Expect::Admitted).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_peer_is_silent_and_a_restarted_one_noticed_on_contact() {
    let world = World::new();
    let (one, mut other) = (world.start(1, 1), world.start(2, 1));
    let there = other.transport.local_addr();
    let (dialled, _accepted) = connect(&one, &mut other).await;
    world.network.crash(there);
    assert!(other.acceptor.accept().await.is_none());
    let waited = timeout(Duration::from_secs(2), dialled.connection.request("x".into(), soon())).await;
    assert!(waited.is_err(), "a dead host answers nothing");

    let mut again = world.start(2, 2);
    let contact = Instant::now();
    let answer = dialled.connection.request("x".into(), soon()).await;
    assert_eq!(answer, Err(RequestError::Lost(Closed::Restarted)));
    assert!(contact.elapsed() < Duration::from_secs(1));
    let (dialled, accepted) = connect(&one, &mut again).await;
    assert_eq!(dialled.connection.peer_boot(), Boot(2));
    echo(accepted.inbound);
    assert!(dialled.connection.request("x".into(), soon()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_crash_breaks_streams_without_ending_them_cleanly() {
    let world = World::new();
    let (one, mut other) = (world.start(1, 1), world.start(2, 1));
    let (mut dialled, accepted) = connect(&one, &mut other).await;
    let mut stream = accepted.connection.open_stream("log".into(), soon()).await.unwrap();
    stream.write_all(b"half a lo").await.unwrap();
    let Some(Incoming::Stream(mut read)) = dialled.inbound.next().await else {
        panic!("a stream was opened")
    };
    let mut bytes = [0; 9];
    read.read_exact(&mut bytes).await.unwrap();
    let there = other.transport.local_addr();
    world.network.crash(there);
    drop((stream, accepted));
    let crashed = Instant::now();
    assert!(read.read_u8().await.is_err());
    assert!(crashed.elapsed() >= Duration::from_secs(6), "nobody said anything");
    assert_eq!(dialled.connection.closed().await, Closed::TimedOut);
}
