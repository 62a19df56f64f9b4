//! The second stage: becomes the task.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::{
    sys::signal::SigSet,
    unistd::{Gid, Uid, setgid, setgroups, setuid},
};
use rustix::{
    io::fcntl_dupfd_cloexec,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    thread::{LinkNameSpaceType, move_into_link_name_space, set_no_new_privs},
};

use super::wire::LaunchSpec;

/// The exit code of a launch that failed, as shells have it for a command that cannot be run.
const EXIT_FAILED: i32 = 126;

/// The lowest number for descriptors that are kept until the command is executed.
const KEPT_FD_MIN: i32 = 3;

/// Where standard input, output and error come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdio {
    /// Output and error are set already; input is nothing.
    Inherited,
    /// All three come over the socket, ahead of the specification.
    Received,
}

/// Reads what to become from the socket that is standard input, and becomes it. On failure the agent reads what
/// failed from the same socket; on success the kernel closes it.
///
/// `keep` is the shim's descriptor of the memory that keeps the specification.
pub(super) fn main(stdio: Stdio, keep: Option<&OsStr>) -> i32 {
    let Ok(socket) = fcntl_dupfd_cloexec(rustix::stdio::stdin(), KEPT_FD_MIN) else {
        return EXIT_FAILED;
    };
    let mut socket = File::from(socket);
    let Err(failure) = become_task(&mut socket, stdio, keep);
    // When the agent is gone there is nobody to tell; the exit code is still recorded.
    let _ = writeln!(socket, "E {} {}", failure.errno, failure.step);
    EXIT_FAILED
}

/// What failed between fork and exec.
struct Failure {
    step: &'static str,
    errno: i32,
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, errno: error.into().raw_os_error().unwrap_or_default() })
    }
}

fn become_task(
    socket: &mut File,
    stdio: Stdio,
    keep: Option<&OsStr>,
) -> Result<std::convert::Infallible, Failure> {
    SigSet::empty().thread_set_mask().step("signals")?;
    // A command run by exec leads no session yet; the task's stage inherited the shim's and leaves it here.
    rustix::process::setsid().step("session")?;
    match stdio {
        Stdio::Inherited => {
            let nothing = File::open("/dev/null").step("stdio")?;
            rustix::stdio::dup2_stdin(&nothing).step("stdio")?;
        }
        Stdio::Received => {
            let [input, output, error] = receive_stdio(socket).step("stdio")?;
            rustix::stdio::dup2_stdin(&input).step("stdio")?;
            rustix::stdio::dup2_stdout(&output).step("stdio")?;
            rustix::stdio::dup2_stderr(&error).step("stdio")?;
        }
    }
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).step("specification")?;
    let spec: LaunchSpec = serde_json::from_slice(&bytes).map_err(io::Error::from).step("specification")?;
    if let Some(descriptor) = keep {
        // It is not inherited, or the task would have it too; the shim's own is opened again.
        let shim = Path::new("/proc").join(std::os::unix::process::parent_id().to_string()).join("fd");
        fs::write(shim.join(descriptor), &bytes).step("specification")?;
    }
    if spec.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).step("terminal")?;
    }
    if let Some(path) = &spec.network_namespace {
        let namespace = File::open(path).step("network namespace")?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .step("network namespace")?;
    }
    set_oom_score(spec.oom_score_adj).step("oom_score_adj")?;
    // The group that weighs the processor comes first in the list and is joined last: on a busy machine a light task
    // would wait for its turn before each of the other steps.
    for procs in spec.join.iter().rev() {
        join_group(procs).step("cgroup")?;
    }
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    if let Some(user) = &spec.user {
        let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).step("user")?;
        setgid(Gid::from_raw(user.gid)).step("user")?;
        setuid(Uid::from_raw(user.uid)).step("user")?;
    }
    // The directory is entered as the task's user: it must be one that this user may see.
    std::env::set_current_dir(&spec.cwd).step("directory")?;
    if spec.no_new_privileges {
        set_no_new_privs(true).step("no_new_privs")?;
    }
    let refused = Command::new(&spec.program).args(&spec.args).env_clear().envs(&spec.env).exec();
    Err(refused).step("exec")
}

/// Moves this process, which has one thread, into the group that a `cgroup.procs` file belongs to.
///
/// A thread that moves itself alone does not make every fork on the machine wait, nor wait for all of them itself: ten
/// milliseconds and more. Version 1 of control groups has a file for that, version 2 has it for groups of threads only.
fn join_group(procs: &Path) -> io::Result<()> {
    let write = |path: &Path| OpenOptions::new().write(true).open(path)?.write_all(b"0");
    write(&procs.with_file_name("tasks")).or_else(|_| write(procs))
}

/// The shim keeps itself alive when memory is short; its task must not inherit that.
fn set_oom_score(score: i32) -> io::Result<()> {
    let path = "/proc/self/oom_score_adj";
    if fs::read_to_string(path)?.trim().parse() == Ok(score) {
        return Ok(());
    }
    fs::write(path, score.to_string())
}

/// Takes three descriptors from the socket, sent with a single byte.
fn receive_stdio(socket: &File) -> io::Result<[OwnedFd; 3]> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    received.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}
