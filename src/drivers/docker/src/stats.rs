//! The engine's numbers in our words.

use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use driver::{CpuStats, MemoryStats, TaskStats};

/// Turns what the engine measured into what the client wants to know.
pub(crate) fn of(answer: &ContainerStatsResponse, at: i64) -> TaskStats {
    let cpu = answer.cpu_stats.clone().unwrap_or_default();
    let usage = cpu.cpu_usage.unwrap_or_default();
    let throttling = cpu.throttling_data.unwrap_or_default();
    TaskStats {
        at,
        cpu: CpuStats {
            user_ns: usage.usage_in_usermode.unwrap_or_default(),
            system_ns: usage.usage_in_kernelmode.unwrap_or_default(),
            total_ns: usage.total_usage.unwrap_or_default(),
            throttled_periods: throttling.throttled_periods.unwrap_or_default(),
            throttled_ns: throttling.throttled_time.unwrap_or_default(),
            measured: &["Throttled Periods", "Throttled Time", "Percent"],
        },
        memory: memory(&answer.memory_stats.clone().unwrap_or_default()),
        pids: Vec::new(),
    }
}

/// The detail is named after the files of the control groups, which differ between the versions.
fn memory(answer: &ContainerMemoryStats) -> MemoryStats {
    let detail = |name: &str| answer.stats.as_ref().and_then(|stats| stats.get(name)).copied();
    let usage = answer.usage.unwrap_or_default();
    if let Some(rss) = detail("rss") {
        return MemoryStats {
            rss,
            cache: detail("cache").unwrap_or_default(),
            swap: detail("swap").unwrap_or_default(),
            mapped_file: detail("mapped_file").unwrap_or_default(),
            usage,
            max_usage: answer.max_usage.unwrap_or_default(),
            measured: &["RSS", "Cache", "Swap", "Usage", "Max Usage"],
            ..MemoryStats::default()
        };
    }
    MemoryStats {
        rss: detail("anon").unwrap_or_default(),
        cache: detail("file").unwrap_or_default(),
        mapped_file: detail("file_mapped").unwrap_or_default(),
        usage,
        measured: &["RSS", "Cache", "Usage"],
        ..MemoryStats::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_understood() {
        let of_json = |value| of(&serde_json::from_value(value).expect("the engine's form"), 7);
        let one = of_json(json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 9, "usage_in_usermode": 4, "usage_in_kernelmode": 5}},
            "memory_stats": {"usage": 30, "max_usage": 40, "stats": {"rss": 10, "cache": 20}},
        }));
        assert_eq!((one.at, one.cpu.total_ns, one.memory.rss, one.memory.max_usage), (7, 9, 10, 40));
        let two = of_json(json!({"memory_stats": {"usage": 30, "stats": {"anon": 11, "file": 2}}}));
        assert_eq!((two.memory.rss, two.memory.cache), (11, 2));
        assert!(!two.memory.measured.contains(&"Max Usage"));
    }
}
