//! Processes of the machine: which of them belong to a test, and how they end.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Every process that was started in a directory, on it, or for it: its working directory, a file that it runs, an
/// argument or a variable of its environment lies there. A test's directory has a name of its own, so these are the
/// test's own agents, shims and tasks and no one else's.
#[must_use]
pub fn of_directory(dir: &Path) -> Vec<u32> {
    let wanted = dir.to_str().expect("directories of tests have plain names").as_bytes();
    let mut found: Vec<u32> = all().filter(|pid| is_of(*pid, wanted)).collect();
    found.sort_unstable();
    found
}

fn is_of(pid: u32, wanted: &[u8]) -> bool {
    let base = format!("/proc/{pid}");
    let linked = |name: &str| {
        fs::read_link(format!("{base}/{name}"))
            .is_ok_and(|path| path.as_os_str().as_encoded_bytes().starts_with(wanted))
    };
    let says = |name: &str| {
        fs::read(format!("{base}/{name}"))
            .is_ok_and(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted))
    };
    linked("cwd") || linked("exe") || says("cmdline") || says("environ")
}

fn all() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != own)
}

/// Kills at once, as a machine that loses its power does. One that is gone already is as good.
pub fn kill_now(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

/// Sends a signal. A process that is gone gets none.
pub fn signal(pid: u32, signal: Signal) {
    // The process may have ended in this very moment, which is not this test's concern.
    let _ = kill(as_pid(pid), signal);
}

/// Whether a process runs: neither gone nor a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Memory that would be free without this process (PSS), in KiB.
#[must_use]
pub fn pss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().trim_end_matches(" kB").trim().parse().ok())
}

/// Resident memory, in KiB.
#[must_use]
pub fn rss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").trim().parse().ok())
}

/// Processor time used so far, in ticks of 10 ms.
#[must_use]
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("pids fit"))
}
