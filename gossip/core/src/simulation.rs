//! Many members in one process, on a network that is slow, loses packets and breaks, with a clock that jumps.
//!
//! Everything is decided by one seed: the same seed gives the same [`Simulation::trace`]. Each member is a real [`Gossip`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    Config, Counters, Digest, Directory, Event, Gossip, Incarnation, Input, Me, MemberId, NewGossipError,
    Output, Role,
};

/// What a packet takes on the wire besides what a member gives out: headers of IPv4 and UDP, and a seal with the
/// sender's id, a key number, a nonce and a tag.
const WIRE_OVERHEAD: u64 = 28 + 48;

/// Packets that a socket keeps for a member that does not run; a Linux socket's default buffer holds about as many.
const SOCKET_PACKETS_MAX: usize = 256;

/// What the network does to packets.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Shortest way.
    pub latency_min: Duration,
    /// Longest way.
    pub latency_max: Duration,
    /// Share of packets that are lost, each way.
    pub loss: f64,
}

/// Members, and what is on its way between them.
#[derive(Debug)]
pub struct Simulation {
    /// The network as it is at present.
    pub network: Network,
    now: Duration,
    order: u64,
    events: BinaryHeap<Reverse<Due>>,
    nodes: Vec<Node>,
    by_addr: BTreeMap<SocketAddr, usize>,
    by_id: BTreeMap<MemberId, usize>,
    directory: Directory,
    rng: SmallRng,
    trace: DefaultHasher,
    findings: Findings,
}

/// What members concluded.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// For each member that does not run: who called it failed, and when.
    pub deaths: BTreeMap<usize, BTreeMap<usize, Duration>>,
    /// Lives of running members that somebody called failed.
    pub false_deaths: BTreeSet<(usize, Incarnation)>,
    /// Packets and bytes of all members, with headers and seals.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of synchronisations over streams.
    pub stream_bytes: u64,
}

#[derive(Debug)]
struct Node {
    gossip: Option<Gossip>,
    id: MemberId,
    addr: SocketAddr,
    config: Config,
    digest: Digest,
    persisted: Incarnation,
    wake_at: Option<Duration>,
    starved_until: Duration,
    inbox: Vec<(SocketAddr, MemberId, Bytes)>,
    side: u32,
}

#[derive(Debug, Eq, PartialEq)]
struct Due {
    at: Duration,
    order: u64,
    happening: Happening,
}

#[derive(Debug, Eq, PartialEq)]
enum Happening {
    Packet { from: usize, to: usize, bytes: Bytes },
    Wake { node: usize },
    Resume { node: usize },
    Request { opener: usize, other: usize, bytes: Bytes },
    Answer { opener: usize, other: usize, bytes: Bytes },
    Returned { other: usize, bytes: Bytes },
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Simulation {
    /// An empty network.
    pub fn new(network: Network, seed: u64) -> Self {
        Self {
            network,
            now: Duration::ZERO,
            order: 0,
            events: BinaryHeap::new(),
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            by_id: BTreeMap::new(),
            directory: Directory::default(),
            rng: SmallRng::seed_from_u64(seed),
            trace: DefaultHasher::new(),
            findings: Findings::default(),
        }
    }

    /// Starts one more member and gives its number.
    ///
    /// # Errors
    /// When its configuration is wrong.
    pub fn add(&mut self, role: Role, config: Config) -> Result<usize, NewGossipError> {
        let number = self.nodes.len();
        let id = MemberId(self.rng.random());
        let [_, high, middle, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let addr = SocketAddr::from(([10, high, middle, low], 4648));
        let digest = Digest {
            name: format!("member-{number}"),
            role,
            region: "global".into(),
            datacenter: "dc1".into(),
            version: "0.1.0".into(),
            rpc_addr: Some(SocketAddr::new(addr.ip(), 4647)),
            http_addr: Some(SocketAddr::new(addr.ip(), 4646)),
            ..Digest::default()
        };
        self.by_addr.insert(addr, number);
        self.by_id.insert(id, number);
        self.nodes.push(Node {
            gossip: None,
            id,
            addr,
            config: Config { seed: self.rng.random(), ..config },
            digest,
            persisted: Incarnation(0),
            wake_at: None,
            starved_until: Duration::ZERO,
            inbox: Vec::new(),
            side: 0,
        });
        self.start(number)?;
        Ok(number)
    }

    /// Starts a member that does not run, as the same agent with what it kept on disk.
    ///
    /// # Errors
    /// When its configuration is wrong.
    pub fn start(&mut self, number: usize) -> Result<(), NewGossipError> {
        let node = &mut self.nodes[number];
        let me = Me { id: node.id, addr: node.addr, persisted: node.persisted, digest: node.digest.clone() };
        let config = Config { seed: self.rng.random(), ..node.config.clone() };
        node.gossip = Some(Gossip::with_directory(config, me, self.now, self.directory.clone())?);
        self.findings.deaths.remove(&number);
        self.settle(number);
        Ok(())
    }

    /// Stops a member without a word.
    pub fn kill(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.gossip = None;
        node.wake_at = None;
        node.inbox.clear();
        self.findings.deaths.insert(number, BTreeMap::new());
    }

    /// Loses what a member kept on disk.
    pub fn wipe(&mut self, number: usize) {
        self.nodes[number].persisted = Incarnation(0);
    }

    /// Lets a member not run for a while. Packets wait in its socket, as many as fit. One that paused just before is
    /// left alone, so that pauses do not add up to longer ones. Tells whether it pauses.
    pub fn starve(&mut self, number: usize, pause: Duration) -> bool {
        let node = &mut self.nodes[number];
        let may_pause = node.starved_until == Duration::ZERO || self.now >= node.starved_until + pause * 2;
        if may_pause {
            node.starved_until = self.now + pause;
            let at = node.starved_until;
            self.schedule(at, Happening::Resume { node: number });
        }
        may_pause
    }

    /// Puts a member on one side of the network. Nothing passes between sides.
    pub fn set_side(&mut self, number: usize, side: u32) {
        self.nodes[number].side = side;
    }

    /// Gives a member an input.
    pub fn input(&mut self, number: usize, input: Input) {
        let now = self.now;
        if let Some(gossip) = &mut self.nodes[number].gossip {
            gossip.step(now, input);
            self.settle(number);
        }
    }

    /// Changes what a member says about itself.
    pub fn set_digest(&mut self, number: usize, digest: Digest) {
        let now = self.now;
        self.nodes[number].digest = digest.clone();
        if let Some(gossip) = &mut self.nodes[number].gossip {
            gossip.set_digest(now, digest).expect("the caller gives one that fits");
            self.settle(number);
        }
    }

    /// One that runs.
    pub fn gossip(&self, number: usize) -> Option<&Gossip> {
        self.nodes[number].gossip.as_ref()
    }

    /// Where a member's gossip arrives.
    pub fn addr(&self, number: usize) -> SocketAddr {
        self.nodes[number].addr
    }

    /// The id of a member.
    pub fn id(&self, number: usize) -> MemberId {
        self.nodes[number].id
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody was added.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Those who run.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Gossip)> {
        self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.gossip.as_ref()?)))
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What members concluded so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Begins to count anew.
    pub fn clear_findings(&mut self) {
        let deaths = std::mem::take(&mut self.findings.deaths);
        self.findings = Findings { deaths, ..Findings::default() };
    }

    /// Stands for all that happened so far.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Sum of what all who run counted.
    pub fn counters(&self) -> Counters {
        self.running().map(|(_, gossip)| gossip.counters()).fold(Counters::default(), |sum, one| Counters {
            packets_out: sum.packets_out + one.packets_out,
            bytes_out: sum.bytes_out + one.bytes_out,
            packets_in: sum.packets_in + one.packets_in,
            malformed: sum.malformed + one.malformed,
            refused: sum.refused + one.refused,
            capped: sum.capped + one.capped,
            overflowed: sum.overflowed + one.overflowed,
            probes: sum.probes + one.probes,
            probes_missed: sum.probes_missed + one.probes_missed,
            suspicions_cleared: sum.suspicions_cleared + one.suspicions_cleared,
            declared: sum.declared + one.declared,
            renewals: sum.renewals + one.renewals,
            lags: sum.lags + one.lags,
            unwell: sum.unwell + one.unwell,
            backlog: sum.backlog + one.backlog,
        })
    }

    /// Whether all who run know exactly each other, with the same digests.
    pub fn is_converged(&self) -> bool {
        let many = self.running().count();
        let mut prints = self.running().map(|(_, gossip)| (gossip.alive(), gossip.fingerprint()));
        let Some(first) = prints.next() else { return true };
        first.0 == many && prints.all(|print| print == first)
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.peek().is_some_and(|Reverse(due)| due.at <= end) {
            if let Some(Reverse(due)) = self.events.pop() {
                self.now = due.at;
                self.happen(due);
            }
        }
        self.now = end;
    }

    /// Lets time pass until something holds, looked at in steps. Tells how long it took, if it came to hold in time.
    pub fn run_until(
        &mut self,
        most: Duration,
        step: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while self.now < start + most {
            self.run_for(step);
            if holds(self) {
                return Some(self.now - start);
            }
        }
        None
    }

    fn happen(&mut self, due: Due) {
        match due.happening {
            Happening::Packet { from, to, bytes } => {
                let (addr, id) = (self.nodes[from].addr, self.nodes[from].id);
                let node = &mut self.nodes[to];
                if node.starved_until <= self.now {
                    self.input(to, Input::Packet { from: addr, sender: id, bytes });
                } else if node.gossip.is_some() && node.inbox.len() < SOCKET_PACKETS_MAX {
                    node.inbox.push((addr, id, bytes));
                }
            }
            Happening::Wake { node } if self.nodes[node].wake_at == Some(due.at) => self.wake(node),
            // An earlier wake-up took its place.
            Happening::Wake { .. } => {}
            Happening::Resume { node } => self.resume(node),
            Happening::Request { opener, other, bytes } => {
                let answer =
                    self.nodes[other].gossip.as_ref().and_then(|gossip| gossip.sync_answer(&bytes).ok());
                if let Some(bytes) = answer {
                    self.stream(other, opener, bytes.len(), Happening::Answer { opener, other, bytes });
                }
            }
            Happening::Answer { opener, other, bytes } => {
                let returned =
                    self.nodes[opener].gossip.as_ref().and_then(|gossip| gossip.sync_return(&bytes).ok());
                self.input(opener, Input::Seed(bytes));
                if let Some(bytes) = returned.filter(|bytes| !bytes.is_empty()) {
                    self.stream(opener, other, bytes.len(), Happening::Returned { other, bytes });
                }
            }
            Happening::Returned { other, bytes } => self.input(other, Input::Seed(bytes)),
        }
    }

    fn wake(&mut self, number: usize) {
        // Whoever pauses is woken when the pause is over.
        if self.nodes[number].starved_until <= self.now {
            self.nodes[number].wake_at = None;
            self.input(number, Input::Tick);
        }
    }

    /// The pause is over: first all timers are late, then the packets come that waited.
    fn resume(&mut self, number: usize) {
        self.nodes[number].wake_at = None;
        let waiting = std::mem::take(&mut self.nodes[number].inbox);
        self.input(number, Input::Tick);
        for (from, sender, bytes) in waiting {
            self.input(number, Input::Packet { from, sender, bytes });
        }
    }

    /// Does what a member wants done.
    fn settle(&mut self, number: usize) {
        while let Some(output) = self.nodes[number].gossip.as_mut().and_then(Gossip::next_output) {
            self.perform(number, output);
        }
        let now = self.now;
        let node = &mut self.nodes[number];
        let wake_at = node.gossip.as_ref().and_then(Gossip::next_wake).map(|at| at.max(now));
        if let Some(at) = wake_at.filter(|at| node.wake_at.is_none_or(|planned| *at < planned)) {
            node.wake_at = Some(at);
            self.schedule(at, Happening::Wake { node: number });
        }
    }

    fn perform(&mut self, number: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                (self.now, number, to, &bytes).hash(&mut self.trace);
                self.findings.packets += 1;
                self.findings.bytes += bytes.len() as u64 + WIRE_OVERHEAD;
                let is_lost = self.rng.random_bool(self.network.loss);
                let to = self.by_addr.get(&to).copied().filter(|to| self.reaches(number, *to));
                if let Some(to) = to.filter(|_| !is_lost) {
                    let at = self.now + self.latency();
                    self.schedule(at, Happening::Packet { from: number, to, bytes });
                }
            }
            Output::Sync { addr, .. } => {
                let Some(other) = self.by_addr.get(&addr).copied() else { return };
                let request = self.nodes[number].gossip.as_ref().map(Gossip::sync_request);
                if let Some(bytes) = request {
                    let happening = Happening::Request { opener: number, other, bytes: bytes.clone() };
                    self.stream(number, other, bytes.len(), happening);
                }
            }
            Output::Event(event) => self.note(number, &event),
            Output::Persist(incarnation) => self.nodes[number].persisted = incarnation,
            Output::Departed => {
                self.nodes[number].gossip = None;
                self.nodes[number].wake_at = None;
            }
        }
    }

    fn note(&mut self, observer: usize, event: &Event) {
        if let Event::Failed(member) = event
            && let Some(subject) = self.by_id.get(&member.id).copied()
        {
            if let Some(known) = self.findings.deaths.get_mut(&subject) {
                known.entry(observer).or_insert(self.now);
            } else if self.gossip(subject).is_some_and(|gossip| gossip.incarnation() == member.incarnation) {
                self.findings.false_deaths.insert((subject, member.incarnation));
            }
        }
    }

    fn stream(&mut self, from: usize, to: usize, bytes: usize, happening: Happening) {
        if self.reaches(from, to) {
            self.findings.stream_bytes += bytes as u64;
            let at = self.now + self.latency() * 2;
            self.schedule(at, happening);
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.nodes[from].side == self.nodes[to].side
    }

    fn latency(&mut self) -> Duration {
        let Network { latency_min, latency_max, .. } = self.network;
        latency_min + (latency_max - latency_min).mul_f64(self.rng.random_range(0.0..1.0))
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.order += 1;
        self.events.push(Reverse(Due { at, order: self.order, happening }));
    }
}
