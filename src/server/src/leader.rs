//! What only the leader does: the scheduler's rounds and the machines of `control`, in one loop.
//!
//! The loop owns all of it and awaits one [`Event`] at a time. What the machines want is proposed in order by one task
//! beside it; a round's plans are one command, and the next round may be decided while that commits.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use control::{
    Moment,
    blocked::Blocked,
    broker,
    broker::Broker,
    collection,
    collection::Thresholds,
    deployments::Deployments,
    drain::Draining,
    liveness,
    periodic::Periodic,
    reporters::{Reporters, Stamp},
};
use model::{NodeId, Timestamp};
use protocol::{Command, Named, Plan, encode};
use raft::{Leadership, ReadMode};
use runtime::Instant;
use scheduler::{Budget, Context, Scheduler};
use state::{Changes, Outcome, Snapshot};
use tokio::sync::{broadcast, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    HostSign, MemberStatus,
    asks::{self, Answer, Report, Said},
    group, keyring,
    members::GossipWord,
    probe,
    server::{Inner, SubmitError, Submitted},
};

/// Evaluations taken into one round. More would make one entry of the log too large.
const ROUND_EVALS_MAX: usize = 1_024;

/// Placements of one round; the plan that reaches it ends the round.
const ROUND_PLACEMENTS_MAX: usize = 8_192;

/// Rounds that may be under way at once: one is decided while one is committed.
const ROUNDS_MAX: usize = 2;

/// Wait before a leader that could not begin, or could not propose, tries again.
const BEGIN_RETRY: Duration = Duration::from_millis(100);

/// The longest that the loop sleeps without looking at its machines.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Machines that are looked at at once. Each takes some sockets for up to a second; the others wait, and those that were
/// not looked at are believed to be there for longer.
const LOOKS_MAX: usize = 64;

/// What others tell the leader.
#[derive(Debug)]
pub(crate) enum LeaderInput {
    /// A server tells which sessions it holds. Dropped unanswered where this server does not lead.
    Report(Report, oneshot::Sender<Answer>),
    /// Gossip says something of a node.
    Gossip(NodeId, GossipWord),
    /// A node's machine was looked at.
    Looked(NodeId, liveness::Machine),
    /// Remove old records.
    Collect {
        /// All that is over, however young.
        all: bool,
        /// Sent when it is done.
        done: oneshot::Sender<Result<(), SubmitError>>,
    },
    /// How many evaluations wait, for metrics.
    Counts(oneshot::Sender<Counts>),
}

/// How many evaluations the leader holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// In the broker.
    pub broker: broker::Counts,
    /// Waiting for room.
    pub blocked: usize,
}

/// Follows leadership, and leads while this server is the leader.
pub(crate) async fn run(inner: Arc<Inner>, mut inputs: mpsc::Receiver<LeaderInput>) {
    let mut leadership = inner.raft.leadership();
    loop {
        let current = leadership.borrow_and_update().clone();
        match current {
            Leadership::Stopped => return,
            Leadership::Leader { term } => match begin(&inner).await {
                Ok(()) => {
                    tracing::info!(term, "leading");
                    inner.env.spawn("group", group::keep(inner.clone(), term));
                    lead(&inner, &mut inputs, &mut leadership, term).await;
                    tracing::info!(term, "not leading any more");
                }
                Err(error) => {
                    tracing::warn!(%error, "could not begin to lead");
                    inner.env.sleep(BEGIN_RETRY).await;
                }
            },
            Leadership::Follower { .. } | Leadership::Unknown { .. } => {
                tokio::select! {
                    biased;
                    changed = leadership.changed() => if changed.is_err() { return },
                    input = inputs.recv() => match input {
                        None => return,
                        Some(LeaderInput::Collect { done, .. }) => {
                            // Whoever asked may have stopped waiting.
                            let _ = done.send(Err(SubmitError::NotLeader));
                        }
                        Some(_) => {}
                    },
                }
            }
        }
    }
}

/// Makes sure that the state has everything that was committed, and that the cluster has an id.
async fn begin(inner: &Inner) -> Result<(), SubmitError> {
    let unavailable = |error: raft::ReadError| SubmitError::Unavailable(error.to_string());
    inner.raft.barrier(ReadMode::Quorum).await.map_err(unavailable)?;
    if inner.hub.snapshot().cluster_id().is_none() {
        // The same as in greetings and in the log, so that there is one name for a cluster.
        let random = || raft::ClusterMarker(inner.env.random_u128());
        let cluster_id = Uuid::from_u128(inner.raft.cluster().unwrap_or_else(random).0);
        let now = Timestamp(inner.env.wall());
        inner.propose(encode(&Command::InitCluster { cluster_id, now })).await?;
    }
    if inner.hub.snapshot().autopilot_config().modify_index == 0 {
        let config = Named(inner.config.autopilot.clone());
        inner.propose(encode(&Command::SetAutopilotConfig { config, cas: Some(0) })).await?;
    }
    if inner.hub.snapshot().root_keys().next().is_none() {
        let key = Named(keyring::new_key(&inner.env));
        inner.propose(encode(&Command::AddRootKey { key, first: true })).await?;
    }
    Ok(())
}

/// One thing that happens to a leader.
enum Event {
    Deposed,
    Changed(Result<Arc<Changes>, broadcast::error::RecvError>),
    Asked(Option<LeaderInput>),
    Proposed(Result<Submitted, SubmitError>),
    RoundOver(Result<Submitted, SubmitError>),
    Due,
}

async fn lead(
    inner: &Arc<Inner>,
    inputs: &mut mpsc::Receiver<LeaderInput>,
    leadership: &mut tokio::sync::watch::Receiver<Leadership>,
    term: u64,
) {
    let mut changes = inner.hub.follow();
    let mut leader = Leader::new(inner.clone());
    loop {
        leader.start_rounds();
        leader.propose_next();
        leader.start_looks();
        let wake = inner.env.now() + leader.next_tick();
        let event = tokio::select! {
            biased;
            changed = leadership.changed() => {
                // One who was deposed and is elected again begins anew: what it had proposed may be lost.
                let leads = matches!(*leadership.borrow(), Leadership::Leader { term: now } if now == term);
                if changed.is_ok() && leads { Event::Due } else { Event::Deposed }
            }
            change = changes.recv() => Event::Changed(change),
            result = joined(leader.rounds.front_mut().map(|round| &mut round.task)) => Event::RoundOver(result),
            result = joined(leader.proposing.as_mut().map(|(_, task)| task)) => Event::Proposed(result),
            input = inputs.recv() => Event::Asked(input),
            () = inner.env.sleep_until(wake) => Event::Due,
        };
        match event {
            Event::Deposed | Event::Asked(None) => return,
            Event::Changed(Ok(change)) if !change.replaced() => leader.applied(&change),
            Event::Changed(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {
                tracing::warn!(
                    "leader's own state went ahead of it or was replaced; starting from the state"
                );
                changes = inner.hub.follow();
                let rounds = std::mem::take(&mut leader.rounds);
                leader = Leader::new(inner.clone());
                leader.rounds = rounds;
            }
            Event::Changed(Err(broadcast::error::RecvError::Closed)) => return,
            Event::Proposed(result) => leader.proposed(result),
            Event::RoundOver(result) => leader.round_over(result),
            Event::Asked(Some(input)) => leader.asked(input),
            Event::Due => leader.tick(),
        }
    }
}

/// Waits for a task, or for ever when there is none.
async fn joined(task: Option<&mut Submission>) -> Result<Submitted, SubmitError> {
    match task {
        Some(task) => match task.await {
            Ok(result) => result,
            Err(_) => Err(SubmitError::Unavailable("server is stopping".to_owned())),
        },
        None => std::future::pending().await,
    }
}

/// The answer to a command that was proposed.
type Submission = oneshot::Receiver<Result<Submitted, SubmitError>>;

/// A round whose command is under way.
struct Round {
    plans: Arc<Vec<Plan>>,
    task: Submission,
}

struct Leader {
    inner: Arc<Inner>,
    started: Instant,
    broker: Broker,
    blocked: Blocked,
    liveness: liveness::Liveness,
    deployments: Deployments,
    draining: Draining,
    periodic: Periodic,
    scheduler: Scheduler,
    rounds: VecDeque<Round>,
    outbox: VecDeque<Command>,
    proposing: Option<(Command, Submission)>,
    /// Machines that are being looked at.
    looking: usize,
    reporters: Reporters,
    /// Whether every server has told which sessions it holds since this one leads.
    all_told: bool,
    collect_at: Instant,
    last_tick: Instant,
}

impl Leader {
    fn new(inner: Arc<Inner>) -> Self {
        let snapshot = inner.hub.snapshot();
        let started = inner.env.now();
        let env = inner.env.clone();
        let mut draw = || env.random_u128();
        let mut moment = Moment { elapsed: Duration::ZERO, wall: Timestamp(env.wall()), draw: &mut draw };
        let broker = Broker::new(broker::Config::STANDARD, &snapshot, &moment);
        let (blocked, woken) = Blocked::new(&snapshot, &moment);
        let liveness = liveness::Liveness::new(inner.config.heartbeats.liveness(), &snapshot, &moment);
        let (deployments, commands) = Deployments::new(&snapshot, &mut moment);
        let periodic = Periodic::new(&snapshot, &moment);
        let mut scheduler = Scheduler::new();
        scheduler.rebuild(&snapshot);
        let collect_at = started + inner.config.gc_interval;
        let mut leader = Self {
            inner,
            started,
            broker,
            blocked,
            liveness,
            deployments,
            draining: Draining::new(&snapshot),
            periodic,
            scheduler,
            rounds: VecDeque::new(),
            outbox: commands.into(),
            proposing: None,
            looking: 0,
            reporters: Reporters::default(),
            all_told: false,
            collect_at,
            last_tick: started,
        };
        leader.upsert(woken);
        for node in leader.inner.gossip.dead() {
            leader.live(liveness::Input::GossipDead(node));
        }
        leader
    }

    /// Runs `step` with the time and the chance that machines take.
    fn with<T>(&mut self, step: impl FnOnce(&mut Self, &mut Moment<'_>) -> T) -> T {
        let env = self.inner.env.clone();
        let mut draw = || env.random_u128();
        let elapsed = env.now().saturating_duration_since(self.started);
        let mut moment = Moment { elapsed, wall: Timestamp(env.wall()), draw: &mut draw };
        step(self, &mut moment)
    }

    fn upsert(&mut self, evals: Vec<model::Evaluation>) {
        if !evals.is_empty() {
            self.outbox.push_back(Command::UpsertEvals { evals });
        }
    }

    fn applied(&mut self, changes: &Changes) {
        let snapshot = self.inner.hub.snapshot();
        self.scheduler.follow(&snapshot, changes);
        self.with(|leader, now| {
            let outputs = leader.broker.step(now, broker::Input::Applied(changes));
            leader.take_broker(outputs);
            let woken = leader.blocked.applied(&snapshot, changes, now);
            leader.upsert(woken);
            let commands = leader.liveness.step(&snapshot, now, liveness::Input::Applied(changes));
            leader.outbox.extend(commands);
            let commands = leader.deployments.applied(&snapshot, changes, now);
            leader.outbox.extend(commands);
            leader.periodic.applied(changes, now);
            let commands = leader.draining.applied(&snapshot, changes, now);
            leader.outbox.extend(commands);
        });
        let paused = snapshot.scheduler_config().pause_eval_broker;
        if changes.tables().contains(&state::Table::SchedulerConfig) {
            self.with(|leader, now| {
                let outputs = leader.broker.step(now, broker::Input::Pause(paused));
                leader.take_broker(outputs);
            });
        }
    }

    fn take_broker(&mut self, outputs: Vec<broker::Output>) {
        for broker::Output::Upsert(evals) in outputs {
            self.upsert(evals);
        }
    }

    fn tick(&mut self) {
        self.last_tick = self.inner.env.now();
        self.lose_servers();
        let snapshot = self.inner.hub.snapshot();
        self.with(|leader, now| {
            let outputs = leader.broker.step(now, broker::Input::Tick);
            leader.take_broker(outputs);
            let woken = leader.blocked.tick(now);
            leader.upsert(woken);
            let commands = leader.liveness.step(&snapshot, now, liveness::Input::Tick);
            leader.outbox.extend(commands);
            let commands = leader.deployments.tick(&snapshot, now);
            leader.outbox.extend(commands);
            let commands = leader.periodic.tick(&snapshot, now);
            leader.outbox.extend(commands);
            let commands = leader.draining.tick(&snapshot, now);
            leader.outbox.extend(commands);
        });
        if self.inner.env.now() >= self.collect_at {
            self.collect_at = self.inner.env.now() + self.inner.config.gc_interval;
            let wall = Timestamp(self.inner.env.wall());
            self.outbox.extend(collection::collect(&snapshot, wall, &self.inner.config.thresholds));
        }
    }

    fn next_tick(&mut self) -> Duration {
        let until_collect = self.collect_at.saturating_duration_since(self.inner.env.now());
        let failed = self.failed_servers();
        let rest = self.with(|leader, now| {
            let ticks = [
                leader.reporters.next_tick(now.elapsed, &failed),
                leader.broker.next_tick(now),
                leader.liveness.next_tick(now),
                leader.deployments.next_tick(now),
                leader.periodic.next_tick(now),
                leader.draining.next_tick(now),
            ];
            ticks.into_iter().flatten().min()
        });
        rest.unwrap_or(IDLE_MAX).min(until_collect).min(IDLE_MAX)
    }

    fn asked(&mut self, input: LeaderInput) {
        match input {
            LeaderInput::Report(report, reply) => {
                let answer = self.hear_report(report);
                // Whoever reports may be gone.
                let _ = reply.send(answer);
            }
            LeaderInput::Gossip(node, GossipWord::Alive) => self.live(liveness::Input::GossipAlive(node)),
            LeaderInput::Gossip(node, GossipWord::Dead) => self.live(liveness::Input::GossipDead(node)),
            LeaderInput::Gossip(_, GossipWord::Suspect) => {}
            LeaderInput::Looked(node, machine) => {
                // One that an earlier leader's loop asked for was not counted here.
                self.looking = self.looking.saturating_sub(1);
                self.live(liveness::Input::Looked(node, machine));
            }
            LeaderInput::Collect { all, done } => {
                let thresholds = if all { Thresholds::EVERYTHING } else { self.inner.config.thresholds };
                let inner = self.inner.clone();
                self.inner.env.spawn("collection", async move {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(collect_all(&inner, &thresholds).await);
                });
            }
            LeaderInput::Counts(reply) => {
                let counts = Counts { broker: self.broker.counts(), blocked: self.blocked.len() };
                let _ = reply.send(counts);
            }
        }
    }

    /// Takes in which sessions a server holds.
    fn hear_report(&mut self, report: Report) -> Answer {
        let Report { server, run, number, said } = report;
        let full = matches!(said, Said::Everything(_));
        let elapsed = self.inner.env.now().saturating_duration_since(self.started);
        if !self.reporters.take(elapsed, Stamp { server, run, number, full }) {
            return Answer::Heard { taken: false, point: None };
        }
        match said {
            Said::Everything(sessions) => {
                let held: BTreeSet<_> = sessions.into_iter().collect();
                self.live(liveness::Input::Sessions(server, &held));
            }
            Said::Changes { opened, closed } => {
                for (node, session) in opened {
                    self.live(liveness::Input::SessionOpened(node, (server, session)));
                }
                for asks::Ended { node, number, silent_ms } in closed {
                    let heard = elapsed.saturating_sub(Duration::from_millis(silent_ms));
                    self.live(liveness::Input::SessionClosed(node, (server, number), heard));
                }
            }
        }
        if full {
            self.note_all_told();
        }
        let point = self.inner.raft.with_state(|machine| machine.store().chain().window().next_back());
        Answer::Heard { taken: true, point }
    }

    /// Ends the time of waiting for servers to tell once all have that can.
    fn note_all_told(&mut self) {
        let failed = self.failed_servers();
        let members = self.inner.raft.members().peers;
        let expected = members.keys().copied().filter(|id| !failed.contains(id));
        if !self.all_told && self.reporters.have_told(expected) {
            self.all_told = true;
            self.live(liveness::Input::AllTold);
        }
    }

    /// The members that gossip calls failed or gone.
    fn failed_servers(&self) -> BTreeSet<u64> {
        let servers = self.inner.gossip.servers();
        let failed = servers.values().filter(|server| server.status != MemberStatus::Alive);
        failed.map(|server| server.replica.raft_id()).collect()
    }

    /// Drops the sessions of servers that nobody has heard of.
    fn lose_servers(&mut self) {
        let elapsed = self.inner.env.now().saturating_duration_since(self.started);
        for (server, since) in self.reporters.lost(elapsed, &self.failed_servers()) {
            tracing::warn!(server, "server is silent; the sessions that it held count as ended");
            self.live(liveness::Input::ServerLost(server, since));
        }
        self.note_all_told();
    }

    fn live(&mut self, input: liveness::Input<'_>) {
        let snapshot = self.inner.hub.snapshot();
        self.with(|leader, now| {
            let commands = leader.liveness.step(&snapshot, now, input);
            leader.outbox.extend(commands);
        });
    }

    /// Looks at the machines of nodes that are not heard, some at a time.
    fn start_looks(&mut self) {
        while self.looking < LOOKS_MAX
            && let Some(node) = self.liveness.next_look()
        {
            self.looking += 1;
            let inner = self.inner.clone();
            self.inner.env.spawn("leader-look", async move {
                let machine = match probe::look(&inner, node, None).await {
                    HostSign::Stalled => liveness::Machine::Standing,
                    HostSign::Closed | HostSign::Silent => liveness::Machine::Gone,
                };
                tracing::debug!(%node, ?machine, "looked at the machine of a node that is not heard");
                // The leader's loop is gone only when the server stops.
                let _ = inner.leader.send(LeaderInput::Looked(node, machine)).await;
            });
        }
    }

    /// Proposes the next of what the machines want. One is under way at a time, so that their order is kept.
    fn propose_next(&mut self) {
        if self.proposing.is_none()
            && let Some(command) = self.outbox.pop_front()
        {
            let task = self.submit(command.clone());
            self.proposing = Some((command, task));
        }
    }

    /// Takes in what became of a change. What wanted it does not say it again, so one that was certainly not made is proposed
    /// once more: a leader that did not reach the others for a while may still lead.
    fn proposed(&mut self, result: Result<Submitted, SubmitError>) {
        let Some((command, _)) = self.proposing.take() else { return };
        match result {
            Ok(_) => {}
            Err(SubmitError::NotLeader) => {
                let task = self.submit_after(BEGIN_RETRY, command.clone());
                self.proposing = Some((command, task));
            }
            Err(error @ (SubmitError::Refused(_) | SubmitError::Unknown | SubmitError::Unavailable(_))) => {
                tracing::warn!(%error, "leader's change was not made");
            }
        }
    }

    fn submit(&self, command: Command) -> Submission {
        self.submit_after(Duration::ZERO, command)
    }

    fn submit_after(&self, wait: Duration, command: Command) -> Submission {
        let inner = self.inner.clone();
        let (sender, receiver) = oneshot::channel();
        self.inner.env.spawn("leader-submit", async move {
            if !wait.is_zero() {
                inner.env.sleep(wait).await;
            }
            // The loop may have ended meanwhile.
            let _ = sender.send(inner.propose(encode(&command)).await.map(|(_, submitted)| submitted));
        });
        receiver
    }

    /// Decides rounds while there is something to decide and room for another one under way.
    fn start_rounds(&mut self) {
        while self.rounds.len() < ROUNDS_MAX && self.broker.has_ready() {
            let snapshot = self.inner.hub.snapshot();
            let plans = self.decide(&snapshot);
            if plans.is_empty() {
                return;
            }
            let now = Timestamp(self.inner.env.wall());
            let plans = Arc::new(plans);
            let command = Command::ApplyPlans { plans: plans.to_vec(), now };
            let task = self.submit(command);
            self.rounds.push_back(Round { plans, task });
        }
    }

    fn decide(&mut self, snapshot: &Snapshot) -> Vec<Plan> {
        let env = self.inner.env.clone();
        self.with(|leader, now| {
            let taken = leader.broker.take(now, ROUND_EVALS_MAX);
            let evals: Vec<_> = taken.iter().map(|eval| (**eval).clone()).collect();
            let mut chance = || env.random_u64();
            let mut context = Context { now: now.wall, chance: &mut chance };
            let budget = Budget { placements_max: ROUND_PLACEMENTS_MAX };
            let plans = leader.scheduler.round(snapshot, &evals, budget, &mut context);
            // What the budget left out is handed back at once.
            for eval in evals.iter().skip(plans.len()) {
                let outputs = leader.broker.step(now, broker::Input::HandedBack(eval.id));
                leader.take_broker(outputs);
            }
            plans
        })
    }

    fn round_over(&mut self, result: Result<Submitted, SubmitError>) {
        let Some(round) = self.rounds.pop_front() else { return };
        let snapshot = self.inner.hub.snapshot();
        let failed: Vec<usize> = match result {
            Ok(Submitted { outcome: Outcome::Plans { rejected }, .. }) => {
                for (at, why) in &rejected {
                    let eval_id = round.plans.get(*at).map(|plan| plan.eval.id);
                    tracing::warn!(?eval_id, %why, "plan was rejected; its evaluation is looked at again");
                }
                rejected.into_iter().map(|(at, _)| at).collect()
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "round was not committed");
                (0..round.plans.len()).collect()
            }
        };
        let failed: Vec<&Plan> = failed.into_iter().filter_map(|at| round.plans.get(at)).collect();
        self.scheduler.withdraw(&snapshot, failed.iter().copied());
        let nodes = failed.iter().flat_map(|plan| &plan.placements).map(|placement| placement.node_id);
        self.with(|leader, now| {
            let woken = leader.blocked.given_back(&snapshot, nodes, now);
            leader.upsert(woken);
        });
        for plan in failed {
            self.with(|leader, now| {
                let outputs = leader.broker.step(now, broker::Input::Nack(plan.eval.id));
                leader.take_broker(outputs);
            });
        }
    }
}

/// Removes what is old until nothing is; nodes are free of allocations only after those are gone.
async fn collect_all(inner: &Inner, thresholds: &Thresholds) -> Result<(), SubmitError> {
    /// Commands remove thousands of records each; a region has no more than this many thousands.
    const PASSES_MAX: usize = 64;
    for _ in 0..PASSES_MAX {
        let snapshot = inner.hub.snapshot();
        let commands = collection::collect(&snapshot, Timestamp(inner.env.wall()), thresholds);
        if commands.is_empty() {
            return Ok(());
        }
        for command in commands {
            inner.propose(encode(&command)).await?;
        }
    }
    Ok(())
}
