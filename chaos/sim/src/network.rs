//! The network between the machines: one policy for connections and for datagrams of gossip.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use runtime::Instant;
use transport::{
    Plane,
    memory::{Carry, Links, Parcel},
};

use crate::trace::Trace;

/// What a message takes between two machines of one datacenter, at least and at most.
const DELAY_US: (u64, u64) = (150, 600);

/// What goes over a link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Traffic {
    /// Datagrams of gossip.
    Gossip,
    /// Everything of connections.
    Connections,
}

/// Loss, repetition and delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// How many of a thousand messages are lost.
    pub lost_permille: u32,
    /// How many of a thousand datagrams arrive twice.
    pub doubled_permille: u32,
    /// The most that a message takes longer than usual.
    pub delay_ms: u64,
}

/// All links. Cheap to clone; all clones are the same network.
#[derive(Clone, Debug)]
pub struct Conditions(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: SmallRng,
    trace: Trace,
    /// How often each link is cut: faults overlap, and each takes away only its own cut.
    cuts: BTreeMap<(IpAddr, IpAddr, Traffic), u32>,
    weather: BTreeMap<usize, Weather>,
    clogged: BTreeMap<usize, (IpAddr, Instant)>,
    silent: BTreeSet<IpAddr>,
}

impl Conditions {
    /// Makes links without faults.
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: SmallRng::seed_from_u64(seed),
            trace,
            cuts: BTreeMap::new(),
            weather: BTreeMap::new(),
            clogged: BTreeMap::new(),
            silent: BTreeSet::new(),
        })))
    }

    /// Cuts links, or takes as many cuts away.
    pub fn cut(&self, links: &[(IpAddr, IpAddr, Traffic)], is_cut: bool) {
        let mut state = self.0.lock();
        for link in links {
            let count = state.cuts.entry(*link).or_default();
            *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// Sets or ends the weather that one fault brings.
    pub fn weather(&self, fault: usize, weather: Option<Weather>) {
        let mut state = self.0.lock();
        match weather {
            Some(weather) => drop(state.weather.insert(fault, weather)),
            None => drop(state.weather.remove(&fault)),
        }
    }

    /// Holds back all that a machine sends and receives until then.
    pub fn clog(&self, fault: usize, clogged: Option<(IpAddr, Instant)>) {
        let mut state = self.0.lock();
        match clogged {
            Some(clogged) => drop(state.clogged.insert(fault, clogged)),
            None => drop(state.clogged.remove(&fault)),
        }
    }

    /// Says that a machine's agent takes nothing and sends nothing, because it stands still.
    pub fn silence(&self, ip: IpAddr, is_silent: bool) {
        let mut state = self.0.lock();
        if is_silent {
            state.silent.insert(ip)
        } else {
            state.silent.remove(&ip)
        };
    }

    /// Tells whether every link of a machine is as it should be.
    pub fn is_reachable(&self, ip: IpAddr) -> bool {
        let state = self.0.lock();
        let cut = state.cuts.iter().any(|((from, to, _), count)| *count > 0 && (*from == ip || *to == ip));
        let clogged = state.clogged.values().any(|(clogged, _)| *clogged == ip);
        !cut && !clogged && !state.silent.contains(&ip) && state.weather.is_empty()
    }

    /// Makes all links as they should be.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.cuts.clear();
        state.weather.clear();
        state.clogged.clear();
        state.silent.clear();
    }

    /// Decides on one datagram of gossip: when each copy arrives.
    pub fn datagram(&self, from: SocketAddr, to: SocketAddr, len: usize) -> Vec<Duration> {
        let mut state = self.0.lock();
        let mut arrivals = Vec::new();
        let copies = if state.happens(|weather| weather.doubled_permille) { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(delay) = state.carry(from.ip(), to.ip(), Traffic::Gossip, len) {
                arrivals.push(delay);
            }
        }
        arrivals
    }
}

impl Links for Conditions {
    fn carry(&self, from: SocketAddr, to: SocketAddr, _plane: Plane, parcel: Parcel) -> Carry {
        let (Parcel::Reliable { len } | Parcel::Datagram { len }) = parcel;
        let carried = self.0.lock().carry(from.ip(), to.ip(), Traffic::Connections, len);
        carried.map_or(Carry::Lost, Carry::After)
    }
}

impl State {
    fn carry(&mut self, from: IpAddr, to: IpAddr, traffic: Traffic, len: usize) -> Option<Duration> {
        let delay = self.decide(from, to, traffic);
        let after = delay.map_or(u64::MAX, |delay| delay.as_nanos() as u64);
        self.trace.mix(&[number(from), number(to), traffic as u64, len as u64, after]);
        delay
    }

    fn decide(&mut self, from: IpAddr, to: IpAddr, traffic: Traffic) -> Option<Duration> {
        let cut = self.cuts.get(&(from, to, traffic)).is_some_and(|count| *count > 0);
        if from == to {
            return Some(Duration::from_micros(20));
        }
        if cut || self.silent.contains(&from) || self.silent.contains(&to) {
            return None;
        }
        if self.happens(|weather| weather.lost_permille) {
            return None;
        }
        let mut delay = Duration::from_micros(self.rng.random_range(DELAY_US.0..=DELAY_US.1));
        let more = self.weather.values().map(|weather| weather.delay_ms).max().unwrap_or_default();
        if more > 0 {
            delay += Duration::from_micros(self.rng.random_range(0..=more * 1_000));
        }
        let clogs = self.clogged.values().filter(|(ip, _)| *ip == from || *ip == to);
        let held = clogs.map(|(_, until)| until.saturating_duration_since(Instant::now())).max();
        Some(delay + held.unwrap_or_default())
    }

    fn happens(&mut self, permille: impl Fn(&Weather) -> u32) -> bool {
        let permille = self.weather.values().map(permille).max().unwrap_or_default();
        permille > 0 && self.rng.random_range(0..1_000) < permille
    }
}

fn number(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip) as u64,
    }
}
