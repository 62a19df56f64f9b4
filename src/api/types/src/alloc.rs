use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    AllocMetric, AllocatedResources, Resources, TaskState, Time,
    shape::{id_text, or_null},
};

sparse! {
    /// One allocation with everything that is known of it, its job included.
    Allocation {
        alloc_modify_index "AllocModifyIndex": u64,
        alloc_states "AllocStates": Vec<AllocState>,
        allocated_resources "AllocatedResources": Option<AllocatedResources>,
        client_description "ClientDescription": String,
        client_status "ClientStatus": String,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        deployment_id "DeploymentID": String,
        deployment_status "DeploymentStatus": Option<AllocDeploymentStatus>,
        desired_description "DesiredDescription": String,
        desired_status "DesiredStatus": String,
        desired_transition "DesiredTransition": Option<DesiredTransition>,
        eval_id "EvalID": String,
        followup_eval_id "FollowupEvalID": String,
        id "ID": String,
        job "Job": Option<Value>,
        job_id "JobID": String,
        metrics "Metrics": Option<AllocMetric>,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        name "Name": String,
        namespace "Namespace": String,
        network_status "NetworkStatus": Option<NetworkStatus>,
        next_allocation "NextAllocation": String,
        node_id "NodeID": String,
        node_name "NodeName": String,
        preempted_allocations "PreemptedAllocations": Vec<String>,
        preempted_by_allocation "PreemptedByAllocation": String,
        previous_allocation "PreviousAllocation": String,
        reschedule_tracker "RescheduleTracker": Option<RescheduleTracker>,
        resources "Resources": Option<Resources>,
        shared_resources "SharedResources": Option<Resources>,
        signing_key_id "SigningKeyID": String,
        task_group "TaskGroup": String,
        task_resources "TaskResources": BTreeMap<String, Resources>,
        task_states "TaskStates": BTreeMap<String, TaskState>,
    }
}

shape! {
    /// One line of a list of allocations. Servers write it with [`crate::write_alloc_stub`].
    AllocStub {
        #[serde(skip_serializing_if = "Option::is_none")]
        allocated_resources "AllocatedResources": Option<AllocatedResources>,
        client_description "ClientDescription": String,
        client_status "ClientStatus": String,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        deployment_status "DeploymentStatus": Option<AllocDeploymentStatus>,
        desired_description "DesiredDescription": String,
        desired_status "DesiredStatus": String,
        desired_transition "DesiredTransition": DesiredTransition,
        eval_id "EvalID": String,
        followup_eval_id "FollowupEvalID": String,
        id "ID": String,
        job_id "JobID": String,
        job_type "JobType": String,
        job_version "JobVersion": u64,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        name "Name": String,
        namespace "Namespace": String,
        next_allocation "NextAllocation": String,
        node_id "NodeID": String,
        node_name "NodeName": String,
        #[serde(serialize_with = "or_null")]
        preempted_allocations "PreemptedAllocations": Vec<String>,
        preempted_by_allocation "PreemptedByAllocation": String,
        reschedule_tracker "RescheduleTracker": Option<RescheduleTracker>,
        task_group "TaskGroup": String,
        #[serde(serialize_with = "or_null")]
        task_states "TaskStates": BTreeMap<String, TaskState>,
    }
    /// What tables show of an allocation: the part of an [`AllocStub`] that is quick to read ten thousand times.
    AllocLine {
        allocated_resources "AllocatedResources": Option<HeldLine>,
        client_status "ClientStatus": String,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        desired_status "DesiredStatus": String,
        eval_id "EvalID": String,
        followup_eval_id "FollowupEvalID": String,
        id "ID": String,
        job_version "JobVersion": u64,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        namespace "Namespace": String,
        next_allocation "NextAllocation": String,
        node_id "NodeID": String,
        node_name "NodeName": String,
        task_group "TaskGroup": String,
    }
    /// What an allocation holds, as far as tables add it up.
    HeldLine {
        shared "Shared": HeldDisk,
        tasks "Tasks": BTreeMap<String, HeldTask>,
    }
    /// The disk that an allocation holds.
    HeldDisk {
        disk_mb "DiskMB": u64,
    }
    /// What a task holds.
    HeldTask {
        cpu "Cpu": HeldCpu,
        memory "Memory": HeldMemory,
    }
    /// The processor time that a task holds.
    HeldCpu {
        cpu_shares "CpuShares": u64,
    }
    /// The memory that a task holds.
    HeldMemory {
        memory_mb "MemoryMB": u64,
    }
    /// An allocation's health in its deployment.
    AllocDeploymentStatus {
        canary "Canary": bool,
        healthy "Healthy": Option<bool>,
        modify_index "ModifyIndex": u64,
        timestamp "Timestamp": Time,
    }
    /// What someone asked of an allocation.
    DesiredTransition {
        force_reschedule "ForceReschedule": Option<bool>,
        migrate "Migrate": Option<bool>,
        migrate_disable_placement "MigrateDisablePlacement": Option<bool>,
        no_shutdown_delay "NoShutdownDelay": Option<bool>,
        reschedule "Reschedule": Option<bool>,
    }
    /// Earlier replacements on an allocation's line.
    RescheduleTracker {
        #[serde(serialize_with = "or_null")]
        events "Events": Vec<RescheduleEvent>,
        last_reschedule "LastReschedule": String,
    }
    /// One replacement.
    RescheduleEvent {
        delay "Delay": i64,
        prev_alloc_id "PrevAllocID": String,
        prev_node_id "PrevNodeID": String,
        reschedule_time "RescheduleTime": i64,
    }
    /// How an allocation is reached.
    NetworkStatus {
        address "Address": String,
        address_ipv6 "AddressIPv6": String,
        dns "DNS": Option<Value>,
        interface_name "InterfaceName": String,
    }
    /// A change of an allocation's client status to or from `unknown`.
    AllocState {
        field "Field": String,
        time "Time": Time,
        value "Value": String,
    }
    /// What stopping an allocation answers.
    AllocStopResponse {
        eval_id "EvalID": String,
        index "Index": u64,
    }
    /// Restarts a task, or all of them.
    AllocRestartRequest {
        all_tasks "AllTasks": bool,
        task_name "TaskName": String,
    }
    /// Sends a signal to a task, or to all of them.
    AllocSignalRequest {
        signal "Signal": String,
        task_name "TaskName": String,
    }
    /// The result of a check that the client runs itself.
    CheckResult {
        check "Check": String,
        group "Group": String,
        id "ID": String,
        mode "Mode": String,
        output "Output": String,
        service "Service": String,
        status "Status": String,
        #[serde(skip_serializing_if = "crate::shape::is_default")]
        status_code "StatusCode": i64,
        #[serde(skip_serializing_if = "crate::shape::is_default")]
        task "Task": String,
        timestamp "Timestamp": i64,
    }
}

impl Allocation {
    /// Makes the full shape of an allocation. `node_name` is what its node is called, or empty when that is forgotten.
    pub fn of(alloc: &model::Allocation, node_name: &str) -> Self {
        let extra = alloc.extra();
        let held = &alloc.resources;
        let reached = extra.network.as_ref().map(NetworkStatus::of);
        Self {
            alloc_modify_index: alloc.alloc_modify_index,
            alloc_states: extra.states.iter().map(AllocState::of).collect(),
            allocated_resources: Some(AllocatedResources::of(held)),
            client_description: alloc.client_description.to_string(),
            client_status: alloc.client_status.to_string(),
            create_index: alloc.create_index,
            create_time: alloc.create_time.0,
            deployment_id: id_text(extra.deployment),
            deployment_status: extra.health.as_ref().map(AllocDeploymentStatus::of),
            desired_description: alloc.desired_description.to_string(),
            desired_status: alloc.desired.to_string(),
            desired_transition: Some(DesiredTransition::of(extra.transition))
                .filter(|asked| *asked != DesiredTransition::default()),
            eval_id: alloc.eval_id.to_string(),
            followup_eval_id: id_text(extra.followup_eval),
            id: alloc.id.to_string(),
            job: Some(crate::job_value(&alloc.job)),
            job_id: alloc.job.key.id.to_string(),
            metrics: alloc.metrics.as_deref().map(AllocMetric::of),
            modify_index: alloc.modify_index,
            modify_time: alloc.modify_time.0,
            name: alloc.name(),
            namespace: alloc.job.key.namespace.to_string(),
            // A client that runs it has a network for it, if only the host's; before that there is nothing to say.
            network_status: reached.or_else(|| (!alloc.task_states.is_empty()).then(NetworkStatus::default)),
            next_allocation: id_text(extra.next),
            node_id: alloc.node_id.to_string(),
            node_name: node_name.to_owned(),
            preempted_allocations: extra.preempted.iter().map(ToString::to_string).collect(),
            preempted_by_allocation: id_text(extra.preempted_by),
            previous_allocation: id_text(extra.previous),
            reschedule_tracker: RescheduleTracker::of(extra),
            resources: Some(Resources::total(held)),
            shared_resources: Some(Resources::shared(held)),
            signing_key_id: String::new(),
            task_group: alloc.task_group().name.to_string(),
            task_resources: held
                .tasks
                .iter()
                .map(|task| (task.name.to_string(), Resources::of_task(task)))
                .collect(),
            task_states: alloc
                .task_states
                .iter()
                .map(|state| (state.name.to_string(), TaskState::of(state)))
                .collect(),
        }
    }
}

impl AllocDeploymentStatus {
    pub(crate) fn of(health: &model::AllocHealth) -> Self {
        Self {
            canary: health.canary,
            healthy: health.healthy,
            modify_index: health.modify_index,
            timestamp: health.timestamp.into(),
        }
    }
}

impl DesiredTransition {
    pub(crate) fn of(asked: model::DesiredTransition) -> Self {
        Self {
            force_reschedule: asked.force_reschedule,
            migrate: asked.migrate,
            migrate_disable_placement: asked.migrate_disable_placement,
            no_shutdown_delay: asked.no_shutdown_delay,
            reschedule: asked.reschedule,
        }
    }
}

impl RescheduleTracker {
    pub(crate) fn of(extra: &model::AllocExtra) -> Option<Self> {
        if extra.reschedules.is_empty() && extra.last_reschedule.is_empty() {
            return None;
        }
        let event = |event: &model::RescheduleEvent| RescheduleEvent {
            delay: event.delay_ns,
            prev_alloc_id: event.previous.to_string(),
            prev_node_id: event.previous_node.to_string(),
            reschedule_time: event.time.0,
        };
        Some(Self {
            events: extra.reschedules.iter().map(event).collect(),
            // The line says why the last reschedule did not place; one that did reads as "ok".
            last_reschedule: if extra.last_reschedule.is_empty() {
                "ok".to_owned()
            } else {
                extra.last_reschedule.to_string()
            },
        })
    }
}

impl NetworkStatus {
    fn of(status: &model::NetworkStatus) -> Self {
        Self {
            address: status.address.to_string(),
            address_ipv6: status.address_ipv6.to_string(),
            dns: None,
            interface_name: status.interface.to_string(),
        }
    }
}

impl AllocState {
    fn of((status, time): &(model::ClientStatus, model::Timestamp)) -> Self {
        Self { field: "client-status".to_owned(), time: (*time).into(), value: status.to_string() }
    }
}
