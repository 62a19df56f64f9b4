//! One run: builds the region, breaks it as planned, looks at it, heals it, and says what came of it.

use std::{
    collections::BTreeMap,
    panic,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chaos_check::{Checker, Observation, Outcome, Phase, Violation};
use raft::{ClusterMarker, MemoryDisk};
use rand::{RngExt, rngs::SmallRng};
use runtime::{Env, Instant, Shutdown, Skew, WallClock};
use server::Server;

use crate::{
    agent::Nets,
    faults::{Agent, Fault, Happening},
    machine::{Became, Machine},
    network::{Conditions, Traffic, Weather},
    observe::Observer,
    plan::{Plan, Work, pick},
    trace::Trace,
    users::Users,
    verdict::{Finding, Verdict},
};

/// The region's id in every run.
const MARKER: ClusterMarker = ClusterMarker(0xC1A5);
/// Simulated time between two looks at everything.
const STEP: Duration = Duration::from_millis(100);
/// Time for a new region to have a leader.
const FOUNDING_MAX: Duration = Duration::from_secs(20);
/// An agent that ended by itself is started again after this, as a supervisor does.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Time that the region has to heal after the last fault. The slowest part is a node that was out of reach for long.
const HEAL_MAX: Duration = Duration::from_secs(150);
/// After this, drains that go on are ended by a user: a wrong clock may have given them a year.
const DRAINS_MAX: Duration = Duration::from_secs(80);
/// Between two questions whether it has healed.
const HEAL_LOOK: Duration = Duration::from_secs(1);
/// Findings after which a run is over: the first one tells most.
const FINDINGS_MAX: usize = 5;

/// Runs a plan to its end and says what came of it. Call it in a runtime with one thread and paused time, in a process of
/// its own: what a run takes from process-wide sources follows the order in which it takes it.
pub async fn run(plan: &Plan, shown: bool) -> Verdict {
    let panics = catch_panics(shown);
    let directory = tempfile::Builder::new().prefix("chaos-sim-").tempdir_in(scratch());
    let directory = directory.expect("there is room for the clients' files");
    let mut world = World::new(plan, shown, directory.path(), panics);
    world.trace.note(format_args!(
        "seed {}, profile {}, {} servers, {} clients, {} users, {} faults",
        plan.seed,
        plan.profile,
        plan.size.servers,
        plan.size.clients,
        plan.users,
        plan.happenings.len()
    ));
    if world.found().await {
        world.break_things().await;
        if world.findings.is_empty() {
            world.heal().await;
        }
    }
    world.verdict()
}

/// A place for files that is in memory where the system has one.
fn scratch() -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

type Panics = Arc<Mutex<Vec<String>>>;

fn catch_panics(shown: bool) -> Panics {
    let panics = Panics::default();
    let caught = panics.clone();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        caught.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
        if shown {
            usual(info);
        }
    }));
    panics
}

struct World<'a> {
    plan: &'a Plan,
    env: Env,
    rng: SmallRng,
    began: Instant,
    trace: Trace,
    nets: Nets,
    machines: BTreeMap<Agent, Machine>,
    users: Arc<Users>,
    checker: Checker,
    observer: Observer,
    panics: Panics,
    phase: Phase,
    /// When agents that ended by themselves are started again.
    restarts: BTreeMap<Agent, Instant>,
    /// Servers whose disks lost something: more than a minority must not.
    lost: u8,
    /// A server left the group, so that fewer vote than there are.
    left: bool,
    leader: Option<(Agent, u64)>,
    injected: BTreeMap<String, u64>,
    findings: Vec<Finding>,
    healed_after: Option<Duration>,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, shown: bool, root: &std::path::Path, panics: Panics) -> Self {
        let began = Instant::now();
        let env = Env::with(WallClock::simulated(0, Skew::default()), plan.seed, Shutdown::new());
        let trace = Trace::begin(began, shown);
        let nets = Nets::new(Conditions::new(env.random_u64(), trace.clone()));
        Self {
            plan,
            rng: env.rng(),
            began,
            nets,
            machines: plan.agents().map(|agent| (agent, Machine::new(agent, root))).collect(),
            users: Users::new(&env, trace.clone(), plan.size.clients, plan.work),
            checker: Checker::new(match plan.work {
                Work::Usual => chaos_check::all(),
                Work::Demanding => chaos_check::strict(),
            }),
            observer: Observer::default(),
            panics,
            phase: Phase::Faults,
            restarts: BTreeMap::new(),
            lost: 0,
            left: false,
            leader: None,
            injected: BTreeMap::new(),
            findings: Vec::new(),
            healed_after: None,
            trace,
            env,
        }
    }

    /// Starts every agent and makes the region. False when it did not come to be.
    async fn found(&mut self) -> bool {
        let agents: Vec<Agent> = self.machines.keys().copied().collect();
        for agent in &agents {
            self.start(*agent);
        }
        self.env.sleep(STEP).await;
        self.look_after_agents();
        let founders: Vec<_> = self
            .machines
            .values()
            .filter(|machine| matches!(machine.agent, Agent::Server(_)))
            .map(Machine::replica)
            .collect();
        if let Some((server, env)) = self.server(Agent::Server(1)) {
            let trace = self.trace.clone();
            env.spawn("sim-found", async move {
                match server.found(&founders, MARKER).await {
                    Ok(()) => trace.note("the region is founded"),
                    Err(error) => trace.note(format_args!("not founded: {error}")),
                }
            });
        }
        while self.leader.is_none() {
            if self.trace.now() > FOUNDING_MAX {
                self.find("L0 a region begins", "nobody leads after the founding".to_owned());
                return false;
            }
            self.step().await;
        }
        self.users.begin(self.plan.users);
        true
    }

    /// Lets everything happen that is planned, looking all the time.
    async fn break_things(&mut self) {
        let plan = self.plan;
        let mut due: Vec<(Duration, usize, bool)> = Vec::new();
        for (place, happening) in plan.happenings.iter().enumerate() {
            due.push((happening.at, place, true));
            due.push((happening.at + happening.lasts, place, false));
        }
        due.sort_unstable();
        let mut due = due.into_iter().peekable();
        while self.trace.now() < plan.faults_end && self.findings.is_empty() {
            let until = self.trace.now() + STEP;
            while let Some((at, place, begins)) = due.next_if(|(at, ..)| *at <= until) {
                self.env.sleep_until(self.began + at).await;
                self.happen(place, &plan.happenings[place], begins);
            }
            self.env.sleep_until(self.began + until).await;
            self.look();
        }
    }

    /// Takes every fault away and waits for the region to be as it should.
    async fn heal(&mut self) {
        let since = self.trace.now();
        self.trace.note("all faults end");
        self.phase = Phase::Healing { since };
        self.users.send_home();
        self.nets.conditions.heal();
        let agents: Vec<Agent> = self.machines.keys().copied().collect();
        for agent in agents {
            if let Some(machine) = self.machines.get_mut(&agent) {
                (machine.held_down, machine.held_still) = (0, 0);
                machine.skew.set(0);
                machine.disk.mend();
                machine.hold(&self.nets);
            }
            self.start(agent);
        }
        let mut nodes_given_back = false;
        let mut rng = self.env.rng();
        // In some runs a node is emptied when there are no faults: that has to come to its end.
        let mut last_drain = None;
        if self.plan.work == Work::Demanding {
            let client = Agent::Client(rng.random_range(1..=self.plan.size.clients));
            last_drain = rng.random_bool(0.3).then_some(client);
        }
        while self.findings.is_empty() {
            for _ in 0..HEAL_LOOK.as_millis() / STEP.as_millis() {
                self.step().await;
            }
            let healing = self.trace.now().saturating_sub(since);
            let late = healing > HEAL_MAX;
            if self.users.gone() && !nodes_given_back {
                nodes_given_back = self.tidy_up(&mut last_drain, healing, &mut rng).await;
            }
            if (!nodes_given_back || !self.users.gone()) && !late {
                continue;
            }
            let wrong = self.not_healed();
            if wrong.is_empty() && nodes_given_back {
                self.healed_after = Some(healing);
                self.trace.note(format_args!("healed after {:.1} s", healing.as_secs_f64()));
                return;
            }
            if late {
                let seen = self.observe();
                for violation in wrong.into_iter().take(FINDINGS_MAX) {
                    self.note_violation(&violation);
                    self.show_job(&violation, &seen);
                }
                if !nodes_given_back {
                    self.find("L2 users are answered", "no node could be given back".to_owned());
                }
            }
        }
    }

    /// Ends what users began and left: drains, deployments that they held up. True when all of it is done.
    async fn tidy_up(
        &mut self,
        last_drain: &mut Option<Agent>,
        healing: Duration,
        rng: &mut SmallRng,
    ) -> bool {
        if let Some(client) = *last_drain {
            if self.users.drain(client, rng).await {
                self.trace.note(format_args!("{client} is emptied"));
                *last_drain = None;
            }
            return false;
        }
        let demanding = self.plan.work == Work::Demanding;
        if demanding && self.users.somebody_drains(rng) && healing < DRAINS_MAX {
            return false;
        }
        let mut done = self.users.give_back_nodes(rng).await;
        if demanding {
            done = done && self.users.resume_deployments(rng).await;
        }
        self.trace.note(format_args!("nodes are given back: {done}"));
        done
    }

    /// What is not yet as it should be.
    fn not_healed(&mut self) -> Vec<Violation> {
        let seen = self.observe();
        let mut wrong = {
            let history = self.users.history.lock();
            self.checker.end(&seen, &history)
        };
        let indexes: Vec<u64> =
            seen.servers.iter().filter_map(|server| Some(server.raft.as_ref()?.applied?.index)).collect();
        let all = usize::from(self.plan.size.servers);
        if indexes.len() < all || indexes.iter().any(|index| *index != indexes[0]) {
            let property = "L1 every server catches up";
            wrong.push(Violation { property, at: seen.at, what: format!("applied: {indexes:?} of {all}") });
        }
        wrong
    }

    /// Lets one step of time pass and looks at everything.
    async fn step(&mut self) {
        self.env.sleep(STEP).await;
        self.look();
    }

    fn look(&mut self) {
        self.look_after_agents();
        let seen = self.observe();
        self.note_leader(&seen);
        for violation in self.checker.step(&seen) {
            self.note_violation(&violation);
            self.show_job(&violation, &seen);
        }
    }

    fn observe(&mut self) -> Observation {
        let watched = std::mem::take(&mut *self.users.watched.lock());
        let panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen =
            self.observer.look(&self.machines, &self.nets, &self.trace, self.phase, watched, panics);
        seen.stopped_by_hand = self.users.stopped.lock().clone();
        seen
    }

    /// Notices what agents did by themselves, and starts those that a supervisor would.
    fn look_after_agents(&mut self) {
        let now = self.env.now();
        let mut start = Vec::new();
        for machine in self.machines.values_mut() {
            let agent = machine.agent;
            match machine.look(&self.nets, &self.trace) {
                Became::Same => {}
                Became::Started => {
                    self.trace.note(format_args!("{agent} is up, start {}", machine.boots));
                    let server = machine.parts().and_then(|parts| parts.server.clone());
                    if let (Some(server), Some(env), Agent::Server(number)) = (server, machine.env(), agent) {
                        let entry = (server.clone(), env.clone(), machine.boots);
                        self.users.servers.lock().insert(number, entry);
                        self.users.follow(agent, &server, env, machine.boots);
                    }
                    machine.hold(&self.nets);
                }
                Became::Ended(reason) => {
                    self.trace.note(format_args!("{agent} ended: {reason}"));
                    if let Agent::Server(number) = agent {
                        self.users.lose(number);
                    }
                    self.restarts.insert(agent, now + RESTART_AFTER);
                }
            }
            if self.restarts.get(&agent).is_some_and(|at| *at <= now) {
                self.restarts.remove(&agent);
                start.push(agent);
            }
        }
        for agent in start {
            self.start(agent);
        }
    }

    /// Starts an agent that is down, unless a fault keeps it there.
    fn start(&mut self, agent: Agent) {
        let seed = self.rng.random();
        let Some(machine) = self.machines.get_mut(&agent) else { return };
        if !machine.is_up() && machine.held_down == 0 {
            self.restarts.remove(&agent);
            machine.start(&self.nets, self.plan, self.began, seed);
        }
    }

    fn kill(&mut self, agent: Agent) {
        if let Agent::Server(number) = agent {
            self.users.lose(number);
        }
        if let Some(machine) = self.machines.get_mut(&agent) {
            machine.kill(&self.nets);
        }
    }

    fn server(&self, agent: Agent) -> Option<(Server, Env)> {
        let machine = self.machines.get(&agent)?;
        Some((machine.parts()?.server.clone()?, machine.env()?.clone()))
    }

    /// Begins a fault, or ends it.
    fn happen(&mut self, place: usize, happening: &Happening, begins: bool) {
        let fault = &happening.fault;
        if begins {
            self.trace.note(format_args!("#{place} {fault} for {:.3} s", happening.lasts.as_secs_f64()));
            *self.injected.entry(fault.kind().to_owned()).or_default() += 1;
        } else {
            self.trace.note(format_args!("#{place} ends: {fault}"));
        }
        match fault {
            Fault::Crash { agents } => agents.iter().for_each(|agent| self.hold_down(*agent, begins)),
            Fault::Pause { agent } => self.hold_still(*agent, begins),
            Fault::Clock { agent, seconds } => {
                let nanos = seconds.saturating_mul(1_000_000_000);
                self.machines[agent].skew.set(if begins { nanos } else { 0 });
            }
            Fault::Partition { .. }
            | Fault::OneWay { .. }
            | Fault::Pair { .. }
            | Fault::GossipCut { .. }
            | Fault::ConnectionsCut { .. } => self.nets.conditions.cut(&self.links(fault), begins),
            Fault::Weather { lost_permille, doubled_permille, delay_ms } => {
                let weather = Weather {
                    lost_permille: *lost_permille,
                    doubled_permille: *doubled_permille,
                    delay_ms: *delay_ms,
                };
                self.nets.conditions.weather(place, begins.then_some(weather));
            }
            Fault::Clog { agent } => {
                let until = self.env.now() + happening.lasts;
                self.nets.conditions.clog(place, begins.then_some((agent.ip(), until)));
            }
            Fault::FailedSyncs { .. }
            | Fault::TornWrite { .. }
            | Fault::FullDisk { .. }
            | Fault::SlowDisk { .. }
            | Fault::LostEntries { .. }
            | Fault::FlippedBit { .. } => self.happen_to_disk(fault, begins),
            Fault::Reboot { agents } => agents.iter().for_each(|agent| {
                self.hold_down(*agent, begins);
                self.end_machine(*agent, begins, Machine::lose_power);
            }),
            Fault::Reinstall { client } => {
                let agent = Agent::Client(*client);
                self.hold_down(agent, begins);
                self.end_machine(agent, begins, Machine::make_anew);
            }
            // With a damaged disk among them, fewer servers might be none.
            Fault::ServerLeave { server } if begins && self.lost > 0 => {
                self.hold_down(Agent::Server(*server), true)
            }
            Fault::ServerLeave { server } => {
                self.left = true;
                self.leave(Agent::Server(*server), begins);
            }
            Fault::Transfer if begins => self.transfer(),
            Fault::TaskFailure { client } if begins => self.fail_a_task(*client),
            Fault::Leave { client } => self.leave(Agent::Client(*client), begins),
            Fault::Transfer | Fault::TaskFailure { .. } => {}
        }
    }

    fn happen_to_disk(&mut self, fault: &Fault, begins: bool) {
        let machine = |server: &u8| &self.machines[&Agent::Server(*server)];
        match fault {
            Fault::FailedSyncs { server } if begins => machine(server).disk.fail_syncs(1),
            Fault::TornWrite { server, kept_permille } if begins => {
                machine(server).tear_next_write(*kept_permille, &self.nets);
            }
            Fault::FullDisk { server } => machine(server).disk.fill(begins),
            Fault::SlowDisk { server, each_ms } => {
                let each = if begins { Duration::from_millis(*each_ms) } else { Duration::ZERO };
                machine(server).disk.slow_down(each);
            }
            Fault::LostEntries { server, entries } => {
                self.damage(*server, begins, |disk| disk.lose_synced(*entries));
            }
            Fault::FlippedBit { server, in_snapshot, permille } => self.damage(*server, begins, |disk| {
                if *in_snapshot {
                    disk.flip_bit_of_snapshot(*permille)
                } else {
                    disk.flip_bit_of_entry(*permille)
                }
            }),
            // What happens once has no end, and the rest happens elsewhere.
            _ => {}
        }
    }

    fn hold_down(&mut self, agent: Agent, begins: bool) {
        let Some(machine) = self.machines.get_mut(&agent) else { return };
        if begins {
            machine.held_down += 1;
            self.kill(agent);
        } else {
            machine.held_down = machine.held_down.saturating_sub(1);
            self.start(agent);
        }
    }

    fn hold_still(&mut self, agent: Agent, begins: bool) {
        let Some(machine) = self.machines.get_mut(&agent) else { return };
        machine.held_still =
            if begins { machine.held_still + 1 } else { machine.held_still.saturating_sub(1) };
        machine.hold(&self.nets);
    }

    /// The links that a fault cuts.
    fn links(&self, fault: &Fault) -> Vec<(std::net::IpAddr, std::net::IpAddr, Traffic)> {
        let all: Vec<Agent> = self.machines.keys().copied().collect();
        let is_cut = |from: Agent, to: Agent, traffic: Traffic| match fault {
            Fault::Partition { side } => side.contains(&from) != side.contains(&to),
            Fault::OneWay { from: a, to: b } => (from, to) == (*a, *b),
            Fault::Pair { one, other } => (from, to) == (*one, *other) || (to, from) == (*one, *other),
            Fault::GossipCut { agent } => traffic == Traffic::Gossip && (from == *agent || to == *agent),
            Fault::ConnectionsCut { agent } => {
                traffic == Traffic::Connections && (from == *agent || to == *agent)
            }
            _ => false,
        };
        let mut links = Vec::new();
        for from in &all {
            for to in all.iter().filter(|to| *to != from) {
                let traffics = [Traffic::Gossip, Traffic::Connections];
                let cut = traffics.into_iter().filter(|traffic| is_cut(*from, *to, *traffic));
                links.extend(cut.map(|traffic| (from.ip(), to.ip(), traffic)));
            }
        }
        links
    }

    /// Damages a server's disk while the server is down. A region outlives that for a minority of its servers, and only
    /// while all of them vote.
    fn damage(&mut self, server: u8, begins: bool, how: impl FnOnce(&MemoryDisk)) {
        let agent = Agent::Server(server);
        let most = (self.plan.size.servers - 1) / 2;
        self.hold_down(agent, begins);
        if begins && self.lost < most && !self.left {
            self.lost += 1;
            how(&self.machines[&agent].disk);
        }
    }

    fn end_machine(&mut self, agent: Agent, begins: bool, end: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get_mut(&agent).filter(|_| begins) {
            end(machine);
        }
    }

    fn transfer(&mut self) {
        let leader = self.leader.and_then(|(agent, _)| self.server(agent));
        let Some((server, env)) = leader else { return };
        let me = server.replica().raft_id();
        let others = server.raft().members().voter_ids().into_iter().filter(|id| *id != me);
        let others: Vec<u64> = others.collect();
        if others.is_empty() {
            return;
        }
        let (to, trace) = (*pick(&mut self.rng, &others), self.trace.clone());
        env.spawn("sim-transfer", async move {
            if let Err(error) = server.raft().transfer_leader(to).await {
                trace.note(format_args!("no transfer: {error}"));
            }
        });
    }

    fn fail_a_task(&mut self, client: u8) {
        let machine = &self.machines[&Agent::Client(client)];
        let running = machine.tasks.running();
        if running.is_empty() {
            return;
        }
        let id = pick(&mut self.rng, &running);
        self.trace.note(format_args!("task {id} ends with exit code 1"));
        machine.tasks.fail(id, machine.env().map_or(0, Env::wall));
    }

    fn leave(&mut self, agent: Agent, begins: bool) {
        let Some(machine) = self.machines.get_mut(&agent) else { return };
        if !begins {
            machine.held_down = machine.held_down.saturating_sub(1);
            if machine.left {
                self.kill(agent);
            }
            self.start(agent);
            return;
        }
        machine.held_down += 1;
        let Some(parts) = machine.parts().cloned() else { return };
        let Some(env) = machine.env().cloned() else { return };
        machine.left = true;
        env.clone().spawn("sim-leave", async move {
            if let Some(client) = &parts.client {
                client.leave();
            }
            if let Some(server) = &parts.server {
                // Then the others count it until they notice that it is gone.
                let _ = server.leave().await;
            }
            // Nobody may be there to confirm it.
            let _ = parts.gossip.leave(gossip_driver::PoolKind::Region, Duration::from_secs(5)).await;
            env.shutdown().fire();
        });
    }

    fn note_leader(&mut self, seen: &Observation) {
        let leads = |server: &&chaos_check::ServerView| {
            server.raft.as_ref().is_some_and(|raft| raft.role == chaos_check::Role::Leader)
        };
        let leader =
            seen.servers.iter().filter(leads).max_by_key(|server| server.raft.as_ref().map(|raft| raft.term));
        let Some((server, raft)) = leader.and_then(|server| Some((server, server.raft.as_ref()?))) else {
            return;
        };
        let agent = self.machines.keys().find(|agent| agent.to_string() == *server.agent).copied();
        let leader = agent.map(|agent| (agent, raft.term));
        if leader != self.leader {
            self.leader = leader;
            self.trace.note(format_args!("{} leads in term {}", server.agent, raft.term));
        }
    }

    fn note_violation(&mut self, violation: &Violation) {
        self.find(violation.property, violation.what.clone());
    }

    /// Shows what the state has of the job that a violation names.
    fn show_job(&self, violation: &Violation, seen: &Observation) {
        let Some(rows) = seen.newest_rows() else { return };
        let named = |key: &model::JobKey| violation.what.contains(&key.to_string());
        for (id, row) in rows.allocs.iter().filter(|(_, row)| named(&row.job)) {
            let (story, short) = (&row.story, |id: Option<model::AllocId>| id.map(|id| id.short()));
            self.trace.note(format_args!(
                "  {} [{}] of version {}, index {} to {}: {:?} {:?} healthy {:?} canary {} migrates {} for {:?}, then {:?}; {}",
                id.short(), row.number, row.version, row.create_index, row.modify_index, row.desired, row.client,
                story.healthy, row.canary, story.migrates, short(story.previous), short(story.next), story.why
            ));
        }
        for rollout in rows.deployments.values().filter(|rollout| named(&rollout.job)) {
            self.trace.note(format_args!(
                "  deployment of version {} since {}: {:?} {:?}",
                rollout.job_version, rollout.create_index, rollout.status, rollout.groups
            ));
        }
        for eval in rows.evals.values().filter(|eval| named(&eval.job) && !eval.status.is_terminal()) {
            self.trace.note(format_args!(
                "  evaluation {:?} since index {}, queued {}",
                eval.status, eval.modify_index, eval.queued
            ));
        }
    }

    fn find(&mut self, property: &str, what: String) {
        self.trace.note(format_args!("FOUND {property}: {what}"));
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { property: property.to_owned(), at: self.trace.now(), what });
        }
    }

    fn verdict(self) -> Verdict {
        let mut operations = BTreeMap::new();
        for operation in &self.users.history.lock().operations {
            let outcome = match operation.outcome {
                Outcome::Done(_) => "done",
                Outcome::Refused => "refused",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            *operations.entry(outcome.to_owned()).or_default() += 1;
        }
        let checks = self.checker.checks().iter();
        Verdict {
            seed: self.plan.seed,
            trace_hash: self.trace.hash(),
            simulated: self.trace.now(),
            messages: self.trace.messages(),
            injected: self.injected,
            checks: checks.map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            operations,
            healed_after: self.healed_after,
            findings: self.findings,
        }
    }
}
