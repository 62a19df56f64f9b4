use std::path::PathBuf;

use runtime::Env;

use crate::cgroup::Cgroups;

/// What a driver is told about the agent that it works for.
#[derive(Clone, Debug)]
pub struct DriverContext {
    /// Time, chance and spawning.
    pub env: Env,
    /// A directory for this driver's records, the agent's alone and the same after a restart.
    pub state_dir: PathBuf,
    /// Where the directories of all allocations are; tells this agent's tasks from those of others on the machine.
    pub alloc_dir: PathBuf,
    /// The control groups of this machine.
    pub cgroups: Cgroups,
}
