//! Commands that run beside a task: a stage of the shim again, but a child of the agent, because it shall not
//! outlive the conversation.

use std::{
    collections::BTreeMap,
    fs, io,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal, kill_process_group},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::Child,
    sync::mpsc,
};

use super::{LAUNCH_ANSWER_MAX, LAUNCH_TIMEOUT, LaunchError, Record, Supervised, Supervisor};
use crate::{
    ExecInput, ExecOutput, ExecRequest, ExecStreams, ExitResult, TermSize,
    shim::wire::{LaunchSpec, SPEC_NAME},
};

/// Bytes read from a command at one time.
const READ_MAX: usize = 16 * 1024;

/// How long output is awaited after a command has ended. Only what it started can still hold its output open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The end of input, as typed on a terminal.
const END_OF_INPUT: &[u8] = &[4];

/// The search path for a command where its environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Supervisor {
    /// Runs a command with the task's user, directory, environment, groups and network. Dropping the future kills
    /// it and what it started in its session.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub async fn exec(
        &self,
        task: &Supervised,
        request: &ExecRequest,
        streams: ExecStreams,
    ) -> Result<ExitResult, LaunchError> {
        let spec = exec_spec(task, request);
        let stdio = if request.tty { Stdios::terminal(request.size) } else { Stdios::pipes() };
        let (ours, theirs) = stdio.map_err(LaunchError::Spawn)?;
        let (socket, end) = std::os::unix::net::UnixStream::pair().map_err(LaunchError::Spawn)?;
        let mut command = self.shim_command("exec");
        command.env("WAYFARER_ALLOC_ID", task.parts().0.alloc_id());
        command.stdin(Stdio::from(OwnedFd::from(end))).kill_on_drop(true);
        let child = command.spawn().map_err(LaunchError::Spawn)?;
        // The command keeps the shim's end of the socket, which must close for the answer to end.
        drop(command);
        let mut running = Running { group: child.id(), child };
        send_stdio(&socket, &theirs).map_err(LaunchError::Spawn)?;
        drop(theirs);
        let converse = announce(socket, &spec);
        let told = tokio::time::timeout(LAUNCH_TIMEOUT, converse).await;
        told.unwrap_or(Err(LaunchError::Timeout(LAUNCH_TIMEOUT)))?;
        let status = ours.carry(&mut running, streams).await.map_err(LaunchError::Spawn)?;
        Ok(match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(signal) => ExitResult::signaled(signal),
            None => ExitResult::exited(status.code().unwrap_or_default()),
        })
    }
}

/// A command that is killed with its whole session unless it has been reaped.
struct Running {
    child: Child,
    group: Option<u32>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Until the child is reaped its id, which is also its group's, can be nobody else's.
        let unreaped = self.child.id().is_some();
        let group = self.group.filter(|_| unreaped).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // Ended by itself in the meantime, perhaps.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn exec_spec(task: &Supervised, request: &ExecRequest) -> LaunchSpec {
    let (_, record, _) = task.parts();
    let env = environment(record);
    let program = request.command.first().cloned().unwrap_or_default();
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    LaunchSpec {
        program: search(&program, path),
        args: request.command.iter().skip(1).cloned().collect(),
        cwd: record.cwd.clone(),
        user: record.user.clone(),
        join: record.join.clone(),
        network_namespace: record.network_namespace.clone(),
        oom_score_adj: record.oom_score_adj,
        no_new_privileges: false,
        terminal: request.tty,
        env,
    }
}

/// Reads the environment that a task was launched with from its shim's memory; from the task's own process, which may
/// have changed it, where that fails.
fn environment(record: &Record) -> BTreeMap<String, String> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", record.shim.pid)).into_iter().flatten().flatten();
    let is_spec =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains(SPEC_NAME));
    let kept = descriptors.map(|entry| entry.path()).find(is_spec).and_then(|path| fs::read(path).ok());
    if let Some(spec) = kept.and_then(|bytes| serde_json::from_slice::<LaunchSpec>(&bytes).ok()) {
        return spec.env;
    }
    let environ = fs::read(format!("/proc/{}/environ", record.task.pid)).unwrap_or_default();
    let pairs =
        environ.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Finds a command as a shell does. What is not found is left as it is, for the kernel to refuse.
fn search(program: &str, path: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let found = path.split(':').map(|dir| PathBuf::from(dir).join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| program.into())
}

/// Sends three descriptors with a single byte.
fn send_stdio(socket: &std::os::unix::net::UnixStream, stdio: &[OwnedFd; 3]) -> io::Result<()> {
    let descriptors = stdio.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(b"F")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

async fn announce(socket: std::os::unix::net::UnixStream, spec: &LaunchSpec) -> Result<(), LaunchError> {
    let spec = serde_json::to_vec(spec).expect("a specification is plain data");
    let adopt = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(socket));
    let mut socket = adopt.map_err(LaunchError::Spawn)?;
    let mut answer = String::new();
    // A stage that fails early closes before it has read all; its answer says more than our error.
    let sent = socket.write_all(&spec).await;
    let closed = socket.shutdown().await;
    let read = socket.take(LAUNCH_ANSWER_MAX).read_to_string(&mut answer).await;
    if let Some(failure) = answer.strip_prefix("E ") {
        let (errno, step) = failure.trim().split_once(' ').unwrap_or(("0", failure));
        return Err(LaunchError::Step { step: step.to_owned(), errno: errno.parse().unwrap_or_default() });
    }
    sent.and(closed).and(read.map(drop)).map_err(LaunchError::Spawn)
}

/// The agent's ends of a command's input and output.
enum Stdios {
    Pipes { input: Option<pipe::Sender>, output: pipe::Receiver, error: pipe::Receiver },
    Terminal { input: pipe::Sender, output: pipe::Receiver },
}

impl Stdios {
    fn pipes() -> io::Result<(Self, [OwnedFd; 3])> {
        let (input, their_input) = pipe::pipe()?;
        let (their_output, output) = pipe::pipe()?;
        let (their_error, error) = pipe::pipe()?;
        let theirs = [
            their_input.into_blocking_fd()?,
            their_output.into_blocking_fd()?,
            their_error.into_blocking_fd()?,
        ];
        Ok((Self::Pipes { input: Some(input), output, error }, theirs))
    }

    fn terminal(size: Option<TermSize>) -> io::Result<(Self, [OwnedFd; 3])> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        if let Some(size) = size {
            resize(ours.as_fd(), size)?;
        }
        rustix::io::ioctl_fionbio(&ours, true)?;
        let three = [theirs.try_clone()?, theirs.try_clone()?, theirs];
        // Not pipes, but descriptors that can be awaited like them, one for each direction.
        let output = pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?;
        let input = pipe::Sender::from_owned_fd_unchecked(ours)?;
        Ok((Self::Terminal { input, output }, three))
    }

    /// Carries bytes both ways until the command has ended and its output is passed on.
    async fn carry(
        self,
        running: &mut Running,
        streams: ExecStreams,
    ) -> io::Result<std::process::ExitStatus> {
        let ExecStreams { mut input, output } = streams;
        match self {
            Self::Pipes { input: mut sink, output: mut out, error: mut err } => {
                let outputs = async {
                    tokio::try_join!(
                        copy_pipe(&mut out, &output, ExecOutput::Stdout),
                        copy_pipe(&mut err, &output, ExecOutput::Stderr)
                    )
                    .map(drop)
                };
                let inputs = feed_pipe(&mut input, &mut sink);
                until_done(running, inputs, outputs).await
            }
            Self::Terminal { input: mut sink, output: mut out } => {
                // A terminal that nobody has open any more answers with an error, which ends the copying too.
                let outputs = copy_pipe(&mut out, &output, ExecOutput::Stdout);
                let inputs = feed_terminal(&mut input, &mut sink);
                until_done(running, inputs, outputs).await
            }
        }
    }
}

/// Whoever listened to the output is gone.
struct Unheard;

async fn until_done(
    running: &mut Running,
    inputs: impl Future<Output = ()>,
    outputs: impl Future<Output = Result<(), Unheard>>,
) -> io::Result<std::process::ExitStatus> {
    tokio::pin!(inputs, outputs);
    let (mut fed, mut passed_on) = (false, false);
    let status = loop {
        tokio::select! {
            status = running.child.wait() => break status?,
            () = &mut inputs, if !fed => fed = true,
            heard = &mut outputs, if !passed_on => {
                passed_on = true;
                if heard.is_err() {
                    running.child.start_kill()?;
                }
            }
        }
    };
    if !passed_on {
        // What comes later is lost, like the output of a process that was left behind.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, outputs).await;
    }
    Ok(status)
}

async fn copy_pipe(
    from: &mut pipe::Receiver,
    to: &mpsc::Sender<ExecOutput>,
    wrap: fn(Bytes) -> ExecOutput,
) -> Result<(), Unheard> {
    let mut buffer = vec![0; READ_MAX];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => to.send(wrap(Bytes::copy_from_slice(&buffer[..n]))).await.map_err(|_| Unheard)?,
        }
    }
}

async fn feed_pipe(from: &mut mpsc::Receiver<ExecInput>, to: &mut Option<pipe::Sender>) {
    while let Some(input) = from.recv().await {
        match (input, to.as_mut()) {
            (ExecInput::Stdin(bytes), Some(pipe)) => {
                if pipe.write_all(&bytes).await.is_err() {
                    // The command does not read any more; what is sent to it is dropped.
                    *to = None;
                }
            }
            (ExecInput::CloseStdin, _) => *to = None,
            (ExecInput::Stdin(_), None) | (ExecInput::Resize(_), _) => {}
        }
    }
    *to = None;
}

async fn feed_terminal(from: &mut mpsc::Receiver<ExecInput>, to: &mut pipe::Sender) {
    let mut closed = false;
    while let Some(input) = from.recv().await {
        let written = match input {
            ExecInput::Stdin(bytes) => to.write_all(&bytes).await,
            ExecInput::CloseStdin => {
                closed = true;
                to.write_all(END_OF_INPUT).await
            }
            ExecInput::Resize(size) => resize(to.as_fd(), size),
        };
        if written.is_err() {
            return;
        }
    }
    if !closed {
        // The command may be gone already.
        let _ = to.write_all(END_OF_INPUT).await;
    }
}

fn resize(terminal: BorrowedFd<'_>, size: TermSize) -> io::Result<()> {
    Ok(tcsetwinsize(
        terminal,
        Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 },
    )?)
}
