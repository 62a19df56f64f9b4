//! Rules of a task group.

use super::{Errors, Seen, rules, service, task};
use crate::object::{self, Object};
use serde_json::Value;
use std::collections::BTreeMap;

/// The smallest disk, in MB.
const DISK_MIN: i64 = 10;
const PORT_MAX: i64 = 65_535;

pub(super) fn check(group: &Object, kind: &str) -> Errors {
    let mut errors = Errors::default();
    let name = object::text(group, "Name");
    errors.when(name.is_empty(), || "Missing task group name".into());
    errors.when(name.contains('\0'), || "Task group name contains null character".into());
    errors.when(object::int(group, "Count") < 0, || "Task group count can't be negative".into());
    errors.when(object::list(group, "Tasks").is_empty(), || "Missing tasks for task group".into());
    check_run_time(group, kind, &mut errors);
    rules::constraints(group, &mut errors);
    rules::affinities(group, kind, &mut errors);
    check_policies(group, name, kind, &mut errors);
    check_task_set(group, &mut errors);
    check_volumes(group, &mut errors);
    errors.nest(|| "Task group network validation failed".into(), check_ports(group));
    errors.nest(|| "Task group service validation failed".into(), service::check_group(group));
    errors.nest(|| "Task group service check validation failed".into(), service::check_scripts(group));
    if let Some(scaling) = object::child(group, "Scaling") {
        let part = check_scaling(scaling, object::int(group, "Count"));
        errors.nest(|| "Task group scaling policy validation failed".into(), part);
    }
    for task in object::children(group, "Tasks") {
        let heading = || format!("Task {} validation failed", object::text(task, "Name"));
        errors.nest(heading, task::check(task, group, kind));
    }
    errors
}

fn check_run_time(group: &Object, kind: &str, errors: &mut Errors) {
    let Some(longest) = group.get("MaxRunDuration").and_then(Value::as_i64) else { return };
    errors.when(longest <= 0, || "max_run_duration must be a positive value".into());
    errors.when(!matches!(kind, "batch" | "sysbatch"), || {
        r#"max_run_duration can only be used with "batch" or "sysbatch" jobs"#.into()
    });
}

fn check_policies(group: &Object, name: &str, kind: &str, errors: &mut Errors) {
    match object::child(group, "RestartPolicy") {
        Some(policy) => errors.extend(rules::check_restart(policy)),
        None => errors.push(format!("Task Group {name} should have a restart policy")),
    }
    rules::spreads(group, kind, errors);
    let reschedule = object::child(group, "ReschedulePolicy");
    match (kind, reschedule) {
        ("system" | "sysbatch", Some(_)) => {
            errors.push("System or sysbatch jobs should not have a reschedule policy")
        }
        ("system" | "sysbatch", None) => {}
        (_, Some(policy)) => errors.extend(rules::check_reschedule(policy)),
        (_, None) => errors.push(format!("Task Group {name} should have a reschedule policy")),
    }
    if let Some(disconnect) = object::child(group, "Disconnect") {
        errors.extend(check_disconnect(disconnect));
    }
    match object::child(group, "EphemeralDisk") {
        Some(disk) => {
            let size = object::int(disk, "SizeMB");
            errors.when(size < DISK_MIN, || format!("minimum DiskMB value is {DISK_MIN}; got {size}"));
        }
        None => errors.push(format!("Task Group {name} should have an ephemeral disk object")),
    }
    match (object::child(group, "Update"), kind) {
        (Some(_), "batch" | "sysbatch") => {
            errors.push(format!("Job type {kind:?} does not allow update block"))
        }
        (Some(update), _) => errors.extend(rules::check_update(update)),
        (None, _) => {}
    }
    match (object::child(group, "Migrate"), kind) {
        (Some(migrate), "service") => errors.extend(rules::check_migrate(migrate)),
        (Some(_), _) => errors.push(format!("Job type {kind:?} does not allow migrate block")),
        (None, _) => {}
    }
}

fn check_disconnect(disconnect: &Object) -> Errors {
    let mut errors = Errors::default();
    let lost = object::int(disconnect, "LostAfter");
    let stop = disconnect.get("StopOnClientAfter").and_then(Value::as_i64);
    errors.when(lost < 0, || "lost_after cannot be a negative duration".into());
    errors.when(stop.is_some_and(|stop| stop < 0), || {
        "stop_on_client_after cannot be a negative duration".into()
    });
    errors.when(lost != 0 && stop.is_some_and(|stop| stop != 0), || {
        "Disconnect cannot be configured with both lost_after and stop_after".into()
    });
    let reconcile = object::text(disconnect, "Reconcile");
    let known = ["", "best_score", "keep_original", "keep_replacement", "longest_running"];
    errors.when(!known.contains(&reconcile), || format!("reconcile option is invalid: {reconcile}"));
    errors
}

fn check_task_set(group: &Object, errors: &mut Errors) {
    let leaders = object::children(group, "Tasks").filter(|task| object::truth(task, "Leader")).count();
    errors.when(leaders > 1, || "Only one task may be marked as leader".into());
    let mut seen = Seen::default();
    for (index, task) in object::children(group, "Tasks").enumerate() {
        let name = object::text(task, "Name");
        let first = seen.first(name, index);
        if name.is_empty() {
            errors.push(format!("Task {} missing name", index + 1));
        } else if let Some(first) = first {
            errors.push(format!("Task {} redefines '{name}' from task {}", index + 1, first + 1));
        }
    }
    let main = |task: &Object| object::child(task, "Lifecycle").is_none();
    let tasks = || object::children(group, "Tasks");
    errors.when(tasks().next().is_some() && !tasks().any(main), || {
        "Task group must have at least one task without a lifecycle block".into()
    });
}

fn check_volumes(group: &Object, errors: &mut Errors) {
    let Some(volumes) = object::child(group, "Volumes") else { return };
    let canaries = object::child(group, "Update").map_or(0, |update| object::int(update, "Canary"));
    let mut names: Vec<_> = volumes.keys().collect();
    names.sort();
    for name in names {
        let Some(volume) = object::child(volumes, name) else { continue };
        let part = check_volume(volume, canaries);
        errors.nest(|| format!("Task group volume validation for {name} failed"), part);
    }
}

fn check_volume(volume: &Object, canaries: i64) -> Errors {
    let mut errors = Errors::default();
    let kind = object::text(volume, "Type");
    let source_missing = matches!(kind, "host" | "csi") && object::text(volume, "Source").is_empty();
    errors.when(source_missing, || "volume has an empty source".into());
    errors.when(object::truth(volume, "PerAlloc") && canaries > 0, || {
        "volume cannot be per_alloc when canaries are in use".into()
    });
    if kind == "csi" {
        let missing = |key: &str| object::text(volume, key).is_empty();
        errors.when(missing("AttachmentMode"), || "CSI volumes must have an attachment mode".into());
        errors.when(missing("AccessMode"), || "CSI volumes must have an access mode".into());
    }
    errors
}

/// Labels and fixed numbers, over the group's network and its tasks'.
fn check_ports(group: &Object) -> Errors {
    let mut errors = Errors::default();
    let mut ports = Ports::default();
    for network in object::children(group, "Networks") {
        ports.check_network("taskgroup network", network, &mut errors);
    }
    for task in object::children(group, "Tasks") {
        let Some(resources) = object::child(task, "Resources") else { continue };
        for network in object::children(resources, "Networks") {
            let owner = format!("task {} network", object::text(task, "Name"));
            ports.check_network(&owner, network, &mut errors);
        }
    }
    errors
}

#[derive(Default)]
struct Ports {
    labels: BTreeMap<String, String>,
    fixed: BTreeMap<(String, i64), String>,
}

impl Ports {
    fn check_network(&mut self, owner: &str, network: &Object, errors: &mut Errors) {
        for (key, is_fixed) in [("ReservedPorts", true), ("DynamicPorts", false)] {
            for port in object::children(network, key) {
                self.check_port(owner, port, is_fixed, errors);
            }
        }
    }

    fn check_port(&mut self, owner: &str, port: &Object, is_fixed: bool, errors: &mut Errors) {
        let label = object::text(port, "Label");
        match self.labels.get(label) {
            Some(other) => errors.push(format!("Port label {label} already in use by {other}")),
            None => drop(self.labels.insert(label.to_owned(), owner.to_owned())),
        }
        if is_fixed {
            let value = object::int(port, "Value");
            let place = (object::text(port, "HostNetwork").to_owned(), value);
            match self.fixed.get(&place) {
                Some(other) if !object::truth(port, "IgnoreCollision") => {
                    errors.push(format!("Static port {value} already reserved by {other}"));
                }
                Some(_) => {}
                None => drop(self.fixed.insert(place, format!("{owner}:{label}"))),
            }
            errors.when(value > PORT_MAX, || {
                format!("Port {label} ({value}) cannot be greater than {PORT_MAX}")
            });
            errors.when(value < 0, || format!("Port {label} ({value}) cannot be less than 0"));
        }
        let to = object::int(port, "To");
        errors.when(to > PORT_MAX, || {
            format!("Port {label:?} cannot be mapped to a port ({to}) greater than {PORT_MAX}")
        });
        errors.when(to < -1, || format!("Port {label:?} cannot be mapped to negative value {to}"));
    }
}

fn check_scaling(scaling: &Object, count: i64) -> Errors {
    let mut errors = Errors::default();
    let (min, max) = (object::int(scaling, "Min"), object::int(scaling, "Max"));
    errors
        .when(max < 0, || "Scaling policy invalid: maximum count must be specified and non-negative".into());
    errors.when(max < min, || {
        "Scaling policy invalid: maximum count must not be less than minimum count".into()
    });
    errors.when(count < min, || {
        "Scaling policy invalid: task group count must not be less than minimum count in scaling policy"
            .into()
    });
    errors.when(count > max, || {
        "Scaling policy invalid: task group count must not be greater than maximum count in scaling policy".into()
    });
    errors
}
