//! What can be done to a region, in full: who is hit, and how hard.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::layout::Agent;

/// A kind of fault, as `--faults` names it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Agents killed and started again.
    Kill,
    /// The leader killed and started again.
    Leader,
    /// A client and its tasks killed: its machine lost power.
    Power,
    /// An agent stopped and continued.
    Pause,
    /// Agents cut off from all others, both ways.
    Cut,
    /// An agent that hears and is not heard, or the other way round.
    OneWay,
    /// Two agents that do not reach each other, though others reach both.
    Partial,
    /// Gossip cut, or QUIC, and not the other.
    Plane,
    /// Packets lost, late, twice and out of order, everywhere, as far as nobody may be taken for dead.
    Rain,
    /// The same, beyond that.
    Weather,
    /// A server's disk without room.
    DiskFull,
    /// A server's disk that writes little.
    DiskSlow,
    /// A server's disk on which writes do not return.
    DiskStuck,
    /// An agent started again with another monotonic clock.
    Clock,
    /// An agent whose wall clock jumps.
    Wall,
    /// A stopped server's log with one bit flipped.
    Damage,
    /// A server that is away until its certificate has expired.
    Expire,
    /// The container engine killed and started again.
    Engine,
    /// Agents that join and leave.
    Storm,
}

/// What one kind does and how long it lasts.
pub struct About {
    /// As users write it.
    pub name: &'static str,
    /// One line for `list`.
    pub says: &'static str,
    /// Shortest and longest time in seconds.
    pub lasts: (u64, u64),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Kill,
        Self::Leader,
        Self::Power,
        Self::Pause,
        Self::Cut,
        Self::OneWay,
        Self::Partial,
        Self::Plane,
        Self::Rain,
        Self::Weather,
        Self::DiskFull,
        Self::DiskSlow,
        Self::DiskStuck,
        Self::Clock,
        Self::Wall,
        Self::Damage,
        Self::Expire,
        Self::Engine,
        Self::Storm,
    ];

    /// What it does and how long.
    #[must_use]
    pub fn about(self) -> About {
        let (name, says, lasts) = match self {
            Self::Kill => ("kill", "kill -9 of one or several agents, started again; tasks go on", (1, 12)),
            Self::Leader => ("leader", "kill -9 of the server that leads, started again", (1, 4)),
            Self::Power => ("power", "kill -9 of a client and of all its tasks, started again", (8, 20)),
            Self::Pause => ("pause", "SIGSTOP and SIGCONT of one agent", (1, 15)),
            Self::Cut => ("cut", "one or two agents reach nobody and nobody reaches them", (2, 20)),
            Self::OneWay => {
                ("one-way", "an agent hears and is not heard, or is heard and hears nothing", (2, 20))
            }
            Self::Partial => {
                ("partial", "two agents do not reach each other; all others reach both", (2, 20))
            }
            Self::Plane => ("plane", "gossip (4648) or QUIC (4647) of one agent cut, the other not", (2, 20)),
            Self::Rain => {
                ("rain", "up to 10 % of all packets lost, some late, doubled, out of order", (10, 60))
            }
            Self::Weather => ("weather", "the same, up to 40 % lost and 600 ms late", (5, 30)),
            Self::DiskFull => ("disk-full", "a server's disk filled to the last byte, then emptied", (3, 10)),
            Self::DiskSlow => ("disk-slow", "a server's disk throttled to some kilobytes a second", (5, 15)),
            Self::DiskStuck => ("disk-stuck", "a server's file system frozen: writes do not return", (1, 10)),
            Self::Clock => ("clock", "kill -9, then started with a shifted monotonic clock", (1, 4)),
            Self::Wall => {
                ("wall", "the wall clock of an agent jumps by up to an hour, and back again", (2, 20))
            }
            Self::Damage => ("damage", "kill -9 of a server, one bit of its log flipped, started", (1, 3)),
            Self::Expire => {
                ("expire", "kill -9 of a server, started when its certificate of a minute is over", (70, 80))
            }
            Self::Engine => {
                ("engine", "kill -9 of the container engine, started again; containers go on", (1, 15))
            }
            Self::Storm => ("storm", "clients and a server that join and leave again", (10, 25)),
        };
        About { name, says, lasts }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.about().name == name)
    }

    /// Whether it needs clocks that can be set while agents run.
    #[must_use]
    pub fn needs_wall_clocks(self) -> bool {
        self == Self::Wall
    }

    /// Whether it needs containers.
    #[must_use]
    pub fn needs_engine(self) -> bool {
        self == Self::Engine
    }

    /// Whether it needs disks of the servers' own.
    #[must_use]
    pub fn needs_disks(self) -> bool {
        matches!(self, Self::DiskFull | Self::DiskSlow | Self::DiskStuck)
    }
}

/// What agents say to each other, by port.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Everything.
    All,
    /// Port 4647.
    Quic,
    /// Port 4648.
    Gossip,
}

/// One direction between two agents.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Link {
    /// Who sends.
    pub from: Agent,
    /// Who would hear.
    pub to: Agent,
}

/// How bad the network is, everywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Weather {
    /// Packets lost, in percent.
    pub loss: u8,
    /// Packets that come twice, in percent.
    pub twice: u8,
    /// Packets that others overtake, in percent.
    pub late: u8,
    /// Every packet comes this much later, in milliseconds.
    pub delay_ms: u16,
    /// And up to this much more.
    pub jitter_ms: u16,
}

/// One fault, with all that was drawn for it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// See [`Kind::Kill`].
    Kill {
        /// Who.
        agents: Vec<Agent>,
    },
    /// See [`Kind::Leader`]. Who leads is known only when it happens.
    Leader,
    /// See [`Kind::Power`].
    Power {
        /// Who.
        agent: Agent,
    },
    /// See [`Kind::Pause`].
    Pause {
        /// Who.
        agent: Agent,
    },
    /// Links that carry nothing: [`Kind::Cut`], [`Kind::OneWay`], [`Kind::Partial`], [`Kind::Plane`].
    Cut {
        /// In words.
        shape: String,
        /// Which.
        links: Vec<Link>,
        /// What of them.
        plane: Plane,
    },
    /// See [`Kind::Rain`] and [`Kind::Weather`].
    Weather(Weather),
    /// See [`Kind::DiskFull`].
    DiskFull {
        /// Whose.
        agent: Agent,
    },
    /// See [`Kind::DiskSlow`].
    DiskSlow {
        /// Whose.
        agent: Agent,
        /// Bytes a second that are left.
        rate: u32,
    },
    /// See [`Kind::DiskStuck`].
    DiskStuck {
        /// Whose.
        agent: Agent,
    },
    /// See [`Kind::Clock`].
    Clock {
        /// Who.
        agent: Agent,
        /// By how many seconds.
        shift: i64,
    },
    /// See [`Kind::Wall`].
    Wall {
        /// Whose.
        agent: Agent,
        /// By how many seconds.
        shift: i64,
    },
    /// See [`Kind::Damage`].
    Damage {
        /// Whose.
        agent: Agent,
        /// Which bit, before the size of the log is known.
        place: u64,
    },
    /// See [`Kind::Expire`].
    Expire {
        /// Who.
        agent: Agent,
    },
    /// See [`Kind::Engine`].
    Engine,
    /// See [`Kind::Storm`].
    Storm {
        /// Who comes and goes.
        agents: Vec<Agent>,
    },
}

impl Fault {
    /// Agents whose process or disk is hit: two such faults at once on one agent would not be told apart.
    #[must_use]
    pub fn hits(&self) -> Vec<Agent> {
        match self {
            Self::Kill { agents } | Self::Storm { agents } => agents.clone(),
            Self::Power { agent }
            | Self::Pause { agent }
            | Self::DiskFull { agent }
            | Self::DiskSlow { agent, .. }
            | Self::DiskStuck { agent }
            | Self::Clock { agent, .. }
            | Self::Wall { agent, .. }
            | Self::Expire { agent }
            | Self::Damage { agent, .. } => vec![*agent],
            Self::Leader | Self::Engine | Self::Cut { .. } | Self::Weather(_) => Vec::new(),
        }
    }

    /// Whether those whom it hits are killed, with -9.
    #[must_use]
    pub fn kills(&self) -> bool {
        match self {
            Self::Kill { .. }
            | Self::Leader
            | Self::Power { .. }
            | Self::Clock { .. }
            | Self::Damage { .. }
            | Self::Expire { .. } => true,
            Self::Pause { .. }
            | Self::Cut { .. }
            | Self::Weather(_)
            | Self::DiskFull { .. }
            | Self::DiskSlow { .. }
            | Self::DiskStuck { .. }
            | Self::Wall { .. }
            | Self::Engine
            | Self::Storm { .. } => false,
        }
    }

    /// How long it must be borne before anybody may be taken for dead for it.
    #[must_use]
    pub fn bearable(&self) -> Duration {
        match self {
            Self::Pause { .. } => PAUSE_BEARABLE,
            Self::Cut { plane: Plane::Quic, .. } => QUIC_CUT_BEARABLE,
            Self::Kill { .. }
            | Self::Leader
            | Self::Power { .. }
            | Self::Cut { .. }
            | Self::Weather(_)
            | Self::DiskFull { .. }
            | Self::DiskSlow { .. }
            | Self::DiskStuck { .. }
            | Self::Clock { .. }
            | Self::Wall { .. }
            | Self::Damage { .. }
            | Self::Expire { .. }
            | Self::Engine
            | Self::Storm { .. } => Duration::ZERO,
        }
    }

    /// Agents that others may rightly take for dead when it lasts so long. None for all. What is promised is no excuse: gossip
    /// alone may be gone, QUIC alone and agents that stand still for a while, and two agents may not reach each other.
    #[must_use]
    pub fn excuses(&self, lasts: Duration) -> Option<Vec<Agent>> {
        match self {
            Self::Cut { plane: Plane::Gossip, .. } => Some(Vec::new()),
            Self::Cut { plane: Plane::Quic, .. } if lasts <= self.bearable() => Some(Vec::new()),
            Self::Cut { links, .. } if links.len() == 2 => Some(Vec::new()),
            Self::Cut { links, .. } => Some(links.iter().flat_map(|link| [link.from, link.to]).collect()),
            Self::Pause { .. } if lasts <= self.bearable() => Some(Vec::new()),
            Self::Weather(weather) => (!weather.is_harsh()).then(Vec::new),
            // What is alive is told by clocks that only measure.
            Self::Leader | Self::Engine | Self::Wall { .. } => Some(Vec::new()),
            Self::Kill { .. }
            | Self::Power { .. }
            | Self::Pause { .. }
            | Self::DiskFull { .. }
            | Self::DiskSlow { .. }
            | Self::DiskStuck { .. }
            | Self::Clock { .. }
            | Self::Damage { .. }
            | Self::Expire { .. }
            | Self::Storm { .. } => Some(self.hits()),
        }
    }
}

impl Weather {
    /// Whether nodes may count as down in it: promised is that 10 % loss takes nobody down.
    #[must_use]
    pub fn is_harsh(&self) -> bool {
        self.loss > 10 || self.delay_ms + self.jitter_ms > 200
    }
}

fn names(agents: &[Agent]) -> String {
    agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { agents } => write!(f, "kill {}", names(agents)),
            Self::Leader => write!(f, "kill the leader"),
            Self::Power { agent } => write!(f, "power of {agent} off"),
            Self::Pause { agent } => write!(f, "pause {agent}"),
            Self::Cut { shape, .. } => write!(f, "{shape}"),
            Self::Weather(weather) => write!(
                f,
                "weather: {} % lost, {} % twice, {} % late, {} to {} ms later",
                weather.loss,
                weather.twice,
                weather.late,
                weather.delay_ms,
                weather.delay_ms + weather.jitter_ms
            ),
            Self::DiskFull { agent } => write!(f, "disk of {agent} full"),
            Self::DiskSlow { agent, rate } => write!(f, "disk of {agent} at {rate} bytes a second"),
            Self::DiskStuck { agent } => write!(f, "disk of {agent} stuck"),
            Self::Clock { agent, shift } => write!(f, "monotonic clock of {agent} shifted by {shift} s"),
            Self::Wall { agent, shift } => write!(f, "wall clock of {agent} jumps by {shift} s"),
            Self::Damage { agent, place } => write!(f, "a bit of {agent}'s log flipped (place {place})"),
            Self::Expire { agent } => write!(f, "{agent} away until its certificate has expired"),
            Self::Engine => write!(f, "kill the container engine"),
            Self::Storm { agents } => write!(f, "{} join and leave", names(agents)),
        }
    }
}

/// A pause of this length takes no node down.
const PAUSE_BEARABLE: Duration = Duration::from_secs(5);
/// Nor does a loss of QUIC alone of this length.
const QUIC_CUT_BEARABLE: Duration = Duration::from_secs(12);

/// How long after a fault what it did may still show.
pub const AFTERMATH: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.about().name), Some(kind));
            assert!(kind.about().lasts.0 <= kind.about().lasts.1);
        }
        assert_eq!(Kind::named("nothing"), None);
    }

    #[test]
    fn what_is_promised_in_bad_weather_is_no_excuse() {
        let calm = Weather { loss: 10, twice: 5, late: 5, delay_ms: 20, jitter_ms: 30 };
        let lasts = Duration::from_secs(9);
        assert_eq!(Fault::Weather(calm).excuses(lasts), Some(Vec::new()));
        assert_eq!(Fault::Weather(Weather { loss: 25, ..calm }).excuses(lasts), None);
        let pause = Fault::Pause { agent: Agent(1) };
        assert_eq!(pause.excuses(Duration::from_secs(4)), Some(Vec::new()));
        assert_eq!(pause.excuses(lasts), Some(vec![Agent(1)]));
    }
}
