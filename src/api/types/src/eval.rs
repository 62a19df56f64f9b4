use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    AllocMetric, Time,
    shape::{id_text, or_null},
};

sparse! {
    /// One evaluation.
    Evaluation {
        annotate_plan "AnnotatePlan": bool,
        blocked_eval "BlockedEval": String,
        class_eligibility "ClassEligibility": BTreeMap<String, bool>,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        deployment_id "DeploymentID": String,
        escaped_computed_class "EscapedComputedClass": bool,
        failed_tg_allocs "FailedTGAllocs": BTreeMap<String, AllocMetric>,
        id "ID": String,
        job_id "JobID": String,
        job_modify_index "JobModifyIndex": u64,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        namespace "Namespace": String,
        next_eval "NextEval": String,
        node_id "NodeID": String,
        node_modify_index "NodeModifyIndex": u64,
        plan_annotations "PlanAnnotations": Option<PlanAnnotations>,
        previous_eval "PreviousEval": String,
        priority "Priority": i32,
        queued_allocations "QueuedAllocations": BTreeMap<String, u64>,
        quota_limit_reached "QuotaLimitReached": String,
        related_evals "RelatedEvals": Vec<EvaluationStub>,
        snapshot_index "SnapshotIndex": u64,
        status "Status": String,
        status_description "StatusDescription": String,
        triggered_by "TriggeredBy": String,
        kind "Type": String,
        wait "Wait": i64,
        wait_until "WaitUntil": Time,
    }
}

shape! {
    /// What another evaluation says of one that is related.
    EvaluationStub {
        blocked_eval "BlockedEval": String,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        deployment_id "DeploymentID": String,
        id "ID": String,
        job_id "JobID": String,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        namespace "Namespace": String,
        next_eval "NextEval": String,
        node_id "NodeID": String,
        previous_eval "PreviousEval": String,
        priority "Priority": i32,
        status "Status": String,
        status_description "StatusDescription": String,
        triggered_by "TriggeredBy": String,
        kind "Type": String,
        wait_until "WaitUntil": Time,
    }
    /// What a plan does, by group.
    PlanAnnotations {
        #[serde(serialize_with = "or_null")]
        desired_tg_updates "DesiredTGUpdates": BTreeMap<String, DesiredUpdates>,
        #[serde(serialize_with = "or_null")]
        preempted_allocs "PreemptedAllocs": Vec<Value>,
    }
    /// What a plan does to one group.
    DesiredUpdates {
        canary "Canary": u64,
        destructive_update "DestructiveUpdate": u64,
        disconnect "Disconnect": u64,
        ignore "Ignore": u64,
        in_place_update "InPlaceUpdate": u64,
        migrate "Migrate": u64,
        place "Place": u64,
        preemptions "Preemptions": u64,
        reconnect "Reconnect": u64,
        reschedule_later "RescheduleLater": u64,
        reschedule_now "RescheduleNow": u64,
        stop "Stop": u64,
    }
    /// Deletes evaluations.
    EvalDeleteRequest {
        eval_ids "EvalIDs": Vec<String>,
        filter "Filter": String,
    }
    /// How many evaluations were deleted.
    EvalDeleteResponse {
        count "Count": u64,
        index "Index": u64,
    }
    /// How many evaluations there are.
    EvalCountResponse {
        count "Count": u64,
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        next_token "NextToken": String,
    }
}

impl Evaluation {
    /// Makes the shape of an evaluation; related ones are added by [`Evaluation::with_related`].
    pub fn of(eval: &model::Evaluation) -> Self {
        // One that waits for room has made no plan, and belongs to no deployment as far as tools know.
        let waits = eval.status == model::EvalStatus::Blocked;
        let class_eligibility = eval.class_eligibility.iter().map(|(class, fits)| (class.to_string(), *fits));
        Self {
            annotate_plan: false,
            blocked_eval: id_text(eval.blocked_eval),
            class_eligibility: class_eligibility.collect(),
            create_index: eval.create_index,
            create_time: eval.create_time.0,
            deployment_id: id_text(eval.deployment_id.filter(|_| !waits)),
            escaped_computed_class: eval.escaped_class,
            failed_tg_allocs: eval
                .failed_groups
                .iter()
                .map(|(group, why)| (group.to_string(), AllocMetric::of(why)))
                .collect(),
            id: eval.id.to_string(),
            job_id: eval.job.id.to_string(),
            job_modify_index: eval.job_modify_index,
            modify_index: eval.modify_index,
            modify_time: eval.modify_time.0,
            namespace: eval.job.namespace.to_string(),
            next_eval: id_text(eval.next_eval),
            node_id: id_text(eval.node_id),
            node_modify_index: eval.node_modify_index,
            plan_annotations: eval.annotations.as_deref().filter(|_| !waits).map(PlanAnnotations::of),
            previous_eval: id_text(eval.previous_eval),
            priority: eval.priority,
            queued_allocations: eval
                .queued
                .iter()
                .filter(|_| !waits)
                .map(|(group, count)| (group.to_string(), u64::from(*count)))
                .collect(),
            quota_limit_reached: String::new(),
            related_evals: Vec::new(),
            snapshot_index: eval.snapshot_index,
            status: eval.status.to_string(),
            status_description: eval.status_description.to_string(),
            triggered_by: eval.trigger.to_string(),
            kind: eval.kind.to_string(),
            wait: 0,
            wait_until: eval.wait_until.into(),
        }
    }

    /// Adds what is known of related evaluations.
    #[must_use]
    pub fn with_related<'a>(mut self, related: impl IntoIterator<Item = &'a model::Evaluation>) -> Self {
        self.related_evals = related.into_iter().map(EvaluationStub::of).collect();
        self
    }
}

impl EvaluationStub {
    fn of(eval: &model::Evaluation) -> Self {
        Self {
            blocked_eval: id_text(eval.blocked_eval),
            create_index: eval.create_index,
            create_time: eval.create_time.0,
            deployment_id: id_text(eval.deployment_id),
            id: eval.id.to_string(),
            job_id: eval.job.id.to_string(),
            modify_index: eval.modify_index,
            modify_time: eval.modify_time.0,
            namespace: eval.job.namespace.to_string(),
            next_eval: id_text(eval.next_eval),
            node_id: id_text(eval.node_id),
            previous_eval: id_text(eval.previous_eval),
            priority: eval.priority,
            status: eval.status.to_string(),
            status_description: eval.status_description.to_string(),
            triggered_by: eval.trigger.to_string(),
            kind: eval.kind.to_string(),
            wait_until: eval.wait_until.into(),
        }
    }
}

impl PlanAnnotations {
    /// Makes the shape of what a plan does.
    pub fn of(plan: &model::PlanAnnotations) -> Self {
        Self {
            desired_tg_updates: plan
                .groups
                .iter()
                .map(|(group, updates)| (group.to_string(), DesiredUpdates::of(updates)))
                .collect(),
            preempted_allocs: Vec::new(),
        }
    }
}

impl DesiredUpdates {
    fn of(updates: &model::DesiredUpdates) -> Self {
        Self {
            canary: updates.canary,
            destructive_update: updates.destructive_update,
            disconnect: updates.disconnect,
            ignore: updates.ignore,
            in_place_update: updates.in_place_update,
            migrate: updates.migrate,
            place: updates.place,
            preemptions: updates.preemptions,
            reconnect: updates.reconnect,
            reschedule_later: updates.reschedule_later,
            reschedule_now: updates.reschedule_now,
            stop: updates.stop,
        }
    }
}
