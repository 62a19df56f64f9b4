/// Something on this machine that carries the mark of an allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The allocation that it was made for.
    pub alloc_id: String,
    /// The task, when the mark names one.
    pub task: Option<String>,
    /// What it is.
    pub kind: FoundKind,
}

/// What the census found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FoundKind {
    /// A process, trusted only together with the time it started.
    Process {
        /// Its id.
        pid: u32,
        /// Its start, in clock ticks since boot (`/proc/PID/stat`, field 22).
        start_ticks: u64,
    },
    /// A directory in a control group hierarchy.
    Cgroup {
        /// Its whole path.
        path: String,
    },
    /// A container.
    Container {
        /// Its id.
        id: String,
    },
    /// A network namespace, or what holds one open.
    Network {
        /// Its name or path.
        name: String,
    },
    /// Something that only exists in this agent: a pretended task.
    Virtual {
        /// Its name.
        name: String,
    },
}
