//! What became of jobs, in the form in which outcomes are recorded.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::steps::Steps;

/// An outcome.
pub struct Outcome(pub Value);

impl Outcome {
    /// Reads what became of jobs so far.
    pub fn of(steps: &Steps, jobs: &[&str]) -> Self {
        let jobs: Map<String, Value> =
            jobs.iter().map(|id| ((*id).to_owned(), outcome_of_job(steps, id))).collect();
        Self(json!({ "notes": steps.notes, "jobs": jobs }))
    }
}

fn outcome_of_job(steps: &Steps, id: &str) -> Value {
    let job = steps.job(id);
    let mut allocs: Vec<Value> = steps.allocs(id).iter().map(|alloc| row(steps, alloc)).collect();
    // Members are in the order of their names, so that texts sort as the recorded ones were.
    allocs.sort_by_cached_key(spaced);
    let mut deployments = steps.list(&format!("/v1/job/{id}/deployments"));
    deployments.sort_by_key(|deployment| deployment["JobVersion"].as_u64());
    let evals = steps.list(&format!("/v1/job/{id}/evaluations"));
    let triggers: BTreeSet<&str> = evals.iter().filter_map(|eval| eval["TriggeredBy"].as_str()).collect();
    json!({
        "status": job["Status"], "version": job["Version"], "stopped": job["Stop"],
        "summary": summary(&steps.get(&format!("/v1/job/{id}/summary"))),
        "allocations": allocs,
        "deployments": deployments.iter().map(deployment).collect::<Vec<_>>(),
        "triggers": triggers,
        "blocked": evals.iter().filter(|eval| eval["Status"] == "blocked").count(),
    })
}

/// One allocation, without what is free.
fn row(steps: &Steps, alloc: &Value) -> Value {
    let full = steps.get(&format!("/v1/allocation/{}", alloc["ID"].as_str().unwrap_or_default()));
    let linked = |key: &str| full[key].as_str().is_some_and(|id| !id.is_empty());
    let name = alloc["Name"].as_str().unwrap_or_default();
    let name = if steps.any_index { name.split('[').next().unwrap_or_default() } else { name };
    let tasks: BTreeMap<&str, Value> = alloc["TaskStates"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, state)| {
            (
                name.as_str(),
                json!([state["State"], state["Failed"], state["Restarts"], events(&state["Events"])]),
            )
        })
        .collect();
    json!({
        "name": name, "version": alloc["JobVersion"],
        "desired": alloc["DesiredStatus"], "desired_description": alloc["DesiredDescription"],
        "client": alloc["ClientStatus"], "client_description": alloc["ClientDescription"],
        "replaced": linked("NextAllocation"), "replaces": linked("PreviousAllocation"),
        "healthy": alloc["DeploymentStatus"]["Healthy"],
        "canary": alloc["DeploymentStatus"]["Canary"] == true,
        "reschedules": full["RescheduleTracker"]["Events"].as_array().map_or(0, Vec::len),
        "tasks": tasks,
    })
}

/// The types of events in order. Those of one stop race each other on a real Nomad: they are sorted.
fn events(events: &Value) -> Vec<&str> {
    let types = events.as_array().into_iter().flatten().filter_map(|event| event["Type"].as_str());
    let (mut all, mut stop) = (Vec::new(), Vec::new());
    for kind in types {
        if matches!(kind, "Killing" | "Terminated" | "Killed") {
            stop.push(kind);
            continue;
        }
        stop.sort_unstable();
        all.append(&mut stop);
        all.push(kind);
    }
    stop.sort_unstable();
    all.append(&mut stop);
    all
}

fn deployment(deployment: &Value) -> Value {
    let keys =
        ["DesiredTotal", "DesiredCanaries", "PlacedAllocs", "HealthyAllocs", "UnhealthyAllocs", "Promoted"];
    let groups: Map<String, Value> = deployment["TaskGroups"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, group)| (name.clone(), json!(keys.map(|key| group[key].clone()))))
        .collect();
    json!({
        "version": deployment["JobVersion"], "status": deployment["Status"],
        "description": deployment["StatusDescription"], "groups": groups,
    })
}

/// The counts of each group that are not zero.
fn summary(summary: &Value) -> Map<String, Value> {
    let groups = summary["Summary"].as_object().into_iter().flatten();
    let counted = groups.map(|(name, group)| {
        let counts = group.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
        (name.clone(), counts.map(|(key, count)| (key.clone(), count.clone())).collect())
    });
    counted.collect()
}

/// Writes JSON with a blank after each colon and comma, as the recorded rows were written when they were sorted.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let written: Vec<String> =
                sorted.into_iter().map(|(name, value)| format!("{name:?}: {}", spaced(value))).collect();
            format!("{{{}}}", written.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Lists what differs. How many allocations each node has is free.
pub fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let mut list = Vec::new();
    compare(wanted, found, "", &mut list);
    list
}

fn compare(wanted: &Value, found: &Value, path: &str, list: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys.into_iter().filter(|key| *key != "spread_over") {
                compare(&wanted[key], &found[key], &format!("{path}/{key}"), list);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (at, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left, right, &format!("{path}/{at}"), list);
            }
        }
        (left, right) if left != right => list.push(format!("{path}: wanted {left}, found {right}")),
        (_, _) => {}
    }
}

#[test]
fn differences_are_found_at_any_depth() {
    let wanted = json!({ "a": [{ "b": 1 }, 2], "spread_over": [1] });
    assert!(differences(&wanted, &json!({ "a": [{ "b": 1 }, 2], "spread_over": [3] })).is_empty());
    assert_eq!(differences(&wanted, &json!({ "a": [{ "b": 3 }, 2] })), ["/a/0/b: wanted 1, found 3"]);
    assert_eq!(differences(&wanted, &json!({ "a": [] })).len(), 1);
}

#[test]
fn the_events_of_one_stop_are_sorted_and_no_others() {
    let of = |kinds: &[&str]| json!(kinds.iter().map(|kind| json!({ "Type": kind })).collect::<Vec<_>>());
    let list = of(&["Started", "Terminated", "Killing", "Restarting", "Started", "Killing"]);
    assert_eq!(events(&list), ["Started", "Killing", "Terminated", "Restarting", "Started", "Killing"]);
}
