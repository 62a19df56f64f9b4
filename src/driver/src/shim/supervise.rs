//! The first stage: owns the task until it has ended.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::OsStringExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::{
    signal::{SigSet, Signal as NixSignal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait},
};

use super::{
    SHIM_NAME,
    logs::{Rotated, Taken},
    wire::{EXIT_FILE, Exit, REQUEST_LEN, Reply, Request, SHIM_FILE, SOCKET_FILE, SPEC_NAME},
};
use crate::{cgroup::KillGroup, process::ProcessId};

/// Connections at one time. The agent keeps one and opens another for each request; more than this wait in the
/// listener's queue.
const CONNECTIONS_MAX: usize = 8;

/// Chunks taken from a log pipe before the loop looks at anything else, so that a task that prints without end
/// cannot keep its shim from hearing a stop.
const CHUNKS_A_TURN: usize = 16;

/// How often what is left of a task is killed and looked for after its main process has ended.
const SWEEP_PERIOD: Duration = Duration::from_millis(5);

/// How long a shim cares for what is left of an ended task. A process that survives a kill this long hangs in the
/// kernel; its control group stays for the agent's sweep.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How ready the kernel is to end a shim: hardly, because it holds almost nothing and a task depends on it.
const SHIM_OOM_SCORE: &str = "-900";

/// The exit code of a shim that could not set itself up.
const EXIT_SETUP: i32 = 70;

/// What the agent says on the command line.
struct Args {
    state_dir: PathBuf,
    /// The path of the log files up to the stream's name; none when output is thrown away.
    log_prefix: Option<Vec<u8>>,
    first_index: [u32; 2],
    max_files: u32,
    max_bytes: u64,
    groups: Vec<KillGroup>,
}

impl Args {
    fn parse(args: &[OsString]) -> Option<Self> {
        let number = |n: usize| args.get(n)?.to_str()?.parse::<u64>().ok();
        let index = |n: usize| u32::try_from(number(n)?).ok();
        let prefix = args.get(1)?.clone().into_vec();
        Some(Self {
            state_dir: args.first()?.into(),
            log_prefix: (!prefix.is_empty()).then_some(prefix),
            first_index: [index(2)?, index(3)?],
            max_files: index(4)?,
            max_bytes: number(5)?,
            groups: args.iter().skip(6).filter_map(|arg| KillGroup::parse(arg)).collect(),
        })
    }
}

/// Starts the task and stays until it has ended.
pub(super) fn main(args: &[OsString]) -> i32 {
    let args = Args::parse(args).ok_or(("shim's arguments", 0));
    match args.and_then(Supervisor::start) {
        Ok(mut supervisor) => {
            supervisor.run();
            0
        }
        Err((step, errno)) => {
            // Standard input is still the agent's socket. Without an agent there is nobody to tell.
            let _ = rustix::io::write(rustix::stdio::stdin(), format!("E {errno} {step}\n").as_bytes());
            EXIT_SETUP
        }
    }
}

struct Stream {
    pipe: OwnedFd,
    file: Rotated,
}

struct Supervisor {
    task: Pid,
    /// Keeps what the task was launched as in memory that only a descriptor holds, for commands beside it.
    _spec: OwnedFd,
    groups: Vec<KillGroup>,
    signals: SignalFd,
    listener: UnixListener,
    connections: Vec<UnixStream>,
    streams: [Option<Stream>; 2],
    /// When everything is killed, because the task was told to stop.
    kill_at: Option<Instant>,
    /// Set once the main process has ended.
    ended: Option<Ended>,
}

struct Ended {
    exit: Exit,
    give_up_at: Instant,
}

type SetupError = (&'static str, i32);

fn at<E: Into<std::io::Error>>(step: &'static str) -> impl FnOnce(E) -> SetupError {
    move |error| (step, error.into().raw_os_error().unwrap_or_default())
}

impl Supervisor {
    fn start(args: Args) -> Result<Self, SetupError> {
        // A name for people who look at a process list; a shim without it works as well.
        let _ = rustix::thread::set_name(c"wayfarer-shim");
        std::env::set_current_dir(&args.state_dir).map_err(at("state directory"))?;
        rustix::process::setsid().map_err(at("session"))?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(at("subreaper"))?;
        // Only root may lower it; an unprivileged shim is as exposed as its agent.
        let _ = fs::write("/proc/self/oom_score_adj", SHIM_OOM_SCORE);
        let signals = block_signals().map_err(at("signals"))?;
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let listener = UnixListener::bind(SOCKET_FILE).map_err(at("control socket"))?;
        listener.set_nonblocking(true).map_err(at("control socket"))?;
        rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
        let spec =
            memfd_create(SPEC_NAME, MemfdFlags::CLOEXEC).map_err(at("memory for the specification"))?;
        let (streams, task) = spawn(&args, &spec)?;
        let supervisor = Self {
            task,
            _spec: spec,
            groups: args.groups,
            signals,
            listener,
            connections: Vec::new(),
            streams,
            kill_at: None,
            ended: None,
        };
        supervisor.introduce()?;
        Ok(supervisor)
    }

    /// Writes down who supervises whom, tells the agent, and lets go of its socket.
    fn introduce(&self) -> Result<(), SetupError> {
        let own = ProcessId::of(std::process::id()).map_err(at("own process"))?;
        let task =
            ProcessId::of(self.task.as_raw_nonzero().get().unsigned_abs()).map_err(at("task's process"))?;
        let line = format!("P {} {} {} {}\n", own.pid, own.start_ticks, task.pid, task.start_ticks);
        replace_file(SHIM_FILE, line.as_bytes()).map_err(at("record"))?;
        // An agent that died in between reads the record instead.
        let _ = rustix::io::write(rustix::stdio::stdin(), line.as_bytes());
        let nothing = File::open("/dev/null").map_err(at("stdio"))?;
        rustix::stdio::dup2_stdin(&nothing).map_err(at("stdio"))
    }

    fn run(&mut self) {
        loop {
            self.wait_for_something();
            self.reap();
            self.move_logs();
            self.serve();
            if self.kill_at.is_some_and(|at| now() >= at) {
                self.kill_at = None;
                self.kill_everything();
            }
            if let Some(ended) = &self.ended {
                let (exit, give_up) = (ended.exit, now() >= ended.give_up_at);
                let left = self.kill_everything();
                let drained = self.streams.iter().all(Option::is_none);
                if give_up || (left == 0 && drained) {
                    return self.finish(exit);
                }
            }
        }
    }

    fn wait_for_something(&self) {
        let mut watched = Vec::with_capacity(4 + CONNECTIONS_MAX);
        watched.push(PollFd::new(&self.signals, PollFlags::IN));
        if self.connections.len() < CONNECTIONS_MAX {
            watched.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        watched.extend(self.streams.iter().flatten().map(|stream| PollFd::new(&stream.pipe, PollFlags::IN)));
        watched.extend(self.connections.iter().map(|stream| PollFd::new(stream, PollFlags::IN)));
        let timeout = if self.ended.is_some() {
            Some(SWEEP_PERIOD)
        } else {
            self.kill_at.map(|at| at.saturating_duration_since(now()))
        };
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        // An interrupted or failed wait is one turn of the loop that finds nothing to do.
        let _ = poll(&mut watched, timeout.as_ref());
    }

    /// Collects every process that has ended: the task, and whatever it left behind, which the kernel gave to us.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.task && self.ended.is_none() {
                self.ended = Some(Ended { exit: exit_of(status), give_up_at: now() + SWEEP_TIMEOUT });
                self.kill_at = None;
            }
        }
    }

    fn move_logs(&mut self) {
        for slot in &mut self.streams {
            let Some(stream) = slot else { continue };
            for _ in 0..CHUNKS_A_TURN {
                match stream.file.take(stream.pipe.as_fd()) {
                    Taken::Some => {}
                    Taken::Nothing => break,
                    Taken::End => {
                        *slot = None;
                        break;
                    }
                }
            }
        }
    }

    fn serve(&mut self) {
        while self.connections.len() < CONNECTIONS_MAX {
            let Ok((connection, _)) = self.listener.accept() else { break };
            if connection.set_nonblocking(true).is_ok() {
                self.connections.push(connection);
            }
        }
        let mut n = 0;
        while n < self.connections.len() {
            let mut request = [0; REQUEST_LEN];
            let reply = match self.connections[n].read(&mut request) {
                Ok(REQUEST_LEN) => Request::decode(request).map(|request| self.answer(request)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    n += 1;
                    continue;
                }
                // Requests are written whole. Half of one, or none, is the end of the connection.
                _ => None,
            };
            let sent = reply.is_some_and(|reply| self.connections[n].write_all(&reply.encode()).is_ok());
            if sent {
                n += 1;
            } else {
                self.connections.swap_remove(n);
            }
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Ping => Reply::Ok,
            Request::Signal(signal) => self.signal_task(signal),
            Request::Stop { signal, timeout_ms } => {
                let deadline = now() + Duration::from_millis(timeout_ms.into());
                // A second stop may shorten the first, never lengthen it.
                self.kill_at = Some(self.kill_at.map_or(deadline, |earlier| earlier.min(deadline)));
                self.signal_task(signal)
            }
            Request::Kill => {
                self.kill_everything();
                Reply::Ok
            }
        }
    }

    fn signal_task(&self, signal: u8) -> Reply {
        // Until it is reaped here, no other process can have its id.
        if self.ended.is_some() {
            return Reply::Errno(Errno::SRCH.raw_os_error());
        }
        let Some(signal) = Signal::from_named_raw(signal.into()) else {
            return Reply::Errno(Errno::INVAL.raw_os_error());
        };
        match kill_process(self.task, signal) {
            Ok(()) => Reply::Ok,
            Err(errno) => Reply::Errno(errno.raw_os_error()),
        }
    }

    /// Kills the task and all below it; returns how many it still found. What escapes one round by forking has this
    /// process as its parent in the next.
    fn kill_everything(&self) -> usize {
        let mut found = 0;
        for group in &self.groups {
            found += group.kill_all();
        }
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            found += 1;
            // A child of ours is not reaped before the next turn, so that this is still the same process.
            let _ = kill_process(pid, Signal::KILL);
        }
        found
    }

    /// Records the exit and tells whoever listens.
    fn finish(&mut self, exit: Exit) {
        let file = replace_file(EXIT_FILE, exit.to_line().as_bytes());
        let message = Reply::Exited(exit).encode();
        while let Ok((connection, _)) = self.listener.accept() {
            self.connections.push(connection);
        }
        let told =
            self.connections.iter_mut().filter_map(|connection| connection.write_all(&message).ok()).count();
        // The file outlives an agent that dies. Syncing it is for a machine that does, which is the agent's to see
        // to once it was told, and ours while there is none.
        if let (0, Ok(file)) = (told, file) {
            let _ = file.sync_all();
        }
        // Without a socket a later agent goes straight to the file.
        let _ = fs::remove_file(SOCKET_FILE);
    }
}

/// Starts the second stage with its output in pipes, and opens the log files.
fn spawn(args: &Args, spec: &OwnedFd) -> Result<([Option<Stream>; 2], Pid), SetupError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(SHIM_NAME).arg("launch").arg(spec.as_raw_fd().to_string());
    command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    let mut streams = [None, None];
    if let Some(prefix) = &args.log_prefix {
        for (n, name) in [".stdout", ".stderr"].into_iter().enumerate() {
            let (pipe, end) = pipe_with(PipeFlags::CLOEXEC).map_err(at("log pipe"))?;
            rustix::io::ioctl_fionbio(&pipe, true).map_err(at("log pipe"))?;
            if n == 0 {
                command.stdout(end)
            } else {
                command.stderr(end)
            };
            let path = [prefix.as_slice(), name.as_bytes()].concat();
            let file = Rotated::open(path, args.first_index[n], args.max_bytes, args.max_files);
            streams[n] = Some(Stream { pipe, file });
        }
    }
    let child = command.spawn().map_err(at("spawn"))?;
    let task = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(("spawn", 0))?;
    Ok((streams, task))
}

/// Takes child signals by descriptor, and keeps the signals away with which people stop an agent: whoever stops a
/// task says so on the socket.
fn block_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [NixSignal::SIGCHLD, NixSignal::SIGTERM, NixSignal::SIGINT, NixSignal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn exit_of(status: WaitStatus) -> Exit {
    let at = wall();
    match status.terminating_signal() {
        Some(signal) => Exit { code: 0, signal, at },
        None => Exit { code: status.exit_status().unwrap_or_default(), signal: 0, at },
    }
}

/// Replaces a file in the state directory in one step, so that a reader sees the old one or the whole new one.
fn replace_file(name: &str, content: &[u8]) -> std::io::Result<File> {
    let draft = format!("{name}.new");
    let mut file = File::create(&draft)?;
    file.write_all(content)?;
    fs::rename(&draft, name)?;
    Ok(file)
}

// The shim is a process of its own and never part of a simulation, so that these are its own doors to time.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
