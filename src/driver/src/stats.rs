/// What a task uses at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskStats {
    /// When it was measured, in nanoseconds since the epoch.
    pub at: i64,
    /// Processor.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads, when known.
    pub pids: Vec<PidStats>,
}

/// Processor time since the task started. The client makes percentages of two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In user mode, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Both together; may be finer than the sum of the two.
    pub total_ns: u64,
    /// Periods in which the task was held back.
    pub throttled_periods: u64,
    /// For how long it was held back, in nanoseconds.
    pub throttled_ns: u64,
    /// Names of the fields that were measured, as the API lists them.
    pub measured: &'static [&'static str],
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Resident, without the page cache.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Swap.
    pub swap: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// All that is charged to the task.
    pub usage: u64,
    /// The most that was ever charged.
    pub max_usage: u64,
    /// Kernel memory.
    pub kernel_usage: u64,
    /// The most kernel memory ever charged.
    pub kernel_max_usage: u64,
    /// Names of the fields that were measured, as the API lists them.
    pub measured: &'static [&'static str],
}

/// One process of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidStats {
    /// Its id.
    pub pid: u32,
    /// In user mode, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Swapped memory in bytes.
    pub swap: u64,
}
