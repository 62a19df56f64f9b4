//! The program itself: a run repeats exactly, and a few seeds of every CI find nothing.

use std::process::Command;

/// Runs the program and returns what it printed, and whether it found nothing.
fn chaos_sim(arguments: &[&str]) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_chaos-sim")).args(arguments).output().expect("it starts");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[test]
fn a_few_seeds_of_the_storm_find_nothing_and_repeat_exactly() {
    let (table, clean) = chaos_sim(&["--seeds", "2", "--from", "1", "--seconds", "8", "--twice"]);
    assert!(clean, "{table}");
    assert!(table.contains("2 seeds run a second time with the same trace"), "{table}");
    assert!(table.contains("I6 history is linearizable"), "{table}");
}

#[test]
fn another_seed_is_another_run_and_a_trace_tells_it_step_by_step() {
    let trace = |seed| chaos_sim(&["--seed", seed, "--profile", "calm", "--seconds", "2"]).0;
    let (one, other) = (trace("1"), trace("2"));
    assert!(one.contains("the region is founded") && one.contains("leads in term 1"), "{one}");
    assert!(one.contains("all faults end") && one.contains("healed after"), "{one}");
    let hash = |text: &str| text.split_once("\"trace_hash\":").map(|(_, rest)| rest[..12].to_owned());
    assert_ne!(hash(&one), hash(&other));
}

#[test]
fn what_can_not_be_done_is_said() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_chaos-sim")).args(["--seeds", "3", "--profile", "mild"]).output();
    let output = output.expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no profile mild"));
}
