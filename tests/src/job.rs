//! Jobs in the API's form, for tests.

use serde_json::{Value, json};

/// What each task here asks for: little, so that many fit.
fn resources() -> Value {
    json!({ "CPU": 20, "MemoryMB": 16 })
}

/// A service of one task that runs a line of shell.
#[must_use]
pub fn service(id: &str, script: &str) -> Value {
    of(id, "service", &task("t", "raw_exec", json!({ "command": "/bin/sh", "args": ["-c", script] })))
}

/// A batch job of one task that runs a line of shell, once.
#[must_use]
pub fn batch(id: &str, script: &str) -> Value {
    let mut job =
        of(id, "batch", &task("t", "raw_exec", json!({ "command": "/bin/sh", "args": ["-c", script] })));
    job["TaskGroups"][0]["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
    job["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    job
}

/// A service of `count` tasks that only pretend to run.
#[must_use]
pub fn pretended(id: &str, count: u64) -> Value {
    let mut job = of(id, "service", &task("t", "mock_driver", json!({ "run_for": "1h" })));
    job["TaskGroups"][0]["Count"] = json!(count);
    job
}

/// A task with its driver and the driver's configuration.
#[must_use]
pub fn task(name: &str, driver: &str, config: Value) -> Value {
    json!({ "Name": name, "Driver": driver, "Config": config, "Resources": resources() })
}

/// A job of one group of one task.
#[must_use]
pub fn of(id: &str, kind: &str, task: &Value) -> Value {
    json!({ "ID": id, "Name": id, "Type": kind, "TaskGroups": [{ "Name": "g", "Count": 1, "Tasks": [task] }] })
}
