use std::collections::BTreeMap;

use crate::{
    Time,
    shape::{nanos, or_null},
};

shape! {
    /// The progress of one job version.
    Deployment {
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        eval_priority "EvalPriority": i32,
        id "ID": String,
        is_multiregion "IsMultiregion": bool,
        job_create_index "JobCreateIndex": u64,
        job_id "JobID": String,
        job_modify_index "JobModifyIndex": u64,
        job_spec_modify_index "JobSpecModifyIndex": u64,
        job_version "JobVersion": u64,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        namespace "Namespace": String,
        status "Status": String,
        status_description "StatusDescription": String,
        #[serde(serialize_with = "or_null")]
        task_groups "TaskGroups": BTreeMap<String, DeploymentGroup>,
    }
    /// The progress of one group.
    DeploymentGroup {
        auto_promote "AutoPromote": bool,
        auto_revert "AutoRevert": bool,
        desired_canaries "DesiredCanaries": u64,
        desired_total "DesiredTotal": u64,
        healthy_allocs "HealthyAllocs": u64,
        placed_allocs "PlacedAllocs": u64,
        #[serde(serialize_with = "or_null")]
        placed_canaries "PlacedCanaries": Vec<String>,
        progress_deadline "ProgressDeadline": i64,
        promoted "Promoted": bool,
        require_progress_by "RequireProgressBy": Time,
        unhealthy_allocs "UnhealthyAllocs": u64,
    }
    /// Takes over healthy canaries.
    DeploymentPromoteRequest {
        all "All": bool,
        deployment_id "DeploymentID": String,
        groups "Groups": Vec<String>,
    }
    /// Stops a deployment for now, or lets it go on.
    DeploymentPauseRequest {
        deployment_id "DeploymentID": String,
        pause "Pause": bool,
    }
    /// Gives a deployment up, or releases it.
    DeploymentIdRequest { deployment_id "DeploymentID": String, }
    /// Says how allocations of a deployment are.
    DeploymentHealthRequest {
        deployment_id "DeploymentID": String,
        healthy_allocation_ids "HealthyAllocationIDs": Vec<String>,
        unhealthy_allocation_ids "UnhealthyAllocationIDs": Vec<String>,
    }
    /// What changing a deployment answers.
    DeploymentUpdateResponse {
        deployment_modify_index "DeploymentModifyIndex": u64,
        eval_create_index "EvalCreateIndex": u64,
        eval_id "EvalID": String,
        index "Index": u64,
        reverted_job_version "RevertedJobVersion": Option<u64>,
    }
}

impl Deployment {
    /// Makes the shape of a deployment.
    pub fn of(deployment: &model::Deployment) -> Self {
        Self {
            create_index: deployment.create_index,
            create_time: deployment.create_time.0,
            eval_priority: deployment.eval_priority,
            id: deployment.id.to_string(),
            is_multiregion: false,
            job_create_index: deployment.job_create_index,
            job_id: deployment.job.id.to_string(),
            job_modify_index: deployment.job_modify_index,
            job_spec_modify_index: deployment.job_spec_modify_index,
            job_version: deployment.job_version,
            modify_index: deployment.modify_index,
            modify_time: deployment.modify_time.0,
            namespace: deployment.job.namespace.to_string(),
            status: deployment.status.to_string(),
            status_description: deployment.status_description.to_string(),
            task_groups: deployment
                .groups
                .iter()
                .map(|(name, group)| (name.to_string(), DeploymentGroup::of(group)))
                .collect(),
        }
    }
}

impl DeploymentGroup {
    fn of(group: &model::DeploymentGroup) -> Self {
        Self {
            auto_promote: group.auto_promote,
            auto_revert: group.auto_revert,
            desired_canaries: group.desired_canaries.into(),
            desired_total: group.desired_total.into(),
            healthy_allocs: group.healthy.into(),
            placed_allocs: group.placed.into(),
            placed_canaries: group.placed_canaries.iter().map(ToString::to_string).collect(),
            progress_deadline: nanos(group.progress_deadline),
            promoted: group.promoted,
            require_progress_by: group.require_progress_by.into(),
            unhealthy_allocs: group.unhealthy.into(),
        }
    }
}
