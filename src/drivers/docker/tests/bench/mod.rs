//! What the tests against a real engine share: where it is, its only image, and a task with directories.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    net::IpAddr,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use driver::{LogConfig, Port, Resources, TaskConfig, TaskDirs, TaskEnv, TaskId};
use driver_docker::Config;
use runtime::{Env, Shutdown};
use serde_json::{Value, json};

/// The image that the tests make for themselves: nothing but busybox.
pub const IMAGE: &str = "wayfarer-test/busybox:1";

/// An engine that the tests may use.
pub struct TestEngine {
    pub endpoint: String,
}

/// Finds the engine that `WAYFARER_TEST_DOCKER` names, and makes the image there.
pub fn engine_or_skip(test: &str) -> Option<TestEngine> {
    let Ok(endpoint) = std::env::var("WAYFARER_TEST_DOCKER") else {
        println!("test {test} ... ignored, WAYFARER_TEST_DOCKER names no engine (unix:///path)");
        return None;
    };
    let engine = TestEngine { endpoint };
    if let Err(reason) = engine.make_image() {
        println!("test {test} ... ignored, {reason}");
        return None;
    }
    Some(engine)
}

/// What a test program says that could not run.
pub fn skipped() -> ExitCode {
    if std::env::var("WAYFARER_TESTS_REQUIRE_ALL").is_ok_and(|value| value == "1") {
        println!("WAYFARER_TESTS_REQUIRE_ALL=1 turns this into a failure");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

pub fn env() -> Env {
    Env::real(Shutdown::new())
}

/// Makes the image of the tests in an engine that must be there.
pub fn make_image(engine: &TestEngine) {
    engine.make_image().expect("the image can be made");
}

impl TestEngine {
    /// The plugin's configuration for this engine, with more on top.
    pub fn config(&self, more: &Value) -> Config {
        let mut value = json!({"endpoint": self.endpoint, "gc": {"image": false}});
        for (name, item) in more.as_object().into_iter().flatten() {
            value[name] = item.clone();
        }
        Config::parse(&value).expect("the plugin block is right")
    }

    /// Runs the engine's command line tool.
    pub fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").arg("-H").arg(&self.endpoint).args(args).output();
        let output = output.map_err(|error| format!("cannot run docker: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn make_image(&self) -> Result<(), String> {
        if self.docker(&["image", "inspect", IMAGE]).is_ok() {
            return Ok(());
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = dir.path();
        let failed = |error: std::io::Error| format!("cannot make an image: {error}");
        std::fs::create_dir(root.join("bin")).map_err(failed)?;
        std::fs::create_dir(root.join("tmp")).map_err(failed)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.ok_or("there is no busybox (static) to make an image of")?;
        std::fs::copy(busybox, root.join("bin/busybox")).map_err(failed)?;
        let list = Command::new(busybox).arg("--list").output().map_err(failed)?;
        for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).map_err(failed)?;
        }
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let archive = tar.stdout.take().ok_or("tar has no output")?;
        let mut import = Command::new("docker");
        import.arg("-H").arg(&self.endpoint).args(["import", "-", IMAGE]).stdin(archive);
        let imported = import.output().map_err(failed)?;
        tar.wait().map_err(failed)?;
        if imported.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&imported.stderr).into_owned())
        }
    }
}

/// A task with directories of its own below `root`.
pub fn task(root: &Path, name: &str, launch: &str, config: Value) -> TaskConfig {
    let alloc_id = format!(
        "{:08x}-0000-4000-9000-{:012x}",
        std::process::id(),
        name.bytes().map(u64::from).sum::<u64>()
    );
    let root = root.join(name);
    let dirs = TaskDirs {
        alloc_shared: root.join("alloc"),
        task: root.join(name),
        local: root.join(name).join("local"),
        secrets: root.join(name).join("secrets"),
        logs: root.join("alloc/logs"),
    };
    for dir in [&dirs.local, &dirs.secrets, &dirs.logs] {
        std::fs::create_dir_all(dir).expect("directories can be made");
    }
    TaskConfig {
        id: TaskId::new(&alloc_id, name, launch),
        alloc_name: "job.group[0]".to_owned(),
        job_id: "job".to_owned(),
        job_name: "job".to_owned(),
        group: "group".to_owned(),
        namespace: "default".to_owned(),
        node_id: format!("node-{}", std::process::id()),
        node_name: "node".to_owned(),
        env: [("GREETING", "hello")].into_iter().collect::<TaskEnv>(),
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

/// A shell line as the driver's configuration.
pub fn shell(line: &str) -> Value {
    json!({"image": IMAGE, "command": "/bin/sh", "args": ["-c", line]})
}

pub fn port(label: &str, host_port: u16, to: u16) -> Port {
    Port { label: label.to_owned(), host_ip: IpAddr::from([127, 0, 0, 1]), host_port, to }
}
