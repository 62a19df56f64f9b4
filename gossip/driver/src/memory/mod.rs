//! Datagrams between sockets in one process, with loss, delay, repetition and cuts: for tests and the simulation.

mod queue;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use crate::socket::Socket;
use queue::Queue;

/// Datagrams kept by [`Network::record`] until they are taken; further ones are not. Tests look at some hundreds.
const RECORDED_MAX: usize = 65_536;
/// A datagram longer than this does not pass, as on a link of 1,500 bytes without fragments.
const DATAGRAM_MAX: usize = 1_472;

/// What happens to datagrams on their way. All chances are in thousandths, so that runs repeat exactly.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How many of a thousand are lost.
    pub lost_permille: u32,
    /// How many of a thousand arrive twice.
    pub doubled_permille: u32,
    /// How long each is under way; a wide range changes their order.
    pub delay: Range<Duration>,
}

impl Default for Weather {
    fn default() -> Self {
        let delay = Duration::from_micros(200)..Duration::from_micros(900);
        Self { lost_permille: 0, doubled_permille: 0, delay }
    }
}

/// A datagram that was sent, whether or not it arrived.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What it holds.
    pub bytes: Bytes,
}

/// Sockets that reach each other. Cheap to clone. Time is tokio's, so a paused clock moves it.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    random: u64,
    weather: Weather,
    queues: BTreeMap<SocketAddr, Arc<Queue>>,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    recorded: Option<Vec<Sent>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// Makes a network; the same seed has the same accidents.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            random: seed,
            weather: Weather::default(),
            queues: BTreeMap::new(),
            cut: BTreeSet::new(),
            recorded: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Opens a socket. It is closed when it is dropped.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody has it.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<Arc<dyn Socket>> {
        let mut inner = self.lock();
        if inner.queues.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let queue = Arc::new(Queue::default());
        inner.queues.insert(addr, Arc::clone(&queue));
        Ok(Arc::new(MemorySocket { network: self.clone(), addr, queue }))
    }

    /// Changes what happens to datagrams from here on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Lets nothing pass between two addresses, in either direction.
    pub fn cut(&self, one: SocketAddr, other: SocketAddr) {
        self.lock().cut.extend([(one, other), (other, one)]);
    }

    /// Lets nothing pass in one direction.
    pub fn cut_one_way(&self, from: SocketAddr, to: SocketAddr) {
        self.lock().cut.insert((from, to));
    }

    /// Takes all cuts away.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    /// Keeps each datagram that is sent, for [`Network::recorded`].
    pub fn record(&self) {
        self.lock().recorded.get_or_insert_default();
    }

    /// Takes what was recorded since the last call.
    pub fn recorded(&self) -> Vec<Sent> {
        self.lock().recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sends a datagram in somebody's name, as an attacker on the way can.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(queue) = self.lock().queues.get(&to) {
            queue.push(Instant::now(), from, Bytes::copy_from_slice(bytes));
        }
    }

    fn carry(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > DATAGRAM_MAX {
            return Err(io::Error::from_raw_os_error(EMSGSIZE));
        }
        let mut inner = self.lock();
        let bytes = Bytes::copy_from_slice(bytes);
        let len = bytes.len();
        if let Some(recorded) = &mut inner.recorded
            && recorded.len() < RECORDED_MAX
        {
            recorded.push(Sent { from, to, bytes: bytes.clone() });
        }
        let Weather { lost_permille, doubled_permille, .. } = inner.weather;
        if inner.cut.contains(&(from, to)) || inner.happens(lost_permille) {
            return Ok(len);
        }
        let copies = if inner.happens(doubled_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = inner.delay();
            if let Some(queue) = inner.queues.get(&to) {
                queue.push(Instant::now() + delay, from, bytes.clone());
            }
        }
        Ok(len)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of "message too long" on Linux.
const EMSGSIZE: i32 = 90;

impl Inner {
    /// `SplitMix64`: enough for weather, and the same on every machine.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.draw() % 1_000 < u64::from(permille)
    }

    fn delay(&mut self) -> Duration {
        let Range { start, end } = self.weather.delay.clone();
        let width = u64::try_from(end.saturating_sub(start).as_nanos()).unwrap_or(u64::MAX);
        if width == 0 { start } else { start + Duration::from_nanos(self.draw() % width) }
    }
}

struct MemorySocket {
    network: Network,
    addr: SocketAddr,
    queue: Arc<Queue>,
}

impl fmt::Debug for MemorySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySocket").field(&self.addr).finish()
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.network.lock().queues.remove(&self.addr);
    }
}

impl Socket for MemorySocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn poll_send_to(&self, _cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        Poll::Ready(self.network.carry(self.addr, to, bytes))
    }

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        self.queue.poll_pop(cx).map(|(from, bytes)| {
            let len = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..len]);
            Ok(from)
        })
    }
}
