//! `operator debug`: what an agent knows of itself, of the servers and of the clients, in one archive.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use sdk::{Client, MonitorOptions, Query, RequestError, types::write_bundle};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    agent::version_text,
    command::{Command, Context, Failure, OrFail, Outcome, command},
    flags::{Flag, Kind, flag},
    format,
};

/// Most bytes of one answer. A list of a hundred thousand allocations has about as many.
const ANSWER_BYTES_MAX: u64 = 128 << 20;

/// Most bytes of one agent's log.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of all files together; what comes behind them is left out and listed.
const BUNDLE_BYTES_MAX: u64 = 1 << 30;

/// How long one question may take. An agent that is stuck is what such archives are made of.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest capture.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest pause between two looks at the state.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Clients that are looked at unless another number is given.
const NODES_DEFAULT: usize = 10;

/// What is asked once of the cluster, and the files for the answers.
const CLUSTER: &[(&str, &str)] = &[
    ("agent-self.json", "/v1/agent/self"),
    ("members.json", "/v1/agent/members"),
    ("namespaces.json", "/v1/namespaces"),
    ("node-pools.json", "/v1/node/pools"),
    ("regions.json", "/v1/regions"),
    ("leader.json", "/v1/status/leader"),
    ("peers.json", "/v1/status/peers"),
];

/// What is asked at each interval. Lists are those of all namespaces.
const STATE: &[(&str, &str)] = &[
    ("allocations.json", "/v1/allocations"),
    ("deployments.json", "/v1/deployments"),
    ("evaluations.json", "/v1/evaluations"),
    ("jobs.json", "/v1/jobs"),
    ("nodes.json", "/v1/nodes"),
    ("volumes.json", "/v1/volumes"),
    ("plugins.json", "/v1/plugins"),
    ("metrics.json", "/v1/metrics"),
    ("operator-raft.json", "/v1/operator/raft/configuration"),
    ("operator-autopilot-health.json", "/v1/operator/autopilot/health"),
    ("operator-scheduler.json", "/v1/operator/scheduler/configuration"),
];

const FLAGS: &[Flag] = &[
    flag("duration", Kind::Duration, "How long logs are followed and the state is looked at; 5m unless set."),
    flag("interval", Kind::Duration, "How often the state is looked at; 30s unless set."),
    flag("log-level", Kind::Text, "trace, debug, info, warn or error; trace unless set."),
    flag("log-include-location", Kind::Bool, "Logs with the place in the source."),
    flag("server-id", Kind::Text, "Names of servers, with commas between them; `all` unless set."),
    flag("node-id", Kind::Text, "Beginnings of clients' ids, with commas between them; `all` unless set."),
    flag("node-class", Kind::Text, "Only clients of this class."),
    flag("max-nodes", Kind::Number, "At most so many clients; 0 for all, 10 unless set."),
    flag("event-topic", Kind::Text, "Topics of events to keep, with commas between them; none unless set."),
    flag("event-index", Kind::Number, "Events from this index on."),
    flag("stale", Kind::Bool, "Any server may answer, even when there is no leader."),
    flag("output", Kind::Text, "A folder: the files go into one below it, and no archive is made."),
    flag("pprof-duration", Kind::Duration, "Accepted; agents have no profiles to give."),
    flag("pprof-interval", Kind::Duration, "Accepted; agents have no profiles to give."),
    flag("verbose", Kind::Bool, "Say what is asked."),
];

/// The command of this file.
pub const COMMANDS: &[Command] =
    &[command!("operator debug"["debug"], "[options]", "Gather what helps to find faults.", FLAGS, debug)];

/// What is gathered, from whom and for how long.
struct Plan {
    duration: Duration,
    interval: Duration,
    servers: Vec<String>,
    nodes: Vec<String>,
    known_servers: usize,
    known_nodes: usize,
    stale: bool,
    topics: Vec<String>,
    event_index: u64,
    log_level: String,
    include_location: bool,
}

/// The folder that fills, and what could not be had.
struct Bundle {
    root: PathBuf,
    name: String,
    files: Vec<String>,
    problems: Vec<String>,
    room: u64,
}

async fn debug(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let stamp = format::time(format::now()).replace(':', "").replace('T', "-");
    let name = format!("nomad-debug-{stamp}");
    let output = context.flags.text("output").map(PathBuf::from);
    let archive = format!("{name}.tar.gz");
    if output.is_none() && Path::new(&archive).exists() {
        return Err(Failure::new(format!("Archive {archive} already exists")));
    }
    context.console.out("Starting debugger...\n");
    let plan = Plan::make(context, &client).await?;
    let root = match &output {
        Some(folder) => folder.join(&name),
        None => PathBuf::from(format!(".{name}.part")),
    };
    make_private(&root)
        .map_err(|error| Failure::new(format!("Error creating directory {}: {error}", root.display())))?;
    plan.show(context);
    let started = format::now();
    let bundle =
        Bundle { root, name: name.clone(), files: Vec::new(), problems: Vec::new(), room: BUNDLE_BYTES_MAX };
    let bundle = gather(context, &client, &plan, bundle).await;
    let written = bundle.finish(&plan, started, output.is_none().then_some(archive.as_str()));
    if output.is_none() {
        // What could not be removed bears the name of a part, as a capture that was broken off does.
        let _ = std::fs::remove_dir_all(&bundle.root);
    }
    written.map_err(|error| Failure::new(format!("Error creating archive: {error}")))?;
    for problem in &bundle.problems {
        context.console.err(problem);
    }
    match &output {
        None => context.console.out(&format!("Created debug archive: {archive}")),
        Some(_) => context.console.out(&format!("Created debug directory: {}", bundle.root.display())),
    }
    Ok(0)
}

impl Plan {
    async fn make(context: &Context, client: &Client) -> Result<Self, Failure> {
        let period = |name: &str, default: u64| match context.flags.number(name).map(u64::try_from) {
            None => Ok(Duration::from_secs(default)),
            Some(Ok(nanos)) => Ok(Duration::from_nanos(nanos)),
            Some(Err(_)) => Err(Failure::usage(format!("Error parsing {name}: it is below zero"))),
        };
        let (duration, interval) = (period("duration", 300)?, period("interval", 30)?);
        if interval > duration {
            return Err(Failure::usage(format!(
                "Error parsing interval: {} is greater than duration {}",
                text_of(interval),
                text_of(duration)
            )));
        }
        let members = client.members().await.or_fail("Failed to retrieve server list; err")?;
        let known: Vec<String> = members.members.iter().map(|member| member.name.clone()).collect();
        let (nodes, _) = client.nodes(&Query::default()).await.or_fail("Error querying node info")?;
        let known_nodes = nodes.len();
        let class = context.text("node-class");
        let wanted = list(context.flags.text("node-id").unwrap_or("all"));
        let most = match context.flags.number("max-nodes").map(usize::try_from) {
            None => NODES_DEFAULT,
            Some(Ok(0) | Err(_)) => usize::MAX,
            Some(Ok(count)) => count,
        };
        let nodes = nodes.into_iter().filter(|node| class.is_empty() || node.node_class == class);
        let nodes: Vec<String> = nodes.map(|node| node.id).collect();
        let nodes = choose(&wanted, &nodes, |id, prefix| id.starts_with(prefix))
            .map_err(|prefix| Failure::new(format!("Failed to find node matching id: {prefix}")))?;
        let wanted = list(context.flags.text("server-id").unwrap_or("all"));
        let servers = choose(&wanted, &known, |name, wanted| wanted == "leader" || name == wanted)
            .map_err(|name| Failure::new(format!("Failed to find server matching id: {name}")))?;
        let topics = list(context.text("event-topic"));
        Ok(Self {
            duration: duration.min(DURATION_MAX),
            interval: interval.max(INTERVAL_MIN),
            known_servers: known.len(),
            known_nodes,
            servers,
            nodes: nodes.into_iter().take(most).collect(),
            stale: context.on("stale"),
            topics: topics.into_iter().filter(|topic| !topic.eq_ignore_ascii_case("none")).collect(),
            event_index: context.flags.number("event-index").and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            log_level: context.flags.text("log-level").unwrap_or("trace").to_lowercase(),
            include_location: context.on("log-include-location"),
        })
    }

    fn show(&self, context: &Context) {
        let config = &context.globals.config;
        let short: Vec<_> = self.nodes.iter().map(|id| context.id(id)).collect();
        context.console.out(&format!(
            "CLI Version: {}\n     Region: {}\n  Namespace: {}\n    Servers: ({}/{}) [{}]\n    Clients: ({}/{}) [{}]\n   Interval: {}\n   Duration: {}\n",
            version_text(&context.program),
            config.region,
            config.namespace,
            self.servers.len(),
            self.known_servers,
            self.servers.join(" "),
            self.nodes.len(),
            self.known_nodes,
            short.join(" "),
            text_of(self.interval),
            text_of(self.duration),
        ));
    }

    fn query(&self) -> Query {
        Query { stale: self.stale, ..Query::default().in_namespace("*") }
    }
}

fn text_of(duration: Duration) -> String {
    format::go_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// The parts of a text with commas.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Those of the known names that were asked for, each once.
///
/// # Errors
/// The first wish that nothing answers to.
fn choose(wanted: &[String], known: &[String], fits: fn(&str, &str) -> bool) -> Result<Vec<String>, String> {
    let mut chosen: Vec<String> = Vec::new();
    for wish in wanted {
        let found: Vec<&String> = known.iter().filter(|name| wish == "all" || fits(name, wish)).collect();
        if found.is_empty() && wish != "all" {
            return Err(wish.clone());
        }
        for name in found {
            if !chosen.contains(name) {
                chosen.push(name.clone());
            }
        }
    }
    Ok(chosen)
}

/// Asks everything and follows all logs, until the time is over or the user interrupts.
async fn gather(context: &Context, client: &Client, plan: &Plan, bundle: Bundle) -> Bundle {
    let end = Instant::now() + plan.duration;
    let bundle = std::sync::Mutex::new(bundle);
    let keeper = Keeper { context, client, bundle: &bundle };
    let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (folder, ids, parameter) in
        [("server", &plan.servers, "server_id"), ("client", &plan.nodes, "node_id")]
    {
        for id in ids {
            let place = format!("{folder}/{}", plain_name(id));
            let host = Query::default().with(parameter, id.as_str());
            let options = MonitorOptions {
                log_level: plan.log_level.clone(),
                include_location: plan.include_location,
                server_id: if folder == "server" { id.clone() } else { String::new() },
                node_id: if folder == "client" { id.clone() } else { String::new() },
                log_json: false,
            };
            work.push(Box::pin(async move {
                keeper.keep(&format!("{place}/agent-host.json"), "/v1/agent/host", &host).await;
                keeper.follow_log(&format!("{place}/monitor.log"), &options, end).await;
            }));
        }
    }
    work.push(Box::pin(keeper.look_again_and_again(plan, end)));
    if !plan.topics.is_empty() {
        work.push(Box::pin(keeper.follow_events(plan, end)));
    }
    tokio::select! {
        _ = join_all(work) => {}
        _ = tokio::signal::ctrl_c() => context.console.err("Interrupted: what was gathered so far is kept."),
    }
    bundle.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Puts answers into the bundle. Each lock is held for one file.
#[derive(Clone, Copy)]
struct Keeper<'a> {
    context: &'a Context,
    client: &'a Client,
    bundle: &'a std::sync::Mutex<Bundle>,
}

impl Keeper<'_> {
    fn with<T>(&self, act: impl FnOnce(&mut Bundle) -> T) -> T {
        act(&mut self.bundle.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Asks and keeps the answer, or notes why there is none.
    async fn keep(&self, file: &str, path: &str, query: &Query) {
        if self.context.on("verbose") {
            self.context.console.out(&format!("    {file}: {path}"));
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.answer(path, query)).await;
        match answer {
            Ok(Ok(bytes)) => self.with(|bundle| bundle.put(file, &bytes)),
            Ok(Err(error)) => self.with(|bundle| bundle.note(file, error)),
            Err(_) => self.with(|bundle| bundle.note(file, "the agent did not answer in time")),
        }
    }

    async fn answer(&self, path: &str, query: &Query) -> Result<Vec<u8>, String> {
        let mut body = self.client.get_stream(path, query).await.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await.map_err(|error| error.to_string())? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > ANSWER_BYTES_MAX {
                return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        Ok(bytes)
    }

    async fn look_again_and_again(&self, plan: &Plan, end: Instant) {
        self.context.console.out("Capturing cluster data...");
        let query = Query { stale: plan.stale, ..Query::default() };
        for (file, path) in CLUSTER {
            self.keep(&format!("cluster/{file}"), path, &query).await;
        }
        let query = plan.query();
        let mut next = Instant::now();
        for interval in 0.. {
            self.context.console.out(&format!("    Capture interval {interval:04}"));
            for (file, path) in STATE {
                self.keep(&format!("nomad/{interval:04}/{file}"), path, &query).await;
            }
            next += plan.interval;
            if next >= end {
                break;
            }
            sleep_until(next).await;
        }
    }

    async fn follow_log(&self, file: &str, options: &MonitorOptions, end: Instant) {
        let mut kept = 0;
        let followed = timeout_at(end, async {
            let mut log = self.client.monitor(options).await?;
            while let Some(piece) = log.next().await? {
                kept += piece.len() as u64;
                if kept > LOG_BYTES_MAX {
                    self.with(|bundle| bundle.note(file, "the rest of the log is left out"));
                    break;
                }
                self.with(|bundle| bundle.add(file, &piece));
            }
            Ok::<_, RequestError>(())
        });
        if let Ok(Err(error)) = followed.await {
            self.with(|bundle| bundle.note(file, error));
        }
    }

    async fn follow_events(&self, plan: &Plan, end: Instant) {
        const FILE: &str = "eventstream/eventstream.json";
        let query = Query { index: plan.event_index, ..Query::default().in_namespace("*") };
        let mut kept = 0;
        let followed = timeout_at(end, async {
            let mut events = self.client.events(&plan.topics, &query).await?;
            while let Some(batch) = events.next().await? {
                let mut line = json!(batch).to_string();
                line.push('\n');
                kept += line.len() as u64;
                if kept > LOG_BYTES_MAX {
                    break;
                }
                self.with(|bundle| bundle.add(FILE, line.as_bytes()));
            }
            Ok::<_, RequestError>(())
        });
        if let Ok(Err(error)) = followed.await {
            self.with(|bundle| bundle.note(FILE, error));
        }
    }
}

impl Bundle {
    fn note(&mut self, file: &str, why: impl std::fmt::Display) {
        self.problems.push(format!("{file}: {why}"));
    }

    fn put(&mut self, file: &str, bytes: &[u8]) {
        self.add(file, bytes);
    }

    /// Appends to a file, which appears with its first bytes.
    fn add(&mut self, file: &str, bytes: &[u8]) {
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
            return self
                .note(file, format_args!("left out: the limit of {BUNDLE_BYTES_MAX} bytes is reached"));
        };
        self.room = room;
        let path = self.root.join(file);
        let written = match path.parent() {
            Some(folder) => make_private(folder).and_then(|()| append(&path, bytes)),
            None => append(&path, bytes),
        };
        match written {
            Ok(()) if self.files.iter().any(|known| known == file) => {}
            Ok(()) => self.files.push(file.to_owned()),
            Err(error) => self.note(file, error),
        }
    }

    /// Writes the table of contents, and the archive if one is wanted.
    fn finish(&self, plan: &Plan, started: i64, archive: Option<&str>) -> io::Result<()> {
        let mut files = self.files.clone();
        files.sort_unstable();
        let index: Value = json!({
            "Started": format::time(started),
            "Ended": format::time(format::now()),
            "Servers": plan.servers,
            "Clients": plan.nodes,
            "Files": files,
            "Problems": self.problems,
        });
        append(&self.root.join("index.json"), format!("{index:#}\n").as_bytes())?;
        let Some(archive) = archive else { return Ok(()) };
        files.push("index.json".to_owned());
        let named: Vec<_> =
            files.iter().map(|file| (format!("{}/{file}", self.name), self.root.join(file))).collect();
        let part = format!("{archive}.part");
        let mut out = io::BufWriter::new(private_file(Path::new(&part), false)?);
        let written = write_bundle(&mut out, &named).and_then(|()| out.flush());
        match written {
            Ok(()) => std::fs::rename(&part, archive),
            Err(error) => {
                // A half-written archive must not look like one.
                let _ = std::fs::remove_file(&part);
                Err(error)
            }
        }
    }
}

/// A name that is one folder, whatever an agent is called.
fn plain_name(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    plain.trim_start_matches('.').chars().take(100).collect()
}

/// Logs and settings are nobody else's business.
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn private_file(path: &Path, append: bool) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .append(append)
        .truncate(!append)
        .mode(0o600)
        .open(path)
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    private_file(path, true)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_chosen_by_name_by_prefix_or_all() {
        let known: Vec<String> = ["ab1", "ab2", "c"].map(str::to_owned).into();
        let choose = |text: &str| choose(&list(text), &known, |id, prefix| id.starts_with(prefix));
        assert_eq!(choose("all"), Ok(known.clone()));
        assert_eq!(choose("c, ab2,c"), Ok(vec!["c".to_owned(), "ab2".to_owned()]));
        assert_eq!(choose("ab,nobody"), Err("nobody".to_owned()));
        assert_eq!(choose(""), Ok(Vec::new()));
    }

    #[test]
    fn no_agents_name_leads_out_of_the_folder() {
        for (name, wanted) in [("../../etc", "_.._etc"), ("a/b", "a_b"), ("web-1.global", "web-1.global")] {
            assert_eq!(plain_name(name), wanted);
        }
    }
}
