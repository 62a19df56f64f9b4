//! The user's terminal, while a command runs in a task.

use std::{
    io::{IsTerminal, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    stdio::{stdin, stdout},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use sdk::{
    ExecError, ExecInputHalf, ExecOutputHalf,
    types::{ExecBytes, ExecInput, ExecOutput, TerminalSize},
};
use tokio::sync::mpsc;

use crate::command::{Context, Failure, Outcome};

/// Pieces of input that wait to be sent; the reader waits when there are more.
const INPUT_PIECES_MAX: usize = 8;

/// Bytes of input that are read at once.
const INPUT_BYTES: usize = 4096;

/// How long the reader of standard input waits before it looks whether it is still needed.
const INPUT_POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Time between heartbeats: proxies drop connections that are silent for longer than some tens of seconds.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Tells whether both ends of the process are a terminal.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Puts the terminal back as it was.
struct Raw(Termios);

impl Raw {
    /// Makes the terminal pass every key on; `None` when there is no terminal.
    fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0); // the terminal may be gone
    }
}

/// What happens while a command runs.
enum Event {
    Output(Result<Option<ExecOutput>, ExecError>),
    Input(Option<Vec<u8>>),
    Resized,
    Heartbeat,
}

/// Passes the terminal on to a command in a task until it ends, and returns the command's exit code.
pub async fn attach(
    context: &Context,
    mut input: ExecInputHalf,
    mut output: ExecOutputHalf,
    tty: bool,
    stdin: bool,
) -> Outcome {
    let failed = |error: &ExecError| {
        let words = match error {
            ExecError::Closed { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        Failure::new(format!("failed to exec into task: {words}"))
    };
    let raw = if tty { Raw::enter() } else { None };
    let mut resizes = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()).ok();
    let closed = Arc::new(AtomicBool::new(false));
    let mut pieces = if stdin { Some(read_stdin(closed.clone())) } else { None };
    if tty {
        send_size(&mut input).await.map_err(|error| failed(&error))?;
    }
    if !stdin {
        close(&mut input).await.map_err(|error| failed(&error))?;
    }
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let ended = loop {
        let event = tokio::select! {
            output = output.next() => Event::Output(output),
            piece = next_piece(&mut pieces) => Event::Input(piece),
            () = next_resize(&mut resizes), if tty => Event::Resized,
            _ = heartbeat.tick() => Event::Heartbeat,
        };
        let step = match event {
            Event::Output(Ok(Some(frame))) => match show(context, &frame) {
                Some(code) => break Ok(code),
                None => Ok(()),
            },
            Event::Output(Ok(None)) => {
                break Err(Failure::new(
                    "failed to exec into task: the connection ended before the command did",
                ));
            }
            Event::Output(Err(error)) => break Err(failed(&error)),
            Event::Input(Some(data)) => {
                input.send(&ExecInput { stdin: Some(ExecBytes { close: false, data }), tty_size: None }).await
            }
            Event::Input(None) => {
                pieces = None;
                close(&mut input).await
            }
            Event::Resized => send_size(&mut input).await,
            Event::Heartbeat => input.send(&ExecInput::default()).await,
        };
        // The other side closes first when the command ends; its last words are still to be read.
        if step.is_err() {
            pieces = None;
        }
    };
    closed.store(true, Ordering::Relaxed);
    drop(raw);
    ended
}

/// Prints a piece of output; returns the exit code when there is one.
fn show(context: &Context, frame: &ExecOutput) -> Option<i32> {
    if let Some(bytes) = &frame.stdout {
        context.console.raw(&bytes.data);
    }
    if let Some(bytes) = &frame.stderr {
        context.console.raw_err(&bytes.data);
    }
    frame.exited.then(|| frame.result.as_ref().map_or(0, |result| result.exit_code))
}

async fn close(input: &mut ExecInputHalf) -> Result<(), ExecError> {
    input.send(&ExecInput { stdin: Some(ExecBytes { close: true, data: Vec::new() }), tty_size: None }).await
}

async fn send_size(input: &mut ExecInputHalf) -> Result<(), ExecError> {
    let Ok(size) = tcgetwinsize(stdout()) else { return Ok(()) };
    let size = TerminalSize { height: size.ws_row, width: size.ws_col };
    input.send(&ExecInput { stdin: None, tty_size: Some(size) }).await
}

async fn next_piece(pieces: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match pieces {
        Some(pieces) => pieces.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_resize(resizes: &mut Option<tokio::signal::unix::Signal>) {
    match resizes {
        Some(resizes) => {
            resizes.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Reads standard input on a thread of its own until it ends, or nobody needs it.
fn read_stdin(closed: Arc<AtomicBool>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut buffer = [0; INPUT_BYTES];
        while !closed.load(Ordering::Relaxed) {
            let source = stdin();
            let mut wait = [PollFd::new(&source, PollFlags::IN)];
            match poll(&mut wait, Some(&INPUT_POLL)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            match std::io::stdin().read(&mut buffer) {
                Ok(count) if count > 0 => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    });
    receiver
}
