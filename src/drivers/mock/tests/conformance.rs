//! Runs the drivers' conformance suite on mock_driver.

use std::{process::ExitCode, sync::Arc};

use driver::{
    Driver,
    conformance::{Bench, STDERR_TEXT, STDOUT_TEXT, Script, run_as_tests},
};
use driver_mock::{Config, MockDriver, World};
use runtime::{Env, Shutdown};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if runtime.block_on(all()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    println!("in a world that ends with its agent:");
    let first = run_as_tests(&bench(dir.path().join("own"), None)).await;
    println!("in a world that outlives its agents:");
    first & run_as_tests(&bench(dir.path().join("lasting"), Some(World::default()))).await
}

fn bench(alloc_dir: std::path::PathBuf, lasting: Option<World>) -> Bench {
    let env = Env::real(Shutdown::new());
    let config = Config::from_value(&json!({})).expect("it is right");
    let make = move || -> Arc<dyn Driver> {
        Arc::new(MockDriver::new(env.clone(), config, lasting.clone().unwrap_or_default()))
    };
    Bench {
        alloc_dir,
        make: Box::new(move || {
            let made = make();
            Box::pin(async { made })
        }),
        config: Box::new(script),
        shell: None,
    }
}

fn script(script: Script) -> Option<Value> {
    match script {
        Script::Exit { code, after_ms } => Some(json!({
            "run_for": format!("{after_ms}ms"), "exit_code": code,
            "stdout_string": STDOUT_TEXT, "stderr_string": STDERR_TEXT,
        })),
        Script::Forever => Some(json!({"run_for": "1000h"})),
        Script::Stubborn => Some(json!({"run_for": "1000h", "kill_after": "1h"})),
        Script::Flood { megabytes } => Some(
            json!({"run_for": "1ms", "stdout_string": "x".repeat(1 << 16), "stdout_repeat": megabytes * 16}),
        ),
        Script::Missing => Some(json!({"start_error": "it is not there"})),
        Script::PrintVariable | Script::LeaveOffspring => None,
    }
}
