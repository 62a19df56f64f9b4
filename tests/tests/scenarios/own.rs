//! Scenarios beside the recorded ones. Their outcomes (`own.json`) stand on what Nomad's pages and threads say; each
//! names its source.

use serde_json::{Value, json};

use super::{
    SECOND, Scenario, once, quick,
    steps::{Steps, mock},
    versioned, with_config,
};

/// Those that leave nodes alone.
pub(super) const BESIDE_EACH_OTHER: &[Scenario] = &[
    ("service_that_ends_well_failed", service_that_ends_well_failed),
    ("leader_of_a_service_ends", leader_of_a_service_ends),
    ("longest_run_is_over", longest_run_is_over),
    ("system_allocation_stopped_by_hand", system_allocation_stopped_by_hand),
    ("sysbatch_runs_again_when_changed", sysbatch_runs_again_when_changed),
    ("job_keeps_its_type", job_keeps_its_type),
    ("revert_leaves_nothing_waiting", revert_leaves_nothing_waiting),
];

/// Those that drain nodes.
pub(super) const ONE_BY_ONE: &[Scenario] = &[
    ("drained_batch_is_not_replaced", drained_batch_is_not_replaced),
    ("drained_sysbatch_may_end", drained_sysbatch_may_end),
];

/// `client: always mark exited sys/svc allocs as failed` (hashicorp/nomad#4034).
fn service_that_ends_well_failed(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("ends", "service", 1, &once(&quick(&json!({}))), &json!({}));
    steps.run(&with_config(job, json!({ "run_for": "300ms" })));
    vec!["ends"]
}

/// The same for a leader: its siblings end because it failed.
fn leader_of_a_service_ends(steps: &mut Steps) -> Vec<&'static str> {
    let mut job = mock("lead", "service", 1, &once(&quick(&json!({}))), &json!({}));
    let mut leader = with_name(&job, "leader");
    leader["Leader"] = json!(true);
    leader["Config"] = json!({ "run_for": "300ms" });
    tasks(&mut job).push(leader);
    steps.run(&job);
    vec!["lead"]
}

/// `core: timeouts for batch jobs` (hashicorp/nomad#27803).
fn longest_run_is_over(steps: &mut Steps) -> Vec<&'static str> {
    let mut job = mock("long", "batch", 1, &json!({ "MaxRunDuration": 2 * SECOND }), &json!({}));
    let mut last = with_name(&job, "last");
    last["Lifecycle"] = json!({ "Hook": "poststop" });
    tasks(&mut job).push(last);
    steps.run(&job);
    steps.wait_status("long", "dead");
    vec!["long"]
}

/// The page of `alloc stop`: system allocations are not rescheduled and show up as completed.
fn system_allocation_stopped_by_hand(steps: &mut Steps) -> Vec<&'static str> {
    let update = json!({ "Update": quick(&json!({ "MaxParallel": 4 })) });
    steps.run(&mock("byhand", "system", 1, &update, &json!({})));
    steps.deployment("byhand", 0, "successful");
    let id = steps.allocs("byhand")[0]["ID"].as_str().expect("an allocation has an id").to_owned();
    steps.must("PUT", &format!("/v1/allocation/{id}/stop"), &Value::Null);
    vec!["byhand"]
}

/// A later version with other tasks runs everywhere again; what ran before was updated.
fn sysbatch_runs_again_when_changed(steps: &mut Steps) -> Vec<&'static str> {
    for value in ["0", "1"] {
        let job = mock("anew", "sysbatch", 1, &json!({}), &json!({}));
        let mut job = with_config(job, json!({ "run_for": "300ms" }));
        job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({ "V": value });
        steps.run(&job);
        steps.wait_status("anew", "dead");
    }
    vec!["anew"]
}

/// `cannot update job from type` (hashicorp/nomad#3152).
fn job_keeps_its_type(steps: &mut Steps) -> Vec<&'static str> {
    steps.run(&mock("kind", "batch", 1, &json!({}), &json!({})));
    steps.wait_running("kind", 1);
    let answer = steps.answer(
        "PUT",
        "/v1/jobs",
        &json!({ "Job": mock("kind", "service", 1, &json!({}), &json!({})) }),
    );
    steps.note("answer", answer);
    vec!["kind"]
}

/// A failed allocation waits by the policy of its own version (`RescheduleInfo` in Nomad's package `api` reads it from the
/// allocation's job), so that the version gone back to has nothing to wait for.
fn revert_leaves_nothing_waiting(steps: &mut Steps) -> Vec<&'static str> {
    let update = quick(&json!({ "AutoRevert": true }));
    steps.run(&versioned("back", 1, &update, "0"));
    steps.deployment("back", 0, "successful");
    let job = mock("back", "service", 1, &once(&update), &json!({}));
    steps.run(&with_config(job, json!({ "start_error": "no" })));
    steps.deployment("back", 2, "successful");
    vec!["back"]
}

/// The page of `node drain`: allocations of batch jobs end or are stopped at the deadline, and are not replaced
/// (hashicorp/nomad#26961).
fn drained_batch_is_not_replaced(steps: &mut Steps) -> Vec<&'static str> {
    steps.run(&mock("slow", "batch", 1, &json!({}), &json!({})));
    let node = steps.wait_running("slow", 1)[0]["NodeName"].as_str().expect("a node has a name").to_owned();
    steps.drain(&node, 1);
    steps.wait_status("slow", "dead");
    vec!["slow"]
}

/// The page of `node drain`: allocations of sysbatch jobs may end, too, until the deadline.
fn drained_sysbatch_may_end(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("sbd", "sysbatch", 1, &json!({}), &json!({}));
    steps.run(&with_config(job, json!({ "run_for": "3s" })));
    steps.wait_placed("sbd", 4);
    steps.drain("c1", 60);
    vec!["sbd"]
}

fn tasks(job: &mut Value) -> &mut Vec<Value> {
    job["TaskGroups"][0]["Tasks"].as_array_mut().expect("a group has tasks")
}

/// The job's task under another name.
fn with_name(job: &Value, name: &str) -> Value {
    let mut task = job["TaskGroups"][0]["Tasks"][0].clone();
    task["Name"] = json!(name);
    task
}
