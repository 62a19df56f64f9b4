//! What leaves a draining node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{
    AllocId, Allocation, ClientStatus, DesiredTransition, DrainStrategy, EvalTrigger, JobKey, JobType, Node,
    NodeEvent, NodeId, Timestamp,
};
use protocol::Command;
use state::{Changes, State};

use crate::{Moment, for_job};

/// What was proposed and not seen by then is decided anew: its command was lost.
const PROPOSED_MAX: Duration = Duration::from_secs(10);

/// Allocations that one command asks to leave at most: it brings an evaluation for each job.
const MOVING_MAX: usize = 4_096;

/// Knows which nodes drain and which of them may have something to do, so that a commit costs what it concerns, however
/// many nodes drain and however much runs on them.
#[derive(Debug, Default)]
pub struct Draining {
    /// The nodes that drain, with the ends of their times; zero for those that have for ever, or whose time is over.
    nodes: BTreeMap<NodeId, Timestamp>,
    deadlines: BTreeSet<(Timestamp, NodeId)>,
    /// Those of which something changed since they were looked at.
    stirred: BTreeSet<NodeId>,
    proposed: Proposed,
}

/// What was proposed and is not seen in the state yet: it is not said again, and counts as if it had happened.
#[derive(Debug, Default)]
struct Proposed {
    leaving: BTreeMap<AllocId, (Duration, NodeId)>,
    drained: BTreeMap<NodeId, Duration>,
    /// When the oldest may count as lost.
    check_at: Option<Duration>,
}

impl Proposed {
    fn note(&mut self, now: Duration) {
        self.check_at.get_or_insert(now + PROPOSED_MAX);
    }

    /// Forgets what was proposed too long ago, and returns the nodes that it is about.
    fn lost(&mut self, now: Duration) -> Vec<NodeId> {
        if self.check_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let old = |at: Duration| at + PROPOSED_MAX <= now;
        let leaving = self.leaving.extract_if(.., |_, (at, _)| old(*at)).map(|(_, (_, node))| node);
        let mut nodes: Vec<NodeId> = leaving.collect();
        nodes.extend(self.drained.extract_if(.., |_, at| old(*at)).map(|(node, _)| node));
        let first = self.leaving.values().map(|(at, _)| *at).chain(self.drained.values().copied()).min();
        self.check_at = first.map(|at| at + PROPOSED_MAX);
        nodes
    }
}

impl Draining {
    /// Finds the draining nodes of a state.
    pub fn new(state: &State) -> Self {
        let mut draining = Self::default();
        state.nodes().for_each(|node| draining.follow(node));
        draining
    }

    /// Follows a change and decides what it makes possible.
    pub fn applied(&mut self, state: &State, changes: &Changes, now: &mut Moment<'_>) -> Vec<Command> {
        for (before, after) in changes.nodes() {
            match (before, after) {
                (_, Some(node)) => self.follow(node),
                (Some(node), None) => self.forget(node.id),
                (None, None) => {}
            }
        }
        if self.nodes.is_empty() {
            return Vec::new();
        }
        self.stir(state, changes);
        self.decide(state, now)
    }

    /// Decides what the time makes possible, and anew what was proposed and never seen.
    pub fn tick(&mut self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        self.stirred.extend(self.proposed.lost(now.elapsed));
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.wall) {
            self.deadlines.remove(&(at, id));
            self.stirred.insert(id);
        }
        self.decide(state, now)
    }

    /// Returns the wait until [`Draining::tick`] is due; none when nothing waits for time.
    pub fn next_tick(&self, now: &Moment<'_>) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(at, _)| at.since(now.wall));
        let check = self.proposed.check_at.map(|at| at.saturating_sub(now.elapsed));
        deadline.into_iter().chain(check).min()
    }

    fn follow(&mut self, node: &Node) {
        let Some(drain) = &node.drain else { return self.forget(node.id) };
        let known = self.nodes.insert(node.id, drain.force_deadline);
        if let Some(before) = known.filter(|before| *before != drain.force_deadline) {
            self.deadlines.remove(&(before, node.id));
        }
        if !drain.force_deadline.is_zero() && known != Some(drain.force_deadline) {
            self.deadlines.insert((drain.force_deadline, node.id));
        }
        self.stirred.insert(node.id);
    }

    fn forget(&mut self, id: NodeId) {
        if let Some(deadline) = self.nodes.remove(&id) {
            self.deadlines.remove(&(deadline, id));
            self.stirred.remove(&id);
            self.proposed.drained.remove(&id);
            self.proposed.leaving.retain(|_, (_, node)| *node != id);
        }
    }

    /// Finds the nodes that a change of allocations concerns: those that they are on, and those with siblings, which may
    /// leave when another one is healthy.
    fn stir(&mut self, state: &State, changes: &Changes) {
        let mut jobs: BTreeSet<&JobKey> = BTreeSet::new();
        for (before, after) in changes.allocs() {
            let Some(alloc) = after.or(before) else { continue };
            if self.nodes.contains_key(&alloc.node_id) {
                self.stirred.insert(alloc.node_id);
            }
            if !self.proposed.leaving.is_empty() && after.is_none_or(|after| asked(after) || after.terminal())
            {
                self.proposed.leaving.remove(&alloc.id);
            }
            let counts = |alloc: Option<&Arc<Allocation>>| {
                alloc.map(|alloc| (is_healthy(alloc) && !asked(alloc), alloc.job.version))
            };
            if counts(before) != counts(after) {
                jobs.insert(&alloc.job.key);
            }
        }
        for sibling in jobs.into_iter().flat_map(|job| state.allocs_by_job(job)) {
            if self.nodes.contains_key(&sibling.node_id) && !sibling.terminal() {
                self.stirred.insert(sibling.node_id);
            }
        }
    }

    /// Decides what leaves the draining nodes next: service groups at the pace of their `migrate` block, batch and sysbatch
    /// when the time is over, system last. A node with nothing left has drained.
    fn decide(&mut self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        let (mut moving, mut commands) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.stirred) {
            let Some(node) = state.node(id) else { continue };
            let mut plan = Plan { state, proposed: &mut self.proposed, now: now.elapsed, moving: Vec::new() };
            let drained = plan.drain_node(node, now.wall);
            moving.append(&mut plan.moving);
            if drained && self.proposed.drained.insert(id, now.elapsed).is_none() {
                self.proposed.note(now.elapsed);
                commands.push(complete(node, now));
            }
        }
        commands.extend(moving.chunks(MOVING_MAX).map(|moving| ask_to_leave(state, moving, now)));
        commands
    }
}

struct Plan<'a> {
    state: &'a State,
    /// What leaves already, whatever node it is on: two draining nodes share one pace.
    proposed: &'a mut Proposed,
    now: Duration,
    moving: Vec<Arc<Allocation>>,
}

impl Plan<'_> {
    /// Tells whether a node's time to empty itself is over.
    fn is_over(drain: &DrainStrategy, wall: Timestamp) -> bool {
        let timed = !drain.force_deadline.is_zero() && !mutants::on!("drain-without-deadline");
        drain.force || (timed && drain.force_deadline <= wall)
    }

    /// Plans what leaves a node; true when nothing is left on it.
    fn drain_node(&mut self, node: &Node, wall: Timestamp) -> bool {
        let Some(drain) = &node.drain else { return false };
        let over = Self::is_over(drain, wall);
        let (mut left, mut system) = (0, Vec::new());
        for alloc in self.state.allocs_by_node(node.id).filter(|alloc| !alloc.client_status.is_terminal()) {
            let kind = alloc.job.spec.kind;
            match kind {
                JobType::System | JobType::Sysbatch if drain.ignore_system_jobs => continue,
                JobType::System => {
                    system.push(alloc.clone());
                    continue;
                }
                JobType::Service | JobType::Batch | JobType::Sysbatch => left += 1,
            }
            if alloc.terminal() || self.leaves(alloc) {
                continue;
            }
            if over || (kind == JobType::Service && self.may_leave(alloc)) {
                self.let_go(alloc);
            }
        }
        if left == 0 || over || mutants::on!("drain-system-first") {
            for alloc in &system {
                if !alloc.terminal() && !self.leaves(alloc) {
                    self.let_go(alloc);
                }
            }
        }
        left == 0 && system.is_empty()
    }

    fn let_go(&mut self, alloc: &Arc<Allocation>) {
        self.proposed.leaving.insert(alloc.id, (self.now, alloc.node_id));
        self.proposed.note(self.now);
        self.moving.push(alloc.clone());
    }

    fn leaves(&self, alloc: &Allocation) -> bool {
        asked(alloc) || self.proposed.leaving.contains_key(&alloc.id)
    }

    /// Tells whether one more of an allocation's group may leave: enough healthy ones must stay.
    fn may_leave(&self, alloc: &Allocation) -> bool {
        let group = alloc.task_group();
        let pace = group.migrate.as_ref().map_or(1, |migrate| migrate.max_parallel.max(1)) as usize;
        let healthy = self
            .state
            .allocs_by_job(&alloc.job.key)
            .filter(|other| other.job.create_index == alloc.job.create_index)
            .filter(|other| other.task_group().name == group.name && !self.leaves(other) && is_healthy(other))
            .count();
        let must_stay = (group.count as usize).saturating_sub(pace);
        healthy + usize::from(mutants::on!("drain-one-more")) > must_stay || mutants::on!("drain-all-at-once")
    }
}

fn ask_to_leave(state: &State, moving: &[Arc<Allocation>], now: &mut Moment<'_>) -> Command {
    // Batch had until the deadline to end by itself; it does not begin anew elsewhere.
    let asks = |alloc: &Allocation| DesiredTransition {
        migrate: Some(true),
        migrate_disable_placement: (alloc.job.spec.kind == JobType::Batch).then_some(true),
        ..DesiredTransition::default()
    };
    let transitions: Vec<(AllocId, _)> = moving.iter().map(|alloc| (alloc.id, asks(alloc))).collect();
    let jobs: BTreeMap<_, _> = moving.iter().map(|alloc| (&alloc.job.key, &alloc.job)).collect();
    let evals = jobs
        .into_values()
        .map(|job| for_job(state.job(&job.key).unwrap_or(job), EvalTrigger::NodeDrain, now))
        .collect();
    Command::UpdateTransitions { transitions, evals, now: now.wall }
}

fn asked(alloc: &Allocation) -> bool {
    alloc.extra().transition.migrate == Some(true)
}

/// Tells whether an allocation counts for its group: it runs and was found to be healthy, by its deployment's rule or by
/// that of its `migrate` block.
fn is_healthy(alloc: &Allocation) -> bool {
    let healthy = alloc.extra().health.and_then(|health| health.healthy);
    !alloc.terminal() && alloc.client_status == ClientStatus::Running && healthy == Some(true)
}

fn complete(node: &Node, now: &Moment<'_>) -> Command {
    let over = node.drain.as_ref().is_some_and(|drain| Plan::is_over(drain, now.wall));
    // What was stopped because the time was over can be told from what ended before.
    let details = over.then(|| ("deadline_reached".into(), "true".into()));
    let event = NodeEvent {
        message: "Node drain complete".into(),
        subsystem: "Drain".into(),
        details: details.into_iter().collect(),
        timestamp: now.wall,
        ..NodeEvent::default()
    };
    Command::DrainNode {
        node_id: node.id,
        drain: None,
        mark_eligible: false,
        completed: true,
        meta: vec![],
        event: Some(event),
        evals: vec![],
        now: now.wall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, job, key};

    fn step(region: &Region, clock: &mut Clock) -> Vec<Command> {
        Draining::new(region.state()).tick(region.state(), &mut clock.moment())
    }

    #[test]
    fn what_drains_is_followed_from_change_to_change() {
        let (mut region, mut clock) = (Region::with_nodes(2), Clock::default());
        let mut draining = Draining::new(region.state());
        let begun = region.drain(1, DrainStrategy::default());
        let commands = draining.applied(region.state(), &begun, &mut clock.moment());
        let [done @ Command::DrainNode { drain: None, .. }] = &commands[..] else { panic!("{commands:?}") };
        let over = region.apply(done.clone());
        assert!(draining.applied(region.state(), &over, &mut clock.moment()).is_empty());
        assert!(draining.nodes.is_empty());
    }

    #[test]
    fn what_is_on_its_way_is_not_said_again_until_it_must_be_lost() {
        let (mut region, mut clock) = (Region::with_nodes(3), Clock::default());
        for (at, id) in ["web", "api"].into_iter().enumerate() {
            region.register(job(id, "service", 50));
            region.place(id, at, 2);
        }
        (0..4).for_each(|at| region.client_says_health(at, ClientStatus::Running, Some(true)));
        let mut draining = Draining::new(region.state());
        let begun = region.drain(0, DrainStrategy::default());
        let first = draining.applied(region.state(), &begun, &mut clock.moment());
        let [Command::UpdateTransitions { transitions, .. }] = &first[..] else { panic!("{first:?}") };
        // Another node's drain, before the first command is committed.
        let begun = region.drain(1, DrainStrategy::default());
        let second = draining.applied(region.state(), &begun, &mut clock.moment());
        let [Command::UpdateTransitions { transitions: others, .. }] = &second[..] else {
            panic!("{second:?}")
        };
        assert!(transitions.len() == 1 && others.len() == 1 && others[0].0 != transitions[0].0);
        assert!(draining.tick(region.state(), &mut clock.moment()).is_empty());
        // The second is seen, the first never.
        let seen = second.into_iter().map(|command| region.apply(command)).collect::<Vec<_>>();
        for changes in &seen {
            assert!(draining.applied(region.state(), changes, &mut clock.moment()).is_empty());
        }
        assert_eq!(draining.next_tick(&clock.moment()), Some(PROPOSED_MAX));
        clock.pass(PROPOSED_MAX);
        let again = draining.tick(region.state(), &mut clock.moment());
        let [Command::UpdateTransitions { transitions: repeated, .. }] = &again[..] else {
            panic!("{again:?}")
        };
        assert_eq!(repeated, transitions);
    }

    #[test]
    fn a_service_leaves_at_its_own_pace_and_the_node_is_drained_when_all_is_gone() {
        let (mut region, mut clock) = (Region::with_nodes(2), Clock::default());
        region.register(job("web", "service", 50));
        region.place("web", 0, 2);
        (0..2).for_each(|at| region.client_says_health(at, ClientStatus::Running, Some(true)));
        region.drain(0, DrainStrategy::default());
        let moved = |commands: &[Command]| match commands {
            [Command::UpdateTransitions { transitions, evals, .. }] => (transitions.len(), evals.len()),
            _ => (0, 0),
        };
        let commands = step(&region, &mut clock);
        assert_eq!(moved(&commands), (1, 1), "one of two may leave at a time");
        commands.into_iter().for_each(|command| drop(region.apply(command)));
        assert!(step(&region, &mut clock).is_empty(), "its replacement does not run yet");
        region.place("web", 1, 1);
        region.client_says(2, ClientStatus::Running);
        assert!(step(&region, &mut clock).is_empty(), "it runs, and is not known to be healthy");
        region.client_says_health(2, ClientStatus::Running, Some(true));
        let commands = step(&region, &mut clock);
        assert_eq!(moved(&commands), (1, 1));
        commands.into_iter().for_each(|command| drop(region.apply(command)));
        region.stop_all("web");
        (0..2).for_each(|at| region.client_says(at, ClientStatus::Complete));
        step(&region, &mut clock).into_iter().for_each(|command| drop(region.apply(command)));
        let node = region.state().node(region.node_id(0)).expect("it is there");
        assert!(node.drain.is_none() && !node.eligible);
        assert_eq!(node.last_drain.as_ref().map(|last| last.status.as_str()), Some("complete"));
    }

    #[test]
    fn batch_stays_until_the_time_is_over_and_system_leaves_last() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        for (id, kind) in [("batch", "batch"), ("agent", "system")] {
            region.register(job(id, kind, 50));
            region.place(id, 0, 1);
        }
        let force_deadline = clock.wall().after(Duration::from_secs(60));
        region.drain(0, DrainStrategy { force_deadline, ..DrainStrategy::default() });
        assert!(step(&region, &mut clock).is_empty());
        assert_eq!(Draining::new(region.state()).next_tick(&clock.moment()), Some(Duration::from_secs(60)));
        clock.pass(Duration::from_secs(60));
        let commands = step(&region, &mut clock);
        let [Command::UpdateTransitions { transitions, .. }] = &commands[..] else { panic!("{commands:?}") };
        let replaced = |id: &str| {
            let alloc = region.state().allocs_by_job(&key(id)).next().expect("it was placed");
            let (_, asks) = transitions.iter().find(|(id, _)| *id == alloc.id).expect("it is to leave");
            (asks.migrate, asks.migrate_disable_placement)
        };
        assert_eq!(replaced("batch"), (Some(true), Some(true)), "what had its time is not replaced");
        assert_eq!(replaced("agent"), (Some(true), None));
    }

    #[test]
    fn sysbatch_has_its_time_too_and_the_end_tells_when_it_ran_out() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("once", "sysbatch", 50));
        region.place("once", 0, 1);
        let force_deadline = clock.wall().after(Duration::from_secs(60));
        region.drain(0, DrainStrategy { force_deadline, ..DrainStrategy::default() });
        assert!(step(&region, &mut clock).is_empty());
        clock.pass(Duration::from_secs(60));
        let commands = step(&region, &mut clock);
        let [Command::UpdateTransitions { transitions, .. }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(transitions.len(), 1);
        region.client_says(0, ClientStatus::Complete);
        let commands = step(&region, &mut clock);
        let [Command::DrainNode { event: Some(event), .. }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(event.details.get("deadline_reached").map(|told| told.as_str()), Some("true"));
    }

    #[test]
    fn system_jobs_can_be_left_alone() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("agent", "system", 50));
        region.place("agent", 0, 1);
        region.drain(0, DrainStrategy { ignore_system_jobs: true, ..DrainStrategy::default() });
        let commands = step(&region, &mut clock);
        assert!(matches!(commands[..], [Command::DrainNode { drain: None, .. }]));
        assert_eq!(region.state().allocs_by_job(&key("agent")).count(), 1);
    }
}
