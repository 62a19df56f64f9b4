//! What becomes of jobs: steps on a region of one server and four nodes, and the outcome held against that of a real
//! Nomad (`tests/recorded/scenarios/outcomes.json`).
//!
//! An outcome is what users can rely on: allocations by name and version with their statuses, texts, health and task
//! events in order, deployments with their counts and texts, the job's status and summary, what triggered evaluations.
//! Ids, times and the choice of node are free. Scenarios that leave nodes alone run beside each other, each on jobs of
//! its own; the others follow one by one.

mod outcome;
mod own;
mod region;
mod steps;

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::{Value, json};
use tests::{binary, wait};

use outcome::{Outcome, differences};
use region::Region;
use steps::{Steps, mock};

/// How long an outcome may take to become what it is to be, once the steps are taken.
const AGREED_WITHIN: Duration = Duration::from_secs(60);
/// How long it must stay so: what would go on does so within this time.
const STAYS_FOR: Duration = Duration::from_millis(1_500);

type Scenario = (&'static str, fn(&mut Steps) -> Vec<&'static str>);

const BESIDE_EACH_OTHER: &[Scenario] = &[
    ("rolling_update", rolling_update),
    ("in_place_update", in_place_update),
    ("canary_promote", canary_promote),
    ("failed_deployment_reverts", failed_deployment_reverts),
    ("failed_deployment_stays", failed_deployment_stays),
    ("batch_fails_and_is_tried_again", batch_fails_and_is_tried_again),
    ("scale_down_takes_the_highest", scale_down_takes_the_highest),
    ("stop_and_start_again", stop_and_start_again),
    ("sysbatch_runs_once_everywhere", sysbatch_runs_once_everywhere),
];

const ONE_BY_ONE: &[Scenario] = &[
    ("spread_over_datacenters", spread_over_datacenters),
    ("drain_migrates_one_by_one", drain_migrates_one_by_one),
    ("system_job_follows_nodes", system_job_follows_nodes),
    ("distinct_hosts_blocks_and_unblocks", distinct_hosts_blocks_and_unblocks),
    ("room_is_made_for_a_waiting_job", room_is_made_for_a_waiting_job),
];

#[test]
fn outcomes_are_those_of_a_real_nomad() {
    let recorded = fs::read_to_string(binary::checkout().join("tests/recorded/scenarios/outcomes.json"));
    let mut recorded: BTreeMap<String, Value> =
        serde_json::from_str(&recorded.expect("the outcomes are there")).expect("they are JSON");
    let own: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("own.json")).expect("outcomes of our own are JSON");
    recorded.extend(own);
    let region = Region::start();
    let addr = region.addr();
    let mut wrong = Vec::new();
    let beside: Vec<_> = BESIDE_EACH_OTHER
        .iter()
        .chain(own::BESIDE_EACH_OTHER)
        .map(|scenario| {
            let (scenario, recorded) = (*scenario, recorded[scenario.0].clone());
            wait::beside(move || run(&mut Steps::new(addr), scenario, &recorded))
        })
        .collect();
    for lane in beside {
        wrong.extend(lane.join().expect("steps can be taken"));
    }
    let steps = Steps::new(addr);
    steps.clean();
    for scenario in ONE_BY_ONE.iter().chain(own::ONE_BY_ONE) {
        wrong.extend(run(&mut Steps::new(addr), *scenario, &recorded[scenario.0]));
        steps.clean();
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), region.tails());
}

/// Takes a scenario's steps and waits until its outcome is the recorded one and stays so; returns what differs.
fn run(steps: &mut Steps, (name, take): Scenario, recorded: &Value) -> Vec<String> {
    let jobs = take(steps);
    let mut last = Vec::new();
    let mut look = || {
        last = differences(recorded, &Outcome::of(steps, &jobs).0);
        last.is_empty().then_some(())
    };
    if wait::poll(AGREED_WITHIN, &mut look).is_some() {
        wait::pass(STAYS_FOR);
        look();
    }
    last.into_iter().map(|difference| format!("{name}{difference}")).collect()
}

const SECOND: u64 = 1_000_000_000;

/// An update block whose times suit a test.
fn quick(more: &Value) -> Value {
    let mut update = json!({
        "MaxParallel": 1, "HealthCheck": "task_states", "MinHealthyTime": SECOND, "HealthyDeadline": 8 * SECOND,
        "ProgressDeadline": 12 * SECOND,
    });
    merge(&mut update, more);
    update
}

/// A group that is tried once.
fn once(update: &Value) -> Value {
    json!({
        "Update": update,
        "RestartPolicy": { "Attempts": 0, "Delay": SECOND, "Interval": 600 * SECOND, "Mode": "fail" },
        "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
    })
}

fn merge(into: &mut Value, more: &Value) {
    let members = more.as_object().expect("parts of a job are objects").clone();
    into.as_object_mut().expect("so is the job").extend(members);
}

/// A service with another environment in each version.
fn versioned(id: &str, count: u64, update: &Value, version: &str) -> Value {
    let mut job = mock(id, "service", count, &json!({ "Update": update }), &json!({}));
    job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({ "V": version });
    job
}

fn with_config(mut job: Value, config: Value) -> Value {
    job["TaskGroups"][0]["Tasks"][0]["Config"] = config;
    job
}

fn rolling_update(steps: &mut Steps) -> Vec<&'static str> {
    for (at, version) in ["0", "1"].into_iter().enumerate() {
        steps.run(&versioned("roll", 3, &quick(&json!({})), version));
        steps.deployment("roll", at, "successful");
    }
    vec!["roll"]
}

fn in_place_update(steps: &mut Steps) -> Vec<&'static str> {
    let mut job = mock("place", "service", 2, &json!({ "Update": quick(&json!({})) }), &json!({}));
    job["Meta"] = json!({ "a": "1" });
    steps.run(&job);
    steps.deployment("place", 0, "successful");
    let ids = |steps: &Steps| steps.ids("place");
    let before = ids(steps);
    job["Priority"] = json!(60);
    steps.run(&job);
    steps.deployment("place", 1, "successful");
    let same = before == ids(steps);
    steps.note("same allocations", json!(same));
    vec!["place"]
}

fn canary_promote(steps: &mut Steps) -> Vec<&'static str> {
    let update = quick(&json!({ "Canary": 1 }));
    steps.run(&versioned("can", 2, &update, "0"));
    steps.deployment("can", 0, "successful");
    steps.run(&versioned("can", 2, &update, "1"));
    let id = steps.deployment_where("can", 1, |found| found["TaskGroups"]["g"]["HealthyAllocs"] == 1);
    let running = steps.running("can").len();
    steps.note("running before promotion", json!(running));
    let path = format!("/v1/deployment/promote/{id}");
    steps.must("PUT", &path, &json!({ "DeploymentID": id, "All": true }));
    vec!["can"]
}

fn failed_deployment_reverts(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("rev", "service", 2, &once(&quick(&json!({ "AutoRevert": true }))), &json!({}));
    steps.run(&job);
    steps.deployment("rev", 0, "successful");
    steps.run(&with_config(job, json!({ "run_for": "200ms", "exit_code": 1 })));
    steps.deployment("rev", 2, "successful");
    vec!["rev"]
}

fn failed_deployment_stays(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("stay", "service", 2, &once(&quick(&json!({}))), &json!({}));
    steps.run(&job);
    steps.deployment("stay", 0, "successful");
    steps.run(&with_config(job, json!({ "start_error": "no" })));
    steps.deployment("stay", 1, "failed");
    vec!["stay"]
}

fn batch_fails_and_is_tried_again(steps: &mut Steps) -> Vec<&'static str> {
    let policies = json!({
        "RestartPolicy": { "Attempts": 1, "Delay": SECOND, "Interval": 600 * SECOND, "Mode": "fail" },
        "ReschedulePolicy": {
            "Attempts": 1, "Interval": 3600 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant", "Unlimited": false
        },
    });
    let job = mock("tries", "batch", 1, &policies, &json!({}));
    steps.run(&with_config(job, json!({ "run_for": "100ms", "exit_code": 2 })));
    vec!["tries"]
}

fn scale_down_takes_the_highest(steps: &mut Steps) -> Vec<&'static str> {
    steps.run(&mock(
        "down",
        "service",
        5,
        &json!({ "Update": quick(&json!({ "MaxParallel": 5 })) }),
        &json!({}),
    ));
    steps.deployment("down", 0, "successful");
    steps.must("PUT", "/v1/job/down/scale", &json!({ "Count": 2, "Target": { "Group": "g" } }));
    vec!["down"]
}

fn stop_and_start_again(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("again", "service", 2, &json!({}), &json!({}));
    steps.run(&job);
    steps.wait_running("again", 2);
    steps.must("DELETE", "/v1/job/again", &Value::Null);
    steps.wait_status("again", "dead");
    steps.run(&job);
    vec!["again"]
}

fn sysbatch_runs_once_everywhere(steps: &mut Steps) -> Vec<&'static str> {
    let job = mock("sb", "sysbatch", 1, &json!({}), &json!({}));
    steps.run(&with_config(job, json!({ "run_for": "300ms" })));
    vec!["sb"]
}

fn spread_over_datacenters(steps: &mut Steps) -> Vec<&'static str> {
    let targets = json!([{ "Value": "dc1", "Percent": 70 }, { "Value": "dc2", "Percent": 30 }]);
    let spread = json!({ "Attribute": "${node.datacenter}", "Weight": 100, "SpreadTarget": targets });
    let of_job = json!({ "Datacenters": ["dc1", "dc2"], "Spreads": [spread] });
    steps.run(&mock("spr", "service", 10, &json!({}), &of_job));
    steps.wait_running("spr", 10);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for alloc in steps.running("spr") {
        *counts.entry(steps.datacenter_of(&alloc)).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(name, count)| json!([name, count])).collect();
    steps.note("per datacenter", json!(counts));
    vec!["spr"]
}

fn drain_migrates_one_by_one(steps: &mut Steps) -> Vec<&'static str> {
    steps.any_index = true;
    let migrate = json!({
        "MaxParallel": 1, "HealthCheck": "task_states", "MinHealthyTime": SECOND, "HealthyDeadline": 10 * SECOND
    });
    let of_group = json!({ "Update": quick(&json!({ "MaxParallel": 4 })), "Migrate": migrate });
    steps.run(&mock("mig", "service", 4, &of_group, &json!({})));
    let node = steps.wait_running("mig", 4)[0]["NodeName"].as_str().expect("a node has a name").to_owned();
    steps.drain(&node, 60);
    let left = steps.running("mig").iter().filter(|alloc| alloc["NodeName"] == *node).count();
    steps.note("left on the drained node", json!(left));
    let eligibility = steps.node(&node)["SchedulingEligibility"].clone();
    steps.note("eligibility", eligibility);
    vec!["mig"]
}

fn system_job_follows_nodes(steps: &mut Steps) -> Vec<&'static str> {
    steps.eligible("c1", false);
    steps.run(&mock("sys", "system", 1, &json!({}), &json!({})));
    steps.wait_running("sys", 3);
    steps.eligible("c1", true);
    vec!["sys"]
}

fn distinct_hosts_blocks_and_unblocks(steps: &mut Steps) -> Vec<&'static str> {
    steps.eligible("c4", false);
    let apart = json!({ "Constraints": [{ "Operand": "distinct_hosts", "RTarget": "true" }] });
    steps.run(&mock("dist", "service", 4, &json!({}), &apart));
    steps.wait_running("dist", 3);
    steps.wait_blocked("dist");
    steps.note("blocked before", json!(1));
    steps.eligible("c4", true);
    vec!["dist"]
}

fn room_is_made_for_a_waiting_job(steps: &mut Steps) -> Vec<&'static str> {
    let large = |id: &str, memory: u64| {
        let mut job = mock(id, "service", 1, &json!({}), &json!({}));
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(memory);
        job
    };
    for id in ["fill0", "fill1", "fill2", "fill3"] {
        steps.run(&large(id, 3_000));
        steps.wait_running(id, 1);
    }
    steps.run(&large("wait", 2_000));
    steps.wait_blocked("wait");
    let status = steps.job("wait")["Status"].clone();
    steps.note("status while it waits", status);
    steps.must("DELETE", "/v1/job/fill2?purge=true", &Value::Null);
    vec!["wait"]
}
