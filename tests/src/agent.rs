//! An agent that a test starts, asks, kills and starts again: the built binary in a directory of its own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    binary,
    http::{self, Answer},
    leftovers, process, wait,
};

/// First port that tests give to agents: below those that jobs get (20000 to 32000) and that systems hand out by themselves.
const PORT_MIN: u16 = 11_000;

/// Ports for agents: enough that runs beside each other rarely meet.
const PORT_COUNT: u16 = 8_000;

/// Time for an agent to stop its tasks and end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// How an agent is started.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `agent -dev`: nothing is kept.
    Dev,
    /// `agent -config`: a lasting server and client with a data directory.
    Lasting,
    /// The same, but what it is and whom it joins is said by the test.
    Member,
}

/// A running agent, or one between two lives. Dropping it ends everything that it started.
pub struct Agent {
    dir: TempDir,
    binary: PathBuf,
    kind: Kind,
    http: SocketAddr,
    gossip: SocketAddr,
    child: Option<Child>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// What `Command::output` brought.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Both outputs, for a look at whether something was said at all.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Standard output of a command that must have worked.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn worked(self) -> String {
        assert_eq!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self.out
    }
}

impl Agent {
    /// Starts an agent and waits until its node is ready.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, "")
    }

    /// The same with more configuration, in the words of an agent's file.
    #[must_use]
    pub fn start_with(kind: Kind, more: &str) -> Self {
        let mut agent = Self::prepare(binary::path(), kind, more);
        agent.launch();
        agent.wait_until_ready();
        agent
    }

    /// An agent with its directory and configuration, not started.
    #[must_use]
    pub fn prepare(binary: &Path, kind: Kind, more: &str) -> Self {
        Self::prepare_on([free_port(), free_port(), free_port()], binary, kind, more)
    }

    /// The same on given ports: HTTP, RPC, gossip.
    ///
    /// # Panics
    ///
    /// When its directory can not be made.
    #[must_use]
    pub fn prepare_on(ports: [u16; 3], binary: &Path, kind: Kind, more: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("wayfarer-test-")
            .tempdir()
            .expect("a temporary directory can be made");
        let agent = Self {
            binary: binary.to_owned(),
            kind,
            http: (Ipv4Addr::LOCALHOST, ports[0]).into(),
            gossip: (Ipv4Addr::LOCALHOST, ports[2]).into(),
            child: None,
            dir,
        };
        fs::write(agent.config_file(), agent.configuration(ports, more))
            .expect("the configuration can be written");
        agent
    }

    fn configuration(&self, [http, rpc, serf]: [u16; 3], more: &str) -> String {
        let mut text = format!("ports {{\n  http = {http}\n  rpc  = {rpc}\n  serf = {serf}\n}}\n");
        if let Kind::Lasting | Kind::Member = self.kind {
            let data = self.data_dir();
            text += &format!(
                "data_dir = {data:?}\nbind_addr = \"127.0.0.1\"\n\
                 advertise {{\n  http = \"127.0.0.1\"\n  rpc  = \"127.0.0.1\"\n  serf = \"127.0.0.1\"\n}}\n\
                 plugin \"raw_exec\" {{\n  config {{\n    enabled = true\n  }}\n}}\n"
            );
        }
        if let Kind::Lasting = self.kind {
            text += "name = \"tested\"\nserver {\n  enabled          = true\n  bootstrap_expect = 1\n}\n\
                     client {\n  enabled = true\n}\n";
        }
        text + more
    }

    /// Starts the process and does not wait for anything.
    ///
    /// # Panics
    ///
    /// When it runs already or does not start.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the agent runs already");
        let log =
            File::options().create(true).append(true).open(self.log_file()).expect("the log can be written");
        let mut command = Command::new(&self.binary);
        command.arg("agent");
        if let Kind::Dev = self.kind {
            command.arg("-dev");
        }
        command.arg("-config").arg(self.config_file());
        command.env("TMPDIR", self.path()).current_dir(self.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file has a second handle")).stderr(log);
        // A group of its own, so that a signal for the tests' group does not reach it.
        self.child = Some(command.process_group(0).spawn().expect("the built binary starts"));
    }

    /// Waits until the agent answers and its node takes work.
    ///
    /// # Panics
    ///
    /// When it ends instead, or takes too long.
    pub fn wait_until_ready(&mut self) {
        wait::until("the agent's node is ready", || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the agent ended with {status} instead of becoming ready; its log:\n{}", self.log());
            }
            let nodes = http::request(self.http, "GET", "/v1/nodes", None).ok()?;
            (nodes.status == 200 && nodes.json().get(0)?["Status"] == "ready").then_some(())
        });
    }

    /// The agent's own process.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the agent runs").id()
    }

    /// Where its API is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.http
    }

    /// Where others find it: its port of gossip.
    #[must_use]
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip
    }

    /// Everything of this agent is below here.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a lasting agent keeps what it must not lose.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    fn config_file(&self) -> PathBuf {
        self.path().join("agent.hcl")
    }

    fn log_file(&self) -> PathBuf {
        self.path().join("agent.log")
    }

    /// What the agent wrote so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends the agent's process alone, without a word: its tasks and their shims live on.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the agent runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child is waited for");
    }

    /// Ends every process that there is of this agent at once, as a loss of power does.
    pub fn power_cut(&mut self) {
        self.kill();
        self.end_all();
    }

    /// Starts it again on what it left.
    pub fn revive(&mut self) {
        self.launch();
        self.wait_until_ready();
    }

    /// Asks the agent to end (`SIGINT`) and waits; its exit code.
    ///
    /// # Panics
    ///
    /// When it does not run or does not end in time.
    pub fn interrupt(&mut self) -> i32 {
        self.end_by(Signal::SIGINT)
    }

    /// The same with `SIGTERM`.
    ///
    /// # Panics
    ///
    /// As [`Agent::interrupt`].
    pub fn terminate(&mut self) -> i32 {
        self.end_by(Signal::SIGTERM)
    }

    /// Has the agent read again what it can (`SIGHUP`).
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn hang_up(&self) {
        process::signal(self.pid(), Signal::SIGHUP);
    }

    fn end_by(&mut self, signal: Signal) -> i32 {
        let mut child = self.child.take().expect("the agent runs");
        process::signal(child.id(), signal);
        let status = wait::until_within(STOP_TIMEOUT, "the interrupted agent ends", || {
            child.try_wait().ok().flatten()
        });
        status.code().unwrap_or(-1)
    }

    /// The exit code of an agent that has ended by itself.
    ///
    /// # Panics
    ///
    /// When it was ended before.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut().expect("the agent was started").try_wait().ok().flatten()?;
        self.child = None;
        Some(status.code().unwrap_or(-1))
    }

    /// Kills what is left of this agent: shims and tasks.
    fn end_all(&self) {
        wait::until("all processes of the agent are gone", || {
            let left = process::of_directory(self.path());
            left.iter().for_each(|pid| process::kill_now(*pid));
            left.is_empty().then_some(())
        });
    }

    /// One request.
    ///
    /// # Panics
    ///
    /// When the agent does not answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        http::request(self.http, method, path, body.as_deref())
            .unwrap_or_else(|error| panic!("{method} {path}: {error}; the agent's log:\n{}", self.log()))
    }

    /// The JSON that a path has.
    ///
    /// # Panics
    ///
    /// When the answer is not 200.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.json()
    }

    /// Registers a job and returns the answer of the API.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn register(&self, job: &Value) -> Value {
        let answer = self.ask("PUT", "/v1/jobs", Some(&json!({ "Job": job })));
        assert_eq!(answer.status, 200, "job {}: {}", job["ID"], answer.body);
        answer.json()
    }

    /// The whole allocations of a job.
    #[must_use]
    pub fn allocations(&self, job: &str) -> Vec<Value> {
        let stubs = self.get(&format!("/v1/job/{job}/allocations"));
        let stubs = stubs.as_array().into_iter().flatten();
        stubs.map(|stub| self.get(&format!("/v1/allocation/{}", text(&stub["ID"])))).collect()
    }

    /// Waits until a job has an allocation in this client status, and returns it.
    #[must_use]
    pub fn wait_for(&self, job: &str, status: &str) -> Value {
        self.wait_for_all(job, status, 1).remove(0)
    }

    /// Waits until `count` allocations of a job are in this client status, and returns them.
    ///
    /// # Panics
    ///
    /// When they do not get there in time; the message has what they are instead.
    #[must_use]
    pub fn wait_for_all(&self, job: &str, status: &str, count: usize) -> Vec<Value> {
        let mut last = Vec::new();
        let found = wait::poll(wait::PATIENCE, || {
            last = self.allocations(job);
            let found: Vec<Value> =
                last.iter().filter(|alloc| alloc["ClientStatus"] == status).cloned().collect();
            (found.len() == count).then_some(found)
        });
        found.unwrap_or_else(|| {
            let seen: Vec<Value> =
                last.iter().map(|alloc| json!([alloc["ClientStatus"], alloc["TaskStates"]])).collect();
            panic!("waited in vain until {count} allocations of {job} are {status}; they are {}", json!(seen))
        })
    }

    /// What a task wrote to its standard output so far.
    #[must_use]
    pub fn output_of(&self, alloc: &Value, task: &str) -> String {
        let path = format!(
            "/v1/client/fs/logs/{}?task={task}&type=stdout&plain=true&origin=start",
            text(&alloc["ID"])
        );
        self.ask("GET", &path, None).body
    }

    /// Runs a command of the product against this agent.
    ///
    /// # Panics
    ///
    /// When the program does not start.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Ended {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env("NOMAD_ADDR", format!("http://{}", self.http))
            .current_dir(self.path())
            .stdin(Stdio::null());
        Ended::of(&command.output().expect("the built binary starts"))
    }

    /// Writes a file into the agent's directory and returns its path.
    ///
    /// # Panics
    ///
    /// When it can not be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).expect("the directory is the test's own");
        path.to_str().expect("directories of tests have plain names").to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Asked nicely first, so that control groups, mounts and containers of the tasks go too.
            process::signal(child.id(), Signal::SIGINT);
            let ended = wait::poll(STOP_TIMEOUT, || child.try_wait().ok().flatten());
            if ended.is_none() {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- end of the agent's log\n{}", tail(&self.log()));
        }
        let gone = wait::poll(STOP_TIMEOUT, || {
            let left = process::of_directory(self.path());
            left.iter().for_each(|pid| process::kill_now(*pid));
            left.is_empty().then_some(())
        });
        if gone.is_none() {
            eprintln!("processes of {} do not die", self.path().display());
        }
        leftovers::remove_groups(&leftovers::allocations_below(self.path()));
        leftovers::unmount_below(self.path());
    }
}

/// The end of a log: what led to a failure is there.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A string of an answer.
///
/// # Panics
///
/// When the value is none.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// A port that nobody listens on, for TCP and UDP, and that no other test of this process was given.
///
/// # Panics
///
/// When all are taken.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % u32::from(PORT_COUNT)).expect("below the count");
    for _ in 0..PORT_COUNT {
        let offset =
            (u32::from(first) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(PORT_COUNT);
        let port = PORT_MIN + u16::try_from(offset).expect("below the count");
        let addr = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok() {
            return port;
        }
    }
    panic!("no port is free between {PORT_MIN} and {}", PORT_MIN + PORT_COUNT)
}
