//! Which records are old.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    AllocId, Allocation, ClientStatus, DeploymentId, EvalId, Evaluation, Job, JobKey, JobStatus, JobType,
    NodeId, NodeStatus, Timestamp,
};
use protocol::Command;
use state::State;

/// Records that one command removes at most: a command of this many ids takes some milliseconds to apply, and
/// placements wait for no longer.
const BATCH_MAX: usize = 8192;

/// Ages at which records are removed.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Of dead jobs.
    pub jobs: Duration,
    /// Of evaluations that are over, with their allocations.
    pub evals: Duration,
    /// Of evaluations of batch jobs: their allocations say what is done already.
    pub batch_evals: Duration,
    /// Of deployments that are over.
    pub deployments: Duration,
    /// Of nodes that are down.
    pub nodes: Duration,
}

impl Thresholds {
    /// Nomad's settings.
    pub const STANDARD: Self = Self {
        jobs: Duration::from_secs(4 * 3600),
        evals: Duration::from_secs(3600),
        batch_evals: Duration::from_secs(24 * 3600),
        deployments: Duration::from_secs(3600),
        nodes: Duration::from_secs(24 * 3600),
    };

    /// Whatever is over, however young: what a user asks for with `system gc`.
    pub const EVERYTHING: Self = Self {
        jobs: Duration::ZERO,
        evals: Duration::ZERO,
        batch_evals: Duration::ZERO,
        deployments: Duration::ZERO,
        nodes: Duration::ZERO,
    };
}

/// Chooses what is old, in the order in which it is to be removed: jobs with all that is theirs, evaluations with their
/// allocations, deployments, and nodes last, for their allocations must be gone before.
///
/// Nodes become free of allocations only when the earlier commands are applied: asking again afterwards finds them.
pub fn collect(state: &State, wall: Timestamp, thresholds: &Thresholds) -> Vec<Command> {
    let mut garbage = Garbage::default();
    let old = |time: Timestamp, age: Duration| time.after(age) <= wall;
    let jobs = collect_jobs(state, thresholds, &old, &mut garbage);
    collect_evals(state, thresholds, &old, &jobs, &mut garbage);
    collect_deployments(state, thresholds, &old, &mut garbage);
    let removed: BTreeSet<_> = garbage.allocs.iter().copied().collect();
    garbage.nodes = state
        .nodes()
        .filter(|node| node.status == NodeStatus::Down && old(node.status_updated_at, thresholds.nodes))
        .filter(|node| state.allocs_by_node(node.id).all(|alloc| removed.contains(&alloc.id)))
        .map(|node| node.id)
        .collect();
    garbage.jobs = jobs.into_iter().collect();
    garbage.into_commands()
}

#[derive(Default)]
struct Garbage {
    evals: Vec<EvalId>,
    allocs: Vec<AllocId>,
    jobs: Vec<JobKey>,
    deployments: Vec<DeploymentId>,
    nodes: Vec<NodeId>,
}

fn collect_jobs(
    state: &State,
    thresholds: &Thresholds,
    old: &dyn Fn(Timestamp, Duration) -> bool,
    garbage: &mut Garbage,
) -> BTreeSet<JobKey> {
    let mut jobs = BTreeSet::new();
    for job in state.all_jobs().filter(|job| may_go(state, job)) {
        let counts = state.job_counts(&job.key);
        if counts.open_evals > 0 || counts.live_allocs > 0 || counts.active_deployments > 0 {
            continue;
        }
        let evals: Vec<_> = state.evals_by_job(&job.key).collect();
        let allocs: Vec<_> = state.allocs_by_job(&job.key).collect();
        let touched =
            evals.iter().map(|eval| eval.modify_time).chain(allocs.iter().map(|alloc| alloc.modify_time));
        let last = touched.max().unwrap_or_default().max(job.submit_time);
        if old(last, thresholds.jobs) && allocs.iter().all(|alloc| !alloc.occupies()) {
            garbage.evals.extend(evals.iter().map(|eval| eval.id));
            garbage.allocs.extend(allocs.iter().map(|alloc| alloc.id));
            garbage.deployments.extend(state.deployments_by_job(&job.key).map(|deployment| deployment.id));
            jobs.insert(job.key.clone());
        }
    }
    jobs
}

/// Tells whether a job is one that goes by itself: stopped, or done for good.
fn may_go(state: &State, job: &Job) -> bool {
    let done = match job.spec.kind {
        JobType::Batch | JobType::Sysbatch => !job.is_template(),
        JobType::Service | JobType::System => false,
    };
    let tagged = || state.job_versions(&job.key).any(|job| job.version_tag.is_some());
    job.status == JobStatus::Dead && (job.stop || done) && !tagged()
}

fn collect_evals(
    state: &State,
    thresholds: &Thresholds,
    old: &dyn Fn(Timestamp, Duration) -> bool,
    jobs: &BTreeSet<JobKey>,
    garbage: &mut Garbage,
) {
    let mut candidates: BTreeMap<&JobKey, BTreeSet<EvalId>> = BTreeMap::new();
    for eval in state.evals().filter(|eval| eval.status.is_terminal() && !jobs.contains(&eval.job)) {
        if old(eval.modify_time, threshold_of(state, eval, thresholds)) {
            candidates.entry(&eval.job).or_default().insert(eval.id);
        }
    }
    for (key, mut evals) in candidates {
        let job = state.job(key);
        let mut allocs = Vec::new();
        for alloc in state.allocs_by_job(key).filter(|alloc| evals.contains(&alloc.eval_id)) {
            let age = match alloc.job.spec.kind {
                JobType::Batch => thresholds.batch_evals,
                JobType::Service | JobType::System | JobType::Sysbatch => thresholds.evals,
            };
            allocs.push((
                alloc.eval_id,
                alloc.id,
                old(alloc.modify_time, age) && alloc_may_go(state, job, alloc),
            ));
        }
        // An evaluation goes with all its allocations or stays with all of them.
        for (eval, _, _) in allocs.iter().filter(|(_, _, goes)| !goes) {
            evals.remove(eval);
        }
        garbage
            .allocs
            .extend(allocs.iter().filter(|(eval, _, _)| evals.contains(eval)).map(|(_, id, _)| *id));
        garbage.evals.extend(evals);
    }
}

fn threshold_of(state: &State, eval: &Evaluation, thresholds: &Thresholds) -> Duration {
    match eval.kind {
        JobType::Batch if state.job(&eval.job).is_some() => thresholds.batch_evals,
        JobType::Service | JobType::Batch | JobType::System | JobType::Sysbatch => thresholds.evals,
    }
}

/// Tells whether nobody needs an allocation any more: its client is done with it, and no later decision looks at it.
fn alloc_may_go(state: &State, job: Option<&std::sync::Arc<Job>>, alloc: &Allocation) -> bool {
    if alloc.occupies() {
        return false;
    }
    let Some(job) = job.filter(|job| job.create_index == alloc.job.create_index && !job.stop) else {
        return true;
    };
    if job.spec.kind == JobType::Batch {
        // What is done must stay known while the job is there, or it would be done again.
        return alloc.job.version < job.version;
    }
    if job.status == JobStatus::Dead || alloc.server_terminal() {
        return true;
    }
    let replaced = alloc.extra().next.is_some_and(|next| state.alloc(next).is_some());
    alloc.client_status != ClientStatus::Failed || replaced
}

fn collect_deployments(
    state: &State,
    thresholds: &Thresholds,
    old: &dyn Fn(Timestamp, Duration) -> bool,
    garbage: &mut Garbage,
) {
    let known: BTreeSet<_> = garbage.deployments.iter().copied().collect();
    for deployment in state.deployments().filter(|deployment| !deployment.status.is_active()) {
        if known.contains(&deployment.id) || !old(deployment.modify_time, thresholds.deployments) {
            continue;
        }
        // One that placed what still runs explains it.
        if state.allocs_by_deployment(deployment.id).all(|alloc| alloc.terminal()) {
            garbage.deployments.push(deployment.id);
        }
    }
}

impl Garbage {
    fn into_commands(mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        // Jobs come with the last of what is theirs: a job with open ends is not removed.
        while !self.allocs.is_empty() || !self.evals.is_empty() || !self.deployments.is_empty() {
            let mut room = BATCH_MAX;
            let allocs = take(&mut self.allocs, &mut room);
            let evals = take(&mut self.evals, &mut room);
            let deployments = take(&mut self.deployments, &mut room);
            commands.push(Command::Collect { evals, allocs, jobs: vec![], deployments, nodes: vec![] });
        }
        while !self.jobs.is_empty() || !self.nodes.is_empty() {
            let mut room = BATCH_MAX;
            let jobs = take(&mut self.jobs, &mut room);
            let nodes = take(&mut self.nodes, &mut room);
            commands.push(Command::Collect {
                evals: vec![],
                allocs: vec![],
                jobs,
                deployments: vec![],
                nodes,
            });
        }
        commands
    }
}

fn take<T>(from: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let taken: Vec<_> = from.drain(..from.len().min(*room)).collect();
    *room -= taken.len();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, job};

    #[test]
    fn a_stopped_job_goes_with_all_that_was_its() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.place("web", 0, 2);
        region.deregister("web", false);
        region.stop_all("web");
        for at in 0..2 {
            region.client_says(at, ClientStatus::Complete);
        }
        region.settle_all();
        assert_eq!(collect(region.state(), clock.wall(), &Thresholds::STANDARD), []);
        clock.pass(Duration::from_secs(5 * 3600));
        for command in collect(region.state(), clock.wall(), &Thresholds::STANDARD) {
            region.apply(command);
        }
        let state = region.state();
        assert_eq!((state.job_count(), state.evals().count(), state.allocs().count()), (0, 0, 0));
    }

    #[test]
    fn what_a_batch_job_did_stays_known_while_the_job_is_there() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("batch", "batch", 50));
        region.place("batch", 0, 1);
        region.add_eval("batch");
        region.client_says(0, ClientStatus::Complete);
        clock.pass(Duration::from_secs(100 * 3600));
        for command in collect(region.state(), clock.wall(), &Thresholds::EVERYTHING) {
            region.apply(command);
        }
        assert_eq!(region.state().allocs().count(), 1);
        region.settle_all();
        for command in collect(region.state(), clock.wall(), &Thresholds::EVERYTHING) {
            region.apply(command);
        }
        assert_eq!(
            (region.state().allocs().count(), region.state().job_count()),
            (0, 0),
            "it is done for good"
        );
    }

    #[test]
    fn a_failed_allocation_that_waits_for_its_replacement_stays() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.place("web", 0, 2);
        region.settle_all();
        region.client_says(0, ClientStatus::Failed);
        clock.pass(Duration::from_secs(3600));
        for command in collect(region.state(), clock.wall(), &Thresholds::EVERYTHING) {
            region.apply(command);
        }
        assert_eq!(region.state().allocs().count(), 2);
    }

    #[test]
    fn a_node_that_is_down_goes_when_nothing_is_on_it() {
        let (mut region, mut clock) = (Region::with_nodes(2), Clock::default());
        region.register(job("web", "service", 50));
        region.place("web", 0, 1);
        for at in 0..2 {
            region.set_node_status(at, NodeStatus::Down);
        }
        clock.pass(Duration::from_secs(25 * 3600));
        for command in collect(region.state(), clock.wall(), &Thresholds::STANDARD) {
            region.apply(command);
        }
        let left: Vec<_> = region.state().nodes().map(|node| node.id).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(region.state().allocs_by_node(left[0]).count(), 1);
    }
}
