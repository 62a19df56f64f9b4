//! The answers of a real Nomad, asked of ours: the same steps are taken, and the share that agrees may only rise.
//!
//! What our agent answered and every difference are left in `target/tmp/recorded/`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tests::{Agent, Kind, binary, machine, wait};

/// The recordings name the ports that agents have by default, so one agent at a time has them.
const PORTS: [u16; 3] = [4646, 4647, 4648];

static PORTS_TAKEN: Mutex<()> = Mutex::new(());

/// Far above what the steps take, so that a step which hangs fails the test and not the whole run.
const STEPS_MAX: Duration = Duration::from_secs(900);

const FLOORS: &str = include_str!("../recorded/floors.txt");

#[test]
fn http_exchanges_agree() {
    hold("http", "run_http.py", &["http"]);
}

#[test]
fn commands_agree() {
    hold("cli", "run_cli.py", &["cli"]);
}

#[test]
fn job_texts_are_read_alike() {
    hold("parse", "run_parse.py", &["parsed", "expressions.json", "bad-jobs.json"]);
}

#[test]
fn streams_agree() {
    hold("streams", "run_streams.py", &["streams.json"]);
}

/// Takes the steps of one program and compares what it recorded with the parts of the recordings that it is about.
fn hold(name: &str, program: &str, parts: &[&str]) {
    let Some(python) = machine::python() else { return machine::lacks("python3") };
    let _only_one = PORTS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if PORTS.iter().any(|port| TcpListener::bind(("127.0.0.1", *port)).is_err()) {
        return machine::lacks("free ports 4646 to 4648");
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded").join(name);
    if out.exists() {
        fs::remove_dir_all(&out).expect("the last results can be removed");
    }
    fs::create_dir_all(&out).expect("a directory for the results can be made");
    let agent = start();
    let recorded = binary::checkout().join("tests/recorded");
    let path = |part: &str| recorded.join(part).to_str().expect("a plain name").to_owned();
    let target = |part: &str| out.join(part).to_str().expect("a plain name").to_owned();
    let arguments = match name {
        "parse" => vec![path("jobs"), path("cases/expressions.txt"), path("cases/bad-jobs.txt"), target("")],
        _ => vec![target(parts[0])],
    };
    take_steps(&agent, &python, &recorded.join("tools").join(program), &arguments);
    let counts: BTreeMap<String, (u32, u32)> =
        parts.iter().flat_map(|part| compare(&python, &recorded, &out, part)).collect();
    judge(&counts);
}

/// A dev agent as the recorded one was: the same name, class and meta, and the engine if there is one.
fn start() -> Agent {
    let recorded = binary::checkout().join("tests/recorded/tools/agent.hcl");
    let config = fs::read_to_string(recorded).expect("the recorded agent's configuration is there");
    let endpoint =
        machine::engine().map(|engine| format!("volumes {{ enabled = true }}\n    endpoint = \"{engine}\""));
    let config = config
        .replace("volumes { enabled = true }", &endpoint.unwrap_or("volumes { enabled = true }".to_owned()));
    let mut agent = Agent::prepare_on(PORTS, binary::path(), Kind::Dev, &config);
    agent.launch();
    agent.wait_until_ready();
    agent
}

fn take_steps(agent: &Agent, python: &Path, program: &Path, arguments: &[String]) {
    let bin = agent.path().join("bin");
    fs::create_dir_all(&bin).expect("the agent's directory is the test's own");
    std::os::unix::fs::symlink(binary::path(), bin.join("nomad")).expect("a link can be made");
    let path = std::env::var("PATH").unwrap_or_default();
    let log =
        fs::File::create(agent.path().join("steps.log")).expect("the agent's directory is the test's own");
    let mut command = Command::new(python);
    command.arg(program).args(arguments).env("PATH", format!("{}:{path}", bin.display()));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("TMPDIR", agent.path()).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file has a second handle")).stderr(log);
    let mut child = command.spawn().expect("python starts");
    let ended = wait::poll(STEPS_MAX, || child.try_wait().ok().flatten());
    let said = fs::read_to_string(agent.path().join("steps.log")).unwrap_or_default();
    say(&said);
    let Some(status) = ended else {
        // It is given up on, and reaped so that nothing of it is left.
        let _ = child.kill();
        let _ = child.wait();
        panic!("the steps did not end: {said}");
    };
    assert!(status.success(), "the steps ended with {status}: {said}\n{}", agent.log());
}

/// The counts of one part, by file: (agree, all). The differences go to a file beside the answers.
fn compare(python: &Path, recorded: &Path, out: &Path, part: &str) -> Vec<(String, (u32, u32))> {
    let mut command = Command::new(python);
    command
        .arg(recorded.join("tools/compare.py"))
        .arg(recorded.join(part))
        .arg(out.join(part))
        .args(["--show", "1000"]);
    let output = command.output().expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let differences: PathBuf = out.join(format!("{}.differences.txt", part.replace('/', "-")));
    fs::write(&differences, &text).expect("the directory of the results is there");
    assert!(text.contains(" agree ("), "nothing was compared: {}", String::from_utf8_lossy(&output.stderr));
    let rows = text.lines().filter(|line| !line.starts_with(' ') && line.ends_with(" agree"));
    rows.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [file, agree, "of", all, "agree"] = words.as_slice() else { return None };
        let name = if part.contains('.') { part.to_owned() } else { format!("{part}/{file}") };
        Some((name, (agree.parse().ok()?, all.parse().ok()?)))
    })
    .collect()
}

/// Holds the counts against the floors.
fn judge(counts: &BTreeMap<String, (u32, u32)>) {
    let floors: BTreeMap<&str, u32> = FLOORS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("a file and a number"))
        .map(|(file, floor)| (file, floor.trim().parse().expect("a number")))
        .collect();
    let mut fallen = Vec::new();
    let mut text = String::new();
    for (file, (agree, all)) in counts {
        let floor = floors.get(file.as_str()).copied().unwrap_or(0);
        text += &format!("{file:<40} {agree:>4} of {all:>4} agree, floor {floor}\n");
        if *agree < floor {
            fallen.push(format!("{file}: {agree} of {all} agree, {floor} did"));
        }
    }
    let (agree, all) = counts.values().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    say(&format!("{text}{agree} of {all} recorded answers agree\n"));
    assert!(all > 0, "nothing was compared");
    assert!(fallen.is_empty(), "see target/tmp/recorded:\n{}", fallen.join("\n"));
}

/// Says something even when the test passes: the share is what this test is for.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("standard error can be written");
}
