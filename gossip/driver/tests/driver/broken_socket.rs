//! A socket that fails: packets are lost, and nothing else.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use gossip_core::Role;
use gossip_driver::{Dropped, Host, PoolKind, Socket};
use tokio::{io::ReadBuf, time::sleep};

use crate::cluster::{Cluster, Start, addr, alive, until};

/// Passes everything on but what fails.
#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Socket>,
    /// Receiving fails so many times more.
    receive_errors: AtomicUsize,
    polls: AtomicUsize,
    sending: Sending,
}

#[derive(Debug)]
enum Sending {
    Works,
    /// Always the same error of the system.
    Fails(i32),
    /// Never has room.
    Full,
}

impl Broken {
    fn new(cluster: &Cluster, receive_errors: usize, sending: Sending) -> Arc<Self> {
        let inner = cluster.network.bind(addr(1)).expect("its address is free");
        let (receive_errors, polls) = (AtomicUsize::new(receive_errors), AtomicUsize::new(0));
        Arc::new(Self { inner, receive_errors, polls, sending })
    }
}

impl Socket for Broken {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        match self.sending {
            Sending::Works => self.inner.poll_send_to(cx, bytes, to),
            Sending::Fails(error) => Poll::Ready(Err(io::Error::from_raw_os_error(error))),
            Sending::Full => Poll::Pending,
        }
    }

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let left = self.receive_errors.load(Ordering::Relaxed);
        if left > 0 {
            self.receive_errors.store(left - 1, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        self.inner.poll_recv_from(cx, buffer)
    }
}

fn host(cluster: &Cluster) -> Arc<dyn Host> {
    Arc::clone(&cluster.host) as Arc<dyn Host>
}

#[tokio::test(start_paused = true)]
async fn errors_of_receiving_are_survived_without_spinning() {
    let cluster = Cluster::new(50);
    let socket = Broken::new(&cluster, 100, Sending::Works);
    let agent = Start::agent(1).on(Arc::clone(&socket) as Arc<dyn Socket>, host(&cluster));
    let other = cluster.start(Start::agent(2));
    other.join(PoolKind::Region, vec![addr(1)]).await.expect("it is open");
    until("they meet", || alive(&agent) == 2 && alive(&other) == 2).await;
    assert_eq!(agent.traffic().dropped(Dropped::ReceiveFailed), 100);
    // For good, and for a minute: it pauses after each run of errors.
    socket.receive_errors.store(usize::MAX, Ordering::Relaxed);
    let before = socket.polls.load(Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    let polls = socket.polls.load(Ordering::Relaxed) - before;
    assert!((100..30_000).contains(&polls), "{polls} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_sent_is_dropped_and_counted() {
    // No buffers, nobody there, too long.
    for error in [105, 111, 90] {
        let cluster = Cluster::new(51);
        let socket = Broken::new(&cluster, 0, Sending::Fails(error));
        let agent = Start { role: Role::Client, ..Start::agent(1) }.on(socket, host(&cluster));
        agent.join(PoolKind::Region, vec![addr(2)]).await.expect("it is open");
        until("some were tried", || agent.traffic().dropped(Dropped::SendFailed) > 2).await;
        assert_eq!(agent.traffic().sent, 0);
        assert!(agent.stats().await.is_ok(), "it answers");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_socket_holds_a_bounded_number_of_packets() {
    let cluster = Cluster::new(52);
    let agent = Start::agent(1).on(Broken::new(&cluster, 0, Sending::Full), host(&cluster));
    let asking = |agent: gossip_driver::Handle| async move {
        for _ in 0..600 {
            assert!(agent.locate(addr(2), Duration::from_millis(30)).await.is_err());
        }
    };
    asking(agent.clone()).await;
    assert!(agent.traffic().dropped(Dropped::OutboxFull) >= 3 * 600 - 1_024);
    assert_eq!(agent.traffic().sent, 0);
}
