//! Nodes and their sessions, while servers come and go.

use std::time::Duration;

use bytes::Bytes;
use harness::{Cluster, Net, until};
use model::{Capacity, Node, NodeId, NodeResources, NodeStatus, Text, Timestamp};
use protocol::{
    Command, Named, NodeStatusUpdate, decode, encode,
    session::{ClientMessage, ServerMessage},
};
use runtime::{Env, Shutdown};
use server::GossipWord;
use transport::{
    Connection, Expect, Plane, Role, StreamReader, StreamWriter, Transport,
    framed::{FrameReader, FrameWriter},
};
use uuid::Uuid;

use crate::harness;

const NODE: u8 = 50;

/// A client that does nothing but hold a session, and answers that it serves nothing.
struct Client {
    connection: Connection,
    reader: FrameReader<StreamReader>,
    _writer: FrameWriter<StreamWriter>,
}

impl Client {
    async fn open(cluster: &Cluster, transport: &std::sync::Arc<dyn Transport>, server: u8) -> Self {
        let opened =
            transport.dial(cluster.addr(server), Plane::Node, Expect::Admitted).await.expect("it is there");
        let until = Env::real(Shutdown::new()).now() + Duration::from_secs(5);
        let header = Bytes::from_static(b"session/1");
        let stream = opened.connection.open_stream(header, until).await.expect("it is taken");
        let (reader, writer) = stream.into_split();
        let mut client = Self {
            connection: opened.connection,
            reader: FrameReader::new(reader, 1 << 20),
            _writer: FrameWriter::new(writer, 1 << 20),
        };
        let hello = ClientMessage::Hello { node: Named(Box::new(node())), allocs: Vec::new() };
        client._writer.send(encode(&hello)).await.expect("the server reads");
        client
    }

    async fn welcomed(&mut self) {
        let frame = self.reader.next().await.expect("the session lives").expect("the server speaks");
        let message: ServerMessage = decode(&frame).expect("it is a message");
        assert!(matches!(message, ServerMessage::Welcome { .. }), "{message:?}");
    }
}

fn node() -> Node {
    Node {
        id: node_id(),
        secret_id: Uuid::from_u128(7),
        name: "node".into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: Text::default(),
        http_addr: "127.0.0.1:4646".into(),
        attributes: Default::default(),
        meta: Default::default(),
        links: Default::default(),
        drivers: Default::default(),
        resources: NodeResources::default(),
        reserved: Capacity::default(),
        reserved_ports: Text::default(),
        host_volumes: Default::default(),
        host_networks: Default::default(),
        cgroup_parent: Text::default(),
        max_allocs: 0,
        computed_class: Text::default(),
        status: NodeStatus::Initializing,
        status_description: Text::default(),
        status_updated_at: Timestamp::default(),
        eligible: true,
        drain: None,
        last_drain: None,
        events: Vec::new(),
        tls_enabled: false,
        last_alloc_update_index: 0,
        last_missed_heartbeat_index: 0,
        create_index: 0,
        modify_index: 0,
    }
}

fn node_id() -> NodeId {
    transport::NodeId([NODE; 16]).to_string().parse().expect("it is an id")
}

fn status(cluster: &Cluster, number: u8) -> Option<NodeStatus> {
    cluster.server(number).snapshot().node(node_id()).map(|node| node.status)
}

async fn say(cluster: &Cluster, word: GossipWord) {
    for running in cluster.running.values() {
        running.server.hear_gossip(node_id(), word).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_follower_outlives_the_leader_and_the_node_is_never_down() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let (transport, _acceptor) = cluster.net.attach(Role::Client, NODE, 1, any);
    let leader = cluster.leader().await;
    let [holder, other] = cluster.followers().await[..] else { panic!("there are two") };
    let mut client = Client::open(&cluster, &transport, holder).await;
    client.welcomed().await;
    assert_eq!(status(&cluster, holder), Some(NodeStatus::Ready));
    cluster.kill(leader).await;
    cluster.leader().await;
    let env = Env::real(Shutdown::new());
    // Gossip may say what it likes while a server holds the session and the node answers.
    say(&cluster, GossipWord::Dead).await;
    env.sleep(Duration::from_secs(4)).await;
    assert_eq!(status(&cluster, other), Some(NodeStatus::Ready));
    assert!(client.connection.close_reason().is_none(), "the session goes on");
    say(&cluster, GossipWord::Alive).await;

    // Its server dies too: it goes to another one.
    cluster.start(leader).await.expect("it starts");
    cluster.kill(holder).await;
    let mut client = Client::open(&cluster, &transport, other).await;
    client.welcomed().await;
    env.sleep(Duration::from_secs(4)).await;
    assert_eq!(status(&cluster, other), Some(NodeStatus::Ready));
    let record = cluster.server(other).snapshot().node(node_id()).cloned().expect("it is there");
    assert!(
        record.events.iter().all(|event| event.message != "Node heartbeat missed"),
        "{:?}",
        record.events
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_down_soon_when_both_signals_say_so_and_ready_when_it_returns() {
    let cluster = Cluster::of_three(Net::memory()).await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let (transport, _acceptor) = cluster.net.attach(Role::Client, NODE, 1, any);
    let holder = cluster.followers().await[0];
    let leader = cluster.leader().await;
    let mut client = Client::open(&cluster, &transport, holder).await;
    client.welcomed().await;
    let here = transport.local_addr();
    let Net::Memory(_, links) = &cluster.net else { panic!("it is in memory") };
    for number in cluster.running.keys() {
        links.part(here, cluster.addr(*number));
    }
    let env = Env::real(Shutdown::new());
    let cut = env.now();
    say(&cluster, GossipWord::Dead).await;
    until("it is down", || status(&cluster, leader) == Some(NodeStatus::Down)).await;
    let took = env.now().saturating_duration_since(cut);
    println!("down {took:?} after gossip said so");
    // The grace counts from when the node was last heard, which is up to a ping before the cut.
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    links.heal();
    say(&cluster, GossipWord::Alive).await;
    let mut client = Client::open(&cluster, &transport, leader).await;
    client.welcomed().await;
    assert_eq!(status(&cluster, leader), Some(NodeStatus::Ready));
    cluster.stop().await;
}

/// A node that comes back from being given up has to say anew what it runs, and a session that goes on would not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_its_node_was_counted_as_gone_meanwhile() {
    let cluster = Cluster::of_three(Net::memory()).await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let (transport, _acceptor) = cluster.net.attach(Role::Client, NODE, 1, any);
    let holder = cluster.followers().await[0];
    let mut client = Client::open(&cluster, &transport, holder).await;
    client.welcomed().await;
    let gone = NodeStatusUpdate { node_id: node_id(), status: NodeStatus::Disconnected, event: None };
    let update = Command::UpdateNodeStatus { updates: vec![gone], evals: Vec::new(), now: Timestamp::ZERO };
    cluster.server(holder).submit(&update).await.expect("there is a leader");
    until("the session has ended", || client.connection.close_reason().is_some()).await;
    let mut client = Client::open(&cluster, &transport, holder).await;
    client.welcomed().await;
    until("it counts again", || status(&cluster, holder) == Some(NodeStatus::Ready)).await;
    assert!(client.connection.close_reason().is_none(), "the new session goes on");
    cluster.stop().await;
}
