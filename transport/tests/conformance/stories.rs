use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use transport::{
    Acceptor, Binding, Boot, CloseCode, Closed, ClusterId, Connection, DialError, Expect, Host, Inbound,
    Incoming, NodeId, Opened, Peer, Peers, Plane, Refusal, Request, RequestError, Role, Stream, TokioHost,
    Transport, peers,
};

use crate::nets::{Agent, Net, authority, issued};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Two agents with a connection: the dialler's half, then the listener's.
async fn connected(net: &dyn Net, plane: Plane) -> (Opened, Opened, Arc<dyn Transport>, Arc<dyn Transport>) {
    connected_as(net, plane, &Agent::server(1), &Agent::server(2)).await
}

async fn connected_as(
    net: &dyn Net,
    plane: Plane,
    dialler: &Agent,
    listener: &Agent,
) -> (Opened, Opened, Arc<dyn Transport>, Arc<dyn Transport>) {
    let dialler = net.start(dialler);
    let mut listener = net.start(listener);
    let addr = listener.transport.local_addr();
    let dialled = dialler.transport.dial(addr, plane, Expect::Admitted).await.unwrap();
    let accepted = listener.acceptor.accept().await.unwrap();
    // The acceptor lives as long as the test, or later diallers would be turned away.
    spawn(async move { while listener.acceptor.accept().await.is_some() {} });
    (dialled, accepted, dialler.transport, listener.transport)
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    TokioHost.spawn("test", Box::pin(task));
}

/// Answers each request with what it asked.
fn echo(mut inbound: Inbound) {
    spawn(async move {
        while let Some(incoming) = inbound.next().await {
            if let Incoming::Request(Request { body, reply, .. }) = incoming {
                spawn(async move { drop(reply.send(body).await) });
            }
        }
    });
}

async fn next_request(inbound: &mut Inbound) -> Request {
    match inbound.next().await {
        Some(Incoming::Request(request)) => request,
        other => panic!("expected a request, got {other:?}"),
    }
}

async fn next_stream(inbound: &mut Inbound) -> Stream {
    match inbound.next().await {
        Some(Incoming::Stream(stream)) => stream,
        other => panic!("expected a stream, got {other:?}"),
    }
}

pub async fn both_ends_know_each_other(net: &dyn Net) {
    let (client, server) = (Agent::client(1), Agent::server(2));
    let (dialled, accepted, ..) = connected_as(net, Plane::Node, &client, &server).await;
    let known =
        |agent: &Agent| Peer::Known { identity: agent.identity.clone(), binding: Binding::Certificate };
    assert_eq!(dialled.connection.peer(), &known(&server));
    assert_eq!(accepted.connection.peer(), &known(&client));
    assert_eq!(dialled.connection.plane(), Plane::Node);
    assert_eq!(accepted.connection.plane(), Plane::Node);
    assert_eq!(accepted.connection.peer_boot(), Boot(1));
    assert_eq!(dialled.connection.channel_binding(), accepted.connection.channel_binding());
}

pub async fn requests_run_at_once_in_both_directions(net: &dyn Net) {
    let (dialled, accepted, ..) = connected(net, Plane::Raft).await;
    echo(dialled.inbound);
    echo(accepted.inbound);
    let ask = |connection: Connection, base: usize| async move {
        let asks = (0..400).map(|index| {
            let connection = connection.clone();
            async move {
                let body = Bytes::from(vec![(base + index) as u8; index * 97]);
                assert_eq!(connection.request(body.clone(), soon()).await.unwrap(), body);
            }
        });
        futures_util::future::join_all(asks).await;
    };
    tokio::join!(ask(dialled.connection, 0), ask(accepted.connection, 7));
}

pub async fn an_expired_request_is_cancelled_at_the_peer(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Rpc).await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let (answer, ()) = tokio::join!(dialled.connection.request("slow".into(), deadline), async {
        let mut request = next_request(&mut accepted.inbound).await;
        assert!(request.deadline <= Instant::now() + Duration::from_millis(300));
        timeout(Duration::from_secs(5), request.reply.cancelled()).await.expect("the caller gave up");
    });
    assert_eq!(answer, Err(RequestError::DeadlineExceeded));
    assert!(Instant::now() >= deadline);
}

pub async fn a_dropped_request_is_cancelled_at_the_peer(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Rpc).await;
    let asked = timeout(Duration::from_millis(200), dialled.connection.request("slow".into(), soon())).await;
    assert!(asked.is_err());
    let mut request = next_request(&mut accepted.inbound).await;
    timeout(Duration::from_secs(5), request.reply.cancelled()).await.expect("the caller is gone");
    // The connection is none the worse for it.
    request.reply.send("late".into()).await.unwrap();
    echo(accepted.inbound);
    assert_eq!(dialled.connection.request("next".into(), soon()).await.unwrap(), "next");
}

pub async fn requests_without_a_server_say_so(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Rpc).await;
    let asking = dialled.connection.clone();
    let (answer, ()) = tokio::join!(asking.request("drop me".into(), soon()), async {
        drop(next_request(&mut accepted.inbound).await);
    });
    assert_eq!(answer, Err(RequestError::Abandoned));
    let (answer, ()) = tokio::join!(asking.request("fail me".into(), soon()), async {
        next_request(&mut accepted.inbound).await.reply.fail("on purpose");
    });
    assert_eq!(answer, Err(RequestError::Failed { message: "on purpose".into() }));
    drop(accepted.inbound);
    let answer = asking.request("anybody?".into(), soon()).await;
    assert_eq!(answer, Err(RequestError::NotServed));
    assert!(!RequestError::NotServed.may_have_run());
}

pub async fn a_peer_with_too_much_at_hand_is_busy(net: &dyn Net) {
    let mut server = Agent::server(2);
    server.raw.requests_max = Some(2);
    let (dialled, mut accepted, ..) = connected_as(net, Plane::Rpc, &Agent::server(1), &server).await;
    let connection = dialled.connection;
    let mut held = Vec::new();
    for _ in 0..2 {
        // The caller gives up and frees its place here; the handler there goes on.
        let deadline = Instant::now() + Duration::from_millis(200);
        let asking = connection.request("hold".into(), deadline);
        let (answer, request) = tokio::join!(asking, next_request(&mut accepted.inbound));
        assert_eq!(answer, Err(RequestError::DeadlineExceeded));
        held.push(request);
    }
    assert_eq!(connection.request("third".into(), soon()).await, Err(RequestError::Busy));
    held.clear();
    echo(accepted.inbound);
    assert_eq!(connection.request("fourth".into(), soon()).await.unwrap(), "fourth");
}

pub async fn bodies_over_the_limit_are_refused(net: &dyn Net) {
    let mut server = Agent::server(2);
    server.raw.request_size_max = Some(10_000);
    let (dialled, mut accepted, ..) = connected_as(net, Plane::Rpc, &Agent::server(1), &server).await;
    let answer = dialled.connection.request(vec![0; 10_001].into(), soon()).await;
    assert_eq!(answer, Err(RequestError::TooLarge { len: 10_001, max: 10_000 }));
    let (answer, ()) = tokio::join!(dialled.connection.request(vec![1; 10_000].into(), soon()), async {
        let request = next_request(&mut accepted.inbound).await;
        assert_eq!(request.body.len(), 10_000);
        // The dialler takes more than the listener does.
        request.reply.send(vec![2; 1_000_000].into()).await.unwrap();
    });
    assert_eq!(answer.unwrap().len(), 1_000_000);
}

pub async fn a_big_stream_arrives_whole(net: &dyn Net) {
    const LEN: usize = 24 * 1024 * 1024;
    let (dialled, mut accepted, ..) = connected(net, Plane::Raft).await;
    let mut stream = dialled.connection.open_stream("snapshot 7".into(), soon()).await.unwrap();
    let send = async move {
        let chunk: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
        for _ in 0..LEN / chunk.len() {
            stream.write_all(&chunk).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "got it");
    };
    let receive = async move {
        let mut stream = next_stream(&mut accepted.inbound).await;
        assert_eq!(stream.header(), "snapshot 7");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), LEN);
        assert!(
            bytes.chunks(1 << 20).all(|chunk| chunk.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8))
        );
        stream.write_all(b"got it").await.unwrap();
        stream.shutdown().await.unwrap();
        accepted
    };
    tokio::join!(send, receive);
}

pub async fn servers_open_streams_back(net: &dyn Net) {
    let (client, server) = (Agent::client(1), Agent::server(2));
    let (mut dialled, accepted, ..) = connected_as(net, Plane::Node, &client, &server).await;
    let mut there = accepted.connection.open_stream("logs".into(), soon()).await.unwrap();
    let mut here = next_stream(&mut dialled.inbound).await;
    assert_eq!(here.header(), "logs");
    here.write_all(b"line one\n").await.unwrap();
    here.shutdown().await.unwrap();
    let mut text = String::new();
    there.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "line one\n");
}

pub async fn a_stream_dropped_early_is_broken(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Raft).await;
    let mut stream = dialled.connection.open_stream("half".into(), soon()).await.unwrap();
    stream.write_all(b"only a part").await.unwrap();
    let mut other = next_stream(&mut accepted.inbound).await;
    drop(stream);
    let mut bytes = Vec::new();
    assert!(other.read_to_end(&mut bytes).await.is_err());
}

pub async fn a_stalled_stream_delays_no_request(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Raft).await;
    let mut stream = dialled.connection.open_stream("nobody reads".into(), soon()).await.unwrap();
    let unread = next_stream(&mut accepted.inbound).await;
    let fill = async { while stream.write_all(&[0; 65_536]).await.is_ok() {} };
    let filled = timeout(Duration::from_millis(500), fill).await;
    assert!(filled.is_err(), "a reader that sleeps stops its writer");
    echo(accepted.inbound);
    assert_eq!(dialled.connection.request("through".into(), soon()).await.unwrap(), "through");
    drop(unread);
}

pub async fn datagrams_arrive(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Node).await;
    assert!(dialled.connection.datagram_max() >= 1_000);
    assert!(dialled.connection.send_datagram(vec![0; 70_000].into()).is_err());
    let send = async {
        // Datagrams may be lost: say it until it is heard.
        loop {
            dialled.connection.send_datagram("hello".into()).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let receive = accepted.inbound.next();
    tokio::select! {
        _ = send => {}
        incoming = receive => match incoming {
            Some(Incoming::Datagram(datagram)) => assert_eq!(datagram, "hello"),
            other => panic!("expected a datagram, got {other:?}"),
        }
    }
}

pub async fn closing_tells_the_peer(net: &dyn Net) {
    let (dialled, mut accepted, ..) = connected(net, Plane::Rpc).await;
    let asking = dialled.connection.clone();
    let (answer, ()) = tokio::join!(asking.request("never answered".into(), soon()), async {
        let _request = next_request(&mut accepted.inbound).await;
        accepted.connection.close(CloseCode::Superseded, "for a better one");
    });
    let closed = Closed::ByPeer { code: CloseCode::Superseded, reason: "for a better one".into() };
    assert_eq!(answer, Err(RequestError::Lost(closed.clone())));
    assert_eq!(dialled.connection.closed().await, closed);
    assert!(matches!(accepted.connection.close_reason(), Some(Closed::ByUs { .. })));
    assert!(accepted.inbound.next().await.is_none());
    let late = asking.request("late".into(), soon()).await;
    assert_eq!(late, Err(RequestError::Ended(closed)));
}

pub async fn unused_connections_are_closed(net: &dyn Net) {
    let (dialled, accepted, ..) = connected(net, Plane::Rpc).await;
    let Opened { connection, inbound } = dialled;
    let stream = connection.open_stream("keeps it open".into(), soon()).await.unwrap();
    drop((connection, inbound));
    let ended = timeout(Duration::from_millis(300), accepted.connection.closed()).await;
    assert!(ended.is_err(), "a stream keeps its connection");
    drop(stream);
    let closed = timeout(Duration::from_secs(5), accepted.connection.closed()).await.unwrap();
    assert!(matches!(closed, Closed::ByPeer { code: CloseCode::Done, .. }), "{closed:?}");
}

pub async fn a_client_may_not_speak_raft(net: &dyn Net) {
    let client = net.start(&Agent::client(1));
    let mut server = net.start(&Agent::server(2));
    for plane in [Plane::Raft, Plane::Federation] {
        let error =
            client.transport.dial(server.transport.local_addr(), plane, Expect::Admitted).await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("servers only"), "{error}");
    }
    assert_nobody_came(&mut server.acceptor).await;
    let admitted = client.transport.dial(server.transport.local_addr(), Plane::Rpc, Expect::Admitted).await;
    assert!(admitted.is_ok());
}

async fn assert_nobody_came(acceptor: &mut Acceptor) {
    let came = timeout(Duration::from_millis(200), acceptor.accept()).await;
    assert!(came.is_err(), "a refused peer reached the acceptor: {came:?}");
}

pub async fn another_authority_is_refused_both_ways(net: &dyn Net) {
    let mut server = net.start(&Agent::server(1));
    let mut stranger = Agent::server(2);
    stranger.authority = "forged";
    let mut stranger = net.start(&stranger);
    let there = stranger.transport.dial(server.transport.local_addr(), Plane::Raft, Expect::Admitted).await;
    let back = server.transport.dial(stranger.transport.local_addr(), Plane::Raft, Expect::Admitted).await;
    assert!(matches!(there, Err(DialError::Handshake(_))), "{there:?}");
    assert!(matches!(back, Err(DialError::Handshake(_))), "{back:?}");
    assert_nobody_came(&mut server.acceptor).await;
    assert_nobody_came(&mut stranger.acceptor).await;
}

pub async fn another_region_is_refused_except_for_federation(net: &dyn Net) {
    let mut here = Agent::server(1);
    here.trusts.push(("ours", "elsewhere"));
    let mut elsewhere = Agent::new(Role::Server, 2, "elsewhere");
    elsewhere.trusts.push(("ours", "here"));
    let (mut here, elsewhere) = (net.start(&here), net.start(&elsewhere));
    let addr = here.transport.local_addr();
    for plane in [Plane::Raft, Plane::Rpc, Plane::Node] {
        let error = elsewhere.transport.dial(addr, plane, Expect::Admitted).await.unwrap_err();
        let refused =
            matches!(error, DialError::Unacceptable(Refusal::Region { .. }) | DialError::Refused { .. });
        assert!(refused, "{plane}: {error:?}");
    }
    assert_nobody_came(&mut here.acceptor).await;
    let opened = elsewhere.transport.dial(addr, Plane::Federation, Expect::Admitted).await.unwrap();
    assert_eq!(opened.connection.peer().identity().unwrap().region.as_str(), "here");
}

pub async fn another_cluster_is_refused(net: &dyn Net) {
    let (one, other) = (net.start(&Agent::server(1)), net.start(&Agent::server(2)));
    let dial = || one.transport.dial(other.transport.local_addr(), Plane::Raft, Expect::Admitted);
    other.transport.set_cluster(ClusterId([2; 16]));
    let opened = dial().await.unwrap();
    assert_eq!(opened.connection.peer_cluster(), Some(ClusterId([2; 16])));
    one.transport.set_cluster(ClusterId([1; 16]));
    let error = dial().await.unwrap_err();
    assert!(error.to_string().contains("another cluster"), "{error}");
    one.transport.set_cluster(ClusterId([2; 16]));
    assert!(dial().await.is_ok());
}

pub async fn only_the_expected_node_will_do(net: &dyn Net) {
    let (one, other) = (net.start(&Agent::server(1)), net.start(&Agent::server(2)));
    let addr = other.transport.local_addr();
    let dial = |number| one.transport.dial(addr, Plane::Raft, Expect::Node(NodeId([number; 16])));
    assert!(dial(2).await.is_ok());
    let error = dial(3).await.unwrap_err();
    assert!(matches!(error, DialError::Unacceptable(Refusal::Unexpected { .. })), "{error:?}");
}

pub async fn a_joiner_needs_no_certificate(net: &dyn Net) {
    let mut server = net.start(&Agent::server(1));
    let addr = server.transport.local_addr();
    let mut joiner = Agent::client(9);
    joiner.authority = "its own";
    let joiner = net.start(&joiner);
    let token = Expect::Authority(net.fingerprint("ours"));
    let opened = joiner.transport.dial(addr, Plane::Join, token).await.unwrap();
    let accepted = server.acceptor.accept().await.unwrap();
    assert_eq!(accepted.connection.peer(), &Peer::Stranger);
    assert_eq!(opened.connection.peer().identity().unwrap().node_id, NodeId([1; 16]));
    assert_eq!(opened.connection.channel_binding(), accepted.connection.channel_binding());
    echo(accepted.inbound);
    assert_eq!(opened.connection.request("token".into(), soon()).await.unwrap(), "token");

    let forged = Expect::Authority(net.fingerprint("forged"));
    let error = joiner.transport.dial(addr, Plane::Join, forged).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake(_)), "{error:?}");
    let opened = joiner.transport.dial(addr, Plane::Join, Expect::FirstContact).await.unwrap();
    assert_eq!(opened.connection.peer(), &Peer::Stranger);
    // Trust of a joiner opens nothing else.
    assert!(joiner.transport.dial(addr, Plane::Rpc, Expect::FirstContact).await.is_err());
    assert!(joiner.transport.dial(addr, Plane::Rpc, Expect::Admitted).await.is_err());
}

pub async fn an_agent_without_a_certificate_can_only_join(net: &dyn Net) {
    let mut fresh = net.start_provisional(&Agent::server(1));
    let mut other = net.start_provisional(&Agent::server(2));
    let mut server = net.start(&Agent::server(3));
    let addr_of = |bound: &transport::Bound<dyn Transport>| bound.transport.local_addr();
    let pairs = [(&fresh, addr_of(&server)), (&server, addr_of(&fresh)), (&fresh, addr_of(&other))];
    for (dialler, addr) in pairs {
        for plane in Plane::ALL {
            for expect in [Expect::Admitted, Expect::Node(NodeId([3; 16]))] {
                let error = dialler.transport.dial(addr, plane, expect).await.unwrap_err();
                assert!(matches!(error, DialError::Start(_) | DialError::Handshake(_)), "{plane}: {error:?}");
            }
        }
    }
    for bound in [&mut fresh, &mut other, &mut server] {
        assert_nobody_came(&mut bound.acceptor).await;
    }
    for (dialler, addr) in [(&fresh, addr_of(&other)), (&other, addr_of(&server)), (&server, addr_of(&fresh))]
    {
        let dialled = dialler.transport.dial(addr, Plane::Join, Expect::FirstContact).await.unwrap();
        assert_eq!(dialled.connection.peer(), &Peer::Stranger);
    }
}

pub async fn a_certificate_takes_effect_on_the_endpoint_that_waited_for_it(net: &dyn Net) {
    let authority = authority();
    let (fresh, old) = (Agent::server(1), Agent::server(2));
    let mut old_bound = net.start_with(&old, &issued(&authority, &old));
    let mut bound = net.start_provisional(&fresh);
    let (addr, old_addr) = (bound.transport.local_addr(), old_bound.transport.local_addr());
    let join = bound.transport.dial(old_addr, Plane::Join, Expect::FirstContact).await.unwrap();
    echo(old_bound.acceptor.accept().await.unwrap().inbound);

    let foreign = issued(&authority, &Agent::server(7));
    assert!(bound.transport.reload(&foreign).is_err(), "another agent's certificate");
    assert!(bound.transport.dial(old_addr, Plane::Rpc, Expect::Admitted).await.is_err());
    bound.transport.reload(&issued(&authority, &fresh)).unwrap();
    let there = bound.transport.dial(old_addr, Plane::Raft, Expect::Admitted).await.unwrap();
    assert_eq!(there.connection.peer().identity().unwrap().node_id, NodeId([2; 16]));
    let back = old_bound.transport.dial(addr, Plane::Rpc, Expect::Node(NodeId([1; 16]))).await.unwrap();
    let accepted = bound.acceptor.accept().await.unwrap();
    assert_eq!(accepted.connection.peer().identity().unwrap().node_id, NodeId([2; 16]));
    assert!(back.connection.close_reason().is_none());
    let answer = join.connection.request("still here".into(), soon()).await;
    assert_eq!(answer.unwrap(), "still here", "connections that are open stay open");
}

pub async fn clients_answer_joiners_and_nobody_else(net: &dyn Net) {
    let authority = authority();
    let (client, server) = (Agent::client(1), Agent::server(2));
    let mut client = net.start_with(&client, &issued(&authority, &client));
    let server = net.start_with(&server, &issued(&authority, &server));
    let addr = client.transport.local_addr();
    for plane in [Plane::Raft, Plane::Rpc, Plane::Node, Plane::Federation] {
        let error = server.transport.dial(addr, plane, Expect::Admitted).await.unwrap_err();
        let refused = matches!(error, DialError::Handshake(_) | DialError::Unacceptable(_));
        assert!(refused, "{plane}: {error:?}");
    }
    assert_nobody_came(&mut client.acceptor).await;
    let joiner = net.start_provisional(&Agent::client(3));
    for expect in [Expect::FirstContact, Expect::Authority(authority.fingerprint())] {
        joiner.transport.dial(addr, Plane::Join, expect).await.unwrap();
        assert_eq!(client.acceptor.accept().await.unwrap().connection.peer(), &Peer::Stranger);
    }
}

fn cache(transport: Arc<dyn Transport>, connections_max: usize) -> Peers {
    let config = peers::Config { connections_max, redial_pause: Duration::from_millis(50) };
    Peers::new(transport, Arc::new(TokioHost), config, Arc::new(|_, _| {}))
}

fn count_and_echo(mut acceptor: Acceptor) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    spawn(async move {
        while let Some(opened) = acceptor.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            echo(opened.inbound);
        }
    });
    count
}

pub async fn peers_share_one_connection(net: &dyn Net) {
    let one = net.start(&Agent::server(1));
    let other = net.start(&Agent::server(2));
    let addr = other.transport.local_addr();
    let accepted = count_and_echo(other.acceptor);
    let peers = cache(one.transport, 1);
    let ask = |plane| peers.request(addr, plane, Expect::Admitted, "x".into(), soon());
    let asked = futures_util::future::join_all((0..20).map(|_| ask(Plane::Rpc))).await;
    assert!(asked.iter().all(|answer| answer.as_ref().is_ok_and(|body| body == "x")), "{asked:?}");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    // The cache keeps one; another plane takes its place.
    ask(Plane::Raft).await.unwrap();
    assert_eq!(peers.len(), 1);
    // What ended is replaced without the caller's doing.
    peers.connect(addr, Plane::Raft, Expect::Admitted, soon()).await.unwrap().close(CloseCode::Done, "test");
    ask(Plane::Raft).await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
    peers.forget(NodeId([2; 16]), "gone");
    assert!(peers.is_empty());
}

pub async fn a_peer_that_comes_back_replaces_what_was_kept(net: &dyn Net) {
    let mut one = net.start(&Agent::server(1));
    let other = net.start(&Agent::server(2));
    let addr = other.transport.local_addr();
    drop(count_and_echo(other.acceptor));
    let peers = cache(one.transport.clone(), 8);
    let kept = peers.connect(addr, Plane::Raft, Expect::Admitted, soon()).await.unwrap();
    // The same node dials in from its next run.
    let mut again = Agent::server(2);
    again.boot = 2;
    let again = net.start(&again);
    let _back =
        again.transport.dial(one.transport.local_addr(), Plane::Raft, Expect::Admitted).await.unwrap();
    let accepted = one.acceptor.accept().await.unwrap();
    peers.observe(&accepted.connection);
    assert!(matches!(kept.close_reason(), Some(Closed::ByUs { code: CloseCode::Superseded, .. })));
    assert!(peers.is_empty());
}

pub async fn shutdown_ends_the_acceptor_and_tells_peers(net: &dyn Net) {
    let one = net.start(&Agent::server(1));
    let mut other = net.start(&Agent::server(2));
    let dialled =
        one.transport.dial(other.transport.local_addr(), Plane::Rpc, Expect::Admitted).await.unwrap();
    let accepted = other.acceptor.accept().await.unwrap();
    other.transport.close().await;
    let closed = timeout(Duration::from_secs(5), dialled.connection.closed()).await.unwrap();
    assert!(matches!(closed, Closed::ByPeer { code: CloseCode::Shutdown, .. }), "{closed:?}");
    assert!(timeout(Duration::from_secs(5), other.acceptor.accept()).await.unwrap().is_none());
    assert!(matches!(accepted.connection.closed().await, Closed::ByUs { .. }));
}
