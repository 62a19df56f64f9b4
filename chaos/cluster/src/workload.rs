//! What runs on the region while it is broken: jobs of real processes, whose every task is counted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    engine, http,
    layout::Agent,
    process::{self, MARK, NODE},
};

/// The key under which a job says how many of each group it wants.
pub const COUNT: &str = "wanted";

/// How long registering may take in a region that works.
const REGISTER_MAX: Duration = Duration::from_secs(15);

/// The job whose tasks are containers.
const CONTAINERS: &str = "containers";

/// The services of a run, by id with their counts: sleeping processes, some that own a port of their host, and containers
/// where the run has an engine.
#[must_use]
pub fn services(cluster: &Cluster) -> Vec<(String, u8)> {
    let clients = cluster.layout.clients;
    let mut services = vec![("sleepers".to_owned(), clients * 2), ("ports".to_owned(), clients)];
    services.extend(cluster.engine.is_some().then(|| (CONTAINERS.to_owned(), clients)));
    services
}

fn service(cluster: &Cluster, id: &str, count: u8) -> Value {
    let mut task = json!({
        "Name": "sleep",
        "Driver": "raw_exec",
        "Config": { "command": "/bin/sleep", "args": ["86399"] },
        "Env": { MARK: cluster.prefix, NODE: "${node.unique.name}" },
        "Resources": { "CPU": 10, "MemoryMB": 16 },
    });
    if id == CONTAINERS {
        task["Driver"] = json!("docker");
        task["Config"] = json!({ "image": engine::IMAGE, "network_mode": "none",
            "command": "/bin/sleep", "args": ["86399"] });
    }
    let mut group = json!({ "Name": "group", "Count": count, "Tasks": [task] });
    if id == "ports" {
        group["Networks"] =
            json!([{ "Mode": "host", "ReservedPorts": [{ "Label": "own", "Value": 7_777 }] }]);
    }
    json!({ "ID": id, "Name": id, "Type": "service", "Datacenters": ["dc1"],
        "Meta": { COUNT: count.to_string() }, "TaskGroups": [group] })
}

/// Registers them all.
///
/// # Errors
///
/// The region's words when it refuses one.
pub fn register(cluster: &Cluster, through: Agent) -> Result<(), String> {
    for (id, count) in services(cluster) {
        let body = json!({ "Job": service(cluster, &id, count) });
        let answer = http::request(cluster.address(through), "PUT", "/v1/jobs", Some(&body), REGISTER_MAX);
        match answer {
            Ok(answer) if answer.is_fine() => {}
            Ok(answer) => return Err(format!("{id}: {} {}", answer.status, answer.body)),
            Err(error) => return Err(format!("{id}: {error}")),
        }
    }
    Ok(())
}

/// Stops them all, for the census at the end.
///
/// # Errors
///
/// The region's words when it refuses.
pub fn stop(cluster: &Cluster, through: Agent) -> Result<(), String> {
    for (id, _) in services(cluster) {
        let path = format!("/v1/job/{id}");
        match http::request(cluster.address(through), "DELETE", &path, None, REGISTER_MAX) {
            Ok(answer) if answer.is_fine() => {}
            Ok(answer) => return Err(format!("{id}: {} {}", answer.status, answer.body)),
            Err(error) => return Err(format!("{id}: {error}")),
        }
    }
    Ok(())
}

/// How many tasks run when all is well.
#[must_use]
pub fn tasks_wanted(cluster: &Cluster) -> usize {
    services(cluster).iter().map(|(_, count)| usize::from(*count)).sum()
}

/// Whether exactly those tasks run, and the region says so too.
#[must_use]
pub fn runs_as_wanted(cluster: &Cluster, through: Agent) -> bool {
    process::tasks(&cluster.prefix).len() == tasks_wanted(cluster)
        && services(cluster).iter().all(|(id, count)| {
            let allocs = cluster.get(through, &format!("/v1/job/{id}/allocations"));
            let rows = allocs.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let running =
                rows.iter().filter(|row| row["ClientStatus"] == "running" && row["DesiredStatus"] == "run");
            running.count() == usize::from(*count)
        })
}
