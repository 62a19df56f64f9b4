//! What a plain process lives through: an agent that is killed, a shim that is killed, too little memory.
//!
//! Like the conformance test, a test program of its own. It also plays the agent that is killed.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use driver::{
    CpuResources, Driver, DriverContext, LogConfig, MemoryResources, Resources, Signal, TaskConfig, TaskDirs,
    TaskEnv, TaskHandle, TaskId, TaskState, cgroup::Cgroups, process::ProcessId,
};
use driver_raw_exec::{Config, RawExec};
use runtime::{Env, Shutdown};
use serde_json::json;

/// How the program is told that it is the agent to be killed.
const AGENT_ROOT: &str = "WAYFARER_TEST_AGENT_ROOT";
const AGENT_COMMAND: &str = "WAYFARER_TEST_AGENT_COMMAND";

fn main() -> ExitCode {
    driver::shim::main();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if let Some(root) = std::env::var_os(AGENT_ROOT) {
        runtime.block_on(be_an_agent(&PathBuf::from(root)));
        return ExitCode::SUCCESS;
    }
    runtime.block_on(async {
        a_task_outlives_an_agent_that_is_killed().await;
        println!("test a_task_outlives_an_agent_that_is_killed ... ok");
        a_start_that_was_not_written_down_is_found_again().await;
        println!("test a_start_that_was_not_written_down_is_found_again ... ok");
        an_exit_without_any_agent_is_told_to_the_next().await;
        println!("test an_exit_without_any_agent_is_told_to_the_next ... ok");
        a_task_does_not_outlive_its_shim().await;
        println!("test a_task_does_not_outlive_its_shim ... ok");
        a_task_that_was_killed_with_its_agent_leaves_nothing().await;
        println!("test a_task_that_was_killed_with_its_agent_leaves_nothing ... ok");
        a_task_that_takes_too_much_memory_is_said_to_have().await;
        println!("test a_task_that_takes_too_much_memory_is_said_to_have ... ok");
        a_user_is_become_and_may_be_denied().await;
        println!("test a_user_is_become_and_may_be_denied ... ok");
    });
    ExitCode::SUCCESS
}

fn raw_exec(root: &Path) -> RawExec {
    let env = Env::real(Shutdown::new());
    let config = json!({"enabled": true, "denied_host_uids": "1"});
    let context = DriverContext {
        env,
        state_dir: root.join("state"),
        alloc_dir: root.join("alloc"),
        cgroups: Cgroups::detect(Some("wayfarer-lives")),
    };
    let config = Config::from_value(&config).expect("it is right");
    RawExec::new(context, config).expect("the directory can be made")
}

fn task(root: &Path, line: &str) -> TaskConfig {
    let alloc_id = format!("{:08x}-0000-4000-8000-000000000000", std::process::id());
    let alloc = root.join("alloc").join(&alloc_id);
    let dirs = TaskDirs {
        alloc_shared: alloc.join("alloc"),
        task: alloc.join("t"),
        local: alloc.join("t/local"),
        secrets: alloc.join("t/secrets"),
        logs: alloc.join("alloc/logs"),
    };
    for dir in [&dirs.local, &dirs.secrets, &dirs.logs] {
        fs::create_dir_all(dir).expect("made");
    }
    let shared = dirs.alloc_shared.display().to_string();
    let env: TaskEnv =
        [("PATH", "/usr/bin:/bin"), ("NOMAD_ALLOC_ID", &alloc_id), ("NOMAD_ALLOC_DIR", &shared)]
            .into_iter()
            .collect();
    TaskConfig {
        id: TaskId::new(&alloc_id, "t", "1"),
        alloc_name: "job.group[0]".to_owned(),
        job_id: "job".to_owned(),
        job_name: "job".to_owned(),
        group: "group".to_owned(),
        namespace: "default".to_owned(),
        node_id: "node".to_owned(),
        node_name: "node".to_owned(),
        env,
        user: None,
        resources: Resources {
            cpu: CpuResources { shares_mhz: 100, ..CpuResources::default() },
            memory: MemoryResources { memory_mb: 32, memory_max_mb: None },
            disk_mb: 0,
        },
        dirs,
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        network: None,
        dns: None,
        logs: LogConfig::default(),
        config: json!({"command": "/bin/sh", "args": ["-c", line]}),
        kill_signal: None,
        kill_timeout: Duration::from_secs(5),
    }
}

/// Starts a task, prints its handle, and waits to be killed.
async fn be_an_agent(root: &Path) {
    let driver = raw_exec(root);
    let line = std::env::var(AGENT_COMMAND).expect("it was told what to run");
    let started = driver.start(task(root, &line)).await.expect("it starts");
    println!("{}", serde_json::to_string(&started.handle).expect("plain data"));
    std::future::pending().await
}

/// Runs an agent that starts a task, and kills the agent.
fn killed_agent(root: &Path, line: &str) -> TaskHandle {
    let mut agent = Command::new("/proc/self/exe")
        .env(AGENT_ROOT, root)
        .env(AGENT_COMMAND, line)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run");
    let mut handle = String::new();
    let output = agent.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut handle).expect("the agent says it");
    agent.kill().expect("it can be killed");
    agent.wait().expect("it is our child");
    serde_json::from_str(&handle).expect("a handle")
}

async fn a_task_outlives_an_agent_that_is_killed() {
    let root = tempfile::tempdir().expect("a directory");
    let handle = killed_agent(root.path(), "while true; do echo tick; sleep 0.02; done");
    let id = handle.id.clone();
    let log = root.path().join("alloc").join(id.alloc_id()).join("alloc/logs/t.stdout.0");
    let before = fs::metadata(&log).expect("it is written").len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(fs::metadata(&log).expect("it is written").len() > before, "output goes on without an agent");
    let driver = raw_exec(root.path());
    driver.recover(handle).await.expect("it runs");
    assert_eq!(driver.inspect(&id).expect("it is known").state, TaskState::Running);
    driver.stop(&id, Signal::INT, Duration::from_secs(5)).await.expect("it can be stopped");
    assert_eq!(driver.wait(&id).await.expect("it is known").signal, 2);
    driver.destroy(&id, true).await.expect("it goes");
    assert!(driver.census().await.expect("it can be searched").is_empty());
}

async fn a_start_that_was_not_written_down_is_found_again() {
    let root = tempfile::tempdir().expect("a directory");
    let handle = killed_agent(root.path(), "exec sleep 1000");
    let driver = raw_exec(root.path());
    let begun = TaskConfig { id: handle.id.clone(), ..task(root.path(), "exec sleep 1000") };
    let never = TaskConfig { id: TaskId::new(handle.id.alloc_id(), "t", "2"), ..begun.clone() };
    assert!(driver.find(never).await.expect("it can be told").is_none(), "that one was never begun");
    let found = driver.find(begun.clone()).await.expect("it can be told").expect("it runs");
    assert_eq!(found.handle.id, handle.id);
    assert_eq!(found.handle.state["task"], handle.state["task"]);
    driver.stop(&handle.id, Signal::KILL, Duration::ZERO).await.expect("it can be stopped");
    driver.destroy(&handle.id, true).await.expect("it goes");

    let dir = root.path().join("state").join(format!("{}.t.1", handle.id.alloc_id()));
    fs::create_dir(&dir).expect("an agent that was killed before it started the shim");
    assert!(driver.find(begun).await.expect("it can be told").is_none(), "nothing came of it");
    assert!(!dir.exists(), "and nothing is left of it");
    assert!(driver.census().await.expect("it can be searched").is_empty());
}

async fn an_exit_without_any_agent_is_told_to_the_next() {
    let root = tempfile::tempdir().expect("a directory");
    let handle = killed_agent(root.path(), "sleep 0.2; exit 7");
    let id = handle.id.clone();
    let exit = root.path().join("state").join(format!("{}.t.1", id.alloc_id())).join("exit");
    until(|| exit.exists()).await;
    let driver = raw_exec(root.path());
    driver.recover(handle).await.expect("its exit is recorded");
    assert_eq!(driver.wait(&id).await.expect("it is known").exit_code, 7);
    driver.destroy(&id, true).await.expect("it goes");
    assert!(driver.census().await.expect("it can be searched").is_empty());
}

async fn a_task_does_not_outlive_its_shim() {
    let root = tempfile::tempdir().expect("a directory");
    let driver = raw_exec(root.path());
    let started = driver.start(task(root.path(), "exec sleep 1000")).await.expect("it starts");
    let process = |name: &str| -> ProcessId {
        serde_json::from_value(started.handle.state[name].clone()).expect("a process")
    };
    let (shim, main) = (process("shim"), process("task"));
    assert!(shim.is_alive() && main.is_alive());
    let killed = Command::new("kill").args(["-9", &shim.pid.to_string()]).status().expect("kill exists");
    assert!(killed.success());
    let result = driver.wait(&started.handle.id).await.expect("it is known");
    assert!(result.err.is_some_and(|err| err.contains("shim was lost")));
    until(|| !main.is_alive()).await;
    driver.destroy(&started.handle.id, true).await.expect("it goes");
    assert!(driver.census().await.expect("it can be searched").is_empty());
}

async fn a_task_that_was_killed_with_its_agent_leaves_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let handle = killed_agent(root.path(), "exec sleep 1000");
    for name in ["shim", "task"] {
        let process: ProcessId = serde_json::from_value(handle.state[name].clone()).expect("a process");
        let killed = Command::new("kill").args(["-9", &process.pid.to_string()]).status();
        assert!(killed.expect("kill exists").success());
        until(|| !process.is_alive()).await;
    }
    let driver = raw_exec(root.path());
    assert!(!driver.census().await.expect("it can be searched").is_empty(), "its records are there");
    driver.recover(handle).await.expect_err("nothing of it runs");
    assert_eq!(driver.census().await.expect("it can be searched"), []);
    assert_eq!(fs::read_dir(root.path().join("state")).expect("it is there").count(), 0, "records are left");
}

async fn a_task_that_takes_too_much_memory_is_said_to_have() {
    let root = tempfile::tempdir().expect("a directory");
    let driver = raw_exec(root.path());
    if let Some(reason) = Cgroups::detect(Some("wayfarer-lives")).disabled() {
        println!("skipped: no control groups here: {reason}");
        return;
    }
    // The last lines of what has none are all of it, kept in memory.
    let started = driver.start(task(root.path(), "exec tail /dev/zero")).await.expect("it starts");
    let waited = tokio::time::timeout(Duration::from_secs(30), driver.wait(&started.handle.id)).await;
    let result = waited.expect("the kernel ends it").expect("it is known");
    // Where swap is not counted, the program itself may give up first.
    assert!(!result.successful(), "{result:?}");
    assert!(result.oom_killed || result.signal == 0, "{result:?}");
    driver.destroy(&started.handle.id, true).await.expect("it goes");
}

async fn a_user_is_become_and_may_be_denied() {
    let root = tempfile::tempdir().expect("a directory");
    let driver = raw_exec(root.path());
    let mut denied = task(root.path(), "id -u");
    denied.user = Some("1".to_owned());
    let text = driver.start(denied).await.expect_err("it is denied").to_string();
    assert!(text.contains("uid 1 is disallowed"), "{text}");
    let mut unknown = task(root.path(), "id -u");
    unknown.user = Some("nobody-of-that-name".to_owned());
    let text = driver.start(unknown).await.expect_err("there is none").to_string();
    assert!(text.contains("unknown user nobody-of-that-name"), "{text}");
    if fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
        println!("skipped: only root becomes another user");
        return;
    }
    let mut nobody = task(root.path(), "id -u; id -g; cat /proc/self/oom_score_adj");
    nobody.user = Some("nobody".to_owned());
    nobody.config["work_dir"] = json!("/");
    nobody.config["oom_score_adj"] = json!("7");
    let id = nobody.id.clone();
    let log = nobody.dirs.logs.join("t.stdout.0");
    driver.start(nobody).await.expect("it starts");
    driver.wait(&id).await.expect("it is known");
    let said = fs::read_to_string(log).expect("it wrote");
    assert!(said.starts_with("65534\n") && said.ends_with("\n7\n"), "{said:?}");
    driver.destroy(&id, true).await.expect("it goes");
}

/// Waits for a condition, as long as a slow machine may need.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true");
}
