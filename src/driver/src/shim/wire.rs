//! What the agent and the shim say to each other. Both are the same binary or its successor, so each message keeps
//! its meaning for ever: a task outlives upgrades.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Files in a launch's directory. The socket.
pub const SOCKET_FILE: &str = "ctl";
/// The shim and the task as processes.
pub const SHIM_FILE: &str = "shim";
/// How the task ended.
pub const EXIT_FILE: &str = "exit";
/// What was about to be launched, written by the agent before it starts the shim.
pub const INTENT_FILE: &str = "intent.json";

/// The name of the memory in which a shim keeps its task's specification, as `/proc/PID/fd` shows it.
pub const SPEC_NAME: &str = "wayfarer-spec";

/// Bytes of a request.
pub const REQUEST_LEN: usize = 8;
/// Bytes of a reply.
pub const REPLY_LEN: usize = 24;

/// What the second stage is to become. Travels over a socket, never over a disk: it holds the environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The program, as an absolute path.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Whom it runs as; none means as the agent.
    pub user: Option<LaunchUser>,
    /// Files to write its process id to, so that it is in its control groups before it is itself.
    pub join: Vec<PathBuf>,
    /// The network namespace to enter.
    pub network_namespace: Option<PathBuf>,
    /// How ready the kernel is to end it when memory is short.
    pub oom_score_adj: i32,
    /// Forbid it to gain privileges by executing a file.
    pub no_new_privileges: bool,
    /// Its standard input is a terminal, which becomes its controlling one.
    pub terminal: bool,
}

/// Whom a task runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchUser {
    /// The user.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

/// A request to a shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Signal the main process.
    Signal(u8),
    /// Signal the main process, and kill everything after so many milliseconds.
    Stop { signal: u8, timeout_ms: u32 },
    /// Kill everything.
    Kill,
}

impl Request {
    pub fn encode(self) -> [u8; REQUEST_LEN] {
        let (op, arg, number) = match self {
            Self::Ping => (b'p', 0, 0),
            Self::Signal(signal) => (b's', signal, 0),
            Self::Stop { signal, timeout_ms } => (b't', signal, timeout_ms),
            Self::Kill => (b'k', 0, 0),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [op, arg, 0, 0, a, b, c, d]
    }

    pub fn decode(bytes: [u8; REQUEST_LEN]) -> Option<Self> {
        let [op, arg, _, _, a, b, c, d] = bytes;
        let number = u32::from_le_bytes([a, b, c, d]);
        match op {
            b'p' => Some(Self::Ping),
            b's' => Some(Self::Signal(arg)),
            b't' => Some(Self::Stop { signal: arg, timeout_ms: number }),
            b'k' => Some(Self::Kill),
            _ => None,
        }
    }
}

/// What a shim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// The system refused with this number.
    Errno(i32),
    /// The task has ended. Sent to every connection, asked or not; the last thing it says.
    Exited(Exit),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, or zero when a signal ended it.
    pub code: i32,
    /// The signal that ended it, or zero.
    pub signal: i32,
    /// When, in nanoseconds since the epoch.
    pub at: i64,
}

impl Reply {
    pub fn encode(self) -> [u8; REPLY_LEN] {
        let (kind, first, second, at) = match self {
            Self::Ok => (b'o', 0, 0, 0),
            Self::Errno(number) => (b'e', number, 0, 0),
            Self::Exited(exit) => (b'x', exit.code, exit.signal, exit.at),
        };
        let mut bytes = [0; REPLY_LEN];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..12].copy_from_slice(&second.to_le_bytes());
        bytes[16..24].copy_from_slice(&at.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; REPLY_LEN]) -> Option<Self> {
        let number = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let at = i64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        match bytes[0] {
            b'o' => Some(Self::Ok),
            b'e' => Some(Self::Errno(number(4)?)),
            b'x' => Some(Self::Exited(Exit { code: number(4)?, signal: number(8)?, at })),
            _ => None,
        }
    }
}

impl Exit {
    /// Writes the exit file's one line.
    pub fn to_line(self) -> String {
        format!("v1 {} {} {}\n", self.code, self.signal, self.at)
    }

    /// Reads the exit file.
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("v1 ")?.split_ascii_whitespace();
        let code = words.next()?.parse().ok()?;
        let signal = words.next()?.parse().ok()?;
        let at = words.next()?.parse().ok()?;
        Some(Self { code, signal, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for request in [
            Request::Ping,
            Request::Signal(15),
            Request::Stop { signal: 2, timeout_ms: 70_000 },
            Request::Kill,
        ] {
            assert_eq!(Request::decode(request.encode()), Some(request));
        }
        let exit = Exit { code: -1, signal: 9, at: 1_795_358_742_169_820_035 };
        for reply in [Reply::Ok, Reply::Errno(3), Reply::Exited(exit)] {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
        assert_eq!(Exit::from_line(&exit.to_line()), Some(exit));
        assert_eq!(Exit::from_line("v1 3"), None);
    }

    // The bytes of version 1: a shim that was started by an older agent speaks them for as long as its task lives.
    #[test]
    fn the_first_versions_bytes_stay() {
        assert_eq!(Request::Stop { signal: 2, timeout_ms: 258 }.encode(), [b't', 2, 0, 0, 2, 1, 0, 0]);
        let exit = Reply::Exited(Exit { code: 1, signal: 2, at: 3 }).encode();
        assert_eq!(exit, [b'x', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }
}
