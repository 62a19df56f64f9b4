use std::collections::BTreeSet;

use model::{EvalTrigger, Evaluation, Job, JobKey, JobType, Node};
use state::State;

use crate::Moment;

/// Makes a pending evaluation of a job.
pub fn for_job(job: &Job, trigger: EvalTrigger, moment: &mut Moment<'_>) -> Evaluation {
    let id = moment.eval_id();
    let mut eval =
        Evaluation::pending(id, job.key.clone(), job.spec.kind, job.spec.priority, trigger, moment.wall);
    eval.job_modify_index = job.modify_index;
    eval
}

/// Makes pending evaluations of the jobs that a change of a node concerns: those with something on it, also what was told
/// to stop and may never say that it did, and system jobs of its pool, which may come to it.
pub fn for_node(
    state: &State,
    node: &Node,
    trigger: EvalTrigger,
    moment: &mut Moment<'_>,
) -> Vec<Evaluation> {
    let on_it: BTreeSet<JobKey> = state
        .allocs_by_node(node.id)
        .filter(|alloc| alloc.occupies())
        .map(|alloc| alloc.job.key.clone())
        .collect();
    let everywhere = state.all_jobs().filter(|job| {
        let pool = &job.spec.node_pool;
        let reaches = pool.is_empty() || *pool == "all" || *pool == node.node_pool;
        matches!(job.spec.kind, JobType::System | JobType::Sysbatch)
            && !job.stop
            && !job.is_template()
            && reaches
    });
    let mut keys = on_it;
    keys.extend(everywhere.map(|job| job.key.clone()));
    let mut evals = Vec::with_capacity(keys.len());
    for key in keys {
        let mut eval = match state.job(&key) {
            Some(job) => for_job(job, trigger, moment),
            // The job was purged; its allocations still have to be stopped.
            None => {
                let kind =
                    state.allocs_by_job(&key).next().map_or(JobType::Service, |alloc| alloc.job.spec.kind);
                Evaluation::pending(moment.eval_id(), key, kind, PURGED_PRIORITY, trigger, moment.wall)
            }
        };
        eval.node_id = Some(node.id);
        eval.node_modify_index = node.modify_index;
        evals.push(eval);
    }
    evals
}

/// The priority of evaluations of jobs that are gone: that of a job that did not choose one.
const PURGED_PRIORITY: i32 = 50;
