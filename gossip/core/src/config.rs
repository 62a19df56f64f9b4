//! What can be set, and what follows from the size of the pool.

use std::time::Duration;

/// Smallest packet that news and a digest fit into.
const PACKET_BYTES_MIN: usize = 900;

/// Checked settings of one member. Those of all members of a pool should be equal; nothing breaks when they are not.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keeps pools apart that share a key: packets of another pool are refused.
    pub pool: u32,
    /// Most bytes of a packet before it is sealed: 1,400 less what the seal adds. From 900.
    pub packet_bytes_max: usize,
    /// How often each watched member is probed. Shorter finds the dead sooner and sends more.
    pub probe_period: Duration,
    /// How long a probe waits for its answer before the member is suspected: above a slow round trip.
    pub probe_timeout: Duration,
    /// How long a suspicion lasts that enough others confirm. Above the longest pause that a healthy agent makes.
    pub suspicion_min: Duration,
    /// How long a suspicion lasts that nobody confirms.
    pub suspicion_max: Duration,
    /// How often news are told while there are any.
    pub gossip_period: Duration,
    /// To how many members at once.
    pub gossip_fanout: usize,
    /// How long failed and left members are remembered.
    pub remember: Duration,
    /// Seed of all chance.
    pub seed: u64,
}

/// Why settings do not go together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A digest would not fit.
    #[error("packets of {0} bytes are too small, at least {PACKET_BYTES_MIN} are needed")]
    PacketTooSmall(usize),
    /// A period of zero would spin.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A probe has to end before the next one of the same member.
    #[error("probe timeout {timeout:?} must be shorter than the probe period {period:?}")]
    TimeoutTooLong {
        /// What was set.
        timeout: Duration,
        /// What it must stay below.
        period: Duration,
    },
    /// The longest suspicion is shorter than the shortest.
    #[error("longest suspicion {max:?} is below the shortest {min:?}")]
    SuspicionOrder {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

impl Config {
    /// Settings for agents that reach each other in some milliseconds.
    pub fn local(pool: u32, packet_bytes_max: usize, seed: u64) -> Self {
        Self {
            pool,
            packet_bytes_max,
            probe_period: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            suspicion_min: Duration::from_millis(2_700),
            suspicion_max: Duration::from_secs(6),
            gossip_period: Duration::from_millis(200),
            gossip_fanout: 3,
            remember: Duration::from_secs(24 * 3_600),
            seed,
        }
    }

    /// Settings for servers of different regions.
    pub fn wide(pool: u32, packet_bytes_max: usize, seed: u64) -> Self {
        Self {
            probe_period: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            suspicion_min: Duration::from_secs(15),
            suspicion_max: Duration::from_secs(45),
            gossip_period: Duration::from_millis(500),
            gossip_fanout: 4,
            ..Self::local(pool, packet_bytes_max, seed)
        }
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    /// The first [`ConfigError`] that is found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.packet_bytes_max < PACKET_BYTES_MIN {
            return Err(ConfigError::PacketTooSmall(self.packet_bytes_max));
        }
        for (name, value) in [
            ("probe period", self.probe_period),
            ("probe timeout", self.probe_timeout),
            ("shortest suspicion", self.suspicion_min),
            ("gossip period", self.gossip_period),
            ("time to remember", self.remember),
        ] {
            if value.is_zero() {
                return Err(ConfigError::Zero(name));
            }
        }
        if self.gossip_fanout == 0 {
            return Err(ConfigError::Zero("gossip fan-out"));
        }
        if self.probe_timeout >= self.probe_period {
            return Err(ConfigError::TimeoutTooLong {
                timeout: self.probe_timeout,
                period: self.probe_period,
            });
        }
        if self.suspicion_max < self.suspicion_min {
            return Err(ConfigError::SuspicionOrder { min: self.suspicion_min, max: self.suspicion_max });
        }
        Ok(())
    }
}
