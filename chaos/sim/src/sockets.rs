//! Sockets of gossip on the simulated network.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use gossip_driver::Socket;
use parking_lot::Mutex;
use runtime::Instant;
use tokio::{io::ReadBuf, time::Sleep};

use crate::network::Conditions;

/// Datagrams unread at one socket; a further one is dropped, as by a full receive buffer.
const UNREAD_MAX: usize = 4_096;

/// Sockets by address. Cheap to clone.
#[derive(Clone)]
pub struct Sockets {
    conditions: Conditions,
    queues: Arc<Mutex<BTreeMap<SocketAddr, Arc<Queue>>>>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sockets")
    }
}

impl Sockets {
    /// Makes a network without sockets.
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, queues: Arc::default() }
    }

    /// Opens a socket in the place of whatever was at its address.
    pub fn bind(&self, addr: SocketAddr) -> Arc<dyn Socket> {
        let queue = Arc::new(Queue::default());
        self.queues.lock().insert(addr, queue.clone());
        Arc::new(SimSocket { net: self.clone(), addr, queue })
    }

    /// Closes the socket of an agent that was killed.
    pub fn close(&self, addr: SocketAddr) {
        self.queues.lock().remove(&addr);
    }
}

/// What is on its way to one socket.
#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    // The number keeps the order of what arrives at one moment, and so a run repeatable.
    datagrams: BinaryHeap<Reverse<(Instant, u64, SocketAddr, Bytes)>>,
    sleep: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

struct SimSocket {
    net: Sockets,
    addr: SocketAddr,
    queue: Arc<Queue>,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimSocket").field(&self.addr).finish()
    }
}

impl Socket for SimSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn poll_send_to(&self, _cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        let arrivals = self.net.conditions.datagram(self.addr, to, bytes.len());
        let queue = self.net.queues.lock().get(&to).cloned();
        if let Some(queue) = queue {
            let now = Instant::now();
            for delay in arrivals {
                queue.push(now + delay, self.addr, Bytes::copy_from_slice(bytes));
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        self.queue.poll_pop(cx).map(|(from, bytes)| {
            let len = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..len]);
            Ok(from)
        })
    }
}

impl Queue {
    fn push(&self, at: Instant, from: SocketAddr, bytes: Bytes) {
        let reader = {
            let mut waiting = self.0.lock();
            if waiting.datagrams.len() >= UNREAD_MAX {
                return;
            }
            let number = waiting.next;
            waiting.next += 1;
            waiting.datagrams.push(Reverse((at, number, from, bytes)));
            waiting.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        let mut waiting = self.0.lock();
        while let Some(at) = waiting.datagrams.peek().map(|Reverse((at, ..))| *at) {
            if at <= Instant::now() {
                let Some(Reverse((_, _, from, bytes))) = waiting.datagrams.pop() else { break };
                return Poll::Ready((from, bytes));
            }
            let sleep = waiting.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}
