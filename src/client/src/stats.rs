//! What the machine and its tasks use.
//!
//! Kernel and drivers count processor time since the beginning; a share of the processor takes two looks. Nobody looks
//! while nobody asks: the first question takes two looks a moment apart, later ones compare with the last.

use std::{collections::BTreeMap, fs, time::Duration};

use driver::TaskId;
pub use driver::{PidStats, TaskStats};
use model::AllocId;
use parking_lot::Mutex;
use rustix::fs::statvfs;

use crate::Client;

/// Time between two looks when there was none before: somebody waits for it. Shorter ones are too coarse for the kernel's ticks
/// of 10 ms.
const LOOKS_APART: Duration = Duration::from_millis(60);

/// A look older than this says nothing about the present.
const LOOK_AGE_MAX: Duration = Duration::from_secs(30);

/// Mounts that are listed; a machine with more has them for containers.
const DISKS_MAX: usize = 64;

/// What the machine uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostUsage {
    /// When it was measured, in nanoseconds since the epoch.
    pub at: i64,
    /// Seconds since the machine started.
    pub uptime: u64,
    /// Each processor.
    pub cpus: Vec<CpuUsage>,
    /// MHz in use on all processors.
    pub ticks: f64,
    /// Memory.
    pub memory: MemoryUsage,
    /// File systems on devices.
    pub disks: Vec<DiskUsage>,
    /// The file system of the allocations.
    pub alloc_dir: Option<DiskUsage>,
}

/// One processor, in percent of its time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuUsage {
    /// Its name, e.g. `cpu0`.
    pub name: String,
    /// In tasks.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// Doing nothing.
    pub idle: f64,
    /// Doing anything.
    pub total: f64,
    /// MHz in use.
    pub ticks: f64,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct MemoryUsage {
    pub total: u64,
    pub available: u64,
    pub free: u64,
    pub used: u64,
}

/// A file system, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskUsage {
    /// The device.
    pub device: String,
    /// Where it is.
    pub mountpoint: String,
    /// How large it is.
    pub size: u64,
    /// How much is used.
    pub used: u64,
    /// How much may still be used.
    pub available: u64,
    /// How much is used, of what may be.
    pub used_percent: f64,
    /// How many of its inodes are.
    pub inodes_percent: f64,
}

/// What a task uses.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskUsage {
    /// The task.
    pub name: String,
    /// What was measured.
    pub measured: TaskStats,
    /// Rates of the whole.
    pub rates: Rates,
    /// Rates of each process, in the order of `measured.pids`.
    pub pid_rates: Vec<Rates>,
}

/// What all tasks of a node use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TotalUsage {
    /// MHz.
    pub ticks: f64,
    /// Bytes.
    pub memory: u64,
}

/// Shares of the processor; 100 is one whole processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// Both.
    pub total: f64,
    /// MHz.
    pub ticks: f64,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    host: Mutex<Option<(i64, Vec<CpuTimes>)>>,
    /// One for each launch that runs and was asked about.
    tasks: Mutex<BTreeMap<TaskId, TaskStats>>,
}

/// Ticks of one processor since the machine started.
#[derive(Clone, Debug, Default, PartialEq)]
struct CpuTimes {
    name: String,
    user: u64,
    system: u64,
    idle: u64,
    total: u64,
}

impl Client {
    /// Measures the machine.
    pub async fn host_usage(&self) -> HostUsage {
        let env = self.env();
        let sampler = self.sampler();
        let recent = |at: i64| is_recent(at, env.wall());
        let mut before = sampler.host.lock().take().filter(|(at, _)| recent(*at));
        if before.is_none() {
            before = Some((env.wall(), read_cpu_times()));
            env.sleep(LOOKS_APART).await;
        }
        let (at, times) = (env.wall(), read_cpu_times());
        let mhz = self.node().resources.core_mhz;
        let cpus = cpu_usage(&before.map(|(_, times)| times).unwrap_or_default(), &times, mhz);
        *sampler.host.lock() = Some((at, times));
        let alloc_dir = self.config().alloc_dir.clone();
        let found =
            env.spawn_blocking(move || (read_memory(), read_uptime(), read_disks(), disk_of("", &alloc_dir)));
        let (memory, uptime, disks, alloc_dir) = found.await.unwrap_or_default();
        let alloc_dir = alloc_dir.map(|disk| DiskUsage { mountpoint: String::new(), ..disk });
        HostUsage {
            at,
            uptime,
            ticks: cpus.iter().map(|cpu| cpu.ticks).sum(),
            cpus,
            memory,
            disks,
            alloc_dir,
        }
    }

    /// Measures the tasks of an allocation that run. Those that can not be measured are left out, as are those of an
    /// allocation that is not here.
    pub async fn task_usage(&self, id: AllocId, only: Option<&str>) -> Vec<TaskUsage> {
        let Some(view) = self.alloc(id) else { return Vec::new() };
        let names: Vec<String> = {
            let assigned = view.assigned.load();
            let tasks = assigned.group().tasks.iter().map(|task| task.name.to_string());
            tasks.filter(|name| only.is_none_or(|only| only == name)).collect()
        };
        let mut running = Vec::new();
        for name in names {
            if let Some((driver, launch)) = self.running_task(id, &name) {
                running.push((name, driver, launch));
            }
        }
        let mhz = self.node().resources.core_mhz;
        let now = self.env().wall();
        let mut first = BTreeMap::new();
        for (_, driver, launch) in &running {
            let known =
                self.sampler().tasks.lock().get(launch).filter(|seen| is_recent(seen.at, now)).cloned();
            let seen = match known {
                Some(known) => Some(known),
                None => driver.stats(launch).await.ok(),
            };
            first.extend(seen.map(|seen| (launch.clone(), seen)));
        }
        if first.values().any(|seen| !is_apart(seen.at, now)) {
            self.env().sleep(LOOKS_APART).await;
        }
        let mut usage = Vec::with_capacity(running.len());
        for (name, driver, launch) in running {
            let Ok(measured) = driver.stats(&launch).await else { continue };
            let before = first.remove(&launch).unwrap_or_else(|| measured.clone());
            self.sampler().tasks.lock().insert(launch, measured.clone());
            usage.push(task_usage(name, &before, measured, mhz));
        }
        self.forget_ended();
        usage
    }

    /// Measures all tasks of this node that run, and adds up what they use. However many there are, the two looks are
    /// one moment apart.
    pub async fn all_tasks_usage(&self) -> TotalUsage {
        let mut running = Vec::new();
        for id in self.alloc_ids() {
            let Some(view) = self.alloc(id) else { continue };
            let assigned = view.assigned.load_full();
            let tasks = &assigned.group().tasks;
            running.extend(tasks.iter().filter_map(|task| self.running_task(id, &task.name)));
        }
        let started = self.env().now();
        let (mut first, mut new) = (Vec::with_capacity(running.len()), false);
        for (driver, launch) in &running {
            let now = self.env().wall();
            let known = self.sampler().tasks.lock().get(launch).cloned();
            let known = known.filter(|seen| is_recent(seen.at, now) && is_apart(seen.at, now));
            new |= known.is_none();
            first.push(match known {
                Some(known) => Some(known),
                None => driver.stats(launch).await.ok(),
            });
        }
        if new {
            self.env().sleep_until(started + LOOKS_APART).await;
        }
        let mhz = self.node().resources.core_mhz;
        let mut total = TotalUsage::default();
        for ((driver, launch), before) in running.into_iter().zip(first) {
            let Ok(measured) = driver.stats(&launch).await else { continue };
            let before = before.unwrap_or_else(|| measured.clone());
            total.memory += measured.memory.rss.max(measured.memory.usage);
            self.sampler().tasks.lock().insert(launch, measured.clone());
            total.ticks += task_usage(String::new(), &before, measured, mhz).rates.ticks;
        }
        self.forget_ended();
        total
    }

    fn forget_ended(&self) {
        let now = self.env().wall();
        self.sampler().tasks.lock().retain(|_, seen| is_recent(seen.at, now));
    }
}

fn is_recent(at: i64, now: i64) -> bool {
    let age = u128::try_from(now.saturating_sub(at)).unwrap_or(u128::MAX);
    age <= LOOK_AGE_MAX.as_nanos()
}

fn is_apart(at: i64, now: i64) -> bool {
    u128::try_from(now.saturating_sub(at)).is_ok_and(|age| age >= LOOKS_APART.as_nanos())
}

fn task_usage(name: String, before: &TaskStats, measured: TaskStats, mhz: u64) -> TaskUsage {
    let elapsed = measured.at.saturating_sub(before.at);
    let whole = rates(
        elapsed,
        mhz,
        measured.cpu.user_ns.saturating_sub(before.cpu.user_ns),
        measured.cpu.system_ns.saturating_sub(before.cpu.system_ns),
        measured.cpu.total_ns.saturating_sub(before.cpu.total_ns),
    );
    let of_pid = |now: &PidStats| {
        let Some(old) = before.pids.iter().find(|old| old.pid == now.pid) else { return Rates::default() };
        let user = now.user_ns.saturating_sub(old.user_ns);
        let system = now.system_ns.saturating_sub(old.system_ns);
        rates(elapsed, mhz, user, system, user + system)
    };
    let pid_rates = measured.pids.iter().map(of_pid).collect();
    TaskUsage { name, rates: whole, pid_rates, measured }
}

// Counts of nanoseconds and MHz are far below 2^53, where a double is exact.
#[allow(clippy::cast_precision_loss)]
fn rates(elapsed: i64, mhz: u64, user: u64, system: u64, total: u64) -> Rates {
    if elapsed <= 0 {
        return Rates::default();
    }
    let percent = |spent: u64| spent as f64 / elapsed as f64 * 100.0;
    Rates {
        user: percent(user),
        system: percent(system),
        total: percent(total),
        ticks: percent(total) / 100.0 * mhz as f64,
    }
}

#[allow(clippy::cast_precision_loss)]
fn cpu_usage(before: &[CpuTimes], after: &[CpuTimes], mhz: u64) -> Vec<CpuUsage> {
    let usage = |now: &CpuTimes| {
        let old = before.iter().find(|old| old.name == now.name).cloned().unwrap_or_default();
        let elapsed = now.total.saturating_sub(old.total);
        let percent = |spent: u64, old: u64| {
            if elapsed == 0 { 0.0 } else { spent.saturating_sub(old) as f64 / elapsed as f64 * 100.0 }
        };
        let idle = if elapsed == 0 { 100.0 } else { percent(now.idle, old.idle) };
        let total = 100.0 - idle;
        CpuUsage {
            name: now.name.clone(),
            user: percent(now.user, old.user),
            system: percent(now.system, old.system),
            idle,
            total,
            ticks: total / 100.0 * mhz as f64,
        }
    };
    after.iter().map(usage).collect()
}

fn read_cpu_times() -> Vec<CpuTimes> {
    parse_cpu_times(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn parse_cpu_times(text: &str) -> Vec<CpuTimes> {
    let each = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| name.len() > 3 && name.starts_with("cpu"))?.to_owned();
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        // The last two columns, guests, are part of the first two.
        let total = ticks.iter().take(8).sum();
        Some(CpuTimes { name, user: at(0) + at(1), system: at(2), idle: at(3) + at(4), total })
    };
    text.lines().filter_map(each).collect()
}

fn read_memory() -> MemoryUsage {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1_024
    };
    let (total, free) = (bytes("MemTotal"), bytes("MemFree"));
    let cached = bytes("Buffers") + bytes("Cached") + bytes("SReclaimable");
    MemoryUsage { total, available: bytes("MemAvailable"), free, used: total.saturating_sub(free + cached) }
}

fn read_uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

fn read_disks() -> Vec<DiskUsage> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let on_devices = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, point) = (words.next()?, words.next()?);
        device.starts_with("/dev/").then_some((device, point))
    });
    on_devices
        .take(DISKS_MAX)
        .filter_map(|(device, point)| disk_of(device, std::path::Path::new(point)))
        .collect()
}

#[allow(clippy::cast_precision_loss)]
fn disk_of(device: &str, path: &std::path::Path) -> Option<DiskUsage> {
    let space = statvfs(path).ok()?;
    let percent = |used: u64, all: u64| if all == 0 { 0.0 } else { used as f64 / all as f64 * 100.0 };
    let size = space.f_blocks * space.f_frsize;
    let available = space.f_bavail * space.f_frsize;
    let used = size.saturating_sub(space.f_bfree * space.f_frsize);
    Some(DiskUsage {
        device: device.to_owned(),
        mountpoint: path.display().to_string(),
        size,
        used,
        available,
        used_percent: percent(used, used + available),
        inodes_percent: percent(space.f_files.saturating_sub(space.f_ffree), space.f_files),
    })
}

#[cfg(test)]
mod tests {
    use driver::CpuStats;

    use super::*;

    #[test]
    fn processors_are_measured_between_two_looks() {
        let before = parse_cpu_times("cpu  9 9 9 9\ncpu0 10 0 10 80 0 0 0 0 0 0\nintr 1\n");
        let after = parse_cpu_times("cpu0 40 0 20 140 0 0 0 0 30 0\n");
        let usage = &cpu_usage(&before, &after, 2_000)[0];
        assert_eq!((usage.name.as_str(), usage.user, usage.system, usage.idle), ("cpu0", 30.0, 10.0, 60.0));
        assert_eq!((usage.total, usage.ticks), (40.0, 800.0));
    }

    #[test]
    fn a_task_that_uses_half_a_processor_says_so() {
        let stats = |at: i64, busy: u64| TaskStats {
            at,
            cpu: CpuStats { user_ns: busy, total_ns: busy, ..CpuStats::default() },
            pids: vec![PidStats { pid: 7, user_ns: busy, ..PidStats::default() }],
            ..TaskStats::default()
        };
        let usage = task_usage("t".to_owned(), &stats(0, 100), stats(1_000_000_000, 500_000_100), 2_600);
        assert_eq!((usage.rates.total, usage.rates.ticks), (50.0, 1_300.0));
        assert_eq!(usage.pid_rates[0].user, 50.0);
        assert_eq!(task_usage("t".to_owned(), &stats(5, 9), stats(5, 9), 2_600).rates, Rates::default());
    }

    #[test]
    fn this_machine_has_memory_and_a_root_file_system() {
        let memory = read_memory();
        assert!(memory.total > 0 && memory.available <= memory.total);
        let root = disk_of("", std::path::Path::new("/")).expect("a root");
        assert!(root.used <= root.size);
        assert!(!read_cpu_times().is_empty());
    }
}
