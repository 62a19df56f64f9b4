//! One agent: its configuration, its process and what became of it.

use std::{
    fs::{self, File},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    clock,
    layout::{Agent, Layout, Part},
    process,
    wall::{self, WallClock},
};

/// How long starting one program may take until its process is there.
const START_MAX: Duration = Duration::from_secs(5);

/// What the configurations of all agents have in common.
pub struct Setting {
    /// Who is there.
    pub layout: Layout,
    /// Certificates last a minute.
    pub short_certificates: bool,
    /// Where the container engine listens, in runs that have one.
    pub engine: Option<String>,
}

/// What a process ended with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It ended by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// An agent and its process.
pub struct Running {
    /// Which.
    pub agent: Agent,
    /// Where everything of it is.
    pub dir: PathBuf,
    /// How often it was started.
    pub boot: u32,
    /// It is stopped by a signal.
    pub paused: bool,
    /// It was told to leave and was not started since.
    pub left: bool,
    child: Option<Child>,
    pid: u32,
}

impl Running {
    /// An agent that was never started.
    #[must_use]
    pub fn new(agent: Agent, root: &Path) -> Self {
        let dir = root.join(agent.to_string());
        Self { agent, dir, boot: 0, paused: false, left: false, child: None, pid: 0 }
    }

    /// Where its log, state and allocations are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Writes its configuration.
    ///
    /// # Errors
    ///
    /// When its directory can not be written.
    pub fn configure(&self, setting: &Setting) -> io::Result<()> {
        let Setting { layout, short_certificates, engine } = setting;
        fs::create_dir_all(self.data())?;
        let addresses: Vec<String> = layout.servers().map(|server| format!("\"{}\"", server.ip())).collect();
        let addresses = addresses.join(", ");
        let join = format!(
            "  server_join {{\n    retry_join     = [{addresses}]\n    retry_interval = \"1s\"\n  }}\n"
        );
        let part = match layout.part(self.agent) {
            Part::Server => {
                let ttl = if *short_certificates { "  certificate_ttl = \"60s\"\n" } else { "" };
                let expect = layout.servers;
                // What is over goes soon, so that lists stay short; jobs stay, for they are compared with what users did.
                let collected = "  eval_gc_threshold = \"5m\"\n  job_gc_threshold = \"48h\"\n";
                format!(
                    "server {{\n  enabled = true\n  bootstrap_expect = {expect}\n{collected}{ttl}{join}}}\n"
                )
            }
            Part::Client => {
                let mut plugin = "plugin \"raw_exec\" {\n  config {\n    enabled = true\n  }\n}\n".to_owned();
                // Those that come and go in storms lose their files, and would forget their containers.
                if let Some(engine) = engine.as_ref().filter(|_| !layout.is_spare(self.agent)) {
                    plugin +=
                        &format!("plugin \"docker\" {{\n  config {{\n    endpoint = {engine:?}\n  }}\n}}\n");
                }
                format!("client {{\n  enabled = true\n{join}}}\n{plugin}")
            }
        };
        let leaves = layout.is_spare(self.agent);
        let text = format!(
            "name = \"{}\"\nbind_addr = \"{}\"\ndata_dir = {:?}\nleave_on_terminate = {leaves}\n{part}",
            self.agent,
            self.agent.ip(),
            self.data()
        );
        fs::write(self.config(), text)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("agent.hcl")
    }

    /// Where it writes what it has to say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn wall(&self) -> PathBuf {
        self.dir.join("wall")
    }

    /// Has its wall clock go wrong by so many seconds.
    ///
    /// # Errors
    ///
    /// When the file that says so can not be written.
    pub fn set_wall_clock(&self, shift: i64) -> io::Result<()> {
        wall::set(&self.wall(), shift)
    }

    /// Starts its process in a namespace, with a monotonic clock that is so many seconds off.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(
        &mut self,
        binary: &Path,
        namespace: &str,
        shift: i64,
        wall_clock: Option<&WallClock>,
    ) -> io::Result<()> {
        assert!(self.child.is_none(), "{} runs already", self.agent);
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}"));
        if shift != 0 {
            // Only the child of who makes a time namespace is in it.
            command.args(["unshare", "--time", "--fork", "--kill-child", "--monotonic", &shift.to_string()]);
        }
        command.arg(binary).args(["agent", "-config"]).arg(self.config());
        command.current_dir(&self.dir).env("TMPDIR", &self.dir).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        if let Some(wall_clock) = wall_clock {
            wall_clock.put_into(&mut command, &self.wall())?;
        }
        let child = command.process_group(0).spawn()?;
        self.pid = child.id();
        self.child = Some(child);
        if shift != 0 {
            let outer = self.pid;
            self.pid = clock::poll(START_MAX, || process::child_of(outer))
                .ok_or_else(|| io::Error::other("this machine has no time namespaces"))?;
        }
        self.boot += 1;
        self.paused = false;
        self.left = false;
        Ok(())
    }

    /// The number of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.is_some().then_some(self.pid)
    }

    /// Whether its process is there and not stopped.
    #[must_use]
    pub fn works(&self) -> bool {
        self.child.is_some() && !self.paused
    }

    /// Ends its process without a word; its tasks go on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(self.pid, Signal::SIGKILL);
            if let Err(error) = child.wait() {
                eprintln!("{} is not waited for: {error}", self.agent);
            }
            self.paused = false;
        }
    }

    /// Sends its process a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.child.is_some() {
            process::signal(self.pid, signal);
            match signal {
                Signal::SIGSTOP => self.paused = true,
                Signal::SIGCONT => self.paused = false,
                Signal::SIGTERM => self.left = true,
                _ => {}
            }
        }
    }

    /// Looks whether it ended by itself.
    pub fn ended(&mut self) -> Option<Ending> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Code(code),
            (None, signal) => Ending::Signal(signal.unwrap_or_default()),
        })
    }
}
