//! Processors: how many, how fast, what they are called.

use std::fs;

use super::{Found, Settings};

/// Assumed where the machine does not say: a low figure wastes some room, a high one promises what is not there.
const MHZ_UNKNOWN: u64 = 1_000;

pub(super) fn look(settings: &Settings, found: &mut Found) {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    let mhz = max_mhz().or_else(|| whole(&field("cpu MHz")?)).unwrap_or(MHZ_UNKNOWN);
    let total = settings.cpu_total_compute.unwrap_or(mhz * u64::from(cores));
    let usable = total.saturating_sub(settings.reserved.cpu_shares);
    let reservable = settings.reservable_cores.clone().unwrap_or_else(|| (0..cores).collect());
    if let Some(name) = field("model name") {
        found.set("cpu.modelname", name);
    }
    found.set("cpu.arch", arch());
    found.set("cpu.numcores", cores.to_string());
    found.set("cpu.frequency", mhz.to_string());
    found.set("cpu.totalcompute", total.to_string());
    found.set("cpu.usablecompute", usable.to_string());
    found.set("cpu.reservablecores", reservable.len().to_string());
    found.set("numa.node.count", "1");
    let last = cores.saturating_sub(1);
    found.set("numa.node0.cores", if last == 0 { "0".to_owned() } else { format!("0-{last}") });
    found.resources.capacity.cpu_shares = total;
    found.resources.capacity.cores = reservable;
    found.resources.total_cores = cores;
    found.resources.core_mhz = mhz;
}

/// The name that users write in constraints.
pub(super) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn max_mhz() -> Option<u64> {
    let khz = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").ok()?;
    khz.trim().parse::<u64>().ok().map(|khz| khz / 1_000)
}

/// Reads the whole part of a number such as `2599.998`.
fn whole(text: &str) -> Option<u64> {
    text.split('.').next()?.parse().ok()
}
