//! What a dev agent costs and how long it takes, measured on the built binary from outside.
//!
//! `cargo run --release -p tests --bin latency -- target/release/wayfarer [jobs] [allocations]`
//!
//! Prints: time from exec to a ready node; idle memory and processor time; job submitted to running, one at a time, as
//! the event stream tells it; memory beside each process task; and how long many pretended tasks take. State the load
//! of the machine with every number.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tests::{
    Agent, Kind,
    http::Stream,
    job, process,
    wait::{self, Mark},
};

/// Room for everything that is started here, whatever the machine has.
const ROOM: &str = "client {\n  cpu_total_compute = 1000000\n  memory_total_mb   = 1000000\n  disk_total_mb     = 10000000\n  \
                    gc_max_allocs     = 100000\n}\nlog_level = \"WARN\"\n";

/// How long the idle agent is watched.
const IDLE: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let binary = PathBuf::from(args.next().context("usage: latency BINARY [jobs] [allocations]")?);
    let jobs: usize = args.next().map_or(Ok(200), |text| text.parse())?;
    let allocations: u64 = args.next().map_or(Ok(10_000), |text| text.parse())?;
    let binary = fs::canonicalize(&binary).with_context(|| format!("no program at {}", binary.display()))?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    row("load of the machine (1 min)", load.split(' ').next().unwrap_or_default());
    row("binary", &format!("{:.1} MB", fs::metadata(&binary)?.len() as f64 / 1e6));
    start_up(&binary);
    let agent = started(&binary);
    idle(&agent);
    one_at_a_time(&agent, jobs)?;
    drop(agent);
    many(&started(&binary), allocations);
    Ok(())
}

fn row(what: &str, value: &str) {
    println!("{what:<52} {value}");
}

fn started(binary: &Path) -> Agent {
    let mut agent = Agent::prepare(binary, Kind::Dev, ROOM);
    agent.launch();
    agent.wait_until_ready();
    agent
}

/// From exec to a node that takes work: the median of several starts.
fn start_up(binary: &Path) {
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let mut agent = Agent::prepare(binary, Kind::Dev, ROOM);
            wait::timed(|| {
                agent.launch();
                while tests::http::request(agent.addr(), "GET", "/v1/nodes", None)
                    .ok()
                    .is_none_or(|answer| answer.status != 200 || !answer.body.contains("\"ready\""))
                {
                    wait::pass(Duration::from_millis(1));
                }
            })
            .1
        })
        .collect();
    times.sort_unstable();
    row("exec to ready node, median of 7", &millis(times[times.len() / 2]));
}

fn idle(agent: &Agent) {
    wait::pass(Duration::from_secs(2));
    let before = process::cpu_ticks(agent.pid()).unwrap_or(0);
    wait::pass(IDLE);
    let ticks = process::cpu_ticks(agent.pid()).unwrap_or(0) - before;
    // A tick is 10 ms.
    row("idle: processor", &format!("{:.2} % of a core", ticks as f64 / IDLE.as_secs_f64()));
    row(
        "idle: memory (resident)",
        &format!("{:.1} MB", process::rss_kib(agent.pid()).unwrap_or(0) as f64 / 1024.0),
    );
}

/// Submits one job after the other; each is `sleep`, and counts as running when the event stream says so.
fn one_at_a_time(agent: &Agent, jobs: usize) -> anyhow::Result<()> {
    let stream = Stream::open(agent.addr(), "GET", "/v1/event/stream?topic=Allocation", None)?;
    let (sender, running) = mpsc::channel();
    wait::beside(move || {
        for line in stream.lines() {
            let seen = Mark::here();
            let Ok(batch) = serde_json::from_str::<Value>(&line) else { continue };
            for event in batch["Events"].as_array().into_iter().flatten() {
                let alloc = &event["Payload"]["Allocation"];
                if alloc["ClientStatus"] == "running" {
                    let job = alloc["JobID"].as_str().unwrap_or_default().to_owned();
                    if sender.send((job, seen)).is_err() {
                        return;
                    }
                }
            }
        }
    });
    let mut times = Vec::new();
    for number in 0..jobs {
        let id = format!("sleep-{number}");
        let start = Mark::here();
        agent.register(&job::of(
            &id,
            "service",
            &job::task("t", "raw_exec", json!({ "command": "/bin/sleep", "args": ["3600"] })),
        ));
        loop {
            let (job, seen) = running.recv_timeout(wait::PATIENCE).context("the event stream fell silent")?;
            if job == id {
                times.push(start.elapsed() - seen.elapsed());
                break;
            }
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    row(&format!("submit to running on the event stream, {jobs} jobs: p50"), &millis(at(0.5)));
    row("  p90", &millis(at(0.9)));
    row("  p99", &millis(at(0.99)));
    row("  worst", &millis(at(1.0)));
    beside_each_task(agent, jobs)
}

/// Memory of all processes but the agent and the sleeps themselves, by task.
fn beside_each_task(agent: &Agent, jobs: usize) -> anyhow::Result<()> {
    let (mut helpers, mut count) = (0, 0);
    for pid in process::of_directory(agent.path()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if pid != agent.pid() && name.trim() != "sleep" {
            helpers += process::pss_kib(pid).unwrap_or(0);
            count += 1;
        }
    }
    if count < jobs {
        bail!("{count} processes beside {jobs} tasks: this measures something else");
    }
    row(
        &format!("beside each task (PSS), {jobs} tasks"),
        &format!("{:.2} MB", helpers as f64 / 1024.0 / jobs as f64),
    );
    let rss = process::rss_kib(agent.pid()).unwrap_or(0) as f64 / 1024.0;
    row(&format!("agent with {jobs} process tasks (resident)"), &format!("{rss:.1} MB"));
    Ok(())
}

fn many(agent: &Agent, allocations: u64) {
    let start = Mark::here();
    agent.register(&job::pretended("many", allocations));
    let placed = wait::until_within(Duration::from_secs(300), "all are placed", || {
        let summary = agent.get("/v1/job/many/summary");
        let counts = &summary["Summary"]["g"];
        (counts["Queued"] == 0 && counts["Starting"].as_u64()? + counts["Running"].as_u64()? >= allocations)
            .then(|| start.elapsed())
    });
    let running = wait::until_within(Duration::from_secs(300), "all run", || {
        (agent.get("/v1/job/many/summary")["Summary"]["g"]["Running"] == allocations).then(|| start.elapsed())
    });
    row(&format!("{allocations} pretended tasks: placed"), &millis(placed));
    row("  running", &millis(running));
    for path in ["/v1/job/many/allocations", "/v1/allocations", "/v1/jobs", "/v1/nodes"] {
        let (answer, took) = wait::timed(|| agent.ask("GET", path, None));
        row(&format!("  GET {path}, {:.1} MB", answer.body.len() as f64 / 1e6), &millis(took));
    }
    let nodes = agent.get("/v1/nodes");
    let node = nodes[0]["ID"].as_str().unwrap_or_default().to_owned();
    for command in [["job", "status", "many"], ["job", "allocs", "many"], ["node", "status", node.as_str()]] {
        let (_, took) = wait::timed(|| agent.command(&command));
        row(&format!("  wayfarer {}", command[..2].join(" ")), &millis(took));
    }
    let rss = process::rss_kib(agent.pid()).unwrap_or(0) as f64 / 1024.0;
    row("  agent (resident)", &format!("{rss:.1} MB"));
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
