//! Many pretended tasks in one agent, on simulated time.

use std::{path::PathBuf, time::Duration};

use driver::{
    Driver, ExitResult, LogConfig, Resources, Signal, StartTaskError, TaskConfig, TaskDirs, TaskEnv, TaskId,
};
use driver_mock::{Config, MockDriver, World};
use runtime::{Env, Shutdown};
use serde_json::{Value, json};

fn driver(env: &Env, world: &World) -> MockDriver {
    let config = Config::from_value(&Value::Null).expect("it is right");
    MockDriver::new(env.clone(), config, world.clone())
}

fn task(n: usize, config: Value) -> TaskConfig {
    TaskConfig {
        id: TaskId::new(&format!("a{n}"), "t", "1"),
        alloc_name: String::new(),
        job_id: String::new(),
        job_name: String::new(),
        group: String::new(),
        namespace: String::new(),
        node_id: String::new(),
        node_name: String::new(),
        env: TaskEnv::default(),
        user: None,
        resources: Resources::default(),
        dirs: TaskDirs { logs: PathBuf::from("/no/such/directory"), ..TaskDirs::default() },
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

#[tokio::test(start_paused = true)]
async fn ten_thousand_tasks_end_each_at_its_time() {
    let env = Env::real(Shutdown::new());
    let driver = driver(&env, &World::default());
    for n in 0..10_000 {
        let config = json!({"run_for": format!("{}s", 1 + n % 100), "exit_code": n % 7});
        driver.start(task(n, config)).await.expect("it starts");
    }
    let begun = env.now();
    for n in (0..10_000).rev() {
        let result = driver.wait(&TaskId::new(&format!("a{n}"), "t", "1")).await.expect("it is known");
        assert_eq!(result, ExitResult::exited(n % 7));
    }
    assert_eq!(begun.elapsed().as_secs(), 100);
    assert!(driver.census().await.expect("it can be searched").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lasting_world_goes_on_without_its_agent() {
    let env = Env::real(Shutdown::new());
    let world = World::default();
    let first = driver(&env, &world);
    let started = first.start(task(1, json!({"run_for": "1h"}))).await.expect("it starts");
    first.stop(&started.handle.id, Signal::INT, Duration::from_secs(5)).await.expect("it stops");
    drop(first);
    let second = driver(&env, &world);
    second.recover(started.handle.clone()).await.expect("it is there");
    let begun = env.now();
    let result = second.wait(&started.handle.id).await.expect("it is known");
    assert!(result.successful() && begun.elapsed().is_zero(), "the stop is remembered: {result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_and_blocks_as_it_is_told() {
    let env = Env::real(Shutdown::new());
    let driver = driver(&env, &World::default());
    let config = json!({"start_error": "boom", "start_error_recoverable": true, "start_block_for": "3s"});
    let begun = env.now();
    let error = driver.start(task(1, config)).await.expect_err("it was told to fail");
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert!(matches!(error, StartTaskError::Failed { recoverable: true, ref message } if message == "boom"));
}
