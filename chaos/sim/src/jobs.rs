//! The jobs that users work with: a few kinds, each with what makes it interesting.

use model::{Job, JobKey};
use serde_json::{Value, json};

use crate::plan::Work;

/// How many jobs there are, the demanding ones last.
const JOBS: u8 = 11;

/// How many jobs users work with.
pub fn many(work: Work) -> u8 {
    match work {
        Work::Usual => 7,
        Work::Demanding => JOBS,
    }
}

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

/// Whether it changes only when a user changes it: one that goes back to an earlier version by itself is no register of
/// what users wrote.
fn is_register(number: u8) -> bool {
    !matches!(kind(number), Kind::Canaries)
}

/// The same of a key.
pub fn is_register_key(key: &JobKey) -> bool {
    (0..JOBS).all(|number| is_register(number) || self::key(number) != *key)
}

/// Whether it is left alone most of the time, because what is interesting about it takes a while.
pub fn is_slow(number: u8) -> bool {
    matches!(kind(number), Kind::Fails)
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
    /// Tries each change with canaries, which take over by themselves; some versions are broken, and it goes back.
    Canaries,
    /// The same, and users take the canaries over.
    ByHand,
    /// Fails again and again, until its policies give up.
    Fails,
    /// Runs on some nodes only, and on each of them once.
    Picky,
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
            Self::Canaries => "canaries",
            Self::ByHand => "by-hand",
            Self::Fails => "fails",
            Self::Picky => "picky",
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
        6 => Kind::SlowToStop,
        7 => Kind::Canaries,
        8 => Kind::ByHand,
        9 => Kind::Fails,
        _ => Kind::Picky,
    }
}

/// Writes a job as a user does, with a marker that tells this specification from every other.
pub fn document(number: u8, marker: u64, count: u32, work: Work) -> Value {
    let kind = kind(number);
    let mut task = json!({
        "Name": "main", "Driver": "mock_driver",
        "Config": {"run_for": "100h"},
        "Resources": {"CPU": 100, "MemoryMB": 64},
        "KillTimeout": 5_000_000_000_u64,
    });
    let mut group = json!({
        "Name": "group", "Count": count,
        "RestartPolicy": {"Attempts": 3, "Interval": 60 * SECOND, "Delay": SECOND, "Mode": "fail"},
        "EphemeralDisk": {"SizeMB": 150},
    });
    let mut job_type = "service";
    let demanding = work == Work::Demanding;
    match kind {
        Kind::Service => {}
        Kind::Rolling => {
            group["Networks"] = json!([{"DynamicPorts": [{"Label": "http"}]}]);
            group["Update"] = update(1, 0, false);
            if !demanding {
                group["Update"]["HealthyDeadline"] = json!(20 * SECOND);
                group["Update"]["ProgressDeadline"] = json!(60 * SECOND);
            }
        }
        Kind::Disconnects => {
            group["Disconnect"] =
                json!({"LostAfter": 30_000_000_000_u64, "Replace": true, "Reconcile": "best_score"});
        }
        Kind::Batch => {
            job_type = "batch";
            task["Config"] = json!({"run_for": "15s"});
        }
        Kind::System => {
            job_type = "system";
            if demanding {
                group["Update"] = update(1, 0, false);
            }
        }
        Kind::StaticPort => {
            group["Networks"] = json!([{"ReservedPorts": [{"Label": "http", "Value": 8_080}]}]);
        }
        Kind::SlowToStop => {
            task["Config"] = json!({"run_for": "100h", "kill_after": "3s"});
            if demanding {
                group["Migrate"] = json!({
                    "MaxParallel": 2, "MinHealthyTime": SECOND, "HealthyDeadline": 10 * SECOND,
                    "HealthCheck": "task_states",
                });
            }
        }
        Kind::Canaries | Kind::ByHand | Kind::Fails | Kind::Picky => {
            demand(kind, is_broken(marker), &mut group, &mut task);
        }
    }
    group["Tasks"] = json!([task]);
    let key = key(number);
    json!({
        "ID": key.id.as_str(), "Name": key.id.as_str(), "Type": job_type, "Datacenters": ["dc1"],
        "Meta": {MARKER: marker.to_string()}, "TaskGroups": [group],
    })
}

/// Adds what makes a job demanding. A broken version of one with canaries fails.
fn demand(kind: Kind, is_broken: bool, group: &mut Value, task: &mut Value) {
    match kind {
        Kind::Canaries => {
            group["Update"] = update(2, 1, true);
            group["Networks"] = json!([{"DynamicPorts": [{"Label": "http"}]}]);
            if is_broken {
                task["Config"] = json!({"run_for": "500ms", "exit_code": 1});
                group["RestartPolicy"] =
                    json!({"Attempts": 0, "Interval": 600 * SECOND, "Delay": SECOND, "Mode": "fail"});
            }
        }
        Kind::ByHand => group["Update"] = update(2, 2, false),
        Kind::Fails => {
            task["Config"] = json!({"run_for": "1s", "exit_code": 1});
            group["RestartPolicy"] =
                json!({"Attempts": 1, "Interval": 3_600 * SECOND, "Delay": SECOND, "Mode": "fail"});
            group["ReschedulePolicy"] = json!({
                "Attempts": 1, "Interval": 3_600 * SECOND, "Delay": 8 * SECOND, "DelayFunction": "constant",
                "MaxDelay": 0, "Unlimited": false,
            });
        }
        Kind::Picky => {
            group["Constraints"] = json!([
                {"LTarget": "${attr.sim.version}", "Operand": "version", "RTarget": ">= 1.2, < 1.10"},
                {"Operand": "distinct_hosts"},
            ]);
        }
        Kind::Service
        | Kind::Rolling
        | Kind::Disconnects
        | Kind::Batch
        | Kind::System
        | Kind::StaticPort
        | Kind::SlowToStop => {}
    }
}

/// A second as the API writes it.
const SECOND: u64 = 1_000_000_000;

/// How changes are rolled out. The deadlines are shorter than the time that a region has to heal.
fn update(parallel: u32, canaries: u32, by_itself: bool) -> Value {
    json!({
        "MaxParallel": parallel, "Canary": canaries, "AutoPromote": by_itself, "AutoRevert": by_itself,
        "MinHealthyTime": SECOND, "HealthyDeadline": 10 * SECOND, "ProgressDeadline": 20 * SECOND,
        "HealthCheck": "task_states",
    })
}

/// Some versions of a job are broken.
fn is_broken(marker: u64) -> bool {
    marker.is_multiple_of(3)
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
