//! What a task costs beside itself: milliseconds to start it, memory of its shim.
//!
//! `cargo run --release -p driver-raw-exec --example cost [tasks]`

use std::{fs, path::Path, time::Duration, time::Instant};

use driver::{
    Driver, DriverContext, LogConfig, Resources, TaskConfig, TaskDirs, TaskEnv, TaskId, cgroup::Cgroups,
};
use driver_raw_exec::{Config, RawExec};
use runtime::{Env, Shutdown};
use serde_json::json;

fn main() {
    driver::shim::main();
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(50);
    tokio::runtime::Runtime::new().expect("a runtime can be made").block_on(measure(count));
}

async fn measure(count: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, cgroups) in
        [("without", Cgroups::none("asked for")), ("with", Cgroups::detect(Some("wayfarer-cost")))]
    {
        println!("{name} control groups:");
        let env = Env::real(Shutdown::new());
        let (state_dir, alloc_dir) = (dir.path().join(name), dir.path().join("alloc"));
        let config = Config::from_value(&json!({"enabled": true})).expect("it is right");
        let context = DriverContext { env, state_dir, alloc_dir, cgroups };
        let driver = RawExec::new(context, config).expect("the directory can be made");
        let tasks: Vec<TaskConfig> = (0..count).map(|n| task(dir.path(), n)).collect();
        let mut took = Vec::new();
        for task in &tasks {
            let before = now();
            driver.start(task.clone()).await.expect("it starts");
            took.push(before.elapsed());
        }
        took.sort();
        println!("  start: p50 {:?}, p99 {:?}", took[count / 2], took[count * 99 / 100]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        memory_of_shims(&dir.path().join(name));
        let before = now();
        for task in &tasks {
            driver.destroy(&task.id, true).await.expect("it goes");
        }
        println!("  destroy: mean {:?}", before.elapsed() / u32::try_from(count).unwrap_or(1));
    }
}

/// Adds up what `/proc` says of every shim whose record is below `state_dir`.
fn memory_of_shims(state_dir: &Path) {
    let mut sums: Vec<(String, u64)> = Vec::new();
    let mut shims = 0;
    for entry in fs::read_dir(state_dir).expect("it is there").flatten() {
        let record = fs::read_to_string(entry.path().join("shim")).expect("the shim wrote it");
        let pid = record.split(' ').nth(1).expect("the first number");
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
        shims += 1;
        for line in rollup.lines().skip(1) {
            let mut words = line.split_whitespace();
            let (Some(key), Some(Ok(kilobytes))) = (words.next(), words.next().map(str::parse::<u64>)) else {
                continue;
            };
            match sums.iter_mut().find(|(known, _)| known == key) {
                Some((_, sum)) => *sum += kilobytes,
                None => sums.push((key.to_owned(), kilobytes)),
            }
        }
    }
    for (key, sum) in sums.iter().filter(|(_, sum)| *sum > 0) {
        println!("  {key} {} KB a shim", sum / shims);
    }
}

fn task(root: &Path, n: usize) -> TaskConfig {
    let alloc_id = format!("00000000-0000-4000-8000-{n:012x}");
    let root = root.join("alloc").join(&alloc_id);
    let dirs = TaskDirs {
        alloc_shared: root.join("alloc"),
        task: root.join("t"),
        local: root.join("t/local"),
        secrets: root.join("t/secrets"),
        logs: root.join("alloc/logs"),
    };
    for dir in [&dirs.local, &dirs.secrets, &dirs.logs] {
        fs::create_dir_all(dir).expect("made");
    }
    TaskConfig {
        id: TaskId::new(&alloc_id, "t", "1"),
        alloc_name: "job.group[0]".to_owned(),
        job_id: "job".to_owned(),
        job_name: "job".to_owned(),
        group: "group".to_owned(),
        namespace: "default".to_owned(),
        node_id: "node".to_owned(),
        node_name: "node".to_owned(),
        env: [("PATH", "/usr/bin:/bin"), ("NOMAD_ALLOC_ID", &alloc_id)].into_iter().collect::<TaskEnv>(),
        user: None,
        resources: Resources::default(),
        dirs,
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        network: None,
        dns: None,
        logs: LogConfig::default(),
        config: json!({"command": "sleep", "args": ["1000"]}),
        kill_signal: None,
        kill_timeout: Duration::from_secs(5),
    }
}

// A measurement is about real time.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
