//! Over real sockets and real time: loopback alone, and generous waits.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use gossip_driver::{Dropped, Host, PoolKind, Socket, TokioHost, Udp, locate};

use crate::cluster::{Start, alive, until};

fn bound(addr: &str) -> Arc<Udp> {
    let addr: SocketAddr = addr.parse().expect("an address");
    Arc::new(Udp::bind(addr).expect("loopback has room"))
}

#[tokio::test]
async fn agents_meet_over_udp() {
    let host: Arc<dyn Host> = Arc::new(TokioHost);
    let sockets = [bound("127.0.0.1:0"), bound("127.0.0.1:0"), bound("127.0.0.1:0")];
    let addrs = sockets.each_ref().map(|socket| socket.local_addr().expect("it is bound"));
    let mut agents = Vec::new();
    for (number, socket) in (1..).zip(sockets) {
        agents.push(Start::agent(number).on(socket, Arc::clone(&host)));
    }
    let located = locate(Arc::clone(&host), addrs[0], Duration::from_secs(30)).await.expect("it answers");
    assert_eq!(located.rpc_port, 4647);
    for agent in &agents[1..] {
        agent.join(PoolKind::Region, vec![addrs[0]]).await.expect("it is open");
    }
    until("all see all", || agents.iter().all(|agent| alive(agent) == 3)).await;
    for agent in &agents {
        assert_eq!(agent.traffic().dropped(Dropped::Forged), 0);
        assert!(agent.traffic().sent_bytes > 0);
    }
}

#[tokio::test]
async fn a_socket_for_both_families_has_one_kind_of_address() {
    // A machine without IPv6 has nothing to test here.
    let Ok(dual) = Udp::bind("[::]:0".parse().expect("an address")) else { return };
    let port = dual.local_addr().expect("it is bound").port();
    let v4 = bound("127.0.0.1:0");
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let at = v4.local_addr().expect("it is bound");
    for (from, into, target, source) in [(&*v4, &dual, to, at), (&dual, &*v4, at, to)] {
        let mut bytes = [0; 16];
        let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
        let sent = std::future::poll_fn(|cx| from.poll_send_to(cx, b"hello", target)).await;
        assert_eq!(sent.expect("loopback takes it"), 5);
        let came = std::future::poll_fn(|cx| into.poll_recv_from(cx, &mut buffer)).await;
        assert_eq!(came.expect("loopback gives it"), source);
        assert_eq!(buffer.filled(), b"hello");
    }
}
