//! The cluster that is measured: processes of this binary, or one that is there already.

use std::{
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use runtime::Env;

use crate::{
    api::Api,
    options::{Kind, Options},
    process::{Cost, Usage, proportional_kib},
};

/// How long a region may take to form, and each thousand of its nodes to be ready.
const FORMING_MAX: Duration = Duration::from_secs(60);
const THOUSAND_NODES_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at what forms.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The name of an agent's configuration, in its directory.
const CONFIG: &str = "agent.hcl";

/// Servers and nodes under measurement. Dropping it ends what it started.
pub struct Cluster {
    /// The way in.
    pub api: Api,
    processes: Vec<Process>,
    dir: Option<Directory>,
    /// The agents' program.
    binary: PathBuf,
    loopback: String,
    servers: usize,
    nodes: usize,
    ready: usize,
    before: Vec<Usage>,
}

struct Process {
    name: String,
    child: Child,
    /// Ended on purpose.
    killed: bool,
}

enum Directory {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

impl Cluster {
    /// Starts the servers, or finds the cluster that the options name.
    ///
    /// # Errors
    ///
    /// Says what did not start.
    pub async fn start(env: &Env, options: &Options) -> anyhow::Result<Self> {
        let binary = options.binary.clone().map_or_else(std::env::current_exe, Ok)?;
        if !options.addresses.is_empty() {
            let api = Api::new(&options.addresses)?;
            let nodes = ready_nodes(&api).await?;
            let loopback = String::new();
            let processes = Vec::new();
            let (before, servers) = (Vec::new(), 0);
            return Ok(Self {
                api,
                processes,
                dir: None,
                binary,
                loopback,
                servers,
                nodes,
                ready: nodes,
                before,
            });
        }
        let dir = match &options.dir {
            Some(dir) => {
                fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
                Directory::Kept(fs::canonicalize(dir)?)
            }
            None => Directory::Temporary(tempfile::Builder::new().prefix("wayfarer-bench-").tempdir()?),
        };
        let loopback = options.loopback.clone();
        let addresses: Vec<String> =
            (1..=options.servers).map(|number| format!("http://{loopback}.{number}:4646")).collect();
        let mut cluster = Self {
            api: Api::new(&addresses)?,
            processes: Vec::new(),
            dir: Some(dir),
            binary,
            loopback,
            servers: options.servers,
            nodes: 0,
            ready: 0,
            before: Vec::new(),
        };
        cluster.start_servers()?;
        let leader = cluster.wait_for_leader(env).await?;
        // Clients of the API may ask any server; here they ask the one that answers by itself.
        cluster.api = Api::new(&[format!("http://{leader}:4646")])?;
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().expect("a cluster that was started has a directory").path()
    }

    fn start_servers(&mut self) -> anyhow::Result<()> {
        let (loopback, count) = (self.loopback.clone(), self.servers);
        let all: Vec<String> = (1..=count).map(|number| format!("\"{loopback}.{number}\"")).collect();
        for number in 1..=count {
            let name = format!("server-{number}");
            let join = format!(
                "  server_join {{\n    retry_join = [{}]\n    retry_interval = \"1s\"\n  }}\n",
                all.join(", ")
            );
            let part = format!("server {{\n  enabled = true\n  bootstrap_expect = {count}\n{join}}}\n");
            self.start_agent(&format!("server {number}"), number, &name, &part)?;
        }
        Ok(())
    }

    /// Where the first server keeps the region's authority. Simulated nodes get their certificates of it, as a server would
    /// issue them to nodes that join.
    fn authority_dir(&self) -> PathBuf {
        self.path().join("server-1/data/tls")
    }

    fn agent_config(&self, number: usize, name: &str, dir: &Path) -> String {
        let address = format!("{}.{number}", self.loopback);
        format!(
            "name = {name:?}\ndata_dir = {:?}\nbind_addr = {address:?}\nlog_level = \"INFO\"\nadvertise {{\n  http = \
             {address:?}\n  rpc = {address:?}\n  serf = {address:?}\n}}\n",
            dir.join("data")
        )
    }

    /// Starts real client agents, which join as users' do.
    ///
    /// # Errors
    ///
    /// When they do not start or do not become ready.
    pub async fn start_agents(&mut self, env: &Env, count: usize) -> anyhow::Result<()> {
        let servers: Vec<String> =
            (1..=self.servers).map(|number| format!("\"{}.{number}\"", self.loopback)).collect();
        let part = format!(
            "client {{\n  enabled = true\n  servers = [{}]\n  cpu_total_compute = 4000\n  memory_total_mb = 4096\n}}\n",
            servers.join(", ")
        );
        for at in 1..=count {
            self.start_agent(&format!("client {at}"), 10 + at, &format!("client-{at}"), &part)?;
        }
        self.nodes += count;
        self.ready += count;
        self.wait_for_nodes(env).await
    }

    fn start_agent(&mut self, shown: &str, number: usize, name: &str, part: &str) -> anyhow::Result<()> {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(CONFIG), self.agent_config(number, name, &dir) + part)?;
        let child = self.spawn_agent(shown, &dir)?;
        self.processes.push(Process { name: shown.to_owned(), child, killed: false });
        Ok(())
    }

    fn spawn_agent(&self, shown: &str, dir: &Path) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.binary);
        command.args(["agent", "-config"]).arg(dir.join(CONFIG));
        spawn(shown, &dir.join("agent.log"), command)
    }

    /// Positions of the servers among the processes.
    pub fn servers(&self) -> Range<usize> {
        0..self.servers
    }

    /// Reaches each server by its position.
    ///
    /// # Errors
    ///
    /// When an address is none.
    pub fn server_api(&self) -> anyhow::Result<Api> {
        let address = |number| format!("http://{}.{number}:4646", self.loopback);
        Api::new(&(1..=self.servers).map(address).collect::<Vec<_>>())
    }

    /// Kills all servers at once, and starts them again with what they have on disk.
    ///
    /// # Errors
    ///
    /// When one can not be ended or started.
    pub fn restart_servers(&mut self) -> anyhow::Result<()> {
        for server in &mut self.processes[..self.servers] {
            server.child.kill()?;
        }
        for at in self.servers() {
            self.processes[at].child.wait()?;
        }
        for at in self.servers() {
            let dir = self.path().join(format!("server-{}", at + 1));
            self.processes[at].child = self.spawn_agent(&self.processes[at].name, &dir)?;
        }
        Ok(())
    }

    /// Starts a process of simulated nodes and waits until they are ready. Returns which process it is.
    ///
    /// # Errors
    ///
    /// When they do not become ready.
    pub async fn start_nodes(&mut self, env: &Env, count: usize, kind: Kind) -> anyhow::Result<usize> {
        if self.dir.is_none() {
            bail!("a cluster that is there already has its own nodes");
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "nodes", "-count", &count.to_string(), "-first", &self.nodes.to_string()]);
        command.arg("-dir").arg(self.authority_dir());
        command.args(["-bind", &format!("{}.250", self.loopback), "-kind", kind.name()]);
        for number in 1..=self.servers {
            command.args(["-server", &format!("{}.{number}:4647", self.loopback)]);
        }
        let log = self.path().join(format!("nodes-{}.log", self.processes.len()));
        let child = spawn("nodes", &log, command)?;
        self.processes.push(Process { name: "nodes".to_owned(), child, killed: false });
        self.nodes += count;
        self.ready += count;
        self.wait_for_nodes(env).await?;
        Ok(self.processes.len() - 1)
    }

    /// Ends a process without a word.
    ///
    /// # Errors
    ///
    /// When it can not be ended.
    pub fn kill(&mut self, process: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[process];
        process.killed = true;
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }

    /// Ends a process of simulated nodes without a word; nobody waits for them any more.
    ///
    /// # Errors
    ///
    /// When it can not be ended.
    pub fn lose(&mut self, process: usize, nodes: usize) -> anyhow::Result<()> {
        self.ready -= nodes;
        self.kill(process)
    }

    /// Finds a process by its name.
    pub fn process(&self, name: &str) -> Option<usize> {
        self.processes.iter().position(|process| process.name == name)
    }

    async fn wait_for_leader(&mut self, env: &Env) -> anyhow::Result<String> {
        let deadline = env.now() + FORMING_MAX;
        loop {
            self.check_alive()?;
            let asked = self.api.agent(0).get::<String>("/v1/status/leader", &sdk::Query::default()).await;
            let peers =
                self.api.agent(0).get::<Vec<String>>("/v1/status/peers", &sdk::Query::default()).await;
            if let (Ok((leader, _)), Ok((peers, _))) = (asked, peers)
                && peers.len() == self.servers
                && let Some((address, _)) = leader.rsplit_once(':')
            {
                return Ok(address.to_owned());
            }
            if env.now() > deadline {
                bail!("the servers found no leader; their logs are in {}", self.path().display());
            }
            env.sleep(LOOK_EVERY).await;
        }
    }

    async fn wait_for_nodes(&mut self, env: &Env) -> anyhow::Result<()> {
        let thousands = u32::try_from(self.ready / 1_000 + 1).unwrap_or(u32::MAX);
        let deadline = env.now() + THOUSAND_NODES_MAX * thousands;
        loop {
            self.check_alive()?;
            let ready = ready_nodes(&self.api).await?;
            if ready >= self.ready {
                return Ok(());
            }
            if env.now() > deadline {
                bail!("{ready} of {} nodes are ready; the logs are in {}", self.ready, self.path().display());
            }
            env.sleep(LOOK_EVERY).await;
        }
    }

    fn check_alive(&mut self) -> anyhow::Result<()> {
        for process in self.processes.iter_mut().filter(|process| !process.killed) {
            if let Some(status) = process.child.try_wait()? {
                bail!("{} ended: {status}", process.name);
            }
        }
        Ok(())
    }

    /// Looks at what the processes have used so far.
    pub fn usage(&self) -> Vec<Usage> {
        self.processes.iter().map(|process| Usage::of(process.child.id())).collect()
    }

    /// Begins to count what processes use.
    pub fn begin_counting(&mut self) {
        self.before = self.usage();
    }

    /// Memory of one process, as [`proportional_kib`] counts it.
    pub fn proportional_kib(&self, process: usize) -> u64 {
        proportional_kib(self.processes[process].child.id())
    }

    /// What processes used since counting began.
    pub fn costs(&self) -> Vec<Cost> {
        let known = self.processes.iter().zip(self.usage()).enumerate();
        let cost = |(at, (process, after)): (usize, (&Process, Usage))| {
            let before = self.before.get(at).copied().unwrap_or_default();
            Cost::between(process.name.clone(), before, after)
        };
        known.map(cost).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that is gone already is as good as ended.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

fn spawn(name: &str, log: &Path, mut command: Command) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("could not start {name}"))
}

async fn ready_nodes(api: &Api) -> anyhow::Result<usize> {
    Ok(api.nodes().await?.iter().filter(|node| node.status == "ready").count())
}
