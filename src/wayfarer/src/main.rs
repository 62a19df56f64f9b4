//! Agent configuration and the main binary: the only place that wires everything together.
//!
//! One binary is every part: the agent, the commands, and the small process beside each task. Which one it is this time
//! is decided here and nowhere else. Read [`agent::run`] for what an agent is made of.

mod agent;
mod config;
mod dev;
mod log;

use std::process::ExitCode;

/// Threads that the agent may use for blocking work: directories, snapshots, templates. More would fight for the disk.
const BLOCKING_THREADS_MAX: usize = 16;

/// Threads of an agent, where it has fewer processors. With as many as two processors have, a leader's
/// signs of life wait behind thousands of rows; with these one is mostly free for them.
const THREADS_MIN: usize = 6;

fn main() -> ExitCode {
    // A shim must not pay for anything that an agent needs, so this comes before all else.
    driver::shim::main();
    let args: Vec<String> = std::env::args().collect();
    let command = args.iter().skip(1).find(|arg| !arg.starts_with('-')).map(String::as_str);
    let rest =
        || args.iter().skip_while(|arg| Some(arg.as_str()) != command).skip(1).cloned().collect::<Vec<_>>();
    let code = match command {
        Some("agent") => on_all_cores(agent::run(rest())),
        Some("bench") => on_all_cores(bench::run(rest())),
        Some("dev") => on_all_cores(dev::run(rest())),
        Some("config") if args.get(2).is_some_and(|arg| arg == "validate") => config::validate(&args[3..]),
        _ => on_one_core(cli::run(args)),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// Runs an agent.
fn on_all_cores(agent: impl Future<Output = i32>) -> i32 {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    builder.worker_threads(processors.max(THREADS_MIN)).max_blocking_threads(BLOCKING_THREADS_MAX);
    finish(builder, agent)
}

/// Runs a command: it waits for one answer at a time.
fn on_one_core(command: impl Future<Output = i32>) -> i32 {
    finish(tokio::runtime::Builder::new_current_thread(), command)
}

fn finish(mut builder: tokio::runtime::Builder, work: impl Future<Output = i32>) -> i32 {
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // What is left are readers that nobody waits for, e.g. of standard input.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("could not start: {error}");
            1
        }
    }
}
