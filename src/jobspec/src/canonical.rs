//! What the API's own types fill in before a job is sent: defaults, and what groups and tasks inherit.

use crate::object::{self, Object};
use crate::schema::{
    Block, EPHEMERAL_DISK, Fallback, Form, JOB, Kind, LOGS, MIGRATE, MULTIREGION_STRATEGY, RESCHEDULE,
    RESOURCES, RESTART, UPDATE,
};
use crate::shape;
use serde_json::{Map, Value};

const SECOND: i64 = 1_000_000_000;

/// Fills in the defaults that do not depend on a server. Doing it twice changes nothing.
pub fn canonicalise(job: &mut Value) {
    let Some(job) = job.as_object_mut() else { return };
    object::set_if_null(job, "ID", "");
    object::set_if_null(job, "Type", "service");
    let id = object::text(job, "ID").to_owned();
    object::set_if_null(job, "Name", id);
    let kind = object::text(job, "Type").to_owned();
    if matches!(kind.as_str(), "service" | "system") {
        object::set_if_null(job, "Update", shape::empty(&UPDATE));
    }
    if let Some(update) = object::child_mut(job, "Update") {
        fill(&UPDATE, update);
    }
    if let Some(multiregion) = object::child_mut(job, "Multiregion") {
        object::set_if_null(multiregion, "Strategy", shape::empty(&MULTIREGION_STRATEGY));
    }
    let inherited = Inherited {
        name: object::text(job, "Name").to_owned(),
        kind,
        update: object::child(job, "Update").filter(|update| !all_zero(update)).cloned(),
        reschedule: object::child(job, "Reschedule").cloned(),
        migrate: object::child(job, "Migrate").cloned(),
    };
    for group in object::children_mut(job, "TaskGroups") {
        canonicalise_group(group, &inherited);
    }
    if let Some(periodic) = object::child_mut(job, "Periodic")
        && object::text(periodic, "TimeZone").is_empty()
    {
        object::set(periodic, "TimeZone", "UTC");
    }
    // The job's own strategy is what groups take theirs from, and stays as it was written.
    let migrate = job.get("Migrate").cloned();
    fill(&JOB, job);
    if let Some(migrate) = migrate {
        object::set(job, "Migrate", migrate);
    }
}

/// What a group takes from its job.
struct Inherited {
    name: String,
    kind: String,
    update: Option<Object>,
    reschedule: Option<Object>,
    migrate: Option<Object>,
}

/// Sets what is unset and has a fixed default, here and in the blocks below.
pub(crate) fn fill(block: &'static Block, target: &mut Object) {
    for field in block.fields.iter().filter(|field| !field.json.is_empty() && field.form != Form::Stored) {
        let unset = match target.get(field.json) {
            None | Some(Value::Null) => true,
            Some(value) => !field.pointer && *value == shape::zero(field.kind),
        };
        if unset {
            match field.default {
                Fallback::Int(value) => object::set(target, field.json, value),
                Fallback::Bool(value) => object::set(target, field.json, value),
                Fallback::String(value) => object::set(target, field.json, value),
                Fallback::Empty if matches!(field.kind, Kind::StringMap) => {
                    object::set(target, field.json, Map::new())
                }
                Fallback::Empty => object::set(target, field.json, Vec::<Value>::new()),
                Fallback::None | Fallback::Computed(_) => {}
            }
        }
        match field.kind {
            Kind::Block(inner) => {
                object::child_mut(target, field.json).into_iter().for_each(|child| fill(inner, child))
            }
            Kind::Blocks(inner) => {
                object::children_mut(target, field.json).for_each(|child| fill(inner, child))
            }
            Kind::BlockMap(inner) => {
                let map = object::child_mut(target, field.json).into_iter().flat_map(Map::values_mut);
                map.filter_map(Value::as_object_mut).for_each(|child| fill(inner, child));
            }
            _ => {}
        }
    }
}

/// Lays what is set in `over` on top of `base`.
fn overlay(base: &Object, over: &Object) -> Object {
    let mut merged = base.clone();
    for (key, value) in over.iter().filter(|(_, value)| !value.is_null()) {
        object::set(&mut merged, key, value.clone());
    }
    merged
}

/// Whether this is what a stored job has where there is no strategy.
fn all_zero(update: &Object) -> bool {
    update.values().all(|value| match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    })
}

/// Puts the job's block under the group's, or in its place.
fn inherit(group: &mut Object, key: &str, from: Option<&Object>) {
    let Some(base) = from else { return };
    let merged = object::child(group, key).map_or_else(|| base.clone(), |own| overlay(base, own));
    object::set(group, key, merged);
}

fn canonicalise_group(group: &mut Object, job: &Inherited) {
    object::set_if_null(group, "Name", "");
    let min = object::child(group, "Scaling").and_then(|scaling| scaling.get("Min")?.as_i64());
    object::set_if_null(group, "Count", min.unwrap_or(1));
    let count = object::int(group, "Count");
    if let Some(scaling) = object::child_mut(group, "Scaling") {
        object::set_if_null(scaling, "Enabled", true);
        object::set_if_null(scaling, "Min", count);
        if object::text(scaling, "Type").is_empty() {
            object::set(scaling, "Type", "horizontal");
        }
    }
    object::set_if_null(group, "EphemeralDisk", shape::empty(&EPHEMERAL_DISK));
    inherit(group, "Update", job.update.as_ref());
    inherit(group, "ReschedulePolicy", job.reschedule.as_ref());
    if !matches!(job.kind.as_str(), "system" | "sysbatch") {
        object::set_if_null(group, "ReschedulePolicy", shape::empty(&RESCHEDULE));
    }
    if let Some(policy) = object::child_mut(group, "ReschedulePolicy") {
        fill_reschedule(policy, &job.kind);
    }
    inherit(group, "Migrate", job.migrate.as_ref());
    if job.kind == "service" {
        object::set_if_null(group, "Migrate", shape::empty(&MIGRATE));
    }
    object::set_if_null(group, "RestartPolicy", shape::empty(&RESTART));
    if let Some(policy) = object::child_mut(group, "RestartPolicy") {
        fill_restart(policy, &job.kind);
    }
    let restart = object::child(group, "RestartPolicy").cloned().unwrap_or_default();
    let prefix = format!("{}-{}", job.name, object::text(group, "Name"));
    for task in object::children_mut(group, "Tasks") {
        canonicalise_task(task, &restart, &prefix);
    }
    for service in object::children_mut(group, "Services") {
        canonicalise_service(service, &prefix);
    }
}

fn fill_restart(policy: &mut Object, job_kind: &str) {
    let (attempts, interval) =
        if matches!(job_kind, "service" | "system") { (2, 1_800) } else { (3, 86_400) };
    object::set_if_null(policy, "Attempts", attempts);
    object::set_if_null(policy, "Interval", interval * SECOND);
    object::set_if_null(policy, "Delay", 15 * SECOND);
    object::set_if_null(policy, "Mode", "fail");
    object::set_if_null(policy, "RenderTemplates", false);
}

fn fill_reschedule(policy: &mut Object, job_kind: &str) {
    let (attempts, interval, delay, function, max_delay, unlimited) = match job_kind {
        "service" => (0, 0, 30, "exponential", 3_600, true),
        "batch" => (1, 86_400, 5, "constant", 0, false),
        _ => (0, 0, 0, "", 0, false),
    };
    object::set_if_null(policy, "Attempts", attempts);
    object::set_if_null(policy, "Interval", interval * SECOND);
    object::set_if_null(policy, "Delay", delay * SECOND);
    object::set_if_null(policy, "DelayFunction", function);
    object::set_if_null(policy, "MaxDelay", max_delay * SECOND);
    object::set_if_null(policy, "Unlimited", unlimited);
}

fn canonicalise_task(task: &mut Object, group_restart: &Object, prefix: &str) {
    fill_resources(task);
    object::set_if_null(task, "LogConfig", shape::empty(&LOGS));
    for artifact in object::children_mut(task, "Artifacts") {
        canonicalise_artifact(artifact);
    }
    for template in object::children_mut(task, "Templates") {
        canonicalise_template(template);
    }
    for secret in object::children_mut(task, "Secrets") {
        null_if_empty(secret, &["Config", "Env"]);
    }
    let restart = object::child(task, "RestartPolicy")
        .map_or_else(|| group_restart.clone(), |own| overlay(group_restart, own));
    object::set(task, "RestartPolicy", restart);
    let prefix = format!("{prefix}-{}", object::text(task, "Name"));
    for service in object::children_mut(task, "Services") {
        canonicalise_service(service, &prefix);
    }
}

/// A map without entries is as good as none.
fn null_if_empty(holder: &mut Object, keys: &[&str]) {
    for key in keys {
        if object::child(holder, key).is_some_and(Map::is_empty) {
            object::set(holder, key, Value::Null);
        }
    }
}

fn fill_resources(holder: &mut Object) {
    object::set_if_null(holder, "Resources", shape::empty(&RESOURCES));
    if let Some(resources) = object::child_mut(holder, "Resources") {
        // Whoever says how many cores, even none, says what is wanted of the processor.
        let cpu = if object::is_null(resources, "Cores") { 100 } else { 0 };
        object::set_if_null(resources, "CPU", cpu);
    }
}

fn canonicalise_artifact(artifact: &mut Object) {
    null_if_empty(artifact, &["GetterOptions", "GetterHeaders"]);
    let source = object::text(artifact, "GetterSource");
    let path = source.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let destination = if object::text(artifact, "GetterMode") == "file" {
        format!("local/{file}")
    } else {
        "local/".to_owned()
    };
    object::set_if_null(artifact, "RelativeDest", destination);
}

fn canonicalise_template(template: &mut Object) {
    let signal = match template.get("ChangeSignal").and_then(Value::as_str) {
        Some(signal) => signal.to_uppercase(),
        None if object::text(template, "ChangeMode") == "signal" => "SIGHUP".to_owned(),
        None => String::new(),
    };
    object::set(template, "ChangeSignal", signal);
}

fn canonicalise_service(service: &mut Object, default_name: &str) {
    if object::text(service, "Name").is_empty() {
        object::set(service, "Name", default_name);
    }
    let on_update = match object::text(service, "OnUpdate") {
        "" => "require_healthy".to_owned(),
        own => own.to_owned(),
    };
    null_if_empty(service, &["Meta", "CanaryMeta", "TaggedAddresses"]);
    if let Some(weights) = object::child_mut(service, "Weights") {
        for key in ["Passing", "Warning"] {
            if object::int(weights, key) <= 0 {
                object::set(weights, key, 1);
            }
        }
    }
    let restart = object::child(service, "CheckRestart").cloned();
    for check in object::children_mut(service, "Checks") {
        if let Some(base) = &restart {
            let merged = object::child(check, "CheckRestart")
                .map_or_else(|| base.clone(), |own| merge_check_restart(base, own));
            object::set(check, "CheckRestart", merged);
        }
        if let Some(restart) = object::child_mut(check, "CheckRestart") {
            object::set_if_null(restart, "Grace", SECOND);
        }
        if object::text(check, "OnUpdate").is_empty() {
            object::set(check, "OnUpdate", on_update.as_str());
        }
        for key in ["SuccessBeforePassing", "FailuresBeforeCritical", "FailuresBeforeWarning"] {
            if object::int(check, key) < 0 {
                object::set(check, key, 0);
            }
        }
    }
    let Some(connect) = object::child_mut(service, "Connect") else { return };
    let Some(task) = object::child_mut(connect, "SidecarTask") else { return };
    fill_resources(task);
    object::set_if_null(task, "LogConfig", shape::empty(&LOGS));
}

fn merge_check_restart(base: &Object, own: &Object) -> Object {
    let mut merged = base.clone();
    if object::int(own, "Limit") > 0 {
        object::set(&mut merged, "Limit", object::int(own, "Limit"));
    }
    if let Some(grace) = own.get("Grace").filter(|grace| !grace.is_null()) {
        object::set(&mut merged, "Grace", grace.clone());
    }
    if object::truth(own, "IgnoreWarnings") {
        object::set(&mut merged, "IgnoreWarnings", true);
    }
    merged
}
