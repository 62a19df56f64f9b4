//! An agent: everything that `wayfarer agent` runs, wired together.

mod drivers;
mod host;
mod identity;
mod start;

use std::{collections::BTreeMap, time::Duration};

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
    let why = wait_for_end(&agent, &mut signals, &shutdown).await;
    eprintln!("==> {why}; shutting down");
    let code = agent.exit_code();
    let second = async {
        signals.next().await;
        eprintln!("==> Caught a second signal; exiting at once");
    };
    tokio::select! {
        () = agent.stop(STOP_TIMEOUT) => code,
        () = second => 1,
    }
}

/// Waits for a signal or for a part that can not go on, and says which it was.
async fn wait_for_end(agent: &Agent, signals: &mut Signals, shutdown: &Shutdown) -> String {
    tokio::select! {
        name = signals.next() => format!("Caught signal: {name}"),
        fault = agent.fault() => format!("Agent can not go on: {fault}"),
        () = shutdown.wait() => "Agent is stopping".to_owned(),
    }
}

/// The signals that end an agent. Listens from the moment it is made: one that comes while the agent starts counts too.
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

    /// Waits for a signal that ends the agent.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "interrupt",
                _ = self.terminate.recv() => return "terminated",
                _ = self.hangup.recv() => tracing::info!("configuration is read again at the next start"),
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
