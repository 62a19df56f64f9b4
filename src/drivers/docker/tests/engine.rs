//! What the conformance suite does not ask: images, output over restarts, ports, networks, bounds, and an engine that is
//! not there.

mod bench;
mod registry;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use bench::{IMAGE, TestEngine, port, shell, task};
use driver::{
    Driver, ExecRequest, ExecStreams, ExitResult, NetworkRequest, Signal, StartTaskError, TaskConfig,
    TaskHandle, TaskId, TaskState,
};
use driver_docker::{Config, Docker};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    engine: TestEngine,
    dir: tempfile::TempDir,
}

impl Stage {
    fn set(test: &str) -> Option<Self> {
        let Some(engine) = bench::engine_or_skip(test) else {
            let required = std::env::var("WAYFARER_TESTS_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "WAYFARER_TESTS_REQUIRE_ALL=1 and there is no engine");
            return None;
        };
        Some(Self { engine, dir: tempfile::tempdir().expect("a directory") })
    }

    fn driver(&self, more: &Value) -> Docker {
        Docker::new(&bench::env(), self.engine.config(more))
    }

    fn task(&self, name: &str, config: Value) -> TaskConfig {
        task(self.dir.path(), name, "1", config)
    }
}

async fn exit_of(driver: &Docker, id: &TaskId) -> ExitResult {
    let waited = tokio::time::timeout(PATIENCE, driver.wait(id)).await;
    waited.expect("it ends").expect("it is known")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

fn said(task: &TaskConfig) -> String {
    fs::read_to_string(task.dirs.logs.join(format!("{}.stdout.0", task.task()))).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_whole_over_restarts_of_the_agent() {
    let Some(stage) = Stage::set("output_is_whole_over_restarts_of_the_agent") else { return };
    let line = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.01; done; exit 0";
    let task = stage.task("counter", shell(line));
    let mut driver = stage.driver(&json!({}));
    let handle = driver.start(task.clone()).await.expect("it starts").handle;
    for lines in [200, 700, 1500] {
        until("more is said", || said(&task).lines().count() > lines).await;
        drop(driver);
        tokio::time::sleep(Duration::from_millis(50)).await;
        driver = stage.driver(&json!({}));
        driver.recover(handle.clone()).await.expect("it is there");
    }
    assert_eq!(exit_of(&driver, &task.id).await.exit_code, 0);
    let expected: String = (0..3000).map(|n| format!("line {n}\n")).collect();
    assert!(said(&task) == expected, "{} lines", said(&task).lines().count());
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_one_output() {
    let Some(stage) = Stage::set("a_terminal_has_one_output") else { return };
    let mut config = shell("test -t 1 && echo on a terminal; echo also >&2; printf end");
    config["tty"] = json!(true);
    let task = stage.task("tty", config);
    let driver = stage.driver(&json!({}));
    driver.start(task.clone()).await.expect("it starts");
    exit_of(&driver, &task.id).await;
    assert_eq!(said(&task), "on a terminal\r\nalso\r\nend");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_for_want_of_memory_is_told() {
    let Some(stage) = Stage::set("an_end_for_want_of_memory_is_told") else { return };
    let mut task = stage.task("hungry", shell("yes | tr \\\\n x | head -c 400000000 | grep n"));
    task.resources.memory.memory_mb = 32;
    let driver = stage.driver(&json!({}));
    driver.start(task.clone()).await.expect("it starts");
    let result = exit_of(&driver, &task.id).await;
    assert!(result.oom_killed && result.err.as_deref() == Some("OOM Killed"), "{result:?}");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alloc_directories_are_shared_and_logs_are_not_for_writing() {
    let Some(stage) = Stage::set("the_alloc_directories_are_shared_and_logs_are_not_for_writing") else {
        return;
    };
    let line =
        "echo a > /alloc/a && echo b > /local/b && echo c > /secrets/c && ! touch /alloc/logs/x 2>/dev/null";
    let task = stage.task("dirs", shell(line));
    let driver = stage.driver(&json!({}));
    driver.start(task.clone()).await.expect("it starts");
    assert_eq!(exit_of(&driver, &task.id).await, ExitResult::exited(0));
    assert_eq!(fs::read_to_string(task.dirs.alloc_shared.join("a")).expect("written"), "a\n");
    assert_eq!(fs::read_to_string(task.dirs.secrets.join("c")).expect("written"), "c\n");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_is_reached() {
    let Some(stage) = Stage::set("a_published_port_is_reached") else { return };
    let mut config = shell("mkdir /www; echo served > /www/index.html; exec httpd -f -p 8080 -h /www");
    config["ports"] = json!(["web"]);
    let mut task = stage.task("web", config);
    task.ports = vec![port("web", 23871, 8080)];
    let driver = stage.driver(&json!({}));
    let started = driver.start(task.clone()).await.expect("it starts");
    let network = started.network.expect("it has an address of its own");
    assert_eq!((network.port_map["web"], network.auto_advertise), (8080, false));
    let mut answer = String::new();
    until("it answers", || {
        answer.clear();
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 23871)) else { return false };
        let asked = stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n");
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("served")
    })
    .await;
    let mut second = stage.task("web2", task.config.clone());
    second.ports = task.ports.clone();
    let taken = driver.start(second.clone()).await.expect_err("the port is taken");
    assert!(taken.recoverable() && taken.to_string().contains("23871"), "{taken}");
    let left = driver.census().await.expect("the engine tells");
    assert!(!left.iter().any(|found| found.alloc_id == second.alloc_id()), "{left:?}");
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_an_allocation_share_its_network() {
    let Some(stage) = Stage::set("tasks_of_an_allocation_share_its_network") else { return };
    let driver = stage.driver(&json!({}));
    let mut task = stage.task("joined", shell("hostname; ls /sys/class/net; grep db /etc/hosts"));
    task.config["extra_hosts"] = json!(["db:10.9.8.7"]);
    let request = NetworkRequest {
        alloc_id: task.alloc_id().to_owned(),
        hostname: Some("shared-host".to_owned()),
        dns: None,
    };
    let network = driver.create_network(&request).await.expect("it is made");
    let again = driver.create_network(&request).await.expect("making it twice is harmless");
    assert_eq!(network.labels, again.labels);
    assert!(network.path.as_ref().is_some_and(|path| path.exists()), "{network:?}");
    task.network = Some(network.clone());
    driver.start(task.clone()).await.expect("it starts");
    assert_eq!(exit_of(&driver, &task.id).await.exit_code, 0);
    assert_eq!(said(&task), "shared-host\nlo\n10.9.8.7 db\n");
    driver.destroy(&task.id, true).await.expect("it can be removed");
    driver.destroy_network(task.alloc_id(), &network).await.expect("it can be removed");
    driver.destroy_network(task.alloc_id(), &network).await.expect("twice is harmless");
    let left = driver.census().await.expect("the engine tells");
    assert!(!left.iter().any(|found| found.alloc_id == task.alloc_id()), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_command_ends() {
    let Some(stage) = Stage::set("an_abandoned_command_ends") else { return };
    let task = stage.task("beside", shell("while true; do sleep 0.1; done"));
    let driver = stage.driver(&json!({}));
    driver.start(task.clone()).await.expect("it starts");
    let line = "touch /alloc/begun; sleep 8; touch /alloc/went-on";
    let request =
        ExecRequest { command: vec!["/bin/sh".into(), "-c".into(), line.into()], tty: false, size: None };
    let ((_send, input), (output, _outputs)) = (mpsc::channel(1), mpsc::channel(1));
    {
        let running = driver.exec(&task.id, request, ExecStreams { input, output });
        let begun = until("it begins", || task.dirs.alloc_shared.join("begun").exists());
        tokio::select! {
            ended = running => panic!("it ended: {ended:?}"),
            () = begun => {}
        }
    }
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(!task.dirs.alloc_shared.join("went-on").exists(), "it went on");
    assert_eq!(driver.inspect(&task.id).map(|status| status.state), Some(TaskState::Running));
    driver.destroy(&task.id, true).await.expect("it can be removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_left_by_an_earlier_launch_makes_room() {
    let Some(stage) = Stage::set("a_container_left_by_an_earlier_launch_makes_room") else { return };
    let keep = stage.driver(&json!({"gc": {"image": false, "container": false}}));
    let task = stage.task("again", shell("exit 0"));
    keep.start(task.clone()).await.expect("it starts");
    exit_of(&keep, &task.id).await;
    keep.destroy(&task.id, true).await.expect("it is forgotten");
    let name = format!("again-{}", task.alloc_id());
    assert!(stage.engine.docker(&["inspect", &name]).is_ok(), "the container was to be kept");
    assert!(!keep.census().await.expect("told").iter().any(|found| found.alloc_id == task.alloc_id()));
    let next = TaskConfig { id: TaskId::new(task.alloc_id(), "again", "2"), ..task };
    let driver = stage.driver(&json!({}));
    driver.start(next.clone()).await.expect("it starts in spite of the name");
    driver.destroy(&next.id, true).await.expect("it can be removed");
    assert!(stage.engine.docker(&["inspect", &name]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_with_credentials_and_taken_away() {
    let Some(stage) = Stage::set("images_are_pulled_with_credentials_and_taken_away") else { return };
    // A password whose encoding differs between the alphabets of base64.
    let registry = registry::Registry::serve("user", "p?a>s~s??>>");
    let image = format!("127.0.0.1:{}/app:1", registry.port);
    let driver = stage.driver(&json!({"gc": {"image": true, "image_delay": "300ms"}}));
    let mut events = driver.events();
    let config = json!({"image": image, "command": "/bin/busybox", "args": ["true"]});
    let refused = driver.start(stage.task("anon", config.clone())).await.expect_err("it takes credentials");
    assert!(
        refused.to_string().starts_with(&format!("Failed to pull `{image}`: Error response from daemon: ")),
        "{refused}"
    );
    let event = events.next().await.expect("it was told");
    assert_eq!(
        (event.message.as_str(), event.details["image"].as_str()),
        ("Downloading image", image.as_str())
    );
    let mut with = config.clone();
    with["auth"] = json!([{"username": "user", "password": "p?a>s~s??>>"}]);
    let tasks = ["one", "two", "three"].map(|name| stage.task(name, with.clone()));
    let before = registry.manifests();
    let starts = tasks.each_ref().map(|task| driver.start(task.clone()));
    for started in futures_util::future::join_all(starts).await {
        started.expect("it starts");
    }
    assert_eq!(registry.manifests() - before, 1, "one pull serves all");
    for task in &tasks {
        assert_eq!(exit_of(&driver, &task.id).await.exit_code, 0);
        assert!(stage.engine.docker(&["image", "inspect", &image]).is_ok(), "it is in use");
        driver.destroy(&task.id, true).await.expect("it can be removed");
    }
    until("the image is taken away", || stage.engine.docker(&["image", "inspect", &image]).is_err()).await;
    // The same from the operator's file.
    let file = stage.dir.path().join("config.json");
    let auth = registry.basic();
    let host = format!("127.0.0.1:{}", registry.port);
    fs::write(&file, json!({"auths": {host: {"auth": auth}}}).to_string()).expect("it can be written");
    let driver = stage.driver(&json!({"auth": {"config": file}, "gc": {"image_delay": "1ms"}}));
    let task = stage.task("filed", config);
    driver.start(task.clone()).await.expect("it starts");
    exit_of(&driver, &task.id).await;
    driver.destroy(&task.id, true).await.expect("it can be removed");
    until("the image is taken away", || stage.engine.docker(&["image", "inspect", &image]).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_loaded_from_the_tasks_directory() {
    let Some(stage) = Stage::set("an_image_is_loaded_from_the_tasks_directory") else { return };
    let mut task = stage.task("loaded", shell("echo loaded"));
    let name = "wayfarer-test/loaded:1";
    let file = task.dirs.local.join("image.tar");
    stage.engine.docker(&["tag", IMAGE, name]).expect("it can be tagged");
    stage.engine.docker(&["save", "-o", file.to_str().expect("text"), name]).expect("it can be saved");
    stage.engine.docker(&["rmi", name]).expect("it can be removed");
    task.config["image"] = json!(name);
    task.config["load"] = json!("image.tar");
    let driver = stage.driver(&json!({}));
    driver.start(task.clone()).await.expect("it starts");
    exit_of(&driver, &task.id).await;
    assert_eq!(said(&task), "loaded\n");
    driver.destroy(&task.id, true).await.expect("it can be removed");
    stage.engine.docker(&["rmi", name]).expect("it can be removed");
    task.config["load"] = json!("../../../../etc/passwd");
    let refused = driver.start(task).await.expect_err("it leads out");
    assert!(matches!(refused, StartTaskError::Refused { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_described() {
    let Some(stage) = Stage::set("the_engine_is_described") else { return };
    let found = stage.driver(&json!({"volumes": {"enabled": true}})).fingerprint().await;
    assert!(found.detected && found.healthy, "{found:?}");
    assert_eq!(found.attributes["driver.docker.os_type"], "linux");
    assert!(found.attributes["driver.docker.runtimes"].contains("runc"));
    assert_eq!(found.attributes["driver.docker.volumes.enabled"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_said_to_be_so() {
    let config = Config::parse(&json!({"endpoint": "unix:///no/such/engine.sock"})).expect("it is right");
    let driver = Docker::new(&bench::env(), config);
    let found = driver.fingerprint().await;
    assert!(!found.detected && found.description.contains("unix:///no/such/engine.sock"), "{found:?}");
    let dir = tempfile::tempdir().expect("a directory");
    let task = task(Path::new(dir.path()), "t", "1", shell("true"));
    let failed = driver.start(task.clone()).await.expect_err("there is no engine");
    assert!(failed.recoverable(), "{failed}");
    assert!(driver.inspect(&task.id).is_none());
    // A task that runs somewhere behind a silent engine is not given up.
    let state = json!({"container": "c", "image": "i", "node_id": "n", "started_at": 1, "tty": false,
        "network": null, "logs": null});
    let handle = TaskHandle { id: task.id.clone(), driver: "docker".to_owned(), version: 1, state };
    driver.recover(handle).await.expect("it may be there");
    assert_eq!(driver.inspect(&task.id).map(|status| status.state), Some(TaskState::Running));
    assert!(driver.signal(&task.id, Signal::HUP).await.is_err());
}
