//! A region of many agents, each in a network namespace of its own, as on machines of their own.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Answer, Ended, binary, http, machine, process, wait};

/// How long a region may take to form: a loaded machine starts five agents one after the other.
const FORMING_MAX: Duration = Duration::from_secs(90);

/// How long an agent may take to leave.
const LEAVING_MAX: Duration = Duration::from_secs(20);

/// Regions of this process, so that each has names of its own.
static REGIONS: AtomicU32 = AtomicU32::new(0);

/// What an agent of a region is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// A server.
    Server,
    /// A client.
    Client,
}

/// One agent of a region.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its address; the ports are those that agents have by default.
    pub ip: Ipv4Addr,
    part: Part,
    namespace: String,
    dir: PathBuf,
    config: &'static str,
    child: Option<Child>,
}

/// The name of the configuration that [`Region::configure`] writes.
const CONFIG: &str = "agent.hcl";

/// Agents on a network of their own. The thread that made it is on that network from then on, as are those that it
/// starts; nothing else is.
pub struct Region {
    hub: String,
    /// The agents: servers first.
    pub members: Vec<Member>,
    dir: TempDir,
    subnet: [u8; 3],
}

fn ip(words: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "ip {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

impl Region {
    /// Makes a network with an agent for each part, which are not started. None, with the reason told, where this
    /// machine does not let it.
    #[must_use]
    pub fn prepare(subnet: [u8; 3], parts: &[Part]) -> Option<Self> {
        if !machine::is_root() {
            machine::lacks("root, which network namespaces take");
            return None;
        }
        let number = REGIONS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("wf{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix("wayfarer-region-").tempdir();
        let dir = dir.expect("a temporary directory can be made");
        let mut region = Self { hub: format!("{prefix}-hub"), members: Vec::new(), dir, subnet };
        if let Err(error) = region.lay(&prefix, parts) {
            machine::lacks(&format!("network namespaces ({error})"));
            return None;
        }
        Some(region)
    }

    /// Starts servers and clients and waits until they are one region with a leader and ready nodes.
    #[must_use]
    pub fn start(subnet: [u8; 3], servers: usize, clients: usize) -> Option<Self> {
        let parts: Vec<Part> =
            [Part::Server].repeat(servers).into_iter().chain([Part::Client].repeat(clients)).collect();
        let mut region = Self::prepare(subnet, &parts)?;
        for member in 0..region.members.len() {
            region.configure(member, "");
            region.launch(member);
        }
        region.wait_until_formed();
        Some(region)
    }

    fn lay(&mut self, prefix: &str, parts: &[Part]) -> io::Result<()> {
        let hub = self.hub.clone();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        let own = format!("{}/24", self.ip(254));
        ip(&["-n", &hub, "addr", "add", &own, "dev", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for (at, part) in parts.iter().enumerate() {
            let number = u8::try_from(at + 1).expect("few agents");
            let letter = if *part == Part::Server { "s" } else { "c" };
            let (name, namespace) = (format!("{letter}{number}"), format!("{prefix}-{number}"));
            let (port, address) = (format!("port{number}"), format!("{}/24", self.ip(number)));
            let dir = self.dir.path().join(&name);
            fs::create_dir_all(&dir)?;
            let member = Member {
                name,
                ip: self.ip(number),
                part: *part,
                namespace: namespace.clone(),
                dir,
                config: CONFIG,
                child: None,
            };
            self.members.push(member);
            ip(&["netns", "add", &namespace])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
            ])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            let gateway = self.ip(254).to_string();
            ip(&["-n", &namespace, "route", "add", "default", "via", &gateway])?;
        }
        let file = File::open(format!("/run/netns/{hub}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Everything of this region is below here.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes an agent's configuration, with more in the words of an agent's file.
    ///
    /// # Panics
    ///
    /// When it can not be written.
    pub fn configure(&self, member: usize, more: &str) {
        let one = &self.members[member];
        let servers = self.members.iter().filter(|member| member.part == Part::Server);
        let addresses: Vec<String> = servers.map(|server| format!("{:?}", server.ip.to_string())).collect();
        let (count, addresses) = (addresses.len(), addresses.join(", "));
        let join = format!(
            "  server_join {{\n    retry_join     = [{addresses}]\n    retry_interval = \"1s\"\n  }}\n"
        );
        let part = match one.part {
            Part::Server => format!("server {{\n  enabled = true\n  bootstrap_expect = {count}\n{join}}}\n"),
            Part::Client => {
                let plugin = "plugin \"raw_exec\" {\n  config {\n    enabled = true\n  }\n}\n";
                format!("client {{\n  enabled = true\n{join}}}\n{plugin}")
            }
        };
        let data = one.dir.join("data");
        let address = one.ip.to_string();
        let text =
            format!("name = {:?}\nbind_addr = {address:?}\ndata_dir = {data:?}\n{part}{more}\n", one.name);
        fs::write(one.dir.join(CONFIG), text).expect("the configuration can be written");
    }

    /// Gives an agent a configuration as it is, but for the words `NODE_NAME` and `DATA_DIR`. The file's name says how it is
    /// read.
    ///
    /// # Panics
    ///
    /// When it can not be written.
    pub fn configure_as(&mut self, member: usize, file: &'static str, text: &str) {
        let one = &mut self.members[member];
        let data = one.dir.join("data");
        let text = text.replace("NODE_NAME", &one.name);
        let text = text.replace("DATA_DIR", data.to_str().expect("a plain name"));
        fs::write(one.dir.join(file), text).expect("the configuration can be written");
        one.config = file;
    }

    /// Starts an agent's process and waits for nothing.
    ///
    /// # Panics
    ///
    /// When it runs already or does not start.
    pub fn launch(&mut self, member: usize) {
        let one = &mut self.members[member];
        assert!(one.child.is_none(), "{} runs already", one.name);
        let log = File::options().create(true).append(true).open(one.dir.join("agent.log"));
        let log = log.expect("the log can be written");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &one.namespace]).arg(binary::path());
        command.args(["agent", "-config"]).arg(one.dir.join(one.config));
        command.current_dir(&one.dir).env("TMPDIR", &one.dir).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file has a second handle")).stderr(log);
        one.child = Some(command.process_group(0).spawn().expect("the built binary starts"));
    }

    /// Waits until there is a leader, every server votes and every node is ready.
    ///
    /// # Panics
    ///
    /// When an agent ends instead, or it takes too long.
    pub fn wait_until_formed(&mut self) {
        let count = |part| self.members.iter().filter(|member| member.part == part).count();
        let (servers, clients) = (count(Part::Server), count(Part::Client));
        let mut last = String::new();
        let formed = wait::poll(FORMING_MAX, || {
            for at in 0..self.members.len() {
                let ended = self.members[at].child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.members[at].name, self.log(at));
            }
            let raft = self.try_ask(0, "GET", "/v1/operator/raft/configuration", None).ok()?;
            let nodes = self.try_ask(0, "GET", "/v1/nodes", None).ok()?;
            last = format!("{} {}", raft.body, nodes.body.chars().take(300).collect::<String>());
            if raft.status != 200 || nodes.status != 200 {
                return None;
            }
            let voters = raft.json()["Servers"].as_array()?.iter().filter(|one| one["Voter"] == true).count();
            let ready = nodes.json().as_array()?.iter().filter(|node| node["Status"] == "ready").count();
            (voters == servers && ready == clients).then_some(())
        });
        if formed.is_none() {
            let logs: Vec<_> = (0..self.members.len()).map(|at| self.tail(at)).collect();
            panic!("the region did not form; last: {last}\n{}", logs.join("\n"));
        }
    }

    /// What an agent wrote so far.
    #[must_use]
    pub fn log(&self, member: usize) -> String {
        fs::read_to_string(self.members[member].dir.join("agent.log")).unwrap_or_default()
    }

    /// The end of what an agent wrote, under its name.
    #[must_use]
    pub fn tail(&self, member: usize) -> String {
        let log = self.log(member);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("--- {}\n{last}", self.members[member].name)
    }

    /// Where an agent's API is.
    #[must_use]
    pub fn addr(&self, member: usize) -> SocketAddr {
        (self.members[member].ip, 4646).into()
    }

    /// One request.
    ///
    /// # Errors
    ///
    /// When the agent is not there or hangs up.
    pub fn try_ask(
        &self,
        member: usize,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let body = body.map(Value::to_string);
        http::request(self.addr(member), method, path, body.as_deref())
    }

    /// One request to an agent that must answer.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn ask(&self, member: usize, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_ask(member, method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.tail(member)))
    }

    /// A command that asks an agent.
    ///
    /// # Panics
    ///
    /// When the program does not start.
    #[must_use]
    pub fn command(&self, member: usize, words: &[&str]) -> Ended {
        let mut command = Command::new(binary::path());
        command.args(words).env("NOMAD_ADDR", format!("http://{}", self.addr(member)));
        command.env_remove("WAYFARER_ADDR").current_dir(self.path()).stdin(Stdio::null());
        Ended::of(&command.output().expect("the program starts"))
    }

    /// The server that leads, by position; waits for one.
    ///
    /// # Panics
    ///
    /// When there is none for too long.
    #[must_use]
    pub fn leader(&self) -> usize {
        wait::until("there is a leader", || {
            let alive = (0..self.members.len()).find(|at| self.members[*at].child.is_some())?;
            let answer = self.try_ask(alive, "GET", "/v1/status/leader", None).ok()?;
            let addr = answer.json().as_str()?.to_owned();
            let at = self.members.iter().position(|member| addr == format!("{}:4647", member.ip))?;
            self.members[at].child.as_ref().map(|_| at)
        })
    }

    /// Ends an agent's process without a word.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill(&mut self, member: usize) {
        let mut child = self.members[member].child.take().expect("the agent runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child is waited for");
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                // The processes of one test are ended however that test went.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let gone = wait::poll(LEAVING_MAX, || {
            let left = process::of_directory(self.dir.path());
            left.iter().for_each(|pid| process::kill_now(*pid));
            left.is_empty().then_some(())
        });
        if gone.is_none() {
            eprintln!("processes of {} are left", self.dir.path().display());
        }
        crate::leftovers::unmount_below(self.dir.path());
        for member in &self.members {
            let _ = ip(&["netns", "del", &member.namespace]);
        }
        let _ = ip(&["netns", "del", &self.hub]);
    }
}
