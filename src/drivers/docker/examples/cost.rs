//! Measures what the driver adds to the engine: the time to start and to remove a container, with the engine's own
//! command line tool beside it. `WAYFARER_TEST_DOCKER` names the engine, `IMAGE` an image with `/bin/sleep`.

use std::{process::Command, time::Duration};

use driver::{Driver, LogConfig, Resources, TaskConfig, TaskDirs, TaskEnv, TaskId};
use driver_docker::{Config, Docker};
use runtime::{Env, Shutdown};
use serde_json::json;

const ROUNDS: u32 = 20;

#[tokio::main]
async fn main() {
    let endpoint = std::env::var("WAYFARER_TEST_DOCKER").expect("WAYFARER_TEST_DOCKER names the engine");
    let image = std::env::var("IMAGE").expect("IMAGE names an image");
    let env = Env::real(Shutdown::new());
    let config = Config::parse(&json!({"endpoint": endpoint, "gc": {"image": false}})).expect("it is right");
    let docker = Docker::new(&env, config);
    let dir = tempfile::tempdir().expect("a directory");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let begun = env.now();
        let run = ["-H", &endpoint, "run", "-d", "--name", "wayfarer-cost", &image, "/bin/sleep", "1000"];
        let ran = Command::new("docker").args(run).output().expect("docker runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        theirs.push(begun.elapsed());
        let remove = ["-H", &endpoint, "rm", "-f", "wayfarer-cost"];
        assert!(Command::new("docker").args(remove).output().expect("docker runs").status.success());
        let task = task(dir.path(), n, json!({"image": image, "command": "/bin/sleep", "args": ["1000"]}));
        let begun = env.now();
        docker.start(task.clone()).await.expect("it starts");
        ours.push(begun.elapsed());
        docker.destroy(&task.id, true).await.expect("it can be removed");
    }
    for (name, mut times) in [("start by the driver", ours), ("docker run -d", theirs)] {
        times.sort_unstable();
        println!("{name:20} p50 {:?}  max {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}

fn task(root: &std::path::Path, n: u32, config: serde_json::Value) -> TaskConfig {
    let dirs = TaskDirs {
        alloc_shared: root.join("alloc"),
        task: root.join("t"),
        local: root.join("t/local"),
        secrets: root.join("t/secrets"),
        logs: root.join("alloc/logs"),
    };
    for dir in [&dirs.local, &dirs.secrets, &dirs.logs] {
        std::fs::create_dir_all(dir).expect("directories can be made");
    }
    TaskConfig {
        id: TaskId::new(&format!("00000000-0000-4000-a000-{n:012x}"), "t", "1"),
        alloc_name: "job.group[0]".to_owned(),
        job_id: "job".to_owned(),
        job_name: "job".to_owned(),
        group: "group".to_owned(),
        namespace: "default".to_owned(),
        node_id: "cost".to_owned(),
        node_name: "node".to_owned(),
        env: TaskEnv::default(),
        user: None,
        resources: Resources::default(),
        dirs,
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        network: None,
        dns: None,
        logs: LogConfig::default(),
        config,
        kill_signal: None,
        kill_timeout: Duration::from_secs(5),
    }
}
