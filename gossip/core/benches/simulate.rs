//! Measures a pool of many members in simulated time: `cargo bench -p gossip-core --bench simulate -- 10000`.
//!
//! Prints a table. Arguments: how many members (10,000; 100 when it runs among tests), the seed (1). Ten thousand
//! take 6 GB and most of an hour, since each member keeps and searches its own list of all others.

use std::{collections::BTreeMap, env, fs, time::Duration};

use gossip_core::{
    Config, Input, Role,
    simulation::{Network, Simulation},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};

const SERVERS: usize = 5;
const PACKET_BYTES: usize = 1_352;
const PAUSE: Duration = Duration::from_secs(2);

fn main() {
    let unasked = if env::args().any(|argument| argument == "--bench") { 10_000 } else { 100 };
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let members = numbers.next().map_or(unasked, |members| members as usize);
    let seed = numbers.next().unwrap_or(1);
    println!("members {members}, servers {SERVERS}, seed {seed}\n");
    println!("| measured | value |\n| --- | --- |");
    // A large pool takes long to simulate: each member keeps and searches its own list of all.
    let (times, minute) = if members > 3_000 { (4, 20) } else { (10, 60) };
    let minute = Duration::from_secs(minute);
    let mut bench = Bench::start(members, seed);
    bench.join();
    bench.idle("idle, no loss", 0.0);
    bench.deaths("1 % loss", 0.01, Starving::Nobody, times);
    bench.starve("1 % loss, 5 % starved for 2 s at any time", 0.01, minute);
    bench.deaths("1 % loss, 5 % starved", 0.01, Starving::Some, times);
    bench.starve("10 % loss, 5 % starved for 2 s at any time", 0.10, minute);
    bench.deaths("10 % loss, 5 % starved", 0.10, Starving::Some, times);
    bench.settle();
    bench.halves();
}

/// Whether members pause while something is measured.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Starving {
    Nobody,
    Some,
}

struct Bench {
    simulation: Simulation,
    members: usize,
    rng: SmallRng,
}

impl Bench {
    fn start(members: usize, seed: u64) -> Self {
        let network = Network {
            latency_min: Duration::from_micros(300),
            latency_max: Duration::from_millis(5),
            loss: 0.0,
        };
        Self { simulation: Simulation::new(network, seed), members, rng: SmallRng::seed_from_u64(seed) }
    }

    /// Everybody starts within five seconds, knowing the servers' addresses.
    fn join(&mut self) {
        let before = resident_kib();
        let mut seeds = Vec::new();
        for number in 0..self.members {
            let role = if number < SERVERS { Role::Server } else { Role::Client };
            let config = Config::local(1, PACKET_BYTES, 0);
            let number = self.simulation.add(role, config).expect("the configuration is checked");
            if number < SERVERS {
                seeds.push(self.simulation.addr(number));
            }
            self.simulation.input(number, Input::Join(seeds.clone()));
            self.simulation.run_for(Duration::from_secs(5) / self.members as u32);
        }
        let started = self.simulation.now();
        let took = self.simulation.run_until(
            Duration::from_secs(300),
            Duration::from_millis(100),
            Simulation::is_converged,
        );
        row("all joined within 5 s; all know all after the last", &seconds(took));
        let pairs = (self.members * self.members) as u64;
        let bytes = (resident_kib() - before) * 1_024 / pairs.max(1);
        row("memory of one member for each that it knows", &format!("{bytes} B"));
        self.traffic("traffic while joining", self.simulation.now() - started + Duration::from_secs(5));
    }

    fn idle(&mut self, name: &str, loss: f64) {
        self.simulation.network.loss = loss;
        self.simulation.run_for(Duration::from_secs(10));
        self.simulation.clear_findings();
        self.simulation.run_for(Duration::from_secs(20));
        self.traffic(name, Duration::from_secs(20));
    }

    /// Some die, one after the other, and start again.
    fn deaths(&mut self, name: &str, loss: f64, starving: Starving, count: usize) {
        self.simulation.network.loss = loss;
        let (mut first, mut servers, mut all) = (Vec::new(), Vec::new(), Vec::new());
        self.simulation.clear_findings();
        let start = self.simulation.now();
        for _ in 0..count {
            let victim = self.rng.random_range(SERVERS..self.members);
            let died = self.simulation.now();
            self.simulation.kill(victim);
            for _ in 0..12 {
                if starving == Starving::Some {
                    self.starve_some(Duration::from_secs(1));
                }
                self.simulation.run_for(Duration::from_secs(1));
                if self.simulation.findings().deaths[&victim].len() + 1 >= self.members {
                    break;
                }
            }
            let known = &self.simulation.findings().deaths[&victim];
            first.push(known.values().min().map(|at| *at - died));
            servers.push(last(known, SERVERS, died));
            all.push(last_of(known, self.members - 1, died));
            self.simulation.start(victim).expect("it ran before");
            let seed = self.simulation.addr(0);
            self.simulation.input(victim, Input::Join(vec![seed]));
            self.simulation.run_for(Duration::from_secs(2));
        }
        row(&format!("death known to the first, {name}"), &spread(&first));
        row(&format!("death known to all servers, {name}"), &spread(&servers));
        row(&format!("death known to all, {name}"), &spread(&all));
        row(&format!("false deaths meanwhile, {name}"), &self.false_deaths());
        self.traffic(&format!("traffic meanwhile, {name}"), self.simulation.now() - start);
    }

    fn starve(&mut self, name: &str, loss: f64, time: Duration) {
        self.simulation.network.loss = loss;
        self.simulation.clear_findings();
        let start = self.simulation.now();
        while self.simulation.now() < start + time {
            self.starve_some(Duration::from_secs(1));
            self.simulation.run_for(Duration::from_secs(1));
        }
        let seconds = time.as_secs();
        row(&format!("false deaths in {seconds} s, {name}"), &self.false_deaths());
        self.traffic(&format!("traffic, {name}"), time);
    }

    /// Starts as many pauses as keep one of twenty paused, for the time until the next call.
    fn starve_some(&mut self, until_next: Duration) {
        let share = 0.05 * until_next.as_secs_f64() / PAUSE.as_secs_f64();
        let many = (self.members as f64 * share).round() as usize;
        let mut paused = 0;
        while paused < many {
            let number = self.rng.random_range(0..self.members);
            paused += usize::from(self.simulation.starve(number, PAUSE));
        }
    }

    fn settle(&mut self) {
        self.simulation.network.loss = 0.01;
        let converged = self.simulation.run_until(
            Duration::from_secs(120),
            Duration::from_millis(500),
            Simulation::is_converged,
        );
        row("all know all again, 1 % loss", &seconds(converged));
    }

    /// The network breaks in halves for half a minute and heals.
    fn halves(&mut self) {
        let mut numbers: Vec<usize> = (0..self.members).collect();
        numbers.shuffle(&mut self.rng);
        for number in &numbers[..self.members / 2] {
            self.simulation.set_side(*number, 1);
        }
        self.simulation.run_for(Duration::from_secs(30));
        let still = self.simulation.running().map(|(_, gossip)| gossip.alive()).max().unwrap_or_default();
        row("most members that one sees after 30 s in halves", &still.to_string());
        for number in numbers {
            self.simulation.set_side(number, 0);
        }
        self.simulation.clear_findings();
        let start = self.simulation.now();
        let healed = self.simulation.run_until(
            Duration::from_secs(180),
            Duration::from_millis(500),
            Simulation::is_converged,
        );
        row("all know all after the halves met, 1 % loss", &seconds(healed));
        self.traffic("traffic meanwhile", self.simulation.now() - start);
    }

    fn false_deaths(&self) -> String {
        let counters = self.simulation.counters();
        format!(
            "{} ({} suspicions taken back so far)",
            self.simulation.findings().false_deaths.len(),
            counters.suspicions_cleared
        )
    }

    fn traffic(&self, name: &str, time: Duration) {
        let findings = self.simulation.findings();
        let per = |count: u64| count as f64 / self.members as f64 / time.as_secs_f64();
        row(
            name,
            &format!(
                "{:.1} packets/s, {:.0} B/s, streams {:.0} B/s per member",
                per(findings.packets),
                per(findings.bytes),
                per(findings.stream_bytes)
            ),
        );
    }
}

fn row(name: &str, value: &str) {
    println!("| {name} | {value} |");
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("not in time".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}

/// When the last of the first `many` members knew, if all of them did.
fn last(known: &BTreeMap<usize, Duration>, many: usize, died: Duration) -> Option<Duration> {
    let times: Option<Vec<Duration>> = (0..many).map(|number| known.get(&number).copied()).collect();
    times?.into_iter().max().map(|at| at - died)
}

/// When the last of all knew, if so many did.
fn last_of(known: &BTreeMap<usize, Duration>, many: usize, died: Duration) -> Option<Duration> {
    if known.len() < many {
        return None;
    }
    known.values().max().map(|at| *at - died)
}

fn spread(times: &[Option<Duration>]) -> String {
    let mut known: Vec<Duration> = times.iter().flatten().copied().collect();
    known.sort();
    let missing = times.len() - known.len();
    match (known.get(known.len() / 2), known.last()) {
        (Some(middle), Some(worst)) => {
            let text = format!("median {:.2} s, worst {:.2} s", middle.as_secs_f64(), worst.as_secs_f64());
            if missing == 0 { text } else { format!("{text}, {missing} of {} not within 12 s", times.len()) }
        }
        _ => format!("{missing} of {} not within 12 s", times.len()),
    }
}

/// Memory of this process, where the system tells.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default()
}
