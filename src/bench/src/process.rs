//! What the system says of processes and of the machine.

use std::{fs, time::Duration};

use serde::Serialize;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time on processors.
    pub cpu: Duration,
    /// Memory that is resident, in KiB.
    pub resident_kib: u64,
    /// The most that ever was.
    pub peak_kib: u64,
}

impl Usage {
    /// Looks at a process; nothing of one that is gone.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Self::from_texts(&read("stat"), &read("status"))
    }

    fn from_texts(stat: &str, status: &str) -> Self {
        /// Linux counts processor time for user space in hundredths, on every machine.
        const TICK: Duration = Duration::from_millis(10);
        // The name in parentheses may hold anything; the fields after it are numbered from 3.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        Self { cpu: TICK * (ticks(14) + ticks(15)), resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") }
    }
}

/// Memory of a process that is its alone, and its part of what it shares, in KiB; none of one that is gone.
pub fn proportional_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The machine's load over the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// Processor time of the whole machine since it started: in use, and idle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    busy: u64,
    idle: u64,
}

impl Machine {
    /// Looks at the machine.
    pub fn look() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
        let idle = ticks.iter().skip(3).take(2).sum();
        Self { busy: ticks.iter().take(8).sum::<u64>() - idle, idle }
    }

    /// The part of its processors that was in use since an earlier look.
    #[allow(clippy::cast_precision_loss)]
    pub fn busy_since(self, earlier: Self) -> f64 {
        let (busy, idle) = (self.busy - earlier.busy, self.idle - earlier.idle);
        busy as f64 / (busy + idle).max(1) as f64
    }
}

/// What one process took during a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// `server 1`, `nodes`, ...
    pub name: String,
    /// Seconds on processors while the scenario ran; starting up does not count.
    pub cpu_seconds: f64,
    /// MiB that were resident when it ended.
    pub resident_mib: f64,
    /// The most that were.
    pub peak_mib: f64,
}

impl Cost {
    /// What was used between two looks.
    #[allow(clippy::cast_precision_loss)]
    pub fn between(name: String, before: Usage, after: Usage) -> Self {
        let mib = |kib: u64| kib as f64 / 1024.0;
        Self {
            name,
            cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            resident_mib: mib(after.resident_kib),
            peak_mib: mib(after.peak_kib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0";
        let usage = Usage::from_texts(stat, "VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n");
        assert_eq!(usage, Usage { cpu: Duration::from_secs(3), resident_kib: 1024, peak_kib: 2048 });
        assert!(Usage::of(std::process::id()).resident_kib > 0);
        assert!(proportional_kib(std::process::id()) > 0);
        assert_eq!(Usage::of(0), Usage::default());
    }
}
