//! The jobs of `examples/` are fine, and those that need no engine run here.

use std::path::PathBuf;

use tests::{Agent, Kind, binary, files, machine, wait};

fn examples() -> Vec<PathBuf> {
    let files = files::with_extension("hcl");
    let found: Vec<PathBuf> = files.into_iter().filter(|path| path.starts_with("examples")).collect();
    assert!(found.len() >= 5, "{found:?}");
    found.iter().map(|path| binary::checkout().join(path)).collect()
}

#[test]
fn every_example_is_valid() {
    let agent = Agent::start(Kind::Dev);
    for file in examples() {
        let file = file.to_str().expect("a plain name");
        assert_eq!(
            agent.command(&["job", "validate", file]).worked(),
            "Job validation successful\n",
            "{file}"
        );
    }
}

#[test]
fn the_examples_of_plain_processes_run() {
    if machine::busybox().is_none() {
        return machine::lacks("busybox");
    }
    let agent = Agent::start(Kind::Dev);
    for (name, count, status) in [
        ("hello", 1, "running"),
        ("web-raw-exec", 3, "running"),
        ("batch", 4, "complete"),
        ("two-tasks", 1, "running"),
    ] {
        let file = binary::checkout().join("examples").join(format!("{name}.nomad.hcl"));
        agent.command(&["job", "run", "-detach", file.to_str().expect("a plain name")]).worked();
        assert_eq!(agent.wait_for_all(name, status, count).len(), count);
    }
    let pair = agent.wait_for("two-tasks", "running");
    wait::until("the watching task sees the working one", || {
        agent.output_of(&pair, "watch").contains("done so far: 2").then_some(())
    });
}
