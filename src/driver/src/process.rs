//! Processes of this machine, named so that a reused id is never mistaken for the old one.

use std::{fs, io, path::Path, thread, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How often a killed process is looked for; it is gone within a few of these.
const END_TRIES: u32 = 1000;
/// The pause between two looks.
const END_PAUSE: Duration = Duration::from_millis(1);

/// A process: its id and when it started. The id alone names whoever holds it at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// Its start in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

impl ProcessId {
    /// Looks up who holds an id at this moment.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self { pid, start_ticks: stat.start_ticks })
    }

    /// Tells whether this very process still runs. One that has ended and waits to be reaped does not run.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.start_ticks == self.start_ticks && stat.state != b'Z')
    }

    /// Sends a signal to this very process, never to another that got its id since.
    ///
    /// # Errors
    ///
    /// It is gone (`ESRCH`), or the system refuses.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        // The descriptor pins the process. Checking the start after opening it closes the window for reuse.
        let pinned = pidfd_open(pid, PidfdFlags::empty())?;
        if Self::of(self.pid)? != self {
            return Err(rustix::io::Errno::SRCH.into());
        }
        Ok(pidfd_send_signal(pinned, signal)?)
    }
}

impl ProcessId {
    /// Kills this very process and waits a moment until it is gone. Blocks.
    ///
    /// # Errors
    ///
    /// It is still there: it may not be killed, or hangs in the kernel.
    pub fn end(self) -> io::Result<()> {
        for _ in 0..END_TRIES {
            if let Err(error) = self.signal(Signal::KILL) {
                return if self.is_alive() { Err(error) } else { Ok(()) };
            }
            if !self.is_alive() {
                return Ok(());
            }
            thread::sleep(END_PAUSE);
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// What `/proc/PID/stat` says that we use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub state: u8,
    pub parent: u32,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub start_ticks: u64,
    pub rss_pages: u64,
}

impl Stat {
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The second field is the command in parentheses and may hold anything, so count from the last one.
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        // Fields 14, 15, 22 and 24 of the whole line; the next to come is number 5.
        let user_ticks = fields.nth(14 - 5)?.parse().ok()?;
        let system_ticks = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(22 - 16)?.parse().ok()?;
        let rss_pages = fields.nth(24 - 23)?.parse().ok()?;
        Some(Self { state, parent, user_ticks, system_ticks, start_ticks, rss_pages })
    }
}

/// Reads who this boot of the machine is. After another boot no recorded process can be alive.
pub fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Lists all processes of this machine that may be seen.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn all() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Lists a process and everything below it. A snapshot: it may be outdated when it returns.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::read(pid).ok()?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Reads one variable of a process's first environment. None when it is not there or may not be seen.
pub fn environment_variable(pid: u32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes.split(|byte| *byte == 0).find_map(|pair| {
        let value = std::str::from_utf8(pair).ok()?.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.to_owned())
    })
}

/// Tells whether a process sees the same file system as this one, as opposed to a container's.
pub fn shares_our_mounts(pid: u32) -> bool {
    let namespace = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("ns/mnt")).ok();
    namespace("self").is_some_and(|ours| namespace(&pid.to_string()) == Some(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_fields() {
        let line = b"7 (a) b (c)) S 3 7 7 0 -1 4194560 1 0 0 0 11 12 0 0 20 0 1 0 9999 1000 55 18446744073709551615 1";
        let stat = Stat::parse(line).expect("the line is whole");
        assert_eq!((stat.state, stat.parent, stat.user_ticks, stat.system_ticks), (b'S', 3, 11, 12));
        assert_eq!((stat.start_ticks, stat.rss_pages), (9999, 55));
    }

    #[test]
    fn a_reused_id_is_not_the_old_process() {
        let me = ProcessId::of(std::process::id()).expect("we run");
        assert!(me.is_alive());
        let former = ProcessId { start_ticks: me.start_ticks - 1, ..me };
        assert!(!former.is_alive());
        assert_eq!(former.signal(Signal::KILL).expect_err("it is gone").raw_os_error(), Some(3));
    }
}
