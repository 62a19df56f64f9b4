//! `wayfarer dev [job file]`: a dev agent, the job, its address and its logs, in one command.
//!
//! The job takes the way that every job takes: through the API of the agent, which this command asks like any other
//! program would. Ctrl-C stops the tasks and removes everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use runtime::{Env, Shutdown};
use sdk::{LogKind, LogQuery, Query, RegisterOptions};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    agent::{self, Agent},
    config, log,
};

/// Time for the agent to have a ready node.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two looks at whether the node is ready. It takes a tenth of a second from start.
const READY_PERIOD: Duration = Duration::from_millis(10);

/// Time that tasks have to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines of logs waiting to be printed; their readers wait when the terminal is slower.
const LINES_MAX: usize = 1_024;

/// The job that runs when none is given: it needs nothing but a shell.
const HELLO: &str = include_str!("hello.nomad.hcl");

const USAGE: &str = "Usage: wayfarer dev [options] [job file]

  Starts a dev agent, runs the job (a built-in one when none is given), shows what happens to it, prints
  addresses and follows its logs. Ctrl-C stops the tasks and removes everything.

Options:

  -log-file=<path>
    Where the agent's log goes. By default it is kept in the temporary directory.

  -log-level=<level>
    How much the agent says there: trace, debug, info, warn, error.
";

/// Runs the command and returns its exit code.
pub async fn run(args: Vec<String>) -> i32 {
    let wishes = match Wishes::read(&args) {
        Ok(Some(wishes)) => wishes,
        Ok(None) => {
            print!("{USAGE}");
            return 0;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return 1;
        }
    };
    let job = match read_job(wishes.job_file.as_deref()) {
        Ok(job) => job,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    match live(&wishes, job).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("==> {error:#}");
            1
        }
    }
}

struct Wishes {
    job_file: Option<PathBuf>,
    log_file: PathBuf,
    log_level: String,
}

impl Wishes {
    fn read(args: &[String]) -> Result<Option<Self>, String> {
        let log_file = std::env::temp_dir().join(format!("wayfarer-dev-{}.log", std::process::id()));
        let mut wishes = Self { job_file: None, log_file, log_level: "debug".to_owned() };
        for arg in args {
            let Some(flag) = arg.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag)) else {
                if wishes.job_file.replace(PathBuf::from(arg)).is_some() {
                    return Err("This command takes one job file.".to_owned());
                }
                continue;
            };
            match flag.split_once('=') {
                None if matches!(flag, "h" | "help") => return Ok(None),
                Some(("log-file", path)) => wishes.log_file = PathBuf::from(path),
                Some(("log-level", level)) if log::parse_level(level).is_some() => {
                    wishes.log_level = level.to_owned()
                }
                _ => return Err(format!("Unknown option: {arg}")),
            }
        }
        Ok(Some(wishes))
    }
}

fn read_job(path: Option<&std::path::Path>) -> Result<Value, String> {
    let (name, text) = match path {
        None => ("hello.nomad.hcl".to_owned(), HELLO.to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|error| format!("could not read job file {}: {error}", path.display()))?;
            (path.display().to_string(), text)
        }
    };
    let random = Env::real(Shutdown::new());
    let fill = move |bytes: &mut [u8]| {
        bytes.iter_mut().for_each(|byte| *byte = random.random_u64().to_le_bytes()[0])
    };
    let inputs = hcl::Inputs::of_file(&name, &text, &jobspec::ROOT_BLOCKS, Arc::new(fill));
    jobspec::parse_hcl(&inputs).map_err(|problems| {
        let mut sources = hcl::Sources::default();
        sources.add(&name, &text);
        problems.render(&sources)
    })
}

/// Starts the agent, runs the job, and stops both.
async fn live(wishes: &Wishes, job: Value) -> anyhow::Result<i32> {
    let monitor = log::start_to_file(&wishes.log_level, &wishes.log_file)
        .with_context(|| format!("could not open the log file {}", wishes.log_file.display()))?;
    let options =
        config::load(&config::dev(), &config::Machine::look()).map_err(|error| anyhow!("{error}"))?;
    let mut signals = agent::Signals::listen();
    let shutdown = Shutdown::new();
    let env = Env::real(shutdown.clone());
    println!("==> Starting a dev agent (its log: {})", wishes.log_file.display());
    let agent = agent::start(&env, options, monitor).await?;
    let ended = tokio::select! {
        shown = show(&env, &agent, job) => shown.map(|()| 0),
        name = signals.next() => {
            println!("\n==> Caught {name}; stopping the tasks and removing everything");
            Ok(0)
        }
        () = shutdown.wait() => Err(anyhow!("agent stopped by itself; see {}", wishes.log_file.display())),
    };
    if let Err(error) = &ended {
        eprintln!("==> {error:#}");
    }
    let stopping = agent.stop(STOP_TIMEOUT);
    tokio::select! {
        () = stopping => {}
        _ = signals.next() => eprintln!("==> Caught a second signal; exiting at once"),
    }
    println!("==> Stopped");
    Ok(ended.unwrap_or(1))
}

/// Runs the job and shows what happens to it, until the agent stops.
async fn show(env: &Env, agent: &Agent, job: Value) -> anyhow::Result<()> {
    let addr = agent.http_addr;
    let address = format!("http://{addr}").parse().map_err(|error| anyhow!("{error}"))?;
    let config = sdk::Config { address, ..sdk::Config::default() };
    let client = sdk::Client::new(config);
    let node = wait_until_ready(env, &client).await?;
    println!(
        "==> Agent is ready: API at http://{addr}, node {} ({})",
        short(&node, "ID"),
        text(&node, "Name")
    );
    if node.pointer("/Drivers/docker/Detected") != Some(&Value::Bool(true)) {
        println!("    No container engine was found: docker tasks can not run here. Everything else can.");
    }
    let id = text(&job, "ID").to_owned();
    let events = client.get_json_stream::<Value>("/v1/event/stream", &Query::default()).await?;
    let answer = client.register_job(job, RegisterOptions::default()).await;
    let answer = answer.map_err(|error| anyhow!("job {id:?} was refused: {error}"))?;
    if !answer.warnings.is_empty() {
        println!("    {}", answer.warnings.trim());
    }
    println!("==> Job {id:?} registered, evaluation {}", answer.eval_id.get(..8).unwrap_or("none"));
    let mut story = Story { env: env.clone(), client, job: id, lines: lines(env), seen: Seen::default() };
    let mut events = events;
    while let Some(batch) = events.next().await? {
        for event in batch["Events"].as_array().into_iter().flatten() {
            story.tell(event);
        }
    }
    bail!("the agent's event stream ended")
}

async fn wait_until_ready(env: &Env, client: &sdk::Client) -> anyhow::Result<Value> {
    let deadline = env.now() + READY_TIMEOUT;
    loop {
        if let Ok((nodes, _)) = client.get::<Vec<Value>>("/v1/nodes", &Query::default()).await
            && let Some(node) = nodes.into_iter().find(|node| text(node, "Status") == "ready")
        {
            return Ok(node);
        }
        if env.now() >= deadline {
            bail!("the agent's node did not become ready within {} s", READY_TIMEOUT.as_secs());
        }
        env.sleep(READY_PERIOD).await;
    }
}

/// Starts the one task that prints log lines, so that they never cut into each other.
fn lines(env: &Env) -> mpsc::Sender<String> {
    let (sender, mut receiver) = mpsc::channel::<String>(LINES_MAX);
    env.spawn("dev-lines", async move {
        while let Some(line) = receiver.recv().await {
            println!("{line}");
        }
    });
    sender
}

#[derive(Default)]
struct Seen {
    evals: BTreeMap<String, String>,
    placed: BTreeSet<String>,
    task_events: BTreeMap<(String, String), i64>,
    followed: BTreeSet<(String, String)>,
}

/// Tells what happens to one job.
struct Story {
    env: Env,
    client: sdk::Client,
    job: String,
    lines: mpsc::Sender<String>,
    seen: Seen,
}

impl Story {
    fn tell(&mut self, event: &Value) {
        let payload = &event["Payload"];
        match text(event, "Topic") {
            "Evaluation" if text(&payload["Evaluation"], "JobID") == self.job => {
                self.evaluation(&payload["Evaluation"])
            }
            "Allocation" if text(&payload["Allocation"], "JobID") == self.job => {
                self.allocation(&payload["Allocation"])
            }
            _ => {}
        }
    }

    fn evaluation(&mut self, eval: &Value) {
        let (id, status) = (text(eval, "ID").to_owned(), text(eval, "Status").to_owned());
        if self.seen.evals.insert(id, status.clone()).as_ref() == Some(&status) || status == "pending" {
            return;
        }
        println!("    Evaluation {} ({}): {status}", short(eval, "ID"), text(eval, "TriggeredBy"));
        for (group, metric) in eval["FailedTGAllocs"].as_object().into_iter().flatten() {
            println!(
                "      group {group:?} could not be placed; {} node(s) looked at",
                metric["NodesEvaluated"]
            );
            for (why, count) in metric["ConstraintFiltered"].as_object().into_iter().flatten() {
                println!("        {count} filtered by {why}");
            }
            for (what, count) in metric["DimensionExhausted"].as_object().into_iter().flatten() {
                println!("        {count} without enough {what}");
            }
        }
    }

    fn allocation(&mut self, alloc: &Value) {
        let id = text(alloc, "ID").to_owned();
        if self.seen.placed.insert(id.clone()) {
            self.placement(alloc);
        }
        for (task, state) in alloc["TaskStates"].as_object().into_iter().flatten() {
            let last = self.seen.task_events.entry((id.clone(), task.clone())).or_default();
            for event in state["Events"].as_array().into_iter().flatten() {
                let time = event["Time"].as_i64().unwrap_or(0);
                if time > *last {
                    *last = time;
                    println!(
                        "    {} {task}: {}: {}",
                        short(alloc, "ID"),
                        text(event, "Type"),
                        text(event, "DisplayMessage")
                    );
                }
            }
            if text(state, "State") != "pending" && self.seen.followed.insert((id.clone(), task.clone())) {
                self.follow(&id, task, LogKind::Stdout);
                self.follow(&id, task, LogKind::Stderr);
            }
        }
    }

    fn placement(&self, alloc: &Value) {
        let score = alloc.pointer("/Metrics/ScoreMetaData/0");
        let parts: Vec<String> = score
            .and_then(|score| score["Scores"].as_object())
            .into_iter()
            .flatten()
            .filter_map(|(part, value)| {
                value.as_f64().filter(|value| *value != 0.0).map(|value| format!("{part} {value:.3}"))
            })
            .collect();
        let why = if parts.is_empty() { "the only one that fits".to_owned() } else { parts.join(", ") };
        let looked = alloc.pointer("/Metrics/NodesEvaluated").and_then(Value::as_u64).unwrap_or(0);
        println!(
            "    Allocation {} ({}) placed on node {}: {why}; {looked} node(s) looked at",
            short(alloc, "ID"),
            text(alloc, "Name"),
            text(alloc, "NodeName"),
        );
        for port in
            alloc.pointer("/AllocatedResources/Shared/Ports").and_then(Value::as_array).into_iter().flatten()
        {
            println!(
                "      port {:?} is http://{}:{}",
                text(port, "Label"),
                text(port, "HostIP"),
                port["Value"]
            );
        }
    }

    /// Prints what a task writes, with its name before each line.
    fn follow(&self, alloc_id: &str, task: &str, kind: LogKind) {
        let log = LogQuery {
            alloc_id: alloc_id.to_owned(),
            task: task.to_owned(),
            kind,
            follow: true,
            origin: sdk::Origin::Start,
            offset: 0,
        };
        let name = format!("{} {task}", alloc_id.get(..8).unwrap_or_default());
        let (client, lines) = (self.client.clone(), self.lines.clone());
        self.env.spawn("dev-logs", async move {
            if let Err(error) = print_log(&client, &log, &name, &lines).await {
                tracing::debug!(%error, "log can not be followed any more");
            }
        });
    }
}

async fn print_log(
    client: &sdk::Client,
    log: &LogQuery,
    name: &str,
    lines: &mpsc::Sender<String>,
) -> Result<(), sdk::RequestError> {
    let mut frames = client.logs(log, &Query::default()).await?;
    let mut rest = Vec::new();
    while let Some(frame) = frames.next().await? {
        rest.extend_from_slice(&frame.data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if lines.send(format!("{name} | {line}")).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn short<'a>(value: &'a Value, key: &str) -> &'a str {
    text(value, key).get(..8).unwrap_or_default()
}
