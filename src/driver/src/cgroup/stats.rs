use std::fs;

use super::{TaskCgroup, UNIFIED};
use crate::{CpuStats, MemoryStats, PidStats, process::Stat};

/// Clock ticks a second in `/proc` and `cpuacct.stat`; fixed in the kernel's interface to user space.
const TICKS_A_SECOND: u64 = 100;
const NS_A_TICK: u64 = 1_000_000_000 / TICKS_A_SECOND;

const CPU_MEASURED: &[&str] = &["System Mode", "User Mode", "Throttled Periods", "Throttled Time", "Percent"];
const MEMORY_V1: &[&str] =
    &["RSS", "Cache", "Swap", "Mapped File", "Usage", "Max Usage", "Kernel Usage", "Kernel Max Usage"];
const MEMORY_V2: &[&str] = &["RSS", "Cache", "Swap", "Mapped File", "Usage", "Max Usage", "Kernel Usage"];
const CPU_OF_PROCESSES: &[&str] = &["System Mode", "User Mode", "Percent"];
const MEMORY_OF_PROCESSES: &[&str] = &["RSS", "Swap"];

impl TaskCgroup {
    /// Measures the whole group; none where there is nothing to measure it by.
    pub fn stats(&self) -> Option<(CpuStats, MemoryStats)> {
        if self.dirs.contains_key(UNIFIED) { self.stats_v2() } else { self.stats_v1() }
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.dirs.get(controller)?.join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    fn stats_v1(&self) -> Option<(CpuStats, MemoryStats)> {
        let times = self.read("cpuacct", "cpuacct.stat")?;
        let throttled = self.read("cpu", "cpu.stat").unwrap_or_default();
        let ticks = |key| flat_key(&times, key).unwrap_or_default() * NS_A_TICK;
        let cpu = CpuStats {
            user_ns: ticks("user"),
            system_ns: ticks("system"),
            total_ns: self.number("cpuacct", "cpuacct.usage")?,
            throttled_periods: flat_key(&throttled, "nr_throttled").unwrap_or_default(),
            throttled_ns: flat_key(&throttled, "throttled_time").unwrap_or_default(),
            measured: CPU_MEASURED,
        };
        let parts = self.read("memory", "memory.stat")?;
        let part = |key| flat_key(&parts, key).unwrap_or_default();
        let number = |file| self.number("memory", file).unwrap_or_default();
        let memory = MemoryStats {
            rss: part("total_rss"),
            cache: part("total_cache"),
            swap: part("total_swap"),
            mapped_file: part("total_mapped_file"),
            usage: number("memory.usage_in_bytes"),
            max_usage: number("memory.max_usage_in_bytes"),
            kernel_usage: number("memory.kmem.usage_in_bytes"),
            kernel_max_usage: number("memory.kmem.max_usage_in_bytes"),
            measured: MEMORY_V1,
        };
        Some((cpu, memory))
    }

    fn stats_v2(&self) -> Option<(CpuStats, MemoryStats)> {
        let times = self.read(UNIFIED, "cpu.stat")?;
        let ns = |key| flat_key(&times, key).unwrap_or_default() * 1000;
        let cpu = CpuStats {
            user_ns: ns("user_usec"),
            system_ns: ns("system_usec"),
            total_ns: ns("usage_usec"),
            throttled_periods: flat_key(&times, "nr_throttled").unwrap_or_default(),
            throttled_ns: ns("throttled_usec"),
            measured: CPU_MEASURED,
        };
        let parts = self.read(UNIFIED, "memory.stat")?;
        let part = |key| flat_key(&parts, key).unwrap_or_default();
        let number = |file| self.number(UNIFIED, file).unwrap_or_default();
        let memory = MemoryStats {
            rss: part("anon"),
            cache: part("file"),
            swap: number("memory.swap.current"),
            mapped_file: part("file_mapped"),
            usage: number("memory.current"),
            max_usage: number("memory.peak"),
            kernel_usage: part("kernel"),
            kernel_max_usage: 0,
            measured: MEMORY_V2,
        };
        Some((cpu, memory))
    }
}

/// Measures processes one by one, which misses those that have ended.
pub(crate) fn of_processes(pids: &[u32]) -> (CpuStats, MemoryStats, Vec<PidStats>) {
    let page = rustix::param::page_size() as u64;
    let measured: Vec<PidStats> = pids
        .iter()
        .filter_map(|pid| {
            let stat = Stat::read(*pid).ok()?;
            let (user_ns, system_ns) = (stat.user_ticks * NS_A_TICK, stat.system_ticks * NS_A_TICK);
            Some(PidStats { pid: *pid, user_ns, system_ns, rss: stat.rss_pages * page, swap: swap_of(*pid) })
        })
        .collect();
    let sum = |of: fn(&PidStats) -> u64| measured.iter().map(of).sum::<u64>();
    let (user_ns, system_ns) = (sum(|p| p.user_ns), sum(|p| p.system_ns));
    let total_ns = user_ns + system_ns;
    let cpu = CpuStats { user_ns, system_ns, total_ns, measured: CPU_OF_PROCESSES, ..CpuStats::default() };
    let rss = sum(|p| p.rss);
    let swap = sum(|p| p.swap);
    let memory =
        MemoryStats { rss, swap, usage: rss, measured: MEMORY_OF_PROCESSES, ..MemoryStats::default() };
    (cpu, memory, measured)
}

fn swap_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// Reads the number behind a key in lines of `key number`.
pub(super) fn flat_key(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
