//! No two regions share a server, whatever the order of starts, crashes and cuts; and once everybody can talk, there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use join::founding::{Candidate, Found, Founding, Input, Message, Output, Record, Waits};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use transport::{ClusterId, NodeId};

const TICK: Duration = Duration::from_millis(250);

/// One server: what is on its disk, and what runs if it is up.
struct Server {
    candidate: Candidate,
    /// Servers whose addresses it was given, by position.
    addresses: Vec<usize>,
    disk: Record,
    joined: Option<ClusterId>,
    running: Option<Founding>,
    waits: Option<Waits>,
}

struct Flight {
    at: Duration,
    from: usize,
    to: usize,
    message: Message,
    answers: bool,
}

struct World {
    servers: Vec<Server>,
    flights: Vec<Flight>,
    /// Pairs that can not talk, in this direction.
    cut: BTreeSet<(usize, usize)>,
    now: Duration,
    rng: SmallRng,
    /// A step is cut short by a crash with this chance.
    crash_chance: f64,
    /// Every region that was ever written down as founded.
    regions: BTreeMap<[u8; 16], Found>,
    expect: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Start(usize),
    Crash(usize),
    /// Each server is on one of two sides, which can not talk.
    Split(u8),
    /// One direction between two servers is cut.
    Cut(usize, usize),
    /// Each direction between two servers is cut or not, by chance.
    Tangle(u8),
    Heal,
    Run(u8),
}

impl World {
    fn new(count: usize, expect: u32, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let servers = (0..count).map(|at| {
            let mut id = [0; 16];
            id[0] = rng.random();
            id[15] = u8::try_from(at).expect("few servers");
            let addr = SocketAddr::from(([10, 0, 0, id[15]], 4647));
            let candidate = Candidate {
                node_id: NodeId(id),
                name: format!("s{at}"),
                rpc: addr,
                gossip: addr,
                life: 1,
                expect,
            };
            // Everybody was given the first server's address, the first one all, and some others': a region that was
            // founded without a server does not look for it.
            let addresses =
                (0..count).filter(|other| *other == 0 || at == 0 || rng.random_bool(0.4)).collect();
            Server { candidate, addresses, disk: Record::default(), joined: None, running: None, waits: None }
        });
        let servers = servers.collect();
        let (flights, cut, regions) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        Self { servers, flights, cut, now: Duration::ZERO, rng, crash_chance: 0.0, regions, expect }
    }

    fn start(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.running.is_none() {
            let record = server.disk.clone();
            server.running = Some(Founding::new(server.candidate.clone(), record, self.now));
        }
    }

    fn step(&mut self, at: usize, input: Input, asker: Option<usize>) {
        let Some(machine) = self.servers[at].running.as_mut() else { return };
        let outputs = machine.step(self.now, input);
        for output in outputs {
            if self.rng.random_bool(self.crash_chance) {
                self.servers[at].running = None;
                return;
            }
            match output {
                Output::Keep(record) => {
                    if let Some(found) = &record.founded {
                        self.note_region(found.clone());
                    }
                    self.servers[at].disk = record;
                }
                Output::Answer(message) => {
                    let to = asker.expect("only what was asked is answered");
                    self.send(at, to, message, true);
                }
                Output::Ask { to, message } => {
                    let to = self.position(to.node_id);
                    self.send(at, to, message, false);
                }
                Output::Found(found) => {
                    assert_eq!(self.servers[at].disk.founded, Some(found), "written down first")
                }
                Output::Join { cluster } => self.join(at, cluster),
                Output::Waits(waits) => self.servers[at].waits = Some(waits),
            }
        }
    }

    fn note_region(&mut self, found: Found) {
        let (id, expect) = (found.cluster.0, self.expect);
        assert!(found.members.len() >= expect as usize, "a region of too few: {found:?}");
        for (other, before) in &self.regions {
            let shared = before.members.iter().any(|member| found.members.contains(member));
            assert!(*other == id || !shared, "two regions share a server: {before:?} {found:?}");
        }
        self.regions.insert(id, found);
        let unique = self.servers.len() < 2 * expect as usize;
        assert!(!unique || self.regions.len() == 1, "two regions: {:?}", self.regions);
    }

    /// Joins if a server of the region can be reached at this moment.
    fn join(&mut self, at: usize, cluster: ClusterId) {
        let reaches = |other: usize| {
            let server = &self.servers[other];
            let talks = !self.cut.contains(&(at, other)) && !self.cut.contains(&(other, at));
            let member = server.joined == Some(cluster)
                || server.disk.founded.as_ref().is_some_and(|found| found.cluster == cluster);
            other != at && talks && server.running.is_some() && member
        };
        assert!(self.regions.contains_key(&cluster.0), "joins a region that nobody founded");
        let promised = self.servers[at].disk.promise.as_ref().map(|promise| promise.attempt);
        assert!(promised.is_none_or(|attempt| attempt == cluster), "joins while its promise stands");
        if (0..self.servers.len()).any(reaches) {
            // Whoever has joined asks no further.
            self.servers[at].joined.get_or_insert(cluster);
        }
    }

    fn position(&self, id: NodeId) -> usize {
        self.servers.iter().position(|server| server.candidate.node_id == id).expect("one of ours")
    }

    fn send(&mut self, from: usize, to: usize, message: Message, answers: bool) {
        let copies = if self.rng.random_bool(0.02) { 2 } else { 1 };
        for _ in 0..copies {
            let slow = if self.rng.random_bool(0.1) { 4_000 } else { 60 };
            let at = self.now + Duration::from_millis(self.rng.random_range(1..slow));
            self.flights.push(Flight { at, from, to, message: message.clone(), answers });
        }
    }

    fn deliver(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| flight.at <= self.now);
        self.flights = later;
        for Flight { from, to, message, answers, .. } in due {
            if self.cut.contains(&(from, to)) || self.servers[to].running.is_none() {
                continue;
            }
            let id = self.servers[from].candidate.node_id;
            match (answers, self.servers[to].joined) {
                (true, None) => self.step(to, Input::Answered { from: id, message }, None),
                (true, Some(_)) => {}
                (false, Some(cluster)) => self.send(to, from, Message::Founded { cluster }, true),
                (false, None) => self.step(to, Input::Asked { from: id, message }, Some(from)),
            }
        }
    }

    /// A round over the addresses that a server was given.
    fn survey(&mut self, at: usize) {
        for other in self.servers[at].addresses.clone() {
            let talks = !self.cut.contains(&(at, other)) && !self.cut.contains(&(other, at));
            if other == at || !talks || self.servers[other].running.is_none() {
                continue;
            }
            let from = self.servers[other].candidate.node_id;
            let founded = self.servers[other].disk.founded.as_ref().map(|found| found.cluster);
            match self.servers[other].joined.or(founded) {
                Some(cluster) => {
                    self.step(at, Input::Answered { from, message: Message::Founded { cluster } }, None);
                }
                None => self.step(at, Input::Told(vec![self.servers[other].candidate.clone()]), None),
            }
        }
        self.step(at, Input::Surveyed, None);
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += TICK;
            self.deliver();
            for at in 0..self.servers.len() {
                if self.servers[at].joined.is_some() {
                    continue;
                }
                if self.rng.random_bool(0.3) {
                    self.survey(at);
                }
                let draw = ClusterId(self.rng.random());
                self.step(at, Input::Tick { draw }, None);
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        let count = self.servers.len();
        match event {
            Event::Start(at) => self.start(at % count),
            Event::Crash(at) => self.servers[at % count].running = None,
            Event::Split(sides) => {
                let side = |at: usize| sides >> at & 1;
                let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
                self.cut = pairs.filter(|(one, other)| side(*one) != side(*other)).collect();
            }
            Event::Cut(from, to) => drop(self.cut.insert((from % count, to % count))),
            Event::Tangle(percent) => {
                self.cut.clear();
                for (one, other) in (0..count).flat_map(|one| (0..count).map(move |other| (one, other))) {
                    if self.rng.random_bool(f64::from(*percent) / 100.0) {
                        self.cut.insert((one, other));
                    }
                }
            }
            Event::Heal => self.cut.clear(),
            Event::Run(ticks) => self.run(u32::from(*ticks)),
        }
    }

    /// Everybody is up and can talk.
    fn settle(&mut self) {
        self.crash_chance = 0.0;
        self.cut.clear();
        (0..self.servers.len()).for_each(|at| self.start(at));
        self.run(400);
    }

    fn part_of(&self, at: usize) -> Option<ClusterId> {
        let server = &self.servers[at];
        server.joined.or(server.disk.founded.as_ref().map(|found| found.cluster))
    }

    fn waits(&self) -> Vec<String> {
        let tell = |server: &Server| {
            format!("{}: {:?} {:?}", server.candidate.name, server.waits, server.disk.promise)
        };
        self.servers.iter().map(tell).collect()
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..8_usize).prop_map(Event::Start),
        2 => (0..8_usize).prop_map(Event::Crash),
        1 => any::<u8>().prop_map(Event::Split),
        1 => (0..8_usize, 0..8_usize).prop_map(|(from, to)| Event::Cut(from, to)),
        5 => (10..70_u8).prop_map(Event::Tangle),
        1 => Just(Event::Heal),
        8 => (1..16_u8).prop_map(Event::Run),
        2 => (16..80_u8).prop_map(Event::Run),
    ]
}

proptest! {
    // `PROPTEST_CASES=20000 cargo test -p join --test founding` looks further.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_regions_share_a_server_and_one_comes_of_it_when_all_can_talk(
        expect in 1_u32..5,
        more in 0_usize..4,
        seed in any::<u64>(),
        crashes in 0..3_u8,
        events in proptest::collection::vec(event(), 0..80),
    ) {
        let count = (expect as usize + more).min(2 * expect as usize - 1);
        let mut world = World::new(count, expect, seed);
        world.crash_chance = f64::from(crashes) * 0.01;
        events.iter().for_each(|event| world.apply(event));
        world.settle();
        let regions: BTreeSet<_> = (0..count).map(|at| world.part_of(at).map(|id| id.0)).collect();
        prop_assert_eq!(regions.len(), 1, "{:#?}", world.waits());
        prop_assert!(!regions.contains(&None), "{:#?}", world.waits());
    }

    #[test]
    fn even_far_more_servers_than_expected_never_share_two_regions(
        expect in 1_u32..4,
        count in 2_usize..8,
        seed in any::<u64>(),
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut world = World::new(count, expect, seed);
        world.crash_chance = 0.01;
        events.iter().for_each(|event| world.apply(event));
        if count >= expect as usize {
            world.settle();
            for at in 0..count {
                prop_assert!(world.part_of(at).is_some(), "{:#?}", world.waits());
            }
        }
    }
}

#[test]
fn a_single_server_founds_at_once_when_nobody_else_is_there() {
    let mut world = World::new(1, 1, 1);
    world.start(0);
    world.run(20);
    assert!(world.part_of(0).is_some(), "{:?}", world.waits());
}

#[test]
fn a_single_server_joins_a_region_that_is_there_and_two_that_meet_found_one() {
    let mut world = World::new(2, 1, 2);
    world.servers[0].addresses = vec![1];
    world.start(0);
    world.run(40);
    world.start(1);
    world.run(40);
    assert!(world.part_of(0).is_some());
    assert_eq!(world.part_of(0), world.part_of(1));

    let mut world = World::new(2, 1, 3);
    world.servers[0].addresses = vec![1];
    world.start(0);
    world.start(1);
    world.run(120);
    assert_eq!((world.regions.len(), world.part_of(0)), (1, world.part_of(1)), "{:?}", world.waits());
}

#[test]
fn servers_that_expect_different_numbers_found_nothing_and_say_so() {
    let mut world = World::new(3, 3, 4);
    world.servers[2].candidate.expect = 2;
    (0..3).for_each(|at| world.start(at));
    world.run(200);
    assert!(world.regions.is_empty());
    let waits = world.servers[0].waits.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(waits.contains("bootstrap_expect") && waits.contains("s2: 2"), "{waits}");
}

#[test]
fn a_founder_that_dies_for_good_before_all_promised_holds_nobody_up() {
    let mut world = World::new(5, 3, 5);
    // The lowest of the first three founds, gets one promise, and is never seen again.
    let lowest = (0..3).min_by_key(|at| world.servers[*at].candidate.node_id).expect("three");
    let others: Vec<usize> = (0..3).filter(|at| *at != lowest).collect();
    (0..3).for_each(|at| world.start(at));
    world.servers[lowest].addresses = vec![0, 1, 2];
    let mut ticks = 0;
    while world.servers[others[0]].disk.promise.is_none() && ticks < 400 {
        // The other hears nothing of the attempt, but is known.
        if world.servers[lowest].disk.promise.is_some() {
            world.cut = BTreeSet::from([(lowest, others[1])]);
        }
        world.run(1);
        ticks += 1;
    }
    assert!(world.servers[others[0]].disk.promise.is_some(), "{:#?}", world.waits());
    assert!(world.regions.is_empty());
    world.servers[lowest].running = None;
    world.cut.clear();
    let alive: Vec<usize> = (0..5).filter(|at| *at != lowest).collect();
    alive.iter().for_each(|at| world.servers[*at].addresses = vec![others[0], others[1]]);
    alive.iter().for_each(|at| world.start(*at));
    world.run(400);
    let first = world.part_of(alive[0]);
    assert!(first.is_some(), "{:#?}", world.waits());
    assert!(alive.iter().all(|at| world.part_of(*at) == first), "{:#?}", world.waits());
}
