//! A client that no one here wrote: python-nomad, from the Python package registry, against the built binary.

use std::{path::PathBuf, process::Command};

use tests::{Agent, Ended, Kind, binary, machine};

#[test]
fn python_nomad_drives_jobs_nodes_and_search() {
    let Some(python) = python_with_nomad() else { return machine::lacks("python3 with python-nomad 2.1.0") };
    let agent = Agent::start(Kind::Dev);
    let mut command = Command::new(python);
    command.arg(binary::checkout().join("tests/python/drive.py")).arg(agent.addr().port().to_string());
    let ended = Ended::of(&command.output().expect("python starts"));
    assert_eq!(ended.code, 0, "{}\n{}\n{}", ended.out, ended.err, agent.log());
    assert!(ended.out.ends_with("all steps taken\n"), "{}", ended.out);
}

/// `WAYFARER_TEST_PYTHON` names an interpreter that has the client; else this machine's own may.
fn python_with_nomad() -> Option<PathBuf> {
    let given = std::env::var_os("WAYFARER_TEST_PYTHON").map(PathBuf::from);
    let python = given.or_else(|| machine::program("python3"))?;
    let check = "import importlib.metadata as m, nomad; assert m.version('python-nomad') == '2.1.0'";
    let output = Command::new(&python).args(["-c", check]).output().ok()?;
    output.status.success().then_some(python)
}
