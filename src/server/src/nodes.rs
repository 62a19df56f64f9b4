//! Evaluations that a change of a node makes necessary.

use std::collections::BTreeMap;

use model::{EvalId, EvalTrigger, Evaluation, Job, JobKey, JobType, NodeId, Timestamp};
use runtime::Env;
use state::Snapshot;

/// Makes an evaluation for each job with an allocation on the node, and for each system job that may want one there.
pub fn evals_for_node(snapshot: &Snapshot, node_id: NodeId, now: Timestamp, env: &Env) -> Vec<Evaluation> {
    let mut jobs: BTreeMap<&JobKey, &Job> = BTreeMap::new();
    for alloc in snapshot.allocs_by_node(node_id) {
        if !alloc.terminal()
            && let Some(job) = snapshot.job(&alloc.job.key)
        {
            jobs.insert(&job.key, job);
        }
    }
    for job in snapshot.all_jobs() {
        let system = matches!(job.spec.kind, JobType::System | JobType::Sysbatch);
        if system && !job.stop && !job.is_template() {
            jobs.insert(&job.key, job);
        }
    }
    let modify_index = snapshot.node(node_id).map_or(0, |node| node.modify_index);
    jobs.into_values()
        .map(|job| {
            let id = EvalId::from_random(env.random_u128());
            let trigger = EvalTrigger::NodeUpdate;
            let mut eval =
                Evaluation::pending(id, job.key.clone(), job.spec.kind, job.spec.priority, trigger, now);
            eval.node_id = Some(node_id);
            eval.node_modify_index = modify_index;
            eval.job_modify_index = job.modify_index;
            eval
        })
        .collect()
}
