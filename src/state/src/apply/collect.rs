use model::{AllocId, DeploymentId, EvalId, JobKey, JobStatus, NodeId, NodeStatus};

use super::Writer;

/// Old records that someone chose to remove.
pub(super) struct Garbage<'a> {
    pub(super) evals: &'a [EvalId],
    pub(super) allocs: &'a [AllocId],
    pub(super) jobs: &'a [JobKey],
    pub(super) deployments: &'a [DeploymentId],
    pub(super) nodes: &'a [NodeId],
}

impl Writer<'_> {
    /// Removes old records. The choice was made on an older state: what came to life since then stays.
    pub(super) fn collect(&mut self, garbage: &Garbage<'_>) {
        for &id in garbage.allocs {
            if self.state.alloc(id).is_some_and(|alloc| !alloc.occupies()) {
                self.take_alloc(id);
            }
        }
        for &id in garbage.evals {
            if self.state.eval(id).is_some_and(|eval| eval.status.is_terminal()) {
                self.take_eval(id);
            }
        }
        for &id in garbage.deployments {
            if self.state.deployment(id).is_some_and(|deployment| !deployment.status.is_active()) {
                self.take_deployment(id);
            }
        }
        for key in garbage.jobs {
            let counts = self.state.jobs.counts(key);
            let over = counts.open_evals == 0 && counts.live_allocs == 0 && counts.active_deployments == 0;
            if over && self.state.job(key).is_some_and(|job| job.status == JobStatus::Dead) {
                self.purge_job(key);
            }
        }
        for &id in garbage.nodes {
            let down = self.state.node(id).is_some_and(|node| node.status == NodeStatus::Down);
            if down && self.state.allocs_by_node(id).next().is_none() {
                self.take_node(id);
            }
        }
    }
}
