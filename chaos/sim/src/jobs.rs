//! The jobs that users work with: a few kinds, each with what makes it interesting.

use model::{Job, JobKey};
use serde_json::{Value, json};

/// How many jobs there are.
pub const JOBS: u8 = 7;

/// The key of a job's meta that tells specifications apart.
const MARKER: &str = "marker";

/// A job's key.
pub fn key(number: u8) -> JobKey {
    JobKey::new("default", format!("{}-{number}", kind(number).name()).as_str())
}

/// Whether its count can be changed.
pub fn scales(number: u8) -> bool {
    !matches!(kind(number), Kind::System)
}

/// What kind of job.
#[derive(Clone, Copy)]
enum Kind {
    /// Runs for ever.
    Service,
    /// The same with a rolling update and a dynamic port.
    Rolling,
    /// Stays on a node that is cut off, and is replaced meanwhile.
    Disconnects,
    /// Ends by itself.
    Batch,
    /// On every node.
    System,
    /// Has a port that only one of them can have on a node.
    StaticPort,
    /// Takes long to stop.
    SlowToStop,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Rolling => "rolling",
            Self::Disconnects => "disconnects",
            Self::Batch => "batch",
            Self::System => "system",
            Self::StaticPort => "static-port",
            Self::SlowToStop => "slow-to-stop",
        }
    }
}

fn kind(number: u8) -> Kind {
    match number % JOBS {
        0 => Kind::Service,
        1 => Kind::Rolling,
        2 => Kind::Disconnects,
        3 => Kind::Batch,
        4 => Kind::System,
        5 => Kind::StaticPort,
        _ => Kind::SlowToStop,
    }
}

/// Writes a job as a user does, with a marker that tells this specification from every other.
pub fn document(number: u8, marker: u64, count: u32) -> Value {
    let kind = kind(number);
    let mut task = json!({
        "Name": "main", "Driver": "mock_driver",
        "Config": {"run_for": "100h"},
        "Resources": {"CPU": 100, "MemoryMB": 64},
        "KillTimeout": 5_000_000_000_u64,
    });
    let mut group = json!({
        "Name": "group", "Count": count,
        "RestartPolicy": {"Attempts": 3, "Interval": 60_000_000_000_u64, "Delay": 1_000_000_000_u64, "Mode": "fail"},
        "EphemeralDisk": {"SizeMB": 150},
    });
    let mut job_type = "service";
    match kind {
        Kind::Service => {}
        Kind::Rolling => {
            group["Networks"] = json!([{"DynamicPorts": [{"Label": "http"}]}]);
            group["Update"] = json!({
                "MaxParallel": 1, "MinHealthyTime": 1_000_000_000_u64, "HealthyDeadline": 20_000_000_000_u64,
                "ProgressDeadline": 60_000_000_000_u64, "HealthCheck": "task_states", "AutoRevert": false, "Canary": 0,
            });
        }
        Kind::Disconnects => {
            group["Disconnect"] =
                json!({"LostAfter": 30_000_000_000_u64, "Replace": true, "Reconcile": "best_score"});
        }
        Kind::Batch => {
            job_type = "batch";
            task["Config"] = json!({"run_for": "15s"});
        }
        Kind::System => job_type = "system",
        Kind::StaticPort => {
            group["Networks"] = json!([{"ReservedPorts": [{"Label": "http", "Value": 8_080}]}]);
        }
        Kind::SlowToStop => task["Config"] = json!({"run_for": "100h", "kill_after": "3s"}),
    }
    group["Tasks"] = json!([task]);
    let key = key(number);
    json!({
        "ID": key.id.as_str(), "Name": key.id.as_str(), "Type": job_type, "Datacenters": ["dc1"],
        "Meta": {MARKER: marker.to_string()}, "TaskGroups": [group],
    })
}

/// Reads the marker of a job; 0 when it has none.
pub fn marker(job: &Job) -> u64 {
    let document = job.spec.document_value();
    let marker = document.get("Meta").and_then(|meta| meta.get(MARKER)).and_then(Value::as_str);
    marker.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Reads the count of a job's group.
pub fn count(job: &Job) -> u32 {
    let document = job.spec.document_value();
    let count = document.pointer("/TaskGroups/0/Count").and_then(Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or_default()
}
