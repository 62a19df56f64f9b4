//! The shim: the small process that owns a task.
//!
//! ```text
//! agent --spawn--> wayfarer-shim supervise --spawn--> wayfarer-shim launch --exec--> the task
//!   |                |  log pipes, exit code, kill timer
//!   +--ctl socket----+
//! ```
//!
//! The agent starts its own binary again under the name `wayfarer-shim`. The first stage, `supervise`, makes itself
//! session leader and the reaper of everything below it, then starts the second, `launch`, which joins control
//! groups and namespaces, becomes the task's user and executes the task's command. Whatever must happen between
//! fork and exec happens there, so that the large agent never forks. When the agent dies, the shim does not notice;
//! the next agent connects to its socket.
//!
//! The shim is single-threaded, knows no tokio, and holds next to no heap. It never restarts anything and decides
//! nothing: it is told. Times inside it are the machine's own, because it is no part of any simulation.
//!
//! A program that starts tasks calls [`main`] before anything else. The agent's side is [`crate::supervisor`].

mod launch;
mod logs;
mod supervise;
pub(crate) mod wire;

use std::{env, ffi::OsString, process};

pub use wire::{LaunchSpec, LaunchUser};

/// The name under which a process is a shim.
pub const SHIM_NAME: &str = "wayfarer-shim";

/// The exit code of a shim that was called with arguments it does not know.
const EXIT_USAGE: i32 = 64;

/// Becomes a shim and never returns when this process was started as one; otherwise returns at once. Must be the
/// first thing in `main`: what is initialised before costs memory beside every task.
pub fn main() {
    let mut args = env::args_os();
    if args.next().is_none_or(|name| name != SHIM_NAME) {
        return;
    }
    let stage = args.next().unwrap_or_default();
    let code = match stage.to_str() {
        Some("supervise") => supervise::main(&args.collect::<Vec<OsString>>()),
        Some("launch") => launch::main(launch::Stdio::Inherited, args.next().as_deref()),
        Some("exec") => launch::main(launch::Stdio::Received, None),
        _ => EXIT_USAGE,
    };
    process::exit(code);
}
