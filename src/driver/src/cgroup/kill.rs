use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use rustix::process::{Pid, Signal, kill_process};

/// A control group as a means to kill everything in it. Travels to the shim on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillGroup {
    /// A directory of the freezer of version 1.
    V1(PathBuf),
    /// A directory of version 2.
    V2(PathBuf),
}

impl KillGroup {
    /// Writes it as an argument.
    pub fn to_arg(&self) -> OsString {
        let (mark, dir) = match self {
            Self::V1(dir) => (b"1:", dir),
            Self::V2(dir) => (b"2:", dir),
        };
        OsString::from_vec([mark.as_slice(), dir.as_os_str().as_bytes()].concat())
    }

    /// Reads what `to_arg` wrote.
    pub fn parse(arg: &OsStr) -> Option<Self> {
        let bytes = arg.as_bytes();
        let dir = PathBuf::from(OsStr::from_bytes(bytes.get(2..)?));
        match bytes.get(..2)? {
            b"1:" => Some(Self::V1(dir)),
            b"2:" => Some(Self::V2(dir)),
            _ => None,
        }
    }

    /// Lists the processes in it and in the groups below it.
    pub fn pids(&self) -> Vec<u32> {
        let (Self::V1(dir) | Self::V2(dir)) = self;
        let mut pids = Vec::new();
        let mut dirs = vec![dir.clone()];
        while let Some(dir) = dirs.pop() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        pids
    }

    /// Kills everything in it; returns how many processes it found. Nothing in a group that is gone.
    pub fn kill_all(&self) -> usize {
        let found = self.pids();
        if found.is_empty() {
            return 0;
        }
        match self {
            // A kernel before 5.14 has no such file; then each is killed by its id below.
            Self::V2(dir) if fs::write(dir.join("cgroup.kill"), "1").is_ok() => {}
            Self::V2(_) => kill_each(&found),
            Self::V1(dir) => {
                // Frozen, they can neither fork nor free an id for somebody else.
                let state = dir.join("freezer.state");
                let frozen = fs::write(&state, "FROZEN").is_ok();
                kill_each(&self.pids());
                if frozen {
                    // A group that stays frozen never dies; it can only refuse when it is already gone.
                    let _ = fs::write(&state, "THAWED");
                }
            }
        }
        found.len()
    }
}

fn kill_each(pids: &[u32]) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
