use std::{path::PathBuf, time::Duration};

use crate::log::{MarkSync, MemoryDisk};

/// A sign of life that is not answered within this time counts for nothing, so it must be longer than a round trip and a
/// busy processor's pause.
const HEARTBEAT: Duration = Duration::from_millis(80);
/// A follower stands for election when it has heard nothing for the leader's lease, which is the longer of the two, and
/// then for a time between them: 640 to 800 ms. The distance keeps two from standing at the same moment.
const ELECTION_MIN: Duration = Duration::from_millis(240);
const ELECTION_MAX: Duration = Duration::from_millis(400);
const SNAPSHOT_THRESHOLD: u64 = 8192;
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(120);
const TRAILING_LOGS: u64 = 10240;
/// Fits the largest command that the API lets in, with room for its envelope.
const ENTRY_BYTES_MAX: usize = 64 << 20;

/// What a configuration file may say. All optional, nothing trusted.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// Time between a leader's signs of life. 80 ms; raise it together with the election timeouts on slow links.
    pub heartbeat: Option<Duration>,
    /// The shortest wait before an election. 240 ms; at least three heartbeats.
    pub election_min: Option<Duration>,
    /// The longest wait before an election, and the leader's lease. 400 ms.
    pub election_max: Option<Duration>,
    /// Entries after which a snapshot is due (`raft_snapshot_threshold`). 8192.
    pub snapshot_threshold: Option<u64>,
    /// Time between looks whether one is due (`raft_snapshot_interval`). 120 s.
    pub snapshot_interval: Option<Duration>,
    /// Entries kept behind a snapshot so that a slow follower need not fetch it (`raft_trailing_logs`). 10240.
    pub trailing_logs: Option<u64>,
    /// The largest command. 64 MiB.
    pub entry_bytes_max: Option<usize>,
    /// When the mark is synced. [`MarkSync::BeforeAck`] unless said otherwise.
    pub mark_sync: Option<MarkSync>,
}

impl RawConfig {
    /// Sets the times as Nomad's `raft_multiplier` does: 1 is for servers that are near each other and have processors of
    /// their own, up to 10 for slow or far ones. A leader's death is noticed after up to 800 ms times this.
    #[must_use]
    pub fn with_multiplier(mut self, multiplier: u32) -> Self {
        let multiplier = multiplier.clamp(1, 10);
        self.heartbeat = Some(HEARTBEAT * multiplier);
        self.election_min = Some(ELECTION_MIN * multiplier);
        self.election_max = Some(ELECTION_MAX * multiplier);
        self
    }
}

/// Where log, vote and snapshots go.
#[derive(Clone)]
pub enum Storage {
    /// A directory of its own. Made when missing.
    Directory(PathBuf),
    /// Memory: development mode and simulations.
    Memory(MemoryDisk),
}

/// Who does the blocking work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IoMode {
    /// A thread for the log, and the blocking pool for snapshots. What a real server uses.
    Thread,
    /// The calling task, at once.
    Inline,
    /// A task of its own for the log, in turns with all others: a simulation stays repeatable, what is written is for a
    /// while not yet durable, and a simulated disk can be slow.
    Task,
}

/// Checked configuration of replication.
#[derive(Clone)]
pub struct Config {
    /// Where data goes.
    pub storage: Storage,
    /// Who does the blocking work.
    pub io: IoMode,
    /// Time between a leader's signs of life.
    pub heartbeat: Duration,
    /// The shortest wait before an election.
    pub election_min: Duration,
    /// The longest wait before an election, and the leader's lease.
    pub election_max: Duration,
    /// Entries after which a snapshot is due.
    pub snapshot_threshold: u64,
    /// Time between looks whether one is due.
    pub snapshot_interval: Duration,
    /// Entries kept behind a snapshot.
    pub trailing_logs: u64,
    /// The largest command.
    pub entry_bytes_max: usize,
    /// When the mark is synced.
    pub mark_sync: MarkSync,
}

/// Why a configuration can not be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Followers would lose patience before the leader can speak.
    #[error("election timeout {election:?} must be at least three heartbeats of {heartbeat:?}")]
    ElectionTooShort {
        /// The shortest election timeout.
        election: Duration,
        /// The heartbeat.
        heartbeat: Duration,
    },
    /// All servers would stand for election at the same moment.
    #[error("the longest election timeout {max:?} must be greater than the shortest {min:?}")]
    ElectionRange {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A value that must be positive is zero.
    #[error("{option} must be greater than zero")]
    Zero {
        /// The option's name.
        option: &'static str,
    },
}

impl Config {
    /// Checks what a file said and fills in the rest.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn check(raw: &RawConfig, storage: Storage, io: IoMode) -> Result<Self, ConfigError> {
        let heartbeat = raw.heartbeat.unwrap_or(HEARTBEAT);
        let election_min = raw.election_min.unwrap_or(ELECTION_MIN.max(heartbeat * 3));
        let election_max = raw.election_max.unwrap_or(ELECTION_MAX.max(election_min * 2));
        let config = Self {
            storage,
            io,
            heartbeat,
            election_min,
            election_max,
            snapshot_threshold: raw.snapshot_threshold.unwrap_or(SNAPSHOT_THRESHOLD),
            snapshot_interval: raw.snapshot_interval.unwrap_or(SNAPSHOT_INTERVAL),
            trailing_logs: raw.trailing_logs.unwrap_or(TRAILING_LOGS),
            entry_bytes_max: raw.entry_bytes_max.unwrap_or(ENTRY_BYTES_MAX),
            mark_sync: raw.mark_sync.unwrap_or(MarkSync::BeforeAck),
        };
        for (option, zero) in [
            ("heartbeat", config.heartbeat.as_millis() == 0),
            ("snapshot threshold", config.snapshot_threshold == 0),
            ("snapshot interval", config.snapshot_interval.is_zero()),
            ("largest entry", config.entry_bytes_max == 0),
        ] {
            if zero {
                return Err(ConfigError::Zero { option });
            }
        }
        if election_min < heartbeat * 3 {
            return Err(ConfigError::ElectionTooShort { election: election_min, heartbeat });
        }
        if election_max <= election_min {
            return Err(ConfigError::ElectionRange { min: election_min, max: election_max });
        }
        Ok(config)
    }

    pub(crate) fn for_openraft(&self) -> openraft::Config {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "wayfarer".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // The snapshot task below looks at the interval too, which openraft's own policy can not.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.trailing_logs,
            purge_batch_size: PURGE_BATCH,
            replication_lag_threshold: self.trailing_logs.max(PURGE_BATCH),
            max_payload_entries: APPEND_ENTRIES_MAX,
            install_snapshot_timeout: millis(SNAPSHOT_DEADLINE),
            enable_pre_vote: Some(true),
            // A restarted leader must be elected anew: its state may lag behind what it once answered.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            ..openraft::Config::default()
        }
    }
}

/// Entries removed from the log at a time; each removal costs a sync.
const PURGE_BATCH: u64 = 256;
/// Entries in one message; the budget in bytes usually ends it earlier.
const APPEND_ENTRIES_MAX: u64 = 4096;
/// A snapshot transfer that takes longer starts again.
pub(crate) const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &RawConfig) -> Result<Config, ConfigError> {
        Config::check(raw, Storage::Memory(MemoryDisk::new()), IoMode::Inline)
    }

    #[test]
    fn a_slower_heartbeat_alone_moves_the_election_timeouts() {
        let raw = RawConfig { heartbeat: Some(Duration::from_millis(200)), ..RawConfig::default() };
        let config = check(&raw).expect("derived timeouts fit");
        assert_eq!(config.election_min, Duration::from_millis(600));
        assert_eq!(config.election_max, Duration::from_millis(1200));
        assert!(config.for_openraft().validate().is_ok());
    }

    #[test]
    fn a_multiplier_stretches_all_times_alike() {
        let config = check(&RawConfig::default().with_multiplier(5)).expect("it fits");
        assert_eq!((config.heartbeat, config.election_max), (HEARTBEAT * 5, ELECTION_MAX * 5));
        assert_eq!(
            check(&RawConfig::default().with_multiplier(99)).expect("it fits").heartbeat,
            HEARTBEAT * 10
        );
    }

    #[test]
    fn timeouts_that_can_not_work_are_refused() {
        let short = RawConfig { election_min: Some(Duration::from_millis(100)), ..RawConfig::default() };
        assert!(matches!(check(&short), Err(ConfigError::ElectionTooShort { .. })));
        let range = RawConfig { election_max: Some(Duration::from_millis(150)), ..RawConfig::default() };
        assert!(matches!(check(&range), Err(ConfigError::ElectionRange { .. })));
        let zero = RawConfig { snapshot_threshold: Some(0), ..RawConfig::default() };
        assert!(matches!(check(&zero), Err(ConfigError::Zero { option: "snapshot threshold" })));
    }
}
