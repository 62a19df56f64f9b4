//! What leaves a draining node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{
    AllocId, Allocation, ClientStatus, DesiredTransition, EvalTrigger, JobKey, JobType, Node, NodeEvent,
    NodeId, Text, Timestamp,
};
use protocol::Command;
use state::{Changes, State};

use crate::{Moment, for_job};

/// Knows which nodes drain, so that a commit costs nothing while none does, however many nodes there are.
#[derive(Debug, Default)]
pub struct Draining {
    nodes: BTreeSet<NodeId>,
}

impl Draining {
    /// Finds the draining nodes of a state.
    pub fn new(state: &State) -> Self {
        Self { nodes: state.nodes().filter(|node| node.drain.is_some()).map(|node| node.id).collect() }
    }

    /// Follows a change. A drain moves when its node, or what runs on it or replaces it, does.
    pub fn applied(&mut self, state: &State, changes: &Changes, now: &mut Moment<'_>) -> Vec<Command> {
        for (before, after) in changes.nodes() {
            match after {
                Some(node) if node.drain.is_some() => self.nodes.insert(node.id),
                Some(node) => self.nodes.remove(&node.id),
                None => before.is_some_and(|node| self.nodes.remove(&node.id)),
            };
        }
        self.step(state, now)
    }

    /// Decides what leaves the draining nodes next: service groups at the pace of their `migrate` block, batch when the
    /// time is over, system last. A node with nothing left has drained.
    ///
    /// What was decided is not kept: asked again on a state that moved on, it says what is still to be done.
    pub fn step(&self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        let mut plan = Plan { state, leaving: BTreeMap::new(), moving: Vec::new() };
        let mut commands = Vec::new();
        for node in self.nodes.iter().filter_map(|id| state.node(*id)) {
            if node.drain.is_some() && plan.drain_node(node, now.wall) {
                commands.push(complete(node, now));
            }
        }
        commands.extend(plan.into_command(now));
        commands
    }

    /// Returns the wait until the first deadline of a draining node.
    pub fn next_tick(&self, state: &State, now: &Moment<'_>) -> Option<Duration> {
        let drains = self.nodes.iter().filter_map(|id| state.node(*id)?.drain);
        let deadlines = drains.map(|drain| drain.force_deadline).filter(|at| *at > now.wall);
        deadlines.min().map(|at| at.since(now.wall))
    }
}

struct Plan<'a> {
    state: &'a State,
    /// How many of each group leave already, whatever node they are on: two draining nodes share one pace.
    leaving: BTreeMap<(JobKey, Text), usize>,
    moving: Vec<Arc<Allocation>>,
}

impl Plan<'_> {
    /// Plans what leaves a node; true when nothing is left on it.
    fn drain_node(&mut self, node: &Node, wall: Timestamp) -> bool {
        let Some(drain) = &node.drain else { return false };
        let over = drain.force || (!drain.force_deadline.is_zero() && drain.force_deadline <= wall);
        let (mut left, mut system) = (0, Vec::new());
        for alloc in self.state.allocs_by_node(node.id).filter(|alloc| !alloc.client_status.is_terminal()) {
            let kind = alloc.job.spec.kind;
            if matches!(kind, JobType::System | JobType::Sysbatch) {
                if !drain.ignore_system_jobs {
                    system.push(alloc.clone());
                }
                continue;
            }
            left += 1;
            if alloc.terminal() || asked(alloc) {
                continue;
            }
            if over || (kind == JobType::Service && self.may_leave(alloc)) {
                *self.leaving.entry(group_key(alloc)).or_default() += 1;
                self.moving.push(alloc.clone());
            }
        }
        if left == 0 || over {
            self.moving.extend(system.iter().filter(|alloc| !alloc.terminal() && !asked(alloc)).cloned());
        }
        left == 0 && system.is_empty()
    }

    /// Tells whether one more of an allocation's group may leave: enough healthy ones must stay.
    fn may_leave(&self, alloc: &Allocation) -> bool {
        let group = alloc.task_group();
        let pace = group.migrate.as_ref().map_or(1, |migrate| migrate.max_parallel.max(1)) as usize;
        let healthy = self
            .state
            .allocs_by_job(&alloc.job.key)
            .filter(|other| other.job.create_index == alloc.job.create_index)
            .filter(|other| other.task_group().name == group.name && !asked(other) && is_healthy(other))
            .count();
        let leaving = self.leaving.get(&group_key(alloc)).copied().unwrap_or(0);
        let must_stay = (group.count as usize).saturating_sub(pace);
        healthy.saturating_sub(leaving) > must_stay || mutants::on!("drain-all-at-once")
    }

    fn into_command(self, now: &mut Moment<'_>) -> Option<Command> {
        if self.moving.is_empty() {
            return None;
        }
        let asks = DesiredTransition { migrate: Some(true), ..DesiredTransition::default() };
        let transitions: Vec<(AllocId, _)> = self.moving.iter().map(|alloc| (alloc.id, asks)).collect();
        let jobs: BTreeMap<_, _> = self.moving.iter().map(|alloc| (&alloc.job.key, &alloc.job)).collect();
        let evals = jobs
            .into_values()
            .map(|job| for_job(self.state.job(&job.key).unwrap_or(job), EvalTrigger::NodeDrain, now))
            .collect();
        Some(Command::UpdateTransitions { transitions, evals, now: now.wall })
    }
}

fn group_key(alloc: &Allocation) -> (JobKey, Text) {
    (alloc.job.key.clone(), alloc.task_group().name.clone())
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
    let event = NodeEvent {
        message: "Node drain complete".into(),
        subsystem: "Drain".into(),
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
    use model::DrainStrategy;

    fn step(region: &Region, clock: &mut Clock) -> Vec<Command> {
        Draining::new(region.state()).step(region.state(), &mut clock.moment())
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
        assert_eq!(
            Draining::new(region.state()).next_tick(region.state(), &clock.moment()),
            Some(Duration::from_secs(60))
        );
        clock.pass(Duration::from_secs(60));
        let commands = step(&region, &mut clock);
        let [Command::UpdateTransitions { transitions, .. }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(transitions.len(), 2);
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
