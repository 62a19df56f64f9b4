use std::collections::BTreeMap;

use crate::shape::or_null;

shape! {
    /// What a node uses at one moment.
    HostStats {
        alloc_dir_stats "AllocDirStats": Option<HostDiskStats>,
        /// Only where it was asked for, and only from agents that know the question.
        #[serde(skip_serializing_if = "Option::is_none")]
        alloc_usage "AllocUsage": Option<AllocUsageTotal>,
        cpu "CPU": Vec<HostCpuStats>,
        cpu_ticks_consumed "CPUTicksConsumed": f64,
        #[serde(serialize_with = "or_null")]
        device_stats "DeviceStats": Vec<serde_json::Value>,
        disk_stats "DiskStats": Vec<HostDiskStats>,
        memory "Memory": Option<HostMemoryStats>,
        timestamp "Timestamp": i64,
        uptime "Uptime": u64,
    }
    /// What all allocations of a node use together.
    AllocUsageTotal {
        memory "Memory": u64,
        total_ticks "TotalTicks": f64,
    }
    /// One core of a node.
    HostCpuStats {
        cpu "CPU": String,
        idle "Idle": f64,
        system "System": f64,
        total_percent "TotalPercent": f64,
        total_ticks "TotalTicks": f64,
        user "User": f64,
    }
    /// A disk of a node, in bytes.
    HostDiskStats {
        available "Available": u64,
        device "Device": String,
        inodes_used_percent "InodesUsedPercent": f64,
        mountpoint "Mountpoint": String,
        size "Size": u64,
        used "Used": u64,
        used_percent "UsedPercent": f64,
    }
    /// Memory of a node, in bytes.
    HostMemoryStats {
        available "Available": u64,
        free "Free": u64,
        total "Total": u64,
        used "Used": u64,
    }
    /// What an allocation uses at one moment.
    AllocResourceUsage {
        resource_usage "ResourceUsage": ResourceUsage,
        tasks "Tasks": BTreeMap<String, TaskResourceUsage>,
        timestamp "Timestamp": i64,
    }
    /// What a task uses.
    TaskResourceUsage {
        #[serde(serialize_with = "or_null")]
        pids "Pids": BTreeMap<String, ResourceUsage>,
        resource_usage "ResourceUsage": ResourceUsage,
        timestamp "Timestamp": i64,
    }
    /// Processor, memory and devices in use.
    ResourceUsage {
        cpu_stats "CpuStats": CpuStats,
        device_stats "DeviceStats": Option<Vec<serde_json::Value>>,
        memory_stats "MemoryStats": MemoryStats,
    }
    /// Processor in use.
    CpuStats {
        #[serde(serialize_with = "or_null")]
        measured "Measured": Vec<String>,
        percent "Percent": f64,
        system_mode "SystemMode": f64,
        throttled_periods "ThrottledPeriods": u64,
        throttled_time "ThrottledTime": u64,
        total_ticks "TotalTicks": f64,
        user_mode "UserMode": f64,
    }
    /// Memory in use, in bytes.
    MemoryStats {
        cache "Cache": u64,
        kernel_max_usage "KernelMaxUsage": u64,
        kernel_usage "KernelUsage": u64,
        mapped_file "MappedFile": u64,
        max_usage "MaxUsage": u64,
        #[serde(serialize_with = "or_null")]
        measured "Measured": Vec<String>,
        rss "RSS": u64,
        swap "Swap": u64,
        usage "Usage": u64,
    }
}
