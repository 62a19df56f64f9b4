//! What a scenario does to a region, and what it waits for.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tests::{http, wait};

/// How long one step may take to show: a deployment goes through its deadlines meanwhile.
const STEP_WITHIN: Duration = Duration::from_secs(90);

/// One scenario's way to its region.
pub struct Steps {
    addr: SocketAddr,
    /// What was seen between steps.
    pub notes: Vec<Value>,
    /// Which index an allocation has in its name is free.
    pub any_index: bool,
}

impl Steps {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, notes: Vec::new(), any_index: false }
    }

    pub fn note(&mut self, what: &str, seen: Value) {
        self.notes.push(json!([what, seen]));
    }

    /// What is there; null when it is not.
    pub fn get(&self, path: &str) -> Value {
        let answer = http::request(self.addr, "GET", path, None).expect("the server answers");
        if answer.status == 200 { answer.json() } else { Value::Null }
    }

    /// A request that must work.
    pub fn must(&self, method: &str, path: &str, body: &Value) {
        let body = (!body.is_null()).then(|| body.to_string());
        let answer = http::request(self.addr, method, path, body.as_deref()).expect("the server answers");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    }

    /// What is said to a request that may be refused: the status and the words.
    pub fn answer(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = http::request(self.addr, method, path, Some(&body.to_string()));
        let answer = answer.expect("the server answers");
        json!([answer.status, answer.body.trim_end()])
    }

    pub fn run(&self, job: &Value) {
        self.must("PUT", "/v1/jobs", &json!({ "Job": job }));
    }

    pub fn job(&self, job: &str) -> Value {
        self.get(&format!("/v1/job/{job}"))
    }

    pub fn list(&self, path: &str) -> Vec<Value> {
        self.get(path).as_array().cloned().unwrap_or_default()
    }

    pub fn allocs(&self, job: &str) -> Vec<Value> {
        self.list(&format!("/v1/job/{job}/allocations?all=true"))
    }

    pub fn ids(&self, job: &str) -> Vec<String> {
        let mut ids: Vec<String> = self.allocs(job).iter().map(|alloc| alloc["ID"].to_string()).collect();
        ids.sort_unstable();
        ids
    }

    /// Allocations that run and are to run.
    pub fn running(&self, job: &str) -> Vec<Value> {
        let mut allocs = self.allocs(job);
        allocs.retain(|alloc| alloc["ClientStatus"] == "running" && alloc["DesiredStatus"] == "run");
        allocs
    }

    pub fn wait_running(&self, job: &str, count: usize) -> Vec<Value> {
        wait::until_within(STEP_WITHIN, &format!("{count} of {job} run"), || {
            let running = self.running(job);
            (running.len() == count).then_some(running)
        })
    }

    /// Waits until so many have a node, whatever became of them.
    pub fn wait_placed(&self, job: &str, count: usize) {
        wait::until_within(STEP_WITHIN, &format!("{count} of {job} are placed"), || {
            (self.allocs(job).len() == count).then_some(())
        });
    }

    pub fn wait_status(&self, job: &str, status: &str) {
        wait::until_within(STEP_WITHIN, &format!("{job} is {status}"), || {
            (self.job(job)["Status"] == status).then_some(())
        });
    }

    /// Waits until one evaluation waits for room, and the job comes to rest.
    pub fn wait_blocked(&self, job: &str) {
        wait::until_within(STEP_WITHIN, &format!("{job} waits for room"), || {
            let evals = self.list(&format!("/v1/job/{job}/evaluations"));
            let with = |status: &str| evals.iter().filter(|eval| eval["Status"] == status).count();
            (with("blocked") == 1 && with("pending") == 0).then_some(())
        });
    }

    pub fn deployment(&self, job: &str, version: usize, status: &str) {
        self.deployment_where(job, version, |deployment| deployment["Status"] == status);
    }

    /// Waits for a version's deployment to be as wanted; returns its id.
    pub fn deployment_where(&self, job: &str, version: usize, is: impl Fn(&Value) -> bool) -> String {
        wait::until_within(STEP_WITHIN, &format!("version {version} of {job} is deployed so far"), || {
            let latest = self.get(&format!("/v1/job/{job}/deployment"));
            let found = latest["JobVersion"] == version && is(&latest);
            found.then(|| latest["ID"].as_str().unwrap_or_default().to_owned())
        })
    }

    pub fn node(&self, name: &str) -> Value {
        let nodes = self.list("/v1/nodes");
        nodes.into_iter().find(|node| node["Name"] == name).expect("the region has that node")
    }

    pub fn datacenter_of(&self, alloc: &Value) -> String {
        let node = self.node(alloc["NodeName"].as_str().expect("a node has a name"));
        node["Datacenter"].as_str().unwrap_or_default().to_owned()
    }

    fn of_node(&self, name: &str, what: &str) -> String {
        format!("/v1/node/{}{what}", self.node(name)["ID"].as_str().expect("a node has an id"))
    }

    pub fn eligible(&self, name: &str, eligible: bool) {
        let word = if eligible { "eligible" } else { "ineligible" };
        self.must("PUT", &self.of_node(name, "/eligibility"), &json!({ "Eligibility": word }));
    }

    /// Drains a node, and waits until nothing is left to move.
    pub fn drain(&self, name: &str, deadline_s: u64) {
        let spec = json!({ "Deadline": deadline_s * 1_000_000_000, "IgnoreSystemJobs": false });
        self.must("PUT", &self.of_node(name, "/drain"), &json!({ "DrainSpec": spec }));
        wait::until_within(STEP_WITHIN, &format!("{name} is drained"), || {
            self.get(&self.of_node(name, ""))["DrainStrategy"].is_null().then_some(())
        });
    }

    /// Takes every job away, and lets every node take work again.
    pub fn clean(&self) {
        for node in self.list("/v1/nodes") {
            let path = format!("/v1/node/{}/drain", node["ID"].as_str().expect("a node has an id"));
            self.must("PUT", &path, &json!({ "DrainSpec": null, "MarkEligible": true }));
        }
        for job in self.list("/v1/jobs") {
            let path = format!("/v1/job/{}?purge=true", job["ID"].as_str().expect("a job has an id"));
            self.must("DELETE", &path, &Value::Null);
        }
        wait::until_within(STEP_WITHIN, "nothing runs", || {
            let live =
                |alloc: &Value| alloc["ClientStatus"] == "running" || alloc["ClientStatus"] == "pending";
            (!self.list("/v1/allocations").iter().any(live)).then_some(())
        });
        self.must("PUT", "/v1/system/gc", &Value::Null);
    }
}

/// A job of one group of tasks that only pretend, with more for the group and for the job.
pub fn mock(id: &str, kind: &str, count: u64, of_group: &Value, of_job: &Value) -> Value {
    let task = json!({
        "Name": "t", "Driver": "mock_driver", "Config": { "run_for": "10h" },
        "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 }, "Resources": { "CPU": 20, "MemoryMB": 16 },
    });
    let mut group =
        json!({ "Name": "g", "Count": count, "EphemeralDisk": { "SizeMB": 10 }, "Tasks": [task] });
    super::merge(&mut group, of_group);
    let mut job = json!({ "ID": id, "Type": kind, "TaskGroups": [group] });
    super::merge(&mut job, of_job);
    job
}
