//! Runs the drivers' conformance suite on docker, against a real engine.

mod bench;

use std::{process::ExitCode, sync::Arc};

use driver::{
    Driver,
    conformance::{Bench, Script, run_as_tests},
};
use driver_docker::Docker;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let Some(engine) = bench::engine_or_skip("conformance") else { return bench::skipped() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if runtime.block_on(all(&engine)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all(engine: &bench::TestEngine) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let config = engine.config(&json!({}));
    let env = bench::env();
    let make = move || -> Arc<dyn Driver> { Arc::new(Docker::new(&env, config.clone())) };
    let bench = Bench {
        alloc_dir: dir.path().to_owned(),
        make: Box::new(move || {
            let made = make();
            Box::pin(async { made })
        }),
        config: Box::new(script),
        shell: Some(|line| ["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
    };
    run_as_tests(&bench).await
}

fn script(script: Script) -> Option<Value> {
    let line = match script {
        Script::Exit { code, after_ms } => {
            let seconds = after_ms as f64 / 1000.0;
            format!("echo said to everybody; echo said in anger >&2; sleep {seconds}; exit {code}")
        }
        // The first process of a container gets only the signals that it asks for.
        Script::Forever => "trap 'exit 0' INT TERM; while true; do sleep 0.05; done".to_owned(),
        Script::Stubborn => "trap '' INT TERM; while true; do sleep 0.1; done".to_owned(),
        Script::PrintVariable => "echo \"$CONFORMANCE\"".to_owned(),
        Script::Flood { megabytes } => format!("head -c {} /dev/zero", u64::from(megabytes) << 20),
        Script::LeaveOffspring => {
            "(setsid sleep 1000 &); (env -i /bin/setsid sleep 1000 >/dev/null 2>&1 &); sleep 1000 & exit 0"
                .to_owned()
        }
        Script::Missing => return Some(json!({"image": bench::IMAGE, "command": "/no/such/thing"})),
    };
    Some(json!({"image": bench::IMAGE, "command": "/bin/sh", "args": ["-c", line]}))
}
