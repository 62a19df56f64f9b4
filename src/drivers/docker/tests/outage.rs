//! An engine that is killed, frozen and started again while tasks run. The test owns that engine.

mod bench;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bench::{TestEngine, shell, task};
use driver::{Driver, TaskState};
use driver_docker::Docker;
use serde_json::json;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(90);

struct OwnEngine {
    dir: tempfile::TempDir,
    daemon: Child,
    live_restore: bool,
}

impl OwnEngine {
    fn begin(live_restore: bool) -> Self {
        // A socket's path is short.
        let dir = tempfile::Builder::new().prefix("wfd").tempdir_in("/tmp").expect("a directory");
        let daemon = Self::daemon(dir.path(), live_restore);
        Self { dir, daemon, live_restore }
    }

    fn daemon(dir: &Path, live_restore: bool) -> Child {
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).expect("a file");
        // In a network of its own: an engine without a bridge takes away the bridge of others.
        let mut command = Command::new("unshare");
        command
            .args(["--net", "dockerd"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
            .arg(format!("--host=unix://{}", dir.join("s").display()))
            .arg(format!("--data-root={}", dir.join("data").display()))
            .arg(format!("--exec-root={}", dir.join("exec").display()))
            .arg(format!("--pidfile={}", dir.join("pid").display()))
            .stdout(Stdio::null())
            .stderr(log);
        if live_restore {
            command.arg("--live-restore");
        }
        command.spawn().expect("dockerd starts")
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }

    fn kill(&mut self) {
        self.daemon.kill().expect("it can be killed");
        self.daemon.wait().expect("it ends");
        // Its containerd went with it. Where nobody reaps it, the next engine would take the number in this file for one
        // that runs, and wait for it in vain.
        let _ = fs::remove_file(self.dir.path().join("exec/containerd/containerd.pid"));
    }

    fn begin_again(&mut self) {
        self.daemon = Self::daemon(self.dir.path(), self.live_restore);
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // Asked to stop, it takes its containers and containerd with it.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        // One that was killed left its data directory mounted on itself.
        let data = self.dir.path().join("data");
        let _ = Command::new("umount").arg("-l").arg(data).stderr(Stdio::null()).status();
    }
}

async fn engine(own: &OwnEngine) -> TestEngine {
    let engine = TestEngine { endpoint: own.endpoint() };
    for _ in 0..300 {
        if engine.docker(&["version"]).is_ok() {
            bench::make_image(&engine);
            return engine;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!(
        "the engine does not start: {}",
        fs::read_to_string(own.dir.path().join("log")).unwrap_or_default()
    );
}

fn may_run(test: &str) -> bool {
    if std::env::var_os("WAYFARER_TEST_DOCKER").is_some()
        && Command::new("dockerd").arg("--version").output().is_ok()
    {
        return true;
    }
    let required = std::env::var("WAYFARER_TESTS_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "WAYFARER_TESTS_REQUIRE_ALL=1 and there is no engine");
    println!("test {test} ... ignored, WAYFARER_TEST_DOCKER is not set or there is no dockerd");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_outlives_its_engine_and_so_does_its_output() {
    if !may_run("a_task_outlives_its_engine_and_so_does_its_output") {
        return;
    }
    let mut own = OwnEngine::begin(true);
    let engine = engine(&own).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config =
        shell("i=0; while [ ! -e /local/stop ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 5");
    config["network_mode"] = json!("none");
    let task = task(dir.path(), "lasting", "1", config);
    let driver = Docker::new(&bench::env(), engine.config(&json!({})));
    driver.start(task.clone()).await.expect("it starts");
    let said = || fs::read_to_string(task.dirs.logs.join("lasting.stdout.0")).unwrap_or_default();
    let grown = async |lines: usize| {
        let waited = tokio::time::timeout(PATIENCE, async {
            while said().lines().count() < lines {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "only {} lines", said().lines().count());
    };
    grown(50).await;
    own.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.inspect(&task.id).map(|status| status.state), Some(TaskState::Running));
    let found = driver.fingerprint().await;
    assert!(!found.healthy, "{found:?}");
    own.begin_again();
    let before = said().lines().count();
    grown(before + 100).await;
    fs::write(task.dirs.local.join("stop"), "").expect("it can be written");
    let result =
        tokio::time::timeout(PATIENCE, driver.wait(&task.id)).await.expect("it ends").expect("known");
    assert_eq!(result.exit_code, 5, "{result:?}");
    let lines = said();
    for (n, line) in lines.lines().enumerate() {
        assert_eq!(line, format!("line {n}"), "the output has a gap or says something twice");
    }
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_takes_its_containers_with_it_is_told_from_one_that_does_not() {
    if !may_run("an_engine_that_takes_its_containers_with_it_is_told_from_one_that_does_not") {
        return;
    }
    let mut own = OwnEngine::begin(false);
    let engine = engine(&own).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = shell("while true; do sleep 0.1; done");
    config["network_mode"] = json!("none");
    let task = task(dir.path(), "mortal", "1", config);
    let driver = Docker::new(&bench::env(), engine.config(&json!({})));
    driver.start(task.clone()).await.expect("it starts");
    own.kill();
    own.begin_again();
    let result =
        tokio::time::timeout(PATIENCE, driver.wait(&task.id)).await.expect("it ends").expect("known");
    assert!(!result.successful(), "{result:?}");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_a_task_is_told_when_the_engine_is_away_and_can_try_again() {
    if !may_run("who_stops_a_task_is_told_when_the_engine_is_away_and_can_try_again") {
        return;
    }
    let mut own = OwnEngine::begin(true);
    let engine = engine(&own).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = shell("trap '' INT; while true; do sleep 1; done");
    config["network_mode"] = json!("none");
    let task = task(dir.path(), "lasting", "1", config);
    let driver = Docker::new(&bench::env(), engine.config(&json!({})));
    driver.start(task.clone()).await.expect("it starts");
    own.kill();
    let stopped = tokio::time::timeout(PATIENCE, driver.stop(&task.id, driver::Signal::INT, Duration::ZERO));
    assert!(stopped.await.expect("whoever stops it is told").is_err(), "nobody could stop it");
    own.begin_again();
    let again = tokio::time::timeout(PATIENCE, async {
        while driver.stop(&task.id, driver::Signal::INT, Duration::ZERO).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(again.await.is_ok(), "the engine is back and the task runs on");
    let result = driver.wait(&task.id).await.expect("it is known");
    assert_eq!(result.exit_code, 137, "{result:?}");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_start_was_not_written_down_is_found_again() {
    if !may_run("a_container_whose_start_was_not_written_down_is_found_again") {
        return;
    }
    let mut own = OwnEngine::begin(true);
    let engine = engine(&own).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = shell("while true; do sleep 1; done");
    config["network_mode"] = json!("none");
    let task = task(dir.path(), "lasting", "1", config);
    let earlier = Docker::new(&bench::env(), engine.config(&json!({})));
    let handle = earlier.start(task.clone()).await.expect("it starts").handle;

    let driver = Docker::new(&bench::env(), engine.config(&json!({})));
    own.kill();
    let unknown = driver.find(task.clone()).await.expect_err("nobody can tell");
    assert!(unknown.recoverable(), "{unknown}");
    own.begin_again();
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            match driver.find(task.clone()).await {
                Ok(found) => return found,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let found = found.await.expect("the engine is back").expect("the container runs");
    assert_eq!(found.handle.id, handle.id);
    assert_eq!(found.handle.state["container"], handle.state["container"]);
    let mut other = task.clone();
    other.id = driver::TaskId::new(task.alloc_id(), task.task(), "2");
    assert!(driver.find(other).await.expect("it can tell").is_none(), "that one was never begun");

    driver.stop(&task.id, driver::Signal::KILL, Duration::ZERO).await.expect("it can be stopped");
    assert!(driver.find(task.clone()).await.expect("it can tell").is_none(), "what ended is not found");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}
