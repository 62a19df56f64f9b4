//! Runs the drivers' conformance suite on raw_exec.
//!
//! The driver starts its shims from the running program, so this is a test program with a `main` of its own, which
//! can become a shim before it is anything else.

use std::{path::Path, process::ExitCode, sync::Arc};

use driver::{
    Driver, DriverContext,
    cgroup::Cgroups,
    conformance::{Bench, Script, run_as_tests},
};
use driver_raw_exec::{Config, RawExec};
use runtime::{Env, Shutdown};
use serde_json::{Value, json};

fn main() -> ExitCode {
    driver::shim::main();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if runtime.block_on(all()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    // A path longer than a socket's may be, as data directories can be.
    let root = dir.path().join("a-data-directory-with-a-long-name".repeat(3));
    let bounded = bench(&root.join("bounded"), Cgroups::detect(Some("wayfarer-conformance")));
    let unbounded = bench(&root.join("unbounded"), Cgroups::none("on purpose"));
    println!("with control groups:");
    let first = run_as_tests(&bounded).await;
    println!("without control groups:");
    first & run_as_tests(&unbounded).await
}

fn bench(root: &Path, cgroups: Cgroups) -> Bench {
    let (alloc_dir, state_dir) = (root.join("alloc"), root.join("state"));
    let env = Env::real(Shutdown::new());
    let config = Config::from_value(&json!({"enabled": true})).expect("it is right");
    let context = DriverContext { env, state_dir, alloc_dir: alloc_dir.clone(), cgroups };
    let make = move || -> Arc<dyn Driver> {
        Arc::new(RawExec::new(context.clone(), config.clone()).expect("the directory can be made"))
    };
    Bench {
        alloc_dir,
        make: Box::new(move || {
            let made = make();
            Box::pin(async { made })
        }),
        config: Box::new(script),
        shell: Some(|line| ["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
    }
}

fn script(script: Script) -> Option<Value> {
    let line = match script {
        Script::Exit { code, after_ms } => {
            let seconds = after_ms as f64 / 1000.0;
            format!("echo said to everybody; echo said in anger >&2; sleep {seconds}; exit {code}")
        }
        Script::Forever => "exec sleep 1000".to_owned(),
        Script::Stubborn => "trap '' INT TERM; while true; do sleep 0.1; done".to_owned(),
        Script::PrintVariable => "echo \"$CONFORMANCE\"".to_owned(),
        Script::Flood { megabytes } => format!("head -c {} /dev/zero", u64::from(megabytes) << 20),
        // One in a session of its own whose parent is gone, one that forgot its environment, one in plain sight.
        Script::LeaveOffspring => {
            "(setsid sleep 1000 &); (env -i setsid sleep 1000 >/dev/null 2>&1 &); sleep 1000 & exit 0"
                .to_owned()
        }
        Script::Missing => return Some(json!({"command": "/no/such/thing"})),
    };
    Some(json!({"command": "/bin/sh", "args": ["-c", line]}))
}
