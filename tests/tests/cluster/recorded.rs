//! What a real three-server region with two clients answered, asked of ours: through servers and through clients.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use tests::{Part, Region, binary, machine, wait};

/// Exchanges and commands that agree at least, as lines of a part and a number.
const FLOORS: &str = include_str!("../../recorded/cluster/floors.txt");

#[test]
fn what_was_recorded_of_a_cluster_agrees() {
    let _alone = crate::region::alone();
    let Some(python) = machine::python() else { return machine::lacks("python3") };
    let mut parts = [Part::Server].repeat(3);
    parts.extend([Part::Client].repeat(2));
    // The recording names these addresses.
    let Some(mut region) = Region::prepare([10, 99, 0], &parts) else { return };
    for member in 0..parts.len() {
        region.configure(member, "");
        region.launch(member);
    }
    region.wait_until_formed();
    lead(&region);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded/cluster");
    if out.exists() {
        fs::remove_dir_all(&out).expect("the last results can be removed");
    }
    fs::create_dir_all(&out).expect("a directory for the results can be made");
    let bin = region.path().join("bin");
    fs::create_dir_all(&bin).expect("the region's directory is the test's own");
    std::os::unix::fs::symlink(binary::path(), bin.join("nomad")).expect("a link can be made");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let recorded = binary::checkout().join("tests/recorded");
    let run = |words: &[&Path]| {
        let mut command = Command::new(&python);
        command.args(words).env("PATH", &path).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.output().expect("python starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
    };
    let (said, errors, well) = run(&[&recorded.join("tools/run_cluster.py"), &out]);
    assert!(well, "the steps failed: {said}{errors}\n{}", region.tail(0));
    for line in FLOORS.lines().filter(|line| !line.starts_with('#')) {
        let (part, floor) = line.split_once(' ').expect("a line is a part and a number");
        let floor: usize = floor.parse().expect("a floor is a number");
        let wanted = recorded.join("cluster").join(part);
        let (text, errors, _) = run(&[
            &recorded.join("tools/compare.py"),
            &wanted,
            &out.join(part),
            Path::new("--show"),
            Path::new("1000"),
        ]);
        fs::write(out.join(format!("{part}.differences.txt")), &text).expect("the results can be written");
        let agree = text.lines().find(|line| !line.starts_with(' ') && line.ends_with(" agree"));
        let agree = agree.unwrap_or_else(|| panic!("nothing was compared: {text}{errors}"));
        let count: usize = agree
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no count in {agree:?}"));
        assert!(count >= floor, "{part}: {count} agree, {floor} did:\n{text}");
    }
}

/// Makes the first server the leader and waits until all is well, as it was in the recording.
fn lead(region: &Region) {
    if region.leader() != 0 {
        hand_over(region);
    }
    wait::until("every server is healthy", || {
        let health = region.try_ask(0, "GET", "/v1/operator/autopilot/health", None).ok()?;
        (health.status == 200).then_some(())
    });
}

fn hand_over(region: &Region) {
    let target = format!("/v1/operator/raft/transfer-leadership?address={}:4647", region.members[0].ip);
    let answer = region.ask(0, "PUT", &target, Some(&json!({})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait::until("the first server leads", || (region.leader() == 0).then_some(()));
}
