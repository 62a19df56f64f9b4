//! One short run on real processes: a seed, three servers, two clients, and everything has to hold.

use std::{path::Path, process::Command};

use tests::{binary, machine};

/// Namespaces that belong to a run.
fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether this machine lets packets of others be taken and sent, which is more than namespaces take.
fn can_relay() -> bool {
    let name = format!("wfcprobe{}", std::process::id());
    let ip =
        |words: &[&str]| Command::new("ip").args(words).output().is_ok_and(|output| output.status.success());
    if !ip(&["netns", "add", &name]) {
        return false;
    }
    let rule = "-w -t mangle -A PREROUTING -p udp -j TPROXY --on-ip 0.0.0.0 --on-port 9 --tproxy-mark 1";
    let words: Vec<&str> = ["netns", "exec", &name, "iptables"].into_iter().chain(rule.split(' ')).collect();
    let can = ip(&words);
    assert!(ip(&["netns", "del", &name]), "a namespace that was made can be removed");
    can
}

#[test]
fn a_region_that_is_broken_for_a_while_heals_and_loses_nothing() {
    if !machine::is_root() {
        return machine::lacks("root, which network namespaces take");
    }
    if !can_relay() {
        return machine::lacks("namespaces in which packets can be redirected (iptables TPROXY)");
    }
    let out = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer-chaos"));
    command.args(["run", "--seed", "14", "--seconds", "16", "--servers", "3", "--clients", "2"]);
    command.args(["--faults", "kill,leader,cut", "--users", "1", "--binary"]).arg(binary::path());
    let ended = command.arg("--out").arg(out.path()).output().expect("the program starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}");

    let report = std::fs::read(out.path().join("report.json")).expect("a run writes its report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("which is JSON");
    assert!(report["done"].as_array().is_some_and(|done| done.len() > 1), "faults were done: {report}");
    assert!(report["writes"].as_u64().is_some_and(|writes| writes > 0), "users wrote: {report}");
    assert_eq!(report["lost"], 0);
    let name = said.split_once("everything is named ").and_then(|(_, rest)| rest.split_once("-*"));
    let (prefix, rest) = name.expect("a run says what it is named by");
    assert!(!namespaces().iter().any(|name| name.starts_with(&format!("{prefix}-"))), "{said}");
    let root = rest.split_once("and below ").and_then(|(_, rest)| rest.lines().next());
    assert!(!Path::new(root.expect("and where it is")).exists(), "nothing is left: {said}");
}

#[test]
fn a_seed_s_schedule_is_shown_and_is_always_the_same() {
    let plan = |seed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer-chaos"));
        let ended =
            command.args(["plan", "--seed", seed, "--minutes", "5"]).output().expect("the program starts");
        assert!(ended.status.success());
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    assert_eq!(plan("11"), plan("11"));
    assert_ne!(plan("11"), plan("12"));
    assert!(plan("11").lines().count() > 20, "{}", plan("11"));
}

#[test]
fn faults_that_are_not_there_are_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer-chaos"));
    let ended = command.args(["run", "--faults", "kill,meteor"]).output().expect("the program starts");
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("meteor"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer-chaos"));
    let ended =
        command.args(["run", "--faults", "cut", "--kills", "9"]).output().expect("the program starts");
    assert_eq!(ended.status.code(), Some(2), "kills are no cuts");
}
