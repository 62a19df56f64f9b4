//! How roll-outs go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    AllocId, Allocation, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus, DesiredTransition,
    EvalTrigger, Evaluation, Job, Text, Timestamp,
};
use protocol::{Command, DeploymentUpdate};
use state::{ChangedRow, Changes, State};

use crate::{Moment, for_job, may_be_replaced};

const FAILED_BY_ALLOCS: &str = "Failed due to unhealthy allocations";
const FAILED_BY_DEADLINE: &str = "Failed due to progress deadline";

/// The watch over deployments that go on.
///
/// It fails those that do not get on, promotes canaries where the job says so, and has the scheduler look again when
/// the health of an allocation becomes known. That a deployment is complete, the scheduler decides.
#[derive(Debug, Default)]
pub struct Deployments {
    deadlines: BTreeSet<(Timestamp, DeploymentId)>,
    active: BTreeMap<DeploymentId, Option<Timestamp>>,
}

impl Deployments {
    /// Makes the watch of what goes on in a state, and returns what to propose at once. An earlier leader may have ended before
    /// the scheduler had looked at the last news of a deployment's health, so it looks again.
    pub fn new(state: &State, now: &mut Moment<'_>) -> (Self, Vec<Command>) {
        let mut watch = Self::default();
        let mut commands = Vec::new();
        for deployment in state.deployments().filter(|deployment| deployment.status.is_active()) {
            watch.track(state, deployment);
            let may_have_news = health(deployment).iter().any(|known| *known != (0, 0));
            match decide(state, deployment, now) {
                Some(command) => commands.push(command),
                None if may_have_news => commands.extend(look_again(state, deployment, now)),
                None => {}
            }
        }
        (watch, commands)
    }

    /// Takes in what a command touched and returns what to propose.
    pub fn applied(&mut self, state: &State, changes: &Changes, now: &mut Moment<'_>) -> Vec<Command> {
        let mut moved = BTreeMap::new();
        for row in &changes.rows {
            let ChangedRow::Deployment { before, after } = row else { continue };
            match (before, after) {
                (_, Some(after)) => {
                    self.track(state, after);
                    let known = before.as_ref().map(|before| health(before));
                    let is_news = known.is_some_and(|known| known != health(after));
                    moved.insert(after.id, is_news);
                }
                (Some(before), None) => self.forget(before.id),
                (None, None) => {}
            }
        }
        let mut commands = Vec::new();
        for (id, is_news) in moved {
            let Some(deployment) = state.deployment(id) else { continue };
            match decide(state, deployment, now) {
                Some(command) => commands.push(command),
                None if is_news => commands.extend(look_again(state, deployment, now)),
                None => {}
            }
        }
        commands
    }

    /// Fails deployments whose time is over.
    pub fn tick(&mut self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.wall) {
            self.deadlines.remove(&(at, id));
            self.active.insert(id, None);
            if let Some(deployment) = state.deployment(id) {
                commands.extend(decide(state, deployment, now));
            }
        }
        commands
    }

    /// Returns the wait until [`Deployments::tick`] is due; none when no deployment has a deadline.
    pub fn next_tick(&self, now: &Moment<'_>) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| at.since(now.wall))
    }

    fn track(&mut self, state: &State, deployment: &Deployment) {
        self.forget(deployment.id);
        if deployment.status != DeploymentStatus::Running {
            return;
        }
        let deadline =
            deployment.groups.iter().filter_map(|group| deadline_of(state, deployment, group)).min();
        self.active.insert(deployment.id, deadline);
        self.deadlines.extend(deadline.map(|at| (at, deployment.id)));
    }

    fn forget(&mut self, id: DeploymentId) {
        if let Some(at) = self.active.remove(&id).flatten() {
            self.deadlines.remove(&(at, id));
        }
    }
}

/// Returns the time by which a group must have moved; none when it is done, or waits for someone to promote it.
///
/// Counts alone do not tell: what was healthy once and is gone has to come again.
fn deadline_of(
    state: &State,
    deployment: &Deployment,
    (name, group): (&Text, &DeploymentGroup),
) -> Option<Timestamp> {
    let stays = |alloc: &Allocation| !alloc.terminal() && is_healthy(alloc) == Some(true);
    let waits_for_promotion = || {
        let healthy = |id: &&AllocId| state.alloc(**id).is_some_and(|alloc| stays(alloc));
        let canaries = group.desired_canaries as usize;
        group.healthy >= group.desired_canaries
            && group.placed_canaries.iter().filter(healthy).count() >= canaries
    };
    let is_done = || {
        let of_group = |alloc: &&std::sync::Arc<Allocation>| alloc.task_group().name == *name && stays(alloc);
        group.healthy >= group.desired_total
            && state.allocs_by_deployment(deployment.id).filter(of_group).count()
                >= group.desired_total as usize
    };
    let has_canaries = group.desired_canaries > 0 && !group.promoted;
    let over = if has_canaries { waits_for_promotion() } else { is_done() };
    (!over && !group.require_progress_by.is_zero()).then_some(group.require_progress_by)
}

/// Returns what the scheduler acts on: healthy and unhealthy allocations. A promotion brings its own evaluation.
fn health(deployment: &Deployment) -> Vec<(u32, u32)> {
    deployment.groups.values().map(|group| (group.healthy, group.unhealthy)).collect()
}

/// Decides whether a deployment fails or is promoted.
fn decide(state: &State, deployment: &Deployment, now: &mut Moment<'_>) -> Option<Command> {
    if deployment.status != DeploymentStatus::Running {
        return None;
    }
    let unhealthy = given_up(state, deployment);
    if !unhealthy.is_empty() {
        return Some(fail_for(state, deployment, &unhealthy, FAILED_BY_ALLOCS, now));
    }
    let late = |group: (&Text, &DeploymentGroup)| {
        deadline_of(state, deployment, group)
            .is_some_and(|at| at <= now.wall && !mutants::on!("deployment-without-deadline"))
    };
    let late = deployment.groups.iter().filter(|group| late(*group)).map(|(_, group)| group);
    let late: Vec<&DeploymentGroup> = late.collect();
    if !late.is_empty() {
        return Some(fail_for(state, deployment, &late, FAILED_BY_DEADLINE, now));
    }
    let promotes = may_promote(state, deployment);
    promotes.then(|| Command::PromoteDeployment {
        id: deployment.id,
        groups: None,
        eval: eval_of(state, deployment, now).map(Box::new),
        now: now.wall,
    })
}

/// Returns the groups that can not become healthy any more: one of their allocations is unhealthy, and there is no
/// deadline to wait for, or no replacement that could do better before it.
fn given_up<'a>(state: &State, deployment: &'a Deployment) -> Vec<&'a DeploymentGroup> {
    let suspects: BTreeMap<&Text, &DeploymentGroup> =
        deployment.groups.iter().filter(|(_, group)| group.unhealthy > 0).collect();
    if suspects.is_empty() {
        return Vec::new();
    }
    let mut over: BTreeSet<&Text> = suspects
        .iter()
        .filter(|(_, group)| group.progress_deadline.is_zero())
        .map(|(name, _)| *name)
        .collect();
    for alloc in state.allocs_by_deployment(deployment.id) {
        let replaceable = alloc.server_terminal()
            || alloc.extra().next.is_some()
            || may_be_replaced(alloc, &alloc.task_states);
        if let Some((name, _)) = suspects.get_key_value(&alloc.task_group().name)
            && is_healthy(alloc) == Some(false)
            && !replaceable
        {
            over.insert(name);
        }
    }
    suspects.into_iter().filter(|(name, _)| over.contains(name)).map(|(_, group)| group).collect()
}

/// Tells whether every group with canaries promotes by itself and has enough healthy ones.
fn may_promote(state: &State, deployment: &Deployment) -> bool {
    let ready = |group: &DeploymentGroup| {
        let healthy = |id: &&AllocId| {
            let alloc = state.alloc(**id).filter(|alloc| !alloc.terminal());
            alloc.is_some_and(|alloc| {
                is_healthy(alloc) == Some(true) || mutants::on!("deployment-promotes-the-sick")
            })
        };
        group.auto_promote
            && group.placed_canaries.iter().filter(healthy).count() >= group.desired_canaries as usize
    };
    let mut waiting =
        deployment.groups.values().filter(|group| group.desired_canaries > 0 && !group.promoted);
    deployment.requires_promotion() && waiting.all(ready)
}

fn is_healthy(alloc: &Allocation) -> Option<bool> {
    alloc.extra().health.and_then(|health| health.healthy)
}

/// Makes the command that fails a deployment and, where the job says so, goes back to the last stable version.
pub fn fail(state: &State, deployment: &Deployment, reason: &str, now: &mut Moment<'_>) -> Command {
    let all: Vec<&DeploymentGroup> = deployment.groups.values().collect();
    fail_for(state, deployment, &all, reason, now)
}

/// Makes the command that fails a deployment because of some of its groups; one of them must want to go back.
fn fail_for(
    state: &State,
    deployment: &Deployment,
    groups: &[&DeploymentGroup],
    reason: &str,
    now: &mut Moment<'_>,
) -> Command {
    let (description, job) = match groups.iter().any(|group| group.auto_revert) {
        true => revert(state, deployment, reason),
        false => (reason.into(), None),
    };
    let update = DeploymentUpdate { id: deployment.id, status: DeploymentStatus::Failed, description };
    let eval = eval_of(state, deployment, now).map(Box::new);
    Command::UpdateDeployment { update, job: job.map(Box::new), eval, now: now.wall }
}

/// Chooses the version to go back to, and says what comes of it.
fn revert(state: &State, deployment: &Deployment, reason: &str) -> (Text, Option<Job>) {
    let stable = state
        .job_versions(&deployment.job)
        .filter(|job| job.create_index == deployment.job_create_index)
        .find(|job| job.stable && job.version != deployment.job_version);
    let Some(stable) = stable else {
        return (format!("{reason} - no stable job version to auto revert to").into(), None);
    };
    let version = stable.version;
    let current = state.job(&deployment.job);
    if current.is_some_and(|current| current.spec.document() == stable.spec.document()) {
        let text = format!(
            "{reason} - not rolling back to stable job version {version} as current job has same specification"
        );
        return (text.into(), None);
    }
    let job = Job { submit_time: Timestamp::ZERO, version_tag: None, ..Job::clone(stable) };
    (format!("{reason} - rolling back to job version {version}").into(), Some(job))
}

/// Has the scheduler look at a job again, and lets it replace what failed in the deployment.
fn look_again(state: &State, deployment: &Deployment, now: &mut Moment<'_>) -> Option<Command> {
    if !deployment.status.is_active() {
        return None;
    }
    let eval = eval_of(state, deployment, now)?;
    let asks = DesiredTransition { reschedule: Some(true), ..DesiredTransition::default() };
    let transitions = state
        .allocs_by_deployment(deployment.id)
        .filter(|alloc| !alloc.server_terminal() && is_healthy(alloc) == Some(false))
        .filter(|alloc| alloc.extra().transition.reschedule != Some(true))
        .map(|alloc| (alloc.id, asks))
        .collect();
    Some(Command::UpdateTransitions { transitions, evals: vec![eval], now: now.wall })
}

fn eval_of(state: &State, deployment: &Deployment, now: &mut Moment<'_>) -> Option<Evaluation> {
    let job = state.job(&deployment.job).filter(|job| job.create_index == deployment.job_create_index)?;
    let mut eval = for_job(job, EvalTrigger::DeploymentWatcher, now);
    eval.priority = deployment.eval_priority;
    eval.deployment_id = Some(deployment.id);
    Some(eval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, document, job, job_from, key};
    use model::ClientStatus;
    use serde_json::json;

    const DEADLINE: Duration = Duration::from_secs(600);

    fn group(desired_canaries: u32) -> DeploymentGroup {
        DeploymentGroup {
            progress_deadline: DEADLINE,
            desired_total: 1,
            desired_canaries,
            ..DeploymentGroup::default()
        }
    }

    #[test]
    fn a_deployment_without_progress_fails_and_goes_back() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.apply(Command::MarkJobStable { key: key("web"), version: 0, stable: true });
        let mut changed = document("web", "service", 50);
        changed["Meta"] = json!({"version": "2"});
        region.register(job_from("web", &changed));
        let id = region.deploy("web", DeploymentGroup { auto_revert: true, ..group(0) }, false);
        let (mut watch, commands) = Deployments::new(region.state(), &mut clock.moment());
        assert_eq!((commands.len(), watch.next_tick(&clock.moment())), (0, Some(DEADLINE)));
        clock.pass(DEADLINE);
        for command in watch.tick(region.state(), &mut clock.moment()) {
            region.apply(command);
        }
        let deployment = region.state().deployment(id).expect("it is there");
        assert_eq!(deployment.status, DeploymentStatus::Failed);
        assert_eq!(
            deployment.status_description,
            "Failed due to progress deadline - rolling back to job version 0"
        );
        let current = region.state().job(&key("web")).expect("it is there");
        assert_eq!((current.version, current.spec.meta.len()), (2, 0));
    }

    #[test]
    fn an_unhealthy_allocation_fails_a_deployment_without_deadline() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let no_deadline = DeploymentGroup { progress_deadline: Duration::ZERO, ..group(0) };
        let id = region.deploy("web", no_deadline, false);
        let (mut watch, _) = Deployments::new(region.state(), &mut clock.moment());
        region.client_says_health(0, ClientStatus::Failed, Some(false));
        for command in watch.applied(region.state(), &region.last_changes().clone(), &mut clock.moment()) {
            region.apply(command);
        }
        let deployment = region.state().deployment(id).expect("it is there");
        assert_eq!(deployment.status_description, FAILED_BY_ALLOCS);
    }

    #[test]
    fn an_unhealthy_allocation_that_nothing_may_replace_fails_its_deployment_at_once() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        let mut never = document("web", "service", 50);
        never["TaskGroups"][0]["ReschedulePolicy"] = json!({"Attempts": 0, "Unlimited": false});
        region.register(job_from("web", &never));
        let id = region.deploy("web", DeploymentGroup { desired_total: 2, ..group(0) }, false);
        let (mut watch, _) = Deployments::new(region.state(), &mut clock.moment());
        region.client_says_health(0, ClientStatus::Failed, Some(false));
        for command in watch.applied(region.state(), &region.last_changes().clone(), &mut clock.moment()) {
            region.apply(command);
        }
        let deployment = region.state().deployment(id).expect("it is there");
        assert_eq!(deployment.status_description, FAILED_BY_ALLOCS);
    }

    #[test]
    fn healthy_canaries_are_promoted_where_the_job_says_so() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let id = region.deploy("web", DeploymentGroup { auto_promote: true, ..group(1) }, true);
        let (mut watch, commands) = Deployments::new(region.state(), &mut clock.moment());
        assert!(commands.is_empty());
        region.client_says_health(0, ClientStatus::Running, Some(true));
        for command in watch.applied(region.state(), &region.last_changes().clone(), &mut clock.moment()) {
            region.apply(command);
        }
        assert!(!region.state().deployment(id).expect("it is there").requires_promotion());
    }

    /// The leader before may have ended between the news and its proposal.
    #[test]
    fn a_leader_that_takes_over_has_the_scheduler_look_at_what_may_be_news() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let id = region.deploy("web", DeploymentGroup { desired_total: 2, ..group(0) }, false);
        let (_, commands) = Deployments::new(region.state(), &mut clock.moment());
        assert!(commands.is_empty(), "nothing is known yet: {commands:?}");
        region.client_says_health(0, ClientStatus::Running, Some(true));
        let (_, commands) = Deployments::new(region.state(), &mut clock.moment());
        let [Command::UpdateTransitions { evals, .. }] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(evals[0].deployment_id, Some(id));
    }

    #[test]
    fn a_canary_that_was_healthy_and_is_gone_is_not_waited_for_without_end() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.deploy("web", group(1), true);
        region.client_says_health(0, ClientStatus::Running, Some(true));
        let next_tick = |region: &Region, clock: &mut Clock| {
            Deployments::new(region.state(), &mut clock.moment()).0.next_tick(&clock.moment())
        };
        assert_eq!(next_tick(&region, &mut clock), None, "a person may take all the time");
        region.client_says(0, ClientStatus::Failed);
        assert!(next_tick(&region, &mut clock).is_some());
    }

    #[test]
    fn the_scheduler_looks_again_when_health_becomes_known() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let id = region.deploy("web", DeploymentGroup { desired_total: 2, ..group(0) }, false);
        let (mut watch, _) = Deployments::new(region.state(), &mut clock.moment());
        region.client_says_health(0, ClientStatus::Failed, Some(false));
        let commands = watch.applied(region.state(), &region.last_changes().clone(), &mut clock.moment());
        let [Command::UpdateTransitions { transitions, evals, .. }] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!((transitions.len(), evals[0].deployment_id), (1, Some(id)));
        region.apply(commands[0].clone());
        let commands = watch.applied(region.state(), &region.last_changes().clone(), &mut clock.moment());
        assert!(commands.is_empty(), "its own command is no news");
    }
}
