//! An agent: everything that `wayfarer agent` runs, wired together.

mod drivers;
mod endpoint;
mod feed;
mod gossip;
mod host;
mod identity;
mod joining;
mod keyring;
mod membership;
mod parts;
mod planes;
mod probe;
mod region;
mod start;
mod wide;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    time::Duration,
};

use runtime::{Env, Shutdown};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use start::{Agent, start};

use crate::{config, log};

/// Time that a dev agent's tasks have to stop when the agent does.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `wayfarer agent` and returns its exit code.
pub async fn run(args: Vec<String>) -> i32 {
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let flags = match config::parse_agent_args(&args, &vars) {
        Ok(flags) => flags,
        Err(config::UsageError::Help(text)) => {
            // Whoever reads only the first lines closes the pipe.
            let _ = writeln!(io::stdout(), "{text}");
            return 0;
        }
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let options = match config::load(&flags, &config::Machine::look()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let monitor = match log::start(&options.log_level, options.log_json, options.log_file.clone()) {
        Ok(monitor) => monitor,
        Err(error) => {
            eprintln!("Error opening the log file: {error}");
            return 1;
        }
    };
    println!("{}", banner(&options));
    let mut signals = Signals::listen();
    let leave = Leave { on_interrupt: options.leave_on_interrupt, on_terminate: options.leave_on_terminate };
    let shutdown = Shutdown::new();
    let env = Env::real(shutdown.clone());
    let agent = match start(&env, options, monitor).await {
        Ok(agent) => agent,
        Err(error) => {
            eprintln!("==> Error starting agent: {error:#}");
            return 1;
        }
    };
    println!("\n==> Wayfarer agent started! Log data will stream in below:\n");
    let end = wait_for_end(&agent, &mut signals, &shutdown).await;
    eprintln!("==> {end}; shutting down");
    agent.note_fault();
    let code = agent.exit_code();
    let leaves = match end {
        End::Interrupt => leave.on_interrupt,
        End::Terminate => leave.on_terminate,
        End::Fault(_) | End::Stopping => false,
    };
    let ending = async {
        if leaves {
            eprintln!("==> Gracefully shutting down agent...");
            agent.leave().await;
        }
        agent.stop(STOP_TIMEOUT).await;
    };
    let second = async {
        signals.next().await;
        eprintln!("==> Caught a second signal; exiting at once");
    };
    tokio::select! {
        () = ending => code,
        () = second => 1,
    }
}

/// Which signals make an agent leave its region.
struct Leave {
    on_interrupt: bool,
    on_terminate: bool,
}

/// Why an agent ends.
enum End {
    Interrupt,
    Terminate,
    Fault(String),
    Stopping,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interrupt => f.write_str("Caught signal: interrupt"),
            Self::Terminate => f.write_str("Caught signal: terminated"),
            Self::Fault(fault) => write!(f, "Agent can not go on: {fault}"),
            Self::Stopping => f.write_str("Agent is stopping"),
        }
    }
}

/// Waits for a signal that ends the agent or for a part that can not go on. On SIGHUP, what can be read again is.
async fn wait_for_end(agent: &Agent, signals: &mut Signals, shutdown: &Shutdown) -> End {
    let fault = agent.fault();
    tokio::pin!(fault);
    loop {
        tokio::select! {
            caught = signals.caught() => match caught {
                Caught::Interrupt => return End::Interrupt,
                Caught::Terminate => return End::Terminate,
                Caught::Hangup => reload(agent),
            },
            fault = &mut fault => return End::Fault(fault),
            () = shutdown.wait() => return End::Stopping,
        }
    }
}

fn reload(agent: &Agent) {
    eprintln!("==> Caught signal: hangup");
    eprintln!("==> Reloading agent configuration...");
    match agent.reload() {
        Ok(()) => tracing::info!(
            "certificates of the tls block are read again; other settings are at the next start"
        ),
        Err(error) => {
            tracing::error!(error, "the configuration can not be reloaded; what was in use stays so")
        }
    }
}

/// A signal that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caught {
    Interrupt,
    Terminate,
    Hangup,
}

/// The signals that an agent heeds. Listens from the moment it is made: one that comes while the agent starts counts too.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// When the system does not let a process handle its signals.
    pub fn listen() -> Self {
        let listen = |kind| signal(kind).expect("the system lets a process handle its signals");
        Self {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// Waits for a signal.
    async fn caught(&mut self) -> Caught {
        tokio::select! {
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.hangup.recv() => Caught::Hangup,
        }
    }

    /// Waits for a signal that ends the agent.
    pub async fn next(&mut self) -> &'static str {
        loop {
            match self.caught().await {
                Caught::Interrupt => return "interrupt",
                Caught::Terminate => return "terminated",
                Caught::Hangup => {}
            }
        }
    }
}

fn banner(options: &config::Options) -> String {
    let mut lines = Vec::new();
    for warning in &options.warnings {
        lines.push(format!("==> WARNING: {warning}"));
    }
    lines.push(match options.files.as_slice() {
        [] => "==> No configuration files loaded".to_owned(),
        files => {
            let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            format!("==> Loaded configuration from {}", names.join(", "))
        }
    });
    lines.push("==> Starting Wayfarer agent...".to_owned());
    lines.push("==> Wayfarer agent configuration:\n".to_owned());
    let yes = |is: bool| is.to_string();
    let advertise = &options.advertise;
    let bind: Vec<String> = options.http.iter().map(ToString::to_string).collect();
    for (name, value) in [
        (
            "Advertise Addrs",
            format!("HTTP: {}; RPC: {}; Serf: {}", advertise.http, advertise.rpc, advertise.serf),
        ),
        ("Bind Addrs", format!("HTTP: [{}]; RPC: {}; Serf: {}", bind.join(" "), options.rpc, options.serf)),
        ("Client", yes(options.client.is_some())),
        ("Log Level", options.log_level.to_uppercase()),
        ("Region", format!("{} (DC: {})", options.region, options.datacenter)),
        ("Server", yes(options.server.is_some())),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ] {
        lines.push(format!("{name:>20}: {value}"));
    }
    lines.join("\n")
}
