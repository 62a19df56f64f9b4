//! The jobs that scenarios run, as the API takes them.

use serde_json::{Value, json};

/// What a job is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Allocations.
    pub count: usize,
    /// MHz of each.
    pub cpu: u64,
    /// MiB of each.
    pub memory_mb: u64,
    /// It needs certain nodes and wants to be spread over the racks.
    pub picky: bool,
}

impl Shape {
    /// A small task, of which a node holds hundreds.
    pub fn small(count: usize) -> Self {
        Self { count, cpu: 10, memory_mb: 10, picky: false }
    }

    /// Writes the job. It never ends by itself, and is not watched for its health: a deployment would only wait.
    pub fn job(&self, id: &str) -> Value {
        let mut job = json!({
            "ID": id,
            "Name": id,
            "Type": "service",
            "Datacenters": ["dc1"],
            "TaskGroups": [{
                "Name": "group",
                "Count": self.count,
                "EphemeralDisk": { "SizeMB": 10 },
                "Tasks": [{
                    "Name": "task",
                    "Driver": "mock_driver",
                    "Config": { "run_for": "240h" },
                    "Resources": { "CPU": self.cpu, "MemoryMB": self.memory_mb },
                    "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 },
                }],
            }],
            "Update": { "MaxParallel": 0 },
        });
        if self.picky {
            job["Constraints"] = json!([
                { "LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "=" },
                { "LTarget": "${meta.generation}", "RTarget": "2", "Operand": ">=" },
            ]);
            job["Spreads"] = json!([{ "Attribute": "${meta.rack}", "Weight": 100 }]);
        }
        job
    }
}
