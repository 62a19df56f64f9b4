use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A signal, by number. Parsed from a name with or without `SIG`, in any case, or from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub u8);

/// Names and numbers on Linux; the first 31 are the same on x86-64 and arm64.
const NAMES: [(&str, u8); 33] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
    ("SIGIOT", 6),
    ("SIGPOLL", 29),
];

/// The highest real-time signal on Linux.
const SIGNAL_MAX: u8 = 64;

impl Signal {
    /// Hang up.
    pub const HUP: Self = Self(1);
    /// Interrupt: how plain tasks are asked to stop.
    pub const INT: Self = Self(2);
    /// Kill, which nothing can ignore.
    pub const KILL: Self = Self(9);
    /// Terminate: how containers are asked to stop.
    pub const TERM: Self = Self(15);

    /// The names that a node lists in `os.signals`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}: give a name such as SIGTERM or a number from 1 to 64")]
pub struct UnknownSignal(pub String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSignal(text.to_owned());
        let upper = text.trim().to_ascii_uppercase();
        if let Ok(number) = upper.parse::<u8>() {
            return (1..=SIGNAL_MAX).contains(&number).then_some(Self(number)).ok_or_else(unknown);
        }
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        NAMES.iter().find(|(name, _)| *name == full).map(|(_, number)| Self(*number)).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_every_spelling() {
        for text in ["SIGTERM", "term", "Term", "15", " sigterm "] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        for text in ["", "SIG", "0", "65", "-1", "NOPE"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
        assert_eq!(Signal(6).to_string(), "SIGABRT");
        assert_eq!(Signal(40).to_string(), "40");
    }
}
