//! What a job file says in other words than the API: short forms, old places, and what stands above what it is for.

use super::Read;
use crate::object::{self, Object};
use crate::schema::{Block, JOB};
use crate::shape;
use serde_json::{Map, Value, json};

/// Finishes one block after its fields were read.
pub(super) fn block(block: &'static Block, mut read: Read) -> Object {
    match block.name {
        "Constraint" => constraint(&mut read),
        "Affinity" => affinity(&mut read),
        "NetworkResource" => split_ports(&mut read.object),
        "Template" => template(&mut read.object),
        "Vault" => {
            object::set_if_null(&mut read.object, "Env", true);
            object::set_if_null(&mut read.object, "DisableFile", false);
            object::set_if_null(&mut read.object, "ChangeMode", "restart");
        }
        "PeriodicConfig" => {
            let timed = ["Spec", "Specs"].iter().any(|key| !object::is_null(&read.object, key));
            let kind = if timed { Value::from("cron") } else { Value::Null };
            object::set(&mut read.object, "SpecType", kind);
        }
        "Task" => split_identities(&mut read.object),
        "TaskGroup" => {
            let (vault, secrets) = (read.take("vault"), read.take("secret"));
            for task in object::children_mut(&mut read.object, "Tasks") {
                object::set_if_null(task, "Vault", vault.clone());
                share_secrets(task, &secrets);
            }
            if let Some(scaling) = object::child_mut(&mut read.object, "Scaling")
                && object::text(scaling, "Type").is_empty()
            {
                object::set(scaling, "Type", "horizontal");
            }
        }
        _ => {}
    }
    read.object
}

/// Finishes the job: its label is its id, and what stands in it for all tasks goes to them.
pub(super) fn job(mut read: Read, label: &str) -> Object {
    let (tasks, vault, secrets) = (read.take("task"), read.take("vault"), read.take("secret"));
    let mut job = read.object;
    object::set_if_null(&mut job, "ID", label);
    object::set_if_null(&mut job, "Name", label);
    if let Value::Array(tasks) = tasks
        && !tasks.is_empty()
    {
        let mut groups: Vec<_> = tasks.into_iter().map(group_of_one).collect();
        groups.extend(object::list(&job, "TaskGroups").iter().cloned());
        object::set(&mut job, "TaskGroups", groups);
    }
    for group in object::children_mut(&mut job, "TaskGroups") {
        for task in object::children_mut(group, "Tasks") {
            object::set_if_null(task, "Vault", vault.clone());
            share_secrets(task, &secrets);
        }
    }
    job
}

/// Gives a task the secrets of its group or job, after its own.
fn share_secrets(task: &mut Object, shared: &Value) {
    let Value::Array(shared) = shared else { return };
    let all: Vec<_> = object::list(task, "Secrets").iter().chain(shared).cloned().collect();
    object::set(task, "Secrets", all);
}

fn group_of_one(task: Value) -> Value {
    let groups = JOB.json_field("TaskGroups").map(|field| field.kind);
    let mut group = match groups {
        Some(crate::schema::Kind::Blocks(block)) => shape::empty(block),
        _ => Map::new(),
    };
    object::set(&mut group, "Name", task["Name"].clone());
    object::set(&mut group, "Tasks", vec![task]);
    group.into()
}

/// The short forms of comparisons, in the order in which a later one wins.
fn short_forms(read: &mut Read, names: &[&str]) {
    for name in names {
        if let Value::String(value) = read.take(name)
            && !value.is_empty()
        {
            object::set(&mut read.object, "Operand", *name);
            object::set(&mut read.object, "RTarget", value);
        }
    }
}

fn constraint(read: &mut Read) {
    short_forms(read, &["version", "semver", "regexp", "set_contains"]);
    if let Value::Bool(distinct) = read.take("distinct_hosts") {
        object::set(&mut read.object, "Operand", "distinct_hosts");
        object::set(&mut read.object, "RTarget", distinct.to_string());
    }
    if let Value::String(property) = read.take("distinct_property")
        && !property.is_empty()
    {
        object::set(&mut read.object, "Operand", "distinct_property");
        object::set(&mut read.object, "LTarget", property);
    }
    equal_unless_said(&mut read.object);
}

fn affinity(read: &mut Read) {
    short_forms(
        read,
        &["version", "semver", "regexp", "set_contains_any", "set_contains_all", "set_contains"],
    );
    equal_unless_said(&mut read.object);
    // The weight is a number of eight bits there, and wraps round.
    if let Some(weight) = read.object.get("Weight").and_then(Value::as_i64) {
        object::set(&mut read.object, "Weight", weight as i8);
    }
}

fn equal_unless_said(comparison: &mut Object) {
    if object::text(comparison, "Operand").is_empty() {
        object::set(comparison, "Operand", "=");
    }
}

/// Ports with a number of their own go into a list of their own.
fn split_ports(network: &mut Object) {
    let ports = object::list(network, "DynamicPorts").to_vec();
    if ports.is_empty() {
        return;
    }
    let fixed = |port: &Value| port["Value"].as_i64().is_some_and(|value| value > 0);
    let (reserved, dynamic): (Vec<_>, Vec<_>) = ports.into_iter().partition(fixed);
    let list = |ports: Vec<Value>| if ports.is_empty() { Value::Null } else { ports.into() };
    object::set(network, "ReservedPorts", list(reserved));
    object::set(network, "DynamicPorts", list(dynamic));
}

fn template(template: &mut Object) {
    object::set_if_null(template, "ChangeMode", "restart");
    object::set_if_null(template, "Perms", "0644");
    object::set_if_null(template, "Splay", 5_000_000_000_i64);
    object::set_if_null(template, "ErrMissingKey", false);
    let Some(script) = object::child_mut(template, "ChangeScript") else { return };
    object::set_if_null(script, "Args", json!([]));
    object::set_if_null(script, "Timeout", 5_000_000_000_i64);
    object::set_if_null(script, "FailOnError", false);
    object::set_if_null(script, "RunOnFirstRender", false);
}

/// The first identity without a name, or with the name `default`, is the task's own.
fn split_identities(task: &mut Object) {
    let mut all = object::list(task, "Identities").to_vec();
    let own = |identity: &Value| matches!(identity["Name"].as_str(), None | Some("" | "default"));
    if let Some(first) = all.iter().position(own) {
        object::set(task, "Identity", all.remove(first));
        object::set(task, "Identities", all);
    }
}
