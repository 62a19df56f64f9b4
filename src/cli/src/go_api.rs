//! What `-json` shows: the server's shapes as Nomad's command line writes them again, through types of its own.
//!
//! Fields that a server leaves out come back as zero values; a few that those types do not know are gone.

use sdk::types::{AllocStub, Allocation, Deployment, Evaluation, Namespace, Node, NodePool};
use serde_json::{Map, Value, json};

/// Puts fields in that are not there.
fn fill(object: &mut Map<String, Value>, defaults: Value) {
    let Value::Object(defaults) = defaults else { return };
    for (name, value) in defaults {
        object.entry(name).or_insert(value);
    }
}

fn without(object: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        object.remove(*name);
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn each<'a>(value: Option<&'a mut Value>) -> Box<dyn Iterator<Item = &'a mut Value> + 'a> {
    match value {
        Some(Value::Array(items)) => Box::new(items.iter_mut()),
        Some(Value::Object(map)) => Box::new(map.values_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

fn sorted(object: Map<String, Value>) -> Value {
    let ordered: std::collections::BTreeMap<String, Value> = object.into_iter().collect();
    Value::Object(ordered.into_iter().collect())
}

/// A job: what the server shows, read as if it were submitted.
pub fn job(job: &Value) -> Value {
    // What can not be read so is shown as it came.
    jobspec::normalise_json(job.clone()).unwrap_or_else(|_| job.clone())
}

fn networks(value: Option<&mut Value>) {
    for network in each(value) {
        let Some(network) = network.as_object_mut() else { continue };
        fill(
            network,
            json!({
                "CIDR": "", "CNI": null, "DNS": null, "Device": "", "DynamicPorts": null, "Hostname": "", "IP": "", "MBits": null,
                "Mode": "", "ReservedPorts": null,
            }),
        );
        for list in ["DynamicPorts", "ReservedPorts"] {
            for port in each(network.get_mut(list)) {
                if let Some(port) = port.as_object_mut() {
                    fill(
                        port,
                        json!({"HostNetwork": "", "IgnoreCollision": false, "Label": "", "To": 0, "Value": 0}),
                    );
                }
            }
        }
    }
}

fn task_states(value: Option<&mut Value>) {
    for state in each(value) {
        let Some(state) = state.as_object_mut() else { continue };
        without(state, &["Paused"]);
        for event in each(state.get_mut("Events")) {
            if let Some(event) = event.as_object_mut() {
                fill(event, json!({ "DiskSize": 0 }));
            }
        }
    }
}

/// An allocation in full.
pub fn allocation(alloc: &Allocation) -> Value {
    let mut shown = object(json!(alloc));
    without(&mut shown, &["SharedResources", "SigningKeyID"]);
    fill(
        &mut shown,
        json!({
            "AllocatedResources": null, "ClientDescription": "", "ClientStatus": "", "DeploymentID": "", "DeploymentStatus": null,
            "DesiredDescription": "", "DesiredTransition": {
                "ForceReschedule": null, "Migrate": null, "MigrateDisablePlacement": null, "NoShutdownDelay": null, "Reschedule": null
            },
            "FollowupEvalID": "", "Metrics": null, "NextAllocation": "", "NetworkStatus": null, "NodeName": "",
            "PreemptedAllocations": null, "PreemptedByAllocation": "", "PreviousAllocation": "", "RescheduleTracker": null,
            "Services": null, "TaskResources": null, "TaskStates": null,
        }),
    );
    if alloc.previous_allocation.is_empty() {
        shown.insert("PreviousAllocation".to_owned(), json!(""));
    }
    if let Some(of_job) = &alloc.job {
        shown.insert("Job".to_owned(), job(of_job));
    }
    if let Some(held) = shown.get_mut("AllocatedResources").and_then(Value::as_object_mut) {
        without(held, &["TaskLifecycles"]);
        for task in each(held.get_mut("Tasks")) {
            if let Some(cpu) = task.get_mut("Cpu").and_then(Value::as_object_mut) {
                without(cpu, &["ReservedCores"]);
            }
        }
        if let Some(shared) = held.get_mut("Shared") {
            networks(shared.get_mut("Networks"));
            for port in each(shared.get_mut("Ports")) {
                if let Some(port) = port.as_object_mut() {
                    without(port, &["IgnoreCollision"]);
                    fill(port, json!({ "To": 0 }));
                }
            }
        }
    }
    if let Some(resources) = shown.get_mut("Resources") {
        networks(resources.get_mut("Networks"));
    }
    task_states(shown.get_mut("TaskStates"));
    sorted(shown)
}

/// Lines of a list of allocations.
pub fn alloc_stubs(allocs: &[AllocStub]) -> Value {
    let one = |alloc: &AllocStub| {
        let mut shown = object(json!(alloc));
        without(&mut shown, &["DesiredTransition"]);
        task_states(shown.get_mut("TaskStates"));
        Value::Object(shown)
    };
    allocs.iter().map(one).collect()
}

/// An evaluation.
pub fn evaluation(eval: &Evaluation) -> Value {
    let mut shown = object(json!(eval));
    fill(
        &mut shown,
        json!({
            "AnnotatePlan": false, "BlockedEval": "", "ClassEligibility": null, "CreateIndex": 0, "CreateTime": 0, "DeploymentID": "",
            "EscapedComputedClass": false, "FailedTGAllocs": null, "ID": "", "JobID": "", "JobModifyIndex": 0,
            "MissingNonNodeResources": null, "ModifyIndex": 0, "ModifyTime": 0, "Namespace": "", "NextEval": "", "NodeID": "",
            "NodeModifyIndex": 0, "PlanAnnotations": null, "PreviousEval": "", "Priority": 0, "QueuedAllocations": null,
            "QuotaLimitReached": "", "RelatedEvals": null, "SnapshotIndex": 0, "Status": "", "StatusDescription": "", "TriggeredBy": "",
            "Type": "", "Wait": 0, "WaitUntil": null,
        }),
    );
    sorted(shown)
}

/// A deployment.
pub fn deployment(deployment: &Deployment) -> Value {
    let mut shown = object(json!(deployment));
    without(&mut shown, &["EvalPriority"]);
    for group in each(shown.get_mut("TaskGroups")) {
        if let Some(group) = group.as_object_mut() {
            without(group, &["AutoPromote"]);
        }
    }
    Value::Object(shown)
}

/// A node in full.
pub fn node(node: &Node) -> Value {
    let mut shown = object(json!(node));
    without(&mut shown, &["SecretID", "IdentitySigningKeyID", "ComputedClass"]);
    Value::Object(shown)
}

/// A namespace.
pub fn namespace(namespace: &Namespace) -> Value {
    let mut shown = object(json!(namespace));
    without(&mut shown, &["Hash"]);
    Value::Object(shown)
}

/// A node pool; its time to live is text there.
pub fn node_pool(pool: &NodePool) -> Value {
    let day = 86_400_000_000_000;
    let ttl = if pool.node_identity_ttl == 0 { day } else { pool.node_identity_ttl };
    json!({
        "NodeIdentityTTL": crate::format::go_duration(ttl), "Name": pool.name, "Description": pool.description,
        "Meta": if pool.meta.is_empty() { Value::Null } else { json!(pool.meta) },
        "SchedulerConfiguration": pool.scheduler_configuration, "CreateIndex": pool.create_index, "ModifyIndex": pool.modify_index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_leave_out_comes_back_as_zero_values() {
        let eval: Evaluation =
            sdk::types::from_slice(br#"{"ID": "x", "JobID": "web", "Status": "complete"}"#)
                .expect("an evaluation");
        let shown = evaluation(&eval);
        assert_eq!(shown["NextEval"], "");
        assert_eq!(shown["RelatedEvals"], Value::Null);
        let held = json!({"ID": "x", "AllocatedResources": {
            "Shared": {"Networks": [{"IP": "127.0.0.1", "DynamicPorts": [{"Label": "http", "Value": 20001}]}]},
            "Tasks": {"t": {"Cpu": {"CpuShares": 5}}},
        }});
        let alloc: Allocation = sdk::types::from_value(held).expect("an allocation");
        let shown = allocation(&alloc);
        assert_eq!(shown["AllocatedResources"]["Shared"]["Networks"][0]["MBits"], Value::Null);
        assert_eq!(shown["AllocatedResources"]["Shared"]["Networks"][0]["DynamicPorts"][0]["To"], 0);
        assert!(shown["AllocatedResources"]["Tasks"]["t"]["Cpu"].get("ReservedCores").is_none());
        assert!(shown.get("SharedResources").is_none());
    }
}
